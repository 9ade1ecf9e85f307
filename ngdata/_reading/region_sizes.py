"""How many rows a region probably has: decides how it is read, never what the answer is."""

from __future__ import annotations

import math
from collections import deque
from typing import Final, NamedTuple, Self

from ngdata._query.model import FEW_ROWS, Region

__all__ = ["LevelSize", "RegionSizes"]

# The number of regions of a level that are remembered.
_REMEMBERED: Final = 32


# A page of a level's table has at most 8192 bytes, and a token 110 or more.
_MAX_TOKENS_PER_PAGE: Final = 75


class LevelSize(NamedTuple):
    """About how many tokens a level has, and how many a region on it.

    Attributes
    ----------
    level_rows, region_rows : float
    probed : tuple of numbers
        The row of a further query, which was asked beside.
    """

    level_rows: float
    region_rows: float
    probed: tuple[float, ...] = ()

    @classmethod
    def of(cls, pages: int, counted: float, expected: float) -> Self:
        """Return the sizes that the server's statistics suggest.

        Parameters
        ----------
        pages : int
            Those of the level's table.
        counted : float
            The rows that VACUUM or ANALYZE counted last; -1 before the first time.
        expected : float
            The rows of the region that the planner expects: without statistics, any number.

        Examples
        --------
        >>> from ngdata._reading.region_sizes import LevelSize
        >>> LevelSize.of(pages=20, counted=-1, expected=1)
        LevelSize(level_rows=1500, region_rows=1500, probed=())
        """
        most = pages * _MAX_TOKENS_PER_PAGE
        # Rows that were written after the count are in further pages.
        if counted <= 0 or counted < most / 4:
            return cls(most, most)
        level_rows = min(counted, most)
        return cls(level_rows, min(level_rows, expected))


class RegionSizes:
    """The densities of the regions read last, by level.

    The planner's estimate costs a round trip, and as much of the client's processor as a hundred rows.

    Attributes
    ----------
    history_pages : int
        The size of the tokens' history, as the last read as of a pin found it.

    Examples
    --------
    >>> from ngdata._query.filters import TokenFilter
    >>> from ngdata._query.model import Region
    >>> from ngdata._query.places import Place
    >>> from ngdata._reading.region_sizes import RegionSizes
    >>> sizes = RegionSizes()
    >>> sizes.record(Region(Place.of((0, 0, 0), (10, 10, 10), 0), TokenFilter()), rows=5000)
    >>> sizes.is_probably_small(Region(Place.of((10, 10, 10), (11, 11, 11), 0), TokenFilter()))
    True
    """

    def __init__(self) -> None:
        self._densities: dict[int, deque[float]] = {}
        self.history_pages = 0

    def record(self, region: Region, rows: int) -> None:
        """Remember how many rows a region had."""
        volume = _volume(region)
        # A filter, or another shape than a box, says nothing about regions without it.
        is_plain = region.place.is_box and not region.where.conditions()
        if 0 < volume < math.inf and is_plain:
            densities = self._densities.setdefault(region.place.level, deque(maxlen=_REMEMBERED))
            densities.append(rows / volume)

    def is_probably_small(self, region: Region) -> bool:
        """Return whether a region probably has few rows; False if nothing is known."""
        densities = self._densities.get(region.place.level)
        volume = _volume(region)
        return bool(densities and volume) and max(densities or ()) * volume <= FEW_ROWS / 2


def _volume(region: Region) -> float:
    corners = region.place.corners
    if corners is None:
        return 0.0
    return math.prod(high - low for low, high in zip(*corners, strict=True))
