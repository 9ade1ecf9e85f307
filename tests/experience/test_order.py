"""The order of events with equal times: the frame's, in every read; compared with pandas' stable sort."""

import itertools
import threading
import uuid

import numpy as np
import pandas as pd
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ngdata

MOMENT = pd.Timestamp("2026-01-01", tz="UTC")
CORNERS = (-1, -1, -1), (1, 1, 1)
DAYS = itertools.count(1)
FRAMES = st.lists(
    st.lists(st.tuples(st.integers(0, 2), st.none() | st.integers(0, 2)), min_size=1, max_size=12),
    min_size=1,
    max_size=3,
)


@pytest.fixture(scope="module")
def url(new_migrated_database):
    with new_migrated_database() as url:
        yield url


@pytest.fixture(scope="module")
def store(url):
    with ngdata.connect(url) as client:
        yield client


def steps(count, **columns):
    """Return a frame of events at one time; the reward is the row's number."""
    ids = [str(uuid.uuid4()) for _ in range(count)]
    frame = {"event_id": ids, "event_type": "step", "timestamp": MOMENT}
    return pd.DataFrame(frame | {"reward": np.arange(float(count))} | columns)


@settings(max_examples=20)
@given(FRAMES)
def test_every_read_has_the_order_of_pandas(store, frames):
    run = str(uuid.uuid4())
    base = MOMENT + pd.Timedelta(days=next(DAYS))
    written = []
    for rows in frames:
        frame = steps(len(rows), trajectory_id=run)
        frame["timestamp"] = [base + pd.Timedelta(minutes=time) for time, _ in rows]
        frame["sequence_number"] = pd.array([number for _, number in rows], "Int64")
        store.experience.bulk_create(frame)
        written.append(frame)
    frame = pd.concat(written, ignore_index=True)
    # pandas sorts by several columns with a stable sort, and puts what is missing last.
    by_number = frame.sort_values(["sequence_number", "timestamp"]).event_id.tolist()
    by_time = frame.sort_values(["timestamp", "sequence_number"]).event_id.tolist()

    trajectory = store.experience.get_trajectory(run)
    assert trajectory.event_id.tolist() == by_number
    assert store.experience.get_events(trajectory_id=run).event_id.tolist() == by_time
    assert store.experience.get_events(trajectory_id=run, limit=3).event_id.tolist() == by_time[:3]
    around = store.experience.events_around(base, 0, "1h", trajectory_id=run)
    assert around.event_id.tolist() == by_time


def test_a_frame_of_several_parts_keeps_its_order(store):
    """COPY is sent in parts of 20,000 rows; ids of the caller's own have no order."""
    run = str(uuid.uuid4())
    frame = steps(25_000, trajectory_id=run)
    store.experience.bulk_create(frame)
    expected = frame.event_id.tolist()
    trajectory = store.experience.get_trajectory(run)
    assert trajectory.event_id.tolist() == expected
    assert trajectory.cumulative_reward.tolist() == frame.reward.cumsum().tolist()
    assert store.experience.get_events(trajectory_id=run).event_id.tolist() == expected
    assert (
        store.experience.get_recent_events(7).columns.tolist() == trajectory.columns[:-1].tolist()
    )
    partitions = store.experience.to_dask(trajectory_id=run, npartitions=7)
    assert partitions.compute().event_id.tolist() == expected
    sizes = partitions.map_partitions(len).compute()
    assert set(sizes) <= {3571, 3572}
    assert "entry_number" not in partitions.columns


def test_the_last_events_and_those_of_a_region(new_migrated_database):
    with new_migrated_database() as url, ngdata.connect(url) as ng:
        [token] = ng.tokens.bulk_create({"x": [0], "y": [0], "z": [0]})
        frame = steps(300, token_id=token)
        ng.experience.bulk_create(frame)
        expected = frame.event_id.tolist()
        assert ng.experience.get_recent_events(40).event_id.tolist() == expected[-40:]
        assert ng.experience.get_events(within=CORNERS).event_id.tolist() == expected
        assert ng.experience.get_events(token_ids=[token]).event_id.tolist() == expected
        middle = ng.experience.events_around(expected[150], 0, 0)
        assert middle.event_id.tolist() == expected


def test_single_events_follow_each_other(store):
    run = str(uuid.uuid4())
    ids = [
        store.experience.create_event("step", timestamp=MOMENT, trajectory_id=run) for _ in range(9)
    ]
    frame = steps(5, trajectory_id=run)
    store.experience.bulk_create(frame)
    ids += frame.event_id.tolist()
    ids.append(store.experience.create_event("step", timestamp=MOMENT, trajectory_id=run))
    assert store.experience.get_trajectory(run).event_id.tolist() == ids


def test_frames_written_at_the_same_time_keep_their_order(store):
    run = str(uuid.uuid4())
    frames = [steps(3000, trajectory_id=run) for _ in range(4)]
    threads = [
        threading.Thread(target=store.experience.bulk_create, args=(frame,)) for frame in frames
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result = store.experience.get_trajectory(run).event_id
    for frame in frames:
        assert result[result.isin(frame.event_id)].tolist() == frame.event_id.tolist()


def test_an_update_keeps_the_place(store, url):
    run = str(uuid.uuid4())
    frame = steps(20, trajectory_id=run)
    store.experience.bulk_create(frame)
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE experience.experience_events SET priority = 1 WHERE id = %s",
            [frame.event_id[3]],
        )
    assert store.experience.get_trajectory(run).event_id.tolist() == frame.event_id.tolist()


def test_the_index_has_the_order(store):
    plan = store.explain(store.experience.get_events, limit=5).text
    assert "ix_experience_events_timestamp_sequence_number_entry_number_id" in plan
    assert "Sort" not in plan
    plan = store.explain(store.experience.get_recent_events, 5).text
    assert "Index Scan Backward" in plan
