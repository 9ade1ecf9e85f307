"""The accessor ``frame.ng`` of pandas: `ngdata.plot` for the frame it is called on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ngdata.errors import InvalidQueryError
from ngdata.plot.cells import density
from ngdata.plot.clouds import points
from ngdata.plot.curves import rewards
from ngdata.plot.frames import checked_frame, fitting, fitting_text
from ngdata.plot.graphs import graph
from ngdata.plot.paths import path

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["FrameAccessor", "Plots"]

_PICTURES = {"density": density, "path": path, "points": points, "rewards": rewards}


class FrameAccessor:
    """What ngdata adds to each DataFrame: ``frame.ng.plot``.

    Examples
    --------
    >>> import ngdata
    >>> pd.DataFrame({"x": [0.0, 1.0], "y": 0.0, "z": 0.0}).ng.plot().layout.title.text
    '2 points'
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        # Nothing is checked here: what is raised would hide the accessor.
        self._frame = frame

    @property
    def plot(self) -> Plots:
        """Pictures of the frame: ``frame.ng.plot()`` draws the one that fits its columns."""
        return Plots(self._frame)

    def __repr__(self) -> str:
        return "<frame.ng: plot>"


class Plots:
    """The pictures of `ngdata.plot` for one frame; called, the one that fits its columns.

    Examples
    --------
    >>> cells = pd.DataFrame({"x": [0.0, 1.0], "y": 0.0, "z": 0.0, "count": [3, 4]})
    >>> cells.ng.plot().layout.title.text
    '7 tokens in 2 cells'
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def __call__(self, **options: Any) -> go.Figure:
        """Return the figure that fits the columns of the frame.

        ``x, y, z`` and ``count`` are a density; ``x, y, z`` with a time are a path, if the frame has
        ``event_id`` or ``trajectory_id`` or no ``token_id``; other frames with ``x, y, z`` or ``coords``
        are points; a time and a reward are rewards.

        Parameters
        ----------
        **options
            Those of the picture.

        Raises
        ------
        InvalidQueryError
            No picture fits; the error says which columns each needs.
        """
        frame = checked_frame(self._frame)
        name = fitting(frame)
        if name is None:
            raise InvalidQueryError(
                f"no picture of ngdata.plot fits this frame: {fitting_text(frame, '')}"
            )
        try:
            return _PICTURES[name](frame, **options)
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            raise InvalidQueryError(f"ngdata.plot.{name} fits this frame, but {error}") from None

    def points(self, *args: Any, **options: Any) -> go.Figure:
        """Return `ngdata.plot.points` of the frame."""
        return points(self._frame, *args, **options)

    def graph(self, *args: Any, **options: Any) -> go.Figure:
        """Return `ngdata.plot.graph` of the frame, which has tokens, and of one of connections."""
        return graph(self._frame, *args, **options)

    def density(self) -> go.Figure:
        """Return `ngdata.plot.density` of the frame."""
        return density(self._frame)

    def path(self, **options: Any) -> go.Figure:
        """Return `ngdata.plot.path` of the frame."""
        return path(self._frame, **options)

    def rewards(self) -> go.Figure:
        """Return `ngdata.plot.rewards` of the frame."""
        return rewards(self._frame)

    def __repr__(self) -> str:
        return f"<frame.ng.plot: {', '.join([*_PICTURES, 'graph'])}>"
