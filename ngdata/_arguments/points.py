"""Points as arguments: three numbers, with or without the labels x, y and z."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ngdata._arguments.numbers import is_number
from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.texts import plain_text
from ngdata.errors import InvalidQueryError

__all__ = [
    "MAX_COORDINATE",
    "Coordinates",
    "Point",
    "as_point",
    "three",
    "unmasked",
    "with_coordinate",
    "within_limits",
]

MAX_COORDINATE: Final = 1e37
"""The largest coordinate: the index compares boxes in float32, which fails beyond."""

Point: TypeAlias = tuple[float, float, float]

Coordinates: TypeAlias = ArrayLike | Mapping[str, Any]
"""A point as an argument: x, y, z in this order, or with these labels in any order."""


@guarded
def three(value: Any, name: str) -> Point:
    """Check three numbers, which may be infinite."""
    if type(value) is tuple and len(value) == 3 and {type(v) for v in value} == {float}:
        # As a point is that was checked before.
        x, y, z = value
    else:
        value = _by_label(value, name)
        x, y, z = _three_of_any(value, name)
    if math.isnan(x) or math.isnan(y) or math.isnan(z):
        raise InvalidQueryError(f"{name} must not contain NaN: {shown(value)}")
    return x, y, z


def _three_of_any(value: Any, name: str) -> list[float]:
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
    return [float(v) for v in array]


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
    point = three(value, name)
    if max(map(abs, point)) > MAX_COORDINATE:
        raise InvalidQueryError(
            f"{name} must be finite and at most {MAX_COORDINATE:g} in size on each axis, not {shown(value)}"
        )
    return point


def within_limits(points: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    """Check points, an array of shape (n, 3), as `as_point` checks one."""
    # NaN compares as False.
    is_bad = ~(np.abs(points) <= MAX_COORDINATE).all(axis=1)
    if is_bad.any():
        row = int(is_bad.argmax())
        raise InvalidQueryError(
            f"{name} must be finite and at most {MAX_COORDINATE:g} in size on each axis, but row {row} "
            f"is {shown(tuple(points[row].tolist()))}"
        )
    return points
