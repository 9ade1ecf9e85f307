"""Entities by id out of the cache: the tiers are the facade's, the version is the session's own.

A session sees what it has not committed, so it asks for the version on its own connection.  What it
then remembers is of a version that holds its own nonces: nobody else sees that one before the
commit, and everybody the same row after it.
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
from ngdata._reading.cache.versions import Versions, tracked_version_sql
from ngdata.errors import NGDataError
from ngdata.repositories.redis import RedisManager

__all__ = ["Remembered"]

_COLUMNS: Final = (Column("entity", Kind.JSON),)


class Remembered:
    """The entities that a manager's sessions have read.

    Parameters
    ----------
    database : Database
    settings : Settings
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._is_on = settings.cache != "off"
        self._identity: tuple[str, str] | None = None
        self._asked = False
        self._shared: dict[RedisManager, RedisTier | None] = {}
        self.memory = MemoryTier(settings.cache_bytes)
        self.stats = CacheStats()

    async def open(self, redis: RedisManager | None) -> bool:
        """Tell whether there is a cache at all, with Redis or without."""
        if self._is_on and not self._asked:
            versions = Versions(self._database)
            try:
                self._identity = await versions.identity()
            finally:
                await versions.close()
            self._asked = True
        if self._identity is None:
            return False
        if isinstance(redis, RedisManager) and redis not in self._shared:
            self._shared[redis] = None
            prefix, secret = key_prefix(self._identity), self._identity[1].encode()
            with contextlib.suppress(NGDataError):  # none is configured
                url = await in_daemon_thread(redis.url)
                ttl = redis.get_ttl("token")
                self._shared[redis] = RedisTier(url, prefix, secret, ttl, self.stats)
        return True

    def version_sql(self, model: type[Any]) -> str:
        """Give the query of the version that a session sees; NULL if nothing can tell."""
        return tracked_version_sql(model.__table__.fullname)

    async def find(
        self, model: type[Any], key: uuid.UUID, version: str | None, redis: RedisManager | None
    ) -> Any:
        """Give an entity that is as the store is at a version, detached; None if none is known."""
        if version is None:
            self.stats.bypassed += 1
            return None
        question = _question(model, key)
        answer = self.memory.get(question)
        if answer is not None and answer.version == version:
            self.stats.memory_hits += 1
            return _entity(model, answer)
        self.stats.stale_avoided += answer is not None
        shared = self._shared.get(redis) if redis is not None else None
        answer = await shared.get(question, version, _COLUMNS) if shared is not None else None
        if answer is None or answer.version != version:
            self.stats.misses += 1
            return None
        self.stats.redis_hits += 1
        self._keep(question, answer)
        return _entity(model, answer)

    def put(self, entity: Any, version: str | None, redis: RedisManager | None) -> None:
        """Remember an entity as it was read, in one snapshot with a version."""
        if version is None:
            return
        question = _question(type(entity), entity.id)
        answer = Answer(pa.table({"entity": [_text(entity)]}), _COLUMNS, version)
        self._keep(question, answer)
        shared = self._shared.get(redis) if redis is not None else None
        if shared is not None:
            shared.put(question, answer)

    def _keep(self, question: str, answer: Answer) -> None:
        self.memory.put(question, Query(question, _COLUMNS, ()), answer)

    async def close(self) -> None:
        """Close the connections to Redis."""
        for shared in self._shared.values():
            if shared is not None:
                await shared.close()
        self._shared.clear()


def _question(model: type[Any], key: uuid.UUID) -> str:
    return digest("entity", model.__table__.fullname, str(key))


# Python's JSON keeps floats and integers as they are; of these, each is written as text, and read.
_TEXT: Final[dict[type, tuple[Callable[[Any], str], Callable[[str], Any]]]] = {
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
        values[name] = value if value is None or kind not in _TEXT else _TEXT[kind][0](value)
    return json.dumps(values)


def _entity(model: type[Any], answer: Answer) -> Any:
    values = json.loads(answer.table["entity"][0].as_py())
    entity = inspect(model).class_manager.new_instance()
    for name, kind in _columns(model):
        value = values[name]
        given = value if value is None or kind not in _TEXT else _TEXT[kind][1](value)
        set_committed_value(entity, name, given)
    make_transient_to_detached(entity)
    return entity
