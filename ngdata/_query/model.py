"""Queries as values: pure functions from checked arguments to SQL, with no I/O.

`Query` holds the finished SQL, what its columns become in a frame, and the relations it reads.
Every value of a caller that stands in the SQL went through `ngdata._query.literals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ngdata._arguments.numbers import as_list
from ngdata._arguments.suggestions import did_you_mean
from ngdata._query.filters import TokenFilter
from ngdata._query.space import Box
from ngdata.errors import InvalidQueryError

__all__ = ["MISSING_ID", "Column", "Form", "Kind", "Query", "Region", "Sent", "choose"]


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


MISSING_ID: Final = Column("missing_id", Kind.TEXT)
"""The column that names, in a row of its own, an id of the caller's that is not in the store.

It is NULL in the rows of the answer.  The reader raises `NotFoundError` for the others, and drops
the column.
"""


class Form(Enum):
    """How the server sends what a column is made of."""

    PLAIN = "as it is"
    UUID = "16 bytes, to become text"
    POINT = "the bytes of a PointZ, one of whose coordinates is wanted"
    CONSTANT = "not at all: it is the same in each row"


@dataclass(frozen=True, slots=True)
class Sent:
    """Where a column comes from: a column of what the server sends, and its form.

    Attributes
    ----------
    form : Form
    place : int
        The server's column, from 0.
    value : int
        The axis of a point, or the constant, an int32.
    """

    form: Form
    place: int = 0
    value: int = 0


@dataclass(frozen=True, slots=True)
class Region:
    """A box, and which of the tokens in it are wanted."""

    box: Box
    where: TokenFilter


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
    region : Region or None
        What is asked for, if it is all of a region.
    has_limit : bool
        Whether a call can ask for a part of it by ``limit=``.
    sent : tuple of Sent
        What each column is made of; empty if the server sends just these columns.
    is_small : bool
        Whether the answer has a thousand rows at most, whatever there is.
    id_noun : str or None
        What the caller's ids name, such as ``"token"``, if `MISSING_ID` is among the columns.
    """

    sql: str
    columns: tuple[Column, ...]
    relations: tuple[str, ...]
    region: Region | None = None
    has_limit: bool = True
    sent: tuple[Sent, ...] = ()
    is_small: bool = False
    id_noun: str | None = None


def choose(
    offered: dict[Column, str], wanted: Sequence[str] | None, default: Sequence[str] | None = None
) -> dict[Column, str]:
    """Choose columns by name, in the order wanted.

    Parameters
    ----------
    offered : dict of Column to str
        Each column with the SQL expression that gives it.
    wanted : sequence of str or None
        Names; None means `default`, or all.
    """
    if wanted is None and default is None:
        return offered
    by_name = {column.name: column for column in offered}
    if wanted is None:
        wanted = list(by_name) if default is None else default
    names = None if isinstance(wanted, str) else as_list(wanted)
    if not names or len(set(map(str, names))) != len(names):
        raise InvalidQueryError(
            f"columns must be a sequence of different column names, not {wanted!r}"
        )
    for name in names:
        if not isinstance(name, str) or name not in by_name:
            hint = did_you_mean(name, by_name)
            raise InvalidQueryError(
                f"there is no column {name!r} here, only {', '.join(by_name)}{hint}"
            )
    return {by_name[name]: offered[by_name[name]] for name in names}
