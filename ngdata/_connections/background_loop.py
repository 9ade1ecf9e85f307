"""The event loop that serves the sync clients: one daemon thread for the whole process.

It works for many threads at once, whether or not the caller's thread runs a loop of its own (as in
a Jupyter kernel), and does not delay the interpreter's exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from ngdata._connections.caller_warnings import CollectedWarnings
from ngdata._connections.driver_errors import translated
from ngdata._connections.threads import start_thread
from ngdata.errors import NGDataError

__all__ = ["BackgroundLoop", "background_loop"]

T = TypeVar("T")

# Seconds of one wait.  A wait without a timeout ignores Ctrl-C where a library has installed its own
# signal handler, as Polars does.
_WAIT_STEP = 0.1

# Seconds in which an interrupted call may clean up; after that, it goes on without the caller.
_CLEANUP_TIMEOUT = 0.5

# Those of asyncio's loop: its selector, and the two ends that wake it.
_LOOP_DESCRIPTORS = 3


class BackgroundLoop:
    """A running event loop on a daemon thread."""

    def __init__(self) -> None:
        with translated("the event loop"):
            _check_descriptors()
            self._loop = asyncio.new_event_loop()
        self.process = os.getpid()
        try:
            self._thread = start_thread(self._loop.run_forever, "ngdata-loop")
        except BaseException:
            self._loop.close()
            raise

    def run(
        self,
        work: Coroutine[Any, Any, T],
        discard: Callable[[T], Coroutine[Any, Any, object]] | None = None,
    ) -> T:
        """Run a coroutine on the loop and wait for its result; an interrupt cancels it.

        An interrupted call returns within half a second; what the cancelled coroutine still cleans up
        then, it cleans up on the loop.

        Parameters
        ----------
        work : coroutine
        discard : async function, optional
            Closes a result that no caller receives, because the interrupt came after the last moment
            at which the coroutine could be cancelled.

        Raises
        ------
        NGDataError
            In a forked child, or on the thread of the loop.
        """
        try:
            self._check_caller()
        except NGDataError:
            work.close()
            raise
        call = _Call(self._loop, work, discard)
        try:
            with CollectedWarnings():
                call.start()
                task = call.wait_for_end()
        except BaseException:
            call.abandon()
            raise
        if isinstance(error := task.exception(), NGDataError):
            # Without the frames on the loop, which say nothing about the caller's mistake.
            raise error.with_traceback(None)
        return task.result()

    def iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """Iterate over an async generator of the loop; ending early closes the generator."""
        exhausted = False
        try:
            while (item := self.run(_next(items))) is not None:
                yield item
            exhausted = True
        finally:
            if not exhausted:
                self._end(items)

    def _end(self, items: AsyncGenerator[T, None]) -> None:
        # The garbage collector may call this on any thread, in a child, or at interpreter exit.
        if self.process != os.getpid() or sys.is_finalizing():
            return
        call = _Call(self._loop, _close(items))
        call.start()
        if threading.current_thread() is not self._thread:
            call.wait(_CLEANUP_TIMEOUT)

    def _check_caller(self) -> None:
        if self.process != os.getpid():
            raise NGDataError(
                "this client was opened before the process forked, and its connections belong to "
                "the parent; call ngdata.connect() again in the child"
            )
        if threading.current_thread() is self._thread:
            raise NGDataError(
                "a sync client was called from inside its own event loop, which would wait for "
                "itself; use ngdata.connect_async() in async code"
            )


class _Call(Generic[T]):
    """One coroutine on the loop, and the thread that waits for it.

    An interrupt may be raised between any two steps of that thread.  So it holds no lock that the
    loop could wait for, and cancels the call on the loop in a single step.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, T],
        discard: Callable[[T], Coroutine[Any, Any, object]] | None = None,
    ) -> None:
        self._loop = loop
        self._work = work
        self._discard = discard
        self._task: asyncio.Task[T] | None = None
        self._ended: SimpleQueue[asyncio.Task[T]] = SimpleQueue()
        self._discarding: asyncio.Task[None] | None = None
        self._is_abandoned = False

    def start(self) -> None:
        """Start the coroutine; return at once."""
        self._loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        self._task = self._loop.create_task(self._work)
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[T]) -> None:
        has_result = not task.cancelled() and task.exception() is None
        if self._is_abandoned and has_result and self._discard is not None:
            self._discarding = self._loop.create_task(_without_errors(self._discard(task.result())))
            self._discarding.add_done_callback(lambda _: self._ended.put(task))
        else:
            self._ended.put(task)

    def ended(self, timeout: float = _WAIT_STEP) -> asyncio.Task[T] | None:
        """Wait for the end, and return the task; None if it has not ended at the timeout."""
        try:
            return self._ended.get(timeout=timeout)
        except Empty:
            return None

    def wait_for_end(self) -> asyncio.Task[T]:
        """Wait for the end, and return the task.

        A function of its own: from Python 3.12 on, an interrupt between two turns of a loop misses the
        `except` and `with` blocks that hold the loop.
        """
        while (task := self.ended()) is None:
            pass
        return task

    def wait(self, seconds: float) -> None:
        """Wait for the end, at most so long."""
        deadline = time.monotonic() + seconds
        while self.ended() is None and time.monotonic() < deadline:
            pass

    def abandon(self) -> None:
        """Cancel the coroutine, and wait for its end for a moment; further interrupts end the wait."""
        is_sent = False
        while not is_sent:
            with contextlib.suppress(BaseException):
                self._loop.call_soon_threadsafe(self._cancel)
                is_sent = True
        with contextlib.suppress(BaseException):
            self.wait(_CLEANUP_TIMEOUT)

    def _cancel(self) -> None:
        if self._is_abandoned:
            return
        self._is_abandoned = True
        if self._task is None:
            # The interrupt came before `start` had reached the loop.
            self._work.close()
        elif self._task.done():
            self._end(self._task)
        else:
            self._task.cancel()


async def _without_errors(work: Coroutine[Any, Any, object]) -> None:
    with contextlib.suppress(Exception):
        await work


def _check_descriptors() -> None:
    """Open what a loop opens, and close it: a loop for which that fails midway prints a traceback."""
    descriptors: list[int] = []
    try:
        while len(descriptors) < _LOOP_DESCRIPTORS:
            descriptors.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


async def _next(items: AsyncGenerator[T, None]) -> T | None:
    return await anext(items, None)


async def _close(items: AsyncGenerator[T, None]) -> None:
    await items.aclose()


_lock = threading.Lock()
_current: BackgroundLoop | None = None


def background_loop() -> BackgroundLoop:
    """Return this process's loop; a forked child has one of its own."""
    global _current
    with _lock:
        if _current is None or _current.process != os.getpid():
            _current = BackgroundLoop()
        return _current


def _after_fork() -> None:
    # Another thread may have held the lock when the process was forked.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
