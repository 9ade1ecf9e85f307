"""Random changes and deletions leave what the same steps leave in pandas."""

from __future__ import annotations

import random
import uuid

import numpy as np
import pandas as pd
import pytest

from ngdata._arguments.texts import STR
from ngdata._store import changes
from tests.conftest import SCALE
from tests.schema.test_triggers import derived, indexed

MOMENT = pd.Timestamp("2026-01-01", tz="UTC")
FIGURES = ["start_time", "end_time", "event_count", "total_reward"]


def nothing(columns):
    """Return a frame without rows, of objects by id."""
    return pd.DataFrame(columns=columns, index=pd.Index([], dtype=STR), dtype=object)


class Copy:
    """The store's rows as pandas frames by id, changed by the same steps."""

    def __init__(self, ng, seed):
        self.ng = ng
        self.chance = random.Random(seed)
        self.tokens = nothing(["token_type", "weight", "metadata", "coords"])
        self.connections = nothing(["source_id", "target_id", "connection_type", "weight"])
        self.events = nothing(["event_type", "timestamp", "reward", "token_id", "trajectory_id"])
        self.runs = [str(uuid.UUID(int=number, version=4)) for number in range(3)]
        self.known_runs = set()

    def some(self, frame, most=9):
        """Return some ids of a frame, in any order."""
        return self.chance.sample(list(frame.index), self.chance.randint(0, min(most, len(frame))))

    def point(self):
        return [float(self.chance.randint(0, 3)) for _ in range(3)]

    def coords(self):
        coords = np.full((8, 3), np.nan)
        for level in self.chance.sample(range(8), 2):
            coords[level] = self.point()
        return coords

    # Tokens

    def create_tokens(self):
        coords = np.array([self.coords() for _ in range(6)])
        columns = {
            "token_type": self.chance.choices("ab", k=6),
            "weight": [self.chance.random() for _ in range(6)],
            "metadata": [{"n": self.chance.randint(0, 2)} for _ in range(6)],
        }
        ids = self.ng.tokens.bulk_create(columns, coords=coords)
        rows = pd.DataFrame(columns | {"coords": list(coords)}, index=ids)
        self.tokens = pd.concat([self.tokens, rows.astype(object)])

    def move_tokens(self):
        ids = self.some(self.tokens)
        levels = self.chance.choices(range(8), k=len(ids))
        points = [self.point() for _ in ids]
        frame = pd.DataFrame(points, columns=list("xyz"), dtype=float)
        frame = frame.assign(token_id=ids, level=levels)
        assert self.ng.tokens.bulk_update(frame) == len(ids)
        for token, level, point in zip(ids, levels, points, strict=True):
            self.tokens.loc[token, "coords"][level] = point

    def place_tokens_anew(self):
        ids = self.some(self.tokens)
        coords = [self.coords() for _ in ids]
        weights = [self.chance.choice([None, 2.0]) for _ in ids]
        frame = pd.DataFrame({"coords": coords, "weight": weights}, index=ids)
        assert self.ng.tokens.bulk_update(frame.rename_axis("token_id")) == len(ids)
        for token, place, weight in zip(ids, coords, weights, strict=True):
            self.tokens.at[token, "coords"] = place.copy()
            self.tokens.at[token, "weight"] = 1.0 if weight is None else weight

    def delete_tokens(self):
        ids, low, high = self.some(self.tokens, 5), self.point(), self.point()
        low, high = np.minimum(low, high), np.maximum(low, high)
        level, token_type = self.chance.randrange(8), self.chance.choice("ab")
        where = {"n": self.chance.randint(0, 2)}
        filters = {
            "ids": (ids, self.tokens.index.isin(ids)),
            "token_type": (token_type, self.tokens.token_type == token_type),
            "where": (where, self.tokens.metadata == where),
            "within": (
                (low, high, level),
                np.array([self._is_in(c[level], low, high) for c in self.tokens.coords], bool),
            ),
        }
        chosen = self.chance.choice(
            [["ids"], ["within"], ["token_type", "within"], ["where", "token_type"], [*filters]]
        )
        gone = np.ones(len(self.tokens), bool)
        for name in chosen:
            gone &= np.asarray(filters[name][1], bool)
        count = self.ng.tokens.delete(**{name: filters[name][0] for name in chosen})
        assert count == gone.sum()
        removed = set(self.tokens.index[gone])
        self.tokens = self.tokens[~gone]
        ends = self.connections
        lost = ends.source_id.isin(removed) | ends.target_id.isin(removed)
        self.connections = ends[~lost]
        self.events.loc[self.events.token_id.isin(removed), "token_id"] = None

    @staticmethod
    def _is_in(point, low, high):
        return bool((point >= low).all() and (point <= high).all())

    # Connections

    def create_connections(self):
        ids = list(self.tokens.index)
        frame = pd.DataFrame(
            {
                "source_id": self.chance.choices(ids, k=8),
                "target_id": self.chance.choices(ids, k=8),
                "connection_type": self.chance.choices("ab", k=8),
                "weight": [self.chance.random() for _ in range(8)],
            }
        )
        created = self.ng.graph.bulk_create(frame)
        self.connections = pd.concat([self.connections, frame.set_index(created).astype(object)])

    def change_connections(self):
        ids = self.some(self.connections)
        frame = pd.DataFrame({"weight": [self.chance.random() for _ in ids]}, index=ids)
        frame["target_id"] = self.chance.choices(list(self.tokens.index), k=len(ids))
        if self.chance.random() < 0.5:
            assert self.ng.graph.bulk_update(frame.rename_axis("connection_id")) == len(ids)
        else:
            frame = frame.head(1)
            for connection in frame.index:
                self.ng.graph.update(connection, **frame.loc[connection].to_dict())
        self.connections.loc[frame.index, frame.columns] = frame

    def delete_connections(self):
        ids, source = self.some(self.connections, 3), self.some(self.tokens, 3)
        kind = self.chance.choice("ab")
        filters = {
            "ids": (ids, self.connections.index.isin(ids)),
            "source": (source, self.connections.source_id.isin(source)),
            "target": (source, self.connections.target_id.isin(source)),
            "connection_type": (kind, self.connections.connection_type == kind),
        }
        chosen = self.chance.choice([["ids"], ["source"], ["target", "connection_type"]])
        gone = np.ones(len(self.connections), bool)
        for name in chosen:
            gone &= np.asarray(filters[name][1], bool)
        count = self.ng.graph.delete(**{name: filters[name][0] for name in chosen})
        assert count == gone.sum()
        self.connections = self.connections[~gone]

    # Events

    def create_events(self):
        frame = pd.DataFrame(
            {
                "event_type": self.chance.choices("ab", k=5),
                "timestamp": [self.time() for _ in range(5)],
                "reward": [float(self.chance.randint(-4, 4)) for _ in range(5)],
                "token_id": self.chance.choices([None, *self.tokens.index], k=5),
                "trajectory_id": self.chance.choices([None, *self.runs], k=5),
            }
        )
        created = self.ng.experience.bulk_create(frame)
        self.known_runs |= set(frame.trajectory_id.dropna())
        self.events = pd.concat([self.events, frame.set_index(created).astype(object)])

    def time(self):
        return MOMENT + pd.Timedelta(self.chance.randint(0, 9), "s")

    def change_events(self):
        ids = self.some(self.events, 3)
        change = {
            "reward": float(self.chance.randint(-4, 4)),
            "timestamp": self.time(),
            "trajectory_id": self.chance.choice([None, *self.runs]),
        }
        change = {name: change[name] for name in self.chance.sample(list(change), 2)}
        assert self.ng.experience.update_event(ids, **change) == len(ids)
        for name, value in change.items():
            self.events.loc[ids, name] = value
            if name == "trajectory_id" and value and ids:
                self.known_runs.add(value)

    def delete_events(self):
        start, end = sorted([self.time(), self.time()])
        run, kind, ids = self.chance.choice(self.runs), self.chance.choice("ab"), []
        filters = {
            "ids": (ids, self.events.index.isin(ids)),
            "trajectory_id": (run, self.events.trajectory_id == run),
            "start": (start, self.events.timestamp >= start),
            "end": (end, self.events.timestamp < end),
            "event_type": (kind, self.events.event_type == kind),
        }
        chosen = self.chance.choice([["ids"], ["trajectory_id", "event_type"], ["start", "end"]])
        gone = np.ones(len(self.events), bool)
        for name in chosen:
            gone &= np.asarray(filters[name][1], bool)
        count = self.ng.experience.delete_events(**{name: filters[name][0] for name in chosen})
        assert count == gone.sum()
        self.events = self.events[~gone]

    # Comparison

    def compare(self):
        ng = self.ng
        if len(self.tokens):
            columns = ["token_type", "weight", "metadata"]
            stored = ng.tokens.get(self.tokens.index, columns=[*columns, "coords"])
            for name in columns:
                assert stored[name].tolist() == self.tokens[name].tolist()
            np.testing.assert_array_equal(np.stack(stored.coords), np.stack(self.tokens.coords))
        stored = ng.graph.connections().set_index("connection_id").loc[self.connections.index]
        for name in self.connections.columns:
            assert stored[name].tolist() == self.connections[name].tolist()
        assert len(ng.graph.connections()) == len(self.connections)
        stored = ng.experience.get_events().set_index("event_id")
        assert len(stored) == len(self.events)
        stored = stored.loc[self.events.index]
        for name in self.events.columns:
            both = (
                ["none" if pd.isna(value) else value for value in frame[name]]
                for frame in (stored, self.events)
            )
            assert next(both) == next(both)
        figures = ng.experience.list_trajectories().set_index("trajectory_id")[FIGURES]
        assert set(figures.index) == self.known_runs
        events = self.events.groupby("trajectory_id")
        for run, row in figures.iterrows():
            own = events.get_group(run) if run in events.groups else self.events.iloc[:0]
            assert (row.event_count, row.total_reward) == (len(own), own.reward.sum())
            if len(own):
                assert (row.start_time, row.end_time) == (own.timestamp.min(), own.timestamp.max())
            else:
                assert row[["start_time", "end_time"]].isna().all()


STEPS = [
    Copy.create_tokens,
    Copy.move_tokens,
    Copy.place_tokens_anew,
    Copy.delete_tokens,
    Copy.create_connections,
    Copy.change_connections,
    Copy.delete_connections,
    Copy.create_events,
    Copy.change_events,
    Copy.delete_events,
]


@pytest.mark.parametrize("seed", range(SCALE))
def test_random_steps_leave_what_they_leave_in_pandas(ng, database_url, monkeypatch, seed):
    # Frames of a few rows then need several statements, as those of millions do.
    monkeypatch.setattr(changes, "_ROWS_PER_UPDATE", 3)
    copy = Copy(ng, seed)
    for _ in range(4):
        copy.create_tokens()
    copy.create_connections()
    copy.create_events()
    for number in range(60):
        if not len(copy.tokens):
            copy.create_tokens()
        copy.chance.choice(STEPS)(copy)
        if number % 5 == 4:
            copy.compare()
    copy.compare()
    assert indexed(database_url) == derived(database_url)
