"""Tokens and events that are hard to split into partitions, and a cluster of several processes."""

from __future__ import annotations

import json
import uuid

import numpy as np
import pandas as pd
import pytest

from ngdata._arguments.texts import STR

LIMITS = ((-np.inf, -np.inf, -np.inf), (np.inf, np.inf, np.inf))


def same_set(frame: pd.DataFrame, expected: pd.DataFrame, key: str = "token_id") -> None:
    """Compare rows whose order is not defined, with their dtypes."""
    pd.testing.assert_frame_equal(
        frame.sort_values(key, ignore_index=True), expected.sort_values(key, ignore_index=True)
    )


def whole(frame) -> pd.DataFrame:
    """Compute a Dask frame in this thread."""
    return frame.compute(scheduler="synchronous")


def events_of(frame) -> pd.DataFrame:
    """Compute a Dask frame of events, and return the dicts of its JSON text."""
    events = whole(frame).reset_index(drop=True)
    for name in ("state_before", "state_after", "action"):
        assert frame.dtypes[name] == events[name].dtype == STR
        dicts = [None if pd.isna(text) else json.loads(text) for text in events[name]]
        events[name] = pd.Series(dicts, index=events.index, dtype=object)
    return events


def sizes(frame) -> list[int]:
    return frame.map_partitions(len).compute(scheduler="synchronous").tolist()


def with_points(ng, points) -> pd.Series:
    x, y, z = np.asarray(points, dtype=float).T
    return ng.tokens.bulk_create({"x": x, "y": y, "z": z})


def random_tokens(seed: int, count: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "x": random.normal(size=count),
            "y": random.normal(size=count) * 10,
            "z": random.integers(0, 3, count).astype(float),
            "token_type": random.choice(["a", "b"], count),
            "weight": random.random(count),
            "flags": random.integers(0, 8, count),
        }
    )


def random_events(seed: int, count: int) -> pd.DataFrame:
    """Return events of few times and numbers, so that every cut falls among equal ones."""
    random = np.random.default_rng(seed)
    numbers = random.integers(0, 3, count)
    return pd.DataFrame(
        {
            "event_type": random.choice(["a", "b"], count),
            "timestamp": random.integers(0, 5, count) * 1000,
            "sequence_number": pd.array(
                [None if random.random() < 0.4 else int(n) for n in numbers], dtype="Int64"
            ),
            "trajectory_id": str(uuid.UUID(int=seed)),
            "reward": random.normal(size=count),
            "state_after": [{"at": [1, {"n": int(n)}]} for n in numbers],
        }
    )


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two processes with two threads each."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0"
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def _nothing_stays_open():
    """Close the databases that a test read: they may be dropped next."""
    yield
    from ngdata._reading.dask_frames.connections import close_idle

    close_idle()
