"""A bounded pool of connections that read Arrow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ngdata._connections.arrow_connection import ArrowConnection
from ngdata._connections.connection_limit import Slots

__all__ = ["ArrowPool"]


class ArrowPool:
    """At most `most` connections, opened when needed, the one last used first.

    Parameters
    ----------
    uri : str
        As libpq takes it.
    most : int
        How many there may be at once.
    patience : float
        Seconds to wait for one when all are in use.

    Attributes
    ----------
    behind_pooler : bool
        Whether a pooler stands between; found out before the first connection is opened.
    """

    def __init__(self, uri: str, most: int, patience: float) -> None:
        self._uri = uri
        self._slots = Slots(most, patience, "reading")
        self._idle: list[ArrowConnection] = []
        self._closed = False
        self.behind_pooler = False

    @asynccontextmanager
    async def connection(self, fresh: bool = False) -> AsyncIterator[ArrowConnection]:
        """Lend a connection; a `fresh` one was never used, and the idle ones are given up."""
        async with self._slots.one():
            if fresh:
                self._drop_idle()
            lent = self._lent()
            try:
                yield lent
            finally:
                self._take_back(lent)

    @asynccontextmanager
    async def spare(self, most: int) -> AsyncIterator[list[ArrowConnection]]:
        """Lend up to `most` connections, as many as nobody else uses or waits for."""
        async with self._slots.free_at_once(most) as count:
            lent = [self._lent() for _ in range(count)]
            try:
                yield lent
            finally:
                for connection in lent:
                    self._take_back(connection)

    def has_spare(self) -> bool:
        """Tell whether `spare` would lend any now."""
        return self._slots.has_free()

    def _lent(self) -> ArrowConnection:
        return self._idle.pop() if self._idle else ArrowConnection(self._uri, self.behind_pooler)

    def _take_back(self, lent: ArrowConnection) -> None:
        if lent.broken or self._closed:
            lent.close()
        else:
            self._idle.append(lent)

    def check_caller(self) -> None:
        """Raise where no connection would be lent: closed, a forked child, another event loop."""
        self._slots.check_caller()

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def status(self) -> dict[str, int]:
        """Count the connections."""
        return self._slots.status(idle=len(self._idle))

    def close(self) -> None:
        """Close what is idle now, and what is in use when it comes back."""
        self._closed = True
        self._slots.close()
        self._drop_idle()
