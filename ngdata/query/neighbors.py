"""Reads of `graph.connections`: neighbors, degrees, edges."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from ngdata.errors import InvalidQueryError
from ngdata.query import Column, Kind, Query
from ngdata.query import literals as sql
from ngdata.query.filters import any_of, clause, positive, row_limit, smallest_weight

__all__ = ["UNKNOWN", "Direction", "degree", "edges", "neighbors"]

Direction: TypeAlias = Literal["outgoing", "incoming", "both"]

UNKNOWN: Final = "unknown"
"""A column in front of the others: true in a row that stands for an id that is no token."""

_DEEPEST: Final = 32

_NEIGHBORS: Final = (
    Column(UNKNOWN, Kind.BOOLEAN),
    Column("token_id", Kind.TEXT),
    Column("neighbor_id", Kind.TEXT),
    Column("connection_id", Kind.TEXT),
    Column("connection_type", Kind.TEXT),
    Column("weight", Kind.FLOAT),
    Column("direction", Kind.TEXT),
    Column("depth", Kind.INTEGER),
)

# A bidirectional connection is one that can be gone from both ends, so it is outgoing from both.
# The two branches of a direction never give the same connection twice for one start.
_BRANCHES: Final = {
    "outgoing": (
        ("source_id", "target_id", "", "'outgoing'"),
        ("target_id", "source_id", "c.bidirectional", "'outgoing'"),
    ),
    "incoming": (
        ("target_id", "source_id", "", "'incoming'"),
        ("source_id", "target_id", "c.bidirectional", "'incoming'"),
    ),
    "both": (
        ("source_id", "target_id", "", "'outgoing'"),
        (
            "target_id",
            "source_id",
            "",
            "CASE WHEN c.bidirectional THEN 'outgoing' ELSE 'incoming' END",
        ),
    ),
}


def neighbors(
    ids: Sequence[str],
    direction: str,
    depth: int = 1,
    connection_type: str | Sequence[str] | None = None,
    min_weight: float | None = None,
    limit: int | None = None,
) -> Query:
    """Each token that can be reached in at most `depth` steps, once per start.

    Frontier by frontier: step d starts from what step d - 1 reached first, so the cost follows the
    neighborhood and not the number of paths in it.  A start that is no token gives a row with
    `unknown` set.
    """
    if not isinstance(direction, str) or direction not in _BRANCHES:
        near = difflib.get_close_matches(str(direction), _BRANCHES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidQueryError(
            f"direction must be 'outgoing', 'incoming' or 'both', not {direction!r}{hint}"
        )
    kept = any_of("c.connection_type", connection_type) + smallest_weight(min_weight, "c.weight")
    steps = [
        "asked AS MATERIALIZED (SELECT * FROM"
        f" unnest({sql.uuid_array(ids)}) WITH ORDINALITY AS a (start_id, place))",
        "step_0 AS (SELECT place, start_id, start_id AS neighbor_id FROM asked)",
    ]
    deepest = positive(depth, "depth", _DEEPEST)
    steps += [
        f"step_{step} AS MATERIALIZED ({_step(step, direction, kept)})"
        for step in range(1, deepest + 1)
    ]
    reached = " UNION ALL ".join(
        f"SELECT *, {step}::int AS depth FROM step_{step}" for step in range(1, deepest + 1)
    )
    statement = (
        f'WITH {", ".join(steps)} SELECT "{UNKNOWN}", token_id::text AS token_id,'
        " neighbor_id::text AS neighbor_id, connection_id::text AS connection_id,"
        " connection_type, weight, direction, depth FROM ("
        f'(SELECT false AS "{UNKNOWN}", place, start_id AS token_id, neighbor_id, connection_id,'
        f" connection_type, weight, direction, depth FROM ({reached}) AS reached"
        f" ORDER BY place, depth, reached.neighbor_id{row_limit(limit)})"
        f' UNION ALL SELECT true AS "{UNKNOWN}", place, start_id, NULL, NULL, NULL, NULL, NULL, 0'
        " FROM asked WHERE NOT EXISTS (SELECT FROM tokens.tokens AS t WHERE t.id = start_id)"
        ") AS answer ORDER BY place, depth, answer.neighbor_id"
    )
    return Query(statement, _NEIGHBORS, ("graph.connections", "tokens.tokens"))


def _step(step: int, direction: str, kept: list[str]) -> str:
    """One step: the connections at the last frontier that lead to what was not reached yet."""
    branches = []
    for near, far, condition, label in _BRANCHES[direction]:
        conditions = [*([condition] if condition else []), *kept, f"c.{far} <> f.start_id"]
        branches.append(
            f"SELECT f.place, f.start_id, c.{far} AS neighbor_id, c.id AS connection_id,"
            f" c.connection_type, c.weight, {label} AS direction"
            f" FROM step_{step - 1} AS f JOIN graph.connections AS c ON c.{near} = f.neighbor_id"
            f"{clause(conditions)}"
        )
    fresh = [
        f"NOT EXISTS (SELECT FROM step_{earlier} AS e"
        " WHERE e.place = found.place AND e.neighbor_id = found.neighbor_id)"
        for earlier in range(1, step)
    ]
    return (
        "SELECT DISTINCT ON (place, neighbor_id) * FROM"
        f" ({' UNION ALL '.join(branches)}) AS found{clause(fresh)}"
        " ORDER BY place, neighbor_id, connection_id, direction DESC"
    )


def degree(ids: Sequence[str] | None) -> Query:
    """In, out and total degree of the tokens asked, or of all; a loop counts once each way.

    As in a networkx MultiDiGraph in which a bidirectional connection is two arcs.
    """
    if ids is None:
        asked = (
            "SELECT id, row_number() OVER (ORDER BY id) AS place, true AS found FROM tokens.tokens"
        )
        wanted = ""
    else:
        asked = (
            "SELECT a.id, a.place, t.id IS NOT NULL AS found"
            f" FROM unnest({sql.uuid_array(ids)}) WITH ORDINALITY AS a (id, place)"
            " LEFT JOIN tokens.tokens AS t USING (id)"
        )
        wanted = " AND c.{} IN (SELECT id FROM asked)"
    arcs = " UNION ALL ".join(
        f"SELECT c.{end}, {is_out}::int, {1 - is_out}::int FROM graph.connections AS c"
        f" WHERE {condition}{wanted.format(end)}"
        for end, is_out, condition in (
            ("source_id", 1, "true"),
            ("target_id", 0, "true"),
            ("target_id", 1, "c.bidirectional AND c.source_id <> c.target_id"),
            ("source_id", 0, "c.bidirectional AND c.source_id <> c.target_id"),
        )
    )
    statement = (
        f"WITH asked AS MATERIALIZED ({asked}), arcs (id, out_arc, in_arc) AS ({arcs}),"
        " degrees AS (SELECT id, sum(in_arc) AS ins, sum(out_arc) AS outs FROM arcs GROUP BY id)"
        f' SELECT NOT a.found AS "{UNKNOWN}", a.id::text AS token_id,'
        " coalesce(ins, 0)::int8 AS in_degree, coalesce(outs, 0)::int8 AS out_degree,"
        " coalesce(ins + outs, 0)::int8 AS total_degree"
        " FROM asked AS a LEFT JOIN degrees USING (id) ORDER BY a.place"
    )
    columns = (
        Column(UNKNOWN, Kind.BOOLEAN),
        Column("token_id", Kind.TEXT),
        *(Column(name, Kind.INTEGER) for name in ("in_degree", "out_degree", "total_degree")),
    )
    return Query(statement, columns, ("graph.connections", "tokens.tokens"))


def edges(
    source: Sequence[str] | None,
    target: Sequence[str] | None,
    connection_type: str | Sequence[str] | None = None,
) -> Query:
    """Connections as they are stored, from any of the sources to any of the targets."""
    conditions = any_of("connection_type", connection_type)
    if source is not None:
        conditions.append(f"source_id = ANY ({sql.uuid_array(source)})")
    if target is not None:
        conditions.append(f"target_id = ANY ({sql.uuid_array(target)})")
    statement = (
        "SELECT id::text AS connection_id, source_id::text AS source_id,"
        " target_id::text AS target_id, connection_type, weight, bidirectional"
        f" FROM graph.connections{clause(conditions)}"
    )
    columns = (
        *(Column(name, Kind.TEXT) for name in ("connection_id", "source_id", "target_id")),
        Column("connection_type", Kind.TEXT),
        Column("weight", Kind.FLOAT),
        Column("bidirectional", Kind.BOOLEAN),
    )
    return Query(statement, columns, ("graph.connections",))
