"""Durations as arguments (timedeltas, seconds, text), and frequencies: the steps of a time axis."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from ngdata._arguments.numbers import as_float
from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.times import is_missing
from ngdata.errors import InvalidQueryError

__all__ = ["Duration", "Frequency", "as_duration", "as_step"]

Duration: TypeAlias = dt.timedelta | np.timedelta64 | float | str
Frequency: TypeAlias = dt.timedelta | np.timedelta64 | pd.offsets.BaseOffset | float | str

# In microseconds this is an integer that float64 holds exactly, so the server's sums are exact.
_MAXIMUM: Final = dt.timedelta(days=36_525)


@guarded
def as_duration(value: Any, name: str) -> dt.timedelta:
    """Return a duration to the microsecond: at least 0, at most a century.

    Parameters
    ----------
    value : timedelta, number or str
        A number is seconds; text is in the form of `pandas.Timedelta`.
    name : str
        The argument's name, for the error.

    Raises
    ------
    InvalidQueryError
        If the value is not a duration, or out of these bounds.

    Examples
    --------
    >>> from ngdata._arguments.durations import as_duration
    >>> as_duration("1.5s", "before")
    datetime.timedelta(seconds=1, microseconds=500000)
    """
    duration = _timedelta(value)
    if duration is None:
        raise InvalidQueryError(
            f"{name} must be a timedelta, a number of seconds, or text such as '5s', not {shown(value)}"
        )
    if not pd.Timedelta(0) <= duration <= _MAXIMUM:
        raise InvalidQueryError(
            f"{name} must be from 0 to {_MAXIMUM.days:,} days, not {shown(value)}"
        )
    return duration.to_pytimedelta()


@guarded
def as_step(freq: Any, name: str = "freq") -> dt.timedelta:
    """Return the length of a frequency's steps: whole microseconds, at most a century.

    Parameters
    ----------
    freq : timedelta, pandas offset, number or str
        A number is seconds; text is a pandas frequency (``"15min"``, ``"h"``, ``"7D"``).
    name : str
        The argument's name, for the error.

    Raises
    ------
    InvalidQueryError
        If the value is not a frequency, or its steps differ in length, as months do.

    Examples
    --------
    >>> from ngdata._arguments.durations import as_step
    >>> as_step("15min")
    datetime.timedelta(seconds=900)
    """
    length: Any = freq
    if isinstance(freq, str | pd.offsets.BaseOffset):
        try:
            offset = to_offset(freq)
        except ValueError:
            offset = None
        if isinstance(offset, pd.offsets.Tick):
            length = pd.Timedelta(offset)
        elif isinstance(offset, pd.offsets.Day):
            length = pd.Timedelta(days=offset.n)  # in UTC, all days have the same length
        elif offset is not None:
            raise InvalidQueryError(
                f"{name} must have steps of equal length, such as '15min', 'h' or '7D', not {shown(freq)}"
            )
    duration = _timedelta(length)
    if duration is None:
        raise InvalidQueryError(
            f"{name} must be a timedelta, a number of seconds, or a frequency such as '15min', not "
            f"{shown(freq)}"
        )
    step = duration.to_pytimedelta() if pd.Timedelta(0) < duration <= _MAXIMUM else None
    if step is None or duration != step:
        raise InvalidQueryError(
            f"{name} must be a whole number of microseconds, at least 1 and at most {_MAXIMUM.days:,} days, not {shown(freq)}"
        )
    return step


def _timedelta(value: object) -> pd.Timedelta | None:
    """Return a duration; None for any other value."""
    if is_missing(value) or (isinstance(value, np.timedelta64) and np.isnat(value)):
        return None
    try:
        if isinstance(value, dt.timedelta | np.timedelta64):
            return pd.Timedelta(value)
        # pandas reads text without a unit as nanoseconds.
        if isinstance(value, str):
            return None if value.strip("+-. 0123456789") == "" else pd.Timedelta(value)
        seconds = as_float(value)
        return None if seconds is None else pd.Timedelta(dt.timedelta(seconds=seconds))
    except (ValueError, OverflowError):
        return None
