"""What a recorder does: a bounded queue that any thread fills, and its writing in the background.

Callers only append to the queue.  Everything else happens in the event loop of the client: a timer
writes what waits, and `flush` and `close` write at once.  No lock is held while a thread waits, because
an interrupt may come between any two of its steps.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sys
import time
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Final

from ngdata._arguments.durations import Duration, as_duration
from ngdata._arguments.id_space import IdSpace
from ngdata._arguments.numbers import positive
from ngdata._arguments.shown import shown
from ngdata._connections.database import Database
from ngdata._connections.lifetime import running_loop
from ngdata._connections.telemetry import LOGGER
from ngdata._store.event_writer import EventRow, EventWriter, Refusal, events_frame
from ngdata.errors import (
    DatabaseUnavailable,
    InvalidQueryError,
    NGDataError,
    OutOfResources,
    QueryTimeout,
)

__all__ = ["Recording", "Recordings"]

# Each batch is one transaction: large enough for its fixed costs, small enough for a loop that also
# does other work, which stands still while a batch is converted.
_BATCH_ROWS: Final = 2_000
_BATCH_CHARACTERS: Final = 4_000_000

# Seconds between attempts to reach a server that is away: the first, and the longest.
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0

# Seconds between two looks of a thread that waits for room in the queue.
_ROOM_INTERVAL: Final = 0.01

# Seconds that the interpreter's exit waits for recorders that were not closed.
_EXIT_TIMEOUT: Final = 5.0

_CLOSED: Final = "this recorder is closed; open another with experience.recorder()"
_FORKED: Final = (
    "this recorder was opened before the process forked, and the parent writes what it recorded; "
    "call ngdata.connect() again in the child, and open another there"
)
_OTHER_LOOP: Final = (
    "this recorder belongs to the event loop that opened its client; call flush() and close() there, "
    "or use the sync ngdata.connect()"
)

# Those that have events which are not written, or whose loss was not reported; all others may be
# garbage.
_unfinished: Final[set[Recording]] = set()


class Recording:
    """Events of one recorder, from the call that records them until they are written.

    Parameters
    ----------
    database : Database
    ids : IdSpace
        How token ids go in and come out.
    delay : float
        Seconds that an event waits, at most, until it is written, if the server keeps up.
    wait : float
        Seconds that a server may be away, or a full queue stay full.
    max_waiting : int
        How many events may wait.

    Attributes
    ----------
    where : str
        The server's address.
    ids : IdSpace
    """

    def __init__(
        self, database: Database, ids: IdSpace, delay: float, wait: float, max_waiting: int
    ) -> None:
        self.where = database.where
        self.ids = ids
        self._loop = database.lifetime.loop
        self._process = database.lifetime.process
        self._delay = delay
        self._wait = wait
        self._max_waiting = max_waiting
        self._queue: deque[EventRow] = deque()
        self._writer = EventWriter(database)
        # One at a time writes, so that batches stay in order.
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        # How many events waited when the loop was called; 0 if it was not, since the last write.
        self._noticed = 0
        self._left_queue = 0
        self._lost: deque[Refusal] = deque()
        self._away_since: float | None = None
        self._is_giving_up = False
        self._is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open"
        return (
            f"of {self.where}, {state}: {self._left_queue + len(self._queue):,} events recorded, "
            f"{self._writer.written:,} written, {self._waiting():,} waiting"
        )

    # --- in any thread -----------------------------------------------------------------------------

    def add(self, row: EventRow) -> None:
        """Add a checked event to the queue.

        Raises
        ------
        NGDataError
            The event is not in the queue, and will not be written.
        """
        if self._process != os.getpid():
            raise _with_event(NGDataError(_FORKED), row, self.ids)
        queue = self._queue
        if self._lost:
            self.report(row)
        if len(queue) >= self._max_waiting:
            self._wait_for_room(row)
        queue.append(row)
        # The last write, or giving up, may have passed already.  If not, it includes the event.
        while (self._is_closed or self._lost) and self._withdraw(row):
            self.report(row)
            if self._is_closed:
                raise _with_event(NGDataError(_CLOSED), row, self.ids)
            queue.append(row)  # another thread has had the report
        # The loop is called for the first event, and again when a whole batch waits.
        waiting = len(queue)
        if not self._noticed or self._noticed < _BATCH_ROWS <= waiting:
            try:
                self._noticed = waiting
                self._call_loop()
            except BaseException:  # an interrupt, so the next call calls the loop
                self._noticed = 0
                raise
        elif self._loop.is_closed():
            self._abandon()
            self.report()

    def _call_loop(self) -> None:
        _unfinished.add(self)
        try:
            self._loop.call_soon_threadsafe(self._schedule)
        except RuntimeError:
            self._abandon()
            self.report()

    def _withdraw(self, row: EventRow) -> bool:
        """Remove an event from the queue; return whether it was still there."""
        while True:
            try:
                self._queue.remove(row)
            except ValueError:
                return False
            except IndexError:  # the loop emptied the queue meanwhile
                continue
            return True

    def _wait_for_room(self, row: EventRow) -> None:
        """Wait until the queue has room; in the thread that must make it, raise at once."""
        deadline = time.monotonic() + self._wait
        is_in_loop = running_loop() is self._loop
        while len(self._queue) >= self._max_waiting:
            if self._loop.is_closed():
                self._abandon()
            if self._lost:
                self.report(row)
            if self._is_closed:
                raise _with_event(NGDataError(_CLOSED), row, self.ids)
            if is_in_loop or time.monotonic() > deadline:
                raise self._full(row, is_in_loop=is_in_loop)
            time.sleep(_ROOM_INTERVAL)

    def _full(self, row: EventRow, *, is_in_loop: bool) -> NGDataError:
        waiting = f"as many events wait to be written as max_waiting allows, {self._max_waiting:,}"
        here = "this one was not recorded, and is in the error's `unwritten`"
        error: NGDataError
        if self._away_since is not None:
            error = DatabaseUnavailable(f"{waiting}, because {self.where} is away; {here}")
        elif is_in_loop:
            error = OutOfResources(
                f"{waiting}, and the event loop cannot write them while it records; {here}. Await "
                "record.flush() now and then"
            )
        else:
            error = OutOfResources(f"{waiting}, because {self.where} does not keep up; {here}")
        return _with_event(error, row, self.ids)

    def _abandon(self) -> None:
        """Set the waiting events aside, because the event loop that would write them is closed."""
        error = NGDataError(
            "the event loop of this recorder's client is closed; leave the recorder's `async with` "
            "before the loop ends"
        )
        self._give_up(error)

    def report(self, *rows: EventRow) -> None:
        """Raise one error for all events that were lost or refused since the last report.

        Its `unwritten` has these events, followed by `rows`.
        """
        refusals: list[Refusal] = []
        try:
            refusals = self.collect()
            raise_if_any(refusals, self.ids, rows)
        except NGDataError:
            raise
        except BaseException:  # an interrupt, so they are still to be reported
            _unfinished.add(self)
            self._lost.extend(refusals)
            raise

    def collect(self) -> list[Refusal]:
        """Return what was lost or refused since the last report, and count it as reported."""
        while self._is_giving_up:  # in another thread, which does not wait meanwhile
            time.sleep(0)
        refusals = [*_emptied(self._lost), *_emptied(self._writer.refused)]
        if not self._unwritten():
            _unfinished.discard(self)
        return refusals

    def _unwritten(self) -> int:
        """Return how many events are not written, and were not reported."""
        return self._waiting() + _count([*self._lost, *self._writer.refused])

    def _waiting(self) -> int:
        return len(self._queue) + len(self._writer)

    # --- in the event loop -------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Start writing after a delay, or now if a whole batch waits."""
        _unfinished.add(self)
        if len(self._queue) >= _BATCH_ROWS:
            self._start_in(0)
        elif self._timer is None:
            # The other half of the delay is for the server.
            self._start_in(self._delay / 2)

    def _start_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._start)

    def _start(self) -> None:
        self._timer = None
        if self._task is None:
            self._task = self._loop.create_task(self._write())
            self._task.add_done_callback(self._end)

    def _end(self, _: asyncio.Task[None]) -> None:
        self._task = None
        # Without a timer, one ended during the write; or the write was cancelled.
        if self._waiting() and self._timer is None:
            self._start_in(0)

    async def check(self) -> None:
        """Raise if the recorder is closed, or if every write would fail."""
        if self._is_closed:
            raise NGDataError(_CLOSED)
        self._check_caller()
        await self._writer.check()

    async def flush(self) -> None:
        """Write all events recorded before; then, the caller calls `report`.

        An error that is raised here would be lost with a blocking call that Ctrl-C ends.
        """
        self._check_caller()
        try:
            await self._write()
        finally:
            # A cancelled write goes on in the background.
            if self._waiting():
                self._start_in(0)

    async def close(self) -> None:
        """Refuse further events, and flush; again, if that was interrupted."""
        self._check_caller()
        self._is_closed = True
        await self.flush()

    def _check_caller(self) -> None:
        if self._process != os.getpid():
            raise NGDataError(_FORKED)
        if asyncio.get_running_loop() is not self._loop:
            raise NGDataError(_OTHER_LOOP)

    async def _write(self) -> None:
        """Write what waits now; wait for a server that is away."""
        async with self._turn:
            # From here on, a new event calls the loop again.
            self._noticed = 0
            left = len(self._queue)
            pause = _FIRST_PAUSE
            while left or len(self._writer):
                if not len(self._writer):
                    left = self._add_batch(left)
                started = self._loop.time()
                try:
                    await self._writer.write()
                except Exception as error:
                    if not self._may_try_again(error, started):
                        self._give_up(error)
                        return
                    LOGGER.warning(
                        "recorded events cannot be written now (%s); trying again",
                        type(error).__name__,
                    )
                    await asyncio.sleep(min(pause, self._wait))
                    pause = min(2 * pause, _LONGEST_PAUSE)
                else:
                    self._away_since = None
            if _count(self._writer.refused) >= self._max_waiting:
                # The next call is told, rather than memory filled with what nobody asks for.
                self._lost.extend(_emptied(self._writer.refused))
            if not self._unwritten():
                _unfinished.discard(self)

    def _add_batch(self, left: int) -> int:
        """Move the first of `left` events from the queue to the writer; return how many remain."""
        rows: list[EventRow] = []
        characters = 0
        while left and len(rows) < _BATCH_ROWS and characters < _BATCH_CHARACTERS:
            try:
                row = self._queue.popleft()
            except IndexError:  # one was withdrawn
                left = 0
                break
            rows.append(row)
            left -= 1
            characters += sum(len(value) for value in row.values() if type(value) is str)
        self._left_queue += len(rows)
        if rows:
            self._writer.add(rows)
        return left

    def _may_try_again(self, error: Exception, started: float) -> bool:
        """Return whether an error may pass, and the server has not been away for too long."""
        conflict = isinstance(error, NGDataError) and (error.sqlstate or "")[:2] == "40"
        if not conflict and not isinstance(
            error, DatabaseUnavailable | OutOfResources | QueryTimeout
        ):
            return False
        if self._away_since is None:
            self._away_since = started
        away: float = self._loop.time() - self._away_since
        return away < self._wait

    def _give_up(self, error: Exception) -> None:
        """Set everything that waits aside, for the next call to report."""
        if not isinstance(error, NGDataError):
            error = NGDataError(f"writing raised {type(error).__name__}: {error}")
        self._away_since = None
        events, in_doubt = self._writer.give_up()
        if in_doubt:
            own = error
            error = type(own)(
                f"{own}. The connection was lost at the commit of {in_doubt:,} of them, which may be "
                "in the store: their ids tell"
            )
            error.sqlstate = own.sqlstate
        if not events and not self._queue:
            return
        _unfinished.add(self)
        self._is_giving_up = True
        try:
            # First, so that no call adds an event that the next report would not have.
            self._lost.append(Refusal(error, events))
            queued = _emptied(self._queue)
            self._left_queue += len(queued)
            self._writer.add(queued)
            events += self._writer.give_up()[0]
        finally:
            self._is_giving_up = False

    # --- at the end of the loop, or of the process -------------------------------------------------

    def cut(self) -> None:
        """Refuse further events; where the event loop has ended, give up what waits."""
        self._is_closed = True
        if not self._loop.is_running():
            self._abandon()

    def end(self, deadline: float) -> None:
        """Write what waits before the interpreter exits, and say what could not be written."""
        if self._process != os.getpid():
            return
        timeout = max(0, deadline - time.monotonic())
        reason = ""
        try:
            if self._loop.is_closed():
                self.cut()
            elif self._loop.is_running():
                asyncio.run_coroutine_threadsafe(self.close(), self._loop).result(timeout)
            else:
                self._loop.run_until_complete(asyncio.wait_for(self.close(), timeout))
        except TimeoutError:
            reason = f"{self.where} did not write them within {_EXIT_TIMEOUT:g} s"
        except Exception as error:  # whatever Python refuses at its exit
            reason = str(error)
        refusals = self.collect()
        if count := self._waiting() + _count(refusals):
            reasons = [reason] if reason else _reasons(refusals)
            # Standard error may be closed.
            with contextlib.suppress(Exception):
                print(f"ngdata: {_summary(count, reasons)}", file=sys.stderr)


def _emptied(items: deque[Any]) -> list[Any]:
    """Remove all items from a deque, which other threads may fill, and return them."""
    removed = []
    for _ in range(len(items)):
        with contextlib.suppress(IndexError):
            removed.append(items.popleft())
    return removed


def _with_event(error: NGDataError, row: EventRow, ids: IdSpace) -> NGDataError:
    error.unwritten = events_frame([row], ids)
    return error


def _count(refusals: Iterable[Refusal]) -> int:
    # A list, because other threads may add to a deque during the sum.
    return sum(len(refusal.events) for refusal in list(refusals))


def _reasons(refusals: list[Refusal]) -> list[str]:
    """Return the errors of refusals without what holds for a single write; each once."""
    texts = (str(refusal.error) for refusal in refusals)
    return list(dict.fromkeys(t.removesuffix("nothing was written").rstrip(";: .") for t in texts))


def _summary(count: int, reasons: list[str]) -> str:
    more = f" (and {len(reasons) - 5} other reasons)" if len(reasons) > 5 else ""
    events = "recorded event was" if count == 1 else "recorded events were"
    return f"{count:,} {events} not written: {'; '.join(reasons[:5])}{more}"


def raise_if_any(refusals: list[Refusal], ids: IdSpace, further: Sequence[EventRow] = ()) -> None:
    """Raise one error for several refusals, if there are any; the first decides its type.

    Its `unwritten` has their events, followed by `further`.
    """
    if not refusals:
        return
    events = [event for refusal in refusals for event in refusal.events]
    rows = [row for _, row in sorted(events, key=itemgetter(0))]
    rows += further
    first = refusals[0].error
    summary = _summary(len(rows), _reasons(refusals))
    error = type(first)(
        f"{summary}. The error's `unwritten` is a frame of them, for experience.bulk_create()"
    )
    error.sqlstate = first.sqlstate
    error.unwritten = events_frame(rows, ids)
    raise ids.renamed(error)


class Recordings:
    """The recordings of one client, which end with it."""

    def __init__(self, database: Database, ids: IdSpace) -> None:
        self._database = database
        self._ids = ids
        database.lifetime.add(self.close, self.cut)
        # No WeakSet, which fails if another thread adds to it while it is copied.
        self._open: set[weakref.ref[Recording]] = set()

    def open(self, delay: Duration, wait: Duration, max_waiting: int) -> Recording:
        """Begin one, with the arguments of `AsyncExperience.recorder`, which are checked."""
        seconds = as_duration(delay, "delay").total_seconds()
        if not seconds:
            raise InvalidQueryError(f"delay must be more than 0 seconds, not {shown(delay)}")
        self._database.check_open()
        recording = Recording(
            self._database,
            self._ids,
            seconds,
            as_duration(wait, "wait").total_seconds(),
            positive(max_waiting, "max_waiting"),
        )
        self._open.add(weakref.ref(recording, self._open.discard))
        return recording

    def _all(self) -> list[Recording]:
        recordings = (reference() for reference in list(self._open))
        return [recording for recording in recordings if recording is not None]

    async def close(self) -> None:
        """Close all; then, the caller calls `report`."""
        await asyncio.gather(*(recording.close() for recording in self._all()))

    def report(self) -> None:
        """Raise one error for all events that were lost or refused since the last report.

        Not in `close`, which goes on if its caller is cancelled: nobody would see the error.
        """
        refusals = [refusal for each in self._all() for refusal in each.collect()]
        raise_if_any(refusals, self._ids)

    def cut(self) -> None:
        """End all, in any thread."""
        for recording in self._all():
            recording.cut()


@atexit.register
def _at_exit() -> None:
    deadline = time.monotonic() + _EXIT_TIMEOUT
    for recording in list(_unfinished):
        recording.end(deadline)
