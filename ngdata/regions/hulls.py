"""The convex hull of points, as the half-spaces of its facets."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from ngdata._arguments.optional_imports import import_optional
from ngdata._arguments.points import MAX_COORDINATE, Point, unmasked
from ngdata._arguments.shown import guarded, shown
from ngdata.errors import InvalidQueryError
from ngdata.regions.algebra import Key, Shape
from ngdata.regions.corners import Corners
from ngdata.regions.planes import linear, linear_range, scale_rows

__all__ = ["Hull", "as_points"]

# Facets that qhull has cut into triangles, or merged, differ in the last bits only.
_SAME_FACET: Final = 1e-12


class Hull(Shape):
    """The convex hull of points: the least convex solid that holds all of them.

    Parameters
    ----------
    points : array_like of shape (n, 3), or frame with x, y, z
        At least four that do not lie on one plane.  Only the hull matters, but all points are kept.

    Raises
    ------
    InvalidQueryError
        Points on one plane, fewer than four, or not finite.
    ConfigError
        SciPy is not installed (``pip install 'ngdata[mesh]'``).

    Notes
    -----
    Facets are those of Qhull (`scipy.spatial.ConvexHull`).  A point is inside if each facet's
    ``(a * x + b * y) + c * z`` is at most the largest value that any of `points` has there: so the
    hull holds all of its own points, whatever rounding does.

    Examples
    --------
    >>> from ngdata import Hull
    >>> corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    >>> Hull(corners).contains([(0.2, 0.2, 0.2), (0, 0, 1), (1, 1, 1)]).tolist()
    [True, True, False]
    """

    __module__ = "ngdata.regions"
    _rank = 4
    _names = ("points",)
    points: np.ndarray
    _facets: np.ndarray
    _offsets: np.ndarray

    def __init__(self, points: ArrayLike) -> None:
        array = np.unique(as_points(points, "points"), axis=0)
        array.flags.writeable = False
        facets, offsets = _facets(array)
        self._set(points=array, level=None, _facets=facets, _offsets=offsets)

    @property
    def _values(self) -> Key:
        return (self.points.tobytes(),)

    @property
    def _cost(self) -> int:
        return 1 + len(self._facets)

    def _arguments(self) -> str:
        return repr(self.points.tolist())

    def _fields(self) -> dict[str, Any]:
        return {"points": self.points.tolist()}

    def _inside(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        (a, b, c), (d, e, f) = self._extent
        inside = np.array((x >= a) & (x <= d) & (y >= b) & (y <= e) & (z >= c) & (z <= f))
        places = np.flatnonzero(inside)
        x, y, z = (np.asarray(values).reshape(-1)[places] for values in (x, y, z))
        for facet, offset in zip(self._facets, self._offsets, strict=True):
            is_kept = linear(facet, x, y, z) <= offset
            # Most facets exclude few points.
            if not is_kept.all():
                places, x, y, z = places[is_kept], x[is_kept], y[is_kept], z[is_kept]
        inside[...] = False
        inside.reshape(-1)[places] = True
        return inside

    def _cells(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first, last = self._extent
        is_outside = np.asarray(((low > last) | (high < first)).any(axis=1))
        is_inside = np.asarray(((low >= first) & (high <= last)).all(axis=1))
        for facet, offset in zip(self._facets, self._offsets, strict=True):
            least, most = linear_range(facet, low, high)
            is_inside &= most <= offset
            is_outside |= least > offset
        return is_inside, is_outside

    @cached_property
    def _extent(self) -> Corners:
        low, high = self.points.min(axis=0).tolist(), self.points.max(axis=0).tolist()
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def _moved(self, by: Point) -> Hull:
        return Hull(self.points + np.array(by))


@guarded
def as_points(points: Any, name: str) -> np.ndarray:
    """Return points as an array of shape (n, 3) of finite numbers, without negative zeros."""
    if hasattr(points, "columns") and all(axis in points.columns for axis in "xyz"):
        points = points[list("xyz")]
    try:
        array = np.asarray(unmasked(points), dtype=np.float64) + 0.0
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.ndim != 2 or array.shape[1] != 3:
        raise InvalidQueryError(
            f"{name} must be an array of shape (n, 3), or a frame with x, y and z, not {shown(points)}"
        )
    # NaN compares as False.
    is_bad = ~(np.abs(array) <= MAX_COORDINATE).all(axis=1)
    if is_bad.any():
        row = int(is_bad.argmax())
        raise InvalidQueryError(
            f"{name} must be finite and at most {MAX_COORDINATE:g} in size on each axis, but row {row} "
            f"is {tuple(array[row].tolist())}"
        )
    return array


def _facets(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the coefficients of each facet, pointing outwards, and its offset."""
    spatial = import_optional("scipy.spatial", "Hull", "mesh")
    advice = (
        "a hull needs at least four points that do not lie on one plane; for points on a plane, use an "
        "OrientedBox with a thickness of your choice, or move some of the points"
    )
    if len(points) < 4:
        raise InvalidQueryError(
            f"points must be at least four different ones, not {len(points)}: {advice}"
        )
    # Around the origin and of size 1, where Qhull's own tolerances are meant to work.
    centre = points.min(axis=0) / 2 + points.max(axis=0) / 2
    size = np.abs(points - centre).max()
    try:
        hull = spatial.ConvexHull((points - centre) / size)
    except (spatial.QhullError, ValueError) as error:
        raise InvalidQueryError(
            f"points are degenerate: {str(error).strip().splitlines()[0]}; {advice}"
        ) from None
    normals = np.unique(np.round(hull.equations[:, :3] / _SAME_FACET) * _SAME_FACET, axis=0)
    facets = scale_rows(normals)
    offsets = np.array([linear(facet, *points.T).max() for facet in facets])
    return facets, offsets
