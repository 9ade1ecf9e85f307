"""Time steps of equal length, or of whole days in a zone, without gaps."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from ngdata._query.events import has_days

__all__ = ["filled", "labelled"]


def filled(
    steps: pd.DataFrame, step: dt.timedelta, zone: dt.tzinfo, check_size: Callable[[int], None]
) -> pd.DataFrame:
    """Return the answer of `rewards` with the steps that have no event, and with times in the zone.

    Parameters
    ----------
    steps : pandas.DataFrame
        By time; the first column is the start of a step, or its first day.
    step : datetime.timedelta
    zone : datetime.tzinfo
    check_size : callable
        Raises if there would be too many rows.
    """
    starts = _starts(steps, step)
    unit: int | np.timedelta64[Any]
    unit = step // dt.timedelta(days=1) if has_days(step) else np.timedelta64(step)
    positions = (starts - starts[:1]) // unit
    length = int(positions[-1]) + 1 if len(positions) else 0
    check_size(length)
    all_starts = starts[:1].repeat(length) + np.arange(length) * unit
    times = _times(all_starts, step, zone)
    columns = {"count": np.zeros(length, np.int64), "total_reward": np.zeros(length)}
    columns["mean_reward"] = np.full(length, np.nan)
    for name, values in columns.items():
        values[positions] = steps[name]
    frame = pd.DataFrame({"timestamp": times, **columns})
    if has_days(step):
        # A date that a zone left out has no step.
        frame = frame.drop_duplicates("timestamp", keep="last", ignore_index=True)
    frame.attrs = steps.attrs
    return frame


def labelled(steps: pd.DataFrame, step: dt.timedelta, zone: dt.tzinfo) -> pd.DataFrame:
    """Return the answer of `counts` with the starts of the steps as times in the zone."""
    times = _times(_starts(steps, step), step, zone)
    frame = steps.rename(columns={steps.columns[0]: "timestamp"})
    frame["timestamp"] = times
    return frame


def _starts(steps: pd.DataFrame, step: dt.timedelta) -> np.ndarray[Any, Any]:
    """Return the first column of an answer: days as integers, or times in UTC without a zone."""
    first = steps.iloc[:, 0]
    return (first if has_days(step) else first.dt.tz_localize(None)).to_numpy()


def _times(starts: np.ndarray[Any, Any], step: dt.timedelta, zone: dt.tzinfo) -> pd.DatetimeIndex:
    """Return the starts of steps as times in the zone."""
    if has_days(step):
        return _first_moments(starts.astype("M8[D]"), zone)
    return pd.DatetimeIndex(starts).tz_localize("UTC").tz_convert(zone)


def _first_moments(
    days: np.ndarray[Any, np.dtype[np.datetime64]], zone: dt.tzinfo
) -> pd.DatetimeIndex:
    """Return when dates begin: midnight, unless the clocks change then.

    For a date that a zone left out, as it crossed the date line, this is the start of the next one.
    """

    def localized() -> pd.DatetimeIndex:
        return pd.DatetimeIndex(days.astype("M8[us]")).tz_localize(
            zone, ambiguous=np.ones(len(days), np.bool_), nonexistent="shift_forward"
        )

    times = localized()
    left_out = times.tz_localize(None).to_numpy().astype("M8[D]") != days
    if left_out.any():
        # pandas shifts by the change of the clock, not to its first moment.
        days = days + left_out
        times = localized()
    return times
