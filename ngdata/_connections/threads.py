"""Blocking work on daemon threads for an event loop, and clean-up that cannot be interrupted.

Not `run_in_executor`: its threads are joined when the interpreter exits, so a running query would
delay the exit until it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from ngdata.errors import OutOfResources

__all__ = ["Worker", "in_daemon_thread", "start_thread", "uninterrupted"]

T = TypeVar("T")

_Job = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class Worker:
    """One daemon thread that runs submitted work in order, one piece at a time."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | Callable[[], object]] = SimpleQueue()
        self._is_stopped = False
        start_thread(functools.partial(_work, self._jobs), name)

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run a function on the thread; cancelling the future does not stop it.

        After `stop`, the future fails with ConnectionError.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._is_stopped:
            future.set_exception(ConnectionError("the connection is closed"))
        else:
            self._jobs.put((work, loop, future))
        return future

    def stop(self, last: Callable[[], object] = lambda: None) -> None:
        """End the thread after the work that is already submitted, and `last`, whose errors are dropped.

        It needs no event loop; stopping again does nothing.
        """
        if not self._is_stopped:
            self._is_stopped = True
            self._jobs.put(last)


def _work(jobs: SimpleQueue[_Job | Callable[[], object]]) -> None:
    # Without the worker, so that one that is garbage can be stopped.
    while isinstance(job := jobs.get(), tuple):
        work, loop, future = job
        result: Any = None
        error: BaseException | None = None
        try:
            result = work()
        except MemoryError as caught:
            error = OutOfResources.of_memory(caught)
        except BaseException as caught:
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop is closed, so no task waits
            loop.call_soon_threadsafe(_settle, future, result, error)
        # Let go of the answer, or it would stay in memory while the thread waits.
        del job, work, loop, future, result, error
    with contextlib.suppress(Exception):
        job()


def start_thread(work: Callable[[], None], name: str) -> threading.Thread:
    """Start a daemon thread; raise `OutOfResources` if the system refuses one."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError) as error:
        raise OutOfResources(
            f"this process has {threading.active_count()} threads and cannot start another "
            f"({error}); end some, or allow it more threads (ulimit -u) or memory (ulimit -v)"
        ) from None
    return thread


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """Await a blocking function, run on a thread of its own."""
    worker = Worker("ngdata-once")
    try:
        return await worker.submit(work)
    finally:
        worker.stop()


async def uninterrupted(work: Awaitable[T]) -> T:
    """Await to the end even if the waiting task is cancelled; raise the cancellation afterwards.

    For clean-up: if it is cancelled, it leaks a connection or leaves a transaction open.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        # The event loop was closed under its tasks, and Python is ending their coroutines.
        if asyncio.iscoroutine(work):
            work.close()
        raise GeneratorExit from None
    task = asyncio.ensure_future(work)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancellation = error
        except GeneratorExit:
            raise
        except BaseException:
            break
    if cancellation is not None:
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not report it
        raise cancellation
    return task.result()
