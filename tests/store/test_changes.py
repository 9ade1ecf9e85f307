"""Changes and deletions of existing rows: what they refuse, and exactly what they change.

`tests/properties/test_changes.py` compares random ones with pandas.
"""

from __future__ import annotations

import re
import uuid
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest

import ngdata
from ngdata._arguments.texts import STR
from ngdata._store import changes
from ngdata.errors import IntegrityError, InvalidQueryError, NGDataError, NotFoundError
from tests.conftest import execute
from tests.schema.test_triggers import derived, indexed

LOST = "00000000-0000-4000-8000-00000000000c"
EVERYWHERE = (-np.inf,) * 3, (np.inf,) * 3


@pytest.fixture
def in_parts(monkeypatch):
    """Let one UPDATE change few rows, so that small frames need several, as millions do."""
    monkeypatch.setattr(changes, "_ROWS_PER_UPDATE", 7)


# ------------------------------------------------------------------------------------ what is refused


@pytest.fixture
def store(ng):
    """A small store, with ids that tests name."""
    return Small(ng)


class Small:
    """Three tokens, two connections, two events of a trajectory and one without."""

    def __init__(self, ng):
        self.ng = ng
        frame = pd.DataFrame(np.eye(3) + 1, columns=list("xyz"))
        self.a, self.b, self.c = self.tokens = list(ng.tokens.bulk_create(frame, level="motor"))
        self.connections = [
            ng.graph.create_connection(self.a, end, "spatial", 0.5) for end in (self.b, self.c)
        ]
        self.run, self.ended = ng.experience.start_trajectory(), ng.experience.start_trajectory()
        self.events = [
            ng.experience.create_event("step", 1_000, reward=2.0, trajectory_id=self.run),
            ng.experience.create_event("step", 2_000, reward=3.0, trajectory_id=self.run),
            ng.experience.create_event("seen", 3_000, token_id=self.a),
        ]
        self.last = ng.experience.create_event("step", 9_000, trajectory_id=self.ended, reward=1.0)
        ng.experience.end_trajectory(self.ended)

    def rows(self):
        """Return all rows as text."""
        tables = ("tokens.tokens", "tokens.spatial_index", "graph.connections")
        tables += ("experience.experience_events", "experience.experience_trajectories")
        url = self.ng._wrapped._settings.database_url.get_secret_value()
        selects = (f"SELECT t::text AS row FROM {table} AS t" for table in tables)
        return execute(url, f"{' UNION ALL '.join(selects)} ORDER BY row")


PLACE = MappingProxyType({"x": 1.0, "y": 1.0, "z": 1.0})

REFUSED = {
    "a part of a point": (
        lambda s: s.ng.tokens.bulk_update({"token_id": s.tokens, "x": 1.0}),
        InvalidQueryError,
        "lacks the columns y, z",
    ),
    "NaN in a point": (
        lambda s: s.ng.tokens.bulk_update(
            {"token_id": s.tokens, "x": [1, 2, np.nan], "y": 1.0, "z": 1.0}
        ),
        InvalidQueryError,
        "x in row 2 must be a number",
    ),
    "a level that is none": (
        lambda s: s.ng.tokens.bulk_update(
            {"token_id": s.tokens, "level": [1, "motro", 2], **PLACE}
        ),
        InvalidQueryError,
        r"level in row 1 .*'motro'; did you mean 'motor'\?",
    ),
    "an integer that is not a level": (
        lambda s: s.ng.tokens.bulk_update({"token_id": s.tokens, "level": [1, 2, 8], **PLACE}),
        InvalidQueryError,
        "level in row 2 must be an integer from 0 to 7",
    ),
    "two levels": (
        lambda s: s.ng.tokens.bulk_update(
            s.ng.tokens.find_in_region(*EVERYWHERE, level="motor"), level="social"
        ),
        InvalidQueryError,
        "level is social, but the frame's column level has motor in row 0; leave out one of them",
    ),
    "points and coords": (
        lambda s: s.ng.tokens.bulk_update(s.ng.tokens.get(s.tokens).assign(**PLACE)),
        InvalidQueryError,
        "both coords and x, y, z",
    ),
    "coords of another shape": (
        lambda s: s.ng.tokens.bulk_update({"token_id": [s.a], "coords": [np.zeros((3, 8))]}),
        InvalidQueryError,
        r"coords in row 0 must have the shape \(8, 3\)",
    ),
    "half a level in coords": (
        lambda s: s.ng.tokens.bulk_update(
            {"token_id": [s.a], "coords": [[[1, 2, None]] + [[None] * 3] * 7]}
        ),
        InvalidQueryError,
        r"coords\[0, 0\] \(physical\)",
    ),
    "no column": (
        lambda s: s.ng.tokens.bulk_update({"token_id": s.tokens}),
        InvalidQueryError,
        "has no column to change",
    ),
    "an unknown column": (
        lambda s: s.ng.graph.bulk_update({"connection_id": s.connections, "wieght": 1.0}),
        InvalidQueryError,
        "unknown column 'wieght'.*did you mean 'weight'",
    ),
    "no ids": (
        lambda s: s.ng.graph.bulk_update({"weight": [1.0]}),
        InvalidQueryError,
        "lacks the column connection_id",
    ),
    "a missing id": (
        lambda s: s.ng.tokens.bulk_update({"token_id": [s.a, None], "weight": 1.0}),
        InvalidQueryError,
        "token_id in row 1 must be given",
    ),
    "an id twice": (
        lambda s: s.ng.tokens.bulk_update({"token_id": [*s.tokens, s.b.upper()], "weight": 1.0}),
        IntegrityError,
        "appears in rows 1 and 3; nothing was written",
    ),
    "a bad value in a frame": (
        lambda s: s.ng.graph.bulk_update({"connection_id": s.connections, "weight": [1, "2"]}),
        InvalidQueryError,
        "weight in row 1 must be a number, not '2'",
    ),
    "an end that is missing": (
        lambda s: s.ng.graph.bulk_update({"connection_id": s.connections, "source_id": None}),
        InvalidQueryError,
        "source_id in row 0 must be given",
    ),
    "an end that names no token, in a frame": (
        lambda s: s.ng.graph.bulk_update(
            {"connection_id": s.connections, "target_id": [s.a, LOST], "weight": 7.0}
        ),
        IntegrityError,
        f"target_id {LOST} in row 1 names no token",
    ),
    "an end that names no token": (
        lambda s: s.ng.graph.update(s.connections, source_id=LOST),
        IntegrityError,
        f"^source_id {LOST} names no token",
    ),
    "an event of no token": (
        lambda s: s.ng.experience.update_event(s.events[0], token_id=LOST, reward=9.0),
        IntegrityError,
        f"^token_id {LOST} names no token",
    ),
    "an event for a trajectory that has ended": (
        lambda s: s.ng.experience.update_event(s.events, trajectory_id=s.ended),
        IntegrityError,
        "has ended and takes no more events",
    ),
    "an event without a type": (
        lambda s: s.ng.experience.update_event(s.events[0], event_type=None),
        InvalidQueryError,
        "event_type must be given",
    ),
    "a naive time": (
        lambda s: s.ng.experience.update_event(s.events[0], timestamp="2026-01-01"),
        InvalidQueryError,
        "timestamp",
    ),
    "nothing to change": (
        lambda s: s.ng.graph.update(s.connections[0]),
        InvalidQueryError,
        "names nothing to change; give at least one of source_id=, target_id=",
    ),
    "tokens, without a condition": (
        lambda s: s.ng.tokens.delete(),
        InvalidQueryError,
        "would delete everything; give at least one of ids=, within=, token_type=, where=",
    ),
    "connections, without a condition": (
        lambda s: s.ng.graph.delete(None),
        InvalidQueryError,
        "give at least one of ids=, source=",
    ),
    "events, without a condition": (
        lambda s: s.ng.experience.delete_events(),
        InvalidQueryError,
        "give at least one of ids=, trajectory_id=",
    ),
    "an empty where": (
        lambda s: s.ng.tokens.delete(where={}),
        InvalidQueryError,
        "at least one key",
    ),
    "a window the wrong way round": (
        lambda s: s.ng.experience.delete_events(start=2, end=1),
        InvalidQueryError,
        "start must not be after end",
    ),
    "a swapped region": (
        lambda s: s.ng.tokens.delete(within=((1, 1, 1), (0, 0, 0))),
        InvalidQueryError,
        "are the two swapped",
    ),
}


def test_a_refused_change_leaves_everything_as_it_was(store):
    before = store.rows()
    for name, (call, kind, text) in REFUSED.items():
        with pytest.raises(NGDataError) as caught:
            call(store)
        assert type(caught.value) is kind, name
        assert re.search(text, str(caught.value)), f"{name}: {caught.value}"
        assert store.rows() == before, name


def test_unknown_ids_are_named_and_nothing_changes(store, in_parts):
    ng, before = store.ng, store.rows()
    others = [str(uuid.UUID(int=number, version=4)) for number in range(9)]
    calls = {
        "token": [
            lambda: ng.tokens.update([store.a, *others], weight=9.0),
            lambda: ng.tokens.bulk_update({"token_id": [store.a, *others], "weight": 9.0}),
        ],
        "connection": [
            lambda: ng.graph.update([*store.connections, *others], weight=9.0),
            lambda: ng.graph.bulk_update(
                {"connection_id": [*store.connections, *others], "weight": 9.0}
            ),
        ],
        "event": [lambda: ng.experience.update_event([*store.events, *others], reward=9.0)],
    }
    for noun, updates in calls.items():
        for update in updates:
            with pytest.raises(NotFoundError, match=f"no {noun} in the store") as caught:
                update()
            assert caught.value.missing == tuple(others)
    for delete in (
        ng.tokens.delete,
        ng.graph.delete,
        ng.graph.delete_snapshots,
        ng.experience.delete_events,
        ng.experience.delete_trajectories,
    ):
        assert delete(others) == 0
        assert delete([]) == 0
    assert store.rows() == before


def test_nothing_is_deleted_by_no_ids_and_a_filter(store):
    assert store.ng.tokens.delete([], token_type="default") == 0
    assert store.ng.tokens.delete(token_type=[]) == 0
    assert store.ng.graph.delete(source=[]) == 0
    assert store.ng.experience.delete_events([], start=0) == 0
    empty = pd.DataFrame({"token_id": pd.Series(dtype=STR), "weight": pd.Series(dtype=float)})
    assert store.ng.tokens.bulk_update(empty) == 0
    assert store.ng.tokens.update([], weight=1.0) == 0


# ------------------------------------------------------------------------------- what is changed, exactly


def test_a_frame_that_a_read_returned_is_written_back(store, database_url):
    ng = store.ng
    region = ng.tokens.find_in_region(*EVERYWHERE, level="motor")
    assert region.level.tolist() == [2, 2, 2]
    assert ng.tokens.bulk_update(region.assign(x=region.x * 2, weight=3.0)) == 3
    again = ng.tokens.find_in_region(*EVERYWHERE, level="motor").set_index("token_id")
    assert again.x.loc[region.token_id].tolist() == (region.x * 2).tolist()
    times = ng.tokens.get(store.tokens, columns=["token_id", "created_at", "updated_at", "weight"])
    assert ng.tokens.bulk_update(times) == 3
    whole = ng.tokens.get(store.tokens, columns=["token_id", "coords", "metadata", "flags"])
    whole["metadata"] = [{"name": "AVA"}, None, {"name": "AVB"}]
    assert ng.tokens.bulk_update(whole) == 3
    pd.testing.assert_frame_equal(
        ng.tokens.get(store.tokens, columns=whole.columns.tolist()), whole, check_flags=False
    )
    near = ng.tokens.find_nearest((0, 0, 0), 1, "motor")
    assert ng.tokens.bulk_update(near.assign(z=-1.0)) == 1
    assert ng.tokens.find_nearest((0, 0, 0), 1, "motor").z.tolist() == [-1.0]
    neighbors = ng.graph.get_neighbors(store.a)
    assert ng.graph.bulk_update(neighbors.assign(weight=[4.0, 5.0])) == 2
    edges = ng.graph.connections()
    assert sorted(edges.weight) == [4.0, 5.0]
    swapped = edges.rename(columns={"source_id": "target_id", "target_id": "source_id"})
    assert ng.graph.bulk_update(swapped.assign(bidirectional=True)) == 2
    assert set(ng.graph.connections(target=store.a).source_id) == {store.b, store.c}
    assert indexed(database_url) == derived(database_url)


def test_tokens_are_named_by_their_integers(ng, database_url):
    numbers = np.array([7, 2**64 - 1], np.uint64)
    with ngdata.connect(database_url, ids="integer", id_space="cells") as cells:
        cells.tokens.bulk_create({"token_id": numbers, "x": [1.0, 2], "y": 0.0, "z": 0.0})
        region = cells.tokens.find_in_region(*EVERYWHERE)
        assert cells.tokens.bulk_update(region.assign(x=region.x + 1)) == 2
        edge = cells.graph.create_connection(7, 2**64 - 1)
        assert cells.graph.update(edge, source_id=2**64 - 1, target_id=7) == 1
        event = cells.experience.create_event("seen", token_id=7)
        assert cells.experience.update_event(event, token_id=numbers[1]) == 1
        assert cells.experience.get_events().token_id.tolist() == [2**64 - 1]
        for call, text in {
            lambda: cells.tokens.bulk_update({"token_id": [7, 8], "weight": 1.0}): "the id 8$",
            lambda: cells.tokens.bulk_update({"token_id": [7, 7], "weight": 1.0}): "id 7 appears",
            lambda: cells.tokens.update([8], weight=1.0): "the id 8$",
            lambda: cells.graph.update(edge, target_id=8): "target_id 8 names no token",
            lambda: cells.graph.bulk_update(
                {"connection_id": [edge], "source_id": [8]}
            ): "source_id 8 in row 0 names no token",
        }.items():
            with pytest.raises(NGDataError, match=text):
                call()
        assert cells.graph.delete(source=numbers, target=7) == 1
        assert cells.tokens.delete(7) == 1
        assert cells.tokens.delete(region.token_id) == 1


def test_a_missing_value_is_the_default_and_other_columns_stay(store):
    ng = store.ng
    ng.tokens.update(store.tokens, weight=5.0, metadata={"a": 1}, flags=3)
    ng.tokens.bulk_update({"token_id": store.tokens, "weight": [2.0, None, np.nan]})
    stored = ng.tokens.get(store.tokens, columns=["weight", "metadata", "flags"])
    assert stored.weight.tolist() == [2.0, 1.0, 1.0]
    assert stored.metadata.tolist() == [{"a": 1}] * 3
    assert stored["flags"].tolist() == [3] * 3


def test_a_region_is_deleted_as_numpy_answers(store):
    """At sizes where float32, in which the index compares, rounds neighbors together."""
    ng = store.ng
    near = 1e5 + np.arange(-4, 5) * 2e-3
    points = np.array([(x, y, 0.0) for x in near for y in near])
    low, high = (np.nextafter(near[2], 2e5), near[1], 0.0), (near[6], near[5], 0.0)
    ids = ng.tokens.bulk_create(pd.DataFrame(points, columns=list("xyz")), level=4)
    inside = ((points >= low) & (points <= high)).all(axis=1)
    assert 0 < inside.sum() < len(ids)
    assert ng.tokens.delete(within=(low, high)) == 0
    assert ng.tokens.delete(within=(low, high, "cognitive")) == inside.sum()
    left = ng.tokens.find_in_region(*EVERYWHERE, level=4)
    assert set(left.token_id) == set(ids[~inside])


def test_a_large_frame_shows_its_progress_and_is_whole_or_nothing(store, in_parts, capsys):
    ng, token = store.ng, store.a
    ends = {"source_id": [token] * 30, "target_id": [token] * 30}
    ids = ng.graph.bulk_create(ends, progress=False)
    frame = pd.DataFrame({"connection_id": ids, "weight": np.arange(30.0)})
    assert ng.graph.bulk_update(frame.sample(frac=1, random_state=1), progress=True) == 30
    assert "30.0/30.0" in capsys.readouterr().err
    stored = ng.graph.connections(target=token).set_index("connection_id").weight
    assert stored.loc[ids].tolist() == frame.weight.tolist()
    frame["target_id"] = [token] * 29 + [LOST]
    with pytest.raises(IntegrityError, match=f"target_id {LOST} in row 29 names no token"):
        ng.graph.bulk_update(frame.assign(weight=-1.0), progress=False)
    assert capsys.readouterr().err == ""
    assert ng.graph.connections().weight.min() == 0.0


# ---------------------------------------------------------------------------------------- trajectories


CHANGES = {
    "a reward": lambda s, u: u(s.events[0], reward=-7.5),
    "a time": lambda s, u: u(s.events[0], timestamp=5_000),
    "both times": lambda s, u: u(s.events, timestamp=500),
    "into another": lambda s, u: u(s.events[0], trajectory_id=LOST),
    "all into another": lambda s, u: u(s.events, trajectory_id=LOST, reward=1.0),
    "out of it": lambda s, u: u(s.events[1], trajectory_id=None),
    "one that was in none": lambda s, u: u(s.events[2], trajectory_id=s.run, reward=4.0),
    "out of one that has ended": lambda s, u: u(s.last, trajectory_id=s.run),
    "of one that has ended": lambda s, u: u(s.last, reward=8.0, timestamp=10),
    "where it is already": lambda s, u: u(s.last, trajectory_id=s.ended, metadata={"a": 1}),
    "another column": lambda s, u: u(s.events, action={"go": 1}, priority=None),
    "deleted": lambda s, u: s.ng.experience.delete_events(s.events[1]),
    "all deleted": lambda s, u: s.ng.experience.delete_events(trajectory_id=s.run),
    "a window deleted": lambda s, u: s.ng.experience.delete_events(start=2_000, end=9_000),
    "a type deleted": lambda s, u: s.ng.experience.delete_events(event_type=["step", "other"]),
}


def test_the_figures_of_trajectories_follow(ng):
    for name, change in CHANGES.items():
        store = Small(ng)
        # Cached before the change: neither may be stale after it.
        ng.experience.list_trajectories()
        ng.experience.get_events()
        assert change(store, ng.experience.update_event) > 0, name
        figures = ng.experience.list_trajectories().set_index("trajectory_id")
        events = ng.experience.get_events()
        own = events.groupby("trajectory_id")
        expected = pd.DataFrame(
            {
                "event_count": own.size(),
                "total_reward": own.reward.sum(),
                "start_time": own.timestamp.min(),
                "end_time": own.timestamp.max(),
            }
        ).reindex(figures.index)
        expected[["event_count", "total_reward"]] = expected.fillna(
            {"event_count": 0, "total_reward": 0.0}
        )[["event_count", "total_reward"]]
        pd.testing.assert_frame_equal(
            figures[expected.columns], expected, check_dtype=False, check_flags=False, obj=name
        )
        assert {store.run, store.ended} <= set(figures.index), name
        assert pd.notna(figures.ended_at[store.ended]), name
        ng.experience.delete_events(start=0)


def test_events_outlive_their_trajectory(ng):
    store, other = Small(ng), ng.experience.start_trajectory()
    ng.experience.list_trajectories()
    before = ng.experience.get_events()
    assert ng.experience.delete_trajectories([store.run, store.ended, LOST]) == 2
    assert ng.experience.list_trajectories().trajectory_id.tolist() == [other]
    after = ng.experience.get_events()
    assert after.trajectory_id.isna().all()
    kept = ["event_id", "timestamp", "reward", "token_id"]
    pd.testing.assert_frame_equal(after[kept], before[kept])
    # The id can be used again.
    ng.experience.start_trajectory(store.run)
    assert ng.experience.delete_trajectories(store.run) == 1


def test_a_deleted_snapshot_is_not_listed(ng):
    store = Small(ng)
    kept, deleted = ng.graph.create_snapshot("kept"), ng.graph.create_snapshot("deleted")
    assert len(ng.graph.list_snapshots()) == 2
    assert ng.graph.load_snapshot(deleted).label == "deleted"
    assert ng.graph.delete_snapshots([deleted, LOST]) == 1
    assert ng.graph.list_snapshots().label.tolist() == ["kept"]
    with pytest.raises(NotFoundError, match=f"no snapshot .*{deleted}"):
        ng.graph.load_snapshot(deleted)
    assert len(ng.graph.load_snapshot(kept).connections) == len(store.connections)


def test_an_event_of_the_same_time_keeps_its_place(ng):
    ids = [ng.experience.create_event("a", time) for time in (5, 5, 1, 5)]
    ng.experience.update_event(ids[2], timestamp=5)
    ng.experience.update_event(ids[0], reward=1.0)
    assert ng.experience.get_events().event_id.tolist() == ids
    ng.experience.update_event(ids[3], sequence_number=0)
    assert ng.experience.get_events().event_id.tolist() == [ids[3], *ids[:3]]
