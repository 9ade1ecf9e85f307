"""Points and boxes by the thousand, as arrays."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from ngdata._arguments.points import unmasked
from ngdata._arguments.shown import guarded, shown
from ngdata.errors import InvalidQueryError

__all__ = ["Cells", "Places", "as_array", "places"]

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
        return np.asarray(unmasked(points), dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidQueryError(
            f"{name} must be an array of numbers, not {shown(points)}"
        ) from None


def places(array: np.ndarray) -> Places:
    """Return the places of points, an array of shape (..., 3)."""
    x, y, z = array[..., 0], array[..., 1], array[..., 2]
    return Places(x, y, z, np.isfinite(x) & np.isfinite(y) & np.isfinite(z))
