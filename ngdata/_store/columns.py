"""Columns on their way in: each checked as a whole, the first bad row named.

A column comes out as Arrow, ready for COPY; nothing here knows a table or a server.
"""

from __future__ import annotations

import datetime as dt
import math
import os
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ngdata._arguments.ids import CANONICAL, canonical_id, canonical_ids, id_text
from ngdata._arguments.json_text import json_text
from ngdata._arguments.numbers import is_number
from ngdata._arguments.times import as_utc
from ngdata.errors import IntegrityError, InvalidQueryError

__all__ = [
    "blobs",
    "booleans",
    "dicts",
    "floats",
    "ids",
    "integers",
    "keys",
    "new_ids",
    "refuse",
    "shown",
    "texts",
    "times",
]


def refuse(name: str, row: int, value: object, wanted: str) -> NoReturn:
    """Say which value in which row is not as it must be."""
    raise InvalidQueryError(f"{name} in row {row} must be {wanted}, not {shown(value)}")


def shown(value: object) -> str:
    """Write a value for an error, cut where it is long."""
    plain = value.item() if isinstance(value, np.generic) else value
    try:
        text = repr(plain)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= 200 else text[:200] + "..."


def _each(
    values: pd.Series[Any],
    name: str,
    convert: Callable[[Any, int], Any],
    default: Any,
    *,
    required: bool = False,
) -> list[Any]:
    missing = values.isna().to_numpy()
    row = _first(missing)
    if required and row is not None:
        refuse(name, row, values.iloc[row], "given")
    return [
        default if missing[row] else convert(value, row)
        for row, value in enumerate(values.tolist())
    ]


def _first(bad: np.ndarray) -> int | None:
    return int(bad.argmax()) if bad.any() else None


def ids(values: pd.Series[Any], name: str, *, optional: bool = False) -> pa.Array:
    """Take ids; a missing one is null where that is allowed."""
    text = _as_arrow_text(values)
    if (
        text is not None
        and (optional or not text.null_count)
        and pc.all(pc.match_substring_regex(text, CANONICAL)).as_py() is not False
    ):
        return text
    missing = values.isna().to_numpy()
    row = _first(missing)
    if row is not None and not optional:
        refuse(name, row, values.iloc[row], "an id")
    if row is None:
        try:
            return pa.array(canonical_ids(values, name), pa.string())
        except InvalidQueryError:
            pass  # said again below, with the row
    taken = _each(values, name, lambda v, row: canonical_id(v, name, f" in row {row}"), None)
    return pa.array(taken, pa.string())


def _as_arrow_text(values: pd.Series[Any]) -> pa.Array | None:
    """Give a column as the Arrow text that it is already, if so; missing values are null."""
    if not isinstance(values.dtype, pd.StringDtype) or values.dtype.storage != "pyarrow":
        return None
    text = pa.array(values)
    return text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text


def new_ids(count: int) -> pa.Array:
    """Make random ids (UUID version 4, RFC 9562 section 5.4), all at once."""
    raw = np.frombuffer(os.urandom(16 * count), np.uint8).reshape(count, 16).copy()
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    return id_text(raw)


def keys(frame: pd.DataFrame, name: str) -> pa.Array:
    """Take the ids of what is to be made; where none is given, make one.

    Raises
    ------
    IntegrityError
        An id stands twice; both rows are named.
    """
    if name not in frame:
        return new_ids(len(frame))
    given = ids(frame[name], name, optional=True)
    text = given.to_pandas()
    again = _first((text.duplicated() & text.notna()).to_numpy())
    if again is not None:
        first = int((text == text[again]).to_numpy().argmax())
        raise IntegrityError(
            f"{name} {text[again]} stands in rows {first} and {again}; nothing was written"
        )
    return pc.coalesce(given.cast(pa.large_string()), new_ids(len(frame)))


def floats(values: pd.Series[Any], name: str, default: float | None = None) -> np.ndarray:
    """Take finite numbers as float64; a missing one is the default, or NaN where there is none."""
    if values.dtype.kind in "iuf":
        with np.errstate(over="ignore"):
            taken = values.to_numpy(np.float64, na_value=np.nan)
    else:
        taken = np.array(_each(values, name, _to_float(name), math.nan), np.float64)
    row = _first(np.isinf(taken))
    if row is not None:
        refuse(name, row, values.iloc[row], "finite")
    return taken if default is None else np.where(np.isnan(taken), default, taken)


def _to_float(name: str) -> Callable[[Any, int], float]:
    def convert(value: Any, row: int) -> float:
        if not is_number(value):
            refuse(name, row, value, "a number")
        try:
            return float(value)
        except OverflowError:
            refuse(name, row, value, "finite")

    return convert


def integers(
    values: pd.Series[Any], name: str, default: int | None, least: int, most: int
) -> pa.Array:
    """Take whole numbers; floats are taken where they are whole, as missing ones make them so."""

    def convert(value: Any, row: int) -> int:
        if (
            isinstance(value, Decimal)
            or not is_number(value)
            or value != value // 1
            or not least <= value <= most
        ):
            refuse(name, row, value, f"an integer from {least} to {most}")
        return int(value)

    if values.dtype.kind in "iu" and isinstance(values.dtype, np.dtype):
        plain = values.to_numpy()
        row = _first((plain < least) | (plain > most))
        if row is None:
            return pa.array(plain.astype(np.int64))
    return pa.array(_each(values, name, convert, default), pa.int64())


def texts(values: pd.Series[Any], name: str, default: str | None) -> pa.Array:
    """Take text, which PostgreSQL stores without NUL; without a default, none may be missing."""

    def convert(value: Any, row: int) -> str:
        if not isinstance(value, str):
            refuse(name, row, value, "text")
        if "\0" in value or _unencodable(value):
            refuse(name, row, value, "valid Unicode without NUL")
        return value

    text = _as_arrow_text(values)
    if text is not None and not pc.any(pc.match_substring(text, "\0")).as_py():
        if default is not None:
            return text.fill_null(default)
        if not text.null_count:
            return text
    taken = _each(values, name, convert, default, required=default is None)
    return pa.array(taken, pa.string())


def _unencodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return True
    return False


def booleans(values: pd.Series[Any], name: str, default: bool) -> pa.Array:
    """Take true and false."""

    def convert(value: Any, row: int) -> bool:
        if not isinstance(value, bool | np.bool_):
            refuse(name, row, value, "True or False")
        return bool(value)

    if values.dtype == np.bool_:
        return pa.array(values.to_numpy())
    return pa.array(_each(values, name, convert, default), pa.bool_())


# What Python's datetime holds; PostgreSQL and pandas hold more.
_FIRST: Final = pd.Timestamp("0001-01-01", tz="UTC")
_LAST: Final = pd.Timestamp("9999-12-31 23:59:59.999999", tz="UTC")


def times(values: pd.Series[Any], name: str, default: dt.datetime | None) -> pa.Array:
    """Take points in time with a zone, or whole milliseconds since the epoch; rounded down.

    Without a default, none may be missing.
    """
    kind = pa.timestamp("us", tz="UTC")
    if values.dtype.kind == "f":
        # An integer column with gaps is one of floats in pandas.
        plain = [int(v) if v == v // 1 else v for v in values.fillna(np.nan).tolist()]
        values = pd.Series(plain, dtype=object)
    zoned = isinstance(values.dtype, pd.DatetimeTZDtype)
    if zoned and values.dropna().between(_FIRST, _LAST).all() and (default or values.notna().all()):
        microseconds = values.dt.as_unit("us").dt.tz_convert("UTC")
        # pandas rounds towards zero; before 1970 that is up.
        late = (microseconds > values).to_numpy()
        microseconds = microseconds.where(~late, microseconds - pd.Timedelta(1, "us"))
        taken = microseconds.fillna(default) if default is not None else microseconds
        return pa.array(taken, kind)
    if values.dtype.kind == "M":
        row = _first(values.notna().to_numpy())
        if row is not None:
            as_utc(values.iloc[row], f"{name} in row {row}")
    taken = _each(
        values,
        name,
        lambda v, row: as_utc(v, f"{name} in row {row}"),
        default,
        required=default is None,
    )
    return pa.array(taken, kind)


def dicts(values: pd.Series[Any], name: str) -> pa.Array:
    """Take dicts as JSON text; NumPy's numbers and arrays inside them are taken too."""

    def convert(value: Any, row: int) -> str:
        if not isinstance(value, Mapping):
            refuse(name, row, value, "a dict")
        try:
            return json_text(value)
        except ValueError as error:
            raise InvalidQueryError(
                f"{name} in row {row} cannot be written as JSON ({error}): {shown(value)}"
            ) from None

    return pa.array(_each(values, name, convert, None), pa.string())


def blobs(values: pd.Series[Any], name: str, size: int) -> pa.Array:
    r"""Take byte strings of one size, as the text ``\x...`` that COPY reads."""

    def convert(value: Any, row: int) -> str:
        record = bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""
        if len(record) != size:
            refuse(name, row, value, f"{size} bytes")
        return "\\x" + record.hex()

    return pa.array(_each(values, name, convert, None), pa.string())
