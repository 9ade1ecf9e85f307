"""One transaction on a pooled asyncpg connection, from BEGIN to its end in all cases.

The caller shields each step from cancellation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ngdata._connections.driver_errors import DRIVER_ERRORS
from ngdata._connections.pooled_connection import ROLLBACK_TIMEOUT, PooledConnection
from ngdata._connections.write_connection import WriteConnection
from ngdata._connections.write_pool import WritePool

__all__ = ["Transaction"]


class Transaction:
    """A transaction to begin, to commit or not, and to end.

    Parameters
    ----------
    pool : WritePool
    set_local : function of a connection
        Sets the transaction's settings, where the connection does not have them.
    """

    def __init__(
        self,
        pool: WritePool,
        set_local: Callable[[WriteConnection], Awaitable[None]],
    ) -> None:
        self._pooled = PooledConnection(pool)
        self._set_local = set_local
        self._transaction: Any = None
        self.abort = self._pooled.abort

    @property
    def connection(self) -> WriteConnection:
        """The connection on which the transaction was begun."""
        return self._pooled.driver_connection

    async def begin(self) -> None:
        """Acquire a connection and begin."""
        await self._pooled.acquire(self._begin_on)

    async def _begin_on(self, connection: WriteConnection) -> None:
        # Named, because a role behind a pooler may have another default.
        self._transaction = connection.transaction(isolation="read_committed")
        await self._transaction.start()
        await self._set_local(connection)

    async def commit(self) -> None:
        """Commit; if the server refuses, it has rolled back."""
        await self._transaction.commit()
        self._transaction = None

    async def end(self) -> None:
        """Roll back unless committed, and release the connection; close it if that fails."""
        await self._pooled.release(usable=await self._roll_back())

    async def _roll_back(self) -> bool:
        """Roll back unless committed; return whether the connection can be used again."""
        if self._transaction is None or not self._pooled.is_usable:
            return True
        if not self.connection.is_in_transaction():
            return True
        # asyncpg first waits until the server has ended a cancelled statement.
        try:
            async with asyncio.timeout(ROLLBACK_TIMEOUT):
                await self._transaction.rollback()
        except DRIVER_ERRORS:
            return False
        return True
