"""What a hull and a mesh share: an extent of points, beyond which nothing needs to be tested."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property

import numpy as np

from ngdata.regions.algebra import Box, Shape
from ngdata.regions.corners import Corners, corner

__all__ = ["Solid"]


class Solid(Shape):
    """A shape inside the box around some points."""

    @property
    @abstractmethod
    def _own_points(self) -> np.ndarray:
        """The points whose box holds it, an array of shape (n, 3)."""

    @abstractmethod
    def _inside_box(self, points: np.ndarray) -> np.ndarray:
        """Return which points are inside, of some in that box: an array of shape (m, 3)."""

    @cached_property
    def _extent(self) -> Corners:
        points = self._own_points
        return corner(points.min(axis=0).tolist()), corner(points.max(axis=0).tolist())

    def _inside(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        inside = Box(*self._extent)._inside(x, y, z)
        near = np.flatnonzero(inside)
        points = np.stack([values.reshape(-1)[near] for values in (x, y, z)], axis=1)
        inside.reshape(-1)[near] = self._inside_box(points)
        return inside
