"""Statistics of one client's cache."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from ngdata._arguments.cards import Card, Shown

__all__ = ["CacheStats"]


@dataclass
class CacheStats(Shown):
    """Counts since the client was opened.

    Attributes
    ----------
    memory_hits, redis_hits, region_hits : int
        Answers from this process, from Redis, and from a larger region's answer in this process.
    outlived : int
        Answers of an earlier version that no write since has touched, from any tier.
    mended : int
        Regions of which only what was written since was read anew, from any tier.
    rows_read_anew : int
        The rows read for these.
    misses : int
        Answers read from the database.
    shared_reads : int
        Answers from another caller's read of the same question, while it was running.
    stale_avoided : int
        Cached answers that were out of date, so they were not returned.
    bypassed : int
        Reads that did not use the cache: with ``cache="off"``, or where no version can be known.
    entries, bytes : int
        The answers that this process holds now, and their size.
    redis_errors, refused_values : int
        Failures of Redis, and values in it that were not valid answers to the question.
    """

    memory_hits: int = 0
    redis_hits: int = 0
    region_hits: int = 0
    outlived: int = 0
    mended: int = 0
    rows_read_anew: int = 0
    misses: int = 0
    shared_reads: int = 0
    stale_avoided: int = 0
    bypassed: int = 0
    entries: int = 0
    bytes: int = 0
    redis_errors: int = 0
    refused_values: int = 0

    @property
    def hits(self) -> int:
        """The number of answers that were not read, or not as a whole, from the database."""
        of_tiers = self.memory_hits + self.redis_hits + self.region_hits
        return of_tiers + self.outlived + self.mended + self.shared_reads

    @property
    def hit_ratio(self) -> float:
        """The share of hits among all reads that used the cache; NaN before the first."""
        reads = self.hits + self.misses
        return self.hits / reads if reads else float("nan")

    def _card(self) -> Card:
        rows = [(name, f"{value:,}") for name, value in asdict(self).items()]
        ratio = "no reads yet" if not self.hits + self.misses else f"{self.hit_ratio:.1%}"
        return Card("cache", [("hit_ratio", ratio), *rows])

    def copy(self) -> CacheStats:
        """Return a copy, which later reads do not change."""
        return CacheStats(**{f.name: getattr(self, f.name) for f in fields(self)})
