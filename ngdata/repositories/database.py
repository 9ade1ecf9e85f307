"""`DatabaseManager`: a program's database, its sessions, and whether it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from ngdata._config.settings import Settings
from ngdata._connections.database import Database
from ngdata._connections.opening import open_database
from ngdata._connections.process_bound import ProcessBound
from ngdata._connections.threads import in_daemon_thread
from ngdata._local.fallback import resolve_servers
from ngdata._store import migrate
from ngdata.errors import NGDataError, SchemaVersionError
from ngdata.repositories.entity_cache import EntityCache

__all__ = ["DatabaseManager"]


class DatabaseManager(ProcessBound):
    """One database, in the event loop that opens it.

    `DatabaseFactory.create_database_manager` returns it.

    Examples
    --------
    >>> import asyncio
    >>> from sqlalchemy import text
    >>> from ngdata.repositories import DatabaseFactory
    >>> async def two():
    ...     db_manager = await DatabaseFactory.create_database_manager()
    ...     async with db_manager.session() as session:
    ...         total = await session.scalar(text("SELECT 1 + 1"))
    ...     await DatabaseFactory.close_all()
    ...     return total
    >>> asyncio.run(two())
    2
    """

    _opened_by = "DatabaseFactory.create_database_manager()"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._database: Database | None = None
        self._entity_cache: EntityCache | None = None
        self._has_schema = False
        self._opening = asyncio.Lock()

    async def initialize(self) -> None:
        """Connect; with no database configured, to the embedded one.  Further calls do nothing.

        Raises
        ------
        ConfigError, DatabaseUnavailable
            The database cannot be used; the error says why, and what to do.
        """
        async with self._opening:
            if self._database is not None:
                return
            settings = await in_daemon_thread(lambda: resolve_servers(self._settings))
            async with AsyncExitStack() as stack:
                database = await stack.enter_async_context(open_database(settings, check=False))
                self._has_schema = await _is_current(database)
                self._stack = stack.pop_all()
            self._database = database
            self._entity_cache = EntityCache(database, settings)
            database.lifetime.add(self._entity_cache.close, self._entity_cache.cut)
            self._settings = settings

    @property
    def engine(self) -> AsyncEngine:
        """SQLAlchemy's engine; ``engine.pool.status()`` describes its connections."""
        return self._open_database().engine

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Open a session, which commits at the end and rolls back on an error.

        Entities stay usable afterwards.

        Raises
        ------
        SchemaVersionError
            The database's schema is missing, older or newer; `create_tables` upgrades an older one.
        DatabaseUnavailable
            No server answers, or all connections stayed in use.
        """
        database = self._open_database()
        if not self._has_schema:
            await database.check()
            self._has_schema = True
        async with database.session() as session:
            session.info["entity_cache"] = self._entity_cache
            yield session

    async def create_tables(self) -> None:
        """Migrate the schema to this ngdata's revision, as ``ngdata migrate`` does."""
        self._open_database()
        url = self._settings.database_url
        assert url is not None
        await in_daemon_thread(lambda: migrate.upgrade(url.get_secret_value()))

    async def health_check(self) -> bool:
        """Return whether the database answers."""
        try:
            async with self._open_database().transaction() as connection:
                return bool(await connection.fetchval("SELECT true"))
        except NGDataError:
            return False

    async def close(self) -> None:
        """Close all connections; closing again does nothing."""
        await self._stack.aclose()

    def _open_database(self) -> Database:
        if self._database is None:
            raise NGDataError("this database manager is not open; await its initialize() first")
        return self._database

    def __repr__(self) -> str:
        where = "a database" if self._database is None else self._database.where
        return f"<{type(self).__name__} of {where}>"


async def _is_current(database: Database) -> bool:
    try:
        await database.check()
    except SchemaVersionError:
        return False
    return True
