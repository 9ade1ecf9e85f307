"""Values as SQL literals: SQLAlchemy's string quoting, and a cast to the type that is meant.

Why literals: the reading driver uses COPY only for a statement without parameters, which is 1.4
times faster.  Each value is written as quoted text with a cast (``'1.5'::float8``), so that
infinities, NaN and the smallest floats arrive bit for bit, whatever PostgreSQL would take a bare
number for.  What a backslash means inside plain quotes is the server's setting, so text that has
one is written as ``E'...'``, where it means the same everywhere.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from sqlalchemy import String
from sqlalchemy.dialects.postgresql import asyncpg

from ngdata.errors import InvalidQueryError

__all__ = ["float8", "float8_array", "integer", "text", "text_array", "timestamptz", "uuid_array"]

# The asyncpg dialect is the one that leaves a percent sign alone.
_quote = String().literal_processor(asyncpg.dialect())


def _literal(value: str, sql_type: str) -> str:
    assert _quote is not None
    quoted = _quote(value)
    if "\\" in value:
        quoted = "E" + quoted.replace("\\", "\\\\")
    return f"{quoted}::{sql_type}"


def text(value: str) -> str:
    """Write a string; PostgreSQL stores neither NUL nor half a surrogate pair."""
    if "\0" in value:
        raise InvalidQueryError(f"text must not contain NUL, as {value!r} does")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidQueryError(f"{value!r} is no valid Unicode text") from None
    return _literal(value, "text")


def integer(value: int) -> str:
    """Write an integer of at most 64 bits."""
    return _literal(str(int(value)), "int8")


def float8(value: float) -> str:
    """Write a float64, exactly: `repr` gives the shortest text that reads back as the same."""
    return _literal(repr(float(value)), "float8")


def float8_array(values: Iterable[float]) -> str:
    """Write an array of float64."""
    return _literal("{" + ",".join(repr(float(v)) for v in values) + "}", "float8[]")


def text_array(values: Iterable[str]) -> str:
    """Write an array of strings."""
    return f"ARRAY[{', '.join(text(v) for v in values)}]::text[]"


def uuid_array(ids: Iterable[str]) -> str:
    """Write an array of ids, as one literal: an ARRAY[...] of many is slow to parse."""
    return _literal("{" + ",".join(ids) + "}", "uuid[]")


def timestamptz(value: dt.datetime) -> str:
    """Write a point in time, which must be aware."""
    # isoformat pads the year, which strftime does not on every platform.
    return _literal(value.astimezone(dt.UTC).isoformat(), "timestamptz")
