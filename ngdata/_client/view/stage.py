"""The widget of a view: the canvas with its caption, its legend, and the controls of the box.

Imported when a view is first shown: it needs k3d and ipywidgets.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import ipywidgets
import numpy as np

from ngdata._arguments.palette import BOX, GREY, LINES, TEXT, packed
from ngdata._client.view.box_controls import BoxControls, box_edges
from ngdata._client.view.camera import FIELD_OF_VIEW
from ngdata._client.view.canvas import Canvas, point_objects, segments
from ngdata._client.view.explorer import Explorer, Layer, Lines
from ngdata._client.view.texts import axis_titles, caption_html, legend_html
from ngdata.regions import Box

__all__ = ["Stage"]

_HEIGHT: Final = 512

# Of the tokens outside of a box, one in 20 is drawn, so that the box can be seen.
_OUTSIDE: Final = 20

# Seconds without a move of a slider until the tokens around the box are drawn anew.
_REST: Final = 0.4


class Stage:
    """What a notebook shows of an explorer.

    Its methods may be called in any thread.
    """

    def __init__(self, explorer: Explorer, box_drawn: Callable[[Box | None], object]) -> None:
        self._explorer = explorer
        self._lock = threading.RLock()
        self._is_closed = False
        self._box: Box | None = None
        self._resting_box: Box | None = None
        self._timer: threading.Timer | None = None
        self._problem: str | None = None
        self._caption = ipywidgets.HTML()
        self._legend = ipywidgets.HTML()
        self._output = ipywidgets.Output()
        self.canvas = Canvas(
            height=_HEIGHT,
            background_color=-1,  # that of the page
            camera_auto_fit=False,
            grid_auto_fit=False,
            camera_fov=FIELD_OF_VIEW,
            camera_up_axis="z",
            camera=explorer.camera.numbers,
            grid=[*explorer.low.tolist(), *explorer.high.tolist()],
            axes=axis_titles(explorer.reference, explorer.unit),
            axes_helper=0,
            label_color=packed(TEXT),
            grid_color=packed(LINES),
            menu_visibility=False,
        )
        self.canvas.on_fetch = self._look
        self.canvas.observe(lambda _: self._look(), "camera")
        restore = explorer.reference.restore
        self.controls = BoxControls(restore(explorer.low), restore(explorer.high), box_drawn)
        self.root = ipywidgets.VBox(
            [self._caption, self.canvas, self._legend, self.controls.root, self._output]
        )
        self.refresh()

    def _look(self) -> None:
        self._explorer.look(self.canvas.camera)

    def refresh(self) -> None:
        """Draw what has changed."""
        explorer = self._explorer
        with self._lock:
            if self._is_closed:
                return
            self._draw_points()
            self._draw_lines("lines", explorer.lines)
            self._draw_lines("near lines", explorer.near_lines)
            self._caption.value = caption_html(explorer)
            self._legend.value = legend_html(explorer.coloring)
            if explorer.problem != self._problem:
                self._problem = explorer.problem
                self._output.outputs = ()
                if self._problem is not None:
                    self._output.append_stderr(f"{self._problem}\n")

    def _draw_points(self) -> None:
        whole, near = self._explorer.whole, self._explorer.near
        box = self._resting_box
        self.canvas.draw("near", (near, box), lambda: point_objects(*self._drawn(near, None)))
        # The tokens of the sample of all that are in sight are in the finer one too.
        key = (whole, near, box)
        self.canvas.draw("whole", key, lambda: point_objects(*self._drawn(whole, near)))

    def _drawn(self, layer: Layer | None, near: Layer | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the points and colours of a layer, without those of a finer one, and few outside the box."""
        if layer is None:
            return np.empty((0, 3)), np.empty(0, np.uint32)
        is_drawn = np.ones(len(layer.points), bool)
        if near is not None and near.sight is not None:
            is_drawn &= ~near.sight.contains(layer.points)
        if self._resting_box is not None:
            low, high = self._explorer.reference.apply(self.controls.corners(self._resting_box))
            is_inside = ((layer.points >= low) & (layer.points <= high)).all(axis=1)
            # The first ones of a sample are a smaller sample.
            is_inside[: len(is_inside) // _OUTSIDE] = True
            is_drawn &= is_inside
        return layer.points[is_drawn], layer.colors[is_drawn]

    def _draw_lines(self, kind: str, lines: Lines | None) -> None:
        ends = np.empty((0, 2, 3)) if lines is None else lines.ends
        self.canvas.draw(kind, lines, lambda: segments(ends, GREY))

    def show_box(self, box: Box | None) -> None:
        """Draw a box, and set the controls to it."""
        with self._lock:
            if self._is_closed:
                return
            self._box = box
            self.controls.show(box)
            ends = np.empty((0, 2, 3))
            if box is not None:
                ends = box_edges(self._explorer.reference.apply(self.controls.corners(box)))
            self.canvas.draw("box", box, lambda: segments(ends, BOX))
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(_REST, self._rest)
            self._timer.daemon = True
            self._timer.start()

    def _rest(self) -> None:
        with self._lock:
            if not self._is_closed and self._resting_box != self._box:
                self._resting_box = self._box
                self._draw_points()

    def close(self) -> None:
        """Remove the widget from the notebook."""
        with self._lock:
            self._is_closed = True
            if self._timer is not None:
                self._timer.cancel()
            for widget in (*self.controls.widgets, self._output, self._legend, self._caption):
                widget.close()
            # K3D's own close leaves the widget as it is.
            ipywidgets.Widget.close(self.canvas)
            self.root.close()
