"""A read as a value: its SQL, what its columns become in a frame, and the tables that it depends on.

Everything in this package is pure: it checks arguments and writes SQL, without I/O.  A caller's
value enters the SQL only through `ngdata._query.literals`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from ngdata._arguments.id_space import IdSpace
from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.suggestions import did_you_mean
from ngdata._arguments.texts import as_text, plain_text
from ngdata._query import literals as sql
from ngdata._query.asked import Asked
from ngdata._query.filters import TokenFilter
from ngdata._query.footprints import ANYTHING, Footprint
from ngdata._query.pin import Pin
from ngdata._query.places import Place
from ngdata.errors import InvalidQueryError

__all__ = [
    "FEW_IDS",
    "FEW_ROWS",
    "LEVELS",
    "METADATA_KEY",
    "MISSING_ID",
    "MISSING_ID_SQL",
    "Column",
    "Form",
    "Kind",
    "Query",
    "Region",
    "Sent",
    "choose",
    "is_metadata_key",
    "requested",
    "select_list",
]


class Kind(Enum):
    """What a column of an answer becomes in pandas."""

    TEXT = "text"
    """Text, and ids of all rows but tokens; missing is NaN."""
    TOKEN_ID = "token id"  # noqa: S105 - not a password
    """The id of a token; never missing."""
    OPTIONAL_TOKEN_ID = "optional token id"  # noqa: S105 - not a password
    """The id of a token, or NULL."""
    TOKEN_NUMBER = "uint64"  # noqa: S105 - not a password
    """The id of a token as an integer; never missing."""
    OPTIONAL_TOKEN_NUMBER = "UInt64"  # noqa: S105 - not a password
    """The id of a token as an integer, or NULL."""
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
    """A column of an answer: its name in the frame, and its kind."""

    name: str
    kind: Kind


_AS_NUMBER: Final = {
    Kind.TOKEN_ID: Kind.TOKEN_NUMBER,
    Kind.OPTIONAL_TOKEN_ID: Kind.OPTIONAL_TOKEN_NUMBER,
}

FEW_ROWS: Final = 1000
"""The most rows of an answer that is read without COPY, whose further round trips gain nothing then."""

FEW_IDS: Final = 100
"""The most ids, or rows, of a read that is a lookup."""

METADATA_KEY: Final = "metadata."
"""How the names of columns begin that are keys of the metadata."""

LEVELS: Final = "tokens.levels"
"""The table of the levels' units, which every read of one level depends on."""

MISSING_ID: Final = Column("missing_id", Kind.TEXT)
"""A column that names ids of the caller's that are not in the store, each in a row of its own.

It is NULL in all other rows.  The reader raises `NotFoundError` for the ids in it, and frames do not
have it.
"""

MISSING_ID_SQL: Final = "CASE WHEN t.id IS NULL THEN requested.id::text END"
"""The expression of `MISSING_ID` in a read of `requested` rows."""


class Form(Enum):
    """How the server sends a column."""

    PLAIN = "its value"
    UUID = "16 bytes, converted to text or an integer by the reader"
    POINT = "the bytes of a PointZ, of which the column is one coordinate"
    CONSTANT = "not sent: the same value in each row"


@dataclass(frozen=True, slots=True)
class Sent:
    """Which column of the server's answer a column is made of, and in which form it is sent.

    Attributes
    ----------
    form : Form
    place : int
        The position of the server's column, from 0.
    value : int
        The axis of a point, or the constant, an int32.
    """

    form: Form
    place: int = 0
    value: int = 0


@dataclass(frozen=True, slots=True)
class Region:
    """A place, and the filter on the tokens in it."""

    place: Place
    where: TokenFilter


@dataclass(frozen=True, slots=True)
class Query:
    """A read: all that is needed to send, cache and explain it.

    Attributes
    ----------
    sql : str
        One SELECT with literals (with bound parameters, the driver would not use COPY).
    columns : tuple of Column
        The columns of the answer, in order.
    relations : tuple of str
        The tables that the answer depends on.
    region : Region or None
        The region that the answer holds completely, if the read is of one.
    has_limit : bool
        Whether the method has a ``limit=`` that makes the answer smaller.
    sent : tuple of Sent
        What each column is made of; empty if the server sends exactly these columns.
    plain_sql : str or None
        The same read with exactly these columns, which is quicker for few rows, if `sent` is not empty.
    is_small : bool
        Whether the answer has at most `FEW_ROWS` rows, whatever the store holds.
    is_lookup : bool
        Whether the server finds the rows by a few steps in an index, without reading others.
    is_nearest : bool
        Whether the server reads the rows in the order of their distance, until there are enough.
    id_noun : str or None
        What the caller's ids name, such as ``"token"``, if `MISSING_ID` is among the columns.
    level : int or None
        The level that all coordinates and distances of the answer are of; it depends on `LEVELS` then.
    asked : Asked or None
        What the store may have none of, if an empty answer is to be explained.
    id_space : str or None
        The space of the integers that token ids are in the answer; None: they are text.
    footprint : Footprint
        What may change the answer.
    pin : Pin or None
        The pin as of which the rows are; None: they are as they are now.
    """

    sql: str
    columns: tuple[Column, ...]
    relations: tuple[str, ...]
    region: Region | None = None
    has_limit: bool = True
    sent: tuple[Sent, ...] = ()
    plain_sql: str | None = None
    is_small: bool = False
    is_lookup: bool = False
    is_nearest: bool = False
    id_noun: str | None = None
    level: int | None = None
    asked: Asked | None = None
    id_space: str | None = None
    footprint: Footprint = ANYTHING
    pin: Pin | None = None

    @property
    def reads_few(self) -> bool:
        """Whether the server reads few rows, however many the planner expects."""
        return self.is_lookup or self.is_nearest

    def within(self, ids: IdSpace) -> Query:
        """Return the read with token ids in the form in which they go out."""
        if not ids.as_integers or self.id_space == ids.name:
            return self
        columns = tuple(
            Column(column.name, _AS_NUMBER[column.kind]) if column.kind in _AS_NUMBER else column
            for column in self.columns
        )
        return replace(self, columns=columns, id_space=ids.name)


def is_metadata_key(name: str) -> bool:
    """Return whether the name of a column is that of a key of the metadata, ``metadata.KEY``."""
    return name.startswith(METADATA_KEY)


def _metadata_value(metadata: str, name: str) -> str:
    """Write the text of a value in the metadata; NULL if it is absent or JSON's null.

    A key that has the whole name comes first, because keys may have dots in them.
    """
    key = name.removeprefix(METADATA_KEY)
    value = f"{metadata} ->> {sql.text(key)}"
    path = key.split(".")
    return value if len(path) == 1 else f"coalesce({value}, {metadata} #>> {sql.text_array(path)})"


def choose(
    available: dict[Column, str],
    names: Sequence[str] | None,
    default: Sequence[str] | None = None,
    *,
    metadata: str | None = None,
    name: str = "columns",
) -> dict[Column, str]:
    """Return the columns with these names, in the order of the names.

    Parameters
    ----------
    available : dict of Column to str
        Each column with its SQL expression.
    names : sequence of str or None
        None means `default`, or all.
    metadata : str, optional
        The metadata as SQL, if names of the form ``metadata.KEY`` are columns too.
    name : str
        The argument's name, for the error.
    """
    if names is None:
        if default is None:
            return available
        names = default
    by_name = {column.name: column for column in available}
    columns: dict[Column, str] = {}
    for chosen in _chosen(names, by_name, name, has_keys=metadata is not None):
        column = by_name.get(chosen)
        if column is not None:
            columns[column] = available[column]
        elif metadata is not None:
            columns[Column(chosen, Kind.TEXT)] = _metadata_value(metadata, chosen)
    return columns


@guarded
def _chosen(
    names: Any, known: Mapping[str, Column], name: str, *, has_keys: bool = False
) -> list[str]:
    """Return names of columns as `str`: at least one, all known, and none twice.

    With `has_keys`, the names ``metadata.KEY`` are known too.
    """
    chosen: list[str] = []
    place = "" if name == "columns" else f" in {name}"
    is_sequence = isinstance(names, Iterable) and not isinstance(names, str | bytes)
    for value in names if is_sequence else ():
        column = plain_text(value)
        if column is not None and has_keys and is_metadata_key(column):
            column = as_text(column, name)
        elif column is None or column not in known:
            raise InvalidQueryError(
                f"unknown column {shown(value)}{place}; the columns here are {', '.join(known)}"
                f"{', metadata.KEY' if has_keys else ''}{did_you_mean(column, known)}"
            )
        if column in chosen:
            chosen = []
            break
        chosen.append(column)
    if not chosen:
        raise InvalidQueryError(
            f"{name} must be a sequence of different column names, not {shown(names)}"
        )
    return chosen


def select_list(columns: Mapping[Column, str]) -> str:
    """Write the SELECT list of columns, each with its SQL expression."""
    return ", ".join(
        f"{expression} AS {sql.identifier(column.name)}" for column, expression in columns.items()
    )


def requested(ids: Iterable[str], relation: str) -> str:
    """Write a FROM item with a row for each id: the row of `relation` as `t`, NULLs if missing.

    The ids themselves are ``requested.id``, in the order of ``requested.position``.  The rows are
    found by a condition on the table alone, which any planner can use, also where the join's is not
    passed down to the table (through a view, a foreign table, or the images of a pin).
    """
    array = sql.uuid_array(ids)
    return (
        f"unnest({array}) WITH ORDINALITY AS requested (id, position)"
        f" LEFT JOIN (SELECT * FROM {relation} WHERE id = ANY ({array})) AS t"
        " ON t.id = requested.id"
    )
