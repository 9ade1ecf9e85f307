"""`Client.experience`: events as frames, by time, type, token and trajectory; and their creation.

Written by scripts/generate_sync.py out of ngdata/experience.py; change that file, and run it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ngdata.experience import AsyncExperience
from ngdata.ids import Id, Ids
from ngdata.reader import CacheMode
from ngdata.store.incoming import Frame
from ngdata.sync.twin import Twin
from ngdata.times import Time

__all__ = ["Experience"]


class Experience(Twin[AsyncExperience]):
    """Experience: events with states, actions and rewards, grouped in trajectories."""

    def get_events(
        self,
        start: Time | None = None,
        end: Time | None = None,
        *,
        event_type: str | Sequence[str] | None = None,
        token_ids: Ids | None = None,
        trajectory_id: Id | None = None,
        limit: int | None = None,
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
        limit : int, optional
            Give the first so many, in the order below.
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
            A time without a zone, or a start after the end.

        Examples
        --------
        >>> ng.experience.get_events(0, 1000).columns.tolist()[:3]
        ['event_id', 'event_type', 'timestamp']
        """
        return self._loop.run(
            self._twin.get_events(
                start,
                end,
                event_type=event_type,
                token_ids=token_ids,
                trajectory_id=trajectory_id,
                limit=limit,
                cache=cache,
            )
        )

    def get_recent_events(self, count: int = 10, *, cache: CacheMode | None = None) -> pd.DataFrame:
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
        >>> last = ng.experience.get_recent_events(3)
        >>> last.timestamp.is_monotonic_increasing
        True
        """
        return self._loop.run(self._twin.get_recent_events(count, cache=cache))

    def create_event(
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
            One that is not there yet is made.
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
            The token is not there, or the event is already.

        Examples
        --------
        >>> made = ng.experience.create_event("seen", state_after={"v": 1}, reward=0.5)
        >>> ng.experience.get_recent_events(1).state_after[0]
        {'v': 1}
        """
        return self._loop.run(
            self._twin.create_event(
                event_type,
                timestamp,
                state_before,
                state_after,
                action,
                reward,
                token_id=token_id,
                priority=priority,
                trajectory_id=trajectory_id,
                sequence_number=sequence_number,
                metadata=metadata,
                event_id=event_id,
            )
        )

    def bulk_create(self, frame: Frame, *, progress: bool | None = None) -> pd.Series[str]:
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
            A token that is not there, or an id that is; nothing was written.

        Examples
        --------
        >>> made = ng.experience.bulk_create({"event_type": ["a", "b"], "timestamp": [0, 1]})
        >>> len(made)
        2
        """
        return self._loop.run(self._twin.bulk_create(frame, progress=progress))
