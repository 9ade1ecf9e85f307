"""What the store holds, by level and by type: counts, extents, weights, time spans."""

from __future__ import annotations

from typing import Final

from ngdata._query import literals as sql
from ngdata._query.asked import Rows
from ngdata._query.attributes import TOKENS
from ngdata._query.edges import CONNECTIONS
from ngdata._query.events import EVENTS
from ngdata._query.model import LEVELS, Column, Kind, Query, select_list
from ngdata._query.places import SPATIAL_INDEX
from ngdata._query.trajectories import TRAJECTORIES

__all__ = [
    "connections",
    "event_times",
    "events",
    "first",
    "levels",
    "levels_in_use",
    "sizes",
    "token_types",
    "tokens_with",
]

# Three min() and three max() of coordinates take 1.6 times as long, since each reads the point again.
_EXTENTS: Final = {
    Column(f"{axis}_{end}", Kind.FLOAT): f"{end}(ST_{axis.upper()}{end.capitalize()}(t.extent))"
    for axis in "xyz"
    for end in ("min", "max")
}

_LEVELS: Final = {
    Column("level", Kind.INTEGER): "t.level",
    Column("name", Kind.TEXT): "l.name",
    Column("unit", Kind.TEXT): "l.unit",
    Column("tokens", Kind.INTEGER): "sum(t.tokens)::int8",
    **_EXTENTS,
    Column("token_types", Kind.JSON): (
        "json_object_agg(t.token_type, t.tokens ORDER BY t.tokens DESC, t.token_type)::text"
    ),
    Column("description", Kind.TEXT): "l.description",
}

_CONNECTIONS: Final = {
    Column("connection_type", Kind.TEXT): "connection_type",
    Column("connections", Kind.INTEGER): "count(*)",
    Column("bidirectional", Kind.INTEGER): "count(*) FILTER (WHERE bidirectional)",
    Column("self_loops", Kind.INTEGER): "count(*) FILTER (WHERE source_id = target_id)",
    Column("weight_min", Kind.FLOAT): "min(weight)",
    Column("weight_mean", Kind.FLOAT): "avg(weight)",
    Column("weight_max", Kind.FLOAT): "max(weight)",
}

_EVENTS: Final = {
    Column("event_type", Kind.TEXT): "event_type",
    Column("events", Kind.INTEGER): "count(*)",
    Column("first_time", Kind.TIME): 'min("timestamp")',
    Column("last_time", Kind.TIME): 'max("timestamp")',
    Column("total_reward", Kind.FLOAT): "sum(reward)",
    Column("mean_reward", Kind.FLOAT): "avg(reward)",
}


# Counting this number of rows takes some 10 ms.
_MAX_COUNTED: Final = 100_000


def levels(level: int | None = None) -> Query:
    """Read a row per level that holds tokens, or the row of one level.

    The rows of the index are counted before the names are joined to the few groups, so that several
    processes of the server can share the work.
    """
    where = "" if level is None else f" WHERE level = {sql.integer(level)}"
    groups = (
        "SELECT level, token_type, count(*) AS tokens, ST_3DExtent(geom) AS extent"
        f" FROM {SPATIAL_INDEX}{where} GROUP BY level, token_type"
    )
    statement = (
        f"SELECT {select_list(_LEVELS)} FROM ({groups}) AS t LEFT JOIN {LEVELS} AS l USING (level)"
        " GROUP BY t.level, l.name, l.unit, l.description ORDER BY t.level"
    )
    return Query(statement, tuple(_LEVELS), (SPATIAL_INDEX, LEVELS), has_limit=False, is_small=True)


def token_types() -> Query:
    """Read the types of all tokens, those on no level too."""
    return Query(
        f"SELECT DISTINCT token_type FROM {TOKENS} ORDER BY 1",
        (Column("token_type", Kind.TEXT),),
        (TOKENS,),
        has_limit=False,
    )


def tokens_with(metadata: str) -> Query:
    """Read whether there is a token whose metadata contain this JSON: one row if so."""
    statement = (
        f"SELECT 1::int4 AS one FROM {TOKENS} WHERE metadata @> {sql.jsonb(metadata)} LIMIT 1"
    )
    return Query(statement, (Column("one", Kind.INTEGER),), (TOKENS,), is_small=True)


def connections() -> Query:
    """Read a row per type of connections, by type."""
    return _by_type(_CONNECTIONS, CONNECTIONS)


def events() -> Query:
    """Read a row per type of events, by type."""
    return _by_type(_EVENTS, EVENTS)


def levels_in_use() -> Query:
    """Read the levels that hold tokens, without counting these."""
    statement = (
        "SELECT level FROM generate_series(0, 7) AS l (level)"
        f" WHERE EXISTS (SELECT FROM {SPATIAL_INDEX} AS s WHERE s.level = l.level) ORDER BY level"
    )
    return Query(statement, (Column("level", Kind.INTEGER),), (SPATIAL_INDEX,), is_small=True)


def event_times() -> Query:
    """Read the first and the last time of all events, from their index; no row without events."""
    columns = {
        Column("first_time", Kind.TIME): "first_time",
        Column("last_time", Kind.TIME): "last_time",
    }
    statement = (
        f"SELECT {select_list(columns)} FROM (SELECT"
        ' min("timestamp") AS first_time, max("timestamp") AS last_time'
        f" FROM {EVENTS}) AS t WHERE first_time IS NOT NULL"
    )
    return Query(statement, tuple(columns), (EVENTS,), is_small=True)


def sizes() -> Query:
    """Read how many tokens, connections and events there are: up to `_MAX_COUNTED`, and about how many.

    The first of the two is missing if there are more.
    """
    columns = {
        Column("name", Kind.TEXT): "name",
        Column("rows", Kind.OPTIONAL_INTEGER): f"CASE WHEN n <= {_MAX_COUNTED} THEN n END",
        Column("about", Kind.FLOAT): "about::float8",
    }
    rows = " UNION ALL ".join(
        f"SELECT {place} AS place, '{name}' AS name, (SELECT count(*) FROM (SELECT FROM {relation}"
        f" LIMIT {_MAX_COUNTED + 1}) AS counted) AS n, (SELECT greatest(c.reltuples, {_MAX_COUNTED})"
        f" FROM pg_class AS c WHERE c.oid = '{relation}'::regclass) AS about"
        for place, (name, relation) in enumerate(
            (("tokens", TOKENS), ("connections", CONNECTIONS), ("events", EVENTS))
        )
    )
    statement = f"SELECT {select_list(columns)} FROM ({rows}) AS sizes ORDER BY place"
    return Query(statement, tuple(columns), (TOKENS, CONNECTIONS, EVENTS), is_small=True)


def first(rows: Rows) -> Query:
    """Read whether there are any rows: one row if so."""
    relation = {
        "tokens": TOKENS,
        "connections": CONNECTIONS,
        "events": EVENTS,
        "trajectories": TRAJECTORIES,
    }[rows]
    statement = f"SELECT 1::int4 AS one FROM {relation} LIMIT 1"
    return Query(statement, (Column("one", Kind.INTEGER),), (relation,), is_small=True)


def _by_type(columns: dict[Column, str], relation: str) -> Query:
    statement = f"SELECT {select_list(columns)} FROM {relation} GROUP BY 1 ORDER BY 1"
    return Query(statement, tuple(columns), (relation,), has_limit=False)
