"""Frames on their way in: each column checked as a whole, the first bad row named.

A column comes out as Arrow, ready for COPY; nothing here knows a table or a server.
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
import math
import numbers
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ngdata.errors import IntegrityError, InvalidQueryError
from ngdata.ids import canonical_id, canonical_ids
from ngdata.times import as_utc

__all__ = [
    "Frame",
    "blobs",
    "booleans",
    "dicts",
    "floats",
    "ids",
    "incoming",
    "integers",
    "keys",
    "new_ids",
    "one_row",
    "refuse",
    "texts",
    "times",
]

Frame: TypeAlias = "pd.DataFrame | Mapping[str, Any] | Any"
"""What bulk writes take: a DataFrame, a mapping of columns, an Arrow or a Polars table."""

_NULLABLE: Final = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}


def incoming(frame: Frame, required: Sequence[str], optional: Sequence[str]) -> pd.DataFrame:
    """Take a frame, whoever made it, and check its columns' names.

    Raises
    ------
    InvalidQueryError
        For a column that is missing, unknown, or there twice.
    """
    if isinstance(frame, pd.DataFrame):
        taken = frame
    elif hasattr(frame, "__arrow_c_stream__"):
        taken = pa.table(frame).to_pandas(types_mapper=_NULLABLE.get, ignore_metadata=True)
    elif isinstance(frame, Mapping):
        taken = _of_columns(frame)
    else:
        raise InvalidQueryError(
            "a bulk write takes a DataFrame, a mapping of columns, an Arrow or a Polars table, not "
            f"{type(frame).__name__}"
        )
    known = [*required, *optional]
    for name in taken.columns:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidQueryError(
                f"there is no column {name!r} to write, only {', '.join(known)}{hint}"
            )
    if not taken.columns.is_unique:
        raise InvalidQueryError(f"a column stands twice among {', '.join(taken.columns)}")
    missing = [name for name in required if name not in taken.columns]
    if missing:
        raise InvalidQueryError(f"the frame lacks the column {', '.join(missing)}")
    return taken


def one_row(values: Mapping[str, Any]) -> pd.DataFrame:
    """Make a frame of single values, kept as the objects that they are."""
    return pd.DataFrame(
        {name: pd.Series([value], dtype=object) for name, value in values.items()}, index=[0]
    )


def _of_columns(columns: Mapping[str, Any]) -> pd.DataFrame:
    try:
        return pd.DataFrame(dict(columns))
    except ValueError as error:
        raise InvalidQueryError(f"the columns make no frame: {error}") from None


def refuse(name: str, row: int, value: object, wanted: str) -> NoReturn:
    """Say which value in which row is not as it must be."""
    plain = value.item() if isinstance(value, np.generic) else value
    raise InvalidQueryError(f"{name} in row {row} must be {wanted}, not {plain!r}")


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


def new_ids(count: int) -> pa.Array:
    """Make random ids (UUID version 4, RFC 9562 section 5.4), all at once."""
    raw = np.frombuffer(os.urandom(16 * count), np.uint8).reshape(count, 16).copy()
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    digits = np.frombuffer(raw.tobytes().hex().encode(), np.uint8).reshape(count, 32)
    text = np.full((count, 36), ord("-"), np.uint8)
    for start, end in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)):
        shift = (start >= 8) + (start >= 12) + (start >= 16) + (start >= 20)
        text[:, start + shift : end + shift] = digits[:, start:end]
    offsets = np.arange(count + 1, dtype=np.int64) * 36
    return pa.Array.from_buffers(
        pa.large_string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(text.tobytes())]
    )


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
        taken = values.to_numpy(np.float64, na_value=np.nan)
    else:
        taken = np.array(_each(values, name, _to_float(name), math.nan), np.float64)
    row = _first(np.isinf(taken))
    if row is not None:
        refuse(name, row, values.iloc[row], "finite")
    return taken if default is None else np.where(np.isnan(taken), default, taken)


def _to_float(name: str) -> Callable[[Any, int], float]:
    def convert(value: Any, row: int) -> float:
        if isinstance(value, bool | np.bool_ | str) or not hasattr(value, "__float__"):
            refuse(name, row, value, "a number")
        return float(value)

    return convert


def integers(
    values: pd.Series[Any], name: str, default: int | None, least: int, most: int
) -> pa.Array:
    """Take whole numbers; floats are taken where they are whole, as missing ones make them so."""

    def convert(value: Any, row: int) -> int:
        whole = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
        if not whole or value != value // 1 or not least <= value <= most:
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

    return pa.array(_each(values, name, convert, default), pa.bool_())


def times(values: pd.Series[Any], name: str, default: dt.datetime | None) -> pa.Array:
    """Take points in time with a zone, or whole milliseconds since the epoch; rounded down.

    Without a default, none may be missing.
    """
    kind = pa.timestamp("us", tz="UTC")
    zoned = isinstance(values.dtype, pd.DatetimeTZDtype)
    if zoned and (default is not None or values.notna().all()):
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


# An escaped NUL, which jsonb cannot hold: an odd number of backslashes before u0000.
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def dicts(values: pd.Series[Any], name: str) -> pa.Array:
    """Take dicts as JSON text; NumPy's numbers and arrays inside them are taken too."""

    def convert(value: Any, row: int) -> str:
        if not isinstance(value, Mapping):
            refuse(name, row, value, "a dict")
        try:
            text = json.dumps(dict(value), ensure_ascii=False, allow_nan=False, default=_plain)
            text.encode()
        except (TypeError, ValueError) as error:
            raise InvalidQueryError(
                f"{name} in row {row} cannot be written as JSON ({error}): {value!r}"
            ) from None
        if _NUL.search(text):
            refuse(name, row, value, "text without NUL")
        return text

    return pa.array(_each(values, name, convert, None), pa.string())


def _plain(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def blobs(values: pd.Series[Any], name: str, size: int) -> pa.Array:
    r"""Take byte strings of one size, as the text ``\x...`` that COPY reads."""

    def convert(value: Any, row: int) -> str:
        record = bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""
        if len(record) != size:
            refuse(name, row, value, f"{size} bytes")
        return "\\x" + record.hex()

    return pa.array(_each(values, name, convert, None), pa.string())
