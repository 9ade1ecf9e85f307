"""Events compared to pandas: windows, filters, order, the last few; and trajectories' sums."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ngdata._arguments.texts import STR

RNG = np.random.default_rng(7)
ZERO = pd.Timestamp("2024-03-31T00:30Z")
MICROSECOND = pd.Timedelta(1, "us")
COUNT = 300


@pytest.fixture(scope="module")
def events(store):
    """Many events at the same microsecond, with and without a sequence number."""
    tokens = store.tokens.bulk_create({axis: np.zeros(4) for axis in "xyz"})
    trajectories = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(3)]
    frame = pd.DataFrame(
        {
            "event_type": RNG.choice(["seen", "moved", "it's"], COUNT),
            "timestamp": ZERO + MICROSECOND * RNG.integers(-3, 4, COUNT),
            "token_id": RNG.choice([*tokens, None], COUNT),
            "trajectory_id": RNG.choice([*trajectories, None], COUNT),
            "sequence_number": pd.array(
                [int(n) if n < 5 else None for n in RNG.integers(0, 8, COUNT)], "Int64"
            ),
            "reward": RNG.choice([0.5, -1.0, 2.0], COUNT),
            "priority": RNG.choice([0.1, np.nan], COUNT),
            "state_before": [{"n": n} if n % 3 else None for n in range(COUNT)],
            "state_after": [{"s": str(n)} for n in range(COUNT)],
            "action": [None] * COUNT,
        }
    )
    frame["event_id"] = store.experience.bulk_create(frame)
    text = ["event_id", "event_type", "token_id", "trajectory_id"]
    frame = frame.astype(dict.fromkeys(text, STR))
    # Stable: events that are equal in both keep the order of the frame.
    return frame.sort_values(["timestamp", "sequence_number"], ignore_index=True)


def assert_same(result, expected):
    pd.testing.assert_frame_equal(
        result, expected[result.columns].reset_index(drop=True).astype(result.dtypes)
    )


MOMENTS = st.none() | st.builds(
    lambda us, ns, zone: (
        (ZERO + us * MICROSECOND).as_unit("ns").tz_convert(zone) + pd.Timedelta(ns)
    ),
    st.integers(-5, 5),
    st.integers(0, 1) | st.just(999),
    st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns"]),
)


@settings(max_examples=120)
@given(
    start=MOMENTS,
    end=MOMENTS,
    event_type=st.none() | st.sampled_from(["seen", "it's", "none"]) | st.just(["seen", "moved"]),
    token=st.none() | st.integers(0, 2),
    trajectory=st.none() | st.integers(0, 2),
    limit=st.none() | st.integers(0, 40),
)
def test_windows_equal_pandas_selections(
    store, events, start, end, event_type, token, trajectory, limit
):
    if start is not None and end is not None and start > end:
        start, end = end, start
    expected = events
    if start is not None:
        expected = expected[expected.timestamp >= start]
    if end is not None:
        expected = expected[expected.timestamp < end]
    if event_type is not None:
        kinds = [event_type] if isinstance(event_type, str) else event_type
        expected = expected[expected.event_type.isin(kinds)]
    if token is not None:
        token = sorted(events.token_id.dropna().unique())[:token]
        expected = expected[expected.token_id.isin(token)]
    if trajectory is not None:
        trajectory = sorted(events.trajectory_id.dropna().unique())[trajectory]
        expected = expected[expected.trajectory_id == trajectory]

    result = store.experience.get_events(
        start,
        end,
        event_type=event_type,
        token_ids=token,
        trajectory_id=trajectory,
        limit=limit,
    )
    assert_same(result, expected[:limit])


@settings(max_examples=25)
@given(count=st.integers(1, COUNT + 50))
@example(count=1)
@example(count=COUNT)
def test_the_last_few_in_ascending_order(store, events, count):
    assert_same(store.experience.get_recent_events(count), events[-count:])


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (dt.datetime(2024, 3, 31, 0, 30, tzinfo=dt.UTC), None),
        (1_711_845_000_000, None),
        (np.int64(1_711_845_000_000), None),
        ("2024-03-31T00:30Z", None),
        ("2024-03-31T02:30+02:00", "2024-03-31T00:31Z"),
    ],
)
def test_other_forms_of_times(store, events, start, end):
    assert_same(store.experience.get_events(start, end), events[events.timestamp >= ZERO])


def test_an_empty_window_has_no_events(store, events):
    empty = store.experience.get_events(ZERO, ZERO)
    assert empty.empty
    assert empty.dtypes.equals(store.experience.get_events().dtypes)


def test_trajectories_sum_their_events(store, events, server):
    import adbc_driver_postgresql.dbapi as adbc

    with adbc.connect(server.database_url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT id::text, start_time, end_time, event_count, total_reward"
            " FROM experience.experience_trajectories ORDER BY id"
        )
        result = cursor.fetchall()
    expected = events.groupby("trajectory_id").agg(
        {"timestamp": ["min", "max"], "event_id": "count", "reward": "sum"}
    )
    assert result == list(expected.itertuples(name=None))
