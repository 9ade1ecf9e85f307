"""`client.experience`: reads of events and trajectories as frames."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from ngdata._arguments.durations import Duration, Frequency, as_duration, as_step
from ngdata._arguments.id_space import TokenIds
from ngdata._arguments.ids import Id, canonical_id, is_id
from ngdata._arguments.levels import Level
from ngdata._arguments.numbers import as_flag, as_float
from ngdata._arguments.points import Coordinates
from ngdata._arguments.shown import shown
from ngdata._arguments.times import Time, as_utc
from ngdata._arguments.zones import Zone, as_zone
from ngdata._client.experience_writes import AsyncExperienceWrites, with_duration
from ngdata._query import events, joins, overview, trajectories
from ngdata._query.events import EventFilter
from ngdata._query.filters import TokenFilter
from ngdata._query.partitions import PartCount, event_split
from ngdata._query.places import Place, Window
from ngdata._reading import data_sets, time_steps
from ngdata._reading.dask_frames import DaskFrame, dask_frame
from ngdata._reading.flatten import flatten_dicts
from ngdata._reading.reader import CacheMode, MaxRows
from ngdata.errors import InvalidQueryError
from ngdata.regions.algebra import Region

__all__ = ["AsyncExperience"]

_DICTS: Final = ("state_before", "state_after", "action", "metadata")


class AsyncExperience(AsyncExperienceWrites):
    """Read and write experience: events with states, actions and rewards, in trajectories."""

    async def get_events(
        self,
        start: Time | None = None,
        end: Time | None = None,
        *,
        columns: Sequence[str] | None = None,
        event_type: str | Sequence[str] | None = None,
        token_ids: TokenIds | None = None,
        trajectory_id: Id | None = None,
        within: Window | None = None,
        limit: int | None = None,
        flatten: bool = False,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return the events of a time window: ``start <= t < end``.

        Parameters
        ----------
        start, end : datetime or int, optional
            With a time zone, or milliseconds since the epoch; open by default.
        columns : sequence of str, optional
            The columns to return, in this order: those below, and ``metadata`` (dicts or None),
            ``created_at`` (datetime64[us, UTC]: when the event was written).
        event_type : str or sequence of str, optional
            Keep this type, or any of these.
        token_ids : id or sequence of ids, optional
            Keep the events of these tokens.
        trajectory_id : id, optional
            Keep the events of this trajectory.
        within : region, (region, level), or (min_coords, max_coords[, level]), optional
            Keep the events whose token is now in this region; level 0 by default.
        limit : int, optional
            Return only the first rows, in the order below.
        flatten : bool
            Whether to replace the columns of dicts by a column for each key (``state_before.x``),
            after the other columns, by name.  Lists stay lists.
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            ``event_id``, ``event_type`` (str), ``timestamp`` (datetime64[us, UTC]), ``token_id``
            (str), ``reward``, ``priority`` (float64), ``trajectory_id`` (str),
            ``sequence_number`` (Int64), ``state_before``, ``state_after``, ``action`` (dicts or
            None); by time, then sequence number (missing ones last), then in the order in which
            they were written, the rows of one frame in its order.

        Raises
        ------
        InvalidQueryError
            A time without a time zone, a start after the end, inverted corners, an unknown column.
        ResultTooLarge
            The answer has more rows than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> (await ang.experience.get_events(0, 1000)).columns.tolist()[:3]
        ['event_id', 'event_type', 'timestamp']
        >>> head = (-15, -350, -70), (15, -300, 70)
        >>> len(await ang.experience.get_events(within=head, event_type="none"))
        0
        """
        is_flat = as_flag(flatten, "flatten")
        where = EventFilter.of(start, end, event_type, token_ids, trajectory_id, within, self._ids)
        query = events.window(where, limit, columns)
        answer = await self._reader.frame(query, cache, max_rows)
        return _flat(answer) if is_flat else answer

    async def describe(self, *, cache: CacheMode | None = None) -> pd.DataFrame:
        """Return a row per type of events: how many there are, their time span and rewards.

        Parameters
        ----------
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            ``event_type`` (str), ``events`` (int64), ``first_time``, ``last_time``
            (datetime64[us, UTC]), ``total_reward``, ``mean_reward`` (float64); by type.  Counts and
            times are exact, rewards are rounded.

        Examples
        --------
        >>> overview = await ang.experience.describe()
        >>> overview.columns.tolist()[:4]
        ['event_type', 'events', 'first_time', 'last_time']
        """
        return await self._reader.frame(overview.events(), cache, None)

    async def events_around(
        self,
        event_or_time: Id | Time,
        before: Duration = 0,
        after: Duration = 0,
        *,
        columns: Sequence[str] | None = None,
        event_type: str | Sequence[str] | None = None,
        token_ids: TokenIds | None = None,
        trajectory_id: Id | None = None,
        within: Window | None = None,
        limit: int | None = None,
        flatten: bool = False,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return the events around another event, or around a time.

        Parameters
        ----------
        event_or_time : id, datetime or int
            An event's id, or a time: with a time zone, or milliseconds since the epoch.
        before, after : timedelta, number of seconds, or str
            The lengths of time before and after it, at most a century each; both ends are
            included, so by default only events at exactly that time are returned.
        columns : sequence of str, optional
            The columns to return, in this order: those below, ``metadata``, ``created_at``.
        event_type, token_ids, trajectory_id, within, flatten
            As in `get_events`.
        limit : int, optional
            Return only the first rows.
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            The columns and order of `get_events`, with ``offset`` (timedelta64[us]) after
            ``timestamp``: the time since that event or time, negative before it.

        Raises
        ------
        NotFoundError
            The id names no event.
        InvalidQueryError
            A negative length, a time without a time zone.
        ResultTooLarge
            The answer has more rows than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> ids = await ang.experience.bulk_create({"event_type": "tick", "timestamp": [0, 900]})
        >>> ticks = await ang.experience.events_around(ids[1], before="1s", event_type="tick")
        >>> ticks.offset.dt.total_seconds().tolist()
        [-0.9, 0.0]
        """
        is_flat, name = as_flag(flatten, "flatten"), "event_or_time"
        event_id = canonical_id(event_or_time, name) if is_id(event_or_time, name) else None
        time = None if event_id is not None else as_utc(event_or_time, name)
        where = EventFilter.of(None, None, event_type, token_ids, trajectory_id, within, self._ids)
        lengths = as_duration(before, "before"), as_duration(after, "after")
        query = events.around(event_id, time, *lengths, where, limit, columns)
        answer = await self._reader.frame(query, cache, max_rows)
        if "offset" in answer:
            answer["offset"] = answer["offset"].astype("timedelta64[us]")
        return _flat(answer) if is_flat else answer

    async def resample_rewards(
        self,
        freq: Frequency,
        start: Time | None = None,
        end: Time | None = None,
        *,
        event_type: str | Sequence[str] | None = None,
        token_ids: TokenIds | None = None,
        trajectory_id: Id | None = None,
        within: Window | None = None,
        tz: Zone | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return the sum and mean of rewards in each time step, computed on the server.

        Parameters
        ----------
        freq : timedelta, pandas offset, number of seconds, or str
            The length of a step, such as ``"15min"``; not months, which differ in length.
        start, end, event_type, token_ids, trajectory_id, within
            As in `get_events`.
        tz : str or tzinfo, optional
            The time zone of the steps, such as ``"Europe/Berlin"``; UTC by default.  Steps of whole
            days begin at midnight there, and have 23 or 25 hours where the clocks change; all others
            have equal lengths.
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            ``timestamp`` (the start of a step, in `tz`; steps are aligned to 1970-01-01 there), ``count``
            (int64), ``total_reward``, ``mean_reward`` (float64), from the first step with an event
            to the last.  Steps without events have a count and a total of 0, and a mean of NaN.

        Raises
        ------
        InvalidQueryError
            An invalid frequency, a time without a time zone, a start after the end.
        ResultTooLarge
            There are more steps than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> rewards = await ang.experience.resample_rewards("1s", 0, 10_000)
        >>> rewards.columns.tolist()
        ['timestamp', 'count', 'total_reward', 'mean_reward']
        """
        step, zone = as_step(freq), as_zone(tz)
        where = EventFilter.of(start, end, event_type, token_ids, trajectory_id, within, self._ids)
        steps = await self._reader.frame(events.rewards(step, where, zone), cache, max_rows)
        return time_steps.filled(
            steps, step, zone, lambda length: self._reader.check_size(length, max_rows)
        )

    async def count_events(
        self,
        every: Frequency,
        by: str | Sequence[str] | None = None,
        *,
        within: Window | None = None,
        start: Time | None = None,
        end: Time | None = None,
        event_type: str | Sequence[str] | None = None,
        token_ids: TokenIds | None = None,
        trajectory_id: Id | None = None,
        tz: Zone | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return the number of events in each time step, counted on the server.

        Parameters
        ----------
        every : timedelta, pandas offset, number of seconds, or str
            The length of a step, as `freq` of `resample_rewards`.
        by : str or sequence of str, optional
            Count by these columns too: ``event_type``, ``token_id``, ``trajectory_id``, or
            ``metadata.KEY`` (the text of one value of an event's metadata).
        within, start, end, event_type, token_ids, trajectory_id
            As in `get_events`.
        tz : str or tzinfo, optional
            The time zone of the steps, as in `resample_rewards`.
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            ``timestamp`` (the start of a step, as in `resample_rewards`), the columns of `by` (str),
            ``count`` (int64); by time, then by these columns, text by code points.  Only steps and
            groups with events have rows; events that lack one of the columns are not counted.

        Raises
        ------
        InvalidQueryError
            An invalid frequency, an unknown column, a time without a time zone.
        ResultTooLarge
            The answer has more rows than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> tick = {"event_type": "tick-tock", "timestamp": [0, 1, 86_400_000]}
        >>> ids = await ang.experience.bulk_create(tick)
        >>> days = await ang.experience.count_events("D", "event_type", event_type="tick-tock")
        >>> days[["event_type", "count"]].values.tolist()
        [['tick-tock', 2], ['tick-tock', 1]]
        """
        step, zone = as_step(every, "every"), as_zone(tz)
        where = EventFilter.of(start, end, event_type, token_ids, trajectory_id, within, self._ids)
        query = events.counts(step, by, where, zone)
        steps = await self._reader.frame(query, cache, max_rows)
        return time_steps.labelled(steps, step, zone)

    async def get_recent_events(
        self,
        count: int = 10,
        *,
        columns: Sequence[str] | None = None,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return the last events, oldest first.

        Parameters
        ----------
        count : int
            The number of events; all, if there are fewer.
        columns : sequence of str, optional
            As in `get_events`.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            The columns and order of `get_events`.

        Raises
        ------
        InvalidQueryError
            A count below 1, an unknown column.

        Examples
        --------
        >>> last = await ang.experience.get_recent_events(3)
        >>> last.timestamp.is_monotonic_increasing
        True
        """
        return await self._reader.frame(events.recent(count, columns), cache, None)

    async def get_trajectory(
        self,
        id: Id,  # noqa: A002 - the trajectory's
        *,
        columns: Sequence[str] | None = None,
        discount: float = 1.0,
        flatten: bool = False,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return the events of a trajectory in sequence, with their cumulative reward.

        Parameters
        ----------
        id : id
        columns : sequence of str, optional
            The columns to return, in this order: those below, ``metadata``, ``created_at``.
        discount : float
            0 to 1.  The reward of step k, from 0, is weighted by ``discount ** k``: so the last sum
            is the discounted return of the first step (Sutton and Barto, *Reinforcement Learning*,
            2nd edition, equation 3.8).
        flatten : bool
            As in `get_events`.
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            The columns of `get_events`, and ``cumulative_reward`` (float64): the sum of the
            weighted rewards up to this step.  By sequence number (missing ones last), then time,
            then in the order in which they were written, the rows of one frame in its order;
            empty if the trajectory has no events yet.

        Raises
        ------
        NotFoundError
            The id names no trajectory.
        InvalidQueryError
            A discount below 0 or above 1, an unknown column.
        ResultTooLarge
            The answer has more rows than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> run = await ang.experience.start_trajectory()
        >>> steps = {"event_type": "step", "timestamp": [0, 1, 2], "trajectory_id": run}
        >>> ids = await ang.experience.bulk_create(steps | {"reward": [1.0, 1.0, 2.0]})
        >>> (await ang.experience.get_trajectory(run, discount=0.5)).cumulative_reward.tolist()
        [1.0, 1.5, 2.0]
        """
        trajectory_id, is_flat = canonical_id(id), as_flag(flatten, "flatten")
        factor = as_float(discount)
        if factor is None or not 0 <= factor <= 1:
            raise InvalidQueryError(f"discount must be a number from 0 to 1, not {shown(discount)}")
        query = trajectories.events_of(trajectory_id, columns)
        steps = await self._reader.frame(query, cache, max_rows)
        if trajectories.CUMULATIVE_REWARD in steps:
            rewards = steps[trajectories.CUMULATIVE_REWARD].to_numpy()
            with np.errstate(over="ignore", under="ignore"):
                cumulative = np.cumsum(rewards * factor ** np.arange(len(steps)))
            steps[trajectories.CUMULATIVE_REWARD] = cumulative
        if is_flat:
            steps = _flat(steps)
            if columns is None:
                # The last column, as without `flatten`.
                name = trajectories.CUMULATIVE_REWARD
                steps[name] = steps.pop(name)
        return steps

    async def list_trajectories(
        self,
        start: Time | None = None,
        end: Time | None = None,
        *,
        event_type: str | Sequence[str] | None = None,
        token_ids: TokenIds | None = None,
        within: Window | None = None,
        ended: bool | None = None,
        limit: int | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return a list of trajectories: all, or those with an event that passes all filters.

        Parameters
        ----------
        start, end, event_type, token_ids, within
            As in `get_events`; one event must pass all of them.
        ended : bool, optional
            Keep trajectories that have ended, or that have not.
        limit : int, optional
            Return only the first rows by id.
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            ``trajectory_id`` (str), ``start_time``, ``end_time`` (datetime64[us, UTC]: of its first
            and last event, NaT without events), ``event_count`` (int64), ``total_reward``
            (float64), ``duration`` (timedelta64[us]), ``ended_at`` (datetime64[us, UTC]: when
            `end_trajectory` was called), ``metadata`` (dicts or None); by start, then id.

        Raises
        ------
        InvalidQueryError
            A time without a time zone, a start after the end.
        ResultTooLarge
            The answer has more rows than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> (await ang.experience.list_trajectories()).columns.tolist()[:3]
        ['trajectory_id', 'start_time', 'end_time']
        """
        has_ended = as_flag(ended, "ended", optional=True)
        where = EventFilter.of(start, end, event_type, token_ids, None, within, self._ids)
        query = trajectories.listing(where, None, has_ended, limit)
        return with_duration(await self._reader.frame(query, cache, max_rows))

    async def activity_in_region(
        self,
        min_coords: Coordinates | Region,
        max_coords: Coordinates | None = None,
        level: Level = 0,
        *,
        start: Time | None = None,
        end: Time | None = None,
        event_type: str | Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        limit: int | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return the tokens in a region that have events in a time window, with sums over these.

        Parameters
        ----------
        min_coords, max_coords, level
            A region, as in `Tokens.find_in_region`, and the present place of the tokens.
        start, end, event_type
            As in `get_events`.
        token_type : str or sequence of str, optional
            Keep tokens of this type, or of any of these.
        where : mapping, optional
            Keep tokens whose metadata contain these keys with these values, as in `Tokens.find`.
        limit : int, optional
            Return only the first rows by id.
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            A row per token with such an event, by id: ``token_id`` (str), ``x``, ``y``, ``z``
            (float64), ``event_count`` (int64), ``total_reward``, ``mean_reward`` (float64),
            ``first_time``, ``last_time`` (datetime64[us, UTC]).

        Raises
        ------
        InvalidQueryError
            Inverted corners, a time without a time zone, a start after the end.
        ResultTooLarge
            The answer has more rows than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> near = await ang.tokens.find_nearest((0, 0, 0), k=1)
        >>> for reward in (0.5, 1.5):
        ...     event = {"token_id": near.token_id[0], "reward": reward}
        ...     event_id = await ang.experience.create_event("touch", 5, **event)
        >>> box = (-40, -400, -80), (40, 500, 80)
        >>> touched = await ang.experience.activity_in_region(*box, event_type="touch")
        >>> touched[["event_count", "mean_reward"]].values.tolist()
        [[2.0, 1.0]]
        """
        place = Place.of(min_coords, max_coords, level)
        events = EventFilter(start, end, event_type)
        query = joins.activity(place, TokenFilter(token_type, where), events, limit)
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
        """Return the mean position of the tokens of a trajectory's events, in each time step.

        Parameters
        ----------
        trajectory_id : id
        freq : timedelta, pandas offset, number of seconds, or str
            The length of a step, as in `resample_rewards`.
        level : int or str
            The level of the coordinates, which are the present ones of the tokens.
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            ``timestamp`` (the start of a step, as in `resample_rewards`), ``x``, ``y``, ``z``
            (float64: the mean over the step's events, so a token counts once per event),
            ``event_count``, ``token_count`` (int64: the number of these events, and of different
            tokens); by time.  Steps without an event whose token is on that level have no row.

        Raises
        ------
        NotFoundError
            The id names no trajectory.
        InvalidQueryError
            An invalid frequency, an unknown level.
        ResultTooLarge
            The answer has more rows than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> run = await ang.experience.start_trajectory()
        >>> near = await ang.tokens.find_nearest((0, 0, 0), k=2)
        >>> visits = {"event_type": "visit", "timestamp": [0, 1], "token_id": near.token_id}
        >>> ids = await ang.experience.bulk_create(visits | {"trajectory_id": run})
        >>> means = await ang.experience.mean_position(run, "1s")
        >>> means.x[0] == near.x.mean(), means.token_count[0]
        (np.True_, np.int64(2))
        """
        canonical = canonical_id(trajectory_id, "trajectory_id")
        query = joins.mean_position(canonical, as_step(freq), level)
        return await self._reader.frame(query, cache, max_rows)

    async def to_dask(
        self,
        start: Time | None = None,
        end: Time | None = None,
        *,
        columns: Sequence[str] | None = None,
        npartitions: int | None = None,
        rows_per_partition: int | None = None,
        event_type: str | Sequence[str] | None = None,
        token_ids: TokenIds | None = None,
        trajectory_id: Id | None = None,
        within: Window | None = None,
        consistent: bool = False,
        url: str | None = None,
    ) -> DaskFrame:
        """Return the events of a time window as a Dask frame, whose partitions its workers read.

        The partitions, one after the other, have the order of `get_events`.  Everything else is as
        in `Tokens.to_dask`.

        Parameters
        ----------
        start, end, columns, event_type, token_ids, trajectory_id, within
            As in `get_events`.
        npartitions, rows_per_partition : int
            Pass one of the two: the number of partitions, or of events in each.
        consistent : bool
            Whether computing raises ConsistencyError if events change after this call.
        url : str, optional
            The database that the workers read, or ``"environment"``, as in `Tokens.to_dask`.

        Returns
        -------
        dask.dataframe.DataFrame
            The columns and dtypes of `get_events`, with dicts as JSON text (str), so that
            ``.to_parquet()`` can write them; `json.loads` reads a text.

        Raises
        ------
        InvalidQueryError
            As in `get_events`, or not exactly one of `npartitions` and `rows_per_partition`.
        ConfigError
            Dask is not installed (``pip install 'ngdata[dask]'``), or `consistent` is set and the
            versions of the store cannot be read.

        Examples
        --------
        >>> noon = 1_700_000_000_000
        >>> times = [noon + 1000 * step for step in range(6)]
        >>> ids = await ang.experience.bulk_create({"event_type": "step", "timestamp": times})
        >>> events = await ang.experience.to_dask(noon, noon + 6000, rows_per_partition=2)
        >>> events.npartitions, events.map_partitions(len).compute().tolist()
        (3, [2, 2, 2])
        """
        where = EventFilter.of(start, end, event_type, token_ids, trajectory_id, within, self._ids)
        split = event_split(where, PartCount(npartitions, rows_per_partition), columns)
        return await dask_frame(self._reader, self._database, split, "events", consistent, url)

    async def to_parquet(
        self,
        path: str | os.PathLike[str],
        start: Time | None = None,
        end: Time | None = None,
        *,
        partitions: int,
        chunk_rows: int | None = None,
        overwrite: bool = False,
        columns: Sequence[str] | None = None,
        event_type: str | Sequence[str] | None = None,
        token_ids: TokenIds | None = None,
        trajectory_id: Id | None = None,
        within: Window | None = None,
    ) -> int:
        """Write the events of a time window to a directory of Parquet files, in the order of time.

        The bounds of the times in each row group let Dask, DuckDB, Polars and
        `ngdata.files.open_dataset` read only what a time window needs.

        Parameters
        ----------
        path : path
            A directory, which must not exist or be empty, unless `overwrite` is set.
        start, end, columns, event_type, token_ids, trajectory_id, within
            As in `get_events`.  `columns` must have ``timestamp``.
        partitions, chunk_rows, overwrite
            As in `Tokens.to_geoparquet`.

        Returns
        -------
        int
            The number of events written.  The files have dicts as JSON text.

        Raises
        ------
        InvalidQueryError
            As in `get_events`, or the directory has files or cannot be written.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp()) / "events"
        >>> noon = 1_700_000_100_000
        >>> times = [noon + 1000 * step for step in range(6)]
        >>> ids = await ang.experience.bulk_create({"event_type": "step", "timestamp": times})
        >>> await ang.experience.to_parquet(folder, noon, noon + 6000, partitions=2)
        6
        """
        where = EventFilter.of(start, end, event_type, token_ids, trajectory_id, within, self._ids)
        return await data_sets.write_events(
            self._reader,
            where,
            columns,
            path,
            partitions=partitions,
            chunk_rows=chunk_rows,
            overwrite=bool(as_flag(overwrite, "overwrite")),
        )


def _flat(answer: pd.DataFrame) -> pd.DataFrame:
    """Return an answer with a column for each key of its dicts."""
    return flatten_dicts(answer, [name for name in _DICTS if name in answer])
