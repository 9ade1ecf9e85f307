"""How records lie in memory, and bytes read as arrays of them; what the fields mean is elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from ngdata.errors import InvalidQueryError

__all__ = [
    "CONNECTION",
    "EVENT",
    "TOKEN",
    "Records",
    "as_records",
    "check",
    "name_of",
    "truncated",
    "usable",
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


def name_of(layout: np.dtype[Any]) -> str:
    """Say what the records of a layout are."""
    return _NAMES[layout]


def as_records(data: Records, layout: np.dtype[Any]) -> np.ndarray:
    """Read bytes as an array of records: no copy where there need be none, and no field is checked.

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
        A part of a record at the end, an item of another size, or no bytes at all.

    Examples
    --------
    >>> from ngdata.binary import CONNECTION, as_records
    >>> as_records(bytes(64), CONNECTION)["pull_strength"].tolist()
    [0.0, 0.0]
    """
    if isinstance(data, np.ndarray) and data.dtype == layout:
        return np.ravel(data)
    if isinstance(data, np.ndarray) and data.dtype == np.uint8:
        whole: Any = np.ascontiguousarray(data).reshape(-1)
    elif isinstance(data, bytes | bytearray | memoryview):
        whole = data
    else:
        whole = _joined(data, layout)
    size = memoryview(whole).nbytes
    if size % layout.itemsize:
        raise truncated("the data", size, layout)
    return np.frombuffer(whole, layout)


def _joined(data: Any, layout: np.dtype[Any]) -> bytes:
    if isinstance(data, str | pd.DataFrame) or not isinstance(data, Iterable):
        raise InvalidQueryError(
            f"records are bytes, an array of {layout.itemsize}-byte records, or a sequence of "
            f"bytes, not {type(data).__name__}; a file is read with ngdata.binary.loading, or with "
            "Path(...).read_bytes()"
        )
    items = list(data)
    with contextlib.suppress(TypeError):
        if {*map(len, items)} <= {layout.itemsize}:
            return b"".join(items)
    for row, item in enumerate(items):
        if not isinstance(item, bytes) or len(item) != layout.itemsize:
            what = f"{len(item)} bytes" if isinstance(item, bytes) else repr(item)
            raise InvalidQueryError(
                f"item {row} must be a {name_of(layout)} record of {layout.itemsize} bytes, "
                f"not {what}"
            )
    return b"".join(items)


def truncated(what: str, size: int, layout: np.dtype[Any]) -> InvalidQueryError:
    """Say that the last record is not whole."""
    whole, rest = divmod(size, layout.itemsize)
    return InvalidQueryError(
        f"{what}: {size:,} bytes are {whole:,} whole {name_of(layout)} records of "
        f"{layout.itemsize} bytes and {rest} bytes of another; it was cut short, or holds records "
        f"of another kind. Cut it to {whole * layout.itemsize:,} bytes to use the whole ones"
    )


def usable(records: np.ndarray) -> np.ndarray:
    """Tell of each record whether the store can hold it: finite numbers, a time before 10000."""
    good = np.ones(len(records), bool)
    for name in _floats(records):
        finite = np.isfinite(records[name])
        good &= finite if finite.ndim == 1 else finite.all(axis=1)
    if records.dtype == EVENT:
        good &= records["timestamp"] <= _LAST_MICROSECOND
    return good


def check(records: np.ndarray, numbers: np.ndarray | None = None) -> None:
    """Refuse the first record that the store cannot hold.

    Parameters
    ----------
    records : numpy.ndarray
    numbers : numpy.ndarray, optional
        What the records are called in the error; by default from 0.
    """
    good = usable(records)
    if good.all():
        return
    place = int(good.argmin())
    number = place if numbers is None else int(numbers[place])
    raise InvalidQueryError(
        f"{name_of(records.dtype)} record {number} (the first is 0): {_flaw(records[place])}; "
        "mend such records, leave them out (load_records(..., on_bad='skip') or --skip-bad), or "
        "look at them as they are with ngdata.binary.as_records"
    )


def _flaw(record: np.void) -> str:
    for name in _floats(record):
        if not np.isfinite(record[name]).all():
            return f"{name} is {record[name].tolist()}, and must be finite"
    return f"timestamp is {record['timestamp']} microseconds, which is beyond the year 9999"


def _floats(records: np.ndarray | np.void) -> list[str]:
    layout = records.dtype
    assert layout.names is not None
    return [name for name in layout.names if layout[name].base.kind == "f"]
