"""A bounded pool of connections that read Arrow."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ngdata._connections.arrow_connection import ArrowConnection
from ngdata._connections.connection_limit import ConnectionLimit
from ngdata.errors import OutOfResources

__all__ = ["ArrowPool"]


class ArrowPool:
    """Connections that are opened when needed; the one released last is reused first.

    Parameters
    ----------
    uri : str
        In libpq's format.
    limit : int
        How many connections may be open at once.
    timeout : float
        Seconds to wait for a connection when all are in use.

    Attributes
    ----------
    behind_pooler : bool
        Whether a pooler is in between; determined before the first connection is opened.
    """

    def __init__(self, uri: str, limit: int, timeout: float) -> None:
        self._uri = uri
        self._limit = ConnectionLimit(limit, timeout, "reading")
        self._idle: list[ArrowConnection] = []
        self._open: weakref.WeakSet[ArrowConnection] = weakref.WeakSet()
        self._is_closed = False
        self.behind_pooler = False

    @asynccontextmanager
    async def connection(self, fresh: bool = False) -> AsyncIterator[ArrowConnection]:
        """Acquire a connection for the body; a `fresh` one is new, and idle ones are closed."""
        async with self._limit.acquire():
            if fresh:
                self._close_idle()
            connection = self._acquire()
            try:
                yield connection
            finally:
                self._release(connection)

    @asynccontextmanager
    async def spare(self, limit: int) -> AsyncIterator[list[ArrowConnection]]:
        """Acquire up to `limit` connections that no other caller uses or waits for."""
        async with self._limit.acquire_free(limit) as count:
            connections: list[ArrowConnection] = []
            try:
                # Where no further thread can be started, fewer connections help, or none.
                with contextlib.suppress(OutOfResources):
                    while len(connections) < count:
                        connections.append(self._acquire())
                yield connections
            finally:
                for connection in connections:
                    self._release(connection)

    def has_spare(self) -> bool:
        """Return whether `spare` would yield any connection now."""
        return self._limit.has_free()

    def _acquire(self) -> ArrowConnection:
        if self._idle:
            return self._idle.pop()
        connection = ArrowConnection(self._uri, self.behind_pooler)
        self._open.add(connection)
        return connection

    def _release(self, connection: ArrowConnection) -> None:
        if connection.broken or self._is_closed:
            connection.close()
        else:
            self._idle.append(connection)

    def check_caller(self) -> None:
        """Raise where no connection can be acquired: closed, forked child, another event loop."""
        self._limit.check_caller()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def status(self) -> dict[str, int]:
        """Return the numbers of connections."""
        return self._limit.status(idle=len(self._idle))

    def close(self) -> None:
        """Close the idle connections now, and those in use when they are released."""
        self._is_closed = True
        self._limit.close()
        self._close_idle()

    def cut(self) -> None:
        """Close all connections, also those in use; their event loop need not run."""
        self.close()
        for connection in list(self._open):
            connection.cut()
