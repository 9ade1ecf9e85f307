"""Points in time as they come in: with a zone, or as milliseconds since the epoch."""

from __future__ import annotations

import datetime as dt
import numbers
from typing import Final, TypeAlias

import numpy as np
import pandas as pd

from ngdata.errors import InvalidQueryError

__all__ = ["Time", "as_utc", "first_microsecond", "is_missing"]

Time: TypeAlias = dt.datetime | pd.Timestamp | int | str

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)


def is_missing(value: object) -> bool:
    """Tell whether a value says "not given": None, NaN or NaT."""
    return (
        value is None
        or value is pd.NaT
        or value is pd.NA
        or (isinstance(value, float | np.floating) and bool(np.isnan(value)))
    )


def as_utc(value: object, name: str) -> dt.datetime:
    """Give a point in time as an aware `datetime` in UTC, to the microsecond, rounded down.

    Parameters
    ----------
    value : datetime, pandas.Timestamp, int or str
        With a zone; an integer is milliseconds since the epoch; a string is ISO 8601.
    name : str
        What the value is called, for the error.

    Raises
    ------
    InvalidQueryError
        For a time without a zone, or outside the years 1 to 9999.

    Examples
    --------
    >>> from ngdata._arguments.times import as_utc
    >>> as_utc(1_700_000_000_000, "start").isoformat()
    '2023-11-14T22:13:20+00:00'
    """
    if isinstance(value, bool | np.bool_) or is_missing(value):
        raise InvalidQueryError(f"{name} must be a time, not {value!r}")
    try:
        if isinstance(value, numbers.Integral) and not isinstance(value, np.timedelta64):
            return _EPOCH + dt.timedelta(milliseconds=int(value))
        if isinstance(value, np.datetime64 | str):
            stamp = pd.Timestamp(value)
            if is_missing(stamp):
                raise InvalidQueryError(f"{name} must be a time, not {value!r}")
            value = stamp
        if isinstance(value, pd.Timestamp):
            value = value.to_pydatetime(warn=False)
        if isinstance(value, dt.datetime):
            if value.utcoffset() is None:
                raise InvalidQueryError(
                    f"{name} is {value}, which has no time zone; say which it is, for instance "
                    f"pd.Timestamp({str(value)!r}, tz='UTC')"
                )
            return value.astimezone(dt.UTC)
    except (OverflowError, ValueError) as error:
        if isinstance(error, InvalidQueryError):
            raise
        # pandas cannot write a Timestamp beyond Python's years.
        shown = f"{value.asm8} UTC" if isinstance(value, pd.Timestamp) else repr(value)
        raise InvalidQueryError(
            f"{name} is {shown}, which is no time that can be used: {error}"
        ) from None
    raise InvalidQueryError(
        f"{name} must be a datetime or Timestamp with a time zone, or an integer of milliseconds "
        f"since the epoch, not {value!r}"
    )


def first_microsecond(value: object, name: str) -> dt.datetime:
    """Give the first whole microsecond that is not before a time: a bound of a window.

    Stored times are whole microseconds, so ``t >= bound`` and ``t < bound`` keep their meaning
    when nanoseconds of the bound are rounded up.

    Examples
    --------
    >>> import pandas as pd
    >>> from ngdata._arguments.times import first_microsecond
    >>> first_microsecond(pd.Timestamp(1, unit="ns", tz="UTC"), "start").microsecond
    1
    """
    floor = as_utc(value, name)
    stamp = pd.Timestamp(value) if isinstance(value, np.datetime64 | str) else value
    if isinstance(stamp, pd.Timestamp) and stamp.nanosecond:
        try:
            return floor + _MICROSECOND
        except OverflowError:
            raise InvalidQueryError(
                f"{name} is {value!r}, which lies beyond the year 9999"
            ) from None
    return floor
