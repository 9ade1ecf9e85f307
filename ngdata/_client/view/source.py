"""What a viewer reads: samples of the tokens of a region, their number, and connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from ngdata._query import summaries
from ngdata._query.filters import TokenFilter
from ngdata._query.model import Region as QueryRegion
from ngdata._query.places import Place
from ngdata._reading.reader import CacheMode, Reader
from ngdata._reading.region_sizes import LevelSize
from ngdata.regions import EVERYWHERE, Region

__all__ = ["Reads", "Source"]

_AXES: Final = ("x", "y", "z")

# More tokens than this are drawn, as a share, so that an estimate may be too high.
_ROOM: Final = 1.3

# Of fewer times as many, all are sorted.
_MANY: Final = 3

# Regions of a larger share of their level are read without the spatial index.
_LARGE: Final = 0.05

# A smaller draw says too little about how many tokens there are.
_FEW: Final = 50


@dataclass(frozen=True)
class Reads:
    """What of a client a viewer reads by."""

    reader: Reader
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
        Those of the client's methods.
    filter : TokenFilter
        The same.
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
    filter: TokenFilter
    has_lines: bool
    connection_type: tuple[str, ...] | None
    cache: CacheMode | None

    async def points(
        self, n: int, sight: Region | None, expected: float | None = None
    ) -> tuple[pd.DataFrame, bool]:
        """Return a sample of the tokens in the region that are in sight too, and whether it is all.

        A smaller sample lies in a larger one, and that of a region in that of a part of it.

        Parameters
        ----------
        n : int
        sight : Region or None
        expected : float, optional
            About how many tokens there are.
        """
        place = self._place(sight)
        size = await self._size(place)
        by_index = size.region_rows < _LARGE * size.level_rows
        share = _share(n, size.region_rows if expected is None else expected)
        columns = [*_AXES, *([] if self.color is None or self.color in _AXES else [self.color])]
        while True:
            query = summaries.draw(
                n, self.level, place, self.filter, columns, share, by_index=by_index
            )
            frame = await self.reads.reader.frame(query, self._cache(sight), None)
            if len(frame) == n or share == 1:
                return frame, len(frame) < n
            # There are fewer than expected.
            share = _share(n, len(frame) / share) if len(frame) >= _FEW else 1.0

    async def _size(self, place: Place | None) -> LevelSize:
        """Return about how many tokens there are, by the server's statistics."""
        is_whole = place is None and self.filter == TokenFilter()
        region = QueryRegion(place or Place(EVERYWHERE, self.level), self.filter)
        return await self.reads.reader.level_size(region, is_whole=is_whole)

    async def count(self) -> int:
        """Return the number of tokens in the region."""
        region = EVERYWHERE if self.place is None else self.place.region
        options = {**self.filters, "cache": self.cache}
        return await self.reads.count_in_region(region, None, self.level, **options)

    async def lines(self, n: int, sight: Region | None) -> np.ndarray:
        """Return the ends of connections, those with the least ids, as an array of shape (m, 2, 3).

        Of the region, those with both ends in it; of what is in sight, also those that leave it.
        """
        place = self._place(sight)
        ends = await self.reads.connections(
            columns=["source_id", "target_id"],
            connection_type=self.connection_type,
            within=None if place is None else (place.region, self.level),
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

    def _place(self, sight: Region | None) -> Place | None:
        if self.place is None or sight is None:
            return self.place if sight is None else Place(sight, self.level)
        return Place(self.place.region & sight, self.level)

    def _cache(self, sight: Region | None) -> CacheMode | None:
        # Hardly anybody looks at the same part of space again.
        return self.cache if sight is None else "off"


def _share(n: int, expected: float) -> float:
    """Return the share of tokens that has n of them, with room for an estimate that is too high."""
    return min(1.0, _ROOM * n / expected) if expected > _ROOM * _MANY * n else 1.0
