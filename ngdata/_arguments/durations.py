"""Lengths of time as they come in: timedeltas, seconds, text; and the steps of a time axis."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from ngdata._arguments.numbers import as_float
from ngdata._arguments.times import is_missing
from ngdata.errors import InvalidQueryError

__all__ = ["Duration", "Frequency", "as_duration", "as_step"]

Duration: TypeAlias = dt.timedelta | np.timedelta64 | float | str
Frequency: TypeAlias = dt.timedelta | np.timedelta64 | pd.offsets.BaseOffset | float | str

# As microseconds, an integer that float64 holds exactly; so the server counts exactly too.
_MOST: Final = dt.timedelta(days=36_525)


def as_duration(value: object, name: str) -> dt.timedelta:
    """Give a length of time to the microsecond: at least nothing, at most a century.

    Parameters
    ----------
    value : timedelta, number or str
        A number is seconds; text is as `pandas.Timedelta` reads it.
    name : str
        What the value is called, for the error.

    Raises
    ------
    InvalidQueryError
        For what is no length of time, negative, or longer.

    Examples
    --------
    >>> from ngdata._arguments.durations import as_duration
    >>> as_duration("1.5s", "before")
    datetime.timedelta(seconds=1, microseconds=500000)
    """
    found = _timedelta(value)
    if found is None:
        raise InvalidQueryError(
            f"{name} must be a timedelta, a number of seconds, or text such as '5s', not {value!r}"
        )
    if not pd.Timedelta(0) <= found <= _MOST:
        raise InvalidQueryError(
            f"{name} must be at least 0, and at most {_MOST.days:,} days, not {value!r}"
        )
    return found.to_pytimedelta()


def as_step(freq: object, name: str = "freq") -> dt.timedelta:
    """Give a frequency as the length of its steps: whole microseconds, at most a century.

    Parameters
    ----------
    freq : timedelta, pandas offset, number or str
        A number is seconds; text is pandas' (``"15min"``, ``"h"``, ``"7D"``).
    name : str
        What the value is called, for the error.

    Raises
    ------
    InvalidQueryError
        For what is no frequency, or one whose steps differ in length, as months do.

    Examples
    --------
    >>> from ngdata._arguments.durations import as_step
    >>> as_step("15min")
    datetime.timedelta(seconds=900)
    """
    given: Any = freq
    if isinstance(freq, str | pd.offsets.BaseOffset):
        try:
            offset = to_offset(freq)
        except ValueError:
            offset = None
        if isinstance(offset, pd.offsets.Tick):
            given = pd.Timedelta(offset)
        elif isinstance(offset, pd.offsets.Day):
            given = pd.Timedelta(days=offset.n)  # no day of UTC is longer than another
        elif offset is not None:
            raise InvalidQueryError(
                f"{name} must have steps of one length, as '15min', 'h' or '7D' have, not {freq!r}"
            )
    found = _timedelta(given)
    if found is None:
        raise InvalidQueryError(
            f"{name} must be a timedelta, a number of seconds, or a frequency such as '15min', not "
            f"{freq!r}"
        )
    step = found.to_pytimedelta() if pd.Timedelta(0) < found <= _MOST else None
    if step is None or found != step:
        raise InvalidQueryError(
            f"{name} must be whole microseconds, at least one, and at most {_MOST.days:,} days, "
            f"not {freq!r}"
        )
    return step


def _timedelta(value: object) -> pd.Timedelta | None:
    """Read a length of time, or give None for what is none."""
    if is_missing(value) or (isinstance(value, np.timedelta64) and np.isnat(value)):
        return None
    try:
        if isinstance(value, dt.timedelta | np.timedelta64):
            return pd.Timedelta(value)
        # Text without a unit would be nanoseconds.
        if isinstance(value, str):
            return None if value.strip("+-. 0123456789") == "" else pd.Timedelta(value)
        seconds = as_float(value)
        return None if seconds is None else pd.Timedelta(dt.timedelta(seconds=seconds))
    except (ValueError, OverflowError):
        return None
