"""Whole tokens by id, out of `tokens.tokens`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ngdata._query import literals as sql
from ngdata._query.model import Column, Kind, Query, choose

__all__ = ["FOUND", "by_id"]

FOUND: Final = "found"
"""A column in front of the others: whether the id asked for is there."""

_COLUMNS: Final = {
    Column("token_id", Kind.TEXT): "asked.id::text",
    Column("token_type", Kind.TEXT): "t.token_type",
    Column("weight", Kind.FLOAT): "t.weight",
    Column("flags", Kind.INTEGER): "coalesce(t.flags, 0)",
    Column("timestamp", Kind.TIME): 't."timestamp"',
    Column("coords", Kind.COORDS): "t.coord_x || t.coord_y || t.coord_z",
    Column("metadata", Kind.JSON): "t.metadata::text",
    Column("binary_data", Kind.BYTES): "t.binary_data",
}
_DEFAULT: Final = ("token_id", "token_type", "weight", "flags", "timestamp", "coords")


def by_id(ids: Sequence[str], columns: Sequence[str] | None = None) -> Query:
    """One row per id asked, in that order; `found` is false where there is no such token."""
    chosen = choose(_COLUMNS, columns, _DEFAULT)
    selected = ", ".join(f'{expression} AS "{c.name}"' for c, expression in chosen.items())
    statement = (
        f'SELECT t.id IS NOT NULL AS "{FOUND}", {selected}'
        f" FROM unnest({sql.uuid_array(ids)}) WITH ORDINALITY AS asked (id, place)"
        " LEFT JOIN tokens.tokens AS t USING (id) ORDER BY asked.place"
    )
    return Query(statement, (Column(FOUND, Kind.BOOLEAN), *chosen), ("tokens.tokens",))
