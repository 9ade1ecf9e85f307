"""Reads of shortest paths: a search by the server as far as that pays, and all arcs of a graph.

The server's function `graph.shortest_path` needs a quarter of a millisecond for each round of its
search, whatever the round finds.  Where many rounds are needed, reading all connections and
searching in memory is quicker, unless they are too many.  So the server searches for some rounds
only.  If the path may be longer (`FAR`), and neither end is cut off from the other by having few
tokens around it, `ngdata._client.path_search` finds the path in the rows of `arcs`: the same one as
the function without a bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ngdata._arguments.numbers import as_flag, positive
from ngdata._query import literals as sql
from ngdata._query.edges import CONNECTIONS
from ngdata._query.filters import any_of, where_clause
from ngdata._query.footprints import Footprint
from ngdata._query.model import MISSING_ID, Column, Kind, Query, select_list
from ngdata._query.neighbors import BRANCHES, checked_direction, reached, steps_below

__all__ = [
    "BACKWARDS",
    "FAR",
    "IS_NEGATIVE",
    "SOON_READ",
    "arcs",
    "cut_off",
    "lengths",
    "shortest_path",
]

IS_NEGATIVE: Final = "is_negative"
"""A column that is true in the row of a connection of negative weight, and false in all steps."""

FAR: Final = "far"
"""A column that is the size of the table of connections, in bytes, in the only row of a search that
ended before it was complete; 0 in all other rows."""

# The sizes of the table of connections, in bytes, between which a search has a bound.  A page is
# searched to the end in no time; beyond a million rows, reading them all takes too long and too much
# memory.
_MIN_READ: Final = 8192
_MAX_READ: Final = 128 << 20
# How much of the table is read in the time of a round, and the least number of rounds.
_READ_PER_ROUND: Final = 32 << 10
_MIN_ROUNDS: Final = 8
SOON_READ: Final = 1 << 20
"""The size of a table, in bytes, that is read as soon as anything about its paths is found out."""

_SIZE: Final = f"pg_relation_size('{CONNECTIONS}'::regclass) AS bytes"

BACKWARDS: Final = {"outgoing": "incoming", "incoming": "outgoing", "both": "both"}
"""The direction in which a search from the target goes, by that from the source."""

_CHECKS: Final = (
    MISSING_ID,
    Column(IS_NEGATIVE, Kind.BOOLEAN),
    Column(FAR, Kind.INTEGER),
)

# Each column's expression in the row of a connection, of a step, and in a row without either.
_PATH: Final = {
    Column("step", Kind.INTEGER): ("0", "p.step", "0"),
    Column("source_id", Kind.TOKEN_ID): ("c.source_id::text", "p.source_id::text", "NULL::text"),
    Column("target_id", Kind.TOKEN_ID): ("c.target_id::text", "p.target_id::text", "NULL::text"),
    Column("connection_id", Kind.TEXT): ("c.id::text", "p.connection_id::text", "NULL::text"),
    Column("connection_type", Kind.TEXT): (
        "c.connection_type",
        "p.connection_type",
        "NULL::text",
    ),
    Column("weight", Kind.FLOAT): ("c.weight", "p.weight", "NULL::float8"),
}

# Each column's expression in the row of a connection, and in a row without.  Ids are 16 bytes.
_ARCS: Final = {
    Column("connection_id", Kind.BYTES): ("uuid_send(c.id)", "NULL::bytea"),
    Column("source_id", Kind.BYTES): ("uuid_send(c.source_id)", "NULL::bytea"),
    Column("target_id", Kind.BYTES): ("uuid_send(c.target_id)", "NULL::bytea"),
    Column("connection_type", Kind.TEXT): ("c.connection_type", "NULL::text"),
    Column("weight", Kind.FLOAT): ("c.weight", "NULL::float8"),
    Column("bidirectional", Kind.BOOLEAN): ("c.bidirectional", "false"),
}


def arcs(connection_type: Sequence[str] | None = None) -> Query:
    """Read all connections of some types, unordered: what paths lead along."""
    columns = {column: expressions[0] for column, expressions in _ARCS.items()}
    conditions = any_of("c.connection_type", connection_type)
    statement = f"SELECT {select_list(columns)} FROM {CONNECTIONS} AS c{where_clause(conditions)}"
    return Query(statement, tuple(columns), (CONNECTIONS,))


def shortest_path(
    source: str,
    target: str,
    *,
    weighted: bool = False,
    max_depth: int | None = None,
    connection_type: Sequence[str] | None = None,
    direction: str = "outgoing",
) -> Query:
    """Read the steps of a path; if `weighted`, before them one connection of negative weight.

    Or read one row that is far, if the search ended at its bound.
    """
    types = "NULL::text[]" if connection_type is None else sql.text_array(connection_type)
    is_weighted = bool(as_flag(weighted, "weighted"))
    max_steps = "NULL::int" if max_depth is None else str(positive(max_depth, "max_depth"))
    direction = checked_direction(direction)
    conditions = any_of("c.connection_type", connection_type)

    def path(by_weight: bool, steps: str) -> str:
        ends = f"({sql.uuid_array([source])})[1], ({sql.uuid_array([target])})[1]"
        weight = "true" if by_weight else "false"
        return f"graph.shortest_path({ends}, '{direction}', {types}, {weight}, {steps}) AS p"

    before = ""
    parts = _checks([source, target], conditions if is_weighted else None, _PATH)
    steps = f"SELECT NULL, false, 0, {', '.join(step for _, step, _ in _PATH.values())} FROM "
    if source == target or (max_depth is not None and max_depth <= _MIN_ROUNDS):
        parts.append(steps + path(is_weighted, max_steps))
    else:
        # By weight, a search by steps says whether the path may be long; it is a small part of the
        # search by weight, which may need many rounds even for a path of few steps.
        soon = f"WHEN b.bytes <= {SOON_READ} THEN true " if is_weighted else ""
        before = (
            f"WITH bounds AS MATERIALIZED ({_bounds(max_steps)}),"
            f" near AS MATERIALIZED (SELECT p.* FROM bounds AS b, {path(False, 'b.rounds')}),"
            " far AS MATERIALIZED (SELECT CASE"
            f" WHEN b.rounds IS NOT DISTINCT FROM {max_steps} THEN false {soon}"
            "ELSE NOT EXISTS (SELECT FROM near) END AS is_far, b.bytes FROM bounds AS b) "
        )
        parts.append(_far_row(_PATH))
        parts.append(
            f"{steps}(SELECT FROM far WHERE NOT is_far) AS f, {path(True, max_steps)}"
            if is_weighted
            else f"{steps}near AS p"
        )
    statement = f"{before}{' UNION ALL '.join(parts)} ORDER BY step"
    return Query(
        statement,
        (*_CHECKS, *_PATH),
        (CONNECTIONS, "tokens.tokens"),
        id_noun="token",
        footprint=Footprint(token_ids=(source, target)),
    )


def cut_off(
    source: str,
    target: str,
    connection_type: Sequence[str] | None = None,
    direction: str = "outgoing",
) -> Query:
    """Read whether one of two tokens has few tokens around it, and the other is not among them.

    Few are fewer than the rounds of a search: no more are followed.
    """
    conditions = any_of("c.connection_type", connection_type)
    sides = (
        ("ahead", source, target, direction),
        ("behind", target, source, BACKWARDS[direction]),
    )
    expressions = ", ".join(
        reached([start], None, way, conditions, name) for name, start, _, way in sides
    )
    are_cut_off = " OR ".join(
        f"(SELECT count(*) < b.rounds AND NOT bool_or(id = ({sql.uuid_array([end])})[1])"
        f" FROM (SELECT id FROM {name} LIMIT (SELECT rounds FROM bounds)) AS {name}_first)"
        for name, _, end, _ in sides
    )
    statement = (
        f"WITH RECURSIVE bounds AS MATERIALIZED (SELECT {_rounds()} AS rounds FROM {_SIZE}), {expressions}"
        f" SELECT {are_cut_off} AS is_cut_off FROM bounds AS b"
    )
    return Query(statement, (Column("is_cut_off", Kind.BOOLEAN),), (CONNECTIONS,), has_limit=False)


def _bounds(max_steps: str = "NULL::int") -> str:
    """Write the size of the table, and the rounds that take as long as reading it, or `max_steps`."""
    return (
        f"SELECT bytes, CASE WHEN bytes BETWEEN {_MIN_READ} + 1 AND {_MAX_READ}"
        f" THEN least({_rounds()}, {max_steps}) ELSE {max_steps} END AS rounds FROM {_SIZE}"
    )


def _rounds() -> str:
    return f"greatest({_MIN_ROUNDS}, least(bytes, {_MAX_READ}) / {_READ_PER_ROUND})::int"


def _far_row(columns: Mapping[Column, tuple[str, ...]]) -> str:
    nothing = ", ".join(expressions[-1] for expressions in columns.values())
    return f"SELECT NULL, false, bytes, {nothing} FROM far WHERE is_far"


def _checks(
    ids: Sequence[str], conditions: list[str] | None, columns: Mapping[Column, tuple[str, ...]]
) -> list[str]:
    """Write the rows of ids that are not in the store, and of a connection of negative weight.

    The latter is the first that meets the conditions; None if weights do not matter.
    """
    nothing = {column: expressions[-1] for column, expressions in columns.items()}
    selected = {
        **dict(zip(_CHECKS, ("a.id::text", "false", "0::int8"), strict=True)),
        **nothing,
    }
    parts = [
        f"SELECT {select_list(selected)}"
        f" FROM unnest({sql.uuid_array(dict.fromkeys(ids))}) AS a (id)"
        " WHERE NOT EXISTS (SELECT FROM tokens.tokens AS t WHERE t.id = a.id)"
    ]
    if conditions is not None:
        parts.append(
            f"(SELECT NULL, true, 0, {_first_of(columns)} FROM {CONNECTIONS} AS c"
            f"{where_clause([*conditions, 'c.weight < 0'])} ORDER BY c.id LIMIT 1)"
        )
    return parts


def _first_of(columns: Mapping[Column, tuple[str, ...]]) -> str:
    return ", ".join(expressions[0] for expressions in columns.values())


def lengths(
    source: str,
    targets: Sequence[str] | None,
    *,
    weighted: bool = False,
    max_depth: int | None = None,
    connection_type: Sequence[str] | None = None,
    direction: str = "outgoing",
) -> Query:
    """Read the connections of the tokens that are reached, with the columns of `arcs`.

    Or read one row that is far, if these are many.  If `weighted`, there is a row of a connection of
    negative weight, if there is one.  A connection may come twice.
    """
    conditions = any_of("c.connection_type", connection_type)
    direction = checked_direction(direction)
    depth = None if max_depth is None else positive(max_depth, "max_depth")
    is_weighted = as_flag(weighted, "weighted")
    followed = [] if depth is None else [steps_below(depth, "r")]
    parts = _checks([source, *(targets or ())], conditions if is_weighted else None, _ARCS)
    parts.append(_far_row(_ARCS))
    for start, _, condition, _ in BRANCHES[direction]:
        where = [*([condition] if condition else []), *conditions, *followed]
        parts.append(
            f"SELECT NULL, false, 0, {_first_of(_ARCS)} FROM"
            f" (SELECT r.* FROM reached AS r WHERE NOT (SELECT is_far FROM far)) AS r"
            f" JOIN {CONNECTIONS} AS c ON c.{start} = r.id{where_clause(where)}"
        )
    statement = (
        f"WITH RECURSIVE bounds AS MATERIALIZED ({_bounds()}),"
        f" {reached([source], depth, direction, conditions)}, far AS MATERIALIZED (SELECT CASE"
        " WHEN b.rounds IS NULL THEN false ELSE (SELECT count(*) FROM (SELECT FROM reached"
        " LIMIT (SELECT rounds FROM bounds)) AS first) >= b.rounds END AS is_far, b.bytes FROM bounds AS b)"
        f" {' UNION ALL '.join(parts)}"
    )
    return Query(
        statement,
        (*_CHECKS, *_ARCS),
        (CONNECTIONS, "tokens.tokens"),
        has_limit=False,
        id_noun="token",
        footprint=Footprint(token_ids=(source, *(targets or ()))),
    )
