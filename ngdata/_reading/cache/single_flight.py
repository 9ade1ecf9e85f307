"""One read for many askers: who asks what is being read already waits for that read."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from ngdata._connections.threads import uninterrupted

__all__ = ["Flights"]

T = TypeVar("T")


class _Flight(Generic[T]):
    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.begun = time.time()
        self.askers = 0


class Flights(Generic[T]):
    """Reads that are under way, by what they read."""

    def __init__(self) -> None:
        self._flights: dict[Any, _Flight[T]] = {}

    async def join(
        self, key: Any, read: Callable[[], Awaitable[T]], since: float = -math.inf
    ) -> tuple[T, bool]:
        """Give the result of a read that began after `since`, and whether another began it.

        An asker who is cancelled leaves the others their read; the last one takes it along.
        """
        flight = self._flights.get(key)
        joined = flight is not None and flight.begun >= since
        if flight is None or not joined:
            flight = self._flights[key] = _Flight(asyncio.ensure_future(read()))
            landed = flight
            flight.task.add_done_callback(lambda _: self._forget(key, landed))
        flight.askers += 1
        try:
            return await asyncio.shield(flight.task), joined
        finally:
            flight.askers -= 1
            if not flight.askers and not flight.task.done():
                # A late asker must begin anew.
                self._forget(key, flight)
                flight.task.cancel()
                await uninterrupted(asyncio.wait([flight.task]))

    def _forget(self, key: Any, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.task.done() and not flight.task.cancelled():
            flight.task.exception()  # looked at, for nobody may be left who waits

    def clear(self) -> None:
        """Let nobody join what is under way now."""
        self._flights.clear()
