"""A trajectory through space: a line in the order of time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from ngdata._arguments.levels import Level
from ngdata._arguments.palette import PALETTE
from ngdata._arguments.shown import shown
from ngdata._store.input_frames import Frame
from ngdata.errors import InvalidQueryError
from ngdata.plot.colors import colored, scale_of
from ngdata.plot.frames import checked_frame, column, fitting_text, has_columns, numbered, sequence
from ngdata.plot.markers import Markers
from ngdata.plot.scenes import Part, spatial_figure
from ngdata.plot.texts import brief, plain

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["path"]

_TIMES: Final = ("timestamp", "step", "sequence_number")

# Lines of more trajectories have the colours of others, and no entry in the legend.
_MAX_LEGEND: Final = 20

_ENDS: Final = (("start", "circle", "#2ca05a", 0), ("end", "square", "#d64550", -1))


def path(
    frame: Frame,
    *,
    time: str | None = None,
    hover: str | list[str] | None = None,
    level: Level | None = None,
) -> go.Figure:
    """Return a figure of a way through space, in 3D: a line through points in the order of time.

    Parameters
    ----------
    frame : pandas.DataFrame
        With ``x, y, z`` (or ``coords``) and a time: events with the places of their tokens, which
        ``tokens.join`` adds, or mean positions by time.  Several trajectories, by
        ``trajectory_id``, are several lines.
    time : str, optional
        The column that orders the points: by default the first of ``timestamp``, ``step`` and
        ``sequence_number``.  Points of one time keep the frame's order.
    hover : str or list of str, optional
        Columns that the mouse shows, beside the time.
    level : int or str, optional
        The level of ``coords``.

    Returns
    -------
    plotly.graph_objects.Figure
        A line is coloured by time, or of several lines each has its own colour; the start is a green
        circle, the end a red square.

    Raises
    ------
    InvalidQueryError
        The frame has no points, or no time.
    ConfigError
        plotly is not installed (``pip install 'ngdata[notebook]'``).

    Examples
    --------
    >>> from ngdata import plot
    >>> way = pd.DataFrame({"step": [2, 0, 1], "x": [4.0, 0.0, 1.0], "y": 0.0, "z": 0.0})
    >>> plot.path(way).data[0].x.tolist()
    [0.0, 1.0, 4.0]
    """
    checked = checked_frame(frame)
    name = _time_column(checked, time)
    times = column(checked, name, "time")
    scale = scale_of(times)
    if scale is None:
        raise InvalidQueryError(
            f"time must be a column of times or numbers, and {shown(name)} holds {times.dtype}"
        )
    moments = scale.numbers
    notes = []
    is_timed = np.isfinite(moments)
    if not is_timed.all():
        count = numbered(int((~is_timed).sum()), "row")
        notes.append(f"{count} without a {plain(name)} not drawn")
    rows = np.flatnonzero(is_timed)
    ordered = rows[np.lexsort((sequence(checked)[rows], moments[rows]))]
    sorted_frame = checked.iloc[ordered]
    shown_columns = (
        [name] if hover is None else [name, *([hover] if isinstance(hover, str) else hover)]
    )
    markers = Markers.of(sorted_frame, "path", hover=shown_columns, level=level)
    lines = _lines(sorted_frame, markers)
    parts: list[Part] = []
    if len(lines) == 1:
        parts.append(_colored_line(sorted_frame, markers, name))
    else:
        parts += _many_lines(lines, markers)
    parts += _ends(lines, markers)
    count = numbered(len(markers.rows), "point")
    if len(lines) > 1:
        count += f" of {numbered(len(lines), 'trajectory')}"
    return spatial_figure(
        parts, count + markers.axes.place, [*notes, *markers.notes], markers.axes, "path"
    )


def _time_column(frame: pd.DataFrame, time: str | None) -> Any:
    if time is not None:
        return time
    name = next((name for name in _TIMES if name in frame.columns), None)
    if name is None:
        raise InvalidQueryError(
            f"ngdata.plot.path needs a column timestamp, step or sequence_number, or time= that names "
            f"another one, and the frame lacks them: {fitting_text(frame, 'path')}"
        )
    return name


def _lines(frame: pd.DataFrame, markers: Markers) -> list[tuple[str, np.ndarray]]:
    """Return each trajectory's id, and the positions of its points among the markers."""
    if not len(markers.rows):
        return []
    if not has_columns(frame, ["trajectory_id"]):
        return [("", np.arange(len(markers.rows)))]
    ids = column(frame, "trajectory_id", "trajectory_id").iloc[markers.rows]
    codes, names = pd.factorize(ids.astype(object), use_na_sentinel=False)
    return [(brief(name), np.flatnonzero(codes == code)) for code, name in enumerate(names)]


def _colored_line(frame: pd.DataFrame, markers: Markers, time: Any) -> Part:
    coloring = colored(frame, time, markers.rows, "points")
    # Every time is finite here, so that there is one group, of all points.
    (group,) = coloring.groups
    return Part(
        markers.points,
        {
            "mode": "lines+markers",
            "line": {"width": 4, "color": group.color, **coloring.marker},
            "marker": {"size": 2.5, "color": group.color, **_without_bar(coloring.marker)},
            "name": "path",
            "showlegend": False,
        },
        markers.hover,
    )


def _without_bar(marker: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in marker.items() if name != "colorbar"}


def _many_lines(lines: list[tuple[str, np.ndarray]], markers: Markers) -> list[Part]:
    parts = []
    for number, (name, rows) in enumerate(lines):
        color = PALETTE[number % len(PALETTE)]
        trace = {
            "mode": "lines+markers",
            "line": {"width": 3, "color": color},
            "marker": {"size": 2.5, "color": color},
            "name": name,
            "showlegend": number < _MAX_LEGEND,
        }
        parts.append(Part(markers.points[rows], trace, [(n, v[rows]) for n, v in markers.hover]))
    return parts


def _ends(lines: list[tuple[str, np.ndarray]], markers: Markers) -> list[Part]:
    """Return the starts and the ends of all lines, as one part each."""
    parts = []
    for name, symbol, color, position in _ENDS if lines else ():
        rows = np.array([rows[position] for _, rows in lines])
        marker = {"size": 5, "symbol": symbol, "color": color}
        trace = {"mode": "markers", "marker": marker, "name": name, "showlegend": True}
        parts.append(Part(markers.points[rows], trace, [(n, v[rows]) for n, v in markers.hover]))
    return parts
