"""A returned frame is the caller's own: whatever is done to it, the next one is as it was."""

import contextlib
import gc
import inspect

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import redis

import ngdata
from ngdata._client.subgraph import Subgraph
from ngdata._query.model import Column, Kind
from ngdata._reading.answer import Answer
from tests.cache.conftest import WHOLE, points

KINDS = {
    "id": (Kind.TEXT, pa.array(["a", "b", None])),
    "x": (Kind.FLOAT, pa.array([1.0, 2.0, 3.0])),
    "gap": (Kind.FLOAT, pa.array([1.0, None, 3.0])),
    "n": (Kind.INTEGER, pa.array([1, 2, 3], pa.int32())),
    "maybe": (Kind.OPTIONAL_INTEGER, pa.array([1, None, 3], pa.int64())),
    "yes": (Kind.BOOLEAN, pa.array([True, False, True])),
    "when": (Kind.TIME, pa.array([0, 1, None], pa.timestamp("us", "UTC"))),
    "dict": (Kind.JSON, pa.array(['{"a": [1, {"b": 2}]}', "[1]", None])),
    "raw": (Kind.BYTES, pa.array([b"\0" * 64, None, b""])),
    "coords": (Kind.COORDS, pa.array([[0.0] * 24, [None] * 24, None], pa.list_(pa.float64()))),
}
COLUMNS = tuple(Column(name, kind) for name, (kind, _) in KINDS.items())
SHAREABLE = ("id", "x", "gap", "n", "yes", "when")


def answer(names, pieces):
    """An answer of these columns, in one piece or in several as a driver may give it."""
    table = pa.table({name: KINDS[name][1] for name in names})
    if pieces > 1:
        table = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    return Answer(table, tuple(column for column in COLUMNS if column.name in names))


def _grow(frame):
    frame["new"] = 1


def _loop(frame):
    for name in frame.columns:
        frame.loc[0, name] = frame.loc[1, name]


def _values(frame):
    for name in frame.columns:
        array = frame[name].to_numpy()
        for _ in range(3):
            array.flags.writeable = True
            array[:] = array[::-1]
            array = array.base if isinstance(array.base, np.ndarray) else array


def _extension(frame):
    for name in frame.columns:
        frame[name].array[0] = frame[name].array[1]


def _inner(frame):
    for name in frame.columns:
        for attribute in ("_ndarray", "_data", "_mask", "asi8"):
            inner = getattr(frame[name].array, attribute, None)
            if isinstance(inner, np.ndarray):
                inner.flags.writeable = True
                inner[:] = inner[::-1]


def _blocks(frame):
    for block in frame._mgr.blocks:
        block.values[...] = block.values[..., ::-1]


def _objects(frame):
    for name in frame.columns:
        for value in frame[name]:
            if isinstance(value, dict):
                value["a"][1]["b"] = "changed"
                value.clear()
            elif isinstance(value, list):
                value.append("changed")
            elif isinstance(value, np.ndarray):
                value[:] = 7.0


def _names(frame):
    frame.index.name = "changed"
    frame.columns.name = "changed"
    frame.columns.values[0] = "changed"


def _index(frame):
    frame.index.values[0] = 7


def _attrs(frame):
    frame.attrs["ngdata"]["source"] = "changed"
    frame.attrs["more"] = 1
    frame.flags.allows_duplicate_labels = False


CHANGES = {
    "loc": _loop,
    "loc with a mask": lambda f: f.__setitem__(f.columns[0], f[f.columns[0]].iloc[::-1].to_numpy()),
    "iloc of a row": lambda f: f.iloc.__setitem__(0, f.iloc[1]),
    "at": lambda f: f.at.__setitem__((0, f.columns[-1]), f.at[1, f.columns[-1]]),
    "add a column": _grow,
    "drop": lambda f: f.drop(columns=f.columns[0], inplace=True),
    "pop": lambda f: f.pop(f.columns[0]),
    "rename": lambda f: f.rename(columns={f.columns[0]: "changed"}, inplace=True),
    "sort": lambda f: f.sort_index(ascending=False, inplace=True),
    "fill": lambda f: f.fillna({"x": 0.0, "gap": 7.0}, inplace=True),
    "mask": lambda f: f.mask(f.isna(), inplace=True),
    "through to_numpy": _values,
    "through the arrays": _extension,
    "through the arrays' own": _inner,
    "through the blocks": _blocks,
    "objects in it": _objects,
    "names of the axes": _names,
    "the index": _index,
    "attrs and flags": _attrs,
    "a view of it": lambda f: _loop(f[list(f.columns)]),
    "a row of it": lambda f: f.iloc[0].__setitem__(f.columns[0], None),
    "a column of it": lambda f: f[f.columns[0]].__setitem__(0, f[f.columns[0]][1]),
}


# The changes that reach memory below what pandas guards; on each kind of column by itself, as one
# column that cannot be shared makes its whole answer unshared.
DEEP = (
    "loc",
    "through to_numpy",
    "through the arrays",
    "through the arrays' own",
    "through the blocks",
    "objects in it",
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("change", "names", "pieces"),
    [
        *((change, names, 1) for change in CHANGES for names in (SHAREABLE, tuple(KINDS))),
        *((change, names, 2) for change in DEEP for names in (SHAREABLE, tuple(KINDS))),
        *((change, (name,), pieces) for change in DEEP for name in KINDS for pieces in (1, 2)),
    ],
)
def test_no_change_reaches_the_next_frame(change, names, pieces):
    kept = answer(names, pieces)
    expected = answer(names, pieces).frame()
    first, second = kept.frame(), kept.frame()
    for frame in (first, second):
        frame.attrs["ngdata"] = {"source": "memory"}
    # What pandas or NumPy refuses has changed nothing either.
    with contextlib.suppress(ValueError, TypeError, AttributeError, KeyError, IndexError):
        CHANGES[change](first)
    for frame in (second, kept.frame()):
        pd.testing.assert_frame_equal(frame, expected, check_exact=True)
        assert frame.index.name is None
        assert frame.columns.name is None
        assert frame.flags.allows_duplicate_labels
    assert second.attrs == {"ngdata": {"source": "memory"}}
    assert kept.frame().attrs == {}


def test_a_frame_can_be_changed_when_its_answer_is_gone():
    """The last that looks at memory which is read-only: pandas must copy all the same."""
    whole = {name: answer((name,), 1).frame() for name in KINDS}
    parts = {name: answer((name,), 1).frame()[[name]] for name in KINDS}
    gc.collect()
    for name, frame in whole.items():
        frame.at[0, name] = frame.at[1, name]
        frame.fillna({name: frame.at[0, name]} if name == "gap" else {}, inplace=True)
        part = parts[name]
        part.at[0, name] = part.at[2, name]
        assert len(frame) == len(part) == 3


def test_shared_frames_share_their_memory():
    """Else a hit on a large answer would take as long as to copy it."""
    kept = answer(("x", "n"), 1)
    one, two = kept.frame(), kept.frame()
    for name in ("x", "n"):
        assert np.shares_memory(one[name].to_numpy(), two[name].to_numpy())
        assert np.shares_memory(one[name].to_numpy(), kept.table[name].to_numpy())


# ------------------------------------------------------------------------ every read of the facade


@pytest.fixture(scope="module")
def store(new_migrated_database):
    """A store of this module's own, for reading, and the ids of its tokens."""
    with new_migrated_database() as url, ngdata.connect(url) as ng:
        frame = points(*((n, n, n) for n in range(6)), metadata=[{"a": [n]} for n in range(6)])
        ids = list(ng.tokens.bulk_create(frame.assign(binary_data=[b"\1" * 64] * 6)))
        ng.graph.bulk_create(pd.DataFrame({"source_id": ids[:-1], "target_id": ids[1:]}))
        for n in range(3):
            ng.experience.create_event(
                "seen",
                MOMENT,
                token_id=ids[0],
                state_before={"n": [n]},
                action={"go": {"to": n}},
                trajectory_id=RUN,
            )
        ng.graph.create_snapshot()
        yield url, ids


@pytest.fixture
def filled(store, server):
    """A client of the store whose caches are empty, and the ids."""
    url, ids = store
    redis.Redis.from_url(server.redis_url).flushall()
    with ngdata.connect(url, redis_url=server.redis_url) as ng:
        yield ng, ids


MOMENT = pd.Timestamp("2026-01-01", tz="UTC")
RUN = "00000000-0000-4000-8000-000000000001"


BOX = ((0, 0, 0), (5, 5, 5))
EVERYTHING = ["token_id", "coords", "metadata", "binary_data", "timestamp", "weight", "flags"]
READS = {
    "tokens.find_in_region": lambda ng, ids, **how: ng.tokens.find_in_region(*BOX, **how),
    "tokens.find_nearest": lambda ng, ids, **how: ng.tokens.find_nearest((0, 0, 0), 4, **how),
    "tokens.find_within": lambda ng, ids, **how: ng.tokens.find_within((0, 0, 0), 4, **how),
    "tokens.get": lambda ng, ids, **how: ng.tokens.get(ids, columns=EVERYTHING, **how),
    "tokens.count_in_region": lambda ng, ids, **how: ng.tokens.count_in_region(*BOX, **how),
    "tokens.density": lambda ng, ids, **how: ng.tokens.density(*BOX, 3, **how),
    "graph.get_neighbors": lambda ng, ids, **how: ng.graph.get_neighbors(ids, depth=2, **how),
    "graph.get_degree": lambda ng, ids, **how: ng.graph.get_degree(**how),
    "graph.connections": lambda ng, ids, **how: ng.graph.connections(**how),
    "graph.shortest_path": lambda ng, ids, **how: ng.graph.shortest_path(ids[0], ids[-1], **how),
    "graph.components": lambda ng, ids, **how: ng.graph.components(**how),
    "graph.subgraph": lambda ng, ids, **how: ng.graph.subgraph(ids[:2], **how),
    "graph.list_snapshots": lambda ng, ids, **how: ng.graph.list_snapshots(**how),
    "graph.load_snapshot": lambda ng, ids, **how: ng.graph.load_snapshot(_snapshot(ng), **how),
    "experience.get_events": lambda ng, ids, **how: ng.experience.get_events(**how),
    "experience.get_recent_events": lambda ng, ids, **how: ng.experience.get_recent_events(**how),
    "experience.events_around": lambda ng, ids, **how: ng.experience.events_around(MOMENT, **how),
    "experience.resample_rewards": lambda ng, ids, **how: ng.experience.resample_rewards(1, **how),
    "experience.get_trajectory": lambda ng, ids, **how: ng.experience.get_trajectory(RUN, **how),
    "experience.list_trajectories": lambda ng, ids, **how: ng.experience.list_trajectories(**how),
    "experience.activity_in_region": lambda ng, ids, **how: ng.experience.activity_in_region(
        *BOX, **how
    ),
    "experience.mean_position": lambda ng, ids, **how: ng.experience.mean_position(RUN, 1, **how),
}
# Made of two answers of another read, so their hits count for two.
COMPOSED = {"graph.diff_snapshots"}


def _snapshot(ng):
    return ng.graph.list_snapshots(cache="off").snapshot_id[0]


def frames(found):
    """The frames that an answer is made of."""
    return [found.tokens, found.connections] if isinstance(found, Subgraph) else [found]


def test_every_read_with_a_cache_is_here(filled):
    ng, _ = filled
    found = {
        f"{space}.{name}"
        for space in ("tokens", "graph", "experience")
        for name, method in inspect.getmembers(getattr(ng, space), inspect.ismethod)
        if "cache" in inspect.signature(method).parameters
    }
    assert found == set(READS) | COMPOSED


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("read", READS)
def test_each_read_from_each_tier_is_the_callers_own(filled, read):
    ng, ids = filled
    twin = ngdata.connect(
        ng._twin._settings.database_url.get_secret_value(),
        redis_url=ng._twin._settings.redis_url.get_secret_value(),
    )
    plain = READS[read](ng, ids, cache="off")

    def equal(found):
        if isinstance(found, int):
            assert found == plain
        else:
            for one, other in zip(frames(found), frames(plain), strict=True):
                assert len(one)
                pd.testing.assert_frame_equal(one, other, check_exact=True)

    with twin:
        for change in CHANGES.values():
            before = ng.cache.stats()
            found = READS[read](ng, ids)
            equal(found)
            if isinstance(found, int):
                break
            assert ng.cache.stats().hits - before.hits + ng.cache.stats().misses - before.misses
            for frame in frames(found):
                with contextlib.suppress(
                    ValueError, TypeError, AttributeError, KeyError, IndexError
                ):
                    change(frame)
        equal(READS[read](ng, ids, cache="ttl"))
        for client in (ng, twin):
            for _ in range(2):
                equal(READS[read](client, ids))
        assert ng.cache.stats().memory_hits > 0
        tiers = twin.cache.stats()
        assert (tiers.redis_hits, tiers.memory_hits, tiers.misses) == (1, 1, 0)


@pytest.mark.parametrize("read", READS)
def test_each_frame_tells_where_it_came_from(filled, read):
    ng, ids = filled
    for source in ("database", "memory"):
        found = READS[read](ng, ids)
        if not isinstance(found, int):
            assert {frame.attrs["ngdata"]["source"] for frame in frames(found)} == {source}


def test_attrs_tell_where_an_answer_came_from(filled):
    ng, _ids = filled
    first, again = ng.tokens.find_in_region(*BOX), ng.tokens.find_in_region(*BOX)
    inside = ng.tokens.find_in_region((1, 1, 1), (2, 2, 2))
    told = [frame.attrs["ngdata"] for frame in (first, again, inside)]
    assert [one["source"] for one in told] == ["database", "memory", "region"]
    assert len({one["version"] for one in told}) == 1
    assert all(one["milliseconds"] > 0 for one in told)
    ng.tokens.create({0: (9, 9, 9)})
    assert ng.tokens.find_in_region(*BOX).attrs["ngdata"]["version"] != told[0]["version"]
    off = ng.tokens.find_in_region(*WHOLE, cache="off").attrs["ngdata"]
    assert (off["source"], off["version"]) == ("database", None)
