"""A reader as of a pin: its answers never change, so they are cached without a version, forever."""

from __future__ import annotations

import functools

from ngdata._query.model import Query
from ngdata._query.pin import Pin
from ngdata._reading import clock
from ngdata._reading.answer import Answer
from ngdata._reading.cache.cached_reader import CachedReader, query_key
from ngdata._reading.reader import CacheMode, DatabaseReader, checked_mode

__all__ = ["PastReader"]


class PastReader(CachedReader):
    """A reader as of a pin, with the connections and the settings of another reader.

    Parameters
    ----------
    live : CachedReader
    pin : Pin
    """

    def __init__(self, live: CachedReader, pin: Pin) -> None:
        super().__init__(live._database, live._settings)
        self.max_rows = live.max_rows
        self.pin = pin
        # It reads no versions, but asks once who it is.
        self.versions = live.versions
        # In place of the version of what may change.
        self._version = f"pin{pin.id.replace('-', '')}"

    async def _answer(
        self, query: Query, mode: CacheMode | None, max_rows: int | None
    ) -> tuple[Answer, str]:
        self._database.arrow.check_caller()
        mode = checked_mode(self._mode if mode is None else mode)
        if mode == "off" or not await self.open():
            self.stats.bypassed += 1
            return await DatabaseReader._answer(self, query, mode, max_rows)
        key = query_key(query)
        cached = await self._from_memory(key, query, self._version) or await self._from_redis(
            key, query, self._version
        )
        if cached is not None:
            return cached
        read = functools.partial(self._read_and_keep, key, query, mode, max_rows)
        answer, is_joined = await self._single_flight.join((key, self._version, max_rows), read)
        if is_joined:
            self.stats.shared_reads += 1
            return answer, "shared read"
        self.stats.misses += 1
        return answer, "database"

    async def kept_answer(self, query: Query, mode: CacheMode | None = None) -> Answer | None:
        """Return an answer that this process keeps."""
        self._database.arrow.check_caller()
        mode = checked_mode(self._mode if mode is None else mode)
        if mode == "off" or not self._is_open:
            return None
        query = self.own(query)
        kept = await self._from_memory(query_key(query), query, self._version)
        return None if kept is None else kept[0]

    async def _read_and_keep(
        self, key: str, query: Query, mode: CacheMode, max_rows: int | None
    ) -> Answer:
        read_at, clear_count = clock.now(), self._clear_count
        table, _, unit = await self._table(query, max_rows=max_rows)
        answer = Answer(table, query.columns, self._version, read_at, unit)
        if clear_count == self._clear_count:
            self.memory.put(key, query, answer)
            if self._shared is not None and self._uses_redis(query, mode):
                self._shared.put(key, answer)
        return answer

    async def close(self) -> None:
        """Close the connection to Redis; all others are those of the reader it came from."""
        if self._shared is not None:
            await self._shared.close()
