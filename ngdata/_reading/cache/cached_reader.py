"""A reader that caches: it tries this process, larger regions, Redis, and then the database.

A cached answer is returned only if its version is the database's current one or, with
``cache="ttl"``, only if it is young enough.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import math
from typing import TYPE_CHECKING

import asyncpg

from ngdata._arguments.id_space import IdSpace
from ngdata._arguments.optional_imports import import_optional
from ngdata._config.settings import Settings
from ngdata._connections.database import Database
from ngdata._connections.revision import HEAD
from ngdata._connections.threads import in_daemon_thread
from ngdata._query.model import Query
from ngdata._reading import clock
from ngdata._reading.answer import Answer
from ngdata._reading.cache.codec import FORMAT
from ngdata._reading.cache.containment import contained_answer
from ngdata._reading.cache.memory_tier import MemoryTier
from ngdata._reading.cache.outliving import UpToDate, bring_up_to_date, may_outlive
from ngdata._reading.cache.single_flight import SingleFlight
from ngdata._reading.cache.stats import CacheStats
from ngdata._reading.cache.versions import (
    Identity,
    Last,
    Versions,
    has_many_nonces,
    seen_since,
    version_since_sql,
)
from ngdata._reading.reader import CacheMode, DatabaseReader, checked_mode
from ngdata.errors import ConfigError

if TYPE_CHECKING:
    from ngdata._reading.cache.redis_tier import RedisTier

__all__ = ["CachedReader", "digest", "key_prefix", "query_key"]

_REDIS_TIER = "ngdata._reading.cache.redis_tier"

# Up to this size, the event loop can wait while a region is cut out of another's answer.
_SMALL_BYTES = 1 << 20


class CachedReader(DatabaseReader):
    """A reader that caches, as configured by the settings.

    Parameters
    ----------
    database : Database
    settings : Settings
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        super().__init__(database, IdSpace(settings.id_space, settings.ids == "integer"))
        self._settings = settings
        self._mode: CacheMode = checked_mode(settings.cache)
        self._ttl = settings.default_ttl
        self.stats = CacheStats()
        self.memory = MemoryTier(settings.cache_bytes)
        self.versions = Versions(database)
        self._single_flight: SingleFlight[Answer] = SingleFlight()
        self._updates: SingleFlight[UpToDate | None] = SingleFlight()
        self._opening = asyncio.Lock()
        self._identity: Identity | None = None
        self._is_open = False
        self._shared: RedisTier | None = None
        self._clear_count = 0
        # Whether this role may read the log of changes, as far as is known.
        self._reads_log = True
        # Whether the last read found another identity, no version, or one with too many nonces: all
        # of which is for `Versions` to find out and to correct.
        self._must_ask = False
        # The last snapshot that a read saw, by relations, while the identity is the same.
        self._last: dict[tuple[str, ...], Last] = {}

    @property
    def mode(self) -> CacheMode:
        """The cache mode of a read that names none."""
        return self._mode

    async def open(self) -> bool:
        """Read the reader's identity; return False if this role may not read versions."""
        if not self._is_open:
            await self._open_for(await self.versions.identity())
        return self._identity is not None

    async def _open_for(self, identity: Identity | None) -> None:
        """Use the answers of this identity from now on, and no longer those of another."""
        async with self._opening:
            if self._is_open and identity == self._identity:
                return
            self._is_open = False
            # Nothing that is being looked up for the other identity is kept.
            self._clear_count += 1
            self._last.clear()
            self.memory.clear()
            self._single_flight.clear()
            self._updates.clear()
            self._reads_log = True
            if self._shared is not None:
                await self._shared.close()
                self._shared = None
            self._identity = identity
            url = self._settings.redis_url
            # A dump may leave the secrets out; answers are then shared within this process only.
            if identity is not None and identity.secret is not None and url is not None:
                tier = await _redis_tier()
                self._shared = tier(
                    url.get_secret_value(),
                    key_prefix(identity.name),
                    identity.secret.encode(),
                    self._ttl,
                    self.stats,
                )
            self._is_open = True

    async def _answer(
        self, query: Query, mode: CacheMode | None, max_rows: int | None
    ) -> tuple[Answer, str]:
        # A cached answer needs no connection, but must not reach a wrong caller either.
        self._database.arrow.check_caller()
        mode = checked_mode(self._mode if mode is None else mode)
        key = query_key(query)
        read = functools.partial(self._read_and_keep, key, query, mode, max_rows)
        if mode == "strict" and self._is_surely_missing(key, query):
            try:
                answer, _ = await self._single_flight.join((key, None, max_rows), read)
            except ConfigError as error:
                if error.sqlstate != asyncpg.InsufficientPrivilegeError.sqlstate:
                    raise
                # Perhaps the right to read versions: without it, this role still reads the rows.
                self._must_ask = True
            else:
                if answer.version:
                    self.stats.misses += 1
                else:
                    self.stats.bypassed += 1
                return answer, "database"
        version = None
        if mode == "strict":
            identity, version = await self.versions.current(query.relations)
            if identity != self._identity or not self._is_open:
                await self._open_for(identity)
            self._must_ask = version is None
        elif mode == "ttl" and not await self.open():
            mode = "off"
        if mode == "off" or (mode == "strict" and version is None):
            self.stats.bypassed += 1
            return await super()._answer(query, mode, max_rows)
        cached = await self._from_memory(key, query, version) or await self._from_redis(
            key, query, version
        )
        if cached is not None:
            return cached
        # A read that began without a version may have begun before the last write.
        if version is not None and self._single_flight.is_running((key, None, max_rows)):
            answer, _ = await self._single_flight.join((key, None, max_rows), _never)
            if answer.version == version:
                self.stats.shared_reads += 1
                return answer, "shared read"
        # Callers that saw another version start a read of their own, as this one may have missed a
        # write; so do callers with another limit, at which this one may stop too early or too late.
        answer, is_joined = await self._single_flight.join(
            (key, version, max_rows),
            read,
            since=-math.inf if version else clock.now() - self._ttl,
        )
        if is_joined:
            self.stats.shared_reads += 1
            return answer, "shared read"
        self.stats.misses += 1
        return answer, "database"

    async def kept_answer(self, query: Query, mode: CacheMode | None = None) -> Answer | None:
        """Return an answer that this process keeps, if it is up to date or can be brought so.

        At most, what changed in it is read.
        """
        self._database.arrow.check_caller()
        mode = checked_mode(self._mode if mode is None else mode)
        query = query.within(self.ids)
        key = query_key(query)
        if mode == "off" or not self._is_open or not self.memory.may_answer(key, query):
            return None
        version = None
        if mode == "strict":
            identity, version = await self.versions.current(query.relations)
            if version is None or identity != self._identity:
                return None
        kept = await self._from_memory(key, query, version)
        return None if kept is None else kept[0]

    def _is_surely_missing(self, key: str, query: Query) -> bool:
        """Return whether no tier can have the answer, so that its version need not be known first."""
        return (
            self._is_open
            and self._identity is not None
            and not self._must_ask
            and not self._uses_redis(query, "strict")
            and not self.memory.may_answer(key, query)
            and not self._single_flight.is_any_running(key)
        )

    def _uses_redis(self, query: Query, mode: CacheMode) -> bool:
        """Return whether an answer is looked for, and kept, in Redis.

        The version and Redis together take as long as a lookup in the database.
        """
        return self._shared is not None and not (query.is_lookup and mode == "strict")

    def _is_current(self, answer: Answer, version: str | None) -> bool:
        if version is None:
            return 0 <= clock.now() - answer.read_at <= self._ttl
        return answer.version == version

    async def _from_memory(
        self, key: str, query: Query, version: str | None
    ) -> tuple[Answer, str] | None:
        answer = self.memory.get(key)
        if answer is not None:
            if self._is_current(answer, version):
                self.stats.memory_hits += 1
                return answer, "memory"
            updated = await self._updated(key, query, answer, version, "memory")
            if updated is not None:
                return updated
            self.stats.stale_avoided += 1
            self.memory.drop(key)
        clear_count = self._clear_count
        for outer_key, outer, candidate in self.memory.containing(query):
            is_current = self._is_current(candidate, version)
            if not is_current and not self._may_outlive(outer, candidate, version):
                self.stats.stale_avoided += 1
                self.memory.drop(outer_key)
                continue
            part = await self._part(query, outer, candidate)
            if not is_current:
                # As it was: only what is inside of the smaller region must be up to date.
                updated = await self._updated(key, query, part, version, "region", is_part=True)
                if updated is not None:
                    return updated
                self.stats.stale_avoided += 1
                continue
            self.stats.region_hits += 1
            if clear_count == self._clear_count:
                self.memory.get(outer_key)
                self.memory.put(key, query, part, is_part=True)
            return part, "region"
        return None

    def _may_outlive(self, query: Query, answer: Answer, version: str | None) -> bool:
        return (
            version is not None
            and self._reads_log
            and self._identity is not None
            and not self._database.arrow.behind_pooler
            and may_outlive(query, answer, version)
        )

    async def _updated(
        self,
        key: str,
        query: Query,
        answer: Answer,
        version: str | None,
        source: str,
        *,
        is_part: bool = False,
    ) -> tuple[Answer, str] | None:
        """Return an answer of an earlier version, brought up to date, and keep it.

        Return None if it must be read as a whole.
        """
        if not self._may_outlive(query, answer, version):
            return None
        clear_count, identity = self._clear_count, self._identity
        assert identity is not None
        name = identity.name

        async def update() -> UpToDate | None:
            return await self._database_read(
                lambda connection: connection.run(
                    lambda session: bring_up_to_date(session, query, answer, name)
                )
            )

        try:
            # Whoever saw this version is content with any answer that was read since.
            updated, is_joined = await self._updates.join((key, version, answer.version), update)
        except ConfigError as error:
            if error.sqlstate != asyncpg.InsufficientPrivilegeError.sqlstate:
                raise
            self._reads_log = False
            return None
        if updated is None:
            return None
        if identity == self._identity and clear_count == self._clear_count:
            if updated.last is not None:
                self._last[query.relations] = updated.last
            if not is_joined:
                self.memory.put(key, query, updated.answer, is_part=is_part)
                if source == "redis" and self._shared is not None:
                    # The log does not reach back forever.
                    self._shared.put(key, updated.answer)
        if is_joined:
            self.stats.shared_reads += 1
            return updated.answer, "shared read"
        if updated.how == "mended":
            self.stats.mended += 1
            self.stats.rows_read_anew += updated.rows
            return updated.answer, "mended"
        self.stats.outlived += 1
        return updated.answer, source

    async def _part(self, query: Query, outer: Query, answer: Answer) -> Answer:
        if answer.nbytes < _SMALL_BYTES:
            return contained_answer(query, outer, answer)
        return await in_daemon_thread(lambda: contained_answer(query, outer, answer))

    async def _from_redis(
        self, key: str, query: Query, version: str | None
    ) -> tuple[Answer, str] | None:
        if self._shared is None or not self._uses_redis(
            query, "ttl" if version is None else "strict"
        ):
            return None
        clear_count = self._clear_count
        if version is None:
            answer = await self._shared.latest(key, query.columns)
        else:
            answer = await self._shared.get(key, version, query.columns)
        if answer is None:
            return None
        if not self._is_current(answer, version):
            return await self._updated(key, query, answer, version, "redis")
        self.stats.redis_hits += 1
        if clear_count == self._clear_count:
            self.memory.put(key, query, answer)
        return answer, "redis"

    async def _read_and_keep(
        self, key: str, query: Query, mode: CacheMode, max_rows: int | None
    ) -> Answer:
        """Read version and rows in one snapshot, and keep them together."""
        read_at, clear_count, identity = clock.now(), self._clear_count, self._identity
        last = self._last.get(query.relations)
        version = version_since_sql(query.relations, last)
        table, text, unit = await self._table(query, version, max_rows)
        seen, last = seen_since(text, last)
        # The connection that read the rows may be another role's, or another server's, whose snapshot
        # says nothing about the last one's version.
        is_ours = identity is not None and identity.name == seen.identity
        answer_version = (seen.version or "") if is_ours else ""
        snapshot = last.snapshot if is_ours and last is not None else None
        answer = Answer(table, query.columns, answer_version, read_at, unit, snapshot)
        if is_ours and last is not None and identity == self._identity:
            self._last[query.relations] = last
        self._must_ask = not is_ours or has_many_nonces(seen.version, query.relations)
        if is_ours and identity == self._identity and clear_count == self._clear_count:
            self.memory.put(key, query, answer)
            if self._shared is not None and self._uses_redis(query, mode):
                self._shared.put(key, answer)
        return answer

    async def clear(self) -> None:
        """Remove all answers, those in Redis too; reads that are running now are not kept."""
        self._clear_count += 1
        self._single_flight.clear()
        self._updates.clear()
        self.memory.clear()
        if self._shared is not None:
            await self._shared.clear()

    async def flush(self) -> None:
        """Wait until all answers that are being stored in Redis are stored."""
        if self._shared is not None:
            await self._shared.flush()

    def statistics(self) -> CacheStats:
        """Return the current numbers."""
        self.stats.entries, self.stats.bytes = len(self.memory), self.memory.nbytes
        return self.stats.copy()

    async def close(self) -> None:
        """Close the connections that the cache itself opened."""
        if self._shared is not None:
            await self._shared.close()
        await self.versions.close()

    def cut(self) -> None:
        """Close the connections to Redis at once; their event loop need not run."""
        if self._shared is not None:
            self._shared.cut()


def query_key(query: Query) -> str:
    """Return a short name for a question."""
    # With the names: a column may be made of what the server sends for others, or of nothing.
    ids = "" if query.id_space is None else f"integers of {query.id_space}"
    return digest(query.sql, ids, *(column.name for column in query.columns))


async def _never() -> Answer:
    raise AssertionError("a running read is joined")


async def _redis_tier() -> type[RedisTier]:
    """Load the client of Redis, which takes long: only where a Redis is configured."""

    def load() -> type[RedisTier]:
        part = "a cache in Redis (redis_url)"
        import_optional("redis.asyncio", part, None)
        # In the same way, because a fork must wait for this import too.
        tier: type[RedisTier] = import_optional(_REDIS_TIER, part, None).RedisTier
        return tier

    return await in_daemon_thread(load)


def key_prefix(identity: str) -> str:
    """Return the prefix of a database's and role's keys; other versions of ngdata use others."""
    return f"ngdata:{FORMAT}:{HEAD}:{digest(identity)}:"


def digest(*parts: str) -> str:
    """Return a short name for a question or a database."""
    return hashlib.blake2b("\0\0".join(parts).encode(), digest_size=20).hexdigest()
