"""Reads of `graph.connections` as they are stored: chosen ones, those in a region, the whole graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ngdata._arguments.suggestions import did_you_mean
from ngdata._query import literals as sql
from ngdata._query.filters import any_of, clause, row_limit, smallest_weight
from ngdata._query.model import Column, Kind, Query
from ngdata._query.space import Box
from ngdata.errors import InvalidQueryError

__all__ = ["COLUMNS", "Ends", "arcs_of_all", "edges", "one_of", "selected"]

COLUMNS: Final = (
    *(Column(name, Kind.TEXT) for name in ("connection_id", "source_id", "target_id")),
    Column("connection_type", Kind.TEXT),
    Column("weight", Kind.FLOAT),
    Column("bidirectional", Kind.BOOLEAN),
)

_SELECTED: Final = (
    "c.id::text AS connection_id, c.source_id::text AS source_id,"
    " c.target_id::text AS target_id, c.connection_type, c.weight, c.bidirectional"
)


def one_of(value: Any, allowed: Sequence[str], name: str) -> str:
    """Check an argument that is one of a few words."""
    if isinstance(value, str) and value in allowed:
        return value
    hint = did_you_mean(value, allowed)
    words = ", ".join(map(repr, allowed[:-1]))
    raise InvalidQueryError(f"{name} must be {words} or {allowed[-1]!r}, not {value!r}{hint}")


Ends = ("both", "any")
"""Which ends of a connection lie in the region: both of them, or at least one."""


def selected() -> str:
    """Give the expressions of `COLUMNS` for a table that is called c."""
    return _SELECTED


def edges(
    source: Sequence[str] | None,
    target: Sequence[str] | None,
    connection_type: str | Sequence[str] | None = None,
    within: Box | None = None,
    ends: str = "both",
    limit: int | None = None,
) -> Query:
    """Connections as they are stored, from any of the sources to any of the targets.

    They have no order; with a `limit`, they are the first by id.
    """
    one_of(ends, Ends, "ends")
    conditions = any_of("c.connection_type", connection_type)
    if source is not None:
        conditions.append(f"c.source_id = ANY ({sql.uuid_array(source)})")
    if target is not None:
        conditions.append(f"c.target_id = ANY ({sql.uuid_array(target)})")
    relations: tuple[str, ...] = ("graph.connections",)
    inside = ""
    chosen = f"SELECT c.* FROM graph.connections AS c{clause(conditions)}"
    if within is not None:
        relations += ("tokens.spatial_index",)
        inside = (
            "WITH inside AS MATERIALIZED (SELECT token_id FROM tokens.spatial_index"
            f"{clause(within.conditions())}) "
        )
        chosen = _inside(ends, conditions)
    cut = "" if limit is None else f" ORDER BY c.id{row_limit(limit)}"
    return Query(f"{inside}SELECT {_SELECTED} FROM ({chosen}) AS c{cut}", COLUMNS, relations)


def _inside(ends: str, conditions: list[str]) -> str:
    # The planner takes a region for one row, and would compare each connection with each token.  As
    # an expression under IS TRUE, a membership is looked up in a hash table instead.
    has_target = "(c.target_id IN (SELECT token_id FROM inside)) IS TRUE"
    by_source = (
        "SELECT c.* FROM inside AS i JOIN graph.connections AS c ON c.source_id = i.token_id"
    )
    if ends == "both":
        return by_source + clause([*conditions, has_target])
    only_target = "(c.source_id IN (SELECT token_id FROM inside)) IS NOT TRUE"
    return (
        f"{by_source}{clause(conditions)} UNION ALL SELECT c.* FROM inside AS i"
        " JOIN graph.connections AS c ON c.target_id = i.token_id"
        f"{clause([*conditions, only_target])}"
    )


def arcs_of_all(
    connection_type: str | Sequence[str] | None = None, min_weight: float | None = None
) -> Query:
    """All tokens, each a row without a target, and what connects them."""
    kept = any_of("connection_type", connection_type) + smallest_weight(min_weight)
    statement = (
        "SELECT id::text AS source_id, NULL::text AS target_id, false AS bidirectional"
        " FROM tokens.tokens UNION ALL SELECT source_id::text, target_id::text, bidirectional"
        f" FROM graph.connections{clause(kept)}"
    )
    columns = (
        Column("source_id", Kind.TEXT),
        Column("target_id", Kind.TEXT),
        Column("bidirectional", Kind.BOOLEAN),
    )
    return Query(statement, columns, ("graph.connections", "tokens.tokens"))
