"""Whole tokens by id, out of `tokens.tokens`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ngdata._query import literals as sql
from ngdata._query.model import MISSING_ID, Column, Kind, Query, choose

__all__ = ["by_id"]

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


def by_id(
    ids: Sequence[str], columns: Sequence[str] | None = None, skip_missing: bool = False
) -> Query:
    """One row per id, in the order of `ids`."""
    chosen = choose(_COLUMNS, columns, _DEFAULT)
    if not skip_missing:
        chosen = {MISSING_ID: "CASE WHEN t.id IS NULL THEN asked.id::text END", **chosen}
    selected = ", ".join(f'{expression} AS "{c.name}"' for c, expression in chosen.items())
    join = "JOIN" if skip_missing else "LEFT JOIN"
    statement = (
        f"SELECT {selected} FROM unnest({sql.uuid_array(ids)}) WITH ORDINALITY AS asked (id, place)"
        f" {join} tokens.tokens AS t USING (id) ORDER BY asked.place"
    )
    noun = None if skip_missing else "token"
    return Query(statement, tuple(chosen), ("tokens.tokens",), id_noun=noun)
