"""`client.cache`: the cache's statistics, and clearing it."""

from __future__ import annotations

from ngdata._arguments.cards import Card
from ngdata._client.suggesting import Suggesting
from ngdata._reading.cache import CachedReader, CacheStats

__all__ = ["AsyncCache"]


class AsyncCache(Suggesting):
    """The cache of one client: a result is reused as long as it is up to date."""

    def __init__(self, reader: CachedReader) -> None:
        self._reader = reader

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._reader.where}>"

    def _card(self) -> Card:
        return self._reader.statistics()._card()

    async def stats(self) -> CacheStats:
        """Return the statistics of this client's cache.

        Returns
        -------
        CacheStats
            Hits per tier, misses, bytes and errors; shown as a table in a notebook.

        Examples
        --------
        >>> before = await ang.cache.stats()
        >>> count = await ang.tokens.count_in_region((0, 0, 0), (1, 1, 1))
        >>> again = await ang.tokens.count_in_region((0, 0, 0), (1, 1, 1))
        >>> (await ang.cache.stats()).hits > before.hits
        True
        """
        return self._reader.statistics()

    async def clear(self) -> None:
        """Delete all cached results, including those of this database and role in Redis.

        Results are correct without it.

        Examples
        --------
        >>> await ang.cache.clear()
        >>> (await ang.cache.stats()).entries
        0
        """
        await self._reader.clear()
