"""`RedisManager`: whether Redis answers, its keys' names, and clients for whoever wants to ask it.

Nothing in ngdata waits for Redis on the event loop: `health_check` can be awaited, and `client` is
an async one.  The blocking one that `get_client` gives is for programs that called it before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator, Mapping
from typing import Any, Final

import redis
import redis.asyncio

from ngdata._config.settings import Settings
from ngdata._connections.threads import in_daemon_thread
from ngdata._local.fallback import located
from ngdata.errors import ConfigError, InvalidQueryError

__all__ = ["RedisHealth", "RedisManager"]

# Seconds for an answer, at most.
_PATIENCE: Final = 5.0

_TTL: Final = 3600

# NeuroGraph OS's own names; its regions of different levels had one name.
_KEYS: Final = {
    "token_by_id": "token:{token_id}",
    "token_by_coords": "token:coords:{x}:{y}:{z}",
    "graph_neighbors": "graph:neighbors:{token_id}",
    "graph_stats": "graph:stats:{graph_id}",
    "spatial_region": "spatial:region:{level}:{x1}:{y1}:{z1}:{x2}:{y2}:{z2}",
    "experience_recent": "exp:recent:{count}",
}


class RedisHealth:
    """Whether Redis answers: awaited, the loop goes on meanwhile; used as a truth, it is waited for.

    Examples
    --------
    >>> import asyncio
    >>> from ngdata.repositories import DatabaseFactory
    >>> async def asked():
    ...     redis_manager = DatabaseFactory.create_redis_manager(
    ...         {"redis": {"host": "127.0.0.1", "port": 1}}
    ...     )
    ...     return bool(redis_manager.health_check()), await redis_manager.health_check()
    >>> asyncio.run(asked())
    (False, False)
    """

    def __init__(self, manager: RedisManager) -> None:
        self._manager = manager
        self._answers: bool | None = None

    def __bool__(self) -> bool:
        if self._answers is None:
            self._answers = self._manager._ping()
        return self._answers

    def __await__(self) -> Generator[Any, None, bool]:
        return self._asked().__await__()

    async def _asked(self) -> bool:
        if self._answers is None:
            self._answers = await in_daemon_thread(self._manager._ping)
        return self._answers

    def __eq__(self, other: object) -> bool:
        return bool(self) == other if isinstance(other, bool | RedisHealth) else NotImplemented

    def __hash__(self) -> int:
        return hash(bool(self))

    def __repr__(self) -> str:
        return repr(bool(self))


class RedisManager:
    """One Redis; `DatabaseFactory.create_redis_manager` makes it.  It connects when it is used.

    Parameters
    ----------
    settings : Settings
        Without a database in them, the embedded servers are meant.
    config : mapping, optional
        The configuration's part `redis`.
    """

    def __init__(self, settings: Settings, config: Mapping[str, Any] | None = None) -> None:
        self.config = dict(config or {})
        self._settings = settings
        self._blocking: redis.Redis | None = None
        self._async: redis.asyncio.Redis | None = None

    def health_check(self) -> RedisHealth:
        """Ask whether Redis answers.

        Returns
        -------
        RedisHealth
            Awaited, or used as a truth value: True if it answers within five seconds.
        """
        return RedisHealth(self)

    def get_client(self) -> redis.Redis:
        """Give a blocking client, which stops the event loop while it waits; see `client`.

        Raises
        ------
        ConfigError
            No Redis is configured.
        """
        if self._blocking is None:
            self._blocking = redis.Redis.from_url(
                self.url(), decode_responses=True, **self._timeouts()
            )
        return self._blocking

    @property
    def client(self) -> redis.asyncio.Redis:
        """An async client, of the event loop that first used it."""
        if self._async is None:
            self._async = redis.asyncio.Redis.from_url(
                self.url(), decode_responses=True, **self._timeouts()
            )
        return self._async

    def build_key(self, pattern: str, **values: Any) -> str:
        """Name a key by a pattern of the configuration, or by NeuroGraph OS's own.

        ngdata's own cache has other keys.

        Raises
        ------
        InvalidQueryError
            An unknown pattern, or a value that it needs is missing.
        """
        patterns: dict[str, str] = _KEYS | (self.config.get("keys") or {})
        if pattern not in patterns:
            raise InvalidQueryError(
                f"there is no key pattern {pattern!r}, only {', '.join(patterns)}"
            )
        try:
            return patterns[pattern].format(**values)
        except KeyError as error:
            raise InvalidQueryError(f"the key pattern {pattern!r} needs {error.args[0]}=") from None

    def get_ttl(self, category: str = "default") -> int:
        """Give the seconds that values of a category are kept, by the configuration's `cache`."""
        cache = self.config.get("cache") or {}
        return int(cache.get(f"{category}_ttl", cache.get("default_ttl", _TTL)))

    def close(self) -> None:
        """Close the blocking client; `aclose` closes both."""
        if self._blocking is not None:
            self._blocking.close()
            self._blocking = None

    async def aclose(self) -> None:
        """Close both clients; closing twice is no error."""
        self.close()
        if self._async is not None:
            client, self._async = self._async, None
            with contextlib.suppress(redis.RedisError, OSError, asyncio.TimeoutError):
                await client.aclose()

    def url(self) -> str:
        """Give the server's URL, password and all; the embedded servers may be started for it.

        Raises
        ------
        ConfigError
            No Redis is configured.
        """
        if self._settings.database_url is None and self._settings.redis_url is None:
            self._settings = located(self._settings)
        if self._settings.redis_url is None:
            raise ConfigError(
                "no Redis is configured; name one in the configuration under redis, or in "
                "NGDATA_REDIS_URL"
            )
        return self._settings.redis_url.get_secret_value()

    def _ping(self) -> bool:
        try:
            with redis.Redis.from_url(self.url(), **self._timeouts()) as client:
                return bool(client.ping())
        except (redis.RedisError, OSError, ValueError, ConfigError):
            return False

    def _timeouts(self) -> dict[str, Any]:
        seconds = min(self._settings.connect_timeout, _PATIENCE)
        return {"socket_timeout": seconds, "socket_connect_timeout": seconds}
