"""A box by hand: a switch, and a slider with two ends for each axis."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any, Final

import ipywidgets
import numpy as np

from ngdata.regions import Box

__all__ = ["BoxControls", "box_edges"]

# Steps of a slider.
_STEPS: Final = 1000

# Corners of a box are numbered by three bits; edges join those that differ in one.
_EDGES: Final = [(a, b) for a in range(8) for b in range(a) if (a ^ b).bit_count() == 1]


class BoxControls:
    """The widgets by which a reader shapes a box.

    Parameters
    ----------
    low, high : array of shape (3,)
        The corners of what is drawn, in true coordinates.
    changed : function
        Called with the box when the reader has changed it, or with None.
    """

    def __init__(
        self, low: np.ndarray, high: np.ndarray, changed: Callable[[Box | None], object]
    ) -> None:
        self._changed = changed
        self._box: Box | None = None
        self._is_setting = False
        self._switch = ipywidgets.Checkbox(value=False, description="box", indent=False)
        self.sliders = [
            ipywidgets.FloatRangeSlider(
                min=a,
                max=b,
                value=(a + (b - a) / 4, b - (b - a) / 4),
                step=(b - a) / _STEPS,
                description=axis,
                readout=False,
                layout={"width": "98%"},
            )
            for axis, a, b in zip("xyz", low.tolist(), high.tolist(), strict=True)
        ]
        self._text = ipywidgets.HTML()
        self._panel = ipywidgets.VBox([*self.sliders, self._text], layout={"display": "none"})
        self.root = ipywidgets.VBox([self._switch, self._panel])
        for control in (self._switch, *self.sliders):
            control.observe(lambda _: self._moved(), "value")

    @property
    def widgets(self) -> Sequence[Any]:
        """All widgets, to be closed."""
        return [self._switch, *self.sliders, self._text, self._panel, self.root]

    def show(self, box: Box | None) -> None:
        """Set the controls to a box."""
        self._box = box
        self._is_setting = True
        try:
            self._switch.value = box is not None
            self._panel.layout.display = "none" if box is None else ""
            self._text.value = "" if box is None else f"<code>{html.escape(repr(box))}</code>"
            if box is None:
                return
            for slider, low, high in zip(self.sliders, *self.corners(box).tolist(), strict=True):
                slider.min, slider.max = min(slider.min, low), max(slider.max, high)
                slider.value = (low, high)
        finally:
            self._is_setting = False

    def corners(self, box: Box) -> np.ndarray:
        """Return the corners of a box; a side that is open ends where the sliders do."""
        ends = [(slider.min, slider.max) for slider in self.sliders]
        first, last = np.array(ends).T
        low, high = np.array(box.min_coords), np.array(box.max_coords)
        low = np.where(np.isinf(low), np.minimum(first, high), low)
        high = np.where(np.isinf(high), np.maximum(last, low), high)
        return np.array([low, high])

    def _moved(self) -> None:
        if self._is_setting:
            return
        box = None
        if self._switch.value:
            values = np.array([slider.value for slider in self.sliders]).T
            box = Box(*(values if self._box is None else self._exact(values, self._box)))
        if box != self._box:
            self._changed(box)

    def _exact(self, values: np.ndarray, box: Box) -> np.ndarray:
        """Return the ends of the sliders, those of the box where they are as near as a step.

        The browser rounds what it is sent to steps, and sends it back.
        """
        exact = np.array([box.min_coords, box.max_coords])
        steps = np.array([slider.step for slider in self.sliders])
        is_same = np.abs(values - self.corners(box)) < 0.75 * steps
        return np.where(is_same, exact, values)


def box_edges(corners: np.ndarray) -> np.ndarray:
    """Return the edges of a box between two corners, as lines of shape (12, 2, 3)."""
    low, high = corners
    points = np.array([np.where([n & 1, n & 2, n & 4], high, low) for n in range(8)])
    edges: np.ndarray = points[np.array(_EDGES)]
    return edges
