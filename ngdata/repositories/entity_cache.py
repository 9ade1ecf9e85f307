"""Cached entities by id: the tiers are those of the client's cache, the version is the session's.

A session sees its own uncommitted writes, so it reads the version on its own connection.  An entity
that it caches after a write carries a version with the session's own nonces: no other session sees
that version before the commit, and after it every session sees the same row.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import uuid
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa
from sqlalchemy import inspect
from sqlalchemy.orm import make_transient_to_detached
from sqlalchemy.orm.attributes import set_committed_value

from ngdata._config.settings import Settings
from ngdata._connections.database import Database
from ngdata._connections.threads import in_daemon_thread
from ngdata._query.model import Column, Kind, Query
from ngdata._reading.answer import Answer
from ngdata._reading.cache.cached_reader import digest, key_prefix
from ngdata._reading.cache.memory_tier import MemoryTier
from ngdata._reading.cache.redis_tier import RedisTier
from ngdata._reading.cache.stats import CacheStats
from ngdata._reading.cache.versions import Identity, Versions, seen_by, version_sql
from ngdata.errors import NGDataError
from ngdata.repositories.redis import RedisManager

__all__ = ["EntityCache"]

_COLUMNS: Final = (Column("entity", Kind.JSON),)


class EntityCache:
    """The entities that a manager's sessions have read.

    Parameters
    ----------
    database : Database
    settings : Settings
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._enabled = settings.cache != "off"
        self._identity: Identity | None = None
        self._is_open = False
        self._shared: dict[RedisManager, RedisTier | None] = {}
        self.memory = MemoryTier(settings.cache_bytes)
        self.stats = CacheStats()

    async def open(self, redis: RedisManager | None) -> bool:
        """Open the cache, with Redis or without, and return whether it can be used."""
        if self._enabled and not self._is_open:
            versions = Versions(self._database)
            try:
                identity = await versions.identity()
            finally:
                await versions.close()
            if identity != self._identity:
                self._identity = identity
                self.memory.clear()
                shared, self._shared = self._shared, {}
                for tier in shared.values():
                    if tier is not None:
                        await tier.close()
            self._is_open = True
        if self._identity is None:
            return False
        if isinstance(redis, RedisManager) and redis not in self._shared:
            self._shared[redis] = None
            name, secret = self._identity
            if secret is None:
                return True
            with contextlib.suppress(NGDataError):  # no Redis is configured
                url = await in_daemon_thread(redis.url)
                ttl = redis.get_ttl("token")
                self._shared[redis] = RedisTier(
                    url, key_prefix(name), secret.encode(), ttl, self.stats
                )
        return True

    def version_sql(self, model: type[Any]) -> str:
        """Return the query of the text that `version_of` reads."""
        return version_sql((model.__table__.fullname,))

    def version_of(self, text: str | None) -> str | None:
        """Return the version that a session sees; None if it has none, or reads as another role."""
        seen = seen_by(text)
        is_own = self._identity is not None and seen.identity == self._identity.name
        if seen.identity is not None and not is_own:
            # The server was restarted, or new connections have another role: open for what they are.
            self._is_open = False
        return seen.version if is_own else None

    async def find(
        self, model: type[Any], key: uuid.UUID, version: str | None, redis: RedisManager | None
    ) -> Any:
        """Return the cached entity of a version, detached; None if there is none."""
        if version is None:
            self.stats.bypassed += 1
            return None
        cache_key = _cache_key(model, key)
        answer = self.memory.get(cache_key)
        if answer is not None and answer.version == version:
            self.stats.memory_hits += 1
            return _entity(model, answer)
        self.stats.stale_avoided += answer is not None
        shared = self._shared.get(redis) if redis is not None else None
        answer = await shared.get(cache_key, version, _COLUMNS) if shared is not None else None
        if answer is None or answer.version != version:
            self.stats.misses += 1
            return None
        self.stats.redis_hits += 1
        self._store_in_memory(cache_key, answer)
        return _entity(model, answer)

    def put(self, entity: Any, version: str | None, redis: RedisManager | None) -> None:
        """Cache an entity that was read in one snapshot with a version."""
        if version is None:
            return
        cache_key = _cache_key(type(entity), entity.id)
        answer = Answer(pa.table({"entity": [_text(entity)]}), _COLUMNS, version)
        self._store_in_memory(cache_key, answer)
        shared = self._shared.get(redis) if redis is not None else None
        if shared is not None:
            shared.put(cache_key, answer)

    def _store_in_memory(self, cache_key: str, answer: Answer) -> None:
        self.memory.put(cache_key, Query(cache_key, _COLUMNS, ()), answer)

    async def close(self) -> None:
        """Close the connections to Redis."""
        for shared in self._shared.values():
            if shared is not None:
                await shared.close()

    def cut(self) -> None:
        """Close the connections to Redis at once; their event loop need not run."""
        for shared in self._shared.values():
            if shared is not None:
                shared.cut()


def _cache_key(model: type[Any], key: uuid.UUID) -> str:
    return digest("entity", model.__table__.fullname, str(key))


# JSON keeps floats and integers exactly; values of these types are written as text.
_CONVERTERS: Final[dict[type, tuple[Callable[[Any], str], Callable[[str], Any]]]] = {
    uuid.UUID: (str, uuid.UUID),
    dt.datetime: (dt.datetime.isoformat, dt.datetime.fromisoformat),
    bytes: (lambda value: base64.b64encode(value).decode(), base64.b64decode),
}


def _columns(model: type[Any]) -> list[tuple[str, type]]:
    columns = inspect(model).column_attrs
    return [(column.key, column.columns[0].type.python_type) for column in columns]


def _text(entity: Any) -> str:
    values = {}
    for name, kind in _columns(type(entity)):
        value = getattr(entity, name)
        values[name] = (
            value if value is None or kind not in _CONVERTERS else _CONVERTERS[kind][0](value)
        )
    return json.dumps(values)


def _entity(model: type[Any], answer: Answer) -> Any:
    values = json.loads(answer.table["entity"][0].as_py())
    entity = inspect(model).class_manager.new_instance()
    for name, kind in _columns(model):
        value = values[name]
        if value is not None and kind in _CONVERTERS:
            value = _CONVERTERS[kind][1](value)
        set_committed_value(entity, name, value)
    make_transient_to_detached(entity)
    return entity
