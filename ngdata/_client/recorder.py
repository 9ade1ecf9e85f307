"""`client.experience.recorder()`: events one by one, written in batches in the background."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import pandas as pd

from ngdata._arguments.cards import Card, Shown
from ngdata._arguments.id_space import TokenId
from ngdata._arguments.ids import Id
from ngdata._arguments.times import Time
from ngdata._client.recording import Recording
from ngdata._connections.process_bound import ProcessBound
from ngdata._store.fields import EVENTS, now
from ngdata.errors import NGDataError

__all__ = ["AsyncRecorder", "Recorded", "attached_to"]


class Recorded(Shown, ProcessBound):
    """What the recorders of both clients share: a call records an event."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def __call__(
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
        """Record one event, to be written within the recorder's delay.

        It may be called in any thread.  The values are converted here, so a state may be changed
        afterwards.

        Parameters
        ----------
        event_type, timestamp, state_before, state_after, action, reward, token_id, priority, \
trajectory_id, sequence_number, metadata, event_id
            As in `create_event`; the timestamp is that of this call by default.

        Returns
        -------
        str
            The event's id.

        Raises
        ------
        InvalidQueryError
            An invalid value; the event is not recorded.
        DatabaseUnavailable
            The server was away for longer than the recorder waits.
        OutOfResources
            The recorder's queue is full, because the server does not keep up.
        NGDataError
            The recorder is closed, or of another process.  With each of these errors, `unwritten`
            has the events that will not be written, and that of this call.
        """
        row = EVENTS.check_row(
            {
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
            },
            self._recording.ids,
        )
        self._recording.add(row)
        event: str = row["id"]
        return event

    def _card(self) -> Card:
        return Card(repr(self)[1:-1])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._recording!r}>"


class AsyncRecorder(Recorded):
    """Record events one by one; `ang.experience.recorder()` opens it.

    Call it with the arguments of `create_event`, in any thread.  Leaving its `async with` statement,
    or `close`, writes the rest.
    """

    async def __aenter__(self) -> Self:
        await self._recording.check()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with attached_to(error):
            await self.close()

    async def flush(self) -> None:
        """Write all events recorded before this call.

        Raises
        ------
        IntegrityError
            Some events were refused (a token that does not exist, an id that does, a trajectory that
            has ended), and all others were written.
        DatabaseUnavailable
            The server was away for longer than the recorder waits.  With each of these errors,
            `unwritten` has the events that are not written.

        Examples
        --------
        >>> async with ang.experience.recorder() as record:
        ...     event_id = record("moved", state_after={"v": 1})
        ...     await record.flush()
        ...     recent = await ang.experience.get_recent_events(1)
        >>> recent.event_id[0] == event_id
        True
        """
        await self._recording.flush()
        self._recording.report()

    async def close(self) -> None:
        """Write all events, and refuse further ones; closing again does nothing.

        Raises
        ------
        IntegrityError, DatabaseUnavailable
            As in `flush`.

        Examples
        --------
        >>> record = ang.experience.recorder()
        >>> event_id = record("moved")
        >>> await record.close()
        """
        await self._recording.close()
        self._recording.report()


@contextmanager
def attached_to(error: BaseException | None) -> Iterator[None]:
    """Attach to the error that leaves a `with` body, if one does, what recorders could not write.

    The body's error is the one that the caller sees; it has a note, and `unwritten`.
    """
    try:
        yield
    except NGDataError as failure:
        if error is None:
            raise
        error.add_note(f"ngdata: {failure}")
        rows: pd.DataFrame | None = failure.unwritten
        earlier = getattr(error, "unwritten", None)
        if rows is not None and isinstance(earlier, pd.DataFrame):
            rows = pd.concat([earlier, rows], ignore_index=True)
        if rows is not None:
            error.unwritten = rows  # type: ignore[attr-defined]  # an exception has a __dict__
