"""A small still picture, which stays in the saved notebook: a PNG of the first sample."""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from typing import Final

import numpy as np

from ngdata._arguments.palette import LINES, packed
from ngdata._client.view.camera import FIELD_OF_VIEW, Camera
from ngdata._client.view.explorer import Explorer

__all__ = ["still"]

_WIDTH: Final = 480
_HEIGHT: Final = 360

# More would be larger and show no more.
_MOST: Final = 5_000

# Indices of colours are bytes; the first is the transparent page, the second that of the edges.
_MOST_COLORS: Final = 254

_STEPS: Final = 400


def still(explorer: Explorer) -> bytes:
    """Return the picture as the bytes of a PNG."""
    camera = explorer.camera
    points, colors = explorer.whole.points[:_MOST], explorer.whole.colors[:_MOST]
    corners = np.array(list(itertools.product(*zip(explorer.low, explorer.high, strict=True))))
    edges = [
        corners[a] + (corners[b] - corners[a]) * np.linspace(0, 1, _STEPS)[:, None]
        for a, b in itertools.combinations(range(8), 2)
        if (a ^ b).bit_count() == 1
    ]
    pixels = np.zeros((_HEIGHT, _WIDTH), np.uint8)
    columns, rows, _ = _projected(camera, np.concatenate(edges))
    pixels[rows, columns] = 1
    shown, codes = np.unique(colors, return_inverse=True)
    codes = np.minimum(codes, _MOST_COLORS - 1)
    columns, rows, order = _projected(camera, points)
    for right, down in itertools.product((0, 1), repeat=2):
        # The last one at a place stays: the nearest.
        below, beside = (
            np.minimum(rows + down, _HEIGHT - 1),
            np.minimum(columns + right, _WIDTH - 1),
        )
        pixels[below, beside] = codes[order] + 2
    return _png(pixels, [0xFFFFFF, packed(LINES), *shown[:_MOST_COLORS].tolist()])


def _projected(camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return columns and rows of points, the furthest first, and their order."""
    right = np.cross(camera.forward, camera.up)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(right, camera.forward), camera.forward], axis=1)
    x, y, depth = ((points - camera.position) @ axes).T
    order = np.argsort(-depth, kind="stable")
    scale = _HEIGHT / 2 / math.tan(math.radians(FIELD_OF_VIEW / 2)) / depth[order]
    columns = np.clip(_WIDTH / 2 + x[order] * scale, 0, _WIDTH - 1).astype(np.intp)
    rows = np.clip(_HEIGHT / 2 - y[order] * scale, 0, _HEIGHT - 1).astype(np.intp)
    return columns, rows, order


def _png(pixels: np.ndarray, palette: list[int]) -> bytes:
    """Return rows of indices of colours as a PNG, of which the first colour is transparent."""
    height, width = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    colors = b"".join(color.to_bytes(3, "big") for color in palette)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels], axis=1)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", colors),
        (b"tRNS", b"\0"),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
