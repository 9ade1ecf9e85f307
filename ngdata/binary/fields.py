"""What the three kinds of records share: columns of a frame as fields of records, and back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.texts import columns_text
from ngdata._store.value_types import Integer, Number, Time, first_true, invalid_value
from ngdata.errors import InvalidQueryError

__all__ = [
    "as_times",
    "flags",
    "float32",
    "float32s",
    "integers",
    "objects",
    "require",
    "scaled",
    "times",
]

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MAX_FLOAT: Final = float(np.finfo(np.float32).max)
# 9999-12-31 23:59:59.999999, the last that Python's datetime holds.
_LAST_MICROSECOND: Final = 253_402_300_799_999_999


@guarded
def require(frame: Any, name: str, columns: Sequence[str]) -> None:
    """Raise unless an argument is a DataFrame with these columns, as `decode_...` returns it."""
    if not isinstance(frame, pd.DataFrame):
        raise InvalidQueryError(f"{name} must be a pandas DataFrame, not {shown(frame)}")
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise InvalidQueryError(f"the {name} lacks the {columns_text(missing)}")


def as_times(microseconds: np.ndarray) -> Any:
    """Return microseconds since the epoch as times in UTC."""
    return pd.array(microseconds.astype(np.int64).view("M8[us]"), dtype="datetime64[us, UTC]")


def objects(items: Iterable[Any], count: int) -> np.ndarray:
    """Return a column of objects; from arrays, NumPy would make further dimensions."""
    column = np.empty(count, dtype=object)
    for row, item in enumerate(items):
        column[row] = item
    return column


def integers(frame: pd.DataFrame, name: str, maximum: int) -> np.ndarray:
    """Return a column of integers from 0; zeros if the frame lacks it."""
    if name not in frame:
        return np.zeros(len(frame), np.int64)
    column: np.ndarray = Integer(0, maximum).check_column(frame[name], name, 0).to_numpy()
    return column


def flags(frame: pd.DataFrame, bits: int) -> np.ndarray:
    """Return the column of flags; an error names the bits that the record does not have."""
    column = integers(frame, "flags", 2**63 - 1)
    row = first_true(column >= 1 << bits)
    if row is not None:
        value = int(column[row])
        excess = [str(bit) for bit in range(bits, value.bit_length()) if value >> bit & 1]
        raise InvalidQueryError(
            f"flags in row {row} is {value:#x}: a record has bits 0 to {bits - 1}, and no place "
            f"for bit {', '.join(excess)}; clear the others with flags & {(1 << bits) - 1:#x}"
        )
    return column


def float32(frame: pd.DataFrame, name: str, default: float = 0.0) -> np.ndarray:
    """Return a column of numbers as float32, rounded to the nearest."""
    if name not in frame:
        return np.full(len(frame), default, np.float32)
    numbers = _numbers(frame[name], name, default)
    row = first_true(np.abs(numbers) > _MAX_FLOAT)
    if row is not None:
        requirement = f"at most {_MAX_FLOAT:g} in size, as a float32 is"
        raise invalid_value(name, row, numbers[row], requirement)
    column: np.ndarray = numbers.astype(np.float32)
    return column


def float32s(frame: pd.DataFrame, name: str, width: int) -> np.ndarray:
    """Return a column of vectors as float32; zeros if the frame lacks it."""
    if name not in frame:
        return np.zeros((len(frame), width), np.float32)
    vectors = np.empty((len(frame), width), np.float64)
    for row, value in enumerate(frame[name]):
        try:
            vector = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            vector = np.empty(0)
        if vector.shape != (width,) or not (np.abs(vector) <= _MAX_FLOAT).all():
            raise invalid_value(name, row, value, f"{width} finite numbers of a float32's size")
        vectors[row] = vector
    return vectors.astype(np.float32)


def scaled(frame: pd.DataFrame, name: str, scale: int) -> np.ndarray:
    """Return a column of numbers as single bytes: multiplied by a scale and rounded."""
    if name not in frame:
        return np.zeros(len(frame), np.uint8)
    numbers = _numbers(frame[name], name, 0.0)
    column = np.rint(numbers * scale)
    row = first_true((column < 0) | (column > 255))
    if row is not None:
        raise invalid_value(name, row, numbers[row], f"0 to {255 / scale:g}")
    return np.asarray(column, np.uint8)


def _numbers(values: pd.Series[Any], name: str, default: float) -> np.ndarray:
    numbers: np.ndarray = Number().check_column(values, name, default).to_numpy()
    return numbers


def times(frame: pd.DataFrame, name: str, unit: int, maximum: int) -> np.ndarray:
    """Return a column of times in units of `unit` microseconds since the epoch, rounded down.

    The epoch is the default.
    """
    if name not in frame:
        return np.zeros(len(frame), np.int64)
    microseconds = Time().check_column(frame[name], name, _EPOCH)
    column: np.ndarray = microseconds.cast("timestamp[us]").cast("int64").to_numpy() // unit
    row = first_true((column < 0) | (column > maximum))
    if row is not None:
        last = _EPOCH + dt.timedelta(microseconds=min(maximum * unit, _LAST_MICROSECOND))
        raise invalid_value(name, row, frame[name].iloc[row], f"from {_EPOCH} to {last}")
    return column
