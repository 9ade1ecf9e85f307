"""Rewards over time: each, and their sum so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from ngdata._arguments.numbers import number_text
from ngdata._arguments.palette import PALETTE
from ngdata._arguments.shown import shown
from ngdata._store.input_frames import Frame
from ngdata.errors import InvalidQueryError
from ngdata.plot.colors import scale_of
from ngdata.plot.frames import (
    checked_frame,
    column,
    fitting_text,
    has_columns,
    numbered,
    numbers,
    sequence,
)
from ngdata.plot.texts import brief, plain, texts
from ngdata.plot.theme import empty, graph_objects, layout

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["rewards"]

# The columns of the time and of the reward, and what a row is.
_KINDS: Final = (
    ("timestamp", "reward", "event"),
    ("timestamp", "total_reward", "step"),
    ("start_time", "total_reward", "trajectory"),
)

_MAX_LINES: Final = 20


def rewards(frame: Frame) -> go.Figure:
    """Return a figure of rewards over time: each one above, and their sum so far below.

    Parameters
    ----------
    frame : pandas.DataFrame
        As from `Experience.resample_rewards`, `get_trajectory`, `get_events` or
        `list_trajectories`.

    Returns
    -------
    plotly.graph_objects.Figure
        The sum is the column ``cumulative_reward`` if there is one, and else that of the rewards,
        in the order of time; of events of several trajectories, one line for each.

    Raises
    ------
    InvalidQueryError
        The frame has no rewards, or no times.
    ConfigError
        plotly is not installed (``pip install 'ngdata[notebook]'``).

    Examples
    --------
    >>> from ngdata import plot
    >>> times = pd.to_datetime([0, 60, 120], unit="s", utc=True)
    >>> figure = plot.rewards(pd.DataFrame({"timestamp": times, "reward": [1.0, -2.0, 3.0]}))
    >>> figure.data[0].y.tolist(), figure.data[1].y.tolist()
    ([1.0, -2.0, 3.0], [1.0, -1.0, 2.0])
    """
    checked = checked_frame(frame)
    kind = next((kind for kind in _KINDS if has_columns(checked, kind[:2])), None)
    if kind is None:
        raise InvalidQueryError(
            "ngdata.plot.rewards needs the columns timestamp and reward, timestamp and total_reward, or "
            f"start_time and total_reward: {fitting_text(checked, 'rewards')}"
        )
    time, name, noun = kind
    times, values = column(checked, time, time), numbers(column(checked, name, name))
    scale = scale_of(times)
    if scale is None:
        raise InvalidQueryError(
            f"{time} must hold times or numbers, not {shown(times.dtype)}; pandas.to_datetime converts it"
        )
    is_drawn = np.isfinite(scale.numbers) & np.isfinite(values)
    rows = np.flatnonzero(is_drawn)
    order = np.lexsort((sequence(checked)[rows], scale.numbers[rows]))
    rows = rows[order]
    notes = []
    if len(rows) < len(checked):
        notes.append(
            f"{numbered(len(checked) - len(rows), 'row')} without a time or a reward not drawn"
        )
    title = numbered(len(rows), noun)
    if not len(rows):
        return empty(title, "; ".join(["there is nothing to draw", *notes]), "rewards")
    return _figure(checked, rows, times, values, kind, title, notes)


def _figure(
    frame: pd.DataFrame,
    rows: np.ndarray,
    times: pd.Series[Any],
    values: np.ndarray,
    kind: tuple[str, str, str],
    title: str,
    notes: list[str],
) -> go.Figure:
    time, name, _ = kind
    objects = graph_objects("rewards")
    x = times.iloc[rows]
    labels = texts(x)
    # plotly drops zones: local times are drawn as the frame has them.
    zone = getattr(x.dtype, "tz", None)
    if zone is not None:
        x = x.dt.tz_localize(None)
    traces = []
    for number, (line, members) in enumerate(_members(frame, rows)):
        color = PALETTE[number % len(PALETTE)]
        mine = {"x": x.iloc[members], "name": line, "legendgroup": line, "showlegend": False}
        y = values[rows][members]
        sums = _sums(frame, rows[members], y)
        for axis, (series, what) in enumerate(((y, plain(name)), (sums, "cumulative reward"))):
            written = np.array([number_text(value) for value in series.tolist()], object)
            style: dict[str, Any] = {
                "mode": "lines",
                "line": {"color": color, "width": 2, "shape": "hv"},
            }
            if axis == 0:
                style = {"mode": "markers", "marker": {"color": color, "size": 5}}
                mine["showlegend"] = bool(line) and number < _MAX_LINES
            elif len(members) == 1:
                style |= {"mode": "markers", "marker": {"color": color, "size": 6}}
            traces.append(
                objects.Scatter(
                    y=series,
                    yaxis="y" if axis == 0 else "y2",
                    customdata=np.stack([labels[members], written], axis=1),
                    hovertemplate=f"{plain(time)}: %{{customdata[0]}}<br>{what}: %{{customdata[1]}}<extra>{line}</extra>",
                    **(mine if axis == 0 else mine | {"showlegend": False}),
                    **style,
                )
            )
    zone_text = f" ({plain(zone)})" if zone is not None else ""
    result: go.Figure = objects.Figure(
        data=traces,
        layout=layout(
            title,
            notes,
            False,
            margin={"l": 24, "r": 24, "b": 24, "t": 60},
            xaxis={"title": {"text": f"{plain(time)}{zone_text}"}, "anchor": "y2"},
            yaxis={"title": {"text": plain(name)}, "domain": [0.54, 1]},
            yaxis2={"title": {"text": "cumulative reward"}, "domain": [0, 0.46]},
        ),
    )
    return result


def _members(frame: pd.DataFrame, rows: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return the lines: each trajectory's id, and its positions among the drawn rows."""
    if has_columns(frame, ["trajectory_id", "reward"]):
        ids = column(frame, "trajectory_id", "trajectory_id").iloc[rows]
        codes, names = pd.factorize(ids.astype(object), use_na_sentinel=False)
        if len(names) > 1:
            labels = [brief(name) if name == name else "no trajectory" for name in names]
            return [(label, np.flatnonzero(codes == code)) for code, label in enumerate(labels)]
    return [("", np.arange(len(rows)))]


def _sums(frame: pd.DataFrame, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the sum of rewards so far: the frame's own, which may be discounted, or one of all rows."""
    if has_columns(frame, ["cumulative_reward"]):
        own = numbers(column(frame, "cumulative_reward", "cumulative_reward"))
        return np.asarray(own[rows])
    # A sum beyond the largest float is infinite, and its line ends there.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.cumsum(values)
