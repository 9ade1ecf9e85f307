"""A connection out of SQLAlchemy's pool: one that answers is taken, and given back or cut.

Each step runs to its end, so the caller shields it from cancellation, and makes the object before:
what was taken when a cancellation came can still be given back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ngdata._connections.driver_errors import DRIVER_ERRORS, is_lost_connection

__all__ = ["PooledConnection"]


class PooledConnection:
    """Not yet taken, taken, given back.

    Parameters
    ----------
    engine : AsyncEngine
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._pooled: AsyncConnection | None = None
        self._driver: asyncpg.Connection[Any] | None = None

    @property
    def is_usable(self) -> bool:
        """Whether it is taken, and its server was there at the last word."""
        return self._driver is not None and not self._driver.is_closed()

    @property
    def pooled(self) -> AsyncConnection:
        """What SQLAlchemy works with."""
        assert self._pooled is not None
        return self._pooled

    @property
    def driver(self) -> asyncpg.Connection[Any]:
        """What it stands for."""
        assert self._driver is not None
        return self._driver

    async def take(self, ask: Callable[[asyncpg.Connection[Any]], Awaitable[object]]) -> None:
        """Take one that answers what is asked; those that died while they lay idle are cut."""
        pool: Any = self._engine.pool
        while True:
            idle = pool.checkedin()
            self._pooled = await self._engine.connect()
            self._driver = (await self._pooled.get_raw_connection()).driver_connection
            try:
                await ask(self.driver)
            except DRIVER_ERRORS as error:
                await self.give_back(usable=False)
                if not idle or not is_lost_connection(error):
                    raise
            else:
                return

    def cut(self) -> None:
        """Make whatever waits for the server fail."""
        if self._driver is not None:
            self._driver.terminate()

    async def give_back(self, *, usable: bool) -> None:
        """Give it back to the pool, or cut it."""
        if self._pooled is None:
            return
        if not usable or not self.is_usable:
            self.cut()
            await self._pooled.invalidate()
        await self._pooled.close()
        self._pooled = self._driver = None
