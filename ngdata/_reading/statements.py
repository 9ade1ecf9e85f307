"""Reads of the caller's own statements: in a transaction that may only read and leaves nothing behind.

The columns of an answer become what the server's types say, never what the values happen to be: an
integer is ``Int64`` with or without NULL.
"""

from __future__ import annotations

import json
import math
import re
import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import adbc_driver_manager as adbc
import numpy as np
import pandas as pd
import pyarrow as pa

from ngdata._arguments.shown import shown
from ngdata._arguments.texts import STR
from ngdata._connections.arrow_session import ArrowSession, TooManyRows, joined
from ngdata._query.statements import Statement
from ngdata._reading.frames import objects
from ngdata.errors import InvalidQueryError

__all__ = ["count_rows", "read_rows", "to_frame"]


# The dtypes of integers and bools, which can be missing whatever the answer holds.
_NULLABLE: Final[dict[pa.DataType, Any]] = {
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}

# A syntax error, and a writing WITH, which may not be in a sub-select.
_SYNTAX_ERRORS: Final = ("42601", "0A000")

# What the driver says of an array with bounds of its own, and of a row as a value.
_UNREADABLE: Final = re.compile(r"ReadRecord failed at row \d+: (.+)", re.DOTALL)

# Python knows no times outside of these years, nor does the driver know infinity.
_FIRST: Final = np.datetime64("0001-01-01", "us")
_END: Final = np.datetime64("10000-01-01", "us")

_DAY: Final = 86_400_000_000
"""Microseconds."""


def read_rows(session: ArrowSession, statement: Statement, max_rows: int | None) -> pa.Table:
    """Read the rows of a statement.

    Raises
    ------
    adbc_driver_manager.Error
        The server rejects the statement.
    InvalidQueryError
        The statement is not one that returns rows.
    TooManyRows
        The answer has more than `max_rows` rows; they were not all read.
    """
    name = _new_name(statement)
    with session.read_only(name):
        # By itself first: the server's errors then show the caller's text, and nothing around it.
        expected, passed = session.prepare(statement.text), len(statement.parameters)
        if passed != expected:
            raise InvalidQueryError(
                f"params has {passed} values, but the statement has {expected} parameters"
                f"{f', $1 to ${expected}' if expected else ''}"
            )
        try:
            session.prepare(statement.rows())
        except adbc.Error as error:
            if error.sqlstate not in _SYNTAX_ERRORS:
                raise
            raise InvalidQueryError(
                "statement must be one that returns rows, a SELECT (also WITH, VALUES or TABLE), which "
                f"may not write, not {shown(statement.text)}"
            ) from None
        if name is None:
            with _readable():
                return joined(session.batches(statement.rows(), max_rows=max_rows))
        most = None if max_rows is None else max_rows + 1
        session.run(f"PREPARE {name} AS {statement.rows(most)}")
        with _readable():
            batches = session.batches(statement.execute(name), copy=False)
        rows = sum(map(len, batches))
        if max_rows is not None and rows > max_rows:
            raise TooManyRows(max_rows, rows)
        return joined(batches)


@contextmanager
def _readable() -> Iterator[None]:
    """Raise InvalidQueryError if the driver cannot read a value."""
    try:
        yield
    except adbc.Error as error:
        unreadable = _UNREADABLE.search(str(error))
        if error.sqlstate is not None or unreadable is None:
            raise
        raise InvalidQueryError(
            f"the statement returns a value that cannot be read: {unreadable[1].strip()}; cast the "
            "column to text or jsonb in the statement"
        ) from None


def count_rows(session: ArrowSession, statement: Statement) -> int:
    """Count the rows of a statement."""
    name = _new_name(statement)
    with session.read_only(name):
        if name is None:
            return int(session.row(statement.count())[0])
        session.run(f"PREPARE {name} AS {statement.count()}")
        return int(session.row(statement.execute(name))[0])


def _new_name(statement: Statement) -> str | None:
    """Return a name under which the statement is prepared; None if it has no parameters."""
    return f"ngdata_{secrets.token_hex(8)}" if statement.parameters else None


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return the frame of an answer.

    Raises
    ------
    InvalidQueryError
        Two columns have one name, there is none, or one holds what pandas cannot.
    """
    names = table.column_names
    if not names:
        raise InvalidQueryError("the statement returns no column; name what to return")
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise InvalidQueryError(
            f"the statement returns two columns of the name {repeated!r}; name one of them with AS"
        )
    columns = {
        name: _column(name, values) for name, values in zip(names, table.columns, strict=True)
    }
    return pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows), copy=False)


def _column(name: str, values: pa.ChunkedArray) -> Any:
    try:
        return _converted(values)
    except (pa.ArrowInvalid, ValueError, OverflowError) as error:
        raise InvalidQueryError(
            f"the column {name} holds a value that pandas cannot: {error}; cast it to text in the "
            f"statement ({name}::text)"
        ) from None


def _converted(values: pa.ChunkedArray) -> Any:
    kind: Any = values.type
    if isinstance(kind, pa.BaseExtensionType):
        stored = values.cast(kind.storage_type) if hasattr(kind, "storage_type") else values
        return _extension(kind, stored)
    if kind in _NULLABLE:
        return _NULLABLE[kind].__from_arrow__(values)
    if pa.types.is_string(kind):
        dtype: Any = STR
        return dtype.__from_arrow__(values)
    if pa.types.is_floating(kind):
        return values.to_numpy().copy()
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _times(values if pa.types.is_timestamp(kind) else values.cast(pa.timestamp("us")))
    if pa.types.is_interval(kind):
        return _durations(values)
    if pa.types.is_list(kind):
        return _objects([_plain(value, kind) for value in values.to_pylist()])
    return _objects(values.to_pylist())


def _extension(kind: Any, stored: pa.ChunkedArray) -> Any:
    """Convert a column of one of the server's types that Arrow does not have."""
    if kind.extension_name == "arrow.json":
        return _objects([None if text is None else json.loads(text) for text in stored.to_pylist()])
    if kind.extension_name == "arrow.uuid":
        texts = [None if raw is None else str(uuid.UUID(bytes=raw)) for raw in stored.to_pylist()]
        return pd.array(texts, STR)
    if getattr(kind, "type_name", None) == "numeric":
        numbers = [math.nan if text is None else float(text) for text in stored.to_pylist()]
        return np.array(numbers, np.float64)
    return _objects(stored.to_pylist())


def _objects(values: list[Any]) -> pd.Series[Any]:
    # Of an array, pandas would infer another dtype.
    return pd.Series(objects(values), dtype=object)


def _times(values: pa.ChunkedArray) -> Any:
    times = values.to_pandas()
    outside = ~times.dt.tz_localize(None).between(_FIRST, _END, inclusive="left") & times.notna()
    if outside.any():
        raise ValueError(f"row {int(outside.argmax())} is infinity, or not in the years 1 to 9999")
    return times.array


def _durations(values: pa.ChunkedArray) -> Any:
    microseconds = np.full(len(values), np.iinfo(np.int64).min)
    for row, value in enumerate(values.to_pylist()):
        if value is not None:
            if value.months:
                raise ValueError(f"row {row} has months, which have no fixed length")
            microseconds[row] = value.days * _DAY + value.nanoseconds // 1000
    return microseconds.view("m8[us]")


def _plain(value: Any, kind: Any) -> Any:
    """Return a value of an array as a column of its type would hold it."""
    if value is None:
        return None
    if isinstance(value, list):
        return [_plain(item, kind.value_type) for item in value]
    if getattr(kind, "extension_name", None) == "arrow.json":
        return json.loads(value)
    if getattr(kind, "type_name", None) == "numeric":
        return float(value)
    return str(value) if isinstance(value, uuid.UUID) else value
