"""What the three kinds of records share: a frame's columns as fields, and fields as columns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pandas as pd

from ngdata._store import columns as column
from ngdata.errors import InvalidQueryError

__all__ = ["as_times", "flags", "float32", "float32s", "micros", "objects", "scaled", "whole"]

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MOST_FLOAT: Final = float(np.finfo(np.float32).max)


def as_times(microseconds: np.ndarray) -> Any:
    """Give microseconds since the epoch as times in UTC."""
    return pd.array(microseconds.astype(np.int64).view("M8[us]"), dtype="datetime64[us, UTC]")


def objects(items: Iterable[Any], count: int) -> np.ndarray:
    """Give a column of objects; NumPy would make more dimensions of arrays."""
    made = np.empty(count, dtype=object)
    for place, item in enumerate(items):
        made[place] = item
    return made


def whole(frame: pd.DataFrame, name: str, most: int, default: int = 0) -> np.ndarray:
    """Take a column of whole numbers from 0; the default where there is none."""
    if name not in frame:
        return np.full(len(frame), default, np.int64)
    taken: np.ndarray = column.integers(frame[name], name, default, 0, most).to_numpy()
    return taken


def flags(frame: pd.DataFrame, bits: int) -> np.ndarray:
    """Take the column of flags; a bit that the record has no place for is refused by its number."""
    taken = whole(frame, "flags", 2**63 - 1)
    over = taken >= 1 << bits
    if over.any():
        row = int(over.argmax())
        value = int(taken[row])
        strange = [str(bit) for bit in range(bits, value.bit_length()) if value >> bit & 1]
        raise InvalidQueryError(
            f"flags in row {row} is {value:#x}: a record has bits 0 to {bits - 1}, and no place "
            f"for bit {', '.join(strange)}; take them off with flags & {(1 << bits) - 1:#x}"
        )
    return taken


def float32(frame: pd.DataFrame, name: str, default: float = 0.0) -> np.ndarray:
    """Take a column of numbers as float32, rounded to the nearest."""
    if name not in frame:
        return np.full(len(frame), default, np.float32)
    taken = column.floats(frame[name], name, default)
    over = np.abs(taken) > _MOST_FLOAT
    if over.any():
        row = int(over.argmax())
        column.refuse(name, row, taken[row], f"at most {_MOST_FLOAT:g} in size, as a float32 is")
    made: np.ndarray = taken.astype(np.float32)
    return made


def float32s(frame: pd.DataFrame, name: str, width: int) -> np.ndarray:
    """Take a column of vectors as float32; zeros where there is none."""
    if name not in frame:
        return np.zeros((len(frame), width), np.float32)
    made = np.empty((len(frame), width), np.float64)
    for row, value in enumerate(frame[name]):
        try:
            vector = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            vector = np.empty(0)
        if vector.shape != (width,) or not (np.abs(vector) <= _MOST_FLOAT).all():
            column.refuse(name, row, value, f"{width} finite numbers of a float32's size")
        made[row] = vector
    return made.astype(np.float32)


def scaled(frame: pd.DataFrame, name: str, scale: int) -> np.ndarray:
    """Take a column of numbers that stand in one byte, multiplied by a scale and rounded."""
    if name not in frame:
        return np.zeros(len(frame), np.uint8)
    taken = column.floats(frame[name], name, 0.0)
    made = np.rint(taken * scale)
    bad = (made < 0) | (made > 255)
    if bad.any():
        row = int(bad.argmax())
        column.refuse(name, row, taken[row], f"0 to {255 / scale:g}")
    return np.asarray(made, np.uint8)


def micros(frame: pd.DataFrame, name: str, unit: int, most: int) -> np.ndarray:
    """Take a column of times as whole units of `unit` microseconds, rounded down; else the epoch."""
    if name not in frame:
        return np.zeros(len(frame), np.int64)
    taken = column.times(frame[name], name, _EPOCH).cast("timestamp[us]").cast("int64").to_numpy()
    made: np.ndarray = taken // unit
    bad = (made < 0) | (made > most)
    if bad.any():
        row = int(bad.argmax())
        last = _EPOCH + dt.timedelta(microseconds=min(most * unit, 253_402_300_799_999_999))
        column.refuse(name, row, frame[name].iloc[row], f"from {_EPOCH} to {last}")
    return made
