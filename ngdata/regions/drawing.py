"""A region as HTML for notebooks: three sections through its middle, one along each pair of axes."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np

from ngdata.regions.corners import Corners

__all__ = ["as_html"]

Contains: TypeAlias = Callable[[Any], np.ndarray]

# Points along each side of a section.
_POINTS: Final = 48

_PIXELS: Final = 140

_MAX_TEXT: Final = 300


def as_html(text: str, contains: Contains, corners: Corners | None) -> str:
    """Return sections of a region through the middle of a box, and its text below them.

    Parameters
    ----------
    text : str
    contains : function
        Returns which points are inside.
    corners : tuple of two points, or None
        The box that is drawn; None for no picture.
    """
    text = text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
    sections = ""
    if corners is not None:
        low, high = np.array(corners[0]), np.array(corners[1])
        pairs = ((0, 1), (0, 2), (1, 2))
        # Of bounds as large as float64 allows, the differences may be infinite.
        with np.errstate(all="ignore"):
            sections = "".join(_section(contains, low, high, *pair) for pair in pairs)
    return f"<div>{sections}<div><code>{html.escape(text)}</code></div></div>"


def _section(contains: Contains, low: np.ndarray, high: np.ndarray, first: int, second: int) -> str:
    """Draw the section through the middle of the third axis: a bar for each run of points inside."""
    axes = [low + (high - low) * share for share in (0.0, 0.5, 1.0)]
    points = np.empty((_POINTS, _POINTS, 3))
    points[...] = axes[1]
    steps = (np.arange(_POINTS) + 0.5) / _POINTS
    points[..., first] = (low[first] + steps * (high[first] - low[first]))[None, :]
    points[..., second] = (high[second] - steps * (high[second] - low[second]))[:, None]
    inside = contains(points)
    bars = []
    for row, values in enumerate(np.pad(inside, ((0, 0), (1, 1)))):
        changes = np.flatnonzero(np.diff(values.astype(np.int8)))
        bars += [
            f'<rect x="{start}" y="{row}" width="{end - start}" height="1.1"/>'
            for start, end in changes.reshape(-1, 2).tolist()
        ]
    names = "xyz"
    captions = "".join(
        f'<text x="{_POINTS / 2}" y="{_POINTS + line}" font-size="5" text-anchor="middle"'
        f' fill="currentColor">{names[axis]} {low[axis]:.4g} to {high[axis]:.4g}</text>'
        for line, axis in ((6, first), (12, second))
    )
    return (
        f'<svg width="{_PIXELS}" height="{_PIXELS * 1.3:.0f}" viewBox="0 0 {_POINTS} {_POINTS * 1.3:.0f}"'
        f' role="img" aria-label="section of a region in {names[first]} and {names[second]}">'
        f'<rect width="{_POINTS}" height="{_POINTS}" fill="none" stroke="currentColor"'
        f' stroke-width="0.3" opacity="0.4"/><g fill="#4c78a8">{"".join(bars)}</g>{captions}</svg>'
    )
