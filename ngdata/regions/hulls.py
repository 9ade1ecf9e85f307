"""The convex hull of points, as the half-spaces of its facets."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from ngdata._arguments.optional_imports import import_optional
from ngdata._arguments.points import Point
from ngdata.errors import InvalidQueryError
from ngdata.regions.algebra import Box, Key
from ngdata.regions.arrays import as_points, frozen
from ngdata.regions.meshes import Mesh
from ngdata.regions.planes import linear, scale_rows
from ngdata.regions.solids import Solid

__all__ = ["Hull"]

# Facets that qhull has cut into triangles, or merged, differ in the last bits only.
_SAME_FACET: Final = 1e-12

# The boxes are compared with the surface of a hull of more facets.
_MANY_FACETS: Final = 300

# Boxes that are compared with all facets at once.
_AT_ONCE: Final = 2048


class Hull(Solid):
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
    _triangles: np.ndarray

    def __init__(self, points: ArrayLike) -> None:
        array = frozen(np.unique(as_points(points, "points"), axis=0))
        facets, offsets, triangles = _facets(array)
        self._set(points=array, level=None, _facets=facets, _offsets=offsets, _triangles=triangles)

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

    @property
    def _own_points(self) -> np.ndarray:
        return self.points

    def _inside_box(self, points: np.ndarray) -> np.ndarray:
        inside = np.zeros(len(points), bool)
        places = np.arange(len(points))
        for facet, offset in zip(self._facets, self._offsets, strict=True):
            is_kept = linear(facet, *points[places].T) <= offset
            # Most facets exclude few points.
            if not is_kept.all():
                places = places[is_kept]
        inside[places] = True
        return inside

    def _cells(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if len(self._facets) > _MANY_FACETS and self._mesh is not None:
            # The cells that its surface touches, by a larger margin than all rounding, answer at once.
            return self._mesh._cells(low, high)
        is_inside, is_outside = Box(*self._extent)._cells(low, high)
        undecided = np.flatnonzero(~is_outside)
        for start in range(0, len(undecided), _AT_ONCE):
            cells = undecided[start : start + _AT_ONCE]
            inside, outside = self._sides(low[cells], high[cells])
            is_inside[cells] &= inside
            is_outside[cells] |= outside
        return is_inside & ~is_outside, is_outside

    def _sides(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which boxes are inside of all facets, and which outside of any, with a margin.

        The margin is more than all rounding, so that matrices may be multiplied in any order.
        """
        facets, offsets = self._unit_facets
        middle, half = (low + high) / 2, (high - low) / 2
        values, reach = middle @ facets.T - offsets, half @ np.abs(facets).T
        margin = 1e-12 * (np.abs(middle) @ np.abs(facets).T + reach + np.abs(offsets))
        inside = values + reach <= -margin
        return inside.all(axis=1), (values - reach > margin).any(axis=1)

    @cached_property
    def _mesh(self) -> Mesh | None:
        try:
            return Mesh(self.points, self._triangles)
        except InvalidQueryError:
            # Qhull has merged facets of nearly equal points.
            return None

    @cached_property
    def _unit_facets(self) -> tuple[np.ndarray, np.ndarray]:
        lengths = np.abs(self._facets).max(axis=1)
        return self._facets / lengths[:, None], self._offsets / lengths

    def _moved(self, by: Point) -> Hull:
        return Hull(self.points + np.array(by))


def _facets(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the coefficients of each facet, pointing outwards, its offset, and the triangles."""
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
    return facets, offsets, hull.simplices.astype(np.int64)
