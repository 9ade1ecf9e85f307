"""Points of a frame, and regions, in 3D."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ngdata._arguments.levels import Level, level_index
from ngdata._store.input_frames import Frame
from ngdata.plot.frames import checked_frame, numbered
from ngdata.plot.markers import Markers
from ngdata.plot.outlines import Regions, named_regions, outlined
from ngdata.plot.samples import SAMPLE
from ngdata.plot.scenes import Axes, spatial_figure
from ngdata.regions import Region

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["outline", "points"]


def points(
    frame: Frame | Region,
    color: str | None = None,
    size: float | str | None = None,
    hover: str | list[str] | None = None,
    sample: int | None = SAMPLE,
    *,
    level: Level | None = None,
    regions: Regions | None = None,
) -> go.Figure:
    """Return a figure of the points of a frame, in 3D, with regions around them.

    Parameters
    ----------
    frame : pandas.DataFrame
        With columns ``x, y, z``, as reads of regions return them, or with ``coords``, as
        `Tokens.get` does.  A region, or regions, instead of a frame are drawn alone.
    color : str, optional
        A column: numbers, times and durations get a colour bar, all else gets a legend.  The 19 most
        frequent of more than 20 categories have colours of their own.
    size : float or str, optional
        The diameter of the points in pixels, or a column to which their areas are proportional.
    hover : str or list of str, optional
        Columns that the mouse shows, beside the id and those of `color` and `size`.
    sample : int or None
        The most points to draw: of more, those with the least hash of their id, as in
        `Tokens.sample`, so that the same ones are drawn each time.  The title says of how many.
    level : int or str, optional
        The level of ``coords``.
    regions : region, list of regions, or dict of regions by name, optional
        Their outlines: what a region excludes is dotted, what has no end goes to the end of the data.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    InvalidQueryError
        The frame has no points, or a column that is missing or of the wrong kind.
    ConfigError
        plotly is not installed (``pip install 'ngdata[notebook]'``).

    Examples
    --------
    >>> from ngdata import plot, Sphere
    >>> neurons = ng.tokens.find_within((0, 0, 0), 90, token_type="neuron")
    >>> figure = plot.points(neurons, color="distance", regions=Sphere((0, 0, 0), 90))
    >>> figure.layout.title.text == f"{len(neurons)} tokens, physical level"
    True
    """
    if isinstance(frame, Region) or (regions is not None and frame is None):
        return outline(frame if isinstance(frame, Region) else regions, level=level)  # type: ignore[arg-type]
    checked = checked_frame(frame)
    markers = Markers.of(
        checked, "points", color=color, size=size, hover=hover, sample=sample, level=level
    )
    lines, notes = outlined(named_regions(regions), markers.points, markers.axes.level)
    return spatial_figure(
        [*markers.parts(), *lines], markers.title, [*markers.notes, *notes], markers.axes, "points"
    )


def outline(regions: Regions, *, level: Level | None = None) -> go.Figure:
    """Return a figure of regions as lines, in 3D.

    Parameters
    ----------
    regions : region, list of regions, or dict of regions by name
        What a region excludes is dotted.  Shapes without end are drawn as far as the others reach.
    level : int or str, optional
        Leave out parts that are bound to other levels.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    InvalidQueryError
        Something that is not a region.
    ConfigError
        plotly is not installed (``pip install 'ngdata[notebook]'``).

    Examples
    --------
    >>> from ngdata import Box, Sphere, plot
    >>> figure = plot.outline({"shell": Sphere((0, 0, 0), 2) - Box((-1, -1, -1), (1, 1, 1))})
    >>> [(line.name, line.line.dash) for line in figure.data]
    [('shell', 'solid'), ('shell', 'dot')]
    """
    named = named_regions(regions)
    number = None if level is None else level_index(level)
    lines, notes = outlined(named, np.empty((0, 3)), number)
    axes = Axes(number)
    return spatial_figure(
        lines, numbered(len(named), "region") + axes.place, notes, axes, "outline"
    )
