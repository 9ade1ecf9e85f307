"""Reads of `experience.experience_events`: a window, the last few, around a time, by time step."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self
from zoneinfo import ZoneInfo

from ngdata._arguments.id_space import IdSpace, TokenIds
from ngdata._arguments.ids import Id, canonical_id
from ngdata._arguments.numbers import positive
from ngdata._arguments.shown import shown
from ngdata._arguments.texts import as_texts
from ngdata._arguments.times import MICROSECOND, Time, first_microsecond
from ngdata._query import literals as sql
from ngdata._query.asked import Asked
from ngdata._query.filters import any_of, checked_limit, row_limit, where_clause
from ngdata._query.footprints import Footprint
from ngdata._query.grouping import Keys, with_group
from ngdata._query.model import FEW_IDS, MISSING_ID, Column, Kind, Query, choose, select_list
from ngdata._query.places import SPATIAL_INDEX, Place, Window
from ngdata.errors import InvalidQueryError

__all__ = [
    "COLUMNS",
    "DEFAULT",
    "ENTRY",
    "EVENTS",
    "ORDER",
    "REWARD_SUMS",
    "EventFilter",
    "around",
    "count",
    "counts",
    "has_days",
    "in_region",
    "keyed_window",
    "recent",
    "rewards",
    "time_step",
    "window",
]

EVENTS: Final = "experience.experience_events"

_DAY: Final = dt.timedelta(days=1)

COLUMNS: Final = {
    Column("event_id", Kind.TEXT): "e.id::text",
    Column("event_type", Kind.TEXT): "e.event_type",
    Column("timestamp", Kind.TIME): 'e."timestamp"',
    Column("token_id", Kind.OPTIONAL_TOKEN_ID): "e.token_id::text",
    Column("reward", Kind.FLOAT): "e.reward",
    Column("priority", Kind.FLOAT): "e.priority",
    Column("trajectory_id", Kind.TEXT): "e.trajectory_id::text",
    Column("sequence_number", Kind.OPTIONAL_INTEGER): "e.sequence_number",
    Column("state_before", Kind.JSON): "e.state_before::text",
    Column("state_after", Kind.JSON): "e.state_after::text",
    Column("action", Kind.JSON): "e.action::text",
    Column("metadata", Kind.JSON): "e.metadata::text",
    Column("created_at", Kind.TIME): "e.created_at",
}
"""The columns of an event `e`, each with its SQL expression."""

_KEYS: Final = {
    Column("event_type", Kind.TEXT): "e.event_type",
    Column("token_id", Kind.TOKEN_ID): "e.token_id",
    Column("trajectory_id", Kind.TEXT): "e.trajectory_id",
}
"""The columns by which events are counted, each with the SQL expression that makes the groups."""

_STEP: Final = "step"

DEFAULT: Final = tuple(column.name for column in COLUMNS)[:11]
"""The columns that are read if the caller names none."""

ENTRY: Final = Column("entry_number", Kind.INTEGER)
"""The order in which events were written; no frame has it."""

ORDER: Final = 'e."timestamp", e.sequence_number NULLS LAST, e.entry_number, e.id'
"""The order of events, also of the terms of a sum: a sum of floats depends on their order."""

_OFFSET: Final = Column("offset", Kind.INTEGER)
_SINCE_MOMENT: Final = '(extract(epoch FROM e."timestamp" - m.moment) * 1000000)::int8'
_DEFAULT_AROUND: Final = (*DEFAULT[:3], _OFFSET.name, *DEFAULT[3:])

_TOTAL_REWARD: Final = f"sum(e.reward ORDER BY {ORDER})"
REWARD_SUMS: Final = f"{_TOTAL_REWARD} AS total_reward, {_TOTAL_REWARD} / count(*) AS mean_reward"


@dataclass(frozen=True, slots=True)
class EventFilter:
    """A filter on events; `e` is their alias in SQL.

    It is made of what a caller passes, and holds plain Python values.

    Attributes
    ----------
    start, end : Time or None
        A half-open window: ``start <= t < end``; of type `datetime` once they are checked.
    event_type : str or sequence of str or None
        The type, or any of several; a tuple once it is checked.
    token_ids : sequence of str or None
    trajectory_id : str or None
    within : Place or None
        The region that the event's token must be in.
    """

    start: Time | None = None
    end: Time | None = None
    event_type: str | Sequence[str] | None = None
    token_ids: Sequence[str] | None = None
    trajectory_id: str | None = None
    within: Place | None = None

    def __post_init__(self) -> None:
        low = None if self.start is None else first_microsecond(self.start, "start")
        high = None if self.end is None else first_microsecond(self.end, "end")
        if low is not None and high is not None and low > high:
            raise InvalidQueryError(
                f"start must not be after end, but {shown(self.start)} is after {shown(self.end)}; "
                "are the two swapped?"
            )
        object.__setattr__(self, "start", low)
        object.__setattr__(self, "end", high)
        if self.event_type is not None:
            object.__setattr__(self, "event_type", as_texts(self.event_type, "event_type"))

    @classmethod
    def of(
        cls,
        start: Time | None,
        end: Time | None,
        event_type: str | Sequence[str] | None,
        token_ids: TokenIds | None,
        trajectory_id: Id | None,
        within: Window | None,
        ids: IdSpace,
    ) -> Self:
        """Return the filter of a method's arguments, which are checked; token ids are of a space."""
        return cls(
            start,
            end,
            event_type,
            None if token_ids is None else ids.unique_ids(token_ids, "token_ids"),
            None if trajectory_id is None else canonical_id(trajectory_id, "trajectory_id"),
            None if within is None else Place.within(within),
        )

    def conditions(self, few_events: bool = False) -> list[str]:
        """Write the SQL conditions.

        `few_events` is True if other conditions of the read leave few events.
        """
        conditions = any_of("e.event_type", self.event_type)
        # Plain since __post_init__.
        low: Any = self.start
        high: Any = self.end
        if low is not None:
            conditions.append(f'e."timestamp" >= {sql.timestamptz(low)}')
        if high is not None:
            conditions.append(f'e."timestamp" < {sql.timestamptz(high)}')
        if self.token_ids is not None:
            conditions.append(f"e.token_id = ANY ({sql.uuid_array(self.token_ids)})")
        if self.trajectory_id is not None:
            conditions.append(f"e.trajectory_id = ANY ({sql.uuid_array([self.trajectory_id])})")
        if self.within is not None:
            selective = (low, high, self.token_ids, self.trajectory_id)
            few_events = few_events or any(value is not None for value in selective)
            conditions.append(in_region(SPATIAL_INDEX, self.within.conditions(), few_events))
        return conditions

    def asked(self) -> Asked:
        """Return what the filter asks for."""
        # Plain since __post_init__.
        types: Any = self.event_type
        low: Any = self.start
        high: Any = self.end
        return Asked("events", types, low, high).within(self.within)

    def footprint(self) -> Footprint:
        """Return what may change an answer about the events that pass."""
        # Plain since __post_init__.
        low: Any = self.start
        high: Any = self.end
        return Footprint(place=self.within, times=(low, high), event_tokens=self.token_ids)

    def relations(self) -> tuple[str, ...]:
        """Return the tables that the conditions read."""
        return (EVENTS,) if self.within is None else (EVENTS, SPATIAL_INDEX)


def in_region(source: str, conditions: Sequence[str], few_events: bool) -> str:
    """Write the condition that an event's token is among the rows of `source` with these conditions.

    The planner estimates one row for a region, and none for today's few events: left to itself, it
    may read either of them again for each row of the other.  So if few events are read, the region
    is read once and hashed, as the operand of IS TRUE always is; else each of its tokens leads to
    its events through their index.
    """
    tokens = f"SELECT token_id FROM {source}{where_clause(conditions)} OFFSET 0"
    return f"(e.token_id IN ({tokens})) IS TRUE" if few_events else f"e.token_id IN ({tokens})"


def window(
    where: EventFilter, limit: int | None = None, columns: Sequence[str] | None = None
) -> Query:
    """Read events by time, sequence number (NULL last), order of writing."""
    return _window(where, limit, choose(COLUMNS, columns, DEFAULT))


def keyed_window(where: EventFilter) -> Query:
    """Read all columns of events, and their entry numbers."""
    return _window(where, None, {**COLUMNS, ENTRY: "e.entry_number"})


def _window(where: EventFilter, limit: int | None, selected: dict[Column, str]) -> Query:
    limit = checked_limit(limit)
    statement = (
        f"SELECT {select_list(selected)} FROM {EVENTS} AS e{where_clause(where.conditions())}"
        f" ORDER BY {ORDER}{row_limit(limit)}"
    )
    asked = None if limit == 0 else where.asked()
    return Query(
        statement,
        tuple(selected),
        where.relations(),
        asked=asked,
        footprint=where.footprint(),
    )


def count(where: EventFilter) -> Query:
    """Count events."""
    return Query(
        f'SELECT count(*) AS "count" FROM {EVENTS} AS e{where_clause(where.conditions())}',
        (Column("count", Kind.INTEGER),),
        where.relations(),
        is_small=True,
        footprint=where.footprint(),
    )


def recent(count: int, columns: Sequence[str] | None = None) -> Query:
    """Read the last `count` events, in ascending order."""
    selected = choose(COLUMNS, columns, DEFAULT)
    count = positive(count, "count")
    newest = (
        f"SELECT * FROM {EVENTS} ORDER BY"
        ' "timestamp" DESC, sequence_number DESC NULLS FIRST, entry_number DESC, id DESC'
        f" LIMIT {count}"
    )
    statement = f"SELECT {select_list(selected)} FROM ({newest}) AS e ORDER BY {ORDER}"
    return Query(
        statement, tuple(selected), (EVENTS,), is_lookup=count <= FEW_IDS, asked=Asked("events")
    )


def around(
    event_id: str | None,
    time: dt.datetime | None,
    before: dt.timedelta,
    after: dt.timedelta,
    where: EventFilter,
    limit: int | None = None,
    columns: Sequence[str] | None = None,
) -> Query:
    """Read events from `before` to `after` an event or a time, both ends included.

    A column ``offset`` has the microseconds since that time.
    """
    selected = choose({**COLUMNS, _OFFSET: _SINCE_MOMENT}, columns, _DEFAULT_AROUND)
    limit = checked_limit(limit)
    missing_id = "NULL::text"
    if event_id is None:
        assert time is not None
        moment = sql.timestamptz(time)
    else:
        missing_id = f"CASE WHEN m.moment IS NULL THEN {sql.text(event_id)} END"
        moment = f'(SELECT "timestamp" FROM {EVENTS} WHERE id = ANY ({sql.uuid_array([event_id])}))'
    conditions = [
        f'e."timestamp" >= m.moment - {_interval(before)}',
        f'e."timestamp" <= m.moment + {_interval(after)}',
        *where.conditions(few_events=True),
    ]
    selected = {MISSING_ID: missing_id, **selected}
    statement = (
        f"WITH m AS MATERIALIZED (SELECT {moment} AS moment)"
        f" SELECT {select_list(selected)} FROM m"
        f" LEFT JOIN {EVENTS} AS e ON {' AND '.join(conditions)}"
        f" WHERE m.moment IS NULL OR e.id IS NOT NULL ORDER BY {ORDER}{row_limit(limit)}"
    )
    asked = where.asked()
    if time is not None:
        # The last time is included.
        asked = replace(asked, start=_moved(time, -before), end=_moved(time, after + MICROSECOND))
    return Query(
        statement,
        tuple(selected),
        where.relations(),
        id_noun="event",
        asked=None if limit == 0 else asked,
        # The window of an event's neighbors moves with the event.
        footprint=replace(where.footprint(), times=None if event_id else (asked.start, asked.end)),
    )


def _moved(time: dt.datetime, by: dt.timedelta) -> dt.datetime | None:
    """Return another time; None if Python knows no such time."""
    try:
        return time + by
    except OverflowError:
        return None


def rewards(step: dt.timedelta, where: EventFilter, zone: dt.tzinfo = dt.UTC) -> Query:
    """Read the number, total and mean of rewards in each time step that has an event.

    The first column is the start of the step or, if the steps are days, the number of its first day
    since 1970-01-01 in the zone.
    """
    start, expression = _start(step, zone)
    statement = (
        f'SELECT {expression} AS "{start.name}", count(*) AS "count", {REWARD_SUMS}'
        f" FROM {EVENTS} AS e{where_clause(where.conditions())} GROUP BY 1 ORDER BY 1"
    )
    columns = (
        start,
        Column("count", Kind.INTEGER),
        Column("total_reward", Kind.FLOAT),
        Column("mean_reward", Kind.FLOAT),
    )
    return Query(
        statement,
        columns,
        where.relations(),
        has_limit=False,
        asked=where.asked(),
        footprint=where.footprint(),
    )


def counts(
    step: dt.timedelta,
    by: str | Sequence[str] | None,
    where: EventFilter,
    zone: dt.tzinfo = dt.UTC,
) -> Query:
    """Read the number of events in each time step, and in each group there, that has events.

    The first column is that of `rewards`; the keys of the groups follow.
    """
    keys = Keys.of(by, _KEYS, "e.metadata")
    start, expression = _start(step, zone)
    select = [f'{_STEP} AS "{start.name}"', *keys.select(), 'count(*) AS "count"']
    conditions = where.conditions() + keys.conditions()
    rows = f"{EVENTS} AS e{where_clause(conditions)}"
    has_many = any(column.kind is Kind.TOKEN_ID for column in keys.expressions)
    rows = with_group(rows, expression, _STEP, "e", are_few=not has_many)
    statement = f"SELECT {', '.join(select)} FROM {rows}{keys.clauses(first=[_STEP])}"
    columns = (start, *keys.expressions, Column("count", Kind.INTEGER))
    return Query(
        statement,
        columns,
        where.relations(),
        has_limit=False,
        asked=where.asked(),
        footprint=where.footprint(),
    )


def _start(step: dt.timedelta, zone: dt.tzinfo) -> tuple[Column, str]:
    """Return the column of the start of a step, or of its first day, and its SQL expression."""
    if has_days(step):
        return Column("day", Kind.INTEGER), _first_day(step, zone)
    return Column("timestamp", Kind.TIME), time_step(step, zone)


def has_days(step: dt.timedelta) -> bool:
    """Return whether steps are whole days, whose length depends on the zone."""
    return not step % _DAY


def _first_day(step: dt.timedelta, zone: dt.tzinfo) -> str:
    """Write the first day of an event's step: days since 1970-01-01, both in the zone."""
    if isinstance(zone, ZoneInfo):
        local = f'e."timestamp" AT TIME ZONE {sql.text(zone.key)}'
    else:
        offset = zone.utcoffset(None)
        assert offset is not None
        local = f"""e."timestamp" AT TIME ZONE 'UTC' + {_interval(offset)}"""
    day = f"(({local})::date - '1970-01-01'::date)"
    days = step // _DAY
    return f"(floor({day} / {sql.float8(days)}) * {days})::int4"


def time_step(step: dt.timedelta, zone: dt.tzinfo = dt.UTC) -> str:
    """Write the start of an event's time step; steps are aligned to 1970-01-01 in the zone.

    The origin of `date_bin` lies before all events: older versions of PostgreSQL are off by one
    step for a time before the origin.
    """
    epoch = dt.datetime(1970, 1, 1, tzinfo=zone).astimezone(dt.UTC)
    origin = epoch - (epoch - dt.datetime(1, 1, 1, tzinfo=dt.UTC)) // step * step
    return f'date_bin({_interval(step)}, e."timestamp", {sql.timestamptz(origin)})'


def _interval(length: dt.timedelta) -> str:
    # Not in days, whose length would depend on the session's time zone.
    return f"{sql.integer(length // MICROSECOND)} * interval '1 microsecond'"
