"""One read for callers that ask the same at the same time: later callers wait for the first."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from ngdata._connections.threads import uninterrupted
from ngdata._reading import clock

__all__ = ["SingleFlight"]

T = TypeVar("T")


class _RunningRead(Generic[T]):
    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.started_at = clock.now()
        self.callers = 0


class SingleFlight(Generic[T]):
    """The running reads, each under a key that identifies what it reads: a tuple, the question first."""

    def __init__(self) -> None:
        self._running: dict[Any, _RunningRead[T]] = {}

    def is_running(self, key: Any) -> bool:
        """Return whether a read with this key is running."""
        return key in self._running

    def is_any_running(self, question: str) -> bool:
        """Return whether any read of this question is running."""
        return any(key[0] == question for key in self._running)

    async def join(
        self, key: Any, read: Callable[[], Awaitable[T]], since: float = -math.inf
    ) -> tuple[T, bool]:
        """Return the result of a read that started after `since`, and whether it was joined.

        Cancelling one caller leaves the read running for the others; cancelling the last one
        cancels the read.
        """
        running = self._running.get(key)
        is_joined = running is not None and running.started_at >= since
        if running is None or not is_joined:
            running = self._running[key] = _RunningRead(asyncio.ensure_future(read()))
            ended = running
            running.task.add_done_callback(lambda _: self._remove(key, ended))
        running.callers += 1
        try:
            return await asyncio.shield(running.task), is_joined
        finally:
            running.callers -= 1
            if not running.callers and not running.task.done():
                # A later caller must start a new read.
                self._remove(key, running)
                running.task.cancel()
                await uninterrupted(asyncio.wait([running.task]))

    def _remove(self, key: Any, running: _RunningRead[T]) -> None:
        if self._running.get(key) is running:
            del self._running[key]
        if running.task.done() and not running.task.cancelled():
            running.task.exception()  # retrieved, because no caller may be left to do so

    def clear(self) -> None:
        """Close the running reads to further callers."""
        self._running.clear()
