"""Reads of `experience.experience_events`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ngdata.errors import InvalidQueryError
from ngdata.query import Column, Kind, Query
from ngdata.query import literals as sql
from ngdata.query.filters import any_of, clause, positive, row_limit
from ngdata.times import Time, first_microsecond

__all__ = ["recent", "window"]

_EVENTS: Final = {
    Column("event_id", Kind.TEXT): "id::text",
    Column("event_type", Kind.TEXT): "event_type",
    Column("timestamp", Kind.TIME): '"timestamp"',
    Column("token_id", Kind.TEXT): "token_id::text",
    Column("reward", Kind.FLOAT): "reward",
    Column("priority", Kind.FLOAT): "priority",
    Column("trajectory_id", Kind.TEXT): "trajectory_id::text",
    Column("sequence_number", Kind.OPTIONAL_INTEGER): "sequence_number",
    Column("state_before", Kind.JSON): "state_before::text",
    Column("state_after", Kind.JSON): "state_after::text",
    Column("action", Kind.JSON): "action::text",
}
_SELECT: Final = ", ".join(f'{expression} AS "{c.name}"' for c, expression in _EVENTS.items())
_ORDER: Final = ' ORDER BY e."timestamp", e.sequence_number NULLS LAST, e.id'
_RELATIONS: Final = ("experience.experience_events",)


def window(
    start: Time | None,
    end: Time | None,
    event_type: str | Sequence[str] | None = None,
    token_ids: Sequence[str] | None = None,
    trajectory_id: str | None = None,
    limit: int | None = None,
) -> Query:
    """Events with ``start <= t < end``, by time, sequence (a missing one last), id."""
    conditions = any_of("event_type", event_type)
    low = None if start is None else first_microsecond(start, "start")
    high = None if end is None else first_microsecond(end, "end")
    if low is not None and high is not None and low > high:
        raise InvalidQueryError(
            f"start must not be after end, but {start!r} is after {end!r}; are the two swapped?"
        )
    if low is not None:
        conditions.append(f'"timestamp" >= {sql.timestamptz(low)}')
    if high is not None:
        conditions.append(f'"timestamp" < {sql.timestamptz(high)}')
    if token_ids is not None:
        conditions.append(f"token_id = ANY ({sql.uuid_array(token_ids)})")
    if trajectory_id is not None:
        conditions.append(f"trajectory_id = ANY ({sql.uuid_array([trajectory_id])})")
    statement = (
        f"SELECT {_SELECT} FROM experience.experience_events AS e{clause(conditions)}"
        f"{_ORDER}{row_limit(limit)}"
    )
    return Query(statement, tuple(_EVENTS), _RELATIONS)


def recent(count: int) -> Query:
    """The last `count` events, in ascending order."""
    newest = (
        "SELECT * FROM experience.experience_events ORDER BY"
        ' "timestamp" DESC, sequence_number DESC NULLS FIRST, id DESC'
        f" LIMIT {positive(count, 'count')}"
    )
    statement = f"SELECT {_SELECT} FROM ({newest}) AS e{_ORDER}"
    return Query(statement, tuple(_EVENTS), _RELATIONS)
