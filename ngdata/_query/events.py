"""Reads of `experience.experience_events`: windows, the last few, around a moment, by time steps."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ngdata._arguments.numbers import positive
from ngdata._arguments.times import Time, first_microsecond
from ngdata._query import literals as sql
from ngdata._query.filters import any_of, clause, row_limit
from ngdata._query.model import MISSING_ID, Column, Kind, Query
from ngdata._query.space import Box
from ngdata.errors import InvalidQueryError

__all__ = [
    "COLUMNS",
    "ORDER",
    "SELECT",
    "EventFilter",
    "around",
    "binned",
    "inside",
    "interval",
    "recent",
    "rewards",
    "window",
]

_EVENTS: Final = {
    Column("event_id", Kind.TEXT): "e.id::text",
    Column("event_type", Kind.TEXT): "e.event_type",
    Column("timestamp", Kind.TIME): 'e."timestamp"',
    Column("token_id", Kind.TEXT): "e.token_id::text",
    Column("reward", Kind.FLOAT): "e.reward",
    Column("priority", Kind.FLOAT): "e.priority",
    Column("trajectory_id", Kind.TEXT): "e.trajectory_id::text",
    Column("sequence_number", Kind.OPTIONAL_INTEGER): "e.sequence_number",
    Column("state_before", Kind.JSON): "e.state_before::text",
    Column("state_after", Kind.JSON): "e.state_after::text",
    Column("action", Kind.JSON): "e.action::text",
}
COLUMNS: Final = tuple(_EVENTS)
SELECT: Final = ", ".join(f'{expression} AS "{c.name}"' for c, expression in _EVENTS.items())
ORDER: Final = 'e."timestamp", e.sequence_number NULLS LAST, e.id'
"""The order of events; sums are made in it too, so that a sum of floats is always the same."""

_RELATION: Final = "experience.experience_events"
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; `e` is their alias in SQL.

    Attributes
    ----------
    start, end : Time or None
        A half-open window: ``start <= t < end``.
    event_type : str or sequence of str or None
    token_ids : sequence of str or None
    trajectory_id : str or None
    within : Box or None
        Where the event's token is.
    """

    start: Time | None = None
    end: Time | None = None
    event_type: str | Sequence[str] | None = None
    token_ids: Sequence[str] | None = None
    trajectory_id: str | None = None
    within: Box | None = None

    def conditions(self, narrow: bool = False) -> list[str]:
        """Give the SQL conditions; `narrow` says that there are others that leave few events."""
        found = any_of("e.event_type", self.event_type)
        low = None if self.start is None else first_microsecond(self.start, "start")
        high = None if self.end is None else first_microsecond(self.end, "end")
        if low is not None and high is not None and low > high:
            raise InvalidQueryError(
                f"start must not be after end, but {self.start!r} is after {self.end!r}; "
                "are the two swapped?"
            )
        if low is not None:
            found.append(f'e."timestamp" >= {sql.timestamptz(low)}')
        if high is not None:
            found.append(f'e."timestamp" < {sql.timestamptz(high)}')
        if self.token_ids is not None:
            found.append(f"e.token_id = ANY ({sql.uuid_array(self.token_ids)})")
        if self.trajectory_id is not None:
            found.append(f"e.trajectory_id = ANY ({sql.uuid_array([self.trajectory_id])})")
        if self.within is not None:
            given = (low, high, self.token_ids, self.trajectory_id)
            narrow = narrow or any(one is not None for one in given)
            found.append(inside(self.within.conditions(), narrow))
        return found

    def relations(self) -> tuple[str, ...]:
        """Give the tables that the conditions look at."""
        return (_RELATION,) if self.within is None else (_RELATION, "tokens.spatial_index")


def inside(conditions: Sequence[str], narrow: bool) -> str:
    """Give the condition that an event's token is one of those in a region.

    The planner takes a region for one row, and a few events of today for none: left to it, each
    could be read again for each of the other.  So where few events are looked at, the region is
    read once and hashed, as an operand of IS TRUE always is; else each token in it leads to its
    events by their index.
    """
    found = f"SELECT token_id FROM tokens.spatial_index{clause(conditions)} OFFSET 0"
    return f"(e.token_id IN ({found})) IS TRUE" if narrow else f"e.token_id IN ({found})"


def window(where: EventFilter, limit: int | None = None) -> Query:
    """Events, by time, sequence (a missing one last), id."""
    statement = (
        f"SELECT {SELECT} FROM experience.experience_events AS e{clause(where.conditions())}"
        f" ORDER BY {ORDER}{row_limit(limit)}"
    )
    return Query(statement, COLUMNS, where.relations())


def recent(count: int) -> Query:
    """The last `count` events, in ascending order."""
    newest = (
        "SELECT * FROM experience.experience_events ORDER BY"
        ' "timestamp" DESC, sequence_number DESC NULLS FIRST, id DESC'
        f" LIMIT {positive(count, 'count')}"
    )
    statement = f"SELECT {SELECT} FROM ({newest}) AS e ORDER BY {ORDER}"
    return Query(statement, COLUMNS, (_RELATION,))


def interval(length: dt.timedelta) -> str:
    """Write a length of time; in seconds alone, so that no time zone's days have a say."""
    return f"{sql.integer(length // _MICROSECOND)} * interval '1 microsecond'"


def around(
    event_id: str | None,
    moment: dt.datetime | None,
    before: dt.timedelta,
    after: dt.timedelta,
    where: EventFilter,
    limit: int | None = None,
) -> Query:
    """Events from `before` a moment, or an event, to `after` it, both ends included.

    A column ``moment`` repeats the moment in each row.
    """
    if event_id is None:
        assert moment is not None
        middle, missing = sql.timestamptz(moment), "NULL::text"
    else:
        missing = f"CASE WHEN m.moment IS NULL THEN {sql.text(event_id)} END"
        middle = (
            '(SELECT "timestamp" FROM experience.experience_events'
            f" WHERE id = ANY ({sql.uuid_array([event_id])}))"
        )
    conditions = [
        f'e."timestamp" >= m.moment - {interval(before)}',
        f'e."timestamp" <= m.moment + {interval(after)}',
        *where.conditions(narrow=True),
    ]
    statement = (
        f"WITH m AS MATERIALIZED (SELECT {middle} AS moment)"
        f' SELECT {missing} AS missing_id, m.moment AS "moment", {SELECT} FROM m'
        f" LEFT JOIN experience.experience_events AS e ON {' AND '.join(conditions)}"
        " WHERE m.moment IS NULL OR e.id IS NOT NULL"
        f" ORDER BY {ORDER}{row_limit(limit)}"
    )
    columns = (MISSING_ID, Column("moment", Kind.TIME), *COLUMNS)
    return Query(statement, columns, where.relations(), id_noun="event")


def binned(step: dt.timedelta) -> str:
    """Give the start of an event's time step; the steps are counted from 1970 on.

    PostgreSQL counts from a moment that lies before all events: older versions are off by one
    where an event lies before it.
    """
    first = _EPOCH - (_EPOCH - dt.datetime(1, 1, 1, tzinfo=dt.UTC)) // step * step
    return f'date_bin({interval(step)}, e."timestamp", {sql.timestamptz(first)})'


def rewards(step: dt.timedelta, where: EventFilter) -> Query:
    """Number, total and mean of rewards in each time step that has any."""
    total = f"sum(e.reward ORDER BY {ORDER})"
    statement = (
        f'SELECT {binned(step)} AS "timestamp", count(*) AS "count", {total} AS total_reward,'
        f" {total} / count(*) AS mean_reward"
        f" FROM experience.experience_events AS e{clause(where.conditions())}"
        " GROUP BY 1 ORDER BY 1"
    )
    columns = (
        Column("timestamp", Kind.TIME),
        Column("count", Kind.INTEGER),
        Column("total_reward", Kind.FLOAT),
        Column("mean_reward", Kind.FLOAT),
    )
    return Query(statement, columns, where.relations(), has_limit=False)
