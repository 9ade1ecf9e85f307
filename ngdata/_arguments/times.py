"""Times as arguments: with a time zone, or as milliseconds since the epoch."""

from __future__ import annotations

import datetime as dt
from typing import Final, TypeAlias

import numpy as np
import pandas as pd

from ngdata._arguments.numbers import as_integer
from ngdata.errors import InvalidQueryError

__all__ = ["EPOCH", "MICROSECOND", "Time", "as_utc", "first_microsecond", "is_missing"]

Time: TypeAlias = dt.datetime | pd.Timestamp | int | str

EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND: Final = dt.timedelta(microseconds=1)


def is_missing(value: object) -> bool:
    """Return whether a value is None, NaN, NaT or `pandas.NA`."""
    return (
        value is None
        or value is pd.NaT
        or value is pd.NA
        or (isinstance(value, float | np.floating) and bool(np.isnan(value)))
    )


def as_utc(value: object, name: str) -> dt.datetime:
    """Return a time as an aware `datetime` in UTC, rounded down to the microsecond.

    Parameters
    ----------
    value : datetime, pandas.Timestamp, int or str
        With a time zone; an integer is milliseconds since the epoch; text is ISO 8601.
    name : str
        The argument's name, for the error.

    Raises
    ------
    InvalidQueryError
        If the time has no time zone, or is outside the years 1 to 9999.

    Examples
    --------
    >>> from ngdata._arguments.times import as_utc
    >>> as_utc(1_700_000_000_000, "start").isoformat()
    '2023-11-14T22:13:20+00:00'
    """
    if isinstance(value, bool | np.bool_) or is_missing(value):
        raise InvalidQueryError(f"{name} must be a time, not {value!r}")
    try:
        milliseconds = as_integer(value)
        if milliseconds is not None:
            return EPOCH + dt.timedelta(milliseconds=milliseconds)
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
                    f"{name} must have a time zone, but is {value}; pass for instance "
                    f"pd.Timestamp({str(value)!r}, tz='UTC')"
                )
            return value.astimezone(dt.UTC)
    except (OverflowError, ValueError) as error:
        if isinstance(error, InvalidQueryError):
            raise
        # repr fails for a Timestamp beyond the years of datetime.
        shown = f"{value.asm8} UTC" if isinstance(value, pd.Timestamp) else repr(value)
        raise InvalidQueryError(
            f"{name} must be a time in the years 1 to 9999, not {shown}: {error}"
        ) from None
    raise InvalidQueryError(
        f"{name} must be a datetime or Timestamp with a time zone, or an integer of milliseconds "
        f"since the epoch, not {value!r}"
    )


def first_microsecond(value: object, name: str) -> dt.datetime:
    """Return a time as a bound of a window: rounded up to the microsecond.

    Stored times are whole microseconds, so ``t >= bound`` and ``t < bound`` keep their meaning
    when a bound's nanoseconds are rounded up.

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
            return floor + MICROSECOND
        except OverflowError:
            raise InvalidQueryError(
                f"{name} must be a time in the years 1 to 9999, not {value!r}"
            ) from None
    return floor
