"""Times as arguments: with a time zone, or as milliseconds since the epoch."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from ngdata._arguments.numbers import as_integer
from ngdata._arguments.shown import guarded, shown
from ngdata.errors import InvalidQueryError

__all__ = [
    "EPOCH",
    "MICROSECOND",
    "Time",
    "as_utc",
    "check_epoch_unit",
    "first_microsecond",
    "is_missing",
]

Time: TypeAlias = dt.datetime | pd.Timestamp | int | str

EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND: Final = dt.timedelta(microseconds=1)

# How text in ISO 8601 begins: year, month, day.  pandas reads 01/02/2020 as January, and 12:00 as today.
_ISO_DATE: Final = re.compile(r"\s*[0-9]{4}(?:-[0-9]{1,2}-|[0-9]{4}(?![0-9]))")

# The first seconds of the years 1980 and 2201: the times that a caller is likely to mean.
_LIKELY_SECONDS: Final = range(315_532_800, 7_289_654_400)

# How many of each unit make a second.  No number is likely in two units, milliseconds included.
_UNITS: Final = {"seconds": 1, "microseconds": 10**6, "nanoseconds": 10**9}


def is_missing(value: object) -> bool:
    """Return whether a value is None, NaN, NaT or `pandas.NA`."""
    return (
        value is None
        or value is pd.NaT
        or value is pd.NA
        or (isinstance(value, float | np.floating) and bool(np.isnan(value)))
    )


def check_epoch_unit(name: str, low: int, high: int | None = None) -> None:
    """Raise if integers that should be milliseconds since the epoch are likely of another unit.

    They are if they all lie in the years 1980 to 2200 when read as seconds, microseconds or
    nanoseconds.  Read as milliseconds, such numbers are days of early 1970, or years after 9999.
    Numbers that are likely in no unit, such as 0 and 1000, are accepted.

    Parameters
    ----------
    name : str
        The argument's or column's name, for the error.
    low, high : int
        The least and the greatest of the integers of a column; a single integer is `low` alone.

    Raises
    ------
    InvalidQueryError
        The error names the unit and what to pass instead.

    Examples
    --------
    >>> from ngdata._arguments.times import check_epoch_unit
    >>> check_epoch_unit("start", 1_700_000_000_000)
    >>> check_epoch_unit("start", 1_700_000_000)
    Traceback (most recent call last):
    ngdata.errors.InvalidQueryError: start must be in milliseconds since the epoch, but 1700000000 \
looks like seconds (2023-11-14T22:13:20+00:00); pass 1700000000000, or a time with a time zone
    """
    for unit, per_second in _UNITS.items():
        seconds = low // per_second
        if seconds in _LIKELY_SECONDS and (low if high is None else high) // per_second in (
            _LIKELY_SECONDS
        ):
            time = (EPOCH + dt.timedelta(seconds=seconds)).isoformat()
            instead = f"{low * 1000 // per_second}, or a time with a time zone"
            if high is not None:
                code = unit[: -len("seconds")].replace("micro", "u").replace("nano", "n") + "s"
                instead = f'pd.to_datetime(column, unit="{code}", utc=True)'
            raise InvalidQueryError(
                f"{name} must be in milliseconds since the epoch, but {low} looks like {unit} "
                f"({time}); pass {instead}"
            )


@guarded
def as_utc(value: Any, name: str, *, check_unit: bool = True) -> dt.datetime:
    """Return a time as an aware `datetime` in UTC, rounded down to the microsecond.

    Parameters
    ----------
    value : datetime, pandas.Timestamp, int or str
        With a time zone; an integer is milliseconds since the epoch; text is ISO 8601.
    name : str
        The argument's name, for the error.
    check_unit : bool
        Whether `check_epoch_unit` checks an integer; a column is checked as a whole.

    Raises
    ------
    InvalidQueryError
        If the time has no time zone, is outside the years 1 to 9999, or is an integer that looks
        like seconds, microseconds or nanoseconds.

    Examples
    --------
    >>> from ngdata._arguments.times import as_utc
    >>> as_utc(1_700_000_000_000, "start").isoformat()
    '2023-11-14T22:13:20+00:00'
    """
    if type(value) is dt.datetime and value.tzinfo is dt.UTC:
        return value
    if isinstance(value, bool | np.bool_) or is_missing(value):
        raise InvalidQueryError(f"{name} must be a time, not {shown(value)}")
    try:
        milliseconds = as_integer(value)
        if milliseconds is not None:
            if check_unit:
                check_epoch_unit(name, milliseconds)
            return EPOCH + dt.timedelta(milliseconds=milliseconds)
        if isinstance(value, str) and not _ISO_DATE.match(value):
            raise InvalidQueryError(
                f"{name} must be a time, not {shown(value)}; write text in ISO 8601 with a time "
                "zone, such as '2026-01-31T12:00Z'"
            )
        if isinstance(value, np.datetime64 | str):
            stamp = pd.Timestamp(value)
            if is_missing(stamp):
                raise InvalidQueryError(f"{name} must be a time, not {shown(value)}")
            value = stamp
        if isinstance(value, pd.Timestamp):
            value = value.to_pydatetime(warn=False)
        if isinstance(value, dt.datetime):
            if value.utcoffset() is None:
                raise InvalidQueryError(
                    f"{name} must have a time zone, but is {str(value)[:50]}; pass for "
                    f"instance pd.Timestamp({str(value)[:50]!r}, tz='UTC')"
                )
            utc = value.astimezone(dt.UTC)
            # A subclass of datetime may compare in its own way.
            return (
                utc if type(utc) is dt.datetime else dt.datetime.combine(utc.date(), utc.timetz())
            )
    except (OverflowError, ValueError) as error:
        if isinstance(error, InvalidQueryError):
            raise
        # repr fails for a Timestamp beyond the years of datetime.
        text = f"{value.asm8} UTC" if isinstance(value, pd.Timestamp) else shown(value)
        raise InvalidQueryError(
            f"{name} must be a time in the years 1 to 9999, not {text}: {str(error)[:200]}"
        ) from None
    raise InvalidQueryError(
        f"{name} must be a datetime or Timestamp with a time zone, or an integer of milliseconds "
        f"since the epoch, not {shown(value)}"
    )


@guarded
def first_microsecond(value: Any, name: str) -> dt.datetime:
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
                f"{name} must be a time in the years 1 to 9999, not {shown(value)}"
            ) from None
    return floor
