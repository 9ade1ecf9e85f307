"""The caller owns a returned frame: no change of it reaches the next one."""

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
from tests.conftest import IS_PANDAS_2

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


def make_answer(names, chunks):
    """Return an answer of these columns, in one chunk or in several, as from a driver."""
    table = pa.table({name: KINDS[name][1] for name in names})
    if chunks > 1:
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
    ("change", "names", "chunks"),
    [
        *((change, names, 1) for change in CHANGES for names in (SHAREABLE, tuple(KINDS))),
        *((change, names, 2) for change in DEEP for names in (SHAREABLE, tuple(KINDS))),
        *((change, (name,), chunks) for change in DEEP for name in KINDS for chunks in (1, 2)),
    ],
)
def test_no_change_reaches_the_next_frame(change, names, chunks):
    answer = make_answer(names, chunks)
    expected = make_answer(names, chunks).frame()
    first, second = answer.frame(), answer.frame()
    for frame in (first, second):
        frame.attrs["ngdata"] = {"source": "memory"}
    # A change that pandas or NumPy refuses must not have happened in part either.
    with contextlib.suppress(ValueError, TypeError, AttributeError, KeyError, IndexError):
        CHANGES[change](first)
    for frame in (second, answer.frame()):
        pd.testing.assert_frame_equal(frame, expected, check_exact=True)
        assert frame.index.name is None
        assert frame.columns.name is None
        assert frame.flags.allows_duplicate_labels
    assert second.attrs == {"ngdata": {"source": "memory"}}
    assert answer.frame().attrs == {}


def test_a_frame_can_be_changed_after_its_answer_is_deleted():
    """The frame is then the only user of read-only memory; pandas must copy it all the same."""
    whole = {name: make_answer((name,), 1).frame() for name in KINDS}
    parts = {name: make_answer((name,), 1).frame()[[name]] for name in KINDS}
    gc.collect()
    for name, frame in whole.items():
        frame.at[0, name] = frame.at[1, name]
        frame.fillna({name: frame.at[0, name]} if name == "gap" else {}, inplace=True)
        part = parts[name]
        part.at[0, name] = part.at[2, name]
        assert len(frame) == len(part) == 3


@pytest.mark.skipif(IS_PANDAS_2, reason="pandas 2 has no Copy-on-Write: frames are copies")
def test_shared_frames_share_their_memory():
    """Otherwise a hit on a large answer would take as long as copying it."""
    answer = make_answer(("x", "n"), 1)
    first, second = answer.frame(), answer.frame()
    for name in ("x", "n"):
        assert np.shares_memory(first[name].to_numpy(), second[name].to_numpy())
        assert np.shares_memory(first[name].to_numpy(), answer.table[name].to_numpy())


# ------------------------------------------------------------------------ every read of a client


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
    "client.describe": lambda ng, ids, **options: ng.describe(**options),
    "graph.describe": lambda ng, ids, **options: ng.graph.describe(**options),
    "experience.describe": lambda ng, ids, **options: ng.experience.describe(**options),
    "tokens.find_in_region": lambda ng, ids, **options: ng.tokens.find_in_region(*BOX, **options),
    "tokens.find_nearest": lambda ng, ids, **options: ng.tokens.find_nearest(
        (0, 0, 0), 4, **options
    ),
    "tokens.find_within": lambda ng, ids, **options: ng.tokens.find_within((0, 0, 0), 4, **options),
    "tokens.find_nearest_many": lambda ng, ids, **options: ng.tokens.find_nearest_many(
        ids, 2, **options
    ),
    "tokens.find_within_many": lambda ng, ids, **options: ng.tokens.find_within_many(
        [(0, 0, 0), (5, 5, 5)], 4, **options
    ),
    "tokens.pairs_within": lambda ng, ids, **options: ng.tokens.pairs_within(2, **options),
    "tokens.get": lambda ng, ids, **options: ng.tokens.get(ids, columns=EVERYTHING, **options),
    "tokens.find": lambda ng, ids, **options: ng.tokens.find(
        where={"a": [0]}, columns=[*EVERYTHING, "metadata.a"], **options
    ),
    "tokens.join": lambda ng, ids, **options: ng.tokens.join(
        {"token_id": ids}, columns=["x", *EVERYTHING[1:], "metadata.a"], **options
    ),
    "tokens.count_in_region": lambda ng, ids, **options: ng.tokens.count_in_region(*BOX, **options),
    "tokens.density": lambda ng, ids, **options: ng.tokens.density(*BOX, 3, **options),
    "tokens.aggregate": lambda ng, ids, **options: ng.tokens.aggregate(
        ["token_type", "metadata.a"],
        cell=2,
        n="count",
        weight=("weight", "mean"),
        last=("timestamp", "max"),
        **options,
    ),
    "tokens.sample": lambda ng, ids, **options: ng.tokens.sample(4, **options),
    "graph.get_neighbors": lambda ng, ids, **options: ng.graph.get_neighbors(
        ids, depth=2, **options
    ),
    "graph.get_degree": lambda ng, ids, **options: ng.graph.get_degree(**options),
    "graph.connections": lambda ng, ids, **options: ng.graph.connections(**options),
    "graph.shortest_path": lambda ng, ids, **options: ng.graph.shortest_path(
        ids[0], ids[-1], **options
    ),
    "graph.shortest_lengths": lambda ng, ids, **options: ng.graph.shortest_lengths(
        ids[0], **options
    ),
    "graph.components": lambda ng, ids, **options: ng.graph.components(**options),
    "graph.subgraph": lambda ng, ids, **options: ng.graph.subgraph(ids[:2], **options),
    "graph.list_snapshots": lambda ng, ids, **options: ng.graph.list_snapshots(**options),
    "graph.load_snapshot": lambda ng, ids, **options: ng.graph.load_snapshot(
        _snapshot(ng), **options
    ),
    "experience.get_events": lambda ng, ids, **options: ng.experience.get_events(**options),
    "experience.get_recent_events": lambda ng, ids, **options: ng.experience.get_recent_events(
        **options
    ),
    "experience.events_around": lambda ng, ids, **options: ng.experience.events_around(
        MOMENT, **options
    ),
    "experience.resample_rewards": lambda ng, ids, **options: ng.experience.resample_rewards(
        1, **options
    ),
    "experience.count_events": lambda ng, ids, **options: ng.experience.count_events(
        1, ["event_type", "trajectory_id"], **options
    ),
    "experience.get_trajectory": lambda ng, ids, **options: ng.experience.get_trajectory(
        RUN, **options
    ),
    "experience.list_trajectories": lambda ng, ids, **options: ng.experience.list_trajectories(
        **options
    ),
    "experience.activity_in_region": lambda ng, ids, **options: ng.experience.activity_in_region(
        *BOX, **options
    ),
    "experience.mean_position": lambda ng, ids, **options: ng.experience.mean_position(
        RUN, 1, **options
    ),
}
# Composed of answers of other reads, so a hit counts twice; a view draws copies of them.
COMPOSED = {"client.view", "graph.diff_snapshots"}


def _snapshot(ng):
    return ng.graph.list_snapshots(cache="off").snapshot_id[0]


def frames(result):
    """Return the frames that a result consists of."""
    return [result.tokens, result.connections] if isinstance(result, Subgraph) else [result]


LOOKUPS = {
    *("tokens.find_nearest", "tokens.find_nearest_many", "tokens.get", "tokens.join"),
    "experience.get_recent_events",
}


def test_every_read_with_a_cache_is_tested(filled):
    ng, _ = filled
    owners = {"client": ng, "tokens": ng.tokens, "graph": ng.graph, "experience": ng.experience}
    methods = {
        f"{space}.{name}"
        for space, owner in owners.items()
        for name, method in inspect.getmembers(owner, inspect.ismethod)
        if "cache" in inspect.signature(method).parameters
    }
    assert methods == set(READS) | COMPOSED


@pytest.mark.usefixtures("patient_redis")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("read", READS)
def test_the_caller_owns_the_result_of_each_read_from_each_tier(filled, read):
    ng, ids = filled
    other_client = ngdata.connect(
        ng._wrapped._settings.database_url.get_secret_value(),
        redis_url=ng._wrapped._settings.redis_url.get_secret_value(),
    )
    plain = READS[read](ng, ids, cache="off")

    def equal(result):
        if isinstance(result, int):
            assert result == plain
        else:
            for frame, expected in zip(frames(result), frames(plain), strict=True):
                assert len(frame)
                pd.testing.assert_frame_equal(frame, expected, check_exact=True)

    with other_client:
        for change in CHANGES.values():
            before = ng.cache.stats()
            result = READS[read](ng, ids)
            equal(result)
            if isinstance(result, int):
                break
            assert ng.cache.stats().hits - before.hits + ng.cache.stats().misses - before.misses
            for frame in frames(result):
                with contextlib.suppress(
                    ValueError, TypeError, AttributeError, KeyError, IndexError
                ):
                    change(frame)
        equal(READS[read](ng, ids, cache="ttl"))
        for client in (ng, other_client):
            for _ in range(2):
                equal(READS[read](client, ids))
        assert ng.cache.stats().memory_hits > 0
        tiers = other_client.cache.stats()
        # A lookup takes no longer than Redis, so in strict mode it is not kept there.
        from_redis = int(read not in LOOKUPS)
        assert (tiers.redis_hits, tiers.misses) == (from_redis, 1 - from_redis)
        assert tiers.memory_hits == 1


@pytest.mark.parametrize("read", READS)
def test_each_frame_names_its_source(filled, read):
    ng, ids = filled
    for source in ("database", "memory"):
        result = READS[read](ng, ids)
        for frame in frames(result) if not isinstance(result, int) else ():
            assert frame.attrs["ngdata"]["source"] == source
            # The attrs of no other frame.
            frame.attrs["ngdata"]["source"] = "changed"


def test_attrs_hold_source_version_and_duration(filled):
    ng, _ids = filled
    first, again = ng.tokens.find_in_region(*BOX), ng.tokens.find_in_region(*BOX)
    inside = ng.tokens.find_in_region((1, 1, 1), (2, 2, 2))
    attrs = [frame.attrs["ngdata"] for frame in (first, again, inside)]
    assert [each["source"] for each in attrs] == ["database", "memory", "region"]
    assert len({each["version"] for each in attrs}) == 1
    assert all(each["milliseconds"] > 0 for each in attrs)
    ng.tokens.create({0: (9, 9, 9)})
    assert ng.tokens.find_in_region(*BOX).attrs["ngdata"]["version"] != attrs[0]["version"]
    off = ng.tokens.find_in_region(*WHOLE, cache="off").attrs["ngdata"]
    assert (off["source"], off["version"]) == ("database", None)
