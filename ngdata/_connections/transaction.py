"""One transaction on a pooled asyncpg connection, from BEGIN to its end, whatever comes between.

Each step here runs to its end, so the caller shields it from cancellation.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ngdata._connections.driver_errors import DRIVER_ERRORS
from ngdata._connections.pooled_connection import PooledConnection

__all__ = ["Transaction"]

# Seconds for a rollback, before the connection is given up.
_PATIENCE: Final = 5.0


class Transaction:
    """Begun, then committed or not, then ended.

    Parameters
    ----------
    engine : AsyncEngine
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._taken = PooledConnection(engine)
        self._transaction: Any = None
        self.cut = self._taken.cut

    @property
    def connection(self) -> asyncpg.Connection[Any]:
        """The connection that has begun."""
        return self._taken.driver

    async def begin(self) -> None:
        """Connect and begin."""
        await self._taken.take(self._begin)

    async def _begin(self, connection: asyncpg.Connection[Any]) -> None:
        self._transaction = connection.transaction()
        await self._transaction.start()

    async def commit(self) -> None:
        """Commit; if the server refuses, it has rolled back."""
        await self._transaction.commit()
        self._transaction = None

    async def end(self) -> None:
        """Give the connection back; what is not committed is rolled back, or its connection cut."""
        await self._taken.give_back(usable=await self._rolled_back())

    async def _rolled_back(self) -> bool:
        if self._transaction is None or not self._taken.is_usable:
            return True
        if not self.connection.is_in_transaction():
            return True
        # asyncpg first waits until the server has let go of a cancelled statement.
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._transaction.rollback()
        except DRIVER_ERRORS:
            return False
        return True
