"""A region as cells of a grid: wholly inside, wholly outside, or for the exact formula to decide.

So a formula of many shapes costs as much as one of few, for most points.
"""

from __future__ import annotations

import functools
from typing import Final, NamedTuple

import numpy as np

from ngdata._arguments.points import Point
from ngdata.regions.algebra import Region

__all__ = ["INSIDE", "OUTSIDE", "CellStates", "cell_states", "has_cells"]

OUTSIDE: Final = 0
INSIDE: Final = 1
_UNKNOWN: Final = 2

# A formula of fewer comparisons is quicker than a look at the cell.
_MIN_COST: Final = 8

# Cells along each axis; more for formulas that are dear at the boundary.
_CELLS: Final = 32
_MANY_CELLS: Final = 64
_HIGH_COST: Final = 64

_FIRST_CELLS: Final = 4


class CellStates(NamedTuple):
    """The cells of a grid.

    Attributes
    ----------
    low, high : tuple of three floats
        The corners of the grid.
    cells : int
        The number of cells along each axis.
    states : array of shape (cells + 2, cells + 2, cells + 2)
        By position along each axis, from 1; 0 is below the grid, and cells + 1 its upper end and
        what is beyond.
    """

    low: Point
    high: Point
    cells: int
    states: np.ndarray


def has_cells(region: Region) -> bool:
    """Return whether a region's formula is so long that a look at the cell pays."""
    return region._cost >= _MIN_COST


def cell_states(region: Region, level: int) -> CellStates | None:
    """Return the cells of a region's parts on a level; None if its formula is quicker without."""
    return _states(region, level) if has_cells(region) else None


# Short formulas, which may be many, must not displace what took long to compute.
@functools.lru_cache(maxsize=16)
def _states(region: Region, level: int) -> CellStates | None:
    corners = region._finite_corners(level)
    if corners is None:
        return None
    low, high = np.array(corners[0]), np.array(corners[1])
    extent = high - low
    # More than the rounding of a point's position in the grid, and of the cell's corners.
    margin = 1e-12 * extent + 4 * np.finfo(float).eps * np.maximum(np.abs(low), np.abs(high))
    if not np.all(extent > 1e6 * margin):
        return None
    count = _MANY_CELLS if region._cost >= _HIGH_COST else _CELLS
    states = np.full((1, 1, 1), _UNKNOWN, np.uint8)
    cells = _FIRST_CELLS
    while cells <= count:
        for axis in range(3):
            states = np.repeat(states, cells // states.shape[axis], axis=axis)
        unknown = np.argwhere(states == _UNKNOWN)
        size = extent / cells
        first = low + unknown * size
        is_inside, is_outside = region._classify((first - margin, first + size + margin), level)
        states[tuple(unknown[is_inside].T)] = INSIDE
        states[tuple(unknown[is_outside].T)] = OUTSIDE
        cells *= 2
    return CellStates(*corners, count, np.pad(states, 1, constant_values=_UNKNOWN))
