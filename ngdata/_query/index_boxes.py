"""Which boxes of the spatial index hold all points of a region: the conditions that the index answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np

from ngdata._arguments.points import Point
from ngdata._query import literals as sql
from ngdata.regions.corners import Corners, is_finite, joined

__all__ = ["CLAMP", "few_boxes", "halves", "in_any_box", "point_sql", "search_box"]

T = TypeVar("T")

CLAMP: Final = 1e38
"""The end of an infinite side of a search box: beyond every point, but within float32."""

# More boxes cost the planner more than they save.
_MAX_BOXES: Final = 8

# Boxes that fill more of the box around them save less than their further scans cost.
_WORTHWHILE_SHARE: Final = 0.6


def point_sql(point: Point) -> str:
    """Write a point."""
    return f"ST_MakePoint({', '.join(map(sql.float8, point))})"


def search_box(low: Point, high: Point) -> str:
    """Write the operand of ``&&&``: a diagonal line, whose box is the box, and whose plan is short.

    The bounds are clamped, because a bound at float32's maximum or beyond (infinity too) disables
    the index on its axis.
    """

    def clamped(point: Point) -> str:
        x, y, z = (min(max(v, -CLAMP), CLAMP) for v in point)
        return point_sql((x, y, z))

    return f"ST_MakeLine({clamped(low)}, {clamped(high)})"


def in_any_box(boxes: list[Corners]) -> str:
    """Write the condition that a point is in any of the boxes, as far as the index can tell."""
    if not boxes:
        return "false"
    found = [f"geom &&& {search_box(*corners)}" for corners in boxes]
    return found[0] if len(found) == 1 else f"({' OR '.join(found)})"


def few_boxes(boxes: list[Corners]) -> list[Corners]:
    """Return a few boxes that hold what these hold: at most 8, and one if several save nothing."""
    around = joined(boxes)
    if around is None or len(boxes) == 1 or not is_finite(around):
        return boxes if around is None or len(boxes) == 1 else [around]
    merged = [_around(group) for group in halved(boxes, boxes, math.ceil(len(boxes) / _MAX_BOXES))]
    # Overlapping boxes become one: a point in both would be found twice.
    while len(merged) > 1:
        added, i, j = min(
            (_volume(_around([a, b])) - _volume(a) - _volume(b), i, j)
            for j, b in enumerate(merged)
            for i, a in enumerate(merged[:j])
        )
        if added > 0:
            break
        both = _around([merged[i], merged.pop(j)])
        merged[i] = both
    share = sum(map(_volume, merged)) / (_volume(around) or 1.0)
    return merged if share < _WORTHWHILE_SHARE else [around]


def halved(things: Sequence[T], boxes: Sequence[Corners], most: int) -> list[list[T]]:
    """Split things by the places of their boxes into groups of at most `most`."""
    if len(things) <= most:
        return [list(things)]
    first, second = halves(boxes)
    return [
        group
        for half in (first, second)
        for group in halved([things[i] for i in half], [boxes[i] for i in half], most)
    ]


def halves(boxes: Sequence[Corners]) -> list[list[int]]:
    """Return the positions of the boxes in two halves, along the axis on which they lie furthest apart."""
    centres = np.array([(np.array(low) + high) / 2 for low, high in boxes])
    order = np.argsort(centres[:, np.ptp(centres, axis=0).argmax()], kind="stable")
    return [half.tolist() for half in np.array_split(order, 2)]


def _around(boxes: list[Corners]) -> Corners:
    around = joined(boxes)
    assert around is not None
    return around


def _volume(corners: Corners) -> float:
    return math.prod(high - low for low, high in zip(*corners, strict=True))
