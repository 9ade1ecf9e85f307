"""What a viewer reads: samples of the tokens of a region, their number, and connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ngdata._query.places import Place
from ngdata._reading.reader import CacheMode
from ngdata.regions import EVERYWHERE, Region

__all__ = ["Reads", "Source"]

_AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Reads:
    """The methods of a client that a viewer reads by."""

    sample: Callable[..., Awaitable[pd.DataFrame]]
    count_in_region: Callable[..., Awaitable[int]]
    join: Callable[..., Awaitable[pd.DataFrame]]
    connections: Callable[..., Awaitable[pd.DataFrame]]


@dataclass(frozen=True)
class Source:
    """The tokens of a region on a level that pass the filters, and their connections.

    Attributes
    ----------
    place : Place or None
        None for the whole level.
    color : str or None
        The column that the colours show.
    filters : dict
        Those of `Tokens.sample`.
    has_lines : bool
        Whether connections are read.
    connection_type : tuple of str or None
        Read only these.
    """

    reads: Reads
    level: int
    place: Place | None
    color: str | None
    filters: Mapping[str, Any]
    has_lines: bool
    connection_type: tuple[str, ...] | None
    cache: CacheMode | None

    async def points(self, n: int, sight: Region | None) -> pd.DataFrame:
        """Return a sample of the tokens in the region that are in sight too."""
        color = [] if self.color is None or self.color in _AXES else [self.color]
        return await self.reads.sample(
            n,
            self.level,
            within=self._within(sight),
            columns=[*_AXES, *color],
            **self._options(sight),
        )

    async def count(self) -> int:
        """Return the number of tokens in the region."""
        region = EVERYWHERE if self.place is None else self.place.region
        return await self.reads.count_in_region(region, None, self.level, **self._options(None))

    async def lines(self, n: int, sight: Region | None) -> np.ndarray:
        """Return the ends of connections, those with the least ids, as an array of shape (m, 2, 3).

        Of the region, those with both ends in it; of what is in sight, also those that leave it.
        """
        ends = await self.reads.connections(
            columns=["source_id", "target_id"],
            connection_type=self.connection_type,
            within=self._within(sight),
            ends="both" if sight is None else "any",
            limit=n,
            cache=self._cache(sight),
        )
        for name in ("source", "target"):
            ends = await self.reads.join(
                ends, f"{name}_id", list(_AXES), self.level, prefix=f"{name}_", cache="off"
            )
        names = [[f"{name}_{axis}" for axis in _AXES] for name in ("source", "target")]
        lines = np.stack([ends[columns].to_numpy(np.float64) for columns in names], axis=1)
        is_drawn = np.isfinite(lines).all(axis=(1, 2))
        if sight is not None and self.place is not None:
            is_drawn &= self._is_inside(lines)
        kept: np.ndarray = lines[is_drawn]
        return kept

    def _is_inside(self, lines: np.ndarray) -> np.ndarray:
        """Return which lines have both ends in the region, as far as the points of one level say."""
        assert self.place is not None
        region = self.place.region
        if region._levels != {None}:
            return np.ones(len(lines), bool)
        return np.asarray(region.contains(lines).all(axis=1))

    def _within(self, sight: Region | None) -> tuple[Region, int] | None:
        if self.place is None:
            return None if sight is None else (sight, self.level)
        region = self.place.region
        return (region if sight is None else region & sight, self.level)

    def _options(self, sight: Region | None) -> dict[str, Any]:
        return {**self.filters, "cache": self._cache(sight)}

    def _cache(self, sight: Region | None) -> CacheMode | None:
        # Hardly anybody looks at the same part of space again.
        return self.cache if sight is None else "off"
