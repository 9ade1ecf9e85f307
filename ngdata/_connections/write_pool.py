"""The pool of connections that write; the caller limits how many are in use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ngdata._connections.write_connection import WriteConnection

__all__ = ["WritePool"]


class WritePool:
    """Connections that are opened when needed; the one released last is reused first.

    Parameters
    ----------
    connect : async function
        Opens a connection.
    kept : int
        How many idle connections stay open.
    """

    def __init__(self, connect: Callable[[], Awaitable[WriteConnection]], kept: int) -> None:
        self._connect = connect
        self._kept = kept
        self._idle: list[WriteConnection] = []
        self._is_closed = False

    @property
    def idle(self) -> int:
        """The number of open connections that are not in use."""
        return len(self._idle)

    async def acquire(self) -> WriteConnection:
        """Return an idle connection, or else a new one; whether an idle one is alive is not known."""
        return self._idle.pop() if self._idle else await self._connect()

    async def release(self, connection: WriteConnection, *, usable: bool) -> None:
        """Keep a connection for the next caller, or close it."""
        if not usable or connection.is_closed():
            connection.terminate()
        elif self._is_closed or len(self._idle) >= self._kept:
            await connection.close()
        else:
            self._idle.append(connection)

    def close(self) -> list[WriteConnection]:
        """Close those that are released from now on, and return the idle ones, for the caller to close."""
        self._is_closed = True
        idle, self._idle = self._idle, []
        return idle
