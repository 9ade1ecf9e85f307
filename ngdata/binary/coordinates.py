"""Coordinates of token records: 24 integers of 16 bits, and the points that they stand for.

Each level has a scale, by which a coordinate is multiplied and then rounded (half to even): what is
read back is at most half a step, 0.5 / scale, from what was written.  Two dialects are in use:

- ``python``: 127 on all three axes of a level says that the token is undefined there, and the
  temporal z is in thousandths;
- ``rust``: there is no such mark, a level that was never set is zeros, and the temporal z is in
  hundredths.  So zeros are read as the point (0, 0, 0), and an undefined level is written as zeros.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import numpy as np

from ngdata._arguments.levels import LEVELS
from ngdata._store.tokens import as_coords
from ngdata.errors import InvalidQueryError

__all__ = ["Dialect", "checked_dialect", "to_points", "to_raw"]

Dialect: TypeAlias = Literal["python", "rust"]

_SCALES: Final = {
    name: np.repeat([100.0, 10_000, 1_000, 10_000, 10_000, 10_000, 100, 10_000], 3).reshape(8, 3)
    for name in ("python", "rust")
}
_SCALES["python"][LEVELS.index("temporal"), 2] = 1_000

_MARK: Final = 127
_LEAST: Final = -(2**15)
_MOST: Final = 2**15 - 1

# Records worked on at once: so many fit into a processor's cache.
_BLOCK: Final = 4096


def checked_dialect(dialect: str) -> str:
    """Refuse a dialect that nobody writes."""
    if dialect not in _SCALES:
        raise InvalidQueryError(f"dialect must be 'python' or 'rust', not {dialect!r}")
    return dialect


def to_points(raw: np.ndarray, dialect: str) -> np.ndarray:
    """Give float64 of shape (n, 8, 3), NaN where undefined, of as many int16."""
    scales = _SCALES[checked_dialect(dialect)]
    points = np.empty(raw.shape)
    for start in range(0, len(raw), _BLOCK):
        block = np.ascontiguousarray(raw[start : start + _BLOCK])
        there = points[start : start + _BLOCK]
        np.divide(block, scales, out=there)
        if dialect == "python":
            there[_is_mark(block)] = np.nan
    return points


def _is_mark(raw: np.ndarray) -> np.ndarray:
    hit: np.ndarray = raw == _MARK
    marked: np.ndarray = hit[..., 0] & hit[..., 1] & hit[..., 2]
    return marked


def to_raw(points: np.ndarray, dialect: str) -> np.ndarray:
    """Give int16 of shape (n, 8, 3) of as many float64, NaN on all axes where undefined.

    Raises
    ------
    InvalidQueryError
        NaN on some axes of a level, a coordinate beyond what its level holds, or a point that
        would read back as undefined.
    """
    scales = _SCALES[checked_dialect(dialect)]
    nothing = _MARK if dialect == "python" else 0
    raw = np.empty(points.shape, "<i2")
    for start in range(0, len(points), _BLOCK):
        scaled = points[start : start + _BLOCK] * scales
        np.rint(scaled, out=scaled)
        nan = np.isnan(scaled)
        undefined = nan[..., 0] & nan[..., 1] & nan[..., 2]
        if np.count_nonzero(nan) != 3 * np.count_nonzero(undefined):
            as_coords(points, len(points))  # says where
        scaled[undefined] = nothing
        if scaled.min() < _LEAST or scaled.max() > _MOST:
            _refuse_range(points, scaled, scales, start)
        block = scaled.astype("<i2")
        if dialect == "python":
            taken = _is_mark(block) & ~undefined
            if taken.any():
                _refuse_mark(points, taken, scales, start)
        raw[start : start + _BLOCK] = block
    return raw


def _refuse_range(points: np.ndarray, scaled: np.ndarray, scales: np.ndarray, start: int) -> None:
    bad = (scaled < _LEAST) | (scaled > _MOST)
    place, level, axis = (int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
    scale = scales[level, axis]
    raise InvalidQueryError(
        f"coords[{start + place}, {level}, {axis}] ({LEVELS[level]} {'xyz'[axis]}) is "
        f"{float(points[start + place, level, axis])}; a record holds {_LEAST / scale:g} to "
        f"{_MOST / scale:g} there"
    )


def _refuse_mark(points: np.ndarray, taken: np.ndarray, scales: np.ndarray, start: int) -> None:
    place, level = (int(i) for i in np.unravel_index(int(taken.argmax()), taken.shape))
    raise InvalidQueryError(
        f"coords[{start + place}, {level}] ({LEVELS[level]}) is "
        f"{points[start + place, level].tolist()}, which this dialect reads back as undefined; "
        f"move one of its coordinates by {1 / scales[level, 0]:g}, or write with dialect='rust'"
    )
