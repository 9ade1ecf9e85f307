"""`client.cache`: what the cache has done, and a way to empty it."""

from __future__ import annotations

from ngdata._reading.cache import CachedReader, CacheStats

__all__ = ["AsyncCache"]


class AsyncCache:
    """The cache of one client: an answer is given again as long as it is true."""

    def __init__(self, reader: CachedReader) -> None:
        self._reader = reader

    async def stats(self) -> CacheStats:
        """Count what the cache has done for this client.

        Returns
        -------
        CacheStats
            Hits in each tier, misses, bytes and errors; a table in a notebook.

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
        """Forget all answers, those in Redis of this database and role too.

        Never needed for the truth of an answer.

        Examples
        --------
        >>> await ang.cache.clear()
        >>> (await ang.cache.stats()).entries
        0
        """
        await self._reader.clear()
