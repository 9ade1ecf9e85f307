"""The server's answers on random experience equal those of pandas on the same frames."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngdata.errors import InvalidQueryError

ZERO = pd.Timestamp("1969-12-31T23:00Z").as_unit("us")
MINUTE = pd.Timedelta("1min")

CORNERS = st.tuples(*[st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0, np.inf])] * 3)
BOXES = st.builds(
    lambda a, b: (np.minimum(a, b), np.maximum(a, b)),
    CORNERS,
    CORNERS,
)
TIMES = st.none() | st.integers(-2, 122).map(lambda n: ZERO + n * MINUTE)
WINDOWS = st.tuples(TIMES, TIMES).map(
    lambda w: tuple(sorted(w)) if None not in w else w,
)
KINDS = st.none() | st.sampled_from(["step", "it's"])
STEPS = st.sampled_from(["1min", "7min", "h", "90s", "D", "7D", pd.Timedelta("13min")])


def in_box(tokens, box, level):
    points = tokens[[f"{axis}{level}" for axis in "xyz"]].to_numpy()
    return tokens[((points >= box[0]) & (points <= box[1])).all(axis=1)]


def in_window(events, window, event_type=None):
    start, end = window
    selected = events
    selected = selected if start is None else selected[selected.timestamp >= start]
    selected = selected if end is None else selected[selected.timestamp < end]
    return selected if event_type is None else selected[selected.event_type == event_type]


def assert_same(result, expected):
    expected = expected.reset_index(drop=True)
    pd.testing.assert_frame_equal(result, expected[result.columns].astype(result.dtypes))


SCALARS = ["event_id", "event_type", "timestamp", "token_id", "reward", "sequence_number"]


@settings(max_examples=40)
@given(box=BOXES, level=st.sampled_from([0, 4]), window=WINDOWS, limit=st.none() | st.just(7))
def test_events_within_a_region(store, tokens, events, box, level, window, limit):
    there = in_box(tokens, box, level).token_id
    expected = in_window(events, window)
    expected = expected[expected.token_id.isin(there)][:limit]
    result = store.experience.get_events(*window, within=(*box, level), limit=limit)
    assert_same(result[SCALARS], expected)


@settings(max_examples=40)
@given(
    place=st.integers(0, 399) | st.none(),
    minute=st.integers(-3, 123),
    before=st.integers(0, 40),
    after=st.integers(0, 40),
    event_type=KINDS,
    box=st.none() | BOXES,
)
def test_events_around(store, tokens, events, place, minute, before, after, event_type, box):
    """Both ends are included; a filter may leave out the event itself."""
    moment = ZERO + minute * MINUTE if place is None else events.timestamp[place]
    middle = moment if place is None else events.event_id[place]
    expected = events[events.timestamp.between(moment - before * MINUTE, moment + after * MINUTE)]
    expected = in_window(expected, (None, None), event_type)
    if box is not None:
        expected = expected[expected.token_id.isin(in_box(tokens, box, 0).token_id)]
    result = store.experience.events_around(
        middle, before * MINUTE, after * 60, event_type=event_type, within=box
    )
    assert result.columns[3] == "offset"
    assert_same(result[[*SCALARS, "offset"]], expected.assign(offset=expected.timestamp - moment))


@settings(max_examples=40)
@given(freq=STEPS, window=WINDOWS, event_type=KINDS, run=st.none() | st.integers(0, 3))
def test_rewards_resampled(store, events, freq, window, event_type, run):
    trajectory = None if run is None else f"00000000-0000-4000-8000-00000000000{run}"
    selected = in_window(events, window, event_type)
    selected = selected if run is None else selected[selected.trajectory_id == trajectory]
    result = store.experience.resample_rewards(
        freq, *window, event_type=event_type, trajectory_id=trajectory
    )
    step = pd.Timedelta(freq) if not isinstance(freq, str) or freq[0].isdigit() else None
    step = pd.Timedelta(1, freq) if step is None else step
    expected = (
        selected.set_index("timestamp")
        .reward.resample(step, origin="epoch")
        .agg(["count", "sum", "mean"])
        .reset_index()
    )
    expected.columns = ["timestamp", "count", "total_reward", "mean_reward"]
    assert_same(result, expected)


@settings(max_examples=40)
@given(
    box=BOXES,
    level=st.sampled_from([0, 4]),
    window=WINDOWS,
    event_type=KINDS,
    token_type=KINDS.map(lambda k: {None: None, "step": "a", "it's": ["a", "b"]}[k]),
    limit=st.none() | st.just(3),
)
def test_activity_in_a_region(
    store, tokens, events, box, level, window, event_type, token_type, limit
):
    there = in_box(tokens, box, level)
    there = there if token_type is None else there[there.token_type.isin([*token_type])]
    there = there.rename(columns={f"{axis}{level}": axis for axis in "xyz"})
    joined = there.merge(in_window(events, window, event_type), on="token_id")
    expected = joined.groupby(["token_id", "x", "y", "z"], as_index=False).agg(
        event_count=("event_id", "count"),
        total_reward=("reward", "sum"),
        mean_reward=("reward", "mean"),
        first_time=("timestamp", "min"),
        last_time=("timestamp", "max"),
    )
    expected = expected.sort_values("token_id", ignore_index=True)[:limit]
    result = store.experience.activity_in_region(
        *box,
        level,
        start=window[0],
        end=window[1],
        event_type=event_type,
        token_type=token_type,
        limit=limit,
    )
    assert_same(result, expected)


@settings(max_examples=40)
@given(run=st.integers(0, 3), freq=STEPS, level=st.sampled_from([0, 4]))
def test_the_mean_position_of_a_trajectory(store, tokens, events, run, freq, level):
    trajectory = f"00000000-0000-4000-8000-00000000000{run}"
    step = pd.Timedelta(freq) if freq not in ("h", "D") else pd.Timedelta(1, freq)
    joined = events[events.trajectory_id == trajectory].merge(tokens, on="token_id")
    joined = joined.rename(columns={f"{axis}{level}": axis for axis in "xyz"}).dropna(subset="x")
    epoch = pd.Timestamp(0, tz="UTC")
    joined["timestamp"] = epoch + (joined.timestamp - epoch) // step * step
    expected = joined.groupby("timestamp", as_index=False).agg(
        x=("x", "mean"),
        y=("y", "mean"),
        z=("z", "mean"),
        event_count=("event_id", "count"),
        token_count=("token_id", "nunique"),
    )
    assert_same(store.experience.mean_position(trajectory, freq, level), expected)


@settings(max_examples=40)
@given(window=WINDOWS, event_type=KINDS, box=st.none() | BOXES, limit=st.none() | st.just(2))
def test_trajectories_with_a_matching_event(store, tokens, events, window, event_type, box, limit):
    selected = in_window(events, window, event_type)
    if box is not None:
        selected = selected[selected.token_id.isin(in_box(tokens, box, 0).token_id)]
    expected = (
        events[events.trajectory_id.isin(selected.trajectory_id.dropna())]
        .groupby("trajectory_id", as_index=False)
        .agg(
            start_time=("timestamp", "min"),
            end_time=("timestamp", "max"),
            event_count=("event_id", "count"),
            total_reward=("reward", "sum"),
        )
        .sort_values("trajectory_id", ignore_index=True)[:limit]
        .sort_values(["start_time", "trajectory_id"], ignore_index=True)
    )
    expected["duration"] = expected.end_time - expected.start_time
    result = store.experience.list_trajectories(
        *window, event_type=event_type, within=box, limit=limit
    )
    assert_same(result[expected.columns], expected)


@settings(max_examples=16)
@given(run=st.integers(0, 3), discount=st.sampled_from([1, 1.0, 0.0, 0.5, 0.75]))
def test_a_trajectory_in_sequence(store, events, run, discount):
    trajectory = f"00000000-0000-4000-8000-00000000000{run}"
    expected = events[events.trajectory_id == trajectory]
    expected = expected.sort_values(["sequence_number", "timestamp"], ignore_index=True)
    weights = [float(discount) ** k for k in range(len(expected))]
    expected["cumulative_reward"] = np.cumsum(expected.reward * weights)
    result = store.experience.get_trajectory(trajectory, discount=discount)
    assert list(result.columns)[-1] == "cumulative_reward"
    assert_same(result[[*SCALARS, "cumulative_reward"]], expected)
    total = store.experience.list_trajectories().set_index("trajectory_id").total_reward
    if discount == 1:
        assert result.cumulative_reward.iloc[-1] == total[trajectory]


def test_flattened_columns_equal_pandas(store, events):
    result = store.experience.get_events(flatten=True)
    assert list(result.columns) == [
        *store.experience.get_events(limit=0).columns[:8],
        "state_after.at.x",
        "state_after.n",
    ]
    states = pd.json_normalize([state or {} for state in events.state_after])
    for name in ("at.x", "n"):
        np.testing.assert_array_equal(result[f"state_after.{name}"], states[name])
    run = events.trajectory_id.dropna().iloc[0]
    one = store.experience.get_trajectory(run, flatten=True)
    assert list(one.columns)[-2:] == ["state_after.n", "cumulative_reward"]
    around = store.experience.events_around(events.event_id[0], 0, 60, flatten=True)
    assert {"offset", "state_after.n"} <= set(around.columns)


def test_columns_of_events(store, events):
    """Each read of events returns the named columns, in their order, and no other."""
    columns = ["created_at", "metadata", "reward", "event_id"]
    run = events.trajectory_id.dropna().iloc[0]
    by_id = events.set_index("event_id")
    middle = events.event_id[7]
    for result in (
        store.experience.get_events(columns=columns),
        store.experience.get_recent_events(50, columns=columns),
        store.experience.events_around(middle, 0, 3600, columns=columns),
        store.experience.get_trajectory(run, columns=columns),
    ):
        assert result.columns.tolist() == columns
        expected = by_id.loc[result.event_id]
        assert len(result) >= 50
        assert result.metadata.tolist() == expected.metadata.tolist()
        assert result.reward.tolist() == expected.reward.tolist()
        assert str(result.created_at.dtype) == "datetime64[us, UTC]"
    offsets = store.experience.events_around(middle, 60, 60, columns=["offset", "event_id"])
    times = by_id.timestamp[offsets.event_id] - by_id.timestamp[middle]
    assert offsets.offset.tolist() == times.tolist()
    assert str(offsets.offset.dtype) == "timedelta64[us]"
    sums = store.experience.get_trajectory(run, columns=["cumulative_reward"], discount=0.5)
    whole = store.experience.get_trajectory(run, discount=0.5)
    pd.testing.assert_frame_equal(sums, whole[["cumulative_reward"]])
    flat = store.experience.get_events(columns=["metadata", "event_id"], flatten=True)
    assert flat.columns.tolist() == ["event_id", "metadata.note"]
    for read in (store.experience.get_events, store.experience.get_recent_events):
        with pytest.raises(InvalidQueryError, match="unknown column 'offset'"):
            read(columns=["offset"])
    with pytest.raises(InvalidQueryError, match=r"unknown column 'meta'.*did you mean 'metadata'"):
        store.experience.get_trajectory(run, columns=["meta"])
