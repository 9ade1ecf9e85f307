"""Reads that join space, time and experience: a region's activity, a trajectory's way."""

from __future__ import annotations

import datetime as dt
from typing import Final

from ngdata._arguments.levels import Level, level_index
from ngdata._query.events import ORDER, EventFilter, binned, inside
from ngdata._query.filters import TokenFilter, clause, row_limit
from ngdata._query.model import MISSING_ID, Column, Kind, Query
from ngdata._query.space import Box
from ngdata._query.trajectories import SELECT_MISSING, asked

__all__ = ["activity", "mean_position"]

_EXPERIENCE: Final = "experience.experience_events"
_INDEX: Final = "tokens.spatial_index"


def activity(box: Box, tokens: TokenFilter, where: EventFilter, limit: int | None = None) -> Query:
    """The tokens in a region that events touched, by id, and those events in numbers.

    The events are summed up first; what is left of them then finds its place by the token's id.
    """
    narrow = where.start is not None or where.end is not None
    conditions = [inside(box.conditions() + tokens.conditions(), narrow), *where.conditions()]
    total = f"sum(e.reward ORDER BY {ORDER})"
    touched = (
        f"SELECT e.token_id, count(*) AS event_count, {total} AS total_reward,"
        f" {total} / count(*) AS mean_reward,"
        ' min(e."timestamp") AS first_time, max(e."timestamp") AS last_time'
        f" FROM experience.experience_events AS e{clause(conditions)} GROUP BY e.token_id"
    )
    columns = {
        Column("token_id", Kind.TEXT): "a.token_id::text",
        **{Column(axis, Kind.FLOAT): f"ST_{axis.upper()}(s.geom)" for axis in "xyz"},
        Column("event_count", Kind.INTEGER): "a.event_count",
        Column("total_reward", Kind.FLOAT): "a.total_reward",
        Column("mean_reward", Kind.FLOAT): "a.mean_reward",
        Column("first_time", Kind.TIME): "a.first_time",
        Column("last_time", Kind.TIME): "a.last_time",
    }
    select = ", ".join(f'{expression} AS "{c.name}"' for c, expression in columns.items())
    statement = (
        f"SELECT {select} FROM ({touched}) AS a JOIN tokens.spatial_index AS s"
        f" ON s.token_id = a.token_id AND s.level = {box.level}"
        f" ORDER BY a.token_id{row_limit(limit)}"
    )
    return Query(statement, tuple(columns), (_EXPERIENCE, _INDEX))


def mean_position(trajectory_id: str, step: dt.timedelta, level: Level) -> Query:
    """Where a trajectory's tokens are on the mean, step by step; each event counts once."""
    means = ", ".join(f"avg(ST_{axis}(s.geom) ORDER BY {ORDER}) AS {axis}" for axis in "xyz")
    placed = (
        f'SELECT {binned(step)} AS "timestamp", {means}, count(*) AS event_count,'
        " count(DISTINCT e.token_id) AS token_count"
        " FROM experience.experience_events AS e JOIN tokens.spatial_index AS s"
        f" ON s.token_id = e.token_id AND s.level = {level_index(level)}"
        " WHERE e.trajectory_id = t.id GROUP BY 1"
    )
    statement = (
        f'SELECT {SELECT_MISSING}, p."timestamp", p.x, p.y, p.z, p.event_count, p.token_count'
        f" FROM {asked(trajectory_id)} LEFT JOIN LATERAL ({placed}) AS p ON true"
        ' WHERE t.id IS NULL OR p."timestamp" IS NOT NULL'
        ' ORDER BY p."timestamp"'
    )
    columns = (
        MISSING_ID,
        Column("timestamp", Kind.TIME),
        *(Column(axis, Kind.FLOAT) for axis in "xyz"),
        Column("event_count", Kind.INTEGER),
        Column("token_count", Kind.INTEGER),
    )
    relations = ("experience.experience_trajectories", _EXPERIENCE, _INDEX)
    return Query(statement, columns, relations, has_limit=False, id_noun="trajectory")
