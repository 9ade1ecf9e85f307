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
from collections.abc import AsyncGenerator, Coroutine, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import Any, TypeVar

from ngdata._connections.driver_errors import translated
from ngdata._connections.threads import start_thread
from ngdata.errors import NGDataError

__all__ = ["BackgroundLoop", "background_loop"]

T = TypeVar("T")

# Seconds of one wait.  A wait without a timeout ignores Ctrl-C where a library has installed its own
# signal handler (Polars does, and ADBC imports Polars where it is installed).
_WAIT_STEP = 0.1

# Seconds in which an interrupted call may clean up, before the interrupt is raised regardless.
_CLEANUP_TIMEOUT = 2.0

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

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its result; an interrupt cancels it.

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
        outcome: Future[T] = Future()
        tasks: list[asyncio.Task[T]] = []

        def start() -> None:
            tasks.append(self._loop.create_task(work))
            tasks[0].add_done_callback(lambda task: _settle(outcome, task))

        self._loop.call_soon_threadsafe(start)
        try:
            while not outcome.done():
                wait_for([outcome], timeout=_WAIT_STEP)
        except BaseException:
            # Runs after `start`, so the task exists.
            self._loop.call_soon_threadsafe(lambda: tasks[0].cancel())
            with contextlib.suppress(BaseException):
                wait_for([outcome], timeout=_CLEANUP_TIMEOUT)
            raise
        return outcome.result()

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
        closing = asyncio.run_coroutine_threadsafe(_close(items), self._loop)
        if threading.current_thread() is not self._thread:
            wait_for([closing], timeout=_CLEANUP_TIMEOUT)

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


def _check_descriptors() -> None:
    """Open what a loop opens, and close it: a loop for which that fails midway prints a traceback."""
    descriptors: list[int] = []
    try:
        while len(descriptors) < _LOOP_DESCRIPTORS:
            descriptors.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _settle(outcome: Future[T], task: asyncio.Task[T]) -> None:
    if task.cancelled():
        outcome.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())


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
