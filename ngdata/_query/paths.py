"""The shortest path between two tokens, as one query that calls the function `graph.shortest_path`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ngdata._arguments.numbers import as_flag, positive
from ngdata._arguments.texts import as_texts
from ngdata._query import literals as sql
from ngdata._query.filters import any_of, where_clause
from ngdata._query.model import MISSING_ID, Column, Kind, Query
from ngdata._query.neighbors import checked_direction

__all__ = ["IS_NEGATIVE", "shortest_path"]

IS_NEGATIVE: Final = "is_negative"
"""A column that is true in the row of a connection of negative weight, and false in all steps."""

_COLUMNS: Final = (
    MISSING_ID,
    Column(IS_NEGATIVE, Kind.BOOLEAN),
    Column("step", Kind.INTEGER),
    Column("source_id", Kind.TOKEN_ID),
    Column("target_id", Kind.TOKEN_ID),
    Column("connection_id", Kind.TEXT),
    Column("connection_type", Kind.TEXT),
    Column("weight", Kind.FLOAT),
)


def shortest_path(
    source: str,
    target: str,
    *,
    weighted: bool = False,
    max_depth: int | None = None,
    connection_type: str | Sequence[str] | None = None,
    direction: str = "outgoing",
) -> Query:
    """Read the steps of a path; if `weighted`, before them one connection of negative weight."""
    types = "NULL::text[]"
    if connection_type is not None:
        # An iterator is used up by the first use.
        connection_type = as_texts(connection_type, "connection_type")
        types = sql.text_array(connection_type)
    weighted = bool(as_flag(weighted, "weighted"))
    max_steps = "NULL" if max_depth is None else positive(max_depth, "max_depth")
    ends = f"({sql.uuid_array([source])})[1], ({sql.uuid_array([target])})[1]"
    parts = [
        f"SELECT a.id::text AS missing_id, false AS {IS_NEGATIVE}, 0 AS step, NULL::text AS"
        " source_id, NULL::text AS target_id, NULL::text AS connection_id,"
        " NULL::text AS connection_type, NULL::float8 AS weight"
        f" FROM unnest({sql.uuid_array(dict.fromkeys([source, target]))}) AS a (id)"
        " WHERE NOT EXISTS (SELECT FROM tokens.tokens AS t WHERE t.id = a.id)"
    ]
    if weighted:
        conditions = [*any_of("c.connection_type", connection_type), "c.weight < 0"]
        parts.append(
            "(SELECT NULL, true, 0, c.source_id::text, c.target_id::text, c.id::text,"
            f" c.connection_type, c.weight FROM graph.connections AS c{where_clause(conditions)}"
            " ORDER BY c.id LIMIT 1)"
        )
    parts.append(
        "SELECT NULL, false, p.step, p.source_id::text, p.target_id::text, p.connection_id::text,"
        f" p.connection_type, p.weight FROM graph.shortest_path({ends},"
        f" '{checked_direction(direction)}', {types}, {'true' if weighted else 'false'},"
        f" {max_steps}) AS p"
    )
    statement = f"{' UNION ALL '.join(parts)} ORDER BY step"
    return Query(statement, _COLUMNS, ("graph.connections", "tokens.tokens"), id_noun="token")
