"""A statement of the caller's own: its text and its parameters, checked, as SQL that only reads.

The caller's text is sent as it is, but never by itself: it is the body of a sub-select, in a
transaction that may only read, by a protocol that takes one statement.  Parameters are bound by the
server: the statement is prepared, and executed with the parameters as literals without a type, so
that the server takes their types from their places.
"""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pandas as pd

from ngdata._arguments.json_text import JsonError, json_text
from ngdata._arguments.numbers import as_integer, as_list
from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.texts import as_text, plain_text
from ngdata._arguments.times import as_utc, is_missing
from ngdata._query import literals as sql
from ngdata.errors import InvalidQueryError

__all__ = ["Statement"]

# The limits of PostgreSQL, and for the items of an array one that memory suffices for.
_MAX_PARAMETERS: Final = 65_535
_MAX_DIMENSIONS: Final = 6
_MAX_ITEMS: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement that returns rows.

    Attributes
    ----------
    text : str
        What the caller wrote.
    parameters : tuple of str
        The values of ``$1, $2, ...`` as literals.
    """

    text: str
    parameters: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: Any, params: Any) -> Statement:
        """Check the arguments of `sql`."""
        checked = as_text(text, "statement").strip().rstrip("; \t\r\n")
        if not checked:
            raise InvalidQueryError("statement must be a SELECT, not empty")
        return cls(checked, () if params is None else _parameters(params, "params"))

    def rows(self, most: int | None = None) -> str:
        """Write the statement as a sub-select, whose rows are at most `most`."""
        # On a line of its own, the bracket is not part of a comment at the end.
        limit = "" if most is None else f" LIMIT {sql.integer(most)}"
        return f"SELECT * FROM ({self.text}\n) AS answer{limit}"

    def count(self) -> str:
        """Write the count of its rows."""
        return f'SELECT count(*) AS "count" FROM ({self.text}\n) AS answer'

    def execute(self, name: str) -> str:
        """Write the execution of a prepared statement with the parameters."""
        return f"EXECUTE {name}({', '.join(self.parameters)})"


@guarded
def _parameters(params: Any, name: str) -> tuple[str, ...]:
    is_one = isinstance(params, str | bytes | Mapping | pd.DataFrame) or not isinstance(
        params, Iterable
    )
    # An iterator may have no end.
    values = None if is_one else as_list(itertools.islice(params, _MAX_PARAMETERS + 1))
    if values is None or len(values) > _MAX_PARAMETERS:
        raise InvalidQueryError(
            f"{name} must be a sequence of the values of $1, $2, ..., not {shown(params)}"
        )
    if not values:
        raise InvalidQueryError(f"{name} is empty; leave it out if the statement has no $1")
    return tuple(_literal(value, f"{name}[{position}]") for position, value in enumerate(values))


def _literal(value: Any, name: str) -> str:
    text = _value_text(value, name)
    return "NULL" if text is None else sql.untyped(text)


@guarded
def _value_text(value: Any, name: str, depth: int = 0) -> str | None:
    """Return a value as PostgreSQL reads it from text; None for NULL."""
    if is_missing(value):
        return None
    text = plain_text(value)
    if text is not None:
        return as_text(text, name)
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    integer = as_integer(value)
    if integer is not None:
        return str(integer)
    if isinstance(value, float | np.floating):
        return repr(float(value))
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return "\\x" + bytes(value).hex()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, Mapping):
        try:
            return json_text(value)
        except JsonError as error:
            raise InvalidQueryError(f"{name}{error.place} {error.problem}") from None
    time = _time_text(value, name)
    if time is not None:
        return time
    if isinstance(value, Sequence | set | frozenset | np.ndarray | pd.Series | pd.Index):
        if len(value) > _MAX_ITEMS:
            raise InvalidQueryError(
                f"{name} must have at most {_MAX_ITEMS:,} items, but has {len(value):,}"
            )
        return _array_text(list(value), name, depth + 1)
    raise InvalidQueryError(
        f"{name} must be None, a bool, a number, text, bytes, a time, a UUID, a dict or a sequence "
        f"of these, not {shown(value)}"
    )


def _time_text(value: Any, name: str) -> str | None:
    """Return a time, a date or a duration as text; None for anything else."""
    if isinstance(value, np.timedelta64):
        value = pd.Timedelta(value)
    if isinstance(value, dt.timedelta):
        microseconds = value // dt.timedelta(microseconds=1)
        return f"{microseconds} microseconds"
    if isinstance(value, dt.datetime | np.datetime64):
        return as_utc(value, name).isoformat()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return None


def _array_text(values: list[Any], name: str, depth: int) -> str:
    if depth > _MAX_DIMENSIONS:
        raise InvalidQueryError(f"{name} must be an array of at most {_MAX_DIMENSIONS} dimensions")
    items = []
    for position, value in enumerate(values):
        is_nested = isinstance(value, list | tuple | np.ndarray)
        text = _value_text(value, f"{name}[{position}]", depth)
        if text is None or is_nested:
            items.append(text or "NULL")
        else:
            escaped = text.replace("\\", "\\\\").replace('"', '\\"')
            items.append(f'"{escaped}"')
    return "{" + ",".join(items) + "}"
