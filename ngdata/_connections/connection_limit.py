"""A limit on the connections in use at once, with a timeout for callers that wait.

Every use of a connection passes here, so this is also where a client is refused that is used from
another event loop or in a forked child.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ngdata.errors import DatabaseUnavailable, NGDataError

__all__ = ["ConnectionLimit"]

# Seconds until an interrupt is noticed, at most.
_TICK_INTERVAL: Final = 0.1


class ConnectionLimit:
    """Limit how many connections are in use at once; further callers wait.

    It belongs to the event loop and the process in which it is made.

    Parameters
    ----------
    limit : int
    timeout : float
        Seconds that a caller waits.
    purpose : str
        What the connections are for, as the error names it.
    """

    def __init__(self, limit: int, timeout: float, purpose: str) -> None:
        self._limit = limit
        self._timeout = timeout
        self._purpose = purpose
        self._free = asyncio.Semaphore(limit)
        self._is_closed = False
        self._process = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._tick: asyncio.TimerHandle | None = None
        self._in_use = 0
        self._waiting = 0

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[None]:
        """Count one connection as in use during the body; wait until one is free."""
        self.check_caller()
        self._waiting += 1
        try:
            if not self._free.locked():
                # This does not wait, so it needs no timer.
                await self._free.acquire()
            else:
                async with asyncio.timeout(self._timeout):
                    await self._free.acquire()
        except TimeoutError:
            raise DatabaseUnavailable(
                f"all {self._limit} connections for {self._purpose} were in use for "
                f"{self._timeout:g} s; close iterators that are not read to their end, or allow "
                "more with pool_max_size"
            ) from None
        finally:
            self._waiting -= 1
        self._in_use += 1
        if self._tick is None:
            self._keep_loop_awake()
        try:
            yield
        finally:
            self._in_use -= 1
            self._free.release()

    def has_free(self) -> bool:
        """Return whether a connection is free that no caller waits for."""
        return not self._free.locked()

    @asynccontextmanager
    async def acquire_free(self, limit: int) -> AsyncIterator[int]:
        """Count up to `limit` free connections as in use during the body, without waiting."""
        count = 0
        try:
            while count < limit and self.has_free():
                await self._free.acquire()
                count += 1
                self._in_use += 1
            yield count
        finally:
            for _ in range(count):
                self._in_use -= 1
                self._free.release()

    def _keep_loop_awake(self) -> None:
        # ipykernel passes the interrupt of an awaited cell to the event loop, which may sleep in its
        # selector until the next event; so there is an event regularly while a connection is in use.
        self._tick = (
            self._loop.call_later(_TICK_INTERVAL, self._keep_loop_awake) if self._in_use else None
        )

    def close(self) -> None:
        """Refuse further callers; connections in use stay so until they are released."""
        self._is_closed = True

    def check_caller(self) -> None:
        """Raise if the client is closed, or used in a forked child or another event loop."""
        self.check_open()
        if self._loop is not asyncio.get_running_loop():
            raise NGDataError(
                "this client was opened in another event loop, to which its connections belong; "
                "open one with connect_async() in each loop, or use the sync ngdata.connect()"
            )

    def check_open(self) -> None:
        """Raise if the client is closed, or used in a forked child; in any thread."""
        if self._is_closed:
            raise NGDataError("this client is closed; open a new one with ngdata.connect()")
        if self._process != os.getpid():
            raise NGDataError(
                "this client was opened before the process forked, and its connections belong to "
                "the parent; open a new one in the child"
            )

    def status(self, idle: int) -> dict[str, int]:
        """Return the numbers of connections; `idle` of them are open and not in use."""
        return {
            "size": self._in_use + idle,
            "in_use": self._in_use,
            "idle": idle,
            "waiting": self._waiting,
            "limit": self._limit,
        }
