"""Reads of whole tokens by id, from `tokens.tokens`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ngdata._query.model import (
    FEW_IDS,
    MISSING_ID,
    MISSING_ID_SQL,
    Column,
    Kind,
    Query,
    choose,
    requested,
    select_list,
)

__all__ = ["by_id"]

_COLUMNS: Final = {
    Column("token_id", Kind.TOKEN_ID): "requested.id::text",
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
    """Read a row per id, in the order of `ids`; `skip_missing` leaves out ids of no token."""
    selected = choose(_COLUMNS, columns, _DEFAULT)
    condition, noun = " WHERE t.id IS NOT NULL", None
    if not skip_missing:
        selected = {MISSING_ID: MISSING_ID_SQL, **selected}
        condition, noun = "", "token"
    statement = (
        f"SELECT {select_list(selected)} FROM {requested(ids, 'tokens.tokens')}{condition}"
        " ORDER BY requested.position"
    )
    is_lookup = len(ids) <= FEW_IDS
    return Query(statement, tuple(selected), ("tokens.tokens",), is_lookup=is_lookup, id_noun=noun)
