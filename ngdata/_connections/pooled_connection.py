"""A connection from SQLAlchemy's pool, checked when it is acquired, and released or closed.

The caller shields each step from cancellation and makes the object first, so a connection acquired
before a cancellation is still released.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ngdata._connections.driver_errors import DRIVER_ERRORS, is_lost_connection

__all__ = ["ROLLBACK_TIMEOUT", "PooledConnection"]

ROLLBACK_TIMEOUT: Final = 5.0
"""Seconds for a rollback; after that, the connection is closed."""


class PooledConnection:
    """A place for one connection: empty, then acquired, then released.

    Parameters
    ----------
    engine : AsyncEngine
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._connection: AsyncConnection | None = None
        self._driver_connection: asyncpg.Connection[Any] | None = None

    @property
    def is_usable(self) -> bool:
        """Whether a connection is acquired and not closed, as far as is known."""
        return self._driver_connection is not None and not self._driver_connection.is_closed()

    @property
    def connection(self) -> AsyncConnection:
        """SQLAlchemy's connection."""
        assert self._connection is not None
        return self._connection

    @property
    def driver_connection(self) -> asyncpg.Connection[Any]:
        """The asyncpg connection under it."""
        assert self._driver_connection is not None
        return self._driver_connection

    async def acquire(self, check: Callable[[asyncpg.Connection[Any]], Awaitable[object]]) -> None:
        """Acquire a connection that passes the check; connections lost while idle are closed."""
        pool: Any = self._engine.pool
        while True:
            idle = pool.checkedin()
            self._connection = await self._engine.connect()
            raw = await self._connection.get_raw_connection()
            self._driver_connection = raw.driver_connection
            try:
                await check(self.driver_connection)
            except DRIVER_ERRORS as error:
                await self.release(usable=False)
                if not idle or not is_lost_connection(error):
                    raise
            else:
                return

    def abort(self) -> None:
        """Close the connection at once, so that any wait for the server fails."""
        if self._driver_connection is not None:
            self._driver_connection.terminate()

    async def release(self, *, usable: bool) -> None:
        """Return the connection to the pool, or close it if it is not usable."""
        if self._connection is None:
            return
        if not usable or not self.is_usable:
            self.abort()
            await self._connection.invalidate()
        await self._connection.close()
        self._connection = self._driver_connection = None
