"""Coordinates of token records: 24 integers of 16 bits, and the points that they represent.

Each level has a scale, by which a coordinate is multiplied and then rounded (half to even): a
coordinate that is read back differs by at most half a step, 0.5 / scale.  Two dialects are in use:

- ``python``: 127 on all three axes of a level means that the token is undefined there, and the
  temporal z is in thousandths;
- ``rust``: has no such mark; a level that was never set is zeros, and the temporal z is in
  hundredths.  So zeros are read as the point (0, 0, 0), and an undefined level is written as zeros.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import numpy as np

from ngdata._arguments.levels import LEVELS
from ngdata._arguments.texts import checked_word
from ngdata._store.tokens import check_coords
from ngdata.errors import InvalidQueryError

__all__ = ["Dialect", "check_dialect", "decode_coordinates", "encode_coordinates"]

Dialect: TypeAlias = Literal["python", "rust"]
"""Which programs wrote the records: those in Python mark undefined levels, those in Rust do not."""

_SCALES: Final = {
    name: np.repeat([100.0, 10_000, 1_000, 10_000, 10_000, 10_000, 100, 10_000], 3).reshape(8, 3)
    for name in ("python", "rust")
}
_SCALES["python"][LEVELS.index("temporal"), 2] = 1_000

_MARK: Final = 127
_MIN_INT16: Final = -(2**15)
_MAX_INT16: Final = 2**15 - 1

# Records per block: this many fit into a processor's cache.
_BLOCK: Final = 4096


def check_dialect(dialect: str) -> Dialect:
    """Return the dialect, or raise `InvalidQueryError` for an unknown one."""
    return checked_word(dialect, get_args(Dialect), "dialect")


def decode_coordinates(raw: np.ndarray, dialect: str) -> np.ndarray:
    """Return int16 coordinates of shape (n, 8, 3) as float64, NaN where undefined."""
    scales = _SCALES[check_dialect(dialect)]
    points = np.empty(raw.shape)
    for start in range(0, len(raw), _BLOCK):
        block = np.ascontiguousarray(raw[start : start + _BLOCK])
        decoded = points[start : start + _BLOCK]
        np.divide(block, scales, out=decoded)
        if dialect == "python":
            decoded[_is_mark(block)] = np.nan
    return points


def _is_mark(raw: np.ndarray) -> np.ndarray:
    equal: np.ndarray = raw == _MARK
    marked: np.ndarray = equal[..., 0] & equal[..., 1] & equal[..., 2]
    return marked


def encode_coordinates(points: np.ndarray, dialect: str) -> np.ndarray:
    """Return float64 points of shape (n, 8, 3), NaN where undefined, as int16 coordinates.

    Raises
    ------
    InvalidQueryError
        NaN on some axes of a level, a coordinate beyond the range of its level, or a point that
        would read back as undefined.
    """
    scales = _SCALES[check_dialect(dialect)]
    undefined_mark = _MARK if dialect == "python" else 0
    raw = np.empty(points.shape, "<i2")
    for start in range(0, len(points), _BLOCK):
        scaled = points[start : start + _BLOCK] * scales
        np.rint(scaled, out=scaled)
        nan = np.isnan(scaled)
        undefined = nan[..., 0] & nan[..., 1] & nan[..., 2]
        if np.count_nonzero(nan) != 3 * np.count_nonzero(undefined):
            check_coords(points, len(points))  # raises, and names the level
        scaled[undefined] = undefined_mark
        if scaled.min() < _MIN_INT16 or scaled.max() > _MAX_INT16:
            raise _range_error(points, scaled, scales, start)
        block = scaled.astype("<i2")
        if dialect == "python":
            marked = _is_mark(block) & ~undefined
            if marked.any():
                raise _mark_error(points, marked, scales, start)
        raw[start : start + _BLOCK] = block
    return raw


def _range_error(
    points: np.ndarray, scaled: np.ndarray, scales: np.ndarray, start: int
) -> InvalidQueryError:
    bad = (scaled < _MIN_INT16) | (scaled > _MAX_INT16)
    row, level, axis = (int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
    scale = scales[level, axis]
    return InvalidQueryError(
        f"coords[{start + row}, {level}, {axis}] ({LEVELS[level]} {'xyz'[axis]}) is "
        f"{float(points[start + row, level, axis])}; a record holds {_MIN_INT16 / scale:g} to "
        f"{_MAX_INT16 / scale:g} there"
    )


def _mark_error(
    points: np.ndarray, marked: np.ndarray, scales: np.ndarray, start: int
) -> InvalidQueryError:
    row, level = (int(i) for i in np.unravel_index(int(marked.argmax()), marked.shape))
    return InvalidQueryError(
        f"coords[{start + row}, {level}] ({LEVELS[level]}) is "
        f"{points[start + row, level].tolist()}, which this dialect reads back as undefined; "
        f"move one of its coordinates by {1 / scales[level, 0]:g}, or write with dialect='rust'"
    )
