"""`RedisManager`: whether Redis answers, the names of its keys, and clients for callers' own use.

ngdata itself never waits for Redis on the event loop: `health_check` is awaited, and `client` is
async.  `ping` and the client of `get_client` block; they are for programs written against the
NeuroGraph OS layer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

import redis
import redis.asyncio

from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.texts import as_text
from ngdata._config.settings import Settings
from ngdata._connections.process_bound import ProcessBound
from ngdata._connections.threads import in_daemon_thread
from ngdata._local.fallback import resolve_servers
from ngdata.errors import ConfigError, InvalidQueryError

__all__ = ["RedisManager", "as_config"]

# The limit, in seconds, for each answer; a shorter connect_timeout lowers it.
_ANSWER_TIMEOUT: Final = 5.0

_DEFAULT_TTL: Final = 3600

# NeuroGraph OS's own patterns, but for the level of a region, which it left out.
_KEY_PATTERNS: Final = {
    "token_by_id": "token:{token_id}",
    "token_by_coords": "token:coords:{x}:{y}:{z}",
    "graph_neighbors": "graph:neighbors:{token_id}",
    "graph_stats": "graph:stats:{graph_id}",
    "spatial_region": "spatial:region:{level}:{x1}:{y1}:{z1}:{x2}:{y2}:{z2}",
    "experience_recent": "exp:recent:{count}",
}


@guarded
def as_config(config: Any, name: str) -> dict[str, Any]:
    """Return a part of the configuration as a dict; None is an empty one."""
    if config is not None and not isinstance(config, Mapping):
        raise InvalidQueryError(f"{name} must be a mapping, not {shown(config)}")
    return {} if config is None else dict(config)


@guarded
def _as_key_part(value: Any, name: str) -> str:
    try:
        return str(value)
    except RecursionError:
        raise InvalidQueryError(f"{name} must be a value with a text, not {shown(value)}") from None


class RedisManager(ProcessBound):
    """One Redis, connected to on first use; `DatabaseFactory.create_redis_manager` returns it.

    Parameters
    ----------
    settings : Settings
        Without a database in them, the embedded servers are used.
    config : mapping, optional
        The configuration's part `redis`.

    Examples
    --------
    >>> import asyncio
    >>> from ngdata.repositories import DatabaseFactory
    >>> async def check():
    ...     redis_manager = DatabaseFactory.create_redis_manager(
    ...         {"redis": {"host": "127.0.0.1", "port": 1}}
    ...     )
    ...     return await redis_manager.health_check()
    >>> asyncio.run(check())
    False
    """

    _opened_by = "DatabaseFactory.create_redis_manager()"

    def __init__(self, settings: Settings, config: Mapping[str, Any] | None = None) -> None:
        self.config = as_config(config, "config")
        self._settings = settings
        self._blocking: redis.Redis | None = None
        self._async: redis.asyncio.Redis | None = None

    async def health_check(self) -> bool:
        """Return whether Redis answers within five seconds; the event loop runs meanwhile."""
        return await in_daemon_thread(self.ping)

    def ping(self) -> bool:
        """Return whether Redis answers within five seconds; blocks, see `health_check`."""
        try:
            with redis.Redis.from_url(self.url(), **self._timeouts()) as client:
                return bool(client.ping())
        except (redis.RedisError, OSError, ValueError, ConfigError):
            return False

    def get_client(self) -> redis.Redis:
        """Return a blocking client, which stops the event loop while it waits; see `client`.

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
        """An async client, which belongs to the event loop that first uses it."""
        if self._async is None:
            self._async = redis.asyncio.Redis.from_url(
                self.url(), decode_responses=True, **self._timeouts()
            )
        return self._async

    def build_key(self, pattern: str, **values: Any) -> str:
        """Build a key from a pattern of the configuration, or from one of NeuroGraph OS's own.

        The keys of ngdata's own cache are different ones.

        Raises
        ------
        InvalidQueryError
            The pattern is unknown, or one of its values is missing.
        """
        patterns: dict[str, str] = _KEY_PATTERNS | (self.config.get("keys") or {})
        text = as_text(pattern, "pattern")
        if text not in patterns:
            raise InvalidQueryError(
                f"unknown key pattern {shown(text)}; the patterns are {', '.join(patterns)}"
            )
        parts = {name: _as_key_part(value, name) for name, value in values.items()}
        try:
            return patterns[text].format(**parts)
        except KeyError as error:
            raise InvalidQueryError(f"the key pattern {text!r} needs {error.args[0]}=") from None

    def get_ttl(self, category: str = "default") -> int:
        """Return the seconds that a category's values are kept, from the configuration's `cache`."""
        cache = self.config.get("cache") or {}
        return int(
            cache.get(
                f"{as_text(category, 'category')}_ttl", cache.get("default_ttl", _DEFAULT_TTL)
            )
        )

    def close(self) -> None:
        """Close the blocking client; `aclose` closes both."""
        if self._blocking is not None:
            self._blocking.close()
            self._blocking = None

    async def aclose(self) -> None:
        """Close both clients; closing again does nothing."""
        self.close()
        if self._async is not None:
            client, self._async = self._async, None
            with contextlib.suppress(redis.RedisError, OSError, asyncio.TimeoutError):
                await client.aclose()

    def url(self) -> str:
        """Return the server's URL with its password; may start the embedded servers.

        Raises
        ------
        ConfigError
            No Redis is configured.
        """
        if self._settings.database_url is None and self._settings.redis_url is None:
            self._settings = resolve_servers(self._settings)
        if self._settings.redis_url is None:
            raise ConfigError(
                "no Redis is configured; set database.redis.host in the configuration, or "
                "NGDATA_REDIS_URL"
            )
        return self._settings.redis_url.get_secret_value()

    def _timeouts(self) -> dict[str, Any]:
        seconds = min(self._settings.connect_timeout, _ANSWER_TIMEOUT)
        return {"socket_timeout": seconds, "socket_connect_timeout": seconds}
