"""`client.experience`: events as frames, by time, place and trajectory; and their creation."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ngdata._arguments.durations import Duration, Frequency, as_duration, as_step
from ngdata._arguments.ids import Id, Ids, canonical_id, is_id, unique_ids
from ngdata._arguments.levels import Level
from ngdata._arguments.numbers import as_float
from ngdata._arguments.times import Time, as_utc
from ngdata._client.namespace import Namespace, as_series
from ngdata._query import events, joins, trajectories
from ngdata._query.events import EventFilter
from ngdata._query.filters import TokenFilter
from ngdata._query.model import Query
from ngdata._query.partitions import PartCount, event_split
from ngdata._query.space import Box, Window
from ngdata._reading.dask_frames import DaskFrame, dask_frame
from ngdata._reading.flatten import flatten_dicts
from ngdata._reading.reader import CacheMode, MaxRows
from ngdata._store import experience as store
from ngdata._store.input_frames import Frame, one_row
from ngdata.errors import InvalidQueryError, NotFoundError

__all__ = ["AsyncExperience"]

_DICTS: Final = ("state_before", "state_after", "action")


class AsyncExperience(Namespace):
    """Experience: events with states, actions and rewards, grouped in trajectories."""

    async def get_events(
        self,
        start: Time | None = None,
        end: Time | None = None,
        *,
        event_type: str | Sequence[str] | None = None,
        token_ids: Ids | None = None,
        trajectory_id: Id | None = None,
        within: Window | None = None,
        limit: int | None = None,
        flatten: bool = False,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Get the events of a window of time: ``start <= t < end``.

        Parameters
        ----------
        start, end : datetime or int, optional
            With a time zone, or milliseconds since the epoch; without one, that side is open.
        event_type : str or sequence of str, optional
            Keep this type, or any of these.
        token_ids : id or sequence of ids, optional
            Keep the events of these tokens.
        trajectory_id : id, optional
            Keep the events of this trajectory.
        within : (min_coords, max_coords) or (min_coords, max_coords, level), optional
            Keep the events whose token lies in this region, a closed box, now; on level 0, unless
            another is given.
        limit : int, optional
            Give the first so many, in the order below.
        flatten : bool
            Give a column for each key of the states and actions (``state_before.x``), in place of
            the dicts; behind the others, by name.  A list stays one.
        max_rows : int or None, optional
            How many rows the answer may have, None for any number; by default as the client was
            opened.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            ``event_id``, ``event_type`` (str), ``timestamp`` (datetime64[us, UTC]), ``token_id``
            (str), ``reward``, ``priority`` (float64), ``trajectory_id`` (str),
            ``sequence_number`` (Int64), ``state_before``, ``state_after``, ``action`` (dicts or
            None); by time, then sequence (a missing one last), then id.

        Raises
        ------
        InvalidQueryError
            A time without a zone, a start after the end, an inverted box.
        ResultTooLarge
            More rows than `max_rows`; it tells how many.

        Examples
        --------
        >>> (await ang.experience.get_events(0, 1000)).columns.tolist()[:3]
        ['event_id', 'event_type', 'timestamp']
        >>> head = (-15, -350, -70), (15, -300, 70)
        >>> len(await ang.experience.get_events(within=head, event_type="none"))
        0
        """
        where = _filter(start, end, event_type, token_ids, trajectory_id, within)
        answer = await self._reader.frame(events.window(where, limit), cache, max_rows)
        return flatten_dicts(answer, _DICTS) if flatten else answer

    async def events_around(
        self,
        event_or_time: Id | Time,
        before: Duration = 0,
        after: Duration = 0,
        *,
        event_type: str | Sequence[str] | None = None,
        token_ids: Ids | None = None,
        trajectory_id: Id | None = None,
        within: Window | None = None,
        limit: int | None = None,
        flatten: bool = False,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Get the events around another one, or around a moment.

        Parameters
        ----------
        event_or_time : id, datetime or int
            An event, or a time with a zone, or milliseconds since the epoch.
        before, after : timedelta, number of seconds, or str
            How far to look back and ahead, at most a century; both ends are included, so that with
            neither it is what happened at that very moment.
        event_type, token_ids, trajectory_id, within, flatten
            As in `get_events`.
        limit : int, optional
            Give the first so many.
        max_rows : int or None, optional
            How many rows the answer may have, None for any number; by default as the client was
            opened.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            As `get_events` gives them, in the same order, with the column ``offset``
            (timedelta64[us]) behind ``timestamp``: how much later, or if negative, earlier.

        Raises
        ------
        NotFoundError
            An id that names no event.
        InvalidQueryError
            A negative length, a time without a zone.
        ResultTooLarge
            More rows than `max_rows`; it tells how many.

        Examples
        --------
        >>> made = await ang.experience.bulk_create({"event_type": "tick", "timestamp": [0, 900]})
        >>> found = await ang.experience.events_around(made[1], before="1s", event_type="tick")
        >>> found.offset.dt.total_seconds().tolist()
        [-0.9, 0.0]
        """
        event_id = canonical_id(event_or_time) if is_id(event_or_time) else None
        moment = None if event_id is not None else as_utc(event_or_time, "event_or_time")
        where = _filter(None, None, event_type, token_ids, trajectory_id, within)
        lengths = as_duration(before, "before"), as_duration(after, "after")
        query = events.around(event_id, moment, *lengths, where, limit)
        answer = await self._reader.frame(query, cache, max_rows)
        middle = answer.pop("moment")
        if middle.isna().any():
            raise NotFoundError.of("event", [str(event_id)])
        answer.insert(3, "offset", answer.timestamp - middle)
        found = _present(answer, "event_id")
        return flatten_dicts(found, _DICTS) if flatten else found

    async def resample_rewards(
        self,
        freq: Frequency,
        start: Time | None = None,
        end: Time | None = None,
        *,
        event_type: str | Sequence[str] | None = None,
        token_ids: Ids | None = None,
        trajectory_id: Id | None = None,
        within: Window | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Sum up rewards in steps of time, on the server.

        Parameters
        ----------
        freq : timedelta, pandas offset, number of seconds, or str
            The length of a step, such as ``"15min"``; months, which differ in length, are refused.
        start, end, event_type, token_ids, trajectory_id, within
            As in `get_events`.
        max_rows : int or None, optional
            How many rows the answer may have, None for any number; by default as the client was
            opened.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            ``timestamp`` (the start of a step; steps are counted from 1970-01-01 UTC), ``count``
            (int64), ``total_reward``, ``mean_reward`` (float64), from the first step that has an
            event to the last.  A step without one has a count and a total of 0, and no mean.

        Raises
        ------
        InvalidQueryError
            A frequency that is none, a time without a zone, a start after the end.
        ResultTooLarge
            More steps than `max_rows`; it tells how many.

        Examples
        --------
        >>> rewards = await ang.experience.resample_rewards("1s", 0, 10_000)
        >>> rewards.columns.tolist()
        ['timestamp', 'count', 'total_reward', 'mean_reward']
        """
        step = as_step(freq)
        where = _filter(start, end, event_type, token_ids, trajectory_id, within)
        steps = await self._reader.frame(events.rewards(step, where), cache, max_rows)
        if steps.empty:
            return steps
        places = ((steps.timestamp - steps.timestamp[0]) // step).to_numpy()
        length = int(places[-1]) + 1
        self._reader.check_size(length, max_rows)
        whole = {"count": np.zeros(length, np.int64), "total_reward": np.zeros(length)}
        whole["mean_reward"] = np.full(length, np.nan)
        for name, values in whole.items():
            values[places] = steps[name]
        times = pd.date_range(steps.timestamp[0], periods=length, freq=step, unit="us")
        filled = pd.DataFrame({"timestamp": times, **whole})
        filled.attrs = steps.attrs
        return filled

    async def get_recent_events(
        self,
        count: int = 10,
        *,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Get the last events, oldest first.

        Parameters
        ----------
        count : int
            How many; all, if there are fewer.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            As `get_events` gives them, in the same order.

        Raises
        ------
        InvalidQueryError
            A count below 1.

        Examples
        --------
        >>> last = await ang.experience.get_recent_events(3)
        >>> last.timestamp.is_monotonic_increasing
        True
        """
        return await self._reader.frame(events.recent(count), cache, None)

    async def get_trajectory(
        self,
        id: Id,  # noqa: A002 - as everywhere, the thing asked for by its id
        *,
        discount: float = 1.0,
        flatten: bool = False,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Get the events of a trajectory in sequence, and what they add up to.

        Parameters
        ----------
        id : id
        discount : float
            0 to 1.  The reward of step k, counted from 0, is weighted by ``discount ** k``: so the
            last sum is the discounted return of the first step (Sutton and Barto, *Reinforcement
            Learning*, 2nd edition, equation 3.8).
        flatten : bool
            As in `get_events`.
        max_rows : int or None, optional
            How many rows the answer may have, None for any number; by default as the client was
            opened.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            The columns of `get_events`, and ``cumulative_reward`` (float64): the sum of the
            weighted rewards up to this step.  By sequence number (a missing one last), then time,
            then id; empty if the trajectory has no events yet.

        Raises
        ------
        NotFoundError
            There is no such trajectory.
        InvalidQueryError
            A discount below 0 or above 1.
        ResultTooLarge
            More rows than `max_rows`; it tells how many.

        Examples
        --------
        >>> run = await ang.experience.start_trajectory()
        >>> steps = {"event_type": "step", "timestamp": [0, 1, 2], "trajectory_id": run}
        >>> made = await ang.experience.bulk_create(steps | {"reward": [1.0, 1.0, 2.0]})
        >>> (await ang.experience.get_trajectory(run, discount=0.5)).cumulative_reward.tolist()
        [1.0, 1.5, 2.0]
        """
        wanted = canonical_id(id)
        weight = as_float(discount)
        if weight is None or not 0 <= weight <= 1:
            raise InvalidQueryError(f"discount must be a number from 0 to 1, not {discount!r}")
        steps = await self._known(wanted, trajectories.one(wanted), "event_id", cache, max_rows)
        with np.errstate(over="ignore", under="ignore"):
            weighted = steps.reward.to_numpy() * weight ** np.arange(len(steps))
            cumulative = np.cumsum(weighted)
        steps = flatten_dicts(steps, _DICTS) if flatten else steps
        steps["cumulative_reward"] = cumulative
        return steps

    async def list_trajectories(
        self,
        start: Time | None = None,
        end: Time | None = None,
        *,
        event_type: str | Sequence[str] | None = None,
        token_ids: Ids | None = None,
        within: Window | None = None,
        ended: bool | None = None,
        limit: int | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """List trajectories: all, or those with an event that passes all filters.

        Parameters
        ----------
        start, end, event_type, token_ids, within
            As in `get_events`; one event must pass them all.
        ended : bool, optional
            Keep those that have been ended, or that have not.
        limit : int, optional
            Give the first so many by id.
        max_rows : int or None, optional
            How many rows the answer may have, None for any number; by default as the client was
            opened.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            ``trajectory_id`` (str), ``start_time``, ``end_time`` (datetime64[us, UTC]: of its first
            and last event, NaT before there is one), ``event_count`` (int64), ``total_reward``
            (float64), ``duration`` (timedelta64[us]), ``ended_at`` (datetime64[us, UTC]: when
            `end_trajectory` was called), ``metadata`` (dicts or None); by start, then id.

        Raises
        ------
        InvalidQueryError
            A time without a zone, a start after the end.
        ResultTooLarge
            More rows than `max_rows`; it tells how many.

        Examples
        --------
        >>> (await ang.experience.list_trajectories()).columns.tolist()[:3]
        ['trajectory_id', 'start_time', 'end_time']
        """
        if ended is not None and not isinstance(ended, bool):
            raise InvalidQueryError(f"ended must be True, False or None, not {ended!r}")
        where = _filter(start, end, event_type, token_ids, None, within)
        query = trajectories.listing(where, None, ended, limit)
        return _with_duration(await self._reader.frame(query, cache, max_rows))

    async def activity_in_region(
        self,
        min_coords: ArrayLike,
        max_coords: ArrayLike,
        level: Level = 0,
        *,
        start: Time | None = None,
        end: Time | None = None,
        event_type: str | Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        limit: int | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Find the tokens in a region that events touched in a window of time, and how.

        Parameters
        ----------
        min_coords, max_coords, level
            A closed box, as in `Tokens.find_in_region`; tokens are where they are now.
        start, end, event_type
            As in `get_events`.
        token_type : str or sequence of str, optional
            Keep tokens of this type, or of any of these.
        limit : int, optional
            Give the first so many by id.
        max_rows : int or None, optional
            How many rows the answer may have, None for any number; by default as the client was
            opened.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            A row per token that has any such event, by id: ``token_id`` (str), ``x``, ``y``, ``z``
            (float64), ``event_count`` (int64), ``total_reward``, ``mean_reward`` (float64),
            ``first_time``, ``last_time`` (datetime64[us, UTC]).

        Raises
        ------
        InvalidQueryError
            An inverted box, a time without a zone, a start after the end.
        ResultTooLarge
            More rows than `max_rows`; it tells how many.

        Examples
        --------
        >>> near = await ang.tokens.find_nearest((0, 0, 0), k=1)
        >>> for reward in (0.5, 1.5):
        ...     made = await ang.experience.create_event("touch", 5, reward=reward, token_id=near.token_id[0])
        >>> box = (-40, -400, -80), (40, 500, 80)
        >>> found = await ang.experience.activity_in_region(*box, event_type="touch")
        >>> found[["event_count", "mean_reward"]].values.tolist()
        [[2.0, 1.0]]
        """
        box = Box.of(min_coords, max_coords, level)
        where = EventFilter(start, end, event_type)
        query = joins.activity(box, TokenFilter(token_type), where, limit)
        return await self._reader.frame(query, cache, max_rows)

    async def mean_position(
        self,
        trajectory_id: Id,
        freq: Frequency,
        level: Level = 0,
        *,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Follow a trajectory through space: where its events' tokens are on the mean, step by step.

        Parameters
        ----------
        trajectory_id : id
        freq : timedelta, pandas offset, number of seconds, or str
            The length of a step, as in `resample_rewards`.
        level : int or str
            Whose coordinates; tokens are where they are now.
        max_rows : int or None, optional
            How many rows the answer may have, None for any number; by default as the client was
            opened.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            ``timestamp`` (the start of a step, as in `resample_rewards`), ``x``, ``y``, ``z``
            (float64: the mean over the step's events, so a token counts as often as it is
            touched), ``event_count``, ``token_count`` (int64: how many events, and how many
            different tokens, that is of); by time.  Steps without an event whose token is on that
            level have no row.

        Raises
        ------
        NotFoundError
            There is no such trajectory.
        InvalidQueryError
            A frequency that is none, an unknown level.
        ResultTooLarge
            More rows than `max_rows`; it tells how many.

        Examples
        --------
        >>> run = await ang.experience.start_trajectory()
        >>> near = await ang.tokens.find_nearest((0, 0, 0), k=2)
        >>> visits = {"event_type": "visit", "timestamp": [0, 1], "token_id": near.token_id}
        >>> made = await ang.experience.bulk_create(visits | {"trajectory_id": run})
        >>> way = await ang.experience.mean_position(run, "1s")
        >>> way.x[0] == near.x.mean(), way.token_count[0]
        (np.True_, np.int64(2))
        """
        wanted = canonical_id(trajectory_id, "trajectory_id")
        query = joins.mean_position(wanted, as_step(freq), level)
        return await self._known(wanted, query, "timestamp", cache, max_rows)

    async def _known(
        self, trajectory_id: str, query: Query, present: str, cache: CacheMode | None, most: MaxRows
    ) -> pd.DataFrame:
        """Read of a trajectory, whose only row may say that there is none, or that it is empty."""
        answer = await self._reader.frame(query, cache, most)
        if answer.pop(trajectories.UNKNOWN).any():
            raise NotFoundError.of("trajectory", [trajectory_id])
        return _present(answer, present)

    async def start_trajectory(
        self,
        trajectory_id: Id | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Begin a trajectory, without events; events that name it follow.

        Not needed for events to name a trajectory, but the way to give it metadata.

        Parameters
        ----------
        trajectory_id : id, optional
            A new one is made if none is given.
        metadata : mapping, optional

        Returns
        -------
        str
            The trajectory's id.

        Raises
        ------
        IntegrityError
            It is there already.
        InvalidQueryError
            A value that cannot be; nothing was sent.

        Examples
        --------
        >>> run = await ang.experience.start_trajectory(metadata={"policy": "random"})
        >>> event = await ang.experience.create_event("step", 0, reward=2.0, trajectory_id=run)
        >>> (await ang.experience.end_trajectory(run)).total_reward[0]
        np.float64(2.0)
        """
        made = await self._write(
            store.TRAJECTORIES, lambda: store.trajectory(trajectory_id, metadata)
        )
        return made[0]

    async def end_trajectory(self, id: Id) -> pd.DataFrame:  # noqa: A002 - as in get_trajectory
        """End a trajectory: from now on it takes no more events, whoever writes them.

        What it has can still be corrected and deleted.

        Parameters
        ----------
        id : id

        Returns
        -------
        pandas.DataFrame
            Its row in `list_trajectories`: times, count and total are those of all its events.

        Raises
        ------
        NotFoundError
            There is no such trajectory.
        IntegrityError
            It has ended already.

        Examples
        --------
        >>> run = await ang.experience.start_trajectory()
        >>> ended = await ang.experience.end_trajectory(run)
        >>> ended.ended_at.notna().tolist(), ended.event_count.tolist()
        ([True], [0])
        """
        wanted = canonical_id(id)
        async with self._transaction() as connection:
            await store.end(connection, wanted)
        query = trajectories.listing(ids=[wanted])
        return _with_duration(await self._reader.frame(query, "off", None))

    async def to_dask(
        self,
        start: Time | None = None,
        end: Time | None = None,
        *,
        npartitions: int | None = None,
        rows_per_partition: int | None = None,
        event_type: str | Sequence[str] | None = None,
        token_ids: Ids | None = None,
        trajectory_id: Id | None = None,
        within: Window | None = None,
        consistent: bool = False,
        url: str | None = None,
    ) -> DaskFrame:
        """Give the events of a window as a Dask frame, whose partitions its workers read.

        The partitions behind each other have the order of `get_events`; else all is as in
        `tokens.to_dask`.

        Parameters
        ----------
        start, end, event_type, token_ids, trajectory_id, within
            As in `get_events`.
        npartitions, rows_per_partition : int
            One of the two: how many partitions, or of how many events each.
        consistent : bool
            Whether computing raises ConsistencyError if events change after this call.
        url : str, optional
            Where the workers read; ``"environment"``: where the environment of each says.

        Returns
        -------
        dask.dataframe.DataFrame
            The columns and dtypes of `get_events`.

        Raises
        ------
        InvalidQueryError
            As in `get_events`, or not one of `npartitions` and `rows_per_partition`.
        ConfigError
            Dask is not installed (``pip install 'ngdata[dask]'``), or `consistent` is asked for
            where the versions of the store cannot be read.

        Examples
        --------
        >>> noon = 1_700_000_000_000
        >>> times = [noon + 1000 * step for step in range(6)]
        >>> made = await ang.experience.bulk_create({"event_type": "step", "timestamp": times})
        >>> events = await ang.experience.to_dask(noon, noon + 6000, rows_per_partition=2)
        >>> events.npartitions, events.map_partitions(len).compute().tolist()
        (3, [2, 2, 2])
        """
        where = _filter(start, end, event_type, token_ids, trajectory_id, within)
        split = event_split(events.window(where), PartCount(npartitions, rows_per_partition))
        return await dask_frame(self._reader, self._database, split, "events", consistent, url)

    async def create_event(
        self,
        event_type: str,
        timestamp: Time | None = None,
        state_before: Mapping[str, Any] | None = None,
        state_after: Mapping[str, Any] | None = None,
        action: Mapping[str, Any] | None = None,
        reward: float = 0.0,
        *,
        token_id: Id | None = None,
        priority: float | None = None,
        trajectory_id: Id | None = None,
        sequence_number: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        event_id: Id | None = None,
    ) -> str:
        """Record one event.

        Parameters
        ----------
        event_type : str
        timestamp : datetime or int, optional
            With a time zone, or milliseconds since the epoch; now, if not given.
        state_before, state_after, action, metadata : mapping, optional
            Stored as JSON; NumPy numbers and arrays in them become numbers and lists.
        reward : float
        token_id : id, optional
            The token that it happened to.
        priority : float, optional
        trajectory_id : id, optional
            One that is not there yet is made; one that has ended takes no more.
        sequence_number : int, optional
            Its place in the trajectory.
        event_id : id, optional
            A new one is made if none is given.

        Returns
        -------
        str
            The event's id.

        Raises
        ------
        InvalidQueryError
            A time without a zone, or another value that cannot be; nothing was sent.
        IntegrityError
            The token is not there, the event is already, or the trajectory has ended.

        Examples
        --------
        >>> made = await ang.experience.create_event("seen", state_after={"v": 1}, reward=0.5)
        >>> (await ang.experience.get_recent_events(1)).state_after[0]
        {'v': 1}
        """
        values = {
            "event_type": event_type,
            "timestamp": dt.datetime.now(dt.UTC) if timestamp is None else timestamp,
            "state_before": state_before,
            "state_after": state_after,
            "action": action,
            "reward": reward,
            "token_id": token_id,
            "priority": priority,
            "trajectory_id": trajectory_id,
            "sequence_number": sequence_number,
            "metadata": metadata,
            "event_id": event_id,
        }
        return (await self._write(store.RELATION, lambda: store.rows(one_row(values))))[0]

    async def bulk_create(self, frame: Frame, *, progress: bool | None = None) -> pd.Series[str]:
        """Record an event per row: all of them, or none.

        Parameters
        ----------
        frame : pandas.DataFrame, Arrow or Polars table, or mapping of columns
            ``event_type, timestamp``; optional ``event_id, token_id, state_before, state_after,
            action, reward, priority, trajectory_id, sequence_number, metadata``.  NaN, NaT or
            None there means not given.
        progress : bool, optional
            Show a bar: always, never, or by default if it takes longer than two seconds.

        Returns
        -------
        pandas.Series
            The events' ids (str), in order, on the frame's index.

        Raises
        ------
        InvalidQueryError
            A bad value or column, with its row; nothing was sent.
        IntegrityError
            A token that is not there, an id that is, or a trajectory that has ended; nothing was
            written.

        Examples
        --------
        >>> made = await ang.experience.bulk_create({"event_type": ["a", "b"], "timestamp": [0, 1]})
        >>> len(made)
        2
        """
        # One COPY: its trigger locks the trajectories in the order of ids, so that writers of the
        # same ones wait for each other and never in a circle.
        ids = await self._write(store.RELATION, lambda: store.rows(frame), progress)
        return as_series(ids, "event_id", frame)


def _filter(
    start: Time | None,
    end: Time | None,
    event_type: str | Sequence[str] | None,
    token_ids: Ids | None,
    trajectory_id: Id | None,
    within: Window | None,
) -> EventFilter:
    return EventFilter(
        start,
        end,
        event_type,
        None if token_ids is None else unique_ids(token_ids, "token_ids"),
        None if trajectory_id is None else canonical_id(trajectory_id, "trajectory_id"),
        None if within is None else Box.within(within),
    )


def _present(answer: pd.DataFrame, name: str) -> pd.DataFrame:
    """Drop a row that stands for no rows."""
    there = answer[name].notna()
    return answer if there.all() else answer[there].reset_index(drop=True)


def _with_duration(listed: pd.DataFrame) -> pd.DataFrame:
    listed.insert(5, "duration", listed.end_time - listed.start_time)
    return listed
