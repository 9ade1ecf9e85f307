"""Shapes of few numbers: a sphere, a half-space, a turned box."""

from __future__ import annotations

import math
import sys
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from ngdata._arguments.numbers import as_float, non_negative
from ngdata._arguments.points import Coordinates, Point, as_point, three
from ngdata._arguments.shown import guarded, shown
from ngdata.errors import InvalidQueryError
from ngdata.regions.algebra import Key, Shape
from ngdata.regions.arrays import as_array
from ngdata.regions.corners import Corners, moved, plain
from ngdata.regions.planes import linear, linear_range, scaled

__all__ = ["HalfSpace", "OrientedBox", "Sphere"]

# How far axes may be from unit length and right angles: as a product of float32 matrices is.
_AXES_TOLERANCE: Final = 1e-5


class Sphere(Shape):
    """A closed ball: ``distance(p, center) <= radius``, and with a radius of 0 a point.

    The distance is that of `Tokens.find_within`: ``sqrt(dx * dx + dy * dy + dz * dz)``.

    Parameters
    ----------
    center : array_like of shape (3,)
        Finite; with labels as in `Box`.
    radius : float
        At least 0.

    Raises
    ------
    InvalidQueryError
        A center that is not three finite numbers, a negative radius.

    Examples
    --------
    >>> from ngdata import Sphere
    >>> (3, 4, 0) in Sphere((0, 0, 0), 5)
    True
    """

    __module__ = "ngdata.regions"
    _rank = 1
    _names = ("center", "radius")
    _cost = 1
    center: Point
    radius: float

    def __init__(self, center: Coordinates, radius: float) -> None:
        center = plain(as_point(center, "center"))
        self._set(center=center, radius=non_negative(radius, "radius") + 0.0, level=None)

    @property
    def _values(self) -> Key:
        return self.center, self.radius

    def _arguments(self) -> str:
        radius = self.radius if math.isfinite(self.radius) else "float('inf')"
        return f"{self.center}, {radius}"

    def _fields(self) -> dict[str, Any]:
        radius = self.radius if math.isfinite(self.radius) else None
        return {"center": list(self.center), "radius": radius}

    def _distance(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        dx, dy, dz = x - self.center[0], y - self.center[1], z - self.center[2]
        distance: np.ndarray = np.sqrt(dx * dx + dy * dy + dz * dz)
        return distance

    def _inside(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.asarray(self._distance(x, y, z) <= self.radius)

    def _cells(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Rounding is monotone: no point of a cell is nearer than its nearest, or further than its
        # furthest corner.
        center = np.array(self.center)
        nearest = np.clip(center, low, high)
        furthest = np.where(np.abs(low - center) > np.abs(high - center), low, high)
        is_inside = self._distance(*furthest.T) <= self.radius
        return is_inside, ~(self._distance(*nearest.T) <= self.radius)

    @cached_property
    def _extent(self) -> Corners:
        # A computed distance may be too small by a few ulps, and below 1e-160, where squares
        # underflow, by any amount: the box must hold every point whose computed distance can equal
        # the radius.  nextafter(c - radius) is not enough: if the difference is 0, the box must hold
        # -1e-20 too.
        reach = self.radius * (1 + 8 * sys.float_info.epsilon) + 1e-160
        x, y, z = self.center
        low = (_below(x - reach), _below(y - reach), _below(z - reach))
        return low, (_above(x + reach), _above(y + reach), _above(z + reach))

    def _moved(self, by: Point) -> Sphere:
        return Sphere(moved(self.center, by), self.radius)


class HalfSpace(Shape):
    """The points on one side of a plane, and on it: ``normal . p <= offset``.

    Parameters
    ----------
    normal : array_like of shape (3,)
        Finite, not all 0; its length need not be 1.
    offset : float

    Raises
    ------
    InvalidQueryError
        A normal of zeros, NaN.

    Notes
    -----
    The product is evaluated in float64 as ``(nx * x + ny * y) + nz * z``, of numbers that are scaled
    by a power of two; a number below 1e-200 of the largest counts as 0.

    Examples
    --------
    >>> from ngdata import HalfSpace
    >>> HalfSpace((1, 1, 0), 2).contains([(1, 1, 5), (1, 2, 5)]).tolist()
    [True, False]
    """

    __module__ = "ngdata.regions"
    _rank = 2
    _names = ("normal", "offset")
    _cost = 1
    normal: Point
    offset: float
    _coefficients: tuple[float, float, float]
    _bound_value: float

    def __init__(self, normal: Coordinates, offset: float) -> None:
        numbers = plain(three(normal, "normal"))
        checked = as_float(offset)
        if checked is None or not math.isfinite(checked):
            raise InvalidQueryError(f"offset must be a finite number, not {shown(offset)}")
        coefficients, bound = scaled(numbers, checked, "normal")
        self._set(
            normal=numbers,
            offset=checked + 0.0,
            level=None,
            _coefficients=coefficients,
            _bound_value=bound,
        )

    @property
    def _values(self) -> Key:
        return self.normal, self.offset

    def _arguments(self) -> str:
        return f"{self.normal}, {self.offset}"

    def _fields(self) -> dict[str, Any]:
        return {"normal": list(self.normal), "offset": self.offset}

    def _inside(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.asarray(linear(self._coefficients, x, y, z) <= self._bound_value)

    def _cells(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        least, most = linear_range(self._coefficients, low, high)
        return most <= self._bound_value, least > self._bound_value

    @cached_property
    def _extent(self) -> Corners:
        return self._side(self._bound_value, 1)

    @cached_property
    def _outer_extent(self) -> Corners:
        return self._side(self._bound_value, -1)

    def _side(self, bound: float, sign: int) -> Corners:
        """Return a box around one side: bounded only if the plane is along two axes."""
        low, high = [-math.inf] * 3, [math.inf] * 3
        axes = [axis for axis, value in enumerate(self._coefficients) if value]
        if len(axes) == 1 and math.isfinite(bound):
            value = bound / self._coefficients[axes[0]]
            if (self._coefficients[axes[0]] > 0) == (sign > 0):
                high[axes[0]] = _above(value)
            else:
                low[axes[0]] = _below(value)
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def _moved(self, by: Point) -> HalfSpace:
        return HalfSpace(self.normal, self.offset + float(linear(self.normal, *by)))


class OrientedBox(Shape):
    """A closed box along axes of its own: ``|axis . (p - center)| <= half_size`` for each axis.

    Parameters
    ----------
    center : array_like of shape (3,)
    axes : array_like of shape (3, 3)
        A unit vector per row, each at right angles to the others, as in a rotation matrix (to 1e-5).
    half_sizes : array_like of shape (3,)
        Half of the box's size along each axis, at least 0.

    Raises
    ------
    InvalidQueryError
        Axes that are not of unit length or not at right angles, a negative size.

    Examples
    --------
    >>> from ngdata import OrientedBox
    >>> turned = OrientedBox((0, 0, 0), [(0.6, 0.8, 0), (-0.8, 0.6, 0), (0, 0, 1)], (5, 1, 1))
    >>> turned.contains([(3, 4, 0), (4, 3, 0)]).tolist()
    [True, False]
    """

    __module__ = "ngdata.regions"
    _rank = 3
    _names = ("center", "axes", "half_sizes")
    _cost = 3
    center: Point
    axes: tuple[Point, Point, Point]
    half_sizes: Point
    _planes: tuple[tuple[tuple[float, float, float], float], ...]

    def __init__(self, center: Coordinates, axes: ArrayLike, half_sizes: Coordinates) -> None:
        middle, rows = plain(as_point(center, "center")), _rows(axes, "axes")
        a, b, c = plain(three(half_sizes, "half_sizes"))
        if min(a, b, c) < 0 or not math.isfinite(a + b + c):
            raise InvalidQueryError(
                f"half_sizes must be finite and at least 0, not {shown(half_sizes)}"
            )
        planes = [scaled(row, size, "axes") for row, size in zip(rows, (a, b, c), strict=True)]
        self._set(
            center=middle,
            axes=rows,
            half_sizes=(a, b, c),
            level=None,
            _planes=tuple(planes),
        )

    @property
    def _values(self) -> Key:
        return self.center, self.axes, self.half_sizes

    def _arguments(self) -> str:
        return f"{self.center}, {self.axes}, {self.half_sizes}"

    def _fields(self) -> dict[str, Any]:
        return {
            "center": list(self.center),
            "axes": [list(axis) for axis in self.axes],
            "half_sizes": list(self.half_sizes),
        }

    def _inside(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        x, y, z = x - self.center[0], y - self.center[1], z - self.center[2]
        inside = np.ones(x.shape, bool)
        for coefficients, size in self._planes:
            inside &= np.abs(linear(coefficients, x, y, z)) <= size
        return inside

    def _cells(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high = low - self.center, high - self.center
        is_inside, is_outside = np.ones(len(low), bool), np.zeros(len(low), bool)
        for coefficients, size in self._planes:
            least, most = linear_range(coefficients, low, high)
            is_inside &= (least >= -size) & (most <= size)
            is_outside |= (least > size) | (most < -size)
        return is_inside, is_outside

    @cached_property
    def _extent(self) -> Corners:
        # The axes need not be quite at right angles, so this is the inverse and not the transpose.
        reach = np.abs(np.linalg.inv(self.axes)) @ self.half_sizes
        # More than all rounding, here and of the products.
        reach = reach + 1e-12 * (reach.max() + np.abs(self.center).max()) + 1e-300
        low, high = (self.center - reach).tolist(), (self.center + reach).tolist()
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def _moved(self, by: Point) -> OrientedBox:
        return OrientedBox(moved(self.center, by), self.axes, self.half_sizes)


@guarded
def _rows(axes: Any, name: str) -> tuple[Point, Point, Point]:
    array = as_array(axes, name) + 0.0
    if array.shape != (3, 3) or not np.isfinite(array).all():
        raise InvalidQueryError(
            f"{name} must be three rows of three finite numbers, not {shown(axes)}"
        )
    # To a tolerance, so the order in which products are summed up does not matter here.
    if np.abs(array @ array.T - np.eye(3)).max() > _AXES_TOLERANCE:
        raise InvalidQueryError(
            f"{name} must be unit vectors at right angles to each other, one per row, as in a rotation "
            f"matrix, not {shown(axes)}; np.linalg.qr(axes)[0].T makes such axes of others"
        )
    a, b, c = ((row[0], row[1], row[2]) for row in array.tolist())
    return a, b, c


def _below(value: float) -> float:
    return math.nextafter(value, -math.inf)


def _above(value: float) -> float:
    return math.nextafter(value, math.inf)
