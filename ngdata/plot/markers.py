"""The rows of a frame as markers: which of them, where, in which colours and sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from ngdata._arguments.levels import Level, level_index
from ngdata.plot.colors import Coloring, colored, sized
from ngdata.plot.frames import (
    AXES,
    column,
    column_names,
    has_columns,
    level_of,
    numbered,
    places,
    unit_of,
)
from ngdata.plot.samples import sampled
from ngdata.plot.scenes import Axes, Part
from ngdata.plot.texts import plain, texts

__all__ = ["Markers"]

_IDS: Final = ("token_id", "event_id")


@dataclass(frozen=True, eq=False)
class Markers:
    """The drawn rows of a frame.

    Attributes
    ----------
    rows : array of int
        Their positions in the frame.
    points : array of shape (len(rows), 3)
    ids : pandas.Series or None
        The ids of all rows of the frame.
    title : str
        How many of how many there are, and on which level.
    notes : list of str
        What is not drawn, and what sizes say.
    """

    rows: np.ndarray
    points: np.ndarray
    ids: pd.Series[Any] | None
    axes: Axes
    title: str
    notes: list[str]
    coloring: Coloring
    sizes: float | np.ndarray
    hover: list[tuple[str, np.ndarray]]

    @classmethod
    def of(
        cls,
        frame: pd.DataFrame,
        picture: str,
        *,
        color: Any = None,
        size: Any = None,
        hover: Any = None,
        sample: int | None = None,
        level: Level | None = None,
    ) -> Markers:
        """Return the markers of a frame; arguments are those of `ngdata.plot.points`."""
        points = places(frame, picture, level)
        ids = next((column(frame, name, "ids") for name in _IDS if name in frame.columns), None)
        is_placed = np.isfinite(points).all(axis=1)
        placed = np.flatnonzero(is_placed)
        rows = sampled(ids, placed, sample)
        axes = _axes(frame, level)
        noun = "token" if "token_id" in frame.columns else "point"
        count = numbered(len(placed), noun)
        notes = []
        if len(placed) < len(frame):
            missing = len(frame) - len(placed)
            notes.append(
                f"{missing:,} without finite x, y, z {'is' if missing == 1 else 'are'} not drawn"
            )
        sizes, note = sized(frame, size, rows)
        return cls(
            rows=rows,
            points=points[rows],
            ids=ids,
            axes=axes,
            title=(f"{len(rows):,} of {count}" if len(rows) < len(placed) else count) + axes.place,
            notes=notes + ([note] if note else []),
            coloring=colored(frame, color, rows, f"{noun}s"),
            sizes=sizes,
            hover=_hover(frame, [color, size if isinstance(size, str) else None], hover, rows),
        )

    def parts(self) -> list[Part]:
        """Return the markers as one part for each group of a colour."""
        coloring = self.coloring
        parts = []
        for group in coloring.groups:
            has_name = isinstance(group.color, str)
            marker = {
                "size": self.sizes if np.ndim(self.sizes) == 0 else self.sizes[group.rows],  # type: ignore[index]
                "color": group.color,
                "symbol": group.symbol,
                "opacity": 0.85,
                **({} if has_name else coloring.marker),
            }
            trace = {
                "mode": "markers",
                "marker": marker,
                "name": group.name,
                "showlegend": has_name and bool(coloring.title or coloring.marker),
            }
            if coloring.title:
                trace |= {"legendgroup": "color", "legendgrouptitle": {"text": coloring.title}}
            hover = [(name, values[group.rows]) for name, values in self.hover]
            parts.append(Part(self.points[group.rows], trace, hover))
        return parts


def _axes(frame: pd.DataFrame, level: Level | None) -> Axes:
    """Return the level of what is drawn, and its unit."""
    if level is None and has_columns(frame, AXES):
        return Axes(level_of(frame), unit_of(frame))
    number = 0 if level is None else level_index(level)
    return Axes(number, unit_of(frame, number))


def _hover(
    frame: pd.DataFrame, drawn: list[Any], hover: Any, rows: np.ndarray
) -> list[tuple[str, np.ndarray]]:
    names = [name for name in _IDS if name in frame.columns]
    for name in [*drawn, *column_names(hover, "hover")]:
        # Checked first: it may be something that cannot be compared.
        if name is not None and column(frame, name, "hover").name not in (*AXES, *names):
            names.append(name)
    return [(plain(name), texts(column(frame, name, "hover").iloc[rows])) for name in names]
