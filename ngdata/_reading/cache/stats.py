"""What the cache has done for one client, as numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

__all__ = ["CacheStats"]


@dataclass
class CacheStats:
    """Counts since the client was opened.

    Attributes
    ----------
    memory_hits, redis_hits, region_hits : int
        Answers out of this process, out of Redis, and out of a larger region's answer here.
    misses : int
        Answers read from the database.
    shared_reads : int
        Answers that somebody else's read of the same question gave.
    stale_avoided : int
        Answers that were there and no longer true.
    bypassed : int
        Reads with ``cache="off"``.
    entries, bytes : int
        What this process holds now.
    redis_errors, refused_values : int
        Failures of Redis, and values in it that were not what was asked for.
    """

    memory_hits: int = 0
    redis_hits: int = 0
    region_hits: int = 0
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
        """Answers that were not read from the database."""
        return self.memory_hits + self.redis_hits + self.region_hits + self.shared_reads

    @property
    def hit_ratio(self) -> float:
        """Hits among all reads that asked the cache; NaN before the first."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else float("nan")

    def _repr_html_(self) -> str:
        rows = {**asdict(self), "hit_ratio": f"{self.hit_ratio:.1%}"}
        cells = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows.items())
        return f"<table>{cells}</table>"

    def copy(self) -> CacheStats:
        """Give a copy that stays as it is."""
        return CacheStats(**{f.name: getattr(self, f.name) for f in fields(self)})
