"""Between true coordinates, in float64, and those of the scene, which a browser holds in float32."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from ngdata._arguments.numbers import number_text

__all__ = ["Reference"]

# An origin further away than this many sides would cost digits that a reader who zooms in sees.
_MAX_OFFSET: Final = 100.0

_LEAST_SIDE: Final = 1e-12

# What is smaller is 0 here.
_LEAST: Final = 1e-300

# Cameras and depth buffers are made for scenes of about these sizes.
_SIZES: Final = (1e-2, 1e5)


@dataclass(frozen=True, eq=False)
class Reference:
    """What the scene's coordinates are: ``(points - origin) / size``.

    Attributes
    ----------
    origin : array of float64, of shape (3,)
    size : float
    """

    origin: np.ndarray
    size: float

    @classmethod
    def of(cls, low: np.ndarray, high: np.ndarray) -> Reference:
        """Return the reference of points in a box; true coordinates are kept where they serve.

        Examples
        --------
        >>> from ngdata._client.view.reference import Reference
        >>> far = Reference.of(np.array([1e9, 0, 0]), np.array([1e9 + 50, 20, 20]))
        >>> far.origin.tolist(), far.size
        ([1000000020.0, 0.0, 0.0], 1.0)
        """
        side = float((high - low).max())
        largest = float(np.maximum(np.abs(low), np.abs(high)).max())
        # A side that float64 cannot hold at this distance counts as 0.
        side = side if side > _LEAST_SIDE * largest else 0.0
        length = side or largest
        if length < _LEAST:
            side, length = 0.0, 1.0
        size = 1.0
        if not _SIZES[0] <= length <= _SIZES[1]:
            size = 10.0 ** math.floor(math.log10(length))
        # Of one place, all digits but the first three are in the origin.
        step = 10.0 ** math.floor(math.log10(side or length / 1000))
        middle = low / 2 + high / 2
        is_far = np.abs(middle) > _MAX_OFFSET * (side or length / 1000)
        with np.errstate(all="ignore"):
            rounded = np.round(middle / step) * step
        return cls(np.where(is_far, rounded, 0.0), size)

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Return points as the scene has them, still in float64."""
        scene: np.ndarray = (points - self.origin) / self.size
        return scene

    def restore(self, scene: np.ndarray) -> np.ndarray:
        """Return true coordinates."""
        points: np.ndarray = scene * self.size + self.origin
        return points

    def axis_title(self, axis: int, unit: str | None) -> str:
        """Return the title of an axis, which says what its numbers are.

        Examples
        --------
        >>> from ngdata._client.view.reference import Reference
        >>> Reference(np.array([0.0, 1e9, 0.0]), 1.0).axis_title(1, "nm")
        'y - 1000000000 (nm)'
        """
        origin = float(self.origin[axis])
        title = "xyz"[axis]
        if origin:
            title += f" {'-' if origin > 0 else '+'} {number_text(abs(origin))}"
        if self.size != 1:
            title = f"({title})" if origin else title
            title += f" / {number_text(self.size)}"
        return f"{title} ({unit})" if unit else title
