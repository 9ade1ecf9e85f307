"""`DatabaseFactory` and `RepositoryFactory`: a program's managers and repositories."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from ngdata._config.settings import Settings
from ngdata.repositories.configuration import settings_from
from ngdata.repositories.database import DatabaseManager
from ngdata.repositories.experience import ExperienceRepository
from ngdata.repositories.graph import GraphRepository
from ngdata.repositories.redis import RedisManager
from ngdata.repositories.tokens import TokenRepository

__all__ = ["DatabaseFactory", "RepositoryFactory"]

ManagerT = TypeVar("ManagerT", DatabaseManager, RedisManager)
Loop: TypeAlias = asyncio.AbstractEventLoop | None


class DatabaseFactory:
    """Creates managers, one of each kind per configuration and event loop, until `close_all`.

    A handler can therefore request its manager on every call.

    Examples
    --------
    >>> import asyncio
    >>> from ngdata.repositories import DatabaseFactory
    >>> async def check():
    ...     db_manager = await DatabaseFactory.create_database_manager()
    ...     try:
    ...         return await db_manager.health_check()
    ...     finally:
    ...         await DatabaseFactory.close_all()
    >>> asyncio.run(check())
    True
    """

    _databases: ClassVar[list[tuple[Loop, Settings, DatabaseManager]]] = []
    _redis: ClassVar[list[tuple[Loop, Settings, RedisManager]]] = []

    @classmethod
    async def create_database_manager(
        cls, config: Mapping[str, Any] | None = None
    ) -> DatabaseManager:
        """Open the database of a configuration, or return the manager that has it open.

        Parameters
        ----------
        config : mapping, optional
            The configuration's part `database`.  If neither it nor the environment names a server,
            the embedded one is used.

        Raises
        ------
        ConfigError
            A key is unknown, or its value cannot be used.
        DatabaseUnavailable
            No server answers.
        """
        settings, loop = settings_from(config), asyncio.get_running_loop()
        manager = _find(cls._databases, loop, settings)
        if manager is None:
            manager = DatabaseManager(settings)
            cls._databases.append((loop, settings, manager))
        try:
            await manager.initialize()
        except BaseException:
            cls._databases[:] = [entry for entry in cls._databases if entry[2] is not manager]
            raise
        if _find(cls._databases, loop, settings) is None:
            # A concurrent call for the same manager was cancelled, and has removed it.
            cls._databases.append((loop, settings, manager))
        return manager

    @classmethod
    def create_redis_manager(cls, config: Mapping[str, Any] | None = None) -> RedisManager:
        """Return the manager of a configuration's Redis, which connects on first use."""
        settings, loop = settings_from(config), _running_loop()
        manager = _find(cls._redis, loop, settings)
        if manager is None:
            manager = RedisManager(settings, (config or {}).get("redis"))
            cls._redis.append((loop, settings, manager))
        return manager

    @classmethod
    async def close_all(cls) -> None:
        """Close this event loop's managers, and drop those of event loops that have ended."""
        loop = asyncio.get_running_loop()
        databases = [manager for owner, _, manager in cls._databases if owner is loop]
        caches = [manager for owner, _, manager in cls._redis if owner in (loop, None)]
        cls._databases[:] = [entry for entry in cls._databases if _is_foreign(entry[0], loop)]
        cls._redis[:] = [entry for entry in cls._redis if _is_foreign(entry[0], loop)]
        for database in databases:
            await database.close()
        for cache in caches:
            await cache.aclose()


class RepositoryFactory:
    """Creates the repositories of a session.

    Each method takes the session and, optionally, the `RedisManager` and the repository's part of
    the configuration.

    Examples
    --------
    >>> import asyncio
    >>> from ngdata.repositories import DatabaseFactory, RepositoryFactory
    >>> async def count_type(token_type):
    ...     db_manager = await DatabaseFactory.create_database_manager()
    ...     async with db_manager.session() as session:
    ...         tokens = RepositoryFactory.create_token_repository(session)
    ...         matches = await tokens.find_by_type(token_type)
    ...     await DatabaseFactory.close_all()
    ...     return len(matches)
    >>> asyncio.run(count_type("no such type"))
    0
    """

    @staticmethod
    def create_token_repository(
        session: AsyncSession,
        redis: RedisManager | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> TokenRepository:
        """Create the repository of tokens."""
        return TokenRepository(session, redis, config)

    @staticmethod
    def create_graph_repository(
        session: AsyncSession,
        redis: RedisManager | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> GraphRepository:
        """Create the repository of connections."""
        return GraphRepository(session, redis, config)

    @staticmethod
    def create_experience_repository(
        session: AsyncSession,
        redis: RedisManager | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> ExperienceRepository:
        """Create the repository of events."""
        return ExperienceRepository(session, redis, config)


def _find(
    managers: Sequence[tuple[Loop, Settings, ManagerT]], loop: Loop, settings: Settings
) -> ManagerT | None:
    matches = (entry for entry in managers if entry[0] is loop and entry[1] == settings)
    return next((manager for _, _, manager in matches), None)


def _is_foreign(owner: Loop, loop: Loop) -> bool:
    """Return whether a manager belongs to another event loop that still exists."""
    return owner is not None and owner is not loop and not owner.is_closed()


def _running_loop() -> Loop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
