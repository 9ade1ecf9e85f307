"""Answers that are still true: never a stale one, whoever wrote in between.

An answer is kept with the version of the relations that it was read from (`versions`), which every
write renews.  It is given again only if the database's version is still that one.  It is kept in
this process (`memory`) and in Redis (`shared`), as Arrow (`entry`); a region may also be answered
out of a larger one that contains it (`containment`).  `reading` holds the order of things.
"""

from ngdata._reading.cache.cached_reader import CachedReader
from ngdata._reading.cache.stats import CacheStats

__all__ = ["CacheStats", "CachedReader"]
