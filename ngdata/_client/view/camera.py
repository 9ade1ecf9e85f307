"""Where one looks: cameras, and the part of space that they see."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ngdata._client.view.reference import Reference
from ngdata.regions import Box, HalfSpace, Region

__all__ = ["FIELD_OF_VIEW", "Camera", "Sight"]

FIELD_OF_VIEW: Final = 60.0
"""The angle from the lower end of the picture to the upper one, in degrees."""

# The browser does not tell the picture's shape: about that of a wide cell.
_WIDTH: Final = 2.2

# Seen from the target, what is behind it, and much of what is beside, is not looked at.
_REACH: Final = 2.0

# Room for small moves that need no further read, as a share of the picture.
_MARGIN: Final = 1.1

# How much further back that room begins, for a share of the picture.
_BACK: Final = 2.0

# From the front, and a little from above.
_TOWARDS: Final = np.array((0.55, -1.0, 0.55))

_TOLERANCE: Final = 1e-9


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera in the scene's coordinates.

    Attributes
    ----------
    position, target, up : array of shape (3,)
    """

    position: np.ndarray
    target: np.ndarray
    up: np.ndarray

    @classmethod
    def of(cls, numbers: Iterable[Any]) -> Camera | None:
        """Return the camera of nine numbers, as the browser sends them; None if they make none."""
        try:
            values = np.array(list(numbers), np.float64)
        except (TypeError, ValueError):
            return None
        if values.shape != (9,) or not np.isfinite(values).all():
            return None
        camera = cls(values[:3], values[3:6], values[6:])
        return camera if camera.distance > 0 and np.any(camera._right) else None

    @classmethod
    def around(cls, low: np.ndarray, high: np.ndarray) -> Camera:
        """Return a camera that sees a box as a whole."""
        towards = _TOWARDS / np.linalg.norm(_TOWARDS)
        up = np.array((0.0, 0.0, 1.0))
        half = (high - low) / 2
        camera = cls((low + high) / 2 + towards, (low + high) / 2, up)
        slope = math.tan(math.radians(FIELD_OF_VIEW / 2))
        distance = 0.0
        for signs in itertools.product((-1, 1), repeat=3):
            corner = half * signs
            # As if the picture were square: it may be narrow.
            across = max(abs(corner @ camera._right), abs(corner @ camera._upward))
            distance = max(distance, float(corner @ towards + 1.2 * across / slope))
        return cls(camera.target + towards * (distance or 1.0), camera.target, up)

    @property
    def numbers(self) -> list[float]:
        """The nine numbers that the browser takes."""
        return [float(value) for value in (*self.position, *self.target, *self.up)]

    @property
    def distance(self) -> float:
        """How far the target is."""
        return float(np.linalg.norm(self.target - self.position))

    @property
    def forward(self) -> np.ndarray:
        """The direction of the target, of length 1."""
        direction: np.ndarray = (self.target - self.position) / self.distance
        return direction

    @property
    def _right(self) -> np.ndarray:
        right: np.ndarray = np.cross(self.forward, self.up)
        length = float(np.linalg.norm(right))
        return right / length if length > _TOLERANCE else np.zeros(3)

    @property
    def _upward(self) -> np.ndarray:
        upward: np.ndarray = np.cross(self._right, self.forward)
        return upward

    def planes(self, margin: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Return the planes around what is seen: normals outwards, and offsets.

        Parameters
        ----------
        margin : float
            How much wider than the picture, and further.
        """
        slope = math.tan(math.radians(FIELD_OF_VIEW / 2)) * margin
        forward = self.forward
        normals = [
            sign * side - forward * wide * slope
            for side, wide in ((self._right, _WIDTH), (self._upward, 1.0))
            for sign in (-1, 1)
        ]
        # Also for moves to a side, a wider view begins further back.
        start = self.position - forward * self.distance * _BACK * (margin - 1)
        offsets = [float(normal @ start) for normal in normals]
        far = forward @ self.position + self.distance * _REACH * margin
        return np.array([*normals, forward]), np.array([*offsets, float(far)])

    def sight(self, low: np.ndarray, high: np.ndarray, margin: float = _MARGIN) -> Sight | None:
        """Return what it sees of a box, or a little more; None if nothing is in sight.

        Parameters
        ----------
        low, high : array of shape (3,)
            The corners of the box, in the scene's coordinates.
        margin : float
            As in `planes`.
        """
        normals, offsets = self.planes(margin)
        corners = np.array(list(itertools.product(*zip(low, high, strict=True))))
        scale = float(np.abs([*corners.ravel(), *self.position]).max()) or 1.0
        tolerance = scale * _TOLERANCE
        if ((corners @ normals.T) <= offsets + tolerance).all():
            return Sight(
                normals, offsets, low, high, corners, self.distance, tolerance, is_whole=True
            )
        vertices = _vertices(
            np.concatenate([normals, np.eye(3), -np.eye(3)]),
            np.concatenate([offsets, high, -low]),
            tolerance,
        )
        if not len(vertices):
            return None
        ends = np.clip(vertices.min(axis=0), low, high), np.clip(vertices.max(axis=0), low, high)
        return Sight(normals, offsets, *ends, vertices, self.distance, tolerance, is_whole=False)


@dataclass(frozen=True, eq=False)
class Sight:
    """The part of a box that a camera sees, in the scene's coordinates.

    Attributes
    ----------
    normals, offsets : arrays
        The planes around it, beside those of the box.
    low, high : array of shape (3,)
        The corners of the box around it.
    vertices : array of shape (n, 3)
    distance : float
        From the camera to its target.
    tolerance : float
        The error of its planes.
    is_whole : bool
        Whether it is all of the box.
    """

    normals: np.ndarray
    offsets: np.ndarray
    low: np.ndarray
    high: np.ndarray
    vertices: np.ndarray
    distance: float
    tolerance: float
    is_whole: bool

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Return which points, in the scene's coordinates, are in it."""
        if self.is_whole:
            return np.ones(len(points), bool)
        tolerance = 2 * self.tolerance
        is_near = (points >= self.low - tolerance) & (points <= self.high + tolerance)
        is_inside = points @ self.normals.T <= self.offsets + tolerance
        return np.asarray(is_near.all(axis=1) & is_inside.all(axis=1))

    def covers(self, other: Sight) -> bool:
        """Return whether another one of the same box lies in it; both are convex."""
        return self.is_whole or (not other.is_whole and bool(self.contains(other.vertices).all()))

    def region(self, reference: Reference) -> Region:
        """Return it as a region, in true coordinates."""
        region: Region = Box(reference.restore(self.low), reference.restore(self.high))
        if not self.is_whole:
            for normal, offset in zip(self.normals, self.offsets, strict=True):
                true_offset = float(offset * reference.size + normal @ reference.origin)
                region = region & HalfSpace(normal, true_offset)
        return region


def _vertices(normals: np.ndarray, offsets: np.ndarray, tolerance: float) -> np.ndarray:
    """Return the vertices of a convex body: where three of its planes meet, on the inner side of all."""
    triples = np.array(list(itertools.combinations(range(len(normals)), 3)))
    matrices = normals[triples]
    is_regular = np.abs(np.linalg.det(matrices)) > _TOLERANCE
    points = np.linalg.solve(matrices[is_regular], offsets[triples][is_regular][..., None])[..., 0]
    is_inside = (points @ normals.T <= offsets + tolerance).all(axis=1)
    vertices: np.ndarray = points[is_inside]
    return vertices
