"""Time steps of equal length, or of whole days in a zone, without gaps."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from ngdata._query.events import has_days

__all__ = ["filled"]


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
    first = steps.iloc[:, 0]
    unit: int | np.timedelta64[Any]
    if has_days(step):
        starts, unit = first.to_numpy(), step // dt.timedelta(days=1)
    else:
        starts, unit = first.dt.tz_localize(None).to_numpy(), np.timedelta64(step)
    positions = (starts - starts[:1]) // unit
    length = int(positions[-1]) + 1 if len(positions) else 0
    check_size(length)
    all_starts = starts[:1].repeat(length) + np.arange(length) * unit
    if has_days(step):
        times = _first_moments(all_starts.astype("M8[D]"), zone)
    else:
        times = pd.DatetimeIndex(all_starts).tz_localize("UTC").tz_convert(zone)
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
