"""Time steps in a zone, against pandas and against each minute of its clock."""

import datetime as dt
import zoneinfo

import numpy as np
import pandas as pd
import pytest

from ngdata._arguments.texts import STR
from ngdata.errors import InvalidQueryError, ResultTooLarge
from tests.conftest import SCALE

# A zone, and a day on which its clocks change; at midnight in all but the first five.
CHANGES = [
    ("Europe/Berlin", "2024-03-31"),
    ("Europe/Berlin", "2024-10-27"),
    ("America/New_York", "2024-03-10"),
    ("America/New_York", "2024-11-03"),
    ("Asia/Kolkata", "2024-03-31"),  # half an hour, and no change
    ("America/Havana", "2024-03-10"),
    ("America/Havana", "2024-11-03"),
    ("Asia/Beirut", "2022-03-27"),
    ("Asia/Beirut", "2022-10-30"),
    ("America/Sao_Paulo", "2013-02-17"),
    ("America/Sao_Paulo", "2013-10-20"),
    ("Pacific/Apia", "2011-12-30"),  # a day that there was not
]
EVENTS = 40 * SCALE


@pytest.fixture(scope="module")
def rewards(store):
    """Events within three days of each change, by zone and day."""
    rng = np.random.default_rng(8)
    frames = []
    for zone, day in CHANGES:
        minutes = rng.choice(6 * 24 * 60, EVENTS) - 3 * 24 * 60
        # In the hours of the change itself too.
        minutes[: EVENTS // 4] //= 20
        times = pd.Timestamp(day, tz="UTC") + pd.to_timedelta(minutes, unit="min")
        frames.append(
            pd.DataFrame({"event_type": f"{zone} {day}", "timestamp": times.as_unit("us")})
        )
    frame = pd.concat(frames, ignore_index=True)
    frame["reward"] = rng.integers(-16, 17, len(frame)) / 8
    store.experience.bulk_create(frame)
    return dict(iter(frame.groupby("event_type")))


def statistics(groups):
    result = groups.reward.agg(["count", "sum", "mean"])
    return result.set_axis(["count", "total_reward", "mean_reward"], axis=1)


@pytest.mark.parametrize(("zone", "day"), CHANGES)
def test_days_are_those_of_the_clock(store, rewards, zone, day):
    frame = rewards[f"{zone} {day}"]
    result = store.experience.resample_rewards("1D", event_type=f"{zone} {day}", tz=zone)
    clock = pd.date_range(*frame.timestamp.agg(["min", "max"]), freq="min").floor("min")
    clock = pd.date_range(clock[0] - pd.Timedelta("2D"), clock[-1], freq="min").tz_convert(
        zoneinfo.ZoneInfo(zone)
    )
    first = pd.Series(clock, index=clock.date).groupby(level=0).min()
    expected = statistics(
        frame.groupby(frame.timestamp.dt.tz_convert(zoneinfo.ZoneInfo(zone)).dt.date)
    )
    days = [each for each in first.index if each >= expected.index[0]]
    expected = expected.reindex(days).fillna({"count": 0, "total_reward": 0})
    expected = expected.astype({"count": "int64"}).reset_index(drop=True)
    expected.insert(0, "timestamp", pd.DatetimeIndex(first[days]).as_unit("us"))
    assert str(result.timestamp.dt.tz) == zone
    pd.testing.assert_frame_equal(result, expected, check_column_type=False)


@pytest.mark.parametrize("freq", ["15min", "6h", "36h"])
def test_other_steps_have_one_length(store, rewards, freq):
    for zone, day in CHANGES:
        frame = rewards[f"{zone} {day}"]
        result = store.experience.resample_rewards(freq, event_type=f"{zone} {day}", tz=zone)
        origin = pd.Timestamp("1970-01-01", tz=zone).tz_convert("UTC")
        expected = statistics(
            frame.set_index("timestamp").resample(freq, origin=origin)
        ).reset_index()
        expected["timestamp"] = expected.timestamp.dt.tz_convert(
            zoneinfo.ZoneInfo(zone)
        ).dt.as_unit("us")
        pd.testing.assert_frame_equal(result, expected, check_freq=False)


def test_days_equal_those_of_pandas_where_it_has_them(store, rewards):
    for zone, day in CHANGES[:5]:
        frame = rewards[f"{zone} {day}"].set_index("timestamp").tz_convert(zoneinfo.ZoneInfo(zone))
        expected = statistics(frame.resample("1D")).reset_index()
        result = store.experience.resample_rewards("1D", event_type=f"{zone} {day}", tz=zone)
        expected["timestamp"] = expected.timestamp.dt.as_unit("us")
        pd.testing.assert_frame_equal(result, expected, check_freq=False)


@pytest.mark.parametrize("every", ["1D", "15min", "6h", "36h", "7D"])
def test_counts_have_the_steps_of_rewards(store, rewards, every):
    for zone, day in CHANGES:
        name = f"{zone} {day}"
        steps = store.experience.resample_rewards(every, event_type=name, tz=zone)
        steps = steps.loc[steps["count"] > 0, ["timestamp", "count"]].reset_index(drop=True)
        result = store.experience.count_events(every, event_type=name, tz=zone)
        pd.testing.assert_frame_equal(result, steps)
        by_type = store.experience.count_events(every, ["event_type"], event_type=name, tz=zone)
        assert set(by_type.event_type) == {name}
        pd.testing.assert_frame_equal(by_type.drop(columns="event_type"), steps)


def test_counts_of_days_by_type_equal_those_of_pandas(store, rewards):
    names = [f"{zone} {day}" for zone, day in CHANGES if zone == "Europe/Berlin"]
    frame = pd.concat([rewards[name] for name in names]).astype({"event_type": STR})
    frame["timestamp"] = frame.timestamp.dt.tz_convert(zoneinfo.ZoneInfo("Europe/Berlin"))
    days = frame.groupby([pd.Grouper(key="timestamp", freq="1D"), "event_type"])
    expected = days.size().rename("count").reset_index()
    expected["timestamp"] = expected.timestamp.dt.as_unit("us")
    result = store.experience.count_events("D", "event_type", event_type=names, tz="Europe/Berlin")
    pd.testing.assert_frame_equal(result, expected[expected["count"] > 0].reset_index(drop=True))


def test_weeks_begin_with_the_first_of_1970(store, ng_events):
    """1970-01-01 was a Thursday, as 2024-03-28 was; the clocks changed in that week."""
    weeks = store.experience.resample_rewards("7D", event_type="weeks", tz="Europe/Berlin")
    assert [str(time) for time in weeks.timestamp[-3:]] == [
        "2024-03-21 00:00:00+01:00",
        "2024-03-28 00:00:00+01:00",
        "2024-04-04 00:00:00+02:00",
    ]
    assert weeks["count"][-3:].tolist() == [1, 2, 1]
    assert str(weeks.timestamp[0]) == "1969-12-25 00:00:00+01:00"
    assert weeks["count"][[0, 1]].tolist() == [1, 0]
    assert weeks["count"].sum() == 5


@pytest.fixture
def ng_events(store):
    times = [
        "1969-12-31T12:00Z",
        "2024-03-27T22:59:59.999999Z",
        "2024-03-27T23:00Z",
        "2024-04-03T21:59Z",
        "2024-04-03T22:00Z",
    ]
    store.experience.bulk_create({"event_type": ["weeks"] * 5, "timestamp": times})


@pytest.mark.parametrize("freq", ["1D", "6h", "7D"])
def test_offsets_and_objects_are_zones_too(store, rewards, freq):
    name = " ".join(CHANGES[4])
    kolkata = store.experience.resample_rewards(freq, event_type=name, tz="Asia/Kolkata")
    zones = [zoneinfo.ZoneInfo("Asia/Kolkata"), dt.timezone(dt.timedelta(hours=5, minutes=30))]
    for zone in zones:
        result = store.experience.resample_rewards(freq, event_type=name, tz=zone)
        assert result.timestamp.dt.tz is not None
        pd.testing.assert_series_equal(
            result.timestamp.dt.tz_convert("UTC"), kolkata.timestamp.dt.tz_convert("UTC")
        )
        pd.testing.assert_frame_equal(result.iloc[:, 1:], kolkata.iloc[:, 1:])
    plain = store.experience.resample_rewards(freq, event_type=name)
    for zone in ("UTC", dt.UTC, None):
        same = store.experience.resample_rewards(freq, event_type=name, tz=zone)
        assert same.timestamp.tolist() == plain.timestamp.tolist()


def test_steps_in_a_zone_are_bounded_and_may_be_empty(store, rewards):
    zone, day = CHANGES[0]
    with pytest.raises(ResultTooLarge):
        store.experience.resample_rewards("1min", event_type=f"{zone} {day}", tz=zone, max_rows=99)
    for freq in ("1D", "6h"):
        empty = store.experience.resample_rewards(freq, 0, 1, event_type=f"{zone} {day}", tz=zone)
        assert (len(empty), str(empty.timestamp.dtype)) == (0, f"datetime64[us, {zone}]")
    with pytest.raises(InvalidQueryError, match=r"tz .*did you mean 'Europe/Berlin'"):
        store.experience.resample_rewards("1D", tz="Europe/Berlni")
