"""A part of the graph in 3D: tokens as points, connections as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from ngdata._arguments.levels import Level
from ngdata._arguments.numbers import positive
from ngdata._arguments.palette import PALETTE
from ngdata._arguments.shown import shown
from ngdata._arguments.texts import STR
from ngdata._client.subgraph import Subgraph
from ngdata._store.input_frames import Frame
from ngdata.errors import InvalidQueryError
from ngdata.plot.colors import categories
from ngdata.plot.frames import checked_frame, column, has_columns, numbered
from ngdata.plot.markers import Markers
from ngdata.plot.samples import SAMPLE, sampled
from ngdata.plot.scenes import Part, spatial_figure
from ngdata.plot.texts import plain

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["graph"]

# A directed connection is thick at its end: this share of its length.
_HEAD: Final = 0.18
_THIN: Final = 2.0
_THICK: Final = 6.0
_OPACITY: Final = 0.75

# Of more connections, lines are half as wide, and what is behind them shows through.
_MANY: Final = 1000
_OPACITY_OF_MANY: Final = 0.3

# A connection of a token with itself, as a circle of this share of the figure's longest side.
_LOOP: Final = 0.012
_LOOP_POINTS: Final = 17

_NEEDED: Final = ("source_id", "target_id")


def graph(
    subgraph: Subgraph | Frame,
    connections: Frame | None = None,
    *,
    color: str | None = None,
    size: float | str | None = None,
    hover: str | list[str] | None = None,
    line_color: str | None = None,
    level: Level | None = None,
    sample: int | None = SAMPLE,
) -> go.Figure:
    """Return a figure of tokens and the connections among them, in 3D.

    Parameters
    ----------
    subgraph : Subgraph, or pandas.DataFrame
        As from `Graph.subgraph`; or a frame of tokens, with ``token_id`` and either ``x, y, z`` or
        ``coords``.
    connections : pandas.DataFrame, optional
        ``source_id``, ``target_id`` and perhaps ``bidirectional``, instead of those of the subgraph.
    color, size, hover
        Of the tokens, as in `points`.
    line_color : str, optional
        A column of the connections, such as ``"connection_type"``: each value has its own colour.
    level : int or str, optional
        The level of ``coords`` whose points are drawn; 0 by default.
    sample : int or None
        The most tokens, and the most connections, that are drawn, as in `points`.

    Returns
    -------
    plotly.graph_objects.Figure
        A directed connection is thick at its target, a bidirectional one is thin all along, and one
        from a token to itself is a circle.

    Raises
    ------
    InvalidQueryError
        A frame without the needed columns, tokens that appear twice.
    ConfigError
        plotly is not installed (``pip install 'ngdata[notebook]'``).

    Examples
    --------
    >>> from ngdata import plot
    >>> near = ng.tokens.find_nearest((0, 0, 0), k=1, token_type="neuron")
    >>> around = ng.graph.subgraph(near.token_id)
    >>> figure = plot.graph(around, color="depth", line_color="connection_type")
    >>> figure.layout.title.text.startswith(f"{len(around.tokens)} tokens, {len(around.connections)} ")
    True
    """
    tokens = checked_frame(subgraph.tokens if isinstance(subgraph, Subgraph) else subgraph)
    links = checked_frame(_links(subgraph, connections))
    for frame, names, what in ((tokens, ("token_id",), "tokens"), (links, _NEEDED, "connections")):
        if not has_columns(frame, names):
            raise InvalidQueryError(
                f"ngdata.plot.graph needs {what} with {' and '.join(names)}, not a frame of "
                f"{shown(list(frame.columns))}; ng.graph.subgraph(ids) returns both frames"
            )
    markers = Markers.of(
        tokens, "graph", color=color, size=size, hover=hover, sample=sample, level=level
    )
    lines, count, notes = _lines(tokens, links, markers, line_color, sample)
    title = markers.title.removesuffix(markers.axes.place) + f", {count}{markers.axes.place}"
    return spatial_figure(
        # Tokens last, above the lines.
        [*lines, *markers.parts()],
        title,
        [*markers.notes, *notes],
        markers.axes,
        "graph",
    )


def _links(subgraph: Any, connections: Frame | None) -> Frame:
    if connections is not None:
        return connections
    if isinstance(subgraph, Subgraph):
        return subgraph.connections
    raise InvalidQueryError(
        "ngdata.plot.graph needs a Subgraph, as ng.graph.subgraph(ids) returns it, or a frame of tokens "
        "and one of connections: ngdata.plot.graph(tokens, connections)"
    )


def _lines(
    tokens: pd.DataFrame,
    links: pd.DataFrame,
    markers: Markers,
    line_color: str | None,
    sample: int | None,
) -> tuple[list[Part], str, list[str]]:
    """Return the connections as parts, how many of how many there are, and what is left out."""
    ids = pd.Index(column(tokens, "token_id", "token_id").iloc[markers.rows].astype(STR))
    if not ids.is_unique:
        raise InvalidQueryError(
            f"the token {shown(ids[ids.duplicated()][0])} appears twice; keep one row of each, such as by "
            "tokens.drop_duplicates('token_id')"
        )
    ends = [ids.get_indexer(pd.Index(column(links, name, name).astype(STR))) for name in _NEEDED]
    are_drawn = (ends[0] >= 0) & (ends[1] >= 0)
    complete = np.flatnonzero(are_drawn)
    own_ids = (
        column(links, "connection_id", "ids") if has_columns(links, ["connection_id"]) else None
    )
    if sample is not None:
        positive(sample, "sample")
    rows = sampled(own_ids, complete, sample)
    count = numbered(len(links), "connection")
    if len(rows) < len(complete):
        count = f"{len(rows):,} of {count}"
    notes = []
    if len(complete) < len(links):
        missing = numbered(len(links) - len(complete), "connection")
        notes.append(f"{missing} to tokens that are not drawn left out")
    is_both = np.zeros(len(links), bool)
    if has_columns(links, ["bidirectional"]):
        is_both = column(links, "bidirectional", "bidirectional").isin([True]).to_numpy()
    sources, targets = (markers.points[positions[rows]] for positions in ends)
    groups = _groups(links, rows, line_color)
    parts = []
    for name, color, members in groups:
        for both in (False, True):
            chosen = members[is_both[rows[members]] == both]
            ends_of = sources[chosen], targets[chosen]
            parts += _group(*ends_of, both, name, color, markers.points, len(rows) > _MANY)
    return parts, count, notes


def _groups(
    links: pd.DataFrame, rows: np.ndarray, line_color: str | None
) -> list[tuple[str, tuple[str, str], np.ndarray]]:
    """Return groups of connections, with a colour for directed and one for bidirectional ones."""
    if line_color is None:
        return [("", (PALETTE[1], PALETTE[2]), np.arange(len(rows)))]
    # Not from the first colour on, which tokens have.
    values = column(links, line_color, "line_color")
    groups = categories(values, rows, plain(line_color), first=1)
    return [(group.name, (str(group.color),) * 2, group.rows) for group in groups]


def _group(
    sources: np.ndarray,
    targets: np.ndarray,
    is_both: bool,
    name: str,
    colors: tuple[str, str],
    points: np.ndarray,
    are_many: bool,
) -> list[Part]:
    """Return connections of one colour and direction as lines, and the thick ends of directed ones."""
    if not len(sources):
        return []
    kind = "bidirectional" if is_both else "directed"
    label = f"{name}, {kind}" if name else kind
    trace = {
        "mode": "lines",
        "name": label if is_both else f"{label} (thick at its target)",
        "legendgroup": f"connections {label}",
        "showlegend": True,
    }
    style = {"color": colors[is_both], "dash": "solid"}
    is_loop = (sources == targets).all(axis=1)
    loops = _loops(sources[is_loop], points)
    start, end = sources[~is_loop], targets[~is_loop]
    lines = np.concatenate([_separate(np.stack([start, end], axis=1)), loops])
    share = 0.5 if are_many else 1.0
    trace["opacity"] = _OPACITY_OF_MANY if are_many else _OPACITY
    width = _THIN * share * (1.5 if is_both else 1)
    parts = [Part(lines, {**trace, "line": style | {"width": width}})]
    if not is_both and len(start):
        head = end - (end - start) * _HEAD
        heads = _separate(np.stack([head, end], axis=1))
        parts.append(
            Part(heads, {**trace, "line": style | {"width": _THICK * share}, "showlegend": False})
        )
    return parts


def _separate(lines: np.ndarray) -> np.ndarray:
    """Return lines of shape (n, m, 3) one after another, with NaN between them."""
    ended = np.concatenate([lines, np.full((len(lines), 1, 3), np.nan)], axis=1)
    return ended.reshape(-1, 3)


def _loops(points: np.ndarray, all_points: np.ndarray) -> np.ndarray:
    """Return a circle beside each point."""
    side = float(np.ptp(all_points, axis=0).max()) or float(np.abs(all_points).max()) or 1.0
    angle = np.linspace(0, 2 * np.pi, _LOOP_POINTS)
    circle = np.stack([np.sin(angle), np.zeros(_LOOP_POINTS), 1 - np.cos(angle)], axis=1)
    return _separate(points[:, None, :] + side * _LOOP * circle)
