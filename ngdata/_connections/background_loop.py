"""The event loop that serves the sync clients: one daemon thread for the whole process.

It works whether or not the caller's thread runs a loop of its own (a Jupyter kernel does), for
many threads at once, and does not hold the interpreter when it exits.
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

from ngdata.errors import NGDataError

__all__ = ["BackgroundLoop", "background_loop"]

T = TypeVar("T")

# A wait without end is deaf to Ctrl-C where a library has its own handler of signals (Polars does,
# and ADBC imports Polars where it is installed).
_STEP = 0.1

# What an interrupted call may take to clean up before the interrupt is passed on regardless.
_PATIENCE = 2.0


class BackgroundLoop:
    """A running event loop on a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self.process = os.getpid()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="ngdata-loop", daemon=True
        )
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work there and wait for it here; an interrupt cancels it and lets it clean up.

        Raises
        ------
        NGDataError
            In a forked child, or on the loop's own thread.
        """
        try:
            self._refuse_wrong_callers()
        except NGDataError:
            work.close()
            raise
        done: Future[T] = Future()
        tasks: list[asyncio.Task[T]] = []

        def start() -> None:
            tasks.append(self._loop.create_task(work))
            tasks[0].add_done_callback(lambda task: _settle(done, task))

        self._loop.call_soon_threadsafe(start)
        try:
            while not done.done():
                wait_for([done], timeout=_STEP)
        except BaseException:
            # Behind `start`, so the task is there.
            self._loop.call_soon_threadsafe(lambda: tasks[0].cancel())
            with contextlib.suppress(BaseException):
                wait_for([done], timeout=_PATIENCE)
            raise
        return done.result()

    def iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """Iterate here over what comes there; leaving early ends it there."""
        exhausted = False
        try:
            while (item := self.run(_next(items))) is not None:
                yield item
            exhausted = True
        finally:
            if not exhausted:
                self._end(items)

    def _end(self, items: AsyncGenerator[T, None]) -> None:
        # Also called by the garbage collector: on any thread, in a child, when all is over.
        if self.process != os.getpid() or sys.is_finalizing():
            return
        ending = asyncio.run_coroutine_threadsafe(_close(items), self._loop)
        if threading.current_thread() is not self._thread:
            wait_for([ending], timeout=_PATIENCE)

    def _refuse_wrong_callers(self) -> None:
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


def _settle(done: Future[T], task: asyncio.Task[T]) -> None:
    if task.cancelled():
        done.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        done.set_exception(error)
    else:
        done.set_result(task.result())


async def _next(items: AsyncGenerator[T, None]) -> T | None:
    return await anext(items, None)


async def _close(items: AsyncGenerator[T, None]) -> None:
    await items.aclose()


_lock = threading.Lock()
_current: BackgroundLoop | None = None


def background_loop() -> BackgroundLoop:
    """Give this process's loop; a forked child gets one of its own."""
    global _current
    with _lock:
        if _current is None or _current.process != os.getpid():
            _current = BackgroundLoop()
        return _current


def _after_fork() -> None:
    # Another thread may have held the lock when the process forked.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
