"""K3D's plot, and what is drawn on it: points, lines, a box.

K3D sends objects as the state of widgets of their own, which front ends and programs that run notebooks
save in the file.  Here, objects have no widgets: the browser asks the plot for those that it does not
know (K3D has this for Colab), and is answered by messages of binary data, which nothing saves.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import k3d
import k3d.objects
import msgpack
import numpy as np

from ngdata._arguments.palette import packed

__all__ = ["MAX_MESSAGE", "Canvas", "point_objects", "segments"]

MAX_MESSAGE: Final = 8_000_000
"""The most bytes of a message to the browser."""

# 16 bytes each: half of a message before it is compressed.
_POINTS_PER_OBJECT: Final = 250_000

# Diameters of points on the screen, by how many there are.
_PIXELS: Final = ((2_000, 3.0), (30_000, 2.0))
_LEAST_PIXELS: Final = 1.4

# Of so many lines each is opaque; of more, each is fainter.
_OPAQUE_LINES: Final = 500
_LEAST_OPACITY: Final = 0.08

_IDENTITY: Final = np.identity(4, np.float32)

_ARRAYS: Final = (("positions", "float32"), ("colors", "uint32"), ("vertices", "float32"))


class _Points(k3d.objects.Points):  # type: ignore[misc]
    """Points without a widget of their own."""

    def open(self) -> None:
        """Open no channel to the browser."""


class _Lines(k3d.objects.Lines):  # type: ignore[misc]
    """Lines without a widget of their own."""

    def open(self) -> None:
        """Open no channel to the browser."""


class Canvas(k3d.Plot):  # type: ignore[misc]
    """A plot that holds its objects as messages, by their ids.

    Attributes
    ----------
    on_fetch : function
        Called when a browser begins to show it.
    """

    def __init__(self, **options: Any) -> None:
        self.messages: dict[int, bytes] = {}
        self.on_fetch: Callable[[], object] = lambda: None
        self._kinds: dict[str, tuple[object, list[int]]] = {}
        super().__init__(**options)

    def _handle_custom_msg(self, content: dict[str, Any], buffers: Any) -> None:
        kind = content.get("msg_type")
        if kind == "fetch_objects":
            for number in content.get("ids", []):
                self._send_object(number)
            self.on_fetch()
        elif kind != "fetch_snapshot_source":  # of an export that has no button here
            super()._handle_custom_msg(content, buffers)

    def draw(self, kind: str, key: object, objects: Callable[[], Iterable[Any]]) -> None:
        """Replace the objects of a kind, unless they are those of an equal key."""
        before, ids = self._kinds.get(kind, (None, []))
        if key == before:
            return
        new_ids = []
        for each in objects():
            state = {"objects": [each.get_binary()], "chunkList": []}
            message = zlib.compress(msgpack.packb(state, use_bin_type=True), 1)
            assert len(message) <= MAX_MESSAGE
            self.messages[each.id] = message
            # Sent before the plot names it, so that nothing flickers.
            self._send_object(each.id)
            new_ids.append(each.id)
        kept = [number for number in self.object_ids if number not in ids]
        self.object_ids: list[int] = kept + new_ids
        for number in ids:
            self._forget(number)
        self._kinds[kind] = (key, new_ids)

    def _send_object(self, number: int) -> None:
        if (message := self.messages.get(number)) is not None:
            self.send({"msg_type": "objects_state"}, buffers=[message])

    def _forget(self, number: int) -> None:
        """Let the browser free the arrays of an object that is not drawn any more."""
        self.messages.pop(number, None)
        for name, dtype in _ARRAYS:
            value = {"data": b"", "dtype": dtype, "shape": [0]}
            patch = msgpack.packb({"id": number, "key": name, "value": value}, use_bin_type=True)
            self.send({"msg_type": "object_patch"}, buffers=[zlib.compress(patch, 1)])


def point_objects(points: np.ndarray, colors: np.ndarray) -> Iterator[Any]:
    """Yield the objects of points in the scene's coordinates, each small enough for a message."""
    sizes = (pixels for most, pixels in _PIXELS if len(points) <= most)
    size = next(sizes, _LEAST_PIXELS)
    for start in range(0, len(points), _POINTS_PER_OBJECT):
        part = slice(start, start + _POINTS_PER_OBJECT)
        yield _Points(
            id=secrets.randbits(50),
            positions=points[part].astype(np.float32),
            colors=colors[part],
            color=0xFFFFFF,
            point_size=size,
            shader="dot",
            model_matrix=_IDENTITY,
        )


def segments(ends: np.ndarray, color: str) -> Iterator[Any]:
    """Yield the object of straight lines, of shape (n, 2, 3), if there are any."""
    if len(ends):
        yield _Lines(
            id=secrets.randbits(50),
            vertices=ends.reshape(-1, 3).astype(np.float32),
            indices=np.arange(2 * len(ends), dtype=np.uint32).reshape(-1, 2),
            indices_type="segment",
            color=packed(color),
            # Many lines that are opaque would hide the points.
            opacity=float(np.clip(_OPAQUE_LINES / len(ends), _LEAST_OPACITY, 1.0)),
            shader="simple",
            model_matrix=_IDENTITY,
        )
