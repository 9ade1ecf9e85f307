"""`Client.cache`: what the cache has done, and a way to empty it.

Written by scripts/generate_sync.py out of ngdata/_client/cache.py; change that file, and run it again.
"""

from __future__ import annotations

from ngdata._client.cache import AsyncCache
from ngdata._client.sync.base import Twin
from ngdata._reading.cache import CacheStats

__all__ = ["Cache"]


class Cache(Twin[AsyncCache]):
    """The cache of one client: an answer is given again as long as it is true."""

    def stats(self) -> CacheStats:
        """Count what the cache has done for this client.

        Returns
        -------
        CacheStats
            Hits in each tier, misses, bytes and errors; a table in a notebook.

        Examples
        --------
        >>> before = ng.cache.stats()
        >>> count = ng.tokens.count_in_region((0, 0, 0), (1, 1, 1))
        >>> again = ng.tokens.count_in_region((0, 0, 0), (1, 1, 1))
        >>> ng.cache.stats().hits > before.hits
        True
        """
        return self._loop.run(self._twin.stats())

    def clear(self) -> None:
        """Forget all answers, those in Redis of this database and role too.

        Never needed for the truth of an answer.

        Examples
        --------
        >>> ng.cache.clear()
        >>> ng.cache.stats().entries
        0
        """
        return self._loop.run(self._twin.clear())
