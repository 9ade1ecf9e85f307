"""How all figures look: colours for white and dark pages, titles, margins, and figures without data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ngdata._arguments.optional_imports import import_optional
from ngdata._arguments.palette import LINES, TEXT

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["HEIGHT", "empty", "graph_objects", "layout"]

HEIGHT: Final = 600

_LINES: Final = "rgba(128, 128, 128, 0.35)"
_CLEAR: Final = "rgba(0, 0, 0, 0)"
_TITLE_HEIGHT: Final = 34
_NOTE_HEIGHT: Final = 18


def graph_objects(feature: str) -> Any:
    """Return the module of plotly's figures.

    Raises
    ------
    ConfigError
        plotly is not installed.
    """
    return import_optional("plotly.graph_objects", f"ngdata.plot.{feature}", "notebook")


def layout(title: str, notes: Sequence[str], has_bar: bool, **more: Any) -> dict[str, Any]:
    """Return the layout of a figure.

    Parameters
    ----------
    title : str
    notes : sequence of str
        What the figure does not show, or shows by size: the line below the title.
    has_bar : bool
        Whether there is a colour bar, beside which the legend would lie: it goes below then.
    """
    below = {"orientation": "h", "x": 0, "xanchor": "left", "y": -0.02, "yanchor": "top"}
    beside = {"x": 1.01, "xanchor": "left", "y": 1, "yanchor": "top"}
    return {
        "template": _template(),
        "title": {"text": title} | ({"subtitle": {"text": "; ".join(notes)}} if notes else {}),
        "height": HEIGHT,
        "margin": {
            "l": 10,
            "r": 10,
            "b": 10,
            "t": _TITLE_HEIGHT + (_NOTE_HEIGHT if notes else 0) + 8,
        },
        "legend": below if has_bar else beside,
        **more,
    }


def _template() -> dict[str, Any]:
    axis = {
        "gridcolor": _LINES,
        "linecolor": _LINES,
        "zerolinecolor": _LINES,
        "showbackground": False,
        "automargin": True,
    }
    flat = {name: value for name, value in axis.items() if name != "showbackground"}
    # WebGL draws lines that let the page through too faint to be seen.
    solid = dict.fromkeys(("gridcolor", "linecolor", "zerolinecolor"), LINES)
    spatial = {name: value for name, value in axis.items() if name != "automargin"} | solid
    text = {"color": TEXT, "size": 12}
    # The title beside the bar: above it, it would touch the label of the last tick.
    bar = {"thickness": 14, "len": 0.85, "outlinewidth": 0, "tickfont": text, "x": 1.01, "xpad": 4}
    bar |= {"title": {"side": "right"}}
    return {
        "layout": {
            "font": text,
            "paper_bgcolor": _CLEAR,
            "plot_bgcolor": _CLEAR,
            "title": {
                "x": 0,
                "xref": "paper",
                "y": 1,
                "yref": "container",
                "yanchor": "top",
                "pad": {"t": 8},
                "font": {"size": 15},
                "subtitle": {"font": {"size": 12, "color": TEXT}},
            },
            "legend": {"itemsizing": "constant", "bgcolor": _CLEAR},
            "xaxis": flat,
            "yaxis": flat,
            "scene": {f"{name}axis": spatial for name in "xyz"},
        },
        "data": {
            "scatter3d": [
                {
                    "type": "scatter3d",
                    "marker": {"colorbar": bar, "line": {"width": 0}},
                    "line": {"colorbar": bar},
                }
            ],
        },
    }


def empty(title: str, reason: str, feature: str) -> go.Figure:
    """Return a figure without data, that says so."""
    hidden = {"visible": False}
    note = {
        "text": reason,
        "x": 0.5,
        "y": 0.5,
        "xref": "paper",
        "yref": "paper",
        "showarrow": False,
    }
    figure = graph_objects(feature).Figure(
        layout=layout(title, (), False, xaxis=hidden, yaxis=hidden, annotations=[note])
    )
    result: go.Figure = figure
    return result
