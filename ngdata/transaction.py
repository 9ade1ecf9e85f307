"""One transaction on a pooled asyncpg connection, from BEGIN to its end, whatever comes between.

Each step here runs to its end, so the caller shields it from cancellation.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ngdata.server_errors import DRIVER_ERRORS, is_lost_connection

__all__ = ["Transaction"]

# Seconds for a rollback, before the connection is given up.
_PATIENCE: Final = 5.0


class Transaction:
    """Begun, then committed or not, then ended.

    Parameters
    ----------
    engine : AsyncEngine
    most : int
        How many pooled connections there may be, and so how many may be dead.
    """

    def __init__(self, engine: AsyncEngine, most: int) -> None:
        self._engine = engine
        self._most = most
        self._pooled: AsyncConnection | None = None
        self._connection: asyncpg.Connection[Any] | None = None
        self._transaction: Any = None

    @property
    def connection(self) -> asyncpg.Connection[Any]:
        """The connection that has begun."""
        assert self._connection is not None
        return self._connection

    async def begin(self) -> None:
        """Connect and begin; pooled connections that died while they lay idle are passed over."""
        for attempt in range(self._most + 1):
            self._pooled = await self._engine.connect()
            self._connection = (await self._pooled.get_raw_connection()).driver_connection
            try:
                self._transaction = self.connection.transaction()
                await self._transaction.start()
            except DRIVER_ERRORS as error:
                await self.end()
                if attempt == self._most or not is_lost_connection(error):
                    raise
            else:
                break

    async def commit(self) -> None:
        """Commit; if the server refuses, it has rolled back."""
        await self._transaction.commit()
        self._transaction = None

    def cut(self) -> None:
        """Make whatever waits for the server fail."""
        if self._connection is not None:
            self._connection.terminate()

    async def end(self) -> None:
        """Give the connection back; what is not committed is rolled back, or its connection cut."""
        if self._pooled is None:
            return
        if not await self._is_clean():
            self.cut()
            await self._pooled.invalidate()
        await self._pooled.close()
        self._pooled = self._connection = self._transaction = None

    async def _is_clean(self) -> bool:
        """Roll back what is not committed, and tell whether the connection can be used again."""
        if self._connection is None or self._connection.is_closed():
            return False
        if self._transaction is None or not self._connection.is_in_transaction():
            return True
        # asyncpg first waits until the server has let go of a cancelled statement.
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._transaction.rollback()
        except DRIVER_ERRORS:
            return False
        return True
