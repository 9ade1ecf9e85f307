"""Reads of trajectories: the events of one, or a list of trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ngdata._query import events
from ngdata._query import literals as sql
from ngdata._query.asked import Asked
from ngdata._query.events import EventFilter
from ngdata._query.filters import checked_limit, row_limit, where_clause
from ngdata._query.model import (
    MISSING_ID,
    MISSING_ID_SQL,
    Column,
    Kind,
    Query,
    choose,
    requested,
    select_list,
)

__all__ = ["COLUMNS", "CUMULATIVE_REWARD", "TRAJECTORIES", "events_of", "listing"]

TRAJECTORIES: Final = "experience.experience_trajectories"

CUMULATIVE_REWARD: Final = "cumulative_reward"

COLUMNS: Final = {
    Column("trajectory_id", Kind.TEXT): "t.id::text",
    Column("start_time", Kind.TIME): "t.start_time",
    Column("end_time", Kind.TIME): "t.end_time",
    Column("event_count", Kind.INTEGER): "t.event_count",
    Column("total_reward", Kind.FLOAT): "t.total_reward",
    Column("ended_at", Kind.TIME): "t.ended_at",
    Column("metadata", Kind.JSON): "t.metadata::text",
}


def events_of(trajectory_id: str, columns: Sequence[str] | None = None) -> Query:
    """Read a trajectory's events by sequence number (NULL last), time, order of writing.

    A column `CUMULATIVE_REWARD` has the reward of each event by itself, for the caller to sum up.
    """
    available = {**events.COLUMNS, Column(CUMULATIVE_REWARD, Kind.FLOAT): "e.reward"}
    selected = choose(available, columns, (*events.DEFAULT, CUMULATIVE_REWARD))
    selected = {MISSING_ID: MISSING_ID_SQL, **selected}
    statement = (
        f"SELECT {select_list(selected)}"
        f" FROM {requested([trajectory_id], TRAJECTORIES)}"
        f" LEFT JOIN {events.EVENTS} AS e ON e.trajectory_id = t.id"
        " WHERE t.id IS NULL OR e.id IS NOT NULL"
        ' ORDER BY e.sequence_number NULLS LAST, e."timestamp", e.entry_number, e.id'
    )
    return Query(
        statement,
        tuple(selected),
        (TRAJECTORIES, events.EVENTS),
        has_limit=False,
        id_noun="trajectory",
    )


def listing(
    where: EventFilter | None = None,
    ids: Sequence[str] | None = None,
    ended: bool | None = None,
    limit: int | None = None,
) -> Query:
    """Read trajectories by their start (NULL last), then id; `limit` keeps the first by id.

    With conditions in `where`, only trajectories with an event that meets all of them.
    """
    limit = checked_limit(limit)
    conditions = [] if ids is None else [f"t.id = ANY ({sql.uuid_array(ids)})"]
    relations: tuple[str, ...] = (TRAJECTORIES,)
    if ended is not None:
        conditions.append(f"t.ended_at IS {'NOT ' if ended else ''}NULL")
    event_conditions = [] if where is None else where.conditions()
    if where is not None and event_conditions:
        conditions.append(
            f"t.id IN (SELECT e.trajectory_id FROM {events.EVENTS} AS e"
            f"{where_clause(event_conditions)})"
        )
        relations += where.relations()
    rows = f"SELECT * FROM {TRAJECTORIES} AS t{where_clause(conditions)}"
    limit_clause = row_limit(limit)
    if limit_clause:
        rows += f" ORDER BY t.id{limit_clause}"
    statement = (
        f"SELECT {select_list(COLUMNS)} FROM ({rows}) AS t ORDER BY t.start_time NULLS LAST, t.id"
    )
    asked = where.asked() if where is not None and event_conditions else Asked("trajectories")
    return Query(statement, tuple(COLUMNS), relations, asked=None if limit == 0 else asked)
