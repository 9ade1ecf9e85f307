"""The memory layout of records, and bytes as arrays of them; other modules interpret the fields."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from ngdata._arguments.shown import guarded, shown
from ngdata.errors import InvalidQueryError

__all__ = [
    "CONNECTION",
    "EVENT",
    "TOKEN",
    "Records",
    "as_records",
    "check_records",
    "record_name",
    "storable",
    "truncation_error",
]

Records: TypeAlias = "bytes | bytearray | memoryview | np.ndarray | Iterable[bytes]"
"""Records as bytes end to end, as an array, or one by one (a column ``binary_data``)."""

TOKEN: Final = np.dtype(
    [
        ("coordinates", "<i2", (8, 3)),
        ("id", "<u4"),
        ("flags", "<u2"),
        ("weight", "<f4"),
        ("field_radius", "u1"),
        ("field_strength", "u1"),
        ("timestamp", "<u4"),
    ]
)
"""64 bytes; seconds since the epoch."""

CONNECTION: Final = np.dtype(
    [
        ("source", "<u4"),
        ("target", "<u4"),
        ("type", "u1"),
        ("rigidity", "u1"),
        ("active_levels", "u1"),
        ("flags", "u1"),
        ("activation_count", "<u4"),
        ("pull_strength", "<f4"),
        ("preferred_distance", "<f4"),
        ("created", "<u4"),
        ("last_activation", "<u4"),
    ]
)
"""32 bytes; source and target are ids of token records; seconds since the epoch."""

EVENT: Final = np.dtype(
    [
        ("id", "u1", (16,)),
        ("timestamp", "<u8"),
        ("episode", "<u8"),
        ("step", "<u4"),
        ("type", "<u2"),
        ("flags", "<u2"),
        ("state", "<f4", (8,)),
        ("action", "<f4", (8,)),
        ("homeostasis", "<f4"),
        ("curiosity", "<f4"),
        ("efficiency", "<f4"),
        ("goal", "<f4"),
        ("version_hash", "<u4"),
        ("sequence", "<u4"),
    ]
)
"""128 bytes; the id is a little-endian integer of 128 bits; microseconds since the epoch."""

_NAMES: Final = {TOKEN: "token", CONNECTION: "connection", EVENT: "event"}

# 9999-12-31 23:59:59.999999, the last that Python's datetime holds.
_LAST_MICROSECOND: Final = 253_402_300_799_999_999


def record_name(layout: np.dtype[Any]) -> str:
    """Return what the records of a layout are called."""
    return _NAMES[layout]


def as_records(data: Records, layout: np.dtype[Any]) -> np.ndarray:
    """Return bytes as an array of records, without a copy where possible and without checks.

    Parameters
    ----------
    data : bytes-like, numpy.ndarray, or iterable of bytes
        Records end to end, an array of `layout` or of bytes, or a record per item.
    layout : numpy.dtype
        `TOKEN`, `CONNECTION` or `EVENT`.

    Returns
    -------
    numpy.ndarray
        One dimension, of `layout`; read-only if `data` is.

    Raises
    ------
    InvalidQueryError
        An incomplete record at the end, an item of another size, or something other than bytes.

    Examples
    --------
    >>> from ngdata.binary import CONNECTION, as_records
    >>> as_records(bytes(64), CONNECTION)["pull_strength"].tolist()
    [0.0, 0.0]
    """
    return _as_records(data, _checked_layout(layout, "layout"), "data")


@guarded
def _checked_layout(layout: Any, name: str) -> np.dtype[Any]:
    if not isinstance(layout, np.dtype) or layout not in _NAMES:
        raise InvalidQueryError(f"{name} must be TOKEN, CONNECTION or EVENT, not {shown(layout)}")
    return layout


@guarded
def _as_records(data: Any, layout: np.dtype[Any], name: str) -> np.ndarray:
    if isinstance(data, np.ndarray) and data.dtype == layout:
        return np.ravel(data)
    if isinstance(data, np.ndarray) and data.dtype == np.uint8:
        buffer: Any = np.ascontiguousarray(data).reshape(-1)
    elif isinstance(data, bytes | bytearray | memoryview):
        buffer = data
    else:
        buffer = _join(data, layout)
    size = memoryview(buffer).nbytes
    if size % layout.itemsize:
        raise truncation_error(f"the {name}", size, layout)
    return np.frombuffer(buffer, layout)


def _join(data: Any, layout: np.dtype[Any]) -> bytes:
    if isinstance(data, str | pd.DataFrame) or not isinstance(data, Iterable):
        raise InvalidQueryError(
            f"records must be bytes, an array of {layout.itemsize}-byte records, or a sequence of "
            f"bytes, not {type(data).__name__}; read a file with ngdata.binary.loading, or with "
            "Path(...).read_bytes()"
        )
    # What may be without end is checked item by item.
    items = [] if isinstance(data, Iterator | range) else list(data)
    with contextlib.suppress(TypeError):
        if items and {*map(len, items)} == {layout.itemsize}:
            return b"".join(items)
    checked = []
    for row, item in enumerate(items or data):
        if not isinstance(item, bytes) or len(item) != layout.itemsize:
            actual = f"{len(item)} bytes" if isinstance(item, bytes) else shown(item)
            raise InvalidQueryError(
                f"item {row} must be a {record_name(layout)} record of {layout.itemsize} bytes, "
                f"not {actual}"
            )
        checked.append(item)
    return b"".join(checked)


def truncation_error(source: str, size: int, layout: np.dtype[Any]) -> InvalidQueryError:
    """Return the error for a last record that is incomplete."""
    whole, rest = divmod(size, layout.itemsize)
    return InvalidQueryError(
        f"{source}: {size:,} bytes are {whole:,} complete {record_name(layout)} records of "
        f"{layout.itemsize} bytes and {rest} bytes of another; it was truncated, or holds "
        f"records of another kind. Truncate it to {whole * layout.itemsize:,} bytes to use the "
        "complete ones"
    )


def storable(records: np.ndarray) -> np.ndarray:
    """Return, for each record, whether the store can hold it: finite numbers, a year before 10000."""
    valid = np.ones(len(records), bool)
    for name in _floats(records):
        finite = np.isfinite(records[name])
        valid &= finite if finite.ndim == 1 else finite.all(axis=1)
    if records.dtype == EVENT:
        valid &= records["timestamp"] <= _LAST_MICROSECOND
    return valid


def check_records(records: np.ndarray, numbers: np.ndarray | None = None) -> None:
    """Raise `InvalidQueryError` for the first record that the store cannot hold.

    Parameters
    ----------
    records : numpy.ndarray
    numbers : numpy.ndarray, optional
        The numbers of the records in the error; by default from 0.
    """
    valid = storable(records)
    if valid.all():
        return
    index = int(valid.argmin())
    number = index if numbers is None else int(numbers[index])
    raise InvalidQueryError(
        f"{record_name(records.dtype)} record {number} (the first is 0): {_problem(records[index])}; "
        "correct such records, skip them (load_records(..., on_bad='skip') or --skip-bad), or "
        "inspect them with ngdata.binary.as_records"
    )


def _problem(record: np.void) -> str:
    for name in _floats(record):
        if not np.isfinite(record[name]).all():
            return f"{name} is {record[name].tolist()}, and must be finite"
    return f"timestamp is {record['timestamp']} microseconds, which is after the year 9999"


def _floats(records: np.ndarray | np.void) -> list[str]:
    layout = records.dtype
    assert layout.names is not None
    return [name for name in layout.names if layout[name].base.kind == "f"]
