"""Times with a time zone or as milliseconds, rounded down, or up as bounds of a window."""

import datetime as dt
import zoneinfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngdata._arguments.times import as_utc, check_epoch_unit, first_microsecond, is_missing
from ngdata.errors import InvalidQueryError

NANOSECONDS = st.integers(-(2**62), 2**62)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@settings(deadline=None, derandomize=True, database=None)
@given(NANOSECONDS)
def test_times_round_down_and_bounds_round_up(nanoseconds):
    stamp = pd.Timestamp(nanoseconds, unit="ns", tz="Asia/Kathmandu")
    down, rest = divmod(nanoseconds, 1000)
    assert as_utc(stamp, "t") == EPOCH + dt.timedelta(microseconds=down)
    up = down + (rest > 0)
    assert first_microsecond(stamp, "t") == EPOCH + dt.timedelta(microseconds=up)
    assert first_microsecond(stamp.tz_convert("UTC").isoformat(), "t") == EPOCH + dt.timedelta(
        microseconds=up
    )


@settings(deadline=None, derandomize=True, database=None)
@given(
    st.datetimes(
        timezones=st.timezones(),
        min_value=dt.datetime(1, 1, 3),
        max_value=dt.datetime(9999, 12, 29),
    )
)
def test_any_time_zone(moment):
    result = as_utc(moment, "t")
    assert result == moment.astimezone(dt.UTC)
    assert result.tzinfo is dt.UTC


def test_an_ambiguous_hour():
    first, second = (
        dt.datetime.fromisoformat("2024-10-27T02:30").replace(
            fold=fold, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")
        )
        for fold in (0, 1)
    )
    assert as_utc(second, "t") - as_utc(first, "t") == dt.timedelta(hours=1)


@settings(deadline=None, derandomize=True, database=None)
@given(
    st.integers(-62_135_596_800_000, 315_532_799) | st.integers(7_289_654_400, 253_402_300_799_999)
)
def test_integers_are_milliseconds(milliseconds):
    expected = EPOCH + dt.timedelta(milliseconds=milliseconds)
    assert as_utc(milliseconds, "t") == as_utc(np.int64(milliseconds), "t") == expected


def test_the_first_and_last_times():
    last = "9999-12-31T23:59:59.999999"
    assert as_utc(f"{last}Z", "t").isoformat() == f"{last}+00:00"
    assert as_utc("0001-01-01T00:00Z", "t").year == 1
    for beyond in (f"{last}-00:01", "0001-01-01T00:00+00:01"):
        with pytest.raises(
            InvalidQueryError, match=r"t must be a time in the years 1 to 9999, not"
        ):
            as_utc(beyond, "t")


@pytest.mark.parametrize("value", [None, np.nan, float("nan"), pd.NaT, pd.NA, np.float32("nan")])
def test_missing(value):
    assert is_missing(value)
    with pytest.raises(InvalidQueryError, match="t must be a time"):
        as_utc(value, "t")


@pytest.mark.parametrize("value", [0, "", False, [], {}, np.datetime64(0, "s")])
def test_not_missing(value):
    assert not is_missing(value)


_SECONDS = (dt.datetime(1980, 1, 1, tzinfo=dt.UTC), dt.datetime(2200, 12, 31, tzinfo=dt.UTC))


@pytest.mark.parametrize("moment", [*_SECONDS, dt.datetime(2023, 11, 14, tzinfo=dt.UTC)])
@pytest.mark.parametrize(
    ("unit", "per_second"), [("seconds", 1), ("microseconds", 10**6), ("nanoseconds", 10**9)]
)
@pytest.mark.parametrize("kind", [int, np.int64])
def test_integers_of_another_unit(moment, unit, per_second, kind):
    seconds = (moment - EPOCH) // dt.timedelta(seconds=1)
    number = kind(seconds * per_second)
    for check in (as_utc, first_microsecond):
        with pytest.raises(InvalidQueryError) as caught:
            check(number, "start")
        assert str(caught.value) == (
            f"start must be in milliseconds since the epoch, but {number} looks like {unit}"
            f" ({moment.isoformat()}); pass {seconds * 1000}, or a time with a time zone"
        )
    assert as_utc(seconds * 1000, "start") == moment


@pytest.mark.parametrize("number", [0, 1, -1, 1000, 900_000, 86_400_000, -62_135_596_800_000])
def test_integers_of_no_likely_unit_are_milliseconds(number):
    assert as_utc(number, "t") == EPOCH + dt.timedelta(milliseconds=number)


def test_a_column_is_of_another_unit_only_if_all_its_rows_are():
    check_epoch_unit("timestamp", 0, 1_700_000_000)
    check_epoch_unit("timestamp", 1_700_000_000, 1_700_000_000_000)
    with pytest.raises(InvalidQueryError, match=r"timestamp must be in milliseconds .* seconds"):
        check_epoch_unit("timestamp", 1_600_000_000, 1_700_000_000)


@pytest.mark.parametrize("text", ["2026-02-01T00:00Z", "20260201T000000Z", "2026-02-01 00:00 UTC"])
def test_text_in_iso_8601(text):
    assert as_utc(text, "start") == dt.datetime(2026, 2, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "text", ["01/02/2026 00:00Z", "31/01/2026 00:00Z", "01-02-2026 00:00Z", "12:00Z", "now", ""]
)
def test_text_that_pandas_reads_in_its_own_way(text):
    with pytest.raises(InvalidQueryError, match=f"^start must be a time, not '{text}'.*ISO 8601"):
        as_utc(text, "start")
