"""What a column says, as colours: a legend of categories, or a bar of numbers or times.

It is made of the first sample, and keeps its colours while further samples come.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

import numpy as np
import pandas as pd

from ngdata._arguments.numbers import number_text
from ngdata._arguments.palette import GREY, PALETTE, SCALE, packed
from ngdata._arguments.shown import shown
from ngdata._arguments.texts import STR
from ngdata.errors import InvalidQueryError

__all__ = ["Bar", "Coloring", "Entry", "coloring_of"]

Entry = tuple[str, str]
"""A colour as ``#rrggbb``, and what it stands for."""

# Steps of a bar's colours; a picture with few colours is small.
_STEPS: Final = 64

_PALETTE: Final = np.array([packed(color) for color in PALETTE], np.uint32)
_GREY: Final = packed(GREY)


class Coloring(ABC):
    """Colours of points, and what explains them."""

    title: str = ""

    @abstractmethod
    def colors(self, values: pd.Series[Any] | None, count: int) -> np.ndarray:
        """Return a packed colour for each of `count` points."""

    @property
    def entries(self) -> list[Entry]:
        """The legend."""
        return []


class _One(Coloring):
    """The same colour for all points."""

    def colors(self, values: pd.Series[Any] | None, count: int) -> np.ndarray:
        """Return the first colour of the palette."""
        return np.full(count, _PALETTE[0], np.uint32)


class _Categories(Coloring):
    """A colour for each of the most frequent values of the first sample.

    A value that comes later gets a colour while there is one left.
    """

    def __init__(self, values: pd.Series[Any], title: str) -> None:
        self.title = title
        counts = values.dropna().astype(STR).value_counts()
        names = sorted(counts.index, key=lambda name: (-counts[name], name))
        self._names = names[: len(PALETTE)]
        self._has_others = len(names) > len(PALETTE)
        self._has_missing = bool(values.isna().any())

    def colors(self, values: pd.Series[Any] | None, count: int) -> np.ndarray:
        """Return the colours of values, grey for missing and rare ones."""
        assert values is not None
        codes, uniques = pd.factorize(values)
        names = [str(name) for name in uniques]
        for name in names:
            if name not in self._names and len(self._names) < len(PALETTE):
                self._names.append(name)
        places = {name: place for place, name in enumerate(self._names)}
        self._has_others |= any(name not in places for name in names)
        self._has_missing |= bool((codes < 0).any())
        palette = [_PALETTE[places[name]] if name in places else _GREY for name in names]
        # The last one is that of code -1.
        return np.array([*palette, _GREY], np.uint32)[codes]

    @property
    def entries(self) -> list[Entry]:
        """The values by frequency, then what is grey."""
        entries = list(zip(PALETTE, self._names, strict=False))
        grey = [text for text, is_there in self._grey() if is_there]
        return entries + ([(GREY, " and ".join(grey))] if grey else [])

    def _grey(self) -> list[tuple[str, bool]]:
        return [("others", self._has_others), ("missing", self._has_missing)]


class Bar(Coloring):
    """Colours along a scale, from the least number of the first sample to the largest."""

    def __init__(self, values: pd.Series[Any], title: str) -> None:
        self.title = title
        self._is_time = pd.api.types.is_datetime64_any_dtype(values.dtype)
        numbers = _numbers(values)
        finite = numbers[np.isfinite(numbers)]
        self.low, self.high = (
            (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
        )
        self._is_cut = [False, False]
        self._has_grey = False
        places = np.linspace(0, len(SCALE) - 1, _STEPS)
        channels = np.array([[packed(c) >> shift & 255 for shift in (16, 8, 0)] for c in SCALE])
        red, green, blue = (
            np.interp(places, np.arange(len(SCALE)), channel).round().astype(np.uint32)
            for channel in channels.T
        )
        self._steps = red << 16 | green << 8 | blue

    def colors(self, values: pd.Series[Any] | None, count: int) -> np.ndarray:
        """Return the colours of values; those beyond the ends have the colours of the ends."""
        assert values is not None
        numbers = _numbers(values)
        finite = np.isfinite(numbers)
        kept = numbers[finite]
        self._has_grey |= not finite.all()
        if len(kept):
            self._is_cut[0] |= bool(kept.min() < self.low)
            self._is_cut[1] |= bool(kept.max() > self.high)
        # Halves: the difference of two floats may be no float.
        span = self.high / 2 - self.low / 2
        shares = (
            np.clip((kept / 2 - self.low / 2) / span, 0, 1) if span else np.full(len(kept), 0.5)
        )
        colors = np.full(len(numbers), _GREY, np.uint32)
        colors[finite] = self._steps[(shares * (_STEPS - 1)).round().astype(np.intp)]
        return colors

    @property
    def ends(self) -> tuple[str, str]:
        """What the two ends of the bar say."""
        texts = [self._text(end) for end in (self.low, self.high)]
        return (
            ("≤ " if self._is_cut[0] else "") + texts[0],
            ("≥ " if self._is_cut[1] else "") + texts[1],
        )

    @property
    def entries(self) -> list[Entry]:
        """What the bar does not show."""
        return [(GREY, "missing or infinite")] if self._has_grey else []

    def _text(self, value: float) -> str:
        if not self._is_time:
            return number_text(value, 6)
        return pd.Timestamp(np.datetime64(round(value), "us")).strftime("%Y-%m-%d %H:%M:%S")


def coloring_of(values: pd.Series[Any] | None, name: str | None) -> Coloring:
    """Return the colours for a column of a first sample; one colour without a column.

    Text of numbers, as `metadata.KEY` has them, is numbers if there are more than the palette's colours.

    Raises
    ------
    InvalidQueryError
        The column holds something else than text, numbers or times.
    """
    if values is None or name is None:
        return _One()
    dtype = values.dtype
    if pd.api.types.is_datetime64_any_dtype(dtype) or pd.api.types.is_numeric_dtype(dtype):
        return Bar(values, name)
    present = values.dropna()
    if len(present) and not isinstance(present.iloc[0], str):
        raise InvalidQueryError(
            f"color must be a column of text, numbers or times, and {shown(name)} holds "
            f"{type(present.iloc[0]).__name__}; one value of metadata is metadata.KEY"
        )
    if present.nunique() > len(PALETTE) and np.isfinite(_numbers(present)).all():
        return Bar(values, name)
    return _Categories(values, name)


def _numbers(values: pd.Series[Any]) -> np.ndarray:
    """Return a column as float64, times as microseconds, and NaN for anything else."""
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        present = values.notna().to_numpy()
        numbers = np.full(len(values), np.nan)
        ticks = values[present].dt.as_unit("us").astype("int64")
        numbers[present] = ticks.to_numpy(np.float64)
        return numbers
    numeric = pd.to_numeric(values, errors="coerce")
    return numeric.to_numpy(np.float64, na_value=np.nan)
