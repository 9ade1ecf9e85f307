"""SQLAlchemy's engine over asyncpg's connections, for sessions of entities and for migrations.

SQLAlchemy is slow to import, so this module is imported when it is first needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ngdata._connections.pooled_connection import PooledConnection
from ngdata._connections.write_connection import WriteConnection
from ngdata._connections.write_pool import WritePool

__all__ = ["EngineConnection", "engine_of"]

_SAVEPOINTS: Final = ("SAVEPOINT ", "RELEASE SAVEPOINT ", "ROLLBACK TO SAVEPOINT ")


def engine_of(connect: Callable[[], Awaitable[Any]], **options: Any) -> AsyncEngine:
    """Return an engine over asyncpg's connections; `WriteConnection` decides what stays prepared."""

    def adapted() -> Any:
        dbapi: Any = engine.dialect.dbapi
        # SQLAlchemy's own cache would keep the statements of bulk writes too.
        return dbapi.connect(async_creator_fn=connect, prepared_statement_cache_size=0)

    engine = create_async_engine("postgresql+asyncpg://", creator=adapted, **options)
    event.listen(engine.sync_engine, "do_execute", _execute_savepoint)
    event.listen(engine.sync_engine, "handle_error", _forget_statements)
    return engine


def _execute_savepoint(cursor: Any, statement: str, _: Any, context: Any) -> bool:
    """Run a statement that begins or ends a savepoint, and return True; leave others to SQLAlchemy.

    SQLAlchemy would prepare it first, for a round trip more: each savepoint has a name of its own.
    """
    if not statement.startswith(_SAVEPOINTS):
        return False
    connection = context.root_connection.connection.dbapi_connection
    # SQLAlchemy sends BEGIN with the first statement of a transaction.
    if not connection.driver_connection.is_in_transaction():
        return False
    connection.run_async(lambda driver_connection: driver_connection.execute(statement))
    return True


def _forget_statements(context: Any) -> None:
    """Prepare statements anew after a change of the schema that has made one of them invalid."""
    cause = getattr(context.original_exception, "__cause__", None)
    if isinstance(cause, asyncpg.InvalidCachedStatementError):
        connection = context.connection.connection.driver_connection
        if isinstance(connection, WriteConnection):
            connection.forget_statements()


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
        self._engine_pool: Any = None
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
        self._engine_pool = self._engine.pool
        self._connection = await self._engine.connect()
        raw: Any = await self._connection.get_raw_connection()
        driver_connection: WriteConnection = raw.driver_connection
        return driver_connection

    async def _check_in(self, connection: WriteConnection, *, usable: bool) -> None:
        # The engine has a new pool since its idle connections were closed to make room for others.
        is_orphan = self._engine.pool is not self._engine_pool
        if is_orphan or not usable:
            connection.terminate()
            await self.connection.invalidate()
        await self.connection.close()
        self._connection = None
