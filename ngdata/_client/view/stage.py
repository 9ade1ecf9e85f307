"""The widget of a view: K3D's plot with its caption, its legend, and the controls of the box.

Imported when a view is first shown: it needs k3d and ipywidgets.

K3D sends objects as the state of widgets of their own, which front ends and programs that run notebooks
save in the file.  Here, objects have no widgets: the browser asks the plot for those that it does not
know (K3D has this for Colab), and is answered by messages of binary data, which nothing saves.
"""

from __future__ import annotations

import html
import secrets
import threading
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final

import ipywidgets
import k3d
import k3d.objects
import msgpack
import numpy as np

from ngdata._client.view.camera import FIELD_OF_VIEW
from ngdata._client.view.explorer import Explorer, Layer, Lines
from ngdata._client.view.palette import BOX, GREY, LINES, TEXT, packed
from ngdata._client.view.texts import axis_titles, caption_html, legend_html
from ngdata.regions import Box

__all__ = ["MAX_MESSAGE", "Stage"]

MAX_MESSAGE: Final = 8_000_000
"""The most bytes of a message to the browser."""

# 16 bytes each, so that an object is at most half of that before it is compressed.
_POINTS_PER_OBJECT: Final = 250_000

_PIXELS: Final = 2.0
"""The diameter of a point on the screen."""

_HEIGHT: Final = 512

# Steps of the sliders along an axis.
_STEPS: Final = 1000

_IDENTITY: Final = np.identity(4, np.float32)

# Corners of a box are numbered by three bits; edges join those that differ in one.
_EDGES: Final = [(a, b) for a in range(8) for b in range(a) if (a ^ b).bit_count() == 1]


class _Points(k3d.objects.Points):  # type: ignore[misc]
    """Points without a widget of their own."""

    def open(self) -> None:
        """Open no channel to the browser."""


class _Lines(k3d.objects.Lines):  # type: ignore[misc]
    """Lines without a widget of their own."""

    def open(self) -> None:
        """Open no channel to the browser."""


class _Plot(k3d.Plot):  # type: ignore[misc]
    """A plot that holds its objects as messages, by their ids."""

    def __init__(self, **options: Any) -> None:
        self.messages: dict[int, bytes] = {}
        self.on_fetch: Callable[[], object] = lambda: None
        super().__init__(**options)

    def _handle_custom_msg(self, content: dict[str, Any], buffers: Any) -> None:
        kind = content.get("msg_type")
        if kind == "fetch_objects":
            for number in content.get("ids", []):
                self.send_object(number)
            self.on_fetch()
        elif kind != "fetch_snapshot_source":  # of an export that has no button here
            super()._handle_custom_msg(content, buffers)

    def send_object(self, number: int) -> None:
        """Send an object to the browser, unless it is gone."""
        message = self.messages.get(number)
        if message is not None:
            self.send({"msg_type": "objects_state"}, buffers=[message])

    def forget(self, number: int) -> None:
        """Let the browser free the memory of an object that is not drawn any more."""
        if self.messages.pop(number, None) is None:
            return
        for name, dtype in (
            ("positions", "float32"),
            ("colors", "uint32"),
            ("vertices", "float32"),
        ):
            value = {"data": b"", "dtype": dtype, "shape": [0]}
            patch = msgpack.packb({"id": number, "key": name, "value": value}, use_bin_type=True)
            self.send({"msg_type": "object_patch"}, buffers=[zlib.compress(patch, 1)])


class Stage:
    """What a notebook shows of an explorer.

    Its methods may be called in any thread.
    """

    def __init__(self, explorer: Explorer, box_drawn: Callable[[Box | None], object]) -> None:
        self._explorer = explorer
        self._box_drawn = box_drawn
        self._lock = threading.RLock()
        self._drawn: dict[str, tuple[object, list[int]]] = {}
        self._is_setting = False
        self._error: str | None = None
        self._caption = ipywidgets.HTML()
        self._legend = ipywidgets.HTML()
        self._output = ipywidgets.Output()
        self.plot = _Plot(
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
        self.plot.on_fetch = self._look
        self.plot.observe(lambda _: self._look(), "camera")
        self.root = ipywidgets.VBox(
            [self._caption, self.plot, self._legend, self._box_controls(), self._output]
        )
        self.refresh()

    def _look(self) -> None:
        self._explorer.look(self.plot.camera)

    def refresh(self) -> None:
        """Draw what has changed."""
        explorer = self._explorer
        with self._lock:
            self._draw("whole", explorer.whole, _point_objects)
            self._draw("near", explorer.near, _point_objects)
            self._draw("lines", explorer.lines, _line_objects)
            self._draw("near_lines", explorer.near_lines, _line_objects)
            self._caption.value = caption_html(explorer)
            self._legend.value = legend_html(explorer.coloring)
            if explorer.problem != self._error:
                self._error = explorer.problem
                self._output.outputs = ()
                if self._error is not None:
                    self._output.append_stderr(f"{self._error}\n")

    def close(self) -> None:
        """Remove the widget from the notebook."""
        with self._lock:
            for widget in (*self._controls, self._output, self._legend, self._caption, self.root):
                widget.close()
            self.plot.messages.clear()
            # That of K3D closes only its outputs.
            ipywidgets.Widget.close(self.plot)

    def _draw(self, name: str, shown: Any, objects: Callable[[Any], Iterable[Any]]) -> None:
        """Replace the objects of one kind, if they are others."""
        before, ids = self._drawn.get(name, (None, []))
        if shown is before:
            return
        new_ids = []
        for each in () if shown is None else objects(shown):
            message = _message(each)
            assert len(message) <= MAX_MESSAGE
            self.plot.messages[each.id] = message
            # Before the browser draws it, so that nothing flickers.
            self.plot.send_object(each.id)
            new_ids.append(each.id)
        self.plot.object_ids = [n for n in self.plot.object_ids if n not in ids] + new_ids
        for number in ids:
            self.plot.forget(number)
        self._drawn[name] = (shown, new_ids)

    def _box_controls(self) -> Any:
        reference, explorer = self._explorer.reference, self._explorer
        lows, highs = reference.restore(explorer.low), reference.restore(explorer.high)
        self._switch = ipywidgets.Checkbox(value=False, description="box", indent=False)
        self._sliders = []
        for axis, low, high in zip("xyz", lows.tolist(), highs.tolist(), strict=True):
            slider = ipywidgets.FloatRangeSlider(
                min=low,
                max=high,
                value=(low + (high - low) / 4, high - (high - low) / 4),
                step=(high - low) / _STEPS,
                description=axis,
                readout_format=".8~g",
                layout={"width": "98%"},
            )
            slider.observe(lambda _: self._box_changed(), "value")
            self._sliders.append(slider)
        self._text = ipywidgets.HTML()
        self._panel = ipywidgets.VBox([*self._sliders, self._text])
        self._panel.layout.display = "none"
        self._switch.observe(lambda _: self._box_changed(), "value")
        controls = ipywidgets.VBox([self._switch, self._panel])
        self._controls = [controls, self._panel, self._switch, self._text, *self._sliders]
        return controls

    def _box_changed(self) -> None:
        """Report the box of the sliders, as a user has moved them."""
        if self._is_setting:
            return
        box = None
        if self._switch.value:
            corners = zip(*(slider.value for slider in self._sliders), strict=True)
            box = Box(*corners)
        self._box_drawn(box)

    def show_box(self, box: Box | None) -> None:
        """Draw a box, and set the sliders to it."""
        with self._lock:
            self._is_setting = True
            try:
                self._switch.value = box is not None
                self._panel.layout.display = "none" if box is None else ""
                self._text.value = "" if box is None else f"<code>{html.escape(repr(box))}</code>"
                for axis, slider in enumerate(self._sliders if box is not None else []):
                    assert box is not None
                    ends = self._clipped(box, axis)
                    if slider.value != ends:
                        slider.min, slider.max = min(slider.min, ends[0]), max(slider.max, ends[1])
                        slider.value = ends
            finally:
                self._is_setting = False
            self._draw("box", box, self._box_objects)

    def _clipped(self, box: Box, axis: int) -> tuple[float, float]:
        """Return the ends of a box on an axis; a side that is open ends where the picture does."""
        slider = self._sliders[axis]
        low, high = box.min_coords[axis], box.max_coords[axis]
        first = slider.min if low == -np.inf else low
        last = slider.max if high == np.inf else high
        return min(first, last), max(first, last)

    def _box_objects(self, box: Box) -> Iterable[Any]:
        ends = np.array([self._clipped(box, axis) for axis in range(3)])
        low, high = self._explorer.reference.apply(ends.T)
        corners = np.array([np.where([n & 1, n & 2, n & 4], high, low) for n in range(8)])
        yield _lines_object(corners, np.array(_EDGES), BOX)


def _point_objects(layer: Layer) -> Iterable[Any]:
    for start in range(0, len(layer.points), _POINTS_PER_OBJECT):
        part = slice(start, start + _POINTS_PER_OBJECT)
        yield _Points(
            id=secrets.randbits(50),
            positions=layer.points[part].astype(np.float32),
            colors=layer.colors[part],
            color=0xFFFFFF,
            point_size=_PIXELS,
            shader="dot",
            model_matrix=_IDENTITY,
        )


def _line_objects(lines: Lines) -> Iterable[Any]:
    count = len(lines.ends)
    if count:
        yield _lines_object(lines.ends.reshape(-1, 3), np.arange(2 * count).reshape(-1, 2), GREY)


def _lines_object(vertices: np.ndarray, pairs: np.ndarray, color: str) -> Any:
    return _Lines(
        id=secrets.randbits(50),
        vertices=vertices.astype(np.float32),
        indices=pairs.astype(np.uint32),
        indices_type="segment",
        color=packed(color),
        shader="simple",
        model_matrix=_IDENTITY,
    )


def _message(drawable: Any) -> bytes:
    """Return an object as the browser reads it."""
    state = {"objects": [drawable.get_binary()], "chunkList": []}
    return zlib.compress(msgpack.packb(state, use_bin_type=True), 1)
