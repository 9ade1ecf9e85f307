"""Invalid arguments: a typed error names them before anything is sent."""

import datetime as dt
import math
import uuid

import numpy as np
import pandas as pd
import pytest

from ngdata._arguments.durations import as_duration, as_step
from ngdata._arguments.texts import STR
from ngdata._reading.flatten import flatten_dicts
from ngdata.errors import InvalidQueryError, NotFoundError

NOBODY = "00000000-0000-4000-8000-00000000dead"
NAIVE = dt.datetime(2024, 1, 1)
BOX = (0, 0, 0), (1, 1, 1)


def refused(match):
    return pytest.raises(InvalidQueryError, match=match)


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (0, 0),
        (1.5, 1.5),
        (np.float32(0.5), 0.5),
        ("5s", 5),
        ("1.5h", 5400),
        (dt.timedelta(days=1), 86_400),
        (np.timedelta64(5, "ms"), 0.005),
        (pd.Timedelta("2min"), 120),
    ],
)
def test_durations(value, result):
    assert as_duration(value, "before") == dt.timedelta(seconds=result)


@pytest.mark.parametrize("value", [-1, "-5s", pd.Timedelta(-1, "us"), 1e12, "NaT"])
def test_durations_that_are_negative_or_too_large(value):
    with refused("before must be from 0 to 36,525 days, not"):
        as_duration(value, "before")


@pytest.mark.parametrize("value", [math.nan, math.inf, True, None, "x", "5", [1], pd.NaT, NAIVE])
def test_values_that_are_not_durations(value):
    with refused("before must be a timedelta, a number of seconds, or text such as '5s'"):
        as_duration(value, "before")
    with refused("freq must be a timedelta, a number of seconds, or a frequency"):
        as_step(value)


@pytest.mark.parametrize(
    ("freq", "seconds"),
    [
        ("15min", 900),
        ("h", 3600),
        ("D", 86_400),
        ("7D", 604_800),
        ("1D12h", 129_600),
        (pd.offsets.Hour(2), 7200),
        (0.25, 0.25),
        ("1us", 1e-6),
    ],
)
def test_frequencies(freq, seconds):
    assert as_step(freq) == dt.timedelta(seconds=seconds)


@pytest.mark.parametrize("freq", ["W", "MS", "YE", pd.offsets.MonthEnd(), pd.offsets.BDay()])
def test_steps_of_different_lengths(freq):
    with refused("freq must have steps of equal length, such as '15min', 'h' or '7D', not"):
        as_step(freq)


@pytest.mark.parametrize("freq", [0, "0s", "-1h", "1ns", pd.Timedelta(1500, "ns"), "40000D"])
def test_steps_of_invalid_length(freq):
    with refused(
        "freq must be a whole number of microseconds, at least 1 and at most 36,525 days, not"
    ):
        as_step(freq)


def test_reads_check_all_arguments(ng):
    experience = ng.experience
    for read in (
        experience.get_events,
        experience.list_trajectories,
        lambda *window: experience.resample_rewards("1s", *window),
        lambda *window: experience.count_events("1s", start=window[0], end=window[1]),
        lambda *window: experience.activity_in_region(*BOX, start=window[0], end=window[1]),
    ):
        with refused("start must not be after end"):
            read(2, 1)
        with refused("start must have a time zone, but is 2024-01-01 00:00:00"):
            read(NAIVE, None)
        with refused("end must have a time zone, but is 2024-01-01 00:00:00"):
            read(None, NAIVE)
        assert read(1, 1).empty
    for read in (
        experience.get_events,
        experience.list_trajectories,
        lambda **options: experience.events_around(0, **options),
        lambda **options: experience.resample_rewards("1s", **options),
        lambda **options: experience.count_events("1s", "event_type", **options),
    ):
        with refused("are the two swapped"):
            read(within=BOX[::-1])
        for window in ("box", BOX[:1], (*BOX, 0, 0), 5):
            with refused("within must be"):
                read(within=window)
        with refused("level must be an integer from 0 to 7"):
            read(within=(*BOX, 8))
        with refused("event_type must be text"):
            read(event_type=5)
        with refused("must be a UUID"):
            read(token_ids=["x"])
    with refused("are the two swapped"):
        experience.activity_in_region(*BOX[::-1])
    with refused("level must be"):
        experience.activity_in_region(*BOX, 8)
    with refused("did you mean 'physical'"):
        experience.mean_position(NOBODY, "1s", "physcial")
    with refused("token_type must be text"):
        experience.activity_in_region(*BOX, token_type=5)
    for limit in (-1, 1.0, "1", True):
        for read in (
            experience.list_trajectories,
            lambda **options: experience.events_around(0, **options),
            lambda **options: experience.activity_in_region(*BOX, **options),
        ):
            with refused("limit must be None or an integer of at least 0"):
                read(limit=limit)
    for value in (-0.1, 1.1, math.nan, "1", True, None):
        with refused("discount must be a number from 0 to 1"):
            experience.get_trajectory(NOBODY, discount=value)
    for value in (1, "yes"):
        with refused("ended must be True, False or None"):
            experience.list_trajectories(ended=value)
    with refused("freq must have steps of equal length"):
        experience.mean_position(NOBODY, "ME")
    with refused("before must be from 0"):
        experience.events_around(0, -1)
    with refused("after must be from 0"):
        experience.events_around(0, 1, "-1s")


def test_an_event_or_a_time(ng):
    event = ng.experience.create_event("seen", 1000)
    for middle in (event, uuid.UUID(event), event.upper(), 1000, "1970-01-01T00:00:01Z"):
        result = ng.experience.events_around(middle)
        assert result.event_id.tolist() == [event]
        assert result.offset.tolist() == [pd.Timedelta(0)]
    assert ng.experience.events_around(999).empty
    assert ng.experience.events_around(999).dtypes.equals(result.dtypes)
    assert ng.experience.events_around(event, event_type="none").empty
    with pytest.raises(NotFoundError, match=f"no event in the store has the id {NOBODY}"):
        ng.experience.events_around(NOBODY, 1, 1)
    with refused("event_or_time must have a time zone, but is 2024-01-01 00:00:00"):
        ng.experience.events_around(NAIVE)
    with refused("event_or_time"):
        ng.experience.events_around("nothing")
    # A century before or after reaches beyond the years of datetime.
    assert ng.experience.events_around("9999-12-31T23:59Z", "36525D", "36525D").empty
    assert ng.experience.events_around("0001-01-01T00:00Z", "36525D", "36525D").empty


def test_the_time_zone_of_the_session_is_ignored(database_url, ng):
    """That day had 23 hours in Berlin; a step has 24 and starts at midnight UTC."""
    import ngdata

    ng.experience.bulk_create(
        {
            "event_type": "tick",
            "timestamp": pd.date_range("2024-03-30T12:00Z", periods=4, freq="12h"),
        }
    )
    with ngdata.connect(f"{database_url}&options=-c%20timezone%3DEurope/Berlin") as berlin:
        for freq in ("D", "h", "7D"):
            pd.testing.assert_frame_equal(
                berlin.experience.resample_rewards(freq), ng.experience.resample_rewards(freq)
            )
            pd.testing.assert_frame_equal(
                berlin.experience.count_events(freq), ng.experience.count_events(freq)
            )
        assert berlin.experience.resample_rewards("D")["count"].tolist() == [1, 2, 1]
        around = berlin.experience.events_around("2024-03-31T12:00Z", "24h", "12h")
        assert around.offset.dt.total_seconds().tolist() == [-86_400, -43_200, 0, 43_200]


def test_flattened_columns():
    frame = pd.DataFrame(
        {
            "n": [1, 2, 3],
            "b": [{"y": True, "x": [1, 2]}, None, {"z": {}, "": "text"}],
            "a": [{"k": {"m": 1}}, {"k": {"m": 2}}, {"k": {"m": 3}}],
        },
        index=[5, 5, 7],
    )
    result = flatten_dicts(frame, ["b", "a"])
    assert list(result.columns) == ["n", "b.", "b.x", "b.y", "b.z", "a.k.m"]
    assert result["a.k.m"].tolist() == [1, 2, 3]
    assert result["a.k.m"].dtype == "int64"
    assert result["b."].dtype == STR
    assert result["b.x"].iloc[0] == [1, 2]
    assert result["b.y"].iloc[0] is True
    assert result["b.z"].iloc[2] == {}
    assert result.isna().iloc[1].tolist() == [False, True, True, True, True, False]
    assert result.index.tolist() == [5, 5, 7]
    assert list(flatten_dicts(frame[:0], ["b", "a"]).columns) == ["n"]
    twice = pd.DataFrame({"s": [{"a": {"b": 1}, "a.b": 2}]})
    with refused("two keys of one dict would both be the column 's.a.b'; read it without flatten"):
        flatten_dicts(twice, ["s"])
