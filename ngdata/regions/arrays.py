"""Points and boxes by the thousand, as arrays."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from ngdata._arguments.points import unmasked, within_limits
from ngdata._arguments.shown import guarded, shown
from ngdata.errors import InvalidQueryError

__all__ = ["Cells", "Places", "as_array", "as_points", "frozen", "places_of"]

Cells: TypeAlias = tuple[np.ndarray, np.ndarray]
"""The low and the high corners of n boxes: two arrays of shape (n, 3)."""


class Places(NamedTuple):
    """Where points are on one level, an array per axis, and whether each is anywhere there."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    is_defined: np.ndarray


@guarded
def as_array(points: Any, name: str) -> np.ndarray:
    """Return points as an array of float64, of any shape; a frame by its columns x, y and z."""
    if isinstance(points, pd.DataFrame):
        columns = [axis for axis in "xyz" if axis in points.columns]
        if columns != list("xyz"):
            raise InvalidQueryError(
                f"{name} must have the columns x, y and z, but the frame has {shown([*points])}; pass "
                "coordinates on all levels as an array, such as np.stack(frame.coords)"
            )
        points = points[columns]
    try:
        array = np.asarray(unmasked(points))
        # NumPy would drop the imaginary parts with a warning only.
        if array.dtype.kind == "c":
            raise TypeError
        return array.astype(np.float64, copy=False)
    except (TypeError, ValueError, OverflowError):
        raise InvalidQueryError(
            f"{name} must be an array of real numbers, not {shown(points)}"
        ) from None


def places_of(array: np.ndarray, level: int) -> Places:
    """Return the places on one level, of an array of shape (..., levels, 3)."""
    x, y, z = array[..., level, 0], array[..., level, 1], array[..., level, 2]
    return Places(x, y, z, np.isfinite(x) & np.isfinite(y) & np.isfinite(z))


@guarded
def as_points(points: Any, name: str) -> np.ndarray:
    """Return points as an array of shape (n, 3) of finite numbers, without negative zeros."""
    if hasattr(points, "columns") and all(axis in points.columns for axis in "xyz"):
        points = points[list("xyz")]
    try:
        values = np.asarray(unmasked(points))
        array = np.empty(0) if values.dtype.kind == "c" else values.astype(np.float64) + 0.0
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if array.ndim != 2 or array.shape[1] != 3:
        raise InvalidQueryError(
            f"{name} must be an array of shape (n, 3), or a frame with x, y and z, not {shown(points)}"
        )
    return within_limits(array, name)


def frozen(array: np.ndarray) -> np.ndarray:
    """Return a copy that cannot be made writeable again."""
    copy: np.ndarray = np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)
    return copy
