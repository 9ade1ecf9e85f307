"""Boxes without a level, as pairs of corners, and points as text: the arithmetic of regions' bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, TypeAlias

from ngdata._arguments.points import Point

__all__ = [
    "INFINITE",
    "Corners",
    "common",
    "corner",
    "is_finite",
    "joined",
    "moved",
    "plain",
    "point_text",
    "widened",
]

Corners: TypeAlias = tuple[Point, Point]
"""The low and the high corner of a box; infinite where it is open."""

INFINITE: Final[Corners] = ((-math.inf,) * 3, (math.inf,) * 3)


def common(a: Corners, b: Corners) -> Corners | None:
    """Return the common part of two boxes; None if there is none."""
    low, high = tuple(map(max, a[0], b[0])), tuple(map(min, a[1], b[1]))
    return None if any(x > y for x, y in zip(low, high, strict=True)) else (low, high)  # type: ignore[return-value]


def joined(several: list[Corners]) -> Corners | None:
    """Return the box around all boxes; None if there is none."""
    if not several:
        return None
    lows, highs = zip(*several, strict=True)
    return corner(map(min, zip(*lows, strict=True))), corner(map(max, zip(*highs, strict=True)))


def widened(corners: Corners, share: float) -> Corners:
    """Return a box that is larger on all sides, by a share of its longest side."""
    margin = share * max(high - low for low, high in zip(*corners, strict=True))
    low, high = ([value + side * margin for value in corners[side > 0]] for side in (-1, 1))
    return corner(low), corner(high)


def is_finite(corners: Corners) -> bool:
    """Return whether a box has an end on all sides."""
    return all(map(math.isfinite, (*corners[0], *corners[1])))


def corner(values: Iterable[float]) -> Point:
    """Return three numbers as a point."""
    x, y, z = values
    return x, y, z


def plain(point: Point) -> Point:
    """Return a point without negative zeros, which compare as equal but are written in another way."""
    x, y, z = point
    return x + 0.0, y + 0.0, z + 0.0


def moved(point: Point, by: Point) -> Point:
    """Return a point moved by another one."""
    return corner(a + b for a, b in zip(point, by, strict=True))


def point_text(point: Point) -> str:
    """Return a point as Python that makes it again."""
    x, y, z = (repr(v) if math.isfinite(v) else f"float('{v}')" for v in point)
    return f"({x}, {y}, {z})"
