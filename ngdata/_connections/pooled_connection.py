"""A pooled connection, checked when it is acquired, and released or closed.

The caller shields each step from cancellation and makes the object first, so a connection acquired
before a cancellation is still released.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from ngdata._connections.driver_errors import DRIVER_ERRORS, is_lost_connection
from ngdata._connections.telemetry import LOGGER
from ngdata._connections.write_connection import WriteConnection
from ngdata._connections.write_pool import WritePool

__all__ = ["ROLLBACK_TIMEOUT", "PooledConnection"]

ROLLBACK_TIMEOUT: Final = 5.0
"""Seconds for a rollback; after that, the connection is closed."""


class PooledConnection:
    """A place for one connection: empty, then acquired, then released.

    Parameters
    ----------
    pool : WritePool
    """

    def __init__(self, pool: WritePool) -> None:
        self._pool = pool
        self._driver_connection: WriteConnection | None = None

    @property
    def is_usable(self) -> bool:
        """Whether a connection is acquired and not closed, as far as is known."""
        return self._driver_connection is not None and not self._driver_connection.is_closed()

    @property
    def driver_connection(self) -> WriteConnection:
        """The acquired connection."""
        assert self._driver_connection is not None
        return self._driver_connection

    async def acquire(self, check: Callable[[WriteConnection], Awaitable[object]]) -> None:
        """Acquire a connection that passes the check; connections lost while idle are closed."""
        while True:
            idle = self._idle()
            self._driver_connection = await self._check_out()
            try:
                await check(self.driver_connection)
            except DRIVER_ERRORS as error:
                await self.release(usable=False)
                if not idle or not is_lost_connection(error):
                    raise
                LOGGER.warning("the server closed an idle connection; trying another one")
            else:
                return

    def abort(self) -> None:
        """Close the connection at once, so that any wait for the server fails."""
        if self._driver_connection is not None:
            self._driver_connection.terminate()

    async def release(self, *, usable: bool) -> None:
        """Return the connection to the pool, or close it if it is not usable."""
        if self._driver_connection is None:
            return
        connection, self._driver_connection = self._driver_connection, None
        await self._check_in(connection, usable=usable and not connection.is_closed())

    def _idle(self) -> int:
        """Return how many idle connections there are."""
        return self._pool.idle

    async def _check_out(self) -> WriteConnection:
        """Return a connection of the pool, or a new one."""
        return await self._pool.acquire()

    async def _check_in(self, connection: WriteConnection, *, usable: bool) -> None:
        """Return a connection to the pool, or close it."""
        await self._pool.release(connection, usable=usable)
