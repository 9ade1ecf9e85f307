"""A bound on how many connections are out at once, with a wait that ends.

Each use of a connection passes here, so this is also where a client that went astray, into another
event loop or a forked child, is told so.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ngdata.errors import DatabaseUnavailable, NGDataError

__all__ = ["Slots"]

# Seconds until an interrupt is noticed, at most.
_TICK: Final = 0.1


class Slots:
    """So many may be taken at once, in the loop it was made in; who comes later waits its turn.

    Parameters
    ----------
    most : int
    patience : float
        Seconds to wait for a slot.
    purpose : str
        What the connections are for, as the error says it.
    """

    def __init__(self, most: int, patience: float, purpose: str) -> None:
        self._most = most
        self._patience = patience
        self._purpose = purpose
        self._free = asyncio.Semaphore(most)
        self._closed = False
        self._process = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._tick: asyncio.TimerHandle | None = None
        self._taken = 0
        self._waiting = 0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Take a slot for the length of the body."""
        self.check_caller()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError:
            raise DatabaseUnavailable(
                f"all {self._most} connections for {self._purpose} were in use for "
                f"{self._patience:g} s; close iterators that are not read to their end, or allow "
                "more with pool_max_size"
            ) from None
        finally:
            self._waiting -= 1
        self._taken += 1
        if self._tick is None:
            self._look_for_interrupts()
        try:
            yield
        finally:
            self._taken -= 1
            self._free.release()

    def has_free(self) -> bool:
        """Tell whether a slot is there that nobody waits for."""
        return not self._free.locked()

    @asynccontextmanager
    async def free_at_once(self, most: int) -> AsyncIterator[int]:
        """Take up to `most` slots for the length of the body, without waiting for any."""
        count = 0
        try:
            while count < most and self.has_free():
                await self._free.acquire()
                count += 1
                self._taken += 1
            yield count
        finally:
            for _ in range(count):
                self._taken -= 1
                self._free.release()

    def _look_for_interrupts(self) -> None:
        # ipykernel hands an interrupt of an awaited cell to a loop that may sleep in its selector
        # until something else happens: so something happens, while a connection is in use.
        self._tick = (
            self._loop.call_later(_TICK, self._look_for_interrupts) if self._taken else None
        )

    def close(self) -> None:
        """Let nobody in any more; who is in may end."""
        self._closed = True

    def check_caller(self) -> None:
        """Raise if it is closed, or the caller is in a forked child or another event loop."""
        if self._closed:
            raise NGDataError("this client is closed; open a new one with ngdata.connect()")
        if self._process != os.getpid():
            raise NGDataError(
                "this client was opened before the process forked, and its connections belong to "
                "the parent; open a new one in the child"
            )
        if self._loop is not asyncio.get_running_loop():
            raise NGDataError(
                "this client was opened in another event loop, to which its connections belong; "
                "open one with connect_async() in each loop, or use the sync ngdata.connect()"
            )

    def status(self, idle: int) -> dict[str, int]:
        """Count the connections, `idle` of which are open and not in use."""
        return {
            "size": self._taken + idle,
            "in_use": self._taken,
            "idle": idle,
            "waiting": self._waiting,
            "limit": self._most,
        }
