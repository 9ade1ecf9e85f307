"""How many tokens there are in each cell of a grid, in 3D."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ngdata._arguments.numbers import number_text
from ngdata._arguments.palette import SCALE
from ngdata._arguments.shown import shown
from ngdata._store.input_frames import Frame
from ngdata.errors import InvalidQueryError
from ngdata.plot.frames import (
    AXES,
    checked_frame,
    column,
    fitting_text,
    has_columns,
    numbered,
    numbers,
)
from ngdata.plot.markers import Markers
from ngdata.plot.scenes import Part, spatial_figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["density"]

# Counts that differ by more are coloured by their logarithms.
_MANY_TIMES: Final = 50

# The diameters of markers in pixels, and the pixels along the longest side of the axes.
_LEAST: Final = 5.0
_MOST: Final = 26.0
_PIXELS: Final = 480.0

# The diameter of the emptiest cell, as a share of that of the fullest.
_LEAST_SHARE: Final = 0.3


def density(frame: Frame) -> go.Figure:
    """Return a figure of how many tokens there are in each cell of a grid.

    Parameters
    ----------
    frame : pandas.DataFrame
        With columns ``x, y, z, count``, as from `Tokens.density` or `Tokens.aggregate` with `cell`.

    Returns
    -------
    plotly.graph_objects.Figure
        A marker in the middle of each cell, whose size and colour grow with the count; with its
        logarithm, if counts differ much.

    Raises
    ------
    InvalidQueryError
        The frame lacks one of the columns, or they hold no numbers.
    ConfigError
        plotly is not installed (``pip install 'ngdata[notebook]'``).

    Examples
    --------
    >>> from ngdata import plot
    >>> cells = ng.tokens.density((-100, -400, -100), (100, 500, 100), bins=(4, 16, 4))
    >>> figure = plot.density(cells)
    >>> figure.layout.title.text == f"{cells['count'].sum():,} tokens in {len(cells)} cells, physical level"
    True
    """
    checked = checked_frame(frame)
    if not has_columns(checked, ("count",)):
        raise InvalidQueryError(
            "ngdata.plot.density needs the columns x, y, z, count, and the frame lacks count: "
            f"{fitting_text(checked, 'density')}"
        )
    counts = numbers(column(checked, "count", "count"))
    if (counts < 0).any():
        row = int((counts < 0).argmax())
        raise InvalidQueryError(
            f"count must be at least 0, but is {shown(counts[row])} in row {row}; draw other numbers "
            "by ngdata.plot.points(frame, color=...)"
        )
    is_counted = np.isfinite(counts)
    notes = []
    if not is_counted.all():
        notes.append(f"{numbered(int((~is_counted).sum()), 'row')} without a count not drawn")
    markers = Markers.of(checked[is_counted], "density")
    drawn = counts[is_counted][markers.rows]
    title = f"{numbered(int(drawn.sum()), 'token')} in {numbered(len(drawn), 'cell')}{markers.axes.place}"
    parts = [_cells(markers.points, drawn)] if len(drawn) else []
    return spatial_figure(parts, title, [*notes, *markers.notes], markers.axes, "density")


def _cells(points: np.ndarray, counts: np.ndarray) -> Part:
    colors = _colors(counts)
    shares = (colors["color"] - colors["cmin"]) / (colors["cmax"] - colors["cmin"])
    marker = {
        "size": _diameter(points) * (_LEAST_SHARE + (1 - _LEAST_SHARE) * shares),
        "opacity": 0.85,
        "colorscale": [[n / (len(SCALE) - 1), color] for n, color in enumerate(SCALE)],
        **colors,
    }
    texts = np.array([number_text(count) for count in counts.tolist()], object)
    trace = {"mode": "markers", "marker": marker, "name": "tokens", "showlegend": False}
    return Part(points, trace, [("tokens", texts)])


def _diameter(points: np.ndarray) -> float:
    """Return the diameter of the fullest cell: as much as there is room for between cells."""
    rows = max(len(np.unique(points[:, axis])) for axis in range(len(AXES)))
    return min(max(_PIXELS / rows, _LEAST), _MOST)


def _colors(counts: np.ndarray) -> dict[str, Any]:
    """Return what markers are coloured by, on a scale from 0, or on that of logarithms."""
    high = float(counts.max())
    bar: dict[str, Any] = {"title": {"text": "tokens"}}
    present = counts[counts > 0]
    if not len(present) or high <= _MANY_TIMES * float(present.min()):
        return {"color": counts, "cmin": 0.0, "cmax": high or 1.0, "colorbar": bar}
    low = float(present.min())
    powers = [10.0**n for n in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    ticks = [low, *(power for power in powers if 2 * low <= power <= high / 2), high]
    bar |= {"tickvals": np.log10(ticks).tolist(), "ticktext": [f"{tick:,.6g}" for tick in ticks]}
    logarithms = np.log10(np.maximum(counts, low))
    return {"color": logarithms, "cmin": math.log10(low), "cmax": math.log10(high), "colorbar": bar}
