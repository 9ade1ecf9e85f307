"""Reads of trajectories: one with its events, or a list of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ngdata._query import events
from ngdata._query import literals as sql
from ngdata._query.events import EventFilter
from ngdata._query.filters import clause, row_limit
from ngdata._query.model import MISSING_ID, Column, Kind, Query

__all__ = ["SELECT_MISSING", "asked", "listing", "one"]

SELECT_MISSING: Final = "CASE WHEN t.id IS NULL THEN asked.id::text END AS missing_id"
"""The expression of `MISSING_ID` for what `asked` reads."""

_RELATION: Final = "experience.experience_trajectories"

_LISTED: Final = {
    Column("trajectory_id", Kind.TEXT): "t.id::text",
    Column("start_time", Kind.TIME): "t.start_time",
    Column("end_time", Kind.TIME): "t.end_time",
    Column("event_count", Kind.INTEGER): "t.event_count",
    Column("total_reward", Kind.FLOAT): "t.total_reward",
    Column("ended_at", Kind.TIME): "t.ended_at",
    Column("metadata", Kind.JSON): "t.metadata::text",
}


def asked(trajectory_id: str) -> str:
    """Give the trajectory asked for as a relation of one row, `t`, of NULLs if there is none."""
    return (
        f"unnest({sql.uuid_array([trajectory_id])}) AS asked (id)"
        " LEFT JOIN experience.experience_trajectories AS t ON t.id = asked.id"
    )


def one(trajectory_id: str) -> Query:
    """A trajectory's events in sequence."""
    statement = (
        f"SELECT {SELECT_MISSING}, {events.SELECT} FROM {asked(trajectory_id)}"
        " LEFT JOIN experience.experience_events AS e ON e.trajectory_id = t.id"
        " WHERE t.id IS NULL OR e.id IS NOT NULL"
        ' ORDER BY e.sequence_number NULLS LAST, e."timestamp", e.id'
    )
    columns = (MISSING_ID, *events.COLUMNS)
    relations = (_RELATION, "experience.experience_events")
    return Query(statement, columns, relations, has_limit=False, id_noun="trajectory")


def listing(
    where: EventFilter | None = None,
    ids: Sequence[str] | None = None,
    ended: bool | None = None,
    limit: int | None = None,
) -> Query:
    """Trajectories, by their start (a missing one last), then id; `limit` cuts by id."""
    conditions = [] if ids is None else [f"t.id = ANY ({sql.uuid_array(ids)})"]
    relations: tuple[str, ...] = (_RELATION,)
    if ended is not None:
        conditions.append(f"t.ended_at IS {'NOT ' if ended else ''}NULL")
    wanted = [] if where is None else where.conditions()
    if where is not None and wanted:
        conditions.append(
            "t.id IN (SELECT e.trajectory_id FROM experience.experience_events AS e"
            f"{clause(wanted)})"
        )
        relations += where.relations()
    select = ", ".join(f'{expression} AS "{c.name}"' for c, expression in _LISTED.items())
    cut = row_limit(limit)
    rows = f"SELECT * FROM experience.experience_trajectories AS t{clause(conditions)}"
    if cut:
        rows += f" ORDER BY t.id{cut}"
    statement = f"SELECT {select} FROM ({rows}) AS t ORDER BY t.start_time NULLS LAST, t.id"
    return Query(statement, tuple(_LISTED), relations)
