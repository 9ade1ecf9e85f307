"""What a column says as colours: a legend of categories, or a bar of numbers, times or durations."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from ngdata._arguments.numbers import as_float, number_text
from ngdata._arguments.palette import GREY, PALETTE, SCALE
from ngdata._arguments.shown import shown
from ngdata._arguments.texts import with_text_dtype
from ngdata.errors import InvalidQueryError
from ngdata.plot.frames import column, numbers, reads_column
from ngdata.plot.texts import brief, plain

__all__ = [
    "Coloring",
    "Group",
    "categories",
    "colored",
    "date_ticks",
    "scale_of",
    "sized",
]

# The second time around, a colour comes with another symbol.
_SYMBOLS: Final = ("circle", "diamond")

_MAX_CATEGORIES: Final = len(PALETTE) * len(_SYMBOLS)

# Diameters of markers where a column says the size, as shares of what they have else.
_LEAST_SIZE: Final = 0.7
_MOST_SIZE: Final = 3.0

# Integers that each have a tick on the bar.
_FEW_STEPS: Final = 10

_DATE_FORMATS: Final = (
    (pd.Timedelta("3D"), "%Y-%m-%d"),
    (pd.Timedelta("10min"), "%Y-%m-%d %H:%M"),
    (pd.Timedelta("10s"), "%Y-%m-%d %H:%M:%S"),
)


@dataclass(frozen=True)
class Group:
    """Points that are drawn and named together.

    Attributes
    ----------
    rows : array of int
        Their positions among all points.
    color : str or array of float
        One colour, or a number per point, on the scale of the bar.
    """

    name: str
    rows: np.ndarray
    color: str | np.ndarray
    symbol: str = "circle"


@dataclass(frozen=True)
class Coloring:
    """Groups of points, and the colour bar or the title of the legend that explains them.

    Attributes
    ----------
    marker : dict
        What the markers of a group with numbers have in common: their scale and its bar.
    """

    groups: list[Group]
    title: str = ""
    marker: dict[str, Any] = field(default_factory=dict)


def colored(frame: pd.DataFrame, name: Any, rows: np.ndarray, noun: str) -> Coloring:
    """Return the groups of some rows of a frame, by the column of that name; None for one colour.

    Parameters
    ----------
    frame : pandas.DataFrame
        All rows: so that a category has the same colour in a sample.
    name : str or None
    rows : array of int
        The positions of the points in the frame.
    noun : str
        What the points are, for a single group.
    """
    if name is None:
        return Coloring([Group(noun, np.arange(len(rows)), PALETTE[0])])
    values = column(frame, name, "color")
    title = plain(name)
    if (scale := scale_of(values)) is not None:
        return _on_scale(scale, rows, title)
    return Coloring(categories(values, rows, title), title)


@dataclass(frozen=True)
class _Scale:
    """A column as numbers, and how the bar writes them."""

    numbers: np.ndarray
    ticks: dict[str, Any]


@reads_column
def scale_of(values: pd.Series[Any]) -> _Scale | None:
    """Return a column of numbers, times or durations as numbers for a bar; None for any other."""
    dtype = values.dtype
    if pd.api.types.is_bool_dtype(dtype):
        return None
    kind = pd.api.types.infer_dtype(values, skipna=True) if _is_object(values) else ""
    if isinstance(dtype, pd.PeriodDtype):
        values = values.dt.to_timestamp()
    if kind in ("datetime", "datetime64", "date"):
        values = pd.to_datetime(values, utc=True)
    if kind in ("timedelta", "timedelta64"):
        values = pd.to_timedelta(values)
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return _times(values)
    if pd.api.types.is_timedelta64_dtype(values.dtype):
        seconds = values.dt.total_seconds().to_numpy(np.float64, na_value=np.nan)
        return _Scale(seconds, {"ticksuffix": " s"})
    if pd.api.types.is_integer_dtype(dtype) or kind == "integer":
        return _Scale(numbers(values), {"dtick": 1})
    is_numeric = pd.api.types.is_numeric_dtype(dtype) or kind in (
        "floating",
        "mixed-integer-float",
        "decimal",
    )
    return _Scale(numbers(values), {}) if is_numeric else None


def _times(values: pd.Series[Any]) -> _Scale:
    """Return times as seconds since the first, which float64 holds to the microsecond."""
    first, last = values.min(), values.max()
    if first is pd.NaT:
        return _Scale(np.full(len(values), np.nan), {})
    seconds = (values - first).dt.total_seconds().to_numpy(np.float64, na_value=np.nan)
    positions, labels = date_ticks(first, last)
    return _Scale(seconds, {"tickvals": positions, "ticktext": labels})


def date_ticks(
    first: pd.Timestamp, last: pd.Timestamp, count: int = 5
) -> tuple[list[float], list[str]]:
    """Return evenly spaced seconds from the first time to the last, and what they are called.

    Examples
    --------
    >>> from ngdata.plot.colors import date_ticks
    >>> date_ticks(pd.Timestamp("2026-01-01"), pd.Timestamp("2026-01-05"), 3)
    ([0.0, 172800.0, 345600.0], ['2026-01-01', '2026-01-03', '2026-01-05'])
    """
    span = last - first
    steps = [0.0] if not span else [n / (count - 1) for n in range(count)]
    written = next((text for least, text in _DATE_FORMATS if span >= least), "")
    if not span:
        written = "%Y-%m-%d %H:%M:%S"
    labels = [
        (first + share * span).strftime(written)
        if written
        else (first + share * span).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        for share in steps
    ]
    return [share * span.total_seconds() for share in steps], labels


def _on_scale(scale: _Scale, rows: np.ndarray, title: str) -> Coloring:
    values = scale.numbers[rows]
    finite = np.isfinite(values)
    groups = []
    if finite.any():
        groups.append(Group("", np.flatnonzero(finite), values[finite]))
    marker: dict[str, Any] = {}
    if finite.any():
        low, high = float(values[finite].min()), float(values[finite].max())
        ticks = dict(scale.ticks)
        if low == high:
            # A bar of no length has no place for its label.
            margin = abs(low) / 2 or 0.5
            label = ticks.get("ticktext", [plain(number_text(low) + ticks.get("ticksuffix", ""))])[
                :1
            ]
            ticks = {"tickvals": [low], "ticktext": label}
            low, high = low - margin, high + margin
        elif "dtick" in ticks and high - low > _FEW_STEPS:
            # Of more, plotly chooses round ones.
            del ticks["dtick"]
        elif not math.isfinite(high - low):
            # Colours of such numbers are computed as shares of the difference.
            groups[0] = Group("", groups[0].rows, values[finite] / 4)
            ticks = {
                "tickvals": [low / 4, high / 4],
                "ticktext": [number_text(low), number_text(high)],
            }
            low, high = low / 4, high / 4
        marker = {
            "cmin": low,
            "cmax": high,
            "colorscale": [[n / (len(SCALE) - 1), color] for n, color in enumerate(SCALE)],
            "colorbar": {"title": {"text": title}, **ticks},
        }
    if not finite.all():
        infinite = int(np.isinf(values).sum())
        name = "infinite" if infinite == (~finite).sum() else "missing"
        name = "missing or infinite" if infinite and name == "missing" else name
        groups.insert(0, Group(f"{title}: {name}", np.flatnonzero(~finite), GREY))
    return Coloring(groups, "", marker)


def _is_object(values: pd.Series[Any]) -> bool:
    return bool(pd.api.types.is_object_dtype(values.dtype))


@reads_column
def categories(values: pd.Series[Any], rows: np.ndarray, title: str, first: int = 0) -> list[Group]:
    """Return a group of some rows for each value of a column: the largest first, or as its dtype says.

    Parameters
    ----------
    first : int
        The colour that the first one has, as a position in `PALETTE`.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes = values.cat.codes.to_numpy()
        names = [brief(name) for name in values.cat.categories]
        order = list(range(len(names)))
    else:
        keys: Any = values
        if _is_object(values):
            # Values of all kinds, also those that cannot be compared or hashed.
            keys = values.map(lambda value: shown(value), na_action="ignore")
            if pd.api.types.infer_dtype(values, skipna=True) in ("string", "boolean"):
                # Of objects, texts are equal for pandas where they are up to NUL.
                keys = with_text_dtype(values.astype(object))
        codes, uniques = pd.factorize(keys)
        names = [brief(name) for name in uniques]
        counts = np.bincount(codes[codes >= 0], minlength=len(names))
        order = sorted(range(len(names)), key=lambda code: (-counts[code], names[code]))
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    own = codes[rows]
    shown_codes = order
    groups = []
    if len(order) > _MAX_CATEGORIES:
        # The most frequent ones have colours of their own.
        frequent = sorted(order, key=lambda code: -counts[code])[: _MAX_CATEGORIES - 1]
        shown_codes = [code for code in order if code in set(frequent)]
        is_other = ~np.isin(own, shown_codes) & (own >= 0)
        if is_other.any():
            kinds = len(order) - len(shown_codes)
            groups.append(Group(f"{kinds:,} others", np.flatnonzero(is_other), GREY, "circle"))
    if (own < 0).any():
        groups.append(Group(f"{title}: missing", np.flatnonzero(own < 0), GREY, "x"))
    for position, code in enumerate(shown_codes):
        members = np.flatnonzero(own == code)
        if len(members):
            color = PALETTE[(position + first) % len(PALETTE)]
            symbol = _SYMBOLS[position // len(PALETTE) % len(_SYMBOLS)]
            groups.append(Group(names[code], members, color, symbol))
    return groups


def sized(
    frame: pd.DataFrame, size: Any, rows: np.ndarray
) -> tuple[float | np.ndarray, str | None]:
    """Return the diameters of markers in pixels, and a note of what they say.

    Parameters
    ----------
    size : float, str or None
        One diameter, or a column: areas are proportional to its values, or, if some are negative,
        grow from the least to the largest.
    """
    if size is None:
        return _size_of(len(rows)), None
    number = as_float(size)
    if number is not None:
        if not (number > 0 and math.isfinite(number)):
            raise InvalidQueryError(
                f"size must be a positive number of pixels or a column of the frame, not {shown(size)}"
            )
        return number, None
    values = numbers(column(frame, size, "size"))[rows]
    finite = np.isfinite(values)
    usual = _size_of(len(rows))
    least, most = _LEAST_SIZE * usual, _MOST_SIZE * usual
    diameters = np.full(len(values), least)
    if not finite.any():
        return diameters, f"size: {plain(size)}, which has no numbers"
    low, high = float(values[finite].min()), float(values[finite].max())
    start = min(low, 0.0)
    # Halves, because the difference of two floats may be no float.
    span = high / 2 - start / 2
    with np.errstate(all="ignore"):
        shares = (values / 2 - start / 2) / span if low < high else np.full(len(values), 0.25)
    diameters[finite] = np.clip(most * np.sqrt(shares[finite]), least, most)
    note = f"size: {plain(size)}, {number_text(low)}" + (
        f" to {number_text(high)}" if low < high else ""
    )
    return diameters, note if finite.all() else f"{note}; the least size where it has no number"


def _size_of(count: int) -> float:
    """Return a diameter by how many points there are: large enough to see, not to hide others."""
    return next(
        (size for most, size in ((300, 6.0), (3000, 4.0), (20_000, 2.8)) if count <= most), 2.0
    )
