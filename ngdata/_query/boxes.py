"""Points and boxes: checked, and as PostGIS geometry."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ngdata._arguments.levels import Level, level_index
from ngdata._arguments.numbers import is_number
from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.texts import plain_text
from ngdata._query import literals as sql
from ngdata.errors import InvalidQueryError

__all__ = [
    "EVERYWHERE",
    "MAX_COORDINATE",
    "SPATIAL_INDEX",
    "Box",
    "Coordinates",
    "Point",
    "Window",
    "as_point",
    "point_sql",
    "search_box",
    "unmasked",
    "with_coordinate",
]

SPATIAL_INDEX: Final = "tokens.spatial_index"

MAX_COORDINATE: Final = 1e37
"""The largest coordinate: the index compares boxes in float32, which fails beyond."""

_CLAMP: Final = 1e38
"""The end of an infinite side of a search box: beyond every point, but within float32."""

Point: TypeAlias = tuple[float, float, float]

Coordinates: TypeAlias = ArrayLike | Mapping[str, Any]
"""A point as an argument: x, y, z in this order, or with these labels in any order."""

EVERYWHERE: Final[tuple[Point, Point]] = ((-math.inf,) * 3, (math.inf,) * 3)
"""The corners of the box that holds every point."""

Window: TypeAlias = "tuple[Coordinates, Coordinates] | tuple[Coordinates, Coordinates, Level]"
"""A region as an argument: ``(min_coords, max_coords)`` or ``(min_coords, max_coords, level)``."""


@guarded
def _three(value: Any, name: str) -> Point:
    value = _by_label(value, name)
    try:
        # A longer sequence is refused before it becomes an array.
        has_length = isinstance(value, Sequence) and len(value) != 3
        array: np.ndarray[Any, Any] = np.empty(0) if has_length else np.asarray(unmasked(value))
    except ValueError:
        array = np.empty(0)
    if array.shape == (3,) and array.dtype.kind == "O" and all(map(is_number, array)):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            array = array.astype(np.float64)
    if array.shape != (3,) or array.dtype.kind not in "iuf":
        raise InvalidQueryError(f"{name} must be three numbers (x, y, z), not {shown(value)}")
    x, y, z = (float(v) for v in array)
    if math.isnan(x) or math.isnan(y) or math.isnan(z):
        raise InvalidQueryError(f"{name} must not contain NaN: {shown(value)}")
    return x, y, z


def _by_label(value: Any, name: str) -> Any:
    """Return x, y and z of a value with labels, in this order; a value without labels as it is."""
    if isinstance(value, pd.DataFrame):
        if len(value) != 1:
            raise InvalidQueryError(
                f"{name} must be one point, but the frame has {len(value)} rows; pass one row, such as "
                "frame.iloc[0], or a bound of all, such as frame[['x', 'y', 'z']].min()"
            )
        labels, values = [*value.columns], value.iloc[0].tolist()
    elif isinstance(value, pd.Series):
        labels, values = [*value.index], value.tolist()
        if not any(isinstance(label, str) for label in labels):
            return value
    elif isinstance(value, Mapping):
        labels, values = [*value], [*value.values()]
    else:
        return value
    names = [plain_text(label) for label in labels]
    for axis in "xyz":
        if names.count(axis) != 1:
            lack = "none is" if axis not in names else "several are"
            raise InvalidQueryError(
                f"{name} must have the labels 'x', 'y' and 'z', once each and in any order, but {lack} "
                f"{axis!r}: {shown(labels)}; rename the labels, or pass the three numbers (x, y, z) "
                "without labels"
            )
    return [values[names.index(axis)] for axis in "xyz"]


def unmasked(value: Any) -> Any:
    """Return a masked array with NaN for its masked values, which NumPy would use as if unmasked.

    A range becomes an array at once: NumPy would look at each of its numbers first.
    """
    if isinstance(value, range):
        return np.arange(value.start, value.stop, value.step)
    if not isinstance(value, np.ma.MaskedArray):
        return value
    dtype = np.float64 if value.dtype.kind in "iuf" else object
    return np.ma.filled(value.astype(dtype), np.nan)


def with_coordinate(point: Point, axis: int, value: float) -> Point:
    """Return a point with another coordinate on one axis."""
    x, y, z = (value if number == axis else old for number, old in enumerate(point))
    return x, y, z


@guarded
def as_point(value: Any, name: str = "point") -> Point:
    """Check a point: three finite numbers with absolute values of at most 1e37."""
    point = _three(value, name)
    if max(map(abs, point)) > MAX_COORDINATE:
        raise InvalidQueryError(
            f"{name} must be finite and at most {MAX_COORDINATE:g} in size on each axis, not {shown(value)}"
        )
    return point


@dataclass(frozen=True, slots=True)
class Box:
    """A closed box on one level: a point is in it if ``low <= p <= high`` on all three axes."""

    low: Point
    high: Point
    level: int

    @classmethod
    def of(cls, min_coords: object, max_coords: object, level: Level) -> Box:
        """Check the arguments of a region; infinite bounds are allowed."""
        low, high = _three(min_coords, "min_coords"), _three(max_coords, "max_coords")
        for axis, a, b in zip("xyz", low, high, strict=True):
            if a > b:
                raise InvalidQueryError(
                    f"min_coords must not exceed max_coords, but {axis} runs from {a!r} to {b!r}; "
                    "are the two swapped?"
                )
        return cls(low, high, level_index(level))

    @classmethod
    def within(cls, window: Window) -> Box:
        """Check a ``within=`` argument."""
        return _window(window, "within")

    def conditions(self, *, is_joined: bool = False) -> list[str]:
        """Write the SQL conditions on `tokens.spatial_index` for exactly this box.

        The index answers ``&&&``, in float32 and rounded outwards; the comparisons in float64 then
        keep the points that are inside.  An infinite side needs no comparison.

        If the rows are joined to another table (`is_joined`), the planner must expect about as many
        as there are.  It has no statistics of coordinates, and expects one row after comparisons,
        however many the index returns; after a CASE, it expects half of these.
        """
        inside = f"geom &&& {search_box(self.low, self.high)}"
        comparisons = self.comparisons()
        if is_joined and comparisons:
            comparisons = [f"CASE WHEN {' AND '.join(comparisons)} THEN true ELSE false END"]
        return [f"level = {self.level}", inside, *comparisons]

    def comparisons(self) -> list[str]:
        """Write the exact comparisons, which no index answers."""
        conditions = []
        for axis, low, high in zip("XYZ", self.low, self.high, strict=True):
            if low != -math.inf:
                conditions.append(f"ST_{axis}(geom) >= {sql.float8(low)}")
            if high != math.inf:
                conditions.append(f"ST_{axis}(geom) <= {sql.float8(high)}")
        return conditions


@guarded
def _window(window: Any, name: str) -> Box:
    if not isinstance(window, tuple | list) or len(window) not in (2, 3):
        raise InvalidQueryError(
            f"{name} must be (min_coords, max_coords) or (min_coords, max_coords, level), "
            f"not {shown(window)}"
        )
    return Box.of(window[0], window[1], window[2] if len(window) == 3 else 0)


def point_sql(point: Point) -> str:
    """Write a point."""
    return f"ST_MakePoint({', '.join(map(sql.float8, point))})"


def search_box(low: Point, high: Point) -> str:
    """Write the operand of ``&&&``: a diagonal line, whose box is the box, and whose plan is short.

    The bounds are clamped, because a bound at float32's maximum or beyond (infinity too) disables
    the index on its axis.
    """

    def clamped(point: Point) -> str:
        x, y, z = (min(max(v, -_CLAMP), _CLAMP) for v in point)
        return point_sql((x, y, z))

    return f"ST_MakeLine({clamped(low)}, {clamped(high)})"
