"""Where a program gets its managers and repositories from."""

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
    """Makes managers, one of each kind for a configuration and an event loop, until `close_all`.

    So a handler may ask for its manager on every call.

    Examples
    --------
    >>> import asyncio
    >>> from ngdata.repositories import DatabaseFactory
    >>> async def answers():
    ...     db_manager = await DatabaseFactory.create_database_manager()
    ...     try:
    ...         return await db_manager.health_check()
    ...     finally:
    ...         await DatabaseFactory.close_all()
    >>> asyncio.run(answers())
    True
    """

    _databases: ClassVar[list[tuple[Loop, Settings, DatabaseManager]]] = []
    _redis: ClassVar[list[tuple[Loop, Settings, RedisManager]]] = []

    @classmethod
    async def create_database_manager(
        cls, config: Mapping[str, Any] | None = None
    ) -> DatabaseManager:
        """Open the database of a configuration, or give the manager that has it open.

        Parameters
        ----------
        config : mapping, optional
            The configuration's part `database`.  With no server named in it, nor in the
            environment, the embedded server.

        Raises
        ------
        ConfigError
            A key that is unknown or cannot be used.
        DatabaseUnavailable
            No server answers.
        """
        settings, loop = settings_from(config), asyncio.get_running_loop()
        manager = _of(cls._databases, loop, settings)
        if manager is None:
            manager = DatabaseManager(settings)
            cls._databases.append((loop, settings, manager))
        try:
            await manager.initialize()
        except BaseException:
            cls._databases[:] = [one for one in cls._databases if one[2] is not manager]
            raise
        if _of(cls._databases, loop, settings) is None:
            # Another call that waited for the same one was cancelled, and has taken it off.
            cls._databases.append((loop, settings, manager))
        return manager

    @classmethod
    def create_redis_manager(cls, config: Mapping[str, Any] | None = None) -> RedisManager:
        """Give the manager of a configuration's Redis; it connects when it is used."""
        settings, loop = settings_from(config), _running_loop()
        manager = _of(cls._redis, loop, settings)
        if manager is None:
            manager = RedisManager(settings, (config or {}).get("redis"))
            cls._redis.append((loop, settings, manager))
        return manager

    @classmethod
    async def close_all(cls) -> None:
        """Close what this event loop has open; what one that has ended left open is forgotten."""
        loop = asyncio.get_running_loop()
        databases = [manager for of, _, manager in cls._databases if of is loop]
        caches = [manager for of, _, manager in cls._redis if of in (loop, None)]
        cls._databases[:] = [one for one in cls._databases if _is_of_another(one[0], loop)]
        cls._redis[:] = [one for one in cls._redis if _is_of_another(one[0], loop)]
        for database in databases:
            await database.close()
        for cache in caches:
            await cache.aclose()


class RepositoryFactory:
    """Makes the repositories of a session.

    Parameters of each: the session, optionally the `RedisManager`, and the repository's part of the
    configuration.

    Examples
    --------
    >>> import asyncio
    >>> from ngdata.repositories import DatabaseFactory, RepositoryFactory
    >>> async def count_of_a_type(token_type):
    ...     db_manager = await DatabaseFactory.create_database_manager()
    ...     async with db_manager.session() as session:
    ...         tokens = RepositoryFactory.create_token_repository(session)
    ...         found = await tokens.find_by_type(token_type)
    ...     await DatabaseFactory.close_all()
    ...     return len(found)
    >>> asyncio.run(count_of_a_type("no such type"))
    0
    """

    @staticmethod
    def create_token_repository(
        session: AsyncSession,
        redis: RedisManager | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> TokenRepository:
        """Make the repository of tokens."""
        return TokenRepository(session, redis, config)

    @staticmethod
    def create_graph_repository(
        session: AsyncSession,
        redis: RedisManager | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> GraphRepository:
        """Make the repository of connections."""
        return GraphRepository(session, redis, config)

    @staticmethod
    def create_experience_repository(
        session: AsyncSession,
        redis: RedisManager | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> ExperienceRepository:
        """Make the repository of events."""
        return ExperienceRepository(session, redis, config)


def _of(
    managers: Sequence[tuple[Loop, Settings, ManagerT]], loop: Loop, settings: Settings
) -> ManagerT | None:
    return next((one for at, of, one in managers if at is loop and of == settings), None)


def _is_of_another(at: Loop, loop: Loop) -> bool:
    return at is not None and at is not loop and not at.is_closed()


def _running_loop() -> Loop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
