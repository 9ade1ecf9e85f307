"""Points, lines and surfaces in one 3D figure: its axes, its camera, and what the mouse shows.

Everything comes here in true coordinates, as float64.  A browser draws in float32, so that points
far from the origin, or very large or small ones, are drawn relative to an origin and a power of
ten; ticks and the mouse show the true coordinates.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ngdata._arguments.levels import LEVELS
from ngdata._arguments.numbers import number_text
from ngdata.plot.frames import AXES
from ngdata.plot.texts import plain
from ngdata.plot.theme import HEIGHT, empty, graph_objects, layout

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["Axes", "Part", "Reference", "spatial_figure"]

# How far the axes reach beyond the data, as a share of their longest side.
_MARGIN: Final = 0.03

# The same of points in one place, as a share of their largest coordinate.
_MARGIN_OF_ONE: Final = 0.01

# An offset of more sides than this costs digits that a reader who zooms in would see.
_MAX_OFFSET: Final = 1000.0

# Sizes outside of these are drawn in another power of ten.
_SIZES: Final = (1e-20, 1e20)

_FEWEST_TICKS: Final = 4

# Half of the camera's vertical field of view, which is 45 degrees.
_VIEW: Final = math.tan(math.pi / 8)

# The height of a figure, and the shape of what it shows: its width by its height, of which a legend or
# a colour bar has its part.  A box that is much wider than high is seen in the lower figure.
_SHAPE: Final = (HEIGHT, 1.1)
_LOW_SHAPE: Final = (420, 1.7)
_LONG_LEGEND: Final = 14

# The part of the view that the axes fill; the rest is for their labels.
_FILLED: Final = 0.84

# Ticks of the longest axis that plotly chooses itself, and the fewest of a short one.
_MOST_TICKS: Final = 9
_LEAST_TICKS: Final = 2


@dataclass(frozen=True)
class Part:
    """Something to draw, in true coordinates.

    Attributes
    ----------
    points : array of float64, of shape (n, 3)
        NaN where a line ends.
    trace : dict
        All else that plotly's trace of this type has.
    hover : list of (str, array of str), optional
        What the mouse shows of each point beside its coordinates; None for nothing at all.
    """

    points: np.ndarray
    trace: dict[str, Any]
    hover: list[tuple[str, np.ndarray]] | None = None
    type: str = "scatter3d"


@dataclass(frozen=True)
class Axes:
    """The level and unit of the coordinates, if they are known."""

    level: int | None = None
    unit: str | None = None

    def title(self, axis: str) -> str:
        """Return the title of an axis, with its unit."""
        return f"{axis} ({plain(self.unit)})" if self.unit else axis

    @property
    def place(self) -> str:
        """What a figure's title says about the level."""
        return "" if self.level is None else f", {LEVELS[self.level]} level"


@dataclass(frozen=True)
class Reference:
    """What is drawn instead of true coordinates: ``(points - origin) / size``.

    Attributes
    ----------
    low, high : array of shape (3,)
        The ends of the axes, in what is drawn.
    """

    origin: np.ndarray
    size: float
    low: np.ndarray
    high: np.ndarray

    @property
    def is_plain(self) -> bool:
        """Whether true coordinates are drawn."""
        return self.size == 1 and not self.origin.any()

    @classmethod
    def of(cls, low: np.ndarray, high: np.ndarray) -> Reference:
        """Return the reference of data in a box."""
        longest = float((high / 4 - low / 4).max()) * 4
        largest = float(max(np.abs(low).max(), np.abs(high).max()))
        size = 1.0
        if longest and not _SIZES[0] < longest < _SIZES[1]:
            size = 10.0 ** math.floor(math.log10(min(longest, sys.float_info.max)))
        elif not longest and largest and not _SIZES[0] < largest < _SIZES[1]:
            size = 10.0 ** math.floor(math.log10(largest))
        ends = (low / size, high / size)
        side = float((ends[1] - ends[0]).max())
        # Of one point, or many in one place, a box that shows where it is.
        margin = _MARGIN * side if side else _MARGIN_OF_ONE * largest / size or 1.0
        middle = (ends[0] + ends[1]) / 2
        is_far = np.abs(middle).max() > _MAX_OFFSET * (side + 2 * margin)
        origin = np.zeros(3)
        if is_far:
            origin = _rounded(middle, side + 2 * margin) * size
        shift = origin / size
        return cls(origin, size, ends[0] - shift - margin, ends[1] - shift + margin)

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Return points as they are drawn."""
        if self.is_plain:
            return points
        # Divided first: the difference of two floats may be no float.
        drawn: np.ndarray = points / self.size - self.origin / self.size
        return drawn

    def ticks(self, axis: int) -> dict[str, Any]:
        """Return as many ticks as there is room for, at round true coordinates."""
        low, high = self.low[axis], self.high[axis]
        if self.is_plain:
            share = (high - low) / (self.high - self.low).max()
            return {"nticks": max(_LEAST_TICKS, round(_MOST_TICKS * share))}
        step = _round_step((self.high - self.low).max() / _FEWEST_TICKS)
        shift = self.origin[axis] / self.size
        first, last = math.ceil((low + shift) / step), math.floor((high + shift) / step)
        values = [n * step for n in range(first, last + 1)] or [(low + high) / 2 + shift]
        largest = max(abs(value) for value in values)
        digits = min(math.ceil(math.log10(largest / step + 1)) + 1, 17)
        # Where floats are further apart than ticks, several have one label.
        labels = {f"{value * self.size:.{digits}g}": value - shift for value in values}
        return {
            "tickmode": "array",
            "tickvals": list(labels.values()),
            "ticktext": list(labels),
        }


def _rounded(values: np.ndarray, side: float) -> np.ndarray:
    """Return values rounded to a power of ten near a length: an origin that leaves few digits."""
    step = 10.0 ** math.floor(math.log10(side))
    return np.asarray(np.round(values / step) * step)


def _round_step(step: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at most `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return power * next(n for n in (5, 2, 1) if n * power <= step or n == 1)


def spatial_figure(
    parts: Sequence[Part], title: str, notes: Sequence[str], axes: Axes, feature: str, **more: Any
) -> go.Figure:
    """Return a figure of parts that fits all of them, on equal scales.

    Parameters
    ----------
    parts : sequence of Part
    title, notes
        As in `ngdata.plot.theme.layout`.
    axes : Axes
    feature : str
        The function that draws it, for errors.
    **more
        Further attributes of the layout.
    """
    objects = graph_objects(feature)
    finite = [part.points[np.isfinite(part.points).all(axis=1)] for part in parts]
    if not any(map(len, finite)):
        return empty(title, "; ".join(["there is nothing to draw", *notes]), feature)
    low = np.min([points.min(axis=0) for points in finite if len(points)], axis=0)
    high = np.max([points.max(axis=0) for points in finite if len(points)], axis=0)
    reference = Reference.of(low, high)
    traces = [_trace(part, reference, axes, objects) for part in parts]
    has_bar = any(
        "colorbar" in part.trace.get("marker", {}) or "colorbar" in part.trace.get("line", {})
        for part in parts
    )
    sides = reference.high - reference.low
    entries = sum(part.trace.get("showlegend", True) for part in parts)
    height, eye = viewed(sides, may_be_low=entries <= _LONG_LEGEND)
    scene = {
        # Not "data", by which plotly compares the data, and not the axes: they are longer.
        "aspectmode": "manual",
        "aspectratio": dict(zip(AXES, _box(sides).tolist(), strict=True)),
        "camera": {"eye": dict(zip(AXES, eye.tolist(), strict=True))},
        **{
            f"{name}axis": {
                "title": {"text": axes.title(name)},
                "range": [float(reference.low[axis]), float(reference.high[axis])],
                **reference.ticks(axis),
            }
            for axis, name in enumerate(AXES)
        },
    }
    result: go.Figure = objects.Figure(
        data=traces, layout=layout(title, notes, has_bar, scene=scene, height=height, **more)
    )
    return result


def _trace(part: Part, reference: Reference, axes: Axes, objects: Any) -> Any:
    drawn = reference.apply(part.points)
    options = dict(part.trace)
    if part.hover is None:
        options["hoverinfo"] = "skip"
    else:
        fields = list(part.hover)
        unit = f" {plain(axes.unit)}" if axes.unit else ""
        if reference.is_plain:
            lines = [f"{name}: %{{{name}:.15~g}}{unit}" for name in AXES]
        else:
            lines = []
            fields += [
                (
                    name,
                    np.array(
                        [number_text(v) + unit for v in part.points[:, axis].tolist()], object
                    ),
                )
                for axis, name in enumerate(AXES)
            ]
        constant = [len(set(values.tolist())) == 1 for _, values in fields]
        # What all points share is written once: notebooks keep what is written for each.
        varying = [
            values for (_, values), is_same in zip(fields, constant, strict=True) if not is_same
        ]
        place = "customdata" if len(varying) == 1 else "customdata[{}]"
        numbers = iter(range(len(varying)))
        lines = [
            f"{name}: {values[0]}" if is_same else f"{name}: %{{{place.format(next(numbers))}}}"
            for (name, values), is_same in zip(fields, constant, strict=True)
        ] + lines
        options["hovertemplate"] = "<br>".join(lines) + "<extra></extra>"
        if varying:
            options["customdata"] = np.stack(varying, axis=1) if len(varying) > 1 else varying[0]
    make = {"scatter3d": "Scatter3d", "mesh3d": "Mesh3d"}[part.type]
    x, y, z = (np.ascontiguousarray(drawn[:, axis]) for axis in range(3))
    return getattr(objects, make)(x=x, y=y, z=z, **options)


def _box(sides: np.ndarray) -> np.ndarray:
    """Return the sides of the box that plotly draws the axes in."""
    box: np.ndarray = sides / sides.max() * 2
    return box


def viewed(sides: np.ndarray, may_be_low: bool = True) -> tuple[int, np.ndarray]:
    """Return a figure's height, and where a camera sees a box of these sides as a whole.

    It looks across the longest side, from a little above.

    Parameters
    ----------
    sides : array of shape (3,)
        The lengths of the axes, all of which are positive.
    may_be_low : bool
        Whether there is room for the legend in a lower figure.
    """
    box = _box(sides)
    towards = 1 / np.maximum(box, box.max() / 4)
    towards = towards * (1.0, -1.0, 0.75)
    towards /= np.linalg.norm(towards)
    right = np.cross(-towards, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    corners = box / 2 * (2 * np.array(list(np.ndindex(2, 2, 2))) - 1)
    depths, wide = corners @ towards, np.abs(corners @ right)
    high = np.abs(corners @ np.cross(right, -towards))
    is_low = may_be_low and high.max() * _LOW_SHAPE[1] < wide.max()
    height, shape = _LOW_SHAPE if is_low else _SHAPE
    reach = np.maximum(high, wide / shape) / (_VIEW * _FILLED)
    return height, towards * (depths + reach).max()
