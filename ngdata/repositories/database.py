"""`DatabaseManager`: the database of a program, its sessions, whether it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from ngdata._config.settings import Settings
from ngdata._connections.database import Database
from ngdata._connections.threads import in_daemon_thread, uninterrupted
from ngdata._local.fallback import located
from ngdata._store import migrate
from ngdata.errors import NGDataError, SchemaVersionError
from ngdata.repositories.entity_cache import Remembered

__all__ = ["DatabaseManager"]


class DatabaseManager:
    """One database, in the event loop in which it was opened.

    `DatabaseFactory.create_database_manager` makes it.

    Examples
    --------
    >>> import asyncio
    >>> from sqlalchemy import text
    >>> from ngdata.repositories import DatabaseFactory
    >>> async def two():
    ...     db_manager = await DatabaseFactory.create_database_manager()
    ...     async with db_manager.session() as session:
    ...         found = await session.scalar(text("SELECT 1 + 1"))
    ...     await DatabaseFactory.close_all()
    ...     return found
    >>> asyncio.run(two())
    2
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database: Database | None = None
        self._remembered: Remembered | None = None
        self._has_schema = False
        self._opening = asyncio.Lock()

    async def initialize(self) -> None:
        """Connect, with no database configured to the embedded one; once is enough.

        Raises
        ------
        ConfigError, DatabaseUnavailable
            What stands in the way, and what to do about it.
        """
        async with self._opening:
            if self._database is not None:
                return
            settings = await in_daemon_thread(lambda: located(self._settings))
            database = Database(settings)
            try:
                self._has_schema = await _is_current(database)
            except BaseException:
                await uninterrupted(database.close())
                raise
            self._database = database
            self._remembered = Remembered(database, settings)
            self._settings = settings

    @property
    def engine(self) -> AsyncEngine:
        """SQLAlchemy's engine; ``engine.pool.status()`` tells of its connections."""
        return self._opened().engine

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Open a session: it commits when it is left, and rolls back on an error.

        Entities stay usable after it.

        Raises
        ------
        SchemaVersionError
            The database's schema is missing, older or newer; `create_tables` brings an older one up.
        DatabaseUnavailable
            No server answers, or all connections stayed in use.
        """
        database = self._opened()
        if not self._has_schema:
            await database.check()
            self._has_schema = True
        async with database.session() as session:
            session.info["remembered"] = self._remembered
            yield session

    async def create_tables(self) -> None:
        """Bring the schema to this ngdata's revision, as ``ngdata migrate`` does."""
        self._opened()
        url = self._settings.database_url
        assert url is not None
        await in_daemon_thread(lambda: migrate.upgrade(url.get_secret_value()))

    async def health_check(self) -> bool:
        """Tell whether the database answers."""
        try:
            async with self._opened().transaction() as connection:
                return bool(await connection.fetchval("SELECT true"))
        except NGDataError:
            return False

    async def close(self) -> None:
        """Close all connections; closing twice is no error."""
        if self._database is not None:
            if self._remembered is not None:
                await self._remembered.close()
            await self._database.close()

    def _opened(self) -> Database:
        if self._database is None:
            raise NGDataError("this database manager is not open yet; await its initialize()")
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
