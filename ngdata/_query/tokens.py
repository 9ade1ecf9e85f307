"""Reads of whole tokens from `tokens.tokens`: by id, by their attributes, and for a frame that names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ngdata._arguments.levels import Level, level_index
from ngdata._query import literals as sql
from ngdata._query.asked import Asked
from ngdata._query.attributes import ATTRIBUTES, TOKENS
from ngdata._query.filters import TokenFilter, checked_limit, row_limit, where_clause
from ngdata._query.footprints import Footprint
from ngdata._query.model import (
    FEW_IDS,
    FEW_ROWS,
    LEVELS,
    MISSING_ID,
    MISSING_ID_SQL,
    Column,
    Kind,
    Query,
    choose,
    requested,
    select_list,
)

__all__ = ["by_id", "matching", "of_rows"]

_OWN: Final = {
    Column("token_type", Kind.TEXT): "t.token_type",
    Column("weight", Kind.FLOAT): "t.weight",
    Column("flags", Kind.INTEGER): "coalesce(t.flags, 0)",
    Column("timestamp", Kind.TIME): 't."timestamp"',
    Column("coords", Kind.COORDS): "t.coord_x || t.coord_y || t.coord_z",
    **{column: f"t.{expression}" for column, expression in ATTRIBUTES.items()},
}
_TOKEN_ID: Final = Column("token_id", Kind.TOKEN_ID)
_BY_ID: Final = {_TOKEN_ID: "requested.id::text", **_OWN}
_MATCHING: Final = {_TOKEN_ID: "t.id::text", **_OWN}
_METADATA: Final = "t.metadata"

_DEFAULT: Final = ("token_id", "token_type", "weight", "flags", "timestamp")
_OF_ROWS: Final = ("token_type", "x", "y", "z")


def by_id(
    ids: Sequence[str], columns: Sequence[str] | None = None, skip_missing: bool = False
) -> Query:
    """Read a row per id, in the order of `ids`; `skip_missing` leaves out ids of no token."""
    selected = choose(_BY_ID, columns, (*_DEFAULT, "coords"), metadata=_METADATA)
    condition, noun = " WHERE t.id IS NOT NULL", None
    if not skip_missing:
        selected = {MISSING_ID: MISSING_ID_SQL, **selected}
        condition, noun = "", "token"
    statement = (
        f"SELECT {select_list(selected)} FROM {requested(ids, TOKENS)}{condition}"
        " ORDER BY requested.position"
    )
    is_lookup = len(ids) <= FEW_IDS
    return Query(
        statement,
        tuple(selected),
        (TOKENS,),
        is_lookup=is_lookup,
        id_noun=noun,
        footprint=Footprint(token_ids=ids),
    )


def matching(
    where: TokenFilter, columns: Sequence[str] | None = None, limit: int | None = None
) -> Query:
    """Read the tokens that pass a filter, unordered; `limit` keeps the first by id."""
    selected = choose(_MATCHING, columns, _DEFAULT, metadata=_METADATA)
    limit = checked_limit(limit)
    order = "" if limit is None else f" ORDER BY t.id{row_limit(limit)}"
    statement = f"SELECT {select_list(selected)} FROM {TOKENS} AS t{where_clause(where.conditions())}{order}"
    is_small = limit is not None and limit <= FEW_ROWS
    asked = None if limit == 0 else Asked.tokens(None, None, where)
    return Query(statement, tuple(selected), (TOKENS,), is_small=is_small, asked=asked)


def of_rows(ids: Sequence[str], columns: Sequence[str] | None, level: Level) -> Query:
    """Read a row per id, in the order of `ids`, and one more without a token.

    The rows of ids that name no token are like the last one.
    """
    level_number = level_index(level)
    available = {
        **_OWN,
        **{Column(axis, Kind.FLOAT): f"t.coord_{axis}[{level_number + 1}]" for axis in "xyz"},
    }
    # A row without a token has no flags.
    del available[Column("flags", Kind.INTEGER)]
    available[Column("flags", Kind.OPTIONAL_INTEGER)] = "t.flags"
    selected = choose(available, columns, _OF_ROWS, metadata=_METADATA)
    array = sql.uuid_array(ids)
    statement = (
        f"SELECT {select_list(selected)} FROM unnest({array} || NULL::uuid)"
        " WITH ORDINALITY AS requested (id, position)"
        f" LEFT JOIN (SELECT * FROM {TOKENS} WHERE id = ANY ({array})) AS t"
        " ON t.id = requested.id ORDER BY requested.position"
    )
    has_place = any(column.name in ("x", "y", "z") for column in selected)
    return Query(
        statement,
        tuple(selected),
        (TOKENS, LEVELS) if has_place else (TOKENS,),
        has_limit=False,
        is_lookup=len(ids) <= FEW_IDS,
        level=level_number if has_place else None,
        footprint=Footprint(token_ids=ids),
    )
