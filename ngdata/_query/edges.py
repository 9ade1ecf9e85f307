"""Reads of `graph.connections` as they are stored: by their ends, by a region, all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ngdata._arguments.texts import as_texts, checked_word
from ngdata._query import literals as sql
from ngdata._query.asked import Asked
from ngdata._query.filters import any_of, at_least, checked_limit, row_limit, where_clause
from ngdata._query.footprints import Footprint
from ngdata._query.model import Column, Kind, Query, choose, select_list
from ngdata._query.places import SPATIAL_INDEX, Place
from ngdata._query.wire_format import with_id_bytes

__all__ = ["COLUMNS", "CONNECTIONS", "DEFAULT", "all_arcs", "conditions_on", "edges"]

CONNECTIONS: Final = "graph.connections"

COLUMNS: Final = {
    Column("connection_id", Kind.TEXT): "c.id::text",
    Column("source_id", Kind.TOKEN_ID): "c.source_id::text",
    Column("target_id", Kind.TOKEN_ID): "c.target_id::text",
    Column("connection_type", Kind.TEXT): "c.connection_type",
    Column("weight", Kind.FLOAT): "c.weight",
    Column("bidirectional", Kind.BOOLEAN): "c.bidirectional",
    Column("decay_rate", Kind.FLOAT): "c.decay_rate",
    Column("metadata", Kind.JSON): "c.metadata::text",
    Column("created_at", Kind.TIME): "c.created_at",
}
"""The columns of a connection `c`, each with its SQL expression."""

DEFAULT: Final = tuple(column.name for column in COLUMNS)[:6]
"""The columns that are read if the caller names none."""

_ENDS: Final = ("both", "any")
"""Which ends of a connection must be in the region: both, or at least one."""


def edges(
    source: Sequence[str] | None,
    target: Sequence[str] | None,
    connection_type: str | Sequence[str] | None = None,
    within: Place | None = None,
    ends: str = "both",
    limit: int | None = None,
    columns: Sequence[str] | None = None,
) -> Query:
    """Read connections from any of the sources to any of the targets, as they are stored.

    They are unordered; with a `limit`, the first by id.
    """
    selected = choose(COLUMNS, columns, DEFAULT)
    ends = checked_word(ends, _ENDS, "ends")
    limit = checked_limit(limit)
    types = None if connection_type is None else as_texts(connection_type, "connection_type")
    conditions = conditions_on(source, target, types)
    relations: tuple[str, ...] = (CONNECTIONS,)
    inside = ""
    rows = f"SELECT c.* FROM graph.connections AS c{where_clause(conditions)}"
    if within is not None:
        relations += (SPATIAL_INDEX,)
        inside = (
            f"WITH inside AS MATERIALIZED (SELECT token_id FROM {SPATIAL_INDEX}"
            f"{where_clause(within.conditions())}) "
        )
        rows = _inside(ends, conditions)
    first = "" if limit is None else f" ORDER BY c.id{row_limit(limit)}"
    is_selective = limit is not None or source is not None or target is not None
    select, sent = (select_list(selected), ()) if is_selective else with_id_bytes(selected)
    statement = f"{inside}SELECT {select} FROM ({rows}) AS c{first}"
    asked = None if limit == 0 else Asked("connections", types).within(within)
    footprint = Footprint(place=within, ends=target if source is None else source)
    return Query(statement, tuple(selected), relations, asked=asked, sent=sent, footprint=footprint)


def conditions_on(
    source: Sequence[str] | None,
    target: Sequence[str] | None,
    connection_type: str | Sequence[str] | None,
) -> list[str]:
    """Write the conditions of connections `c` between any of these tokens, of any of these types."""
    ends = {"source_id": source, "target_id": target}
    return any_of("c.connection_type", connection_type) + [
        f"c.{column} = ANY ({sql.uuid_array(ids)})"
        for column, ids in ends.items()
        if ids is not None
    ]


def _inside(ends: str, conditions: list[str]) -> str:
    # The planner estimates one row for a region, and would compare each connection with each token.
    # As an expression under IS TRUE, membership is looked up in a hash table instead.
    target_inside = "(c.target_id IN (SELECT token_id FROM inside)) IS TRUE"
    by_source = (
        "SELECT c.* FROM inside AS i JOIN graph.connections AS c ON c.source_id = i.token_id"
    )
    if ends == "both":
        return by_source + where_clause([*conditions, target_inside])
    source_outside = "(c.source_id IN (SELECT token_id FROM inside)) IS NOT TRUE"
    return (
        f"{by_source}{where_clause(conditions)} UNION ALL SELECT c.* FROM inside AS i"
        " JOIN graph.connections AS c ON c.target_id = i.token_id"
        f"{where_clause([*conditions, source_outside])}"
    )


def all_arcs(
    connection_type: str | Sequence[str] | None = None, min_weight: float | None = None
) -> Query:
    """Read all tokens, each as a row without a target, and the ends of their connections."""
    conditions = any_of("connection_type", connection_type) + at_least("weight", min_weight)
    statement = (
        "SELECT id::text AS source_id, NULL::text AS target_id, false AS bidirectional"
        " FROM tokens.tokens UNION ALL SELECT source_id::text, target_id::text, bidirectional"
        f" FROM graph.connections{where_clause(conditions)}"
    )
    columns = (
        Column("source_id", Kind.TOKEN_ID),
        Column("target_id", Kind.OPTIONAL_TOKEN_ID),
        Column("bidirectional", Kind.BOOLEAN),
    )
    return Query(statement, columns, (CONNECTIONS, "tokens.tokens"))
