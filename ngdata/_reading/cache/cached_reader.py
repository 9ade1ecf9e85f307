"""The order of things in a cached read: this process, a larger region, Redis, the database.

Nothing is given again unless the version that the database names now is the one it was read by;
with ``cache="ttl"``, unless it is young enough.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time

from ngdata._config.settings import Settings
from ngdata._connections.database import Database
from ngdata._connections.revision import HEAD
from ngdata._connections.threads import in_daemon_thread
from ngdata._query.model import Query
from ngdata._reading.answer import Answer
from ngdata._reading.cache.codec import FORMAT
from ngdata._reading.cache.containment import answered_by
from ngdata._reading.cache.memory_tier import Memory
from ngdata._reading.cache.redis_tier import Shared
from ngdata._reading.cache.single_flight import Flights
from ngdata._reading.cache.stats import CacheStats
from ngdata._reading.cache.versions import Versions, version_of, version_sql
from ngdata._reading.reader import CacheMode, Reader, checked_mode

__all__ = ["CachedReader", "digest", "key_prefix"]

# Up to here, the loop may wait while a region is cut out of another's answer.
_SMALL_BYTES = 1 << 20


class CachedReader(Reader):
    """A reader that remembers; `settings` say how.

    Parameters
    ----------
    database : Database
    settings : Settings
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        super().__init__(database)
        self._settings = settings
        self._mode: CacheMode = checked_mode(settings.cache)
        self._ttl = settings.default_ttl
        self.stats = CacheStats()
        self.memory = Memory(settings.cache_bytes)
        self.versions = Versions(database)
        self._flights: Flights[Answer] = Flights()
        self._opening = asyncio.Lock()
        self._has_versions: bool | None = None
        self._shared: Shared | None = None
        self._cleared = 0

    async def open(self) -> bool:
        """Find out what tells this database from all others; False if it has no versions for us."""
        async with self._opening:
            if self._has_versions is None:
                identity = await self.versions.identity()
                if identity is not None and self._settings.redis_url is not None:
                    self._shared = Shared(
                        self._settings.redis_url.get_secret_value(),
                        key_prefix(identity),
                        identity[1].encode(),
                        self._ttl,
                        self.stats,
                    )
                self._has_versions = identity is not None
        return self._has_versions

    async def answer(self, query: Query, mode: CacheMode | None = None) -> tuple[Answer, str]:
        """Give the answer that the database would give now, and where it came from."""
        # What is remembered needs no connection, and is not for them either.
        self._database.arrow.refuse_wrong_callers()
        mode = self._mode if mode is None else checked_mode(mode)
        version = None
        if mode != "off" and not (self._has_versions or await self.open()):
            mode = "off"
        if mode == "strict":
            version = await self.versions.current(query.relations)
        if mode == "off" or (mode == "strict" and version is None):
            self.stats.bypassed += 1
            return await super().answer(query)
        # Names too: a column may be made of what the server sends for others, or of nothing.
        question = digest(query.sql, *(column.name for column in query.columns))
        found = await self._remembered(question, query, version) or await self._stored(
            question, query, version
        )
        if found is not None:
            return found
        # Who saw another version begins a read of their own: this one may have missed a write.
        answer, joined = await self._flights.join(
            (question, version),
            lambda: self._read_and_keep(question, query),
            since=-math.inf if version else time.time() - self._ttl,
        )
        if joined:
            self.stats.shared_reads += 1
            return answer, "shared read"
        self.stats.misses += 1
        return answer, "database"

    def _is_true(self, answer: Answer, version: str | None) -> bool:
        if version is None:
            return 0 <= time.time() - answer.made <= self._ttl
        return answer.version == version

    async def _remembered(
        self, question: str, query: Query, version: str | None
    ) -> tuple[Answer, str] | None:
        known = self.memory.get(question)
        if known is not None:
            if self._is_true(known, version):
                self.stats.memory_hits += 1
                return known, "memory"
            self.stats.stale_avoided += 1
            self.memory.drop(question)
        if query.region is None:
            return None
        for key, outer, answer in list(self.memory.regions(query.region.box.level)):
            if not self._is_true(answer, version):
                self.stats.stale_avoided += 1
                self.memory.drop(key)
            elif (inside := await self._part(query, outer, answer)) is not None:
                self.stats.region_hits += 1
                self.memory.get(key)
                self.memory.put(question, query, inside, is_part=True)
                return inside, "region"
        return None

    async def _part(self, query: Query, outer: Query, answer: Answer) -> Answer | None:
        if answer.nbytes < _SMALL_BYTES:
            return answered_by(query, outer, answer)
        return await in_daemon_thread(lambda: answered_by(query, outer, answer))

    async def _stored(
        self, question: str, query: Query, version: str | None
    ) -> tuple[Answer, str] | None:
        if self._shared is None:
            return None
        cleared = self._cleared
        if version is None:
            found = await self._shared.latest(question, query.columns)
        else:
            found = await self._shared.get(question, version, query.columns)
        if found is None or not self._is_true(found, version):
            return None
        self.stats.redis_hits += 1
        if cleared == self._cleared:
            self.memory.put(question, query, found)
        return found, "redis"

    async def _read_and_keep(self, question: str, query: Query) -> Answer:
        """Read version and data in one snapshot, and keep them together."""
        made, cleared = time.time(), self._cleared
        table, nonces = await self._table(query, version_sql(query.relations))
        version = version_of(nonces)
        answer = Answer(table, query.columns, version or "", made)
        if version is not None and cleared == self._cleared:
            self.memory.put(question, query, answer)
            if self._shared is not None:
                self._shared.put(question, answer)
        return answer

    async def clear(self) -> None:
        """Forget all, in Redis too; what is being read now is not kept either."""
        self._cleared += 1
        self._flights.clear()
        self.memory.clear()
        if self._shared is not None:
            await self._shared.clear()

    async def settled(self) -> None:
        """Wait until what is to be stored in Redis is stored there."""
        if self._shared is not None:
            await self._shared.stored(patience=5.0)

    def statistics(self) -> CacheStats:
        """Give the numbers as they are now."""
        self.stats.entries, self.stats.bytes = len(self.memory), self.memory.nbytes
        return self.stats.copy()

    async def close(self) -> None:
        """Close what the cache itself has opened."""
        if self._shared is not None:
            await self._shared.close()
        await self.versions.close()


def key_prefix(identity: tuple[str, str]) -> str:
    """Begin the keys of a database and role, which other versions of ngdata do not touch."""
    return f"ngdata:{FORMAT}:{HEAD}:{digest(identity[0])}:"


def digest(*parts: str) -> str:
    """Name a question, or a database, in few characters."""
    return hashlib.blake2b("\0\0".join(parts).encode(), digest_size=20).hexdigest()
