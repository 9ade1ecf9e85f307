"""Units of levels in the attributes of frames, and what a store holds, compared with pandas."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pandas as pd
import pytest

import ngdata
from ngdata.errors import InvalidQueryError
from tests.conftest import run, with_texts

BOX = ((-9, -9, -9), (9, 9, 9))
READS = {
    "find_in_region": lambda ng, **options: ng.tokens.find_in_region(
        *BOX, level="social", **options
    ),
    "with a limit": lambda ng, **options: ng.tokens.find_in_region(*BOX, 5, limit=3, **options),
    "no rows": lambda ng, **options: ng.tokens.find_within((0, 0, 0), 0, 5, **options),
    "find_nearest": lambda ng, **options: ng.tokens.find_nearest((0, 0, 0), level=5, **options),
    "find_within": lambda ng, **options: ng.tokens.find_within((0, 0, 0), 5, 5, **options),
    "density": lambda ng, **options: ng.tokens.density(*BOX, 2, 5, **options),
    "aggregate": lambda ng, **options: ng.tokens.aggregate("token_type", "social", **options),
    "sample": lambda ng, **options: ng.tokens.sample(3, 5, **options),
}


@pytest.fixture(scope="module")
def rows():
    """Tokens with attributes on two levels, all coordinates different."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 3)) * 3, columns=list("xyz"))
    frame["token_type"] = rng.choice(["a", "b", "\u00e9"], 300, p=[0.6, 0.3, 0.1])
    frame["level"] = rng.choice([0, 5], 300)
    return frame


@pytest.fixture(scope="module")
def store(new_migrated_database, rows):
    with new_migrated_database() as url, ngdata.connect(url, redis_url=None) as ng:
        for level, part in rows.groupby("level"):
            ng.tokens.bulk_create(part.drop(columns="level"), level=level, progress=False)
        yield url, ng


def place(frame):
    attrs = json.loads(json.dumps(frame.attrs["ngdata"]))
    return attrs["level"], attrs["unit"]


@pytest.mark.parametrize("read", READS)
def test_a_frame_has_the_present_unit_of_its_level(store, read):
    _, ng = store
    for unit in ("mm", "\u00b5m\u00b2 per s", ""):
        ng.set_level("social", unit=unit)
        for mode in ("off", "strict", "strict"):
            assert place(READS[read](ng, cache=mode)) == (5, unit or None)
    assert READS[read](ng).attrs["ngdata"]["source"] == "memory"


def test_every_way_to_read_a_region_has_its_unit(store, monkeypatch):
    url, ng = store
    ng.set_level(5, unit="nm")
    ng.tokens.find_in_region(*BOX, level=5)
    part = ng.tokens.find_in_region((-1, -1, -1), (1, 1, 1), level=5)
    assert part.attrs["ngdata"]["source"] == "region"
    assert place(part) == (5, "nm")
    assert [place(each) for each in ng.tokens.iter_region(*BOX, level=5, chunk_rows=100)] == [
        (5, "nm")
    ] * 2
    # Several connections, in one snapshot.
    monkeypatch.setattr("ngdata._reading.parallel._MIN_PARALLEL_ROWS", 0)
    with ngdata.connect(url, redis_url=None) as other:
        for mode in ("off", "strict"):
            assert place(other.tokens.find_in_region(*BOX, level=5, cache=mode)) == (5, "nm")


def test_a_unit_is_that_of_the_rows_own_snapshot(store):
    """Whoever writes the unit: no frame has one that was replaced before the read began."""
    url, _ = store

    async def main():
        async with await ngdata.connect_async(url) as one, await ngdata.connect_async(url) as two:
            for number in range(8):
                await one.set_level(5, unit=str(number))
                for client in (one, two):
                    frame = await client.tokens.find_nearest((0, 0, 0), level=5)
                    assert place(frame) == (5, str(number))
                    assert frame.attrs["ngdata"]["source"] != "region"
            writing = asyncio.create_task(one.set_level(5, unit="last"))
            frame = await two.tokens.find_within((0, 0, 0), 5, 5)
            assert place(frame) in {(5, "7"), (5, "last")}
            await writing

    run(main())


@pytest.mark.usefixtures("patient_redis")
def test_a_unit_from_redis(store, server):
    url, _ = store
    with ngdata.connect(url, redis_url=server.redis_url) as one:
        one.set_level(5, unit="pm")
        one.tokens.find_in_region(*BOX, level=5)
        one._loop.run(one._wrapped._reader.flush())
        with ngdata.connect(url, redis_url=server.redis_url) as two:
            frame = two.tokens.find_in_region(*BOX, level=5)
    assert frame.attrs["ngdata"]["source"] == "redis"
    assert place(frame) == (5, "pm")


def test_only_reads_of_one_level_have_a_unit(store):
    _, ng = store
    ids = ng.tokens.find_nearest((0, 0, 0), 2).token_id
    assert "unit" not in ng.tokens.get(ids).attrs["ngdata"]
    assert "unit" not in ng.graph.get_neighbors(ids).attrs["ngdata"]
    near = ng.graph.get_neighbors(ids, within=1.0, level=5)
    assert near.attrs["ngdata"]["level"] == 5


def test_set_level_changes_only_what_it_is_told(store):
    _, ng = store
    ng.set_level("physical", unit="mm", description="as measured")
    ng.set_level(0, unit="\u00b5m")
    texts = ng.describe().loc[0, ["unit", "description"]].tolist()
    assert texts == ["\u00b5m", "as measured"]
    ng.set_level(0, unit=..., description="")
    overview = ng.describe()
    assert overview.unit[0] == "\u00b5m"
    assert pd.isna(overview.description[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": 0}, "needs a unit or a description"),
        ({"level": 8, "unit": "mm"}, "level must be"),
        ({"level": 0, "unit": 1}, "unit must be text, not 1"),
        ({"level": 0, "unit": "a\nb"}, "printable text"),
        ({"level": 0, "unit": "m" * 101}, "at most 100 characters"),
        ({"level": 0, "unit": "mm", "description": "\0"}, "description must be text without NUL"),
    ],
)
def test_what_set_level_refuses(store, arguments, message):
    _, ng = store
    before = ng.describe(cache="off")
    with pytest.raises(InvalidQueryError, match=message):
        ng.set_level(**arguments)
    pd.testing.assert_frame_equal(ng.describe(cache="off"), before)


def test_levels_as_pandas_counts_them(store, rows):
    _, ng = store
    actual = ng.describe()
    assert actual.columns.tolist() == [
        *("level", "name", "unit", "tokens"),
        *(f"{axis}_{end}" for axis in "xyz" for end in ("min", "max")),
        *("token_types", "description"),
    ]
    for _, row in actual.iterrows():
        part = rows[rows.level == row.level]
        assert row["tokens"] == len(part)
        counts = part.token_type.value_counts()
        assert row.token_types == counts.to_dict()
        assert list(row.token_types.values()) == sorted(counts, reverse=True)
        for axis in "xyz":
            extent = part[axis].min(), part[axis].max()
            assert (row[f"{axis}_min"], row[f"{axis}_max"]) == extent
    assert actual.level.tolist() == [0, 5]
    assert actual["name"].tolist() == ["physical", "social"]
    assert "Aggregate" in repr(ng.explain(ng.describe))


def test_connections_and_events_as_pandas_counts_them(ng):
    assert len(ng.describe()) == len(ng.graph.describe()) == len(ng.experience.describe()) == 0
    rng = np.random.default_rng(1)
    ids = ng.tokens.bulk_create({axis: rng.random(10) for axis in "xyz"}, progress=False)
    edges = pd.DataFrame(rng.choice(ids, (200, 2)), columns=["source_id", "target_id"])
    edges["connection_type"] = rng.choice(["b", "a"], 200)
    edges["weight"] = rng.normal(size=200)
    edges["bidirectional"] = rng.random(200) < 0.3
    ng.graph.bulk_create(edges, progress=False)
    edges["self_loops"] = edges.source_id == edges.target_id
    expected = edges.groupby("connection_type", as_index=False).agg(
        connections=("weight", "size"),
        bidirectional=("bidirectional", "sum"),
        self_loops=("self_loops", "sum"),
        weight_min=("weight", "min"),
        weight_mean=("weight", "mean"),
        weight_max=("weight", "max"),
    )
    pd.testing.assert_frame_equal(ng.graph.describe(), with_texts(expected))

    events = pd.DataFrame({"event_type": rng.choice(["step", "end"], 50)})
    times = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 99, 50), "min")
    events["timestamp"], events["reward"] = times.astype("datetime64[us, UTC]"), rng.normal(size=50)
    ng.experience.bulk_create(events, progress=False)
    expected = events.groupby("event_type", as_index=False).agg(
        events=("reward", "size"),
        first_time=("timestamp", "min"),
        last_time=("timestamp", "max"),
        total_reward=("reward", "sum"),
        mean_reward=("reward", "mean"),
    )
    pd.testing.assert_frame_equal(ng.experience.describe(), with_texts(expected))
