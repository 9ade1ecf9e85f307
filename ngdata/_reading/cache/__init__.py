"""Cached answers that are never stale, whichever program writes to the database.

An answer is kept with the version of the relations that it was read from (`versions`); every write
renews that version.  The answer is returned again only while its version is the database's current
one.  Answers are kept in this process (`memory_tier`) and in Redis (`redis_tier`), as Arrow
(`codec`); a region may also be answered from a larger one that contains it (`containment`).
`cached_reader` decides on the order of these.
"""

from ngdata._reading.cache.cached_reader import CachedReader
from ngdata._reading.cache.stats import CacheStats

__all__ = ["CacheStats", "CachedReader"]
