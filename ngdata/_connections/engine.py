"""SQLAlchemy's engine over asyncpg's connections, for sessions of entities and for migrations.

SQLAlchemy is slow to import, so this module is imported when it is first needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ngdata._connections.pooled_connection import PooledConnection
from ngdata._connections.write_connection import WriteConnection
from ngdata._connections.write_pool import WritePool

__all__ = ["EngineConnection", "close_one_idle", "engine_of"]


def engine_of(connect: Callable[[], Awaitable[Any]], **options: Any) -> AsyncEngine:
    """Return an engine over asyncpg's connections that prepares statements without names."""

    def adapted() -> Any:
        dbapi: Any = engine.dialect.dbapi
        # Without a name, a cached statement would run the one that was prepared last.
        return dbapi.connect(async_creator_fn=connect, prepared_statement_cache_size=0)

    engine = create_async_engine("postgresql+asyncpg://", creator=adapted, **options)
    return engine


async def close_one_idle(engine: AsyncEngine) -> None:
    """Close one of the connections that the engine keeps idle."""
    connection = await engine.connect()
    await connection.invalidate()
    await connection.close()


class EngineConnection(PooledConnection):
    """A connection of the engine's pool.

    Parameters
    ----------
    engine : AsyncEngine
    pool : WritePool
        Its idle connections become the engine's where that opens one.
    """

    def __init__(self, engine: AsyncEngine, pool: WritePool) -> None:
        super().__init__(pool)
        self._engine = engine
        self._connection: AsyncConnection | None = None

    @property
    def connection(self) -> AsyncConnection:
        """SQLAlchemy's connection."""
        assert self._connection is not None
        return self._connection

    def _idle(self) -> int:
        pool: Any = self._engine.pool
        return int(pool.checkedin()) + super()._idle()

    async def _check_out(self) -> WriteConnection:
        self._connection = await self._engine.connect()
        raw: Any = await self._connection.get_raw_connection()
        driver_connection: WriteConnection = raw.driver_connection
        return driver_connection

    async def _check_in(self, connection: WriteConnection, *, usable: bool) -> None:
        if not usable:
            connection.terminate()
            await self.connection.invalidate()
        await self.connection.close()
        self._connection = None
