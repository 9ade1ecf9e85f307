"""What tokens are connected to: neighbors, degrees, and the part of the graph around tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from ngdata._arguments.levels import Level, level_index
from ngdata._arguments.numbers import as_float, positive
from ngdata._query import edges as stored
from ngdata._query import literals as sql
from ngdata._query.filters import any_of, clause, row_limit, smallest_weight
from ngdata._query.model import MISSING_ID, Column, Kind, Query
from ngdata.errors import InvalidQueryError

__all__ = ["Direction", "checked_direction", "degree", "neighbors", "subgraph"]

Direction: TypeAlias = Literal["outgoing", "incoming", "both"]

_DEEPEST: Final = 32

_NEIGHBORS: Final = (
    MISSING_ID,
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


def checked_direction(direction: str) -> str:
    """Check a direction."""
    return stored.one_of(direction, tuple(_BRANCHES), "direction")


def neighbors(
    ids: Sequence[str],
    direction: str,
    depth: int = 1,
    connection_type: str | Sequence[str] | None = None,
    min_weight: float | None = None,
    limit: int | None = None,
    within: float | None = None,
    level: Level = 0,
) -> Query:
    """Each token that can be reached in at most `depth` steps, once per start.

    Frontier by frontier: step d starts from what step d - 1 reached first, so the cost follows the
    neighborhood and not the number of paths in it.  `within` keeps of those reached the ones so near to their start on a level.
    """
    checked_direction(direction)
    deepest = positive(depth, "depth", _DEEPEST)
    kept = any_of("c.connection_type", connection_type) + smallest_weight(min_weight, "c.weight")
    reached = " UNION ALL ".join(
        f"SELECT *, {step}::int AS depth FROM step_{step}" for step in range(1, deepest + 1)
    )
    names = "connection_id, connection_type, weight, direction, depth"
    columns: tuple[Column, ...] = _NEIGHBORS
    relations: tuple[str, ...] = ("graph.connections", "tokens.tokens")
    distance, nothing = "", ""
    if within is not None:
        columns += (Column("distance", Kind.FLOAT),)
        relations += ("tokens.spatial_index",)
        distance, nothing = ", distance", ", NULL"
        reached = _near(reached, within, level_index(level))
    statement = (
        f"WITH {_steps(_ASKED.format(sql.uuid_array(ids)), direction, deepest, kept)}"
        " SELECT missing_id, token_id::text AS token_id,"
        " neighbor_id::text AS neighbor_id, connection_id::text AS connection_id,"
        f" connection_type, weight, direction, depth{distance} FROM ("
        "(SELECT NULL::text AS missing_id, place, start_id AS token_id, neighbor_id,"
        f" {names}{distance}"
        f" FROM ({reached}) AS reached"
        f" ORDER BY place, depth, reached.neighbor_id{row_limit(limit)})"
        " UNION ALL SELECT start_id::text, place, start_id, NULL, NULL, NULL, NULL, NULL, 0"
        f"{nothing} FROM asked"
        " WHERE NOT EXISTS (SELECT FROM tokens.tokens AS t WHERE t.id = start_id)"
        ") AS answer ORDER BY place, depth, answer.neighbor_id"
    )
    return Query(statement, columns, relations, id_noun="token")


_ASKED: Final = (
    "asked AS MATERIALIZED (SELECT * FROM unnest({}) WITH ORDINALITY AS a (start_id, place))"
)


def _steps(asked: str, direction: str, deepest: int, kept: list[str]) -> str:
    steps = [asked, "step_0 AS (SELECT place, start_id, start_id AS neighbor_id FROM asked)"]
    steps += [
        f"step_{step} AS MATERIALIZED ({_step(step, direction, kept)})"
        for step in range(1, deepest + 1)
    ]
    return ", ".join(steps)


def _near(reached: str, within: float, level: int) -> str:
    radius = as_float(within)
    if radius is None or radius < 0:
        raise InvalidQueryError(
            f"within must be a radius here, a number of at least 0, not {within!r}; connections() "
            "takes a region"
        )
    return (
        f"SELECT r.*, far.geom <<->> near.geom AS distance FROM ({reached}) AS r"
        f" JOIN tokens.spatial_index AS near ON near.level = {level} AND near.token_id = r.start_id"
        f" JOIN tokens.spatial_index AS far ON far.level = {level}"
        f" AND far.token_id = r.neighbor_id WHERE far.geom <<->> near.geom <= {sql.float8(radius)}"
    )


_SUBGRAPH: Final = {
    MISSING_ID: ("CASE WHEN t.id IS NULL THEN m.id::text END", "NULL"),
    Column("depth", Kind.OPTIONAL_INTEGER): ("m.depth", "NULL"),
    Column("token_id", Kind.TEXT): ("m.id::text", "NULL"),
    Column("token_type", Kind.TEXT): ("t.token_type", "NULL"),
    Column("flags", Kind.OPTIONAL_INTEGER): ("t.flags", "NULL"),
    Column("timestamp", Kind.TIME): ('t."timestamp"', "NULL"),
    Column("coords", Kind.COORDS): ("t.coord_x || t.coord_y || t.coord_z", "NULL"),
    Column("weight", Kind.FLOAT): ("t.weight", "c.weight"),
    Column("connection_id", Kind.TEXT): ("NULL::text", "c.id::text"),
    Column("source_id", Kind.TEXT): ("NULL::text", "c.source_id::text"),
    Column("target_id", Kind.TEXT): ("NULL::text", "c.target_id::text"),
    Column("connection_type", Kind.TEXT): ("NULL::text", "c.connection_type"),
    Column("bidirectional", Kind.BOOLEAN): ("false", "c.bidirectional"),
}


def subgraph(
    ids: Sequence[str],
    depth: int,
    direction: str,
    connection_type: str | Sequence[str] | None = None,
    min_weight: float | None = None,
) -> Query:
    """The tokens within some steps of any start, and the connections among them, in one snapshot.

    First a row per token, by depth and id, then a row per connection, by id.
    """
    checked_direction(direction)
    deepest = (
        0 if depth == 0 and not isinstance(depth, bool) else positive(depth, "depth", _DEEPEST)
    )
    kept = any_of("c.connection_type", connection_type) + smallest_weight(min_weight, "c.weight")
    # All starts are one: only the least depth of a token counts.
    asked = (
        f"asked AS MATERIALIZED (SELECT a.start_id, 1 AS place FROM unnest({sql.uuid_array(ids)})"
        " AS a (start_id))"
    )
    reached = " UNION ALL ".join(
        f"SELECT neighbor_id, {step} AS depth FROM step_{step}" for step in range(deepest + 1)
    )
    tokens = ", ".join(f'{token} AS "{c.name}"' for c, (token, _) in _SUBGRAPH.items())
    edges = ", ".join(edge for _, edge in _SUBGRAPH.values())
    # As in edges.py: the planner's guess of how many members there are must not matter.
    among = ["(c.target_id IN (SELECT id FROM members)) IS TRUE", *kept]
    statement = (
        f"WITH {_steps(asked, direction, deepest, kept)}, members AS MATERIALIZED ("
        f"SELECT neighbor_id AS id, min(depth) AS depth FROM ({reached}) AS r GROUP BY neighbor_id)"
        f" (SELECT {tokens} FROM members AS m LEFT JOIN tokens.tokens AS t USING (id)"
        f" ORDER BY m.depth, m.id) UNION ALL (SELECT {edges} FROM members AS m"
        f" JOIN graph.connections AS c ON c.source_id = m.id{clause(among)} ORDER BY c.id)"
    )
    relations = ("graph.connections", "tokens.tokens")
    return Query(statement, tuple(_SUBGRAPH), relations, has_limit=False, id_noun="token")


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


def degree(ids: Sequence[str] | None, weighted: bool = False) -> Query:
    """In, out and total degree of the tokens asked, or of all; a loop counts once each way.

    `weighted` adds the sums of the weights.  As in a networkx MultiDiGraph in which a bidirectional connection is two arcs.
    """
    if ids is None:
        asked = (
            "SELECT id, row_number() OVER (ORDER BY id) AS place, NULL::text AS missing_id"
            " FROM tokens.tokens"
        )
        wanted = ""
    else:
        asked = (
            "SELECT a.id, a.place, CASE WHEN t.id IS NULL THEN a.id::text END AS missing_id"
            f" FROM unnest({sql.uuid_array(ids)}) WITH ORDINALITY AS a (id, place)"
            " LEFT JOIN tokens.tokens AS t USING (id)"
        )
        wanted = " AND c.{} IN (SELECT id FROM asked)"
    arcs = " UNION ALL ".join(
        f"SELECT c.{end}, {is_out}::int, {1 - is_out}::int, c.weight FROM graph.connections AS c"
        f" WHERE {condition}{wanted.format(end)}"
        for end, is_out, condition in (
            ("source_id", 1, "true"),
            ("target_id", 0, "true"),
            ("target_id", 1, "c.bidirectional AND c.source_id <> c.target_id"),
            ("source_id", 0, "c.bidirectional AND c.source_id <> c.target_id"),
        )
    )
    sums, weights = "", ""
    columns: tuple[Column, ...] = (
        MISSING_ID,
        Column("token_id", Kind.TEXT),
        *(Column(name, Kind.INTEGER) for name in ("in_degree", "out_degree", "total_degree")),
    )
    if weighted:
        sums = ", sum(weight * in_arc) AS in_sum, sum(weight * out_arc) AS out_sum"
        weights = (
            ", coalesce(in_sum, 0) AS in_weight, coalesce(out_sum, 0) AS out_weight,"
            " coalesce(in_sum + out_sum, 0) AS total_weight"
        )
        columns += tuple(
            Column(name, Kind.FLOAT) for name in ("in_weight", "out_weight", "total_weight")
        )
    statement = (
        f"WITH asked AS MATERIALIZED ({asked}), arcs (id, out_arc, in_arc, weight) AS ({arcs}),"
        f" degrees AS (SELECT id, sum(in_arc) AS ins, sum(out_arc) AS outs{sums}"
        " FROM arcs GROUP BY id)"
        " SELECT a.missing_id, a.id::text AS token_id,"
        " coalesce(ins, 0)::int8 AS in_degree, coalesce(outs, 0)::int8 AS out_degree,"
        f" coalesce(ins + outs, 0)::int8 AS total_degree{weights}"
        " FROM asked AS a LEFT JOIN degrees USING (id) ORDER BY a.place"
    )
    relations = ("graph.connections", "tokens.tokens")
    return Query(statement, columns, relations, has_limit=False, id_noun="token")
