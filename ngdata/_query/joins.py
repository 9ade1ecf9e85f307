"""Reads that join space, time and experience: a region's activity, a trajectory's mean position."""

from __future__ import annotations

import datetime as dt

from ngdata._arguments.levels import Level, level_index
from ngdata._query.attributes import IndexRows
from ngdata._query.events import EVENTS, ORDER, REWARD_SUMS, EventFilter, in_region, time_step
from ngdata._query.filters import TokenFilter, checked_limit, row_limit, where_clause
from ngdata._query.model import (
    LEVELS,
    MISSING_ID,
    MISSING_ID_SQL,
    Column,
    Kind,
    Query,
    requested,
    select_list,
)
from ngdata._query.places import SPATIAL_INDEX, Place
from ngdata._query.trajectories import TRAJECTORIES

__all__ = ["activity", "mean_position"]


def activity(
    place: Place, tokens: TokenFilter, where: EventFilter, limit: int | None = None
) -> Query:
    """Read a region's tokens that have events, by id, with the number and sums of those events.

    The events are summed up first; only the sums are joined to the tokens' points.
    """
    limit = checked_limit(limit)
    has_window = where.start is not None or where.end is not None
    source = IndexRows.of(tokens)
    conditions = [
        in_region(source.sql, source.conditions(place), few_events=has_window),
        *where.conditions(),
    ]
    sums = (
        f"SELECT e.token_id, count(*) AS event_count, {REWARD_SUMS},"
        ' min(e."timestamp") AS first_time, max(e."timestamp") AS last_time'
        f" FROM {EVENTS} AS e{where_clause(conditions)} GROUP BY e.token_id"
    )
    columns = {
        Column("token_id", Kind.TOKEN_ID): "a.token_id::text",
        **{Column(axis, Kind.FLOAT): f"ST_{axis.upper()}(s.geom)" for axis in "xyz"},
        Column("event_count", Kind.INTEGER): "a.event_count",
        Column("total_reward", Kind.FLOAT): "a.total_reward",
        Column("mean_reward", Kind.FLOAT): "a.mean_reward",
        Column("first_time", Kind.TIME): "a.first_time",
        Column("last_time", Kind.TIME): "a.last_time",
    }
    statement = (
        f"SELECT {select_list(columns)} FROM ({sums}) AS a JOIN {SPATIAL_INDEX} AS s"
        f" ON s.token_id = a.token_id AND s.level = {place.level}"
        f" ORDER BY a.token_id{row_limit(limit)}"
    )
    asked = where.asked().within(place).of_tokens(tokens)
    return Query(
        statement,
        tuple(columns),
        (EVENTS, *source.relations, LEVELS),
        level=place.level,
        asked=None if limit == 0 else asked,
    )


def mean_position(trajectory_id: str, step: dt.timedelta, level: Level) -> Query:
    """Read the mean position of a trajectory's tokens in each time step; each event counts once."""
    level_number = level_index(level)
    means = ", ".join(f"avg(ST_{axis}(s.geom) ORDER BY {ORDER}) AS {axis}" for axis in "xyz")
    positions = (
        f'SELECT {time_step(step)} AS "timestamp", {means}, count(*) AS event_count,'
        " count(DISTINCT e.token_id) AS token_count"
        f" FROM {EVENTS} AS e JOIN {SPATIAL_INDEX} AS s"
        f" ON s.token_id = e.token_id AND s.level = {level_number}"
        " WHERE e.trajectory_id = t.id GROUP BY 1"
    )
    columns = {
        MISSING_ID: MISSING_ID_SQL,
        Column("timestamp", Kind.TIME): 'p."timestamp"',
        **{Column(axis, Kind.FLOAT): f"p.{axis}" for axis in "xyz"},
        Column("event_count", Kind.INTEGER): "p.event_count",
        Column("token_count", Kind.INTEGER): "p.token_count",
    }
    statement = (
        f"SELECT {select_list(columns)} FROM {requested([trajectory_id], TRAJECTORIES)}"
        f" LEFT JOIN LATERAL ({positions}) AS p ON true"
        ' WHERE t.id IS NULL OR p."timestamp" IS NOT NULL ORDER BY p."timestamp"'
    )
    return Query(
        statement,
        tuple(columns),
        (TRAJECTORIES, EVENTS, SPATIAL_INDEX, LEVELS),
        has_limit=False,
        id_noun="trajectory",
        level=level_number,
    )
