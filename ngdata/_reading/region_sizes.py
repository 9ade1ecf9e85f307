"""How many rows a region probably has: decides how it is read, never what the answer is."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from ngdata._query.model import FEW_ROWS, Region

__all__ = ["RegionSizes"]

# The number of regions of a level that are remembered.
_REMEMBERED: Final = 32


class RegionSizes:
    """The densities of the regions read last, by level.

    The planner's estimate costs a round trip, and as much of the client's processor as a hundred rows.

    Examples
    --------
    >>> from ngdata._query.boxes import Box
    >>> from ngdata._query.filters import TokenFilter
    >>> from ngdata._query.model import Region
    >>> from ngdata._reading.region_sizes import RegionSizes
    >>> sizes = RegionSizes()
    >>> sizes.record(Region(Box((0, 0, 0), (10, 10, 10), 0), TokenFilter()), rows=5000)
    >>> sizes.is_probably_small(Region(Box((10, 10, 10), (11, 11, 11), 0), TokenFilter()))
    True
    """

    def __init__(self) -> None:
        self._densities: dict[int, deque[float]] = {}

    def record(self, region: Region, rows: int) -> None:
        """Remember how many rows a region had."""
        volume = _volume(region)
        # A filter says nothing about regions without it.
        if 0 < volume < math.inf and not region.where.conditions():
            densities = self._densities.setdefault(region.box.level, deque(maxlen=_REMEMBERED))
            densities.append(rows / volume)

    def is_probably_small(self, region: Region) -> bool:
        """Return whether a region probably has few rows; False if nothing is known."""
        densities = self._densities.get(region.box.level)
        volume = _volume(region)
        return bool(densities and volume) and max(densities or ()) * volume <= FEW_ROWS / 2


def _volume(region: Region) -> float:
    return math.prod(high - low for low, high in zip(region.box.low, region.box.high, strict=True))
