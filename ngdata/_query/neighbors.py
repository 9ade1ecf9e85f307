"""Reads of what tokens are connected to: neighbors, degrees, and the graph around tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from ngdata._arguments.levels import Level, level_index
from ngdata._arguments.numbers import as_flag, non_negative, positive, whole
from ngdata._arguments.texts import as_texts, checked_word
from ngdata._query import literals as sql
from ngdata._query.asked import Asked
from ngdata._query.attributes import TOKENS
from ngdata._query.edges import CONNECTIONS
from ngdata._query.filters import any_of, at_least, checked_limit, row_limit, where_clause
from ngdata._query.footprints import ANYTHING, Footprint
from ngdata._query.model import (
    FEW_IDS,
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
from ngdata._query.places import SPATIAL_INDEX, Place
from ngdata.errors import InvalidQueryError

__all__ = [
    "BRANCHES",
    "Direction",
    "checked_direction",
    "degree",
    "neighbors",
    "reached",
    "steps_below",
    "subgraph",
]

Direction: TypeAlias = Literal["outgoing", "incoming", "both"]

_MAX_DEPTH: Final = 32

_NEIGHBORS: Final = {
    Column("token_id", Kind.TOKEN_ID): "token_id::text",
    Column("neighbor_id", Kind.TOKEN_ID): "neighbor_id::text",
    Column("connection_id", Kind.TEXT): "connection_id::text",
    Column("connection_type", Kind.TEXT): "connection_type",
    Column("weight", Kind.FLOAT): "weight",
    Column("direction", Kind.TEXT): "direction",
    Column("depth", Kind.INTEGER): "depth",
}

# Columns of the connection that a step carries along only if the caller names them.
_ON_REQUEST: Final = {
    Column("bidirectional", Kind.BOOLEAN): "bidirectional",
    Column("decay_rate", Kind.FLOAT): "decay_rate",
    Column("metadata", Kind.JSON): "metadata::text",
    Column("created_at", Kind.TIME): "created_at",
}

BRANCHES: Final = {
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
"""Per direction: the end that a step starts from, the end it leads to, a condition, and the label.

A bidirectional connection can be followed from both ends, so it is outgoing from both.  The two
branches of a direction never yield the same connection twice for one start.
"""


def checked_direction(direction: str) -> str:
    """Check a direction."""
    return checked_word(direction, tuple(BRANCHES), "direction")


def neighbors(
    ids: Sequence[str],
    direction: str,
    depth: int = 1,
    connection_type: str | Sequence[str] | None = None,
    min_weight: float | None = None,
    limit: int | None = None,
    within: float | None = None,
    level: Level = 0,
    columns: Sequence[str] | None = None,
) -> Query:
    """Read the tokens that can be reached in at most `depth` steps, each once per start.

    Frontier by frontier: step d starts from the tokens that step d - 1 reached first, so the cost
    grows with the neighborhood and not with the number of paths in it.  `within` keeps the tokens
    that are at most this far from their start on a level.
    """
    direction = checked_direction(direction)
    max_depth = positive(depth, "depth", _MAX_DEPTH)
    limit = checked_limit(limit)
    types = None if connection_type is None else as_texts(connection_type, "connection_type")
    conditions = any_of("c.connection_type", types) + at_least("c.weight", min_weight)
    distance = {} if within is None else {Column("distance", Kind.FLOAT): "distance"}
    default = {**_NEIGHBORS, **distance}
    selected = choose({**default, **_ON_REQUEST}, columns, [column.name for column in default])
    carried = [column.name for column in selected if column in _ON_REQUEST]
    reached = " UNION ALL ".join(
        f"SELECT *, {step}::int AS depth FROM step_{step}" for step in range(1, max_depth + 1)
    )
    relations: tuple[str, ...] = (CONNECTIONS, TOKENS)
    distance_level = None
    if within is not None:
        relations += (SPATIAL_INDEX, LEVELS)
        distance_level = level_index(level)
        reached = _within(reached, within, distance_level)
    starts = (
        "starts AS MATERIALIZED (SELECT *"
        f" FROM unnest({sql.uuid_array(ids)}) WITH ORDINALITY AS a (start_id, position))"
    )
    further = "".join(f", {name}" for name in [*(c.name for c in distance), *carried])
    selected = {MISSING_ID: "missing_id", **selected}
    statement = (
        f"WITH {_steps(starts, direction, max_depth, conditions, carried)}"
        f" SELECT {select_list(selected)} FROM ("
        "(SELECT NULL::text AS missing_id, position, start_id AS token_id, neighbor_id,"
        f" connection_id, connection_type, weight, direction, depth{further}"
        f" FROM ({reached}) AS reached"
        f" ORDER BY position, depth, reached.neighbor_id{row_limit(limit)})"
        " UNION ALL SELECT start_id::text, position, start_id, NULL, NULL, NULL, NULL, NULL, 0"
        f"{', NULL' * further.count(',')} FROM starts"
        f" WHERE NOT EXISTS (SELECT FROM {TOKENS} AS t WHERE t.id = start_id)"
        ") AS answer ORDER BY position, depth, answer.neighbor_id"
    )
    is_lookup = max_depth == 1 and within is None and len(ids) <= FEW_IDS
    footprint = ANYTHING
    if within is None:
        # The connections of the starts, and of all that was reached before the last step.
        is_known = max_depth == 1 or (
            limit is None and any(column.name == "neighbor_id" for column in selected)
        )
        footprint = Footprint(
            token_ids=ids,
            ends=ids if is_known else None,
            ends_in=None if max_depth == 1 else "neighbor_id",
        )
    return Query(
        statement,
        tuple(selected),
        relations,
        is_lookup=is_lookup,
        id_noun="token",
        level=distance_level,
        asked=None if limit == 0 else Asked("connections", types),
        footprint=footprint,
    )


def _steps(
    starts: str, direction: str, max_depth: int, conditions: list[str], carried: list[str]
) -> str:
    """Write the common table expressions of `starts` and of all steps."""
    steps = [
        starts,
        "step_0 AS (SELECT position, start_id, start_id AS neighbor_id FROM starts)",
        *(
            f"step_{step} AS MATERIALIZED ({_step(step, direction, conditions, carried)})"
            for step in range(1, max_depth + 1)
        ),
    ]
    return ", ".join(steps)


def _step(step: int, direction: str, conditions: list[str], carried: list[str]) -> str:
    """Write one step: the connections from the last frontier to tokens not reached before."""
    further = "".join(f", c.{name}" for name in carried)
    branches = []
    for start, end, condition, label in BRANCHES[direction]:
        branch = [*([condition] if condition else []), *conditions, f"c.{end} <> f.start_id"]
        branches.append(
            f"SELECT f.position, f.start_id, c.{end} AS neighbor_id, c.id AS connection_id,"
            f" c.connection_type, c.weight, {label} AS direction{further}"
            f" FROM step_{step - 1} AS f JOIN graph.connections AS c ON c.{start} = f.neighbor_id"
            f"{where_clause(branch)}"
        )
    not_before = [
        f"NOT EXISTS (SELECT FROM step_{earlier} AS e"
        " WHERE e.position = n.position AND e.neighbor_id = n.neighbor_id)"
        for earlier in range(1, step)
    ]
    return (
        "SELECT DISTINCT ON (position, neighbor_id) * FROM"
        f" ({' UNION ALL '.join(branches)}) AS n{where_clause(not_before)}"
        " ORDER BY position, neighbor_id, connection_id, direction DESC"
    )


def _within(reached: str, within: float, level: int) -> str:
    """Restrict reached tokens to those near their start, and add the distance."""
    radius = non_negative(within, "within", "; connections(within=) takes a region")
    return (
        f"SELECT r.*, far.geom <<->> near.geom AS distance FROM ({reached}) AS r"
        f" JOIN {SPATIAL_INDEX} AS near ON near.level = {level} AND near.token_id = r.start_id"
        f" JOIN {SPATIAL_INDEX} AS far ON far.level = {level}"
        f" AND far.token_id = r.neighbor_id WHERE far.geom <<->> near.geom <= {sql.float8(radius)}"
    )


# Each column's expression in the row of a token, and in the row of a connection.
_SUBGRAPH: Final = {
    MISSING_ID: ("CASE WHEN t.id IS NULL THEN m.id::text END", "NULL"),
    Column("depth", Kind.OPTIONAL_INTEGER): ("m.depth", "NULL"),
    Column("token_id", Kind.OPTIONAL_TOKEN_ID): ("m.id::text", "NULL"),
    Column("token_type", Kind.TEXT): ("t.token_type", "NULL"),
    Column("flags", Kind.OPTIONAL_INTEGER): ("t.flags", "NULL"),
    Column("timestamp", Kind.TIME): ('t."timestamp"', "NULL"),
    Column("coords", Kind.COORDS): ("t.coord_x || t.coord_y || t.coord_z", "NULL"),
    Column("weight", Kind.FLOAT): ("t.weight", "c.weight"),
    Column("connection_id", Kind.TEXT): ("NULL::text", "c.id::text"),
    Column("source_id", Kind.OPTIONAL_TOKEN_ID): ("NULL::text", "c.source_id::text"),
    Column("target_id", Kind.OPTIONAL_TOKEN_ID): ("NULL::text", "c.target_id::text"),
    Column("connection_type", Kind.TEXT): ("NULL::text", "c.connection_type"),
    Column("bidirectional", Kind.BOOLEAN): ("false", "c.bidirectional"),
}


# One step of `reached`: minus a month, plus 30 days.
_ONE_STEP: Final = "interval '-1 month 30 days'"
_DAYS_OF_STEP: Final = 30


def reached(
    ids: Sequence[str],
    max_depth: int | None,
    direction: str,
    conditions: list[str],
    name: str = "reached",
    within: Place | None = None,
) -> str:
    """Write the recursive expression of the tokens within a depth, each once, with its `steps`.

    UNION discards a row that equals an earlier one, so that each token is followed once, at its
    least depth.  For that, the depth must not tell two rows apart: an interval compares a month as
    30 days, so d times `_ONE_STEP` equals 0 whatever d is, but its field of days is 30 d.

    Each token leads to its connections through their index, which OFFSET 0 fixes: the plan is the
    same for all steps, and one that reads all connections would read them in each.  With `within`,
    starts and steps outside of the region are left out, so only what is reached inside is followed.
    """
    ends = " UNION ALL ".join(
        f"SELECT c.{end} AS id FROM {CONNECTIONS} AS c"
        f"{where_clause([f'c.{start} = f.id', *([condition] if condition else []), *conditions])}"
        for start, end, condition, _ in BRANCHES[direction]
    )
    starts = [] if within is None else [_is_inside("a.id", within)]
    steps = [] if max_depth is None else [steps_below(max_depth, "f")]
    if within is not None:
        steps.append(_is_inside("n.id", within))
    return (
        f"{name} (id, steps) AS (SELECT a.id, interval '0'"
        f" FROM unnest({sql.uuid_array(ids)}) AS a (id){where_clause(starts)}"
        f" UNION SELECT n.id, f.steps + {_ONE_STEP}"
        f" FROM {name} AS f CROSS JOIN LATERAL ({ends} OFFSET 0) AS n{where_clause(steps)})"
    )


def steps_below(depth: int, alias: str) -> str:
    """Write the condition that a row of `reached` has fewer steps."""
    return f"extract(day FROM {alias}.steps) < {sql.integer(_DAYS_OF_STEP * depth)}"


def _is_inside(token_id: str, within: Place) -> str:
    """Write the condition that a token is in a region, of which only the token's own row is read.

    As conditions of the sub-select, they would let the planner read the whole region for each token.
    """
    return (
        f"(SELECT {' AND '.join(within.conditions())} FROM {SPATIAL_INDEX}"
        f" WHERE level = {within.level} AND token_id = {token_id})"
    )


def subgraph(
    ids: Sequence[str] | None,
    depth: int | None,
    direction: str,
    connection_type: str | Sequence[str] | None = None,
    min_weight: float | None = None,
    within: Place | None = None,
) -> Query:
    """Read the tokens within `depth` steps of any start (None: all reached), and their connections.

    Without starts, the tokens are all those in a region.  With both, no step leaves the region.
    A row per token, by depth and id; then a row per connection, by id.
    """
    direction = checked_direction(direction)
    max_depth = None if depth is None else whole(depth, "depth", 0, 2**31 - 1)
    types = None if connection_type is None else as_texts(connection_type, "connection_type")
    conditions = any_of("c.connection_type", types) + at_least("c.weight", min_weight)
    tokens = select_list({column: token for column, (token, _) in _SUBGRAPH.items()})
    connections = ", ".join(connection for _, connection in _SUBGRAPH.values())
    # As in edges.py: the plan must not depend on the estimated number of members.
    among = ["(c.target_id IN (SELECT id FROM members)) IS TRUE", *conditions]
    relations: tuple[str, ...] = (CONNECTIONS, TOKENS)
    asked = None
    if within is not None:
        relations += (SPATIAL_INDEX,)
        asked = Asked("tokens").within(within)
    if ids is None:
        if within is None:
            raise InvalidQueryError("subgraph needs the ids of tokens, a region (within=), or both")
        members = (
            f"members AS MATERIALIZED (SELECT token_id AS id, 0 AS depth FROM {SPATIAL_INDEX}"
            f"{where_clause(within.conditions())})"
        )
        unknown = ""
    else:
        # Ids are unique already.  GROUP BY keeps the estimate of their number low enough for a hash
        # table.
        members = (
            f"RECURSIVE {reached(ids, max_depth, direction, conditions, within=within)},"
            f" members AS MATERIALIZED (SELECT id, (extract(day FROM min(steps)) / {_DAYS_OF_STEP})"
            "::int AS depth FROM reached GROUP BY id)"
        )
        # A start outside of the region is left out, but one that the store does not have is an error.
        unknown = (
            ""
            if within is None
            else f" UNION ALL SELECT id, 0 FROM unnest({sql.uuid_array(ids)}) AS a (id)"
            f" WHERE NOT EXISTS (SELECT FROM {TOKENS} AS t WHERE t.id = a.id)"
        )
    statement = (
        f"WITH {members} (SELECT {tokens} FROM (SELECT * FROM members{unknown}) AS m"
        f" LEFT JOIN {TOKENS} AS t USING (id)"
        f" ORDER BY m.depth, m.id) UNION ALL (SELECT {connections} FROM members AS m"
        f" JOIN {CONNECTIONS} AS c ON c.source_id = m.id{where_clause(among)} ORDER BY c.id)"
    )
    # A connection or a token that leads further has an end among the members, or enters the region.
    starts = () if ids is None else ids
    footprint = Footprint(
        place=within, token_ids=starts, tokens_in="token_id", ends=starts, ends_in="token_id"
    )
    return Query(
        statement,
        tuple(_SUBGRAPH),
        relations,
        has_limit=False,
        id_noun="token",
        asked=asked,
        footprint=footprint,
    )


def degree(ids: Sequence[str] | None, weighted: bool = False) -> Query:
    """Read the in, out and total degree of tokens, or of all; a loop counts once in and once out.

    They are those of a networkx MultiDiGraph in which a bidirectional connection is two arcs.
    `weighted` adds the sums of the weights.
    """
    if ids is None:
        nodes = (
            "SELECT id, row_number() OVER (ORDER BY id) AS position, NULL::text AS missing_id"
            f" FROM {TOKENS}"
        )
        restriction = ""
    else:
        nodes = (
            f"SELECT requested.id, requested.position, {MISSING_ID_SQL} AS missing_id"
            f" FROM {requested(ids, TOKENS)}"
        )
        restriction = " AND c.{} IN (SELECT id FROM nodes)"
    arcs = " UNION ALL ".join(
        f"SELECT c.{end}, {is_out}::int, {1 - is_out}::int, c.weight FROM graph.connections AS c"
        f" WHERE {condition}{restriction.format(end)}"
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
        Column("token_id", Kind.TOKEN_ID),
        *(Column(name, Kind.INTEGER) for name in ("in_degree", "out_degree", "total_degree")),
    )
    if as_flag(weighted, "weighted"):
        sums = ", sum(weight * in_arc) AS in_sum, sum(weight * out_arc) AS out_sum"
        weights = (
            ", coalesce(in_sum, 0) AS in_weight, coalesce(out_sum, 0) AS out_weight,"
            " coalesce(in_sum + out_sum, 0) AS total_weight"
        )
        columns += tuple(
            Column(name, Kind.FLOAT) for name in ("in_weight", "out_weight", "total_weight")
        )
    statement = (
        f"WITH nodes AS MATERIALIZED ({nodes}), arcs (id, out_arc, in_arc, weight) AS ({arcs}),"
        f" degrees AS (SELECT id, sum(in_arc) AS ins, sum(out_arc) AS outs{sums}"
        " FROM arcs GROUP BY id)"
        " SELECT n.missing_id, n.id::text AS token_id,"
        " coalesce(ins, 0)::int8 AS in_degree, coalesce(outs, 0)::int8 AS out_degree,"
        f" coalesce(ins + outs, 0)::int8 AS total_degree{weights}"
        " FROM nodes AS n LEFT JOIN degrees USING (id) ORDER BY n.position"
    )
    footprint = ANYTHING if ids is None else Footprint(token_ids=ids, ends=ids)
    return Query(
        statement,
        columns,
        (CONNECTIONS, TOKENS),
        has_limit=False,
        id_noun="token",
        footprint=footprint,
    )
