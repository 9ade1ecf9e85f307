"""The writes of `client.experience`: new events and trajectories, changes and deletions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import EllipsisType
from typing import Any

import pandas as pd

from ngdata._arguments.durations import Duration
from ngdata._arguments.id_space import TokenId
from ngdata._arguments.ids import Id, Ids, canonical_id, unique_ids
from ngdata._arguments.times import Time
from ngdata._client.namespace import Namespace, as_series
from ngdata._client.recorder import AsyncRecorder
from ngdata._client.recording import Recordings
from ngdata._query import trajectories
from ngdata._query.events import EventFilter
from ngdata._reading.frames import to_frame
from ngdata._reading.reader import described
from ngdata._store import experience as store
from ngdata._store.changes import assignments
from ngdata._store.conflicts import OnConflict
from ngdata._store.fields import EVENTS, TRAJECTORIES, now
from ngdata._store.input_frames import Extra, Frame

__all__ = ["AsyncExperienceWrites", "with_duration"]


class AsyncExperienceWrites(Namespace):
    """Create, change and delete events and trajectories."""

    async def start_trajectory(
        self,
        trajectory_id: Id | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Create a trajectory without events.

        An event may name a trajectory that does not exist, and so create it; call this to set its
        metadata.

        Parameters
        ----------
        trajectory_id : id, optional
            A random UUID by default.
        metadata : mapping, optional

        Returns
        -------
        str
            The trajectory's id.

        Raises
        ------
        IntegrityError
            A trajectory with this id exists.
        InvalidQueryError
            An invalid value; nothing was sent.

        Examples
        --------
        >>> run = await ang.experience.start_trajectory(metadata={"policy": "random"})
        >>> event_id = await ang.experience.create_event("step", 0, reward=2.0, trajectory_id=run)
        >>> (await ang.experience.end_trajectory(run)).total_reward[0]
        np.float64(2.0)
        """
        values = {"trajectory_id": trajectory_id, "metadata": metadata}
        return await self._write_one(TRAJECTORIES, TRAJECTORIES.check_row(values))

    async def end_trajectory(self, id: Id) -> pd.DataFrame:  # noqa: A002 - the trajectory's
        """End a trajectory: from now on, the database rejects further events of it.

        Its existing events can still be changed and deleted.

        Parameters
        ----------
        id : id

        Returns
        -------
        pandas.DataFrame
            Its row in `list_trajectories`; times, count and total are those of all its events.

        Raises
        ------
        NotFoundError
            The id names no trajectory.
        IntegrityError
            The trajectory has ended already.

        Examples
        --------
        >>> run = await ang.experience.start_trajectory()
        >>> ended = await ang.experience.end_trajectory(run)
        >>> ended.ended_at.notna().tolist(), ended.event_count.tolist()
        ([True], [0])
        """
        trajectory_id = canonical_id(id)
        started = time.perf_counter()
        async with self._transaction() as connection:
            row = await store.end_trajectory(connection, trajectory_id)
        frame = with_duration(to_frame(row, (*trajectories.COLUMNS,)))
        return described(frame, "database", None, started)

    async def create_event(
        self,
        event_type: str,
        timestamp: Time | None = None,
        state_before: Mapping[str, Any] | None = None,
        state_after: Mapping[str, Any] | None = None,
        action: Mapping[str, Any] | None = None,
        reward: float = 0.0,
        *,
        token_id: TokenId | None = None,
        priority: float | None = None,
        trajectory_id: Id | None = None,
        sequence_number: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        event_id: Id | None = None,
    ) -> str:
        """Create one event.

        Parameters
        ----------
        event_type : str
        timestamp : datetime or int, optional
            With a time zone, or milliseconds since the epoch; now by default.
        state_before, state_after, action, metadata : mapping, optional
            Stored as JSON; NumPy's numbers and arrays become numbers and lists.
        reward : float
        token_id : id, optional
            The token of the event.
        priority : float, optional
        trajectory_id : id, optional
            It is created if it does not exist; it must not have ended.
        sequence_number : int, optional
            The position in the trajectory.
        event_id : id, optional
            A random UUID by default.

        Returns
        -------
        str
            The event's id.

        Raises
        ------
        InvalidQueryError
            A time without a time zone, or another invalid value; nothing was sent.
        IntegrityError
            The token does not exist, the event does already, or the trajectory has ended.

        Examples
        --------
        >>> event_id = await ang.experience.create_event("seen", state_after={"v": 1}, reward=0.5)
        >>> (await ang.experience.get_recent_events(1)).state_after[0]
        {'v': 1}
        """
        values = {
            "event_type": event_type,
            "timestamp": now() if timestamp is None else timestamp,
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
        return await self._write_one(EVENTS, EVENTS.check_row(values, self._ids))

    async def update_event(
        self,
        event_id: Ids,
        *,
        event_type: str | EllipsisType = ...,
        timestamp: Time | EllipsisType = ...,
        state_before: Mapping[str, Any] | EllipsisType | None = ...,
        state_after: Mapping[str, Any] | EllipsisType | None = ...,
        action: Mapping[str, Any] | EllipsisType | None = ...,
        reward: float | EllipsisType | None = ...,
        token_id: TokenId | EllipsisType | None = ...,
        priority: float | EllipsisType | None = ...,
        trajectory_id: Id | EllipsisType | None = ...,
        sequence_number: int | EllipsisType | None = ...,
        metadata: Mapping[str, Any] | EllipsisType | None = ...,
    ) -> int:
        """Change events; attributes that are not passed stay unchanged.

        The times, the count and the total of their trajectories follow.

        Parameters
        ----------
        event_id : id or sequence of ids
        event_type, timestamp : optional
            As in `create_event`.  Among events with equal times, an event keeps its place in the
            order of writing.
        state_before, state_after, action, metadata : mapping, optional
            As in `create_event`; None removes it, ``...`` leaves it unchanged.
        reward, token_id, priority, sequence_number : optional
            As in `create_event`; None resets to a new event's default.
        trajectory_id : id, optional
            The trajectory that the event moves to, which is created if it does not exist, and must
            not have ended; None takes the event out of its trajectory.

        Returns
        -------
        int
            The number of changed events.

        Raises
        ------
        NotFoundError
            Some ids name no event; nothing was changed.
        IntegrityError
            The token does not exist, or the new trajectory has ended; nothing was changed.
        InvalidQueryError
            An invalid value, or nothing to change; nothing was sent.

        Examples
        --------
        >>> event_id = await ang.experience.create_event("step", 0, reward=2.0)
        >>> await ang.experience.update_event(event_id, reward=3.0, event_type="jump")
        1
        >>> await ang.experience.delete_events(event_id)
        1
        """
        attributes = {
            "event_type": event_type,
            "timestamp": timestamp,
            "state_before": state_before,
            "state_after": state_after,
            "action": action,
            "reward": reward,
            "token_id": token_id,
            "priority": priority,
            "trajectory_id": trajectory_id,
            "sequence_number": sequence_number,
            "metadata": metadata,
        }
        event_ids = unique_ids(event_id, "event_id")
        changes = assignments(EVENTS.within(self._ids), attributes)
        return await self._update(EVENTS, event_ids, changes, attributes)

    async def delete_events(
        self,
        ids: Ids | None = None,
        *,
        trajectory_id: Id | None = None,
        start: Time | None = None,
        end: Time | None = None,
        event_type: str | Sequence[str] | None = None,
    ) -> int:
        """Delete events; the times, the count and the total of their trajectories follow.

        At least one argument must be given; of several, an event must meet all.  A trajectory stays
        when its last event is deleted.

        Parameters
        ----------
        ids : id or sequence of ids, optional
            Ids that name no event are ignored; an empty sequence deletes nothing.
        trajectory_id : id, optional
        start, end : datetime or int, optional
            A window: ``start <= timestamp < end``.
        event_type : str or sequence of str, optional
            The type, or any of several.

        Returns
        -------
        int
            The number of deleted events.

        Raises
        ------
        InvalidQueryError
            An invalid value, or no argument; nothing was sent.

        Examples
        --------
        >>> await ang.experience.delete_events(event_type="draft", start=0, end=1000)
        0
        """
        event_ids = None if ids is None else unique_ids(ids)
        where = EventFilter.of(start, end, event_type, None, trajectory_id, None, self._ids)
        names = ("ids", "trajectory_id", "start", "end", "event_type")
        return await self._delete(EVENTS, event_ids, where.conditions(), names, alias="e")

    async def delete_trajectories(self, ids: Ids) -> int:
        """Delete trajectories; their events stay, without a trajectory.

        To delete the events too, call ``delete_events(trajectory_id=...)`` first.

        Parameters
        ----------
        ids : id or sequence of ids
            Ids that name no trajectory are ignored; an empty sequence deletes nothing.

        Returns
        -------
        int
            The number of deleted trajectories.

        Raises
        ------
        InvalidQueryError
            A value that is not an id; nothing was sent.

        Examples
        --------
        >>> run = await ang.experience.start_trajectory()
        >>> await ang.experience.delete_trajectories(run)
        1
        """
        return await self._delete(TRAJECTORIES, unique_ids(ids), (), ("ids",))

    def recorder(
        self, *, delay: Duration = 0.5, wait: Duration = 60, max_waiting: int = 100_000
    ) -> AsyncRecorder:
        """Open a recorder of single events, which writes them in the background.

        ``record(...)`` has the arguments of `create_event`, returns the event's id at once, and may
        be called in any thread: 20,000 times a second.  Events are written in the order of the calls,
        each once.  Leaving the ``async with`` statement writes the rest, also after an error; so do
        closing the client, and the end of the interpreter within 5 seconds.  Call ``flush()`` before
        `end_trajectory`.

        Parameters
        ----------
        delay : timedelta, number of seconds or str
            How long after its call an event is in the store, at most, if the server keeps up.
        wait : timedelta, number of seconds or str
            How long the server may be away before the events that wait are handed back, in the
            `unwritten` of the error that the next call raises.
        max_waiting : int
            How many events may wait.  When as many wait, a call blocks until there is room, at most
            for `wait`, and then raises; in the client's own event loop, it raises at once.  For large
            states, choose fewer: events that wait are in memory.

        Returns
        -------
        AsyncRecorder
            With ``flush()`` and ``close()``, awaitable; it may be used without ``async with``.

        Raises
        ------
        InvalidQueryError
            A delay of 0, or another invalid value.
        ConfigError
            On entering the ``async with`` statement: the user may not write events.
        NGDataError
            The client is closed, or of another process.

        Examples
        --------
        >>> async with ang.experience.recorder() as record:
        ...     for step in range(1000):
        ...         event_id = record("ran", state_after={"step": step}, reward=0.5)
        >>> len(await ang.experience.get_events(event_type="ran"))
        1000
        """
        self._check_may_write()
        return AsyncRecorder(self._recordings.open(delay, wait, max_waiting))

    @cached_property
    def _recordings(self) -> Recordings:
        """The open recorders, which are closed before the client's connections are."""
        return Recordings(self._database, self._ids)

    async def bulk_create(
        self,
        frame: Frame,
        *,
        progress: bool | None = None,
        extra: Extra = "refuse",
        on_conflict: OnConflict = "error",
    ) -> pd.Series[str]:
        """Create an event per row: all of them in one transaction, or none.

        Parameters
        ----------
        frame : pandas.DataFrame, Arrow or Polars table, or mapping of columns
            ``event_type, timestamp``; optional ``event_id, token_id, state_before, state_after,
            action, reward, priority, trajectory_id, sequence_number, metadata``.  NaN, NaT or
            None in an optional column means the default.  An index that has the name of a column
            is that column, and what only reads return is left out.  Integers in ``timestamp`` are
            milliseconds since the epoch.
        progress : bool, optional
            Whether to show a progress bar; by default, only if writing takes more than two seconds.
        extra : {"refuse", "metadata"}
            Whether columns with other names are refused, or become keys of ``metadata``: missing values
            are left out, times become text in ISO 8601.
        on_conflict : {"error", "skip", "update"}
            What becomes of rows whose id exists: IntegrityError, nothing, or a change of the event to the
            values of the frame's columns; all others stay.

        Returns
        -------
        pandas.Series
            The events' ids (str), in order, on the frame's index; ``attrs["ngdata"]`` has the
            numbers of rows ``created``, ``updated`` and ``skipped``.

        Raises
        ------
        InvalidQueryError
            An invalid value or column; the error names it and its row.  Nothing was sent.
        IntegrityError
            A token that does not exist, an id that does, or a trajectory that has ended; nothing
            was written.

        Examples
        --------
        >>> ids = await ang.experience.bulk_create({"event_type": ["a", "b"], "timestamp": [0, 1]})
        >>> len(ids)
        2
        """
        # One COPY: its trigger locks the trajectories in the order of their ids, so that writers of
        # the same trajectories wait for each other without a deadlock.
        ids, counts = await self._write(
            EVENTS,
            lambda extra: store.check_frame(frame, self._ids, extra),
            progress,
            extra=extra,
            on_conflict=on_conflict,
        )
        return as_series(ids, counts, "event_id", frame)


def with_duration(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the column `duration` to a frame of trajectories, in place."""
    frame.insert(5, "duration", frame.end_time - frame.start_time)
    return frame
