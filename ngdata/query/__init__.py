"""Queries as values: pure functions from checked arguments to SQL, with no I/O.

`Query` holds the finished SQL, what its columns become in a frame, and the relations it reads.
Every value of a caller that stands in the SQL went through `ngdata.query.literals`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Column", "Kind", "Query"]


class Kind(Enum):
    """What a column of an answer becomes in pandas."""

    TEXT = "str"
    """Text and ids; missing is NaN."""
    FLOAT = "float64"
    INTEGER = "integer"
    """As wide as the server's type; never missing."""
    OPTIONAL_INTEGER = "Int64"
    BOOLEAN = "bool"
    TIME = "datetime64[us, UTC]"
    JSON = "object, dicts"
    BYTES = "object, bytes"
    COORDS = "object, 8x3 arrays"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an answer: its name in the frame, and what it becomes there."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Query:
    """A read, whole: nothing else is needed to send it, to cache it, or to explain it.

    Attributes
    ----------
    sql : str
        One SELECT, its literals in place (with bound parameters the driver would not use COPY).
    columns : tuple of Column
        The columns of the answer, in order.
    relations : tuple of str
        The tables that the answer depends on.
    """

    sql: str
    columns: tuple[Column, ...]
    relations: tuple[str, ...]
