"""Every read of a client as of a pin, compared with the same read of a copy of the store at the pin."""

import asyncio
import inspect
import time

import numpy as np
import pandas as pd
import pytest

import ngdata
from ngdata.files import open_dataset
from tests.history.conftest import WHOLE, Copies, same

BOX = ngdata.Box((1, 1, 1), (7, 7, 7))
SPHERE = ngdata.Sphere((5, 5, 5), 4.0)
CORNERS = ((1, 1, 1), (7, 7, 7))
STEP = "1h"


def fill(client):
    """Fill a store with everything that is read."""
    chance = np.random.default_rng(7)

    def numbers(count):
        """Return numbers whose sums are exact in any order."""
        return chance.integers(0, 1024, count) / 1024

    coords = np.full((300, 8, 3), np.nan)
    coords[:, 0] = chance.integers(0, 10, (300, 3))
    coords[100:250, 2] = chance.integers(0, 10, (150, 3))
    tokens = pd.DataFrame(
        {
            "token_type": chance.choice(["a", "b", "c"], 300),
            "weight": numbers(300),
            "flags": chance.integers(0, 8, 300),
            "metadata": [{"n": int(n)} for n in chance.integers(0, 5, 300)],
        }
    )
    ids = client.tokens.bulk_create(tokens, coords=coords)
    ends = chance.integers(0, 300, (600, 2))
    client.graph.bulk_create(
        {
            "source_id": ids[ends[:, 0]].tolist(),
            "target_id": ids[ends[:, 1]].tolist(),
            "connection_type": chance.choice(["x", "y"], 600),
            "weight": numbers(600),
            "bidirectional": chance.random(600) < 0.2,
        }
    )
    start = pd.Timestamp("2026-01-01", tz="UTC")
    trajectories = [f"00000000-0000-4000-8000-{n:012}" for n in range(4)]
    client.experience.bulk_create(
        {
            "event_type": chance.choice(["seen", "moved"], 200),
            "timestamp": start + pd.to_timedelta(chance.integers(0, 86_400, 200), "s"),
            "token_id": ids[chance.integers(0, 300, 200)].tolist(),
            "reward": numbers(200),
            "trajectory_id": chance.choice(trajectories, 200),
            "sequence_number": np.arange(200),
        }
    )
    client.set_level(0, unit="nm")
    return ids.tolist(), trajectories


def change(client, ids):
    """Change something of everything."""
    client.set_level(0, unit="mm", description="other")
    client.tokens.delete(ids[:20])
    client.tokens.update(ids[20:60], weight=9.0, token_type="late")
    moved = client.tokens.get(ids[60:120], columns=["token_id"]).assign(x=5.0, y=5.0, z=5.0)
    client.tokens.bulk_update(moved)
    client.tokens.bulk_create(pd.DataFrame({"x": [5.0] * 30, "y": 5.0, "z": 5.0}))
    edges = client.graph.connections()
    client.graph.delete(edges.connection_id[:50])
    client.graph.update(edges.connection_id[50:100], weight=0.25)
    client.graph.create_connection(ids[200], ids[201], "x", 0.001)
    events = client.experience.get_events()
    client.experience.delete_events(events.event_id[:20])
    client.experience.update_event(events.event_id[30], reward=100.0)
    client.experience.create_event("late", token_id=ids[200], reward=5.0)


@pytest.fixture(scope="module")
def stores(new_migrated_database):
    """A client as of a pin of a store that was changed since, and one of the copy."""
    with (
        new_migrated_database() as url,
        new_migrated_database() as other,
        ngdata.connect(url) as live,
        ngdata.connect(other) as copy,
    ):
        ids, trajectories = fill(live)
        copies = Copies(live, url)
        pin = copies.pin()
        change(live, ids)
        copies.restore(pin, other)
        copy.set_level(0, unit="nm")
        yield live, live.as_of(pin), copy, ids, trajectories


def dask(frame):
    return frame.compute(scheduler="threads").reset_index(drop=True)


# A read's method, the read itself (of a client, the tokens' and the trajectories' ids), and the
# columns by which its rows are sorted if their order is free.
def drawn(view):
    """Return what a view draws, in true coordinates: points, colours, and the ends of connections."""
    explorer = view._explorer
    while explorer.lines is None and explorer.problem is None:
        time.sleep(0.01)
    assert explorer.problem is None
    restore = explorer.reference.restore
    places = restore(explorer.whole.points), restore(explorer.lines.ends)
    colors = explorer.whole.colors
    view.close()
    return [array.round(6).tolist() for array in (*places, colors)]


READS = [
    ("view", lambda c, i, t: drawn(c.view(color="token_type", connections=True)), None),
    (
        "view",
        lambda c, i, t: drawn(c.view(SPHERE, points=20, color="weight", connections="x")),
        None,
    ),
    ("tokens.find_in_region", lambda c, i, t: c.tokens.find_in_region(*WHOLE), ["token_id"]),
    (
        "tokens.find_in_region",
        lambda c, i, t: c.tokens.find_in_region(BOX - SPHERE, columns=["token_id", "metadata"]),
        ["token_id"],
    ),
    (
        "tokens.find_in_region",
        lambda c, i, t: c.tokens.find_in_region(BOX & SPHERE.on("motor"), limit=20),
        None,
    ),
    (
        "tokens.find_in_region",
        lambda c, i, t: c.tokens.find_in_region(
            BOX, token_type=["a", "late"], flags=1, min_weight=0.1, where={"n": 3}
        ),
        ["token_id"],
    ),
    ("tokens.count_in_region", lambda c, i, t: c.tokens.count_in_region(BOX), None),
    ("tokens.density", lambda c, i, t: c.tokens.density(BOX, bins=4), None),
    ("tokens.find_nearest", lambda c, i, t: c.tokens.find_nearest((5, 5, 5), k=25), None),
    (
        "tokens.find_nearest",
        lambda c, i, t: c.tokens.find_nearest((5, 5, 5), 25, token_type="b", max_distance=3),
        None,
    ),
    ("tokens.find_within", lambda c, i, t: c.tokens.find_within((5, 5, 5), 3.5), None),
    ("tokens.find_nearest_many", lambda c, i, t: c.tokens.find_nearest_many(i[20:70], 4), None),
    (
        "tokens.find_within_many",
        lambda c, i, t: c.tokens.find_within_many([(5, 5, 5), (0, 0, 0)], [2.0, 3.0]),
        None,
    ),
    ("tokens.pairs_within", lambda c, i, t: c.tokens.pairs_within(1.0, within=BOX), None),
    (
        "tokens.aggregate",
        lambda c, i, t: c.tokens.aggregate(
            "token_type", within=BOX, n="count", heaviest=("weight", "max")
        ),
        None,
    ),
    ("tokens.aggregate", lambda c, i, t: c.tokens.aggregate("metadata.n", n="count"), None),
    ("tokens.sample", lambda c, i, t: c.tokens.sample(40, seed=3), None),
    ("tokens.get", lambda c, i, t: flat(c.tokens.get([*i[:40], *i[200:210]])), None),
    (
        "tokens.get",
        lambda c, i, t: c.tokens.get(i[250:50:-9], columns=["metadata", "updated_at"]),
        None,
    ),
    ("tokens.find", lambda c, i, t: c.tokens.find(token_type="a"), ["token_id"]),
    ("tokens.join", lambda c, i, t: c.tokens.join(pd.DataFrame({"token_id": i[::7]})), None),
    ("describe", lambda c, i, t: c.describe(), None),
    ("graph.describe", lambda c, i, t: c.graph.describe(), None),
    ("experience.describe", lambda c, i, t: c.experience.describe(), None),
    (
        "graph.get_neighbors",
        lambda c, i, t: c.graph.get_neighbors(i[:30], "both", depth=3),
        None,
    ),
    (
        "graph.get_neighbors",
        lambda c, i, t: c.graph.get_neighbors(i[100:140], depth=2, within=4.0),
        None,
    ),
    ("graph.get_degree", lambda c, i, t: c.graph.get_degree(weighted=True), None),
    ("graph.get_degree", lambda c, i, t: c.graph.get_degree(i[:30]), None),
    (
        "graph.connections",
        lambda c, i, t: c.graph.connections(columns=["connection_id", "weight", "created_at"]),
        ["connection_id"],
    ),
    (
        "graph.connections",
        lambda c, i, t: c.graph.connections(within=BOX, ends="any"),
        ["connection_id"],
    ),
    (
        "graph.shortest_path",
        lambda c, i, t: c.graph.shortest_path(i[200], i[201], direction="both"),
        None,
    ),
    (
        "graph.shortest_path",
        lambda c, i, t: c.graph.shortest_path(i[200], i[201], weighted=True, direction="both"),
        None,
    ),
    (
        "graph.shortest_path",
        lambda c, i, t: c.graph.shortest_path(i[200], i[10], max_depth=4, direction="both"),
        None,
    ),
    (
        "graph.shortest_lengths",
        lambda c, i, t: c.graph.shortest_lengths(i[200], weighted=True),
        None,
    ),
    ("graph.components", lambda c, i, t: c.graph.components(), None),
    ("graph.subgraph", lambda c, i, t: c.graph.subgraph(i[5], depth=2).connections, None),
    ("graph.subgraph", lambda c, i, t: flat(c.graph.subgraph(within=BOX).tokens), None),
    ("experience.get_events", lambda c, i, t: c.experience.get_events(), None),
    ("experience.get_events", lambda c, i, t: c.experience.get_events(within=BOX, limit=50), None),
    (
        "experience.events_around",
        lambda c, i, t: c.experience.events_around("2026-01-01T12:00Z", "3h"),
        None,
    ),
    ("experience.get_recent_events", lambda c, i, t: c.experience.get_recent_events(30), None),
    ("experience.get_trajectory", lambda c, i, t: c.experience.get_trajectory(t[0]), None),
    ("experience.list_trajectories", lambda c, i, t: c.experience.list_trajectories(), None),
    ("experience.resample_rewards", lambda c, i, t: c.experience.resample_rewards("1h"), None),
    (
        "experience.count_events",
        lambda c, i, t: c.experience.count_events("1h", by=["event_type"], within=BOX),
        None,
    ),
    (
        "experience.activity_in_region",
        lambda c, i, t: c.experience.activity_in_region(*CORNERS),
        None,
    ),
    ("experience.mean_position", lambda c, i, t: c.experience.mean_position(t[1], "1h"), None),
    (
        "tokens.iter_region",
        lambda c, i, t: pd.concat(c.tokens.iter_region(BOX, chunk_rows=50), ignore_index=True),
        ["token_id"],
    ),
    (
        "tokens.iter_all",
        lambda c, i, t: pd.concat(c.tokens.iter_all(chunk_rows=90), ignore_index=True),
        ["token_id"],
    ),
    (
        "tokens.to_dask",
        lambda c, i, t: dask(c.tokens.to_dask(BOX, npartitions=3, consistent=True)),
        ["token_id"],
    ),
    (
        "experience.to_dask",
        lambda c, i, t: dask(c.experience.to_dask(npartitions=3)),
        ["event_id"],
    ),
]

# What is stored once, or asks nothing of the tables.
WITHOUT_A_MOMENT = {
    "graph.list_snapshots",
    "graph.load_snapshot",
    "graph.diff_snapshots",
    "tokens.to_geoparquet",
    "experience.to_parquet",
}


def flat(frame):
    """Replace arrays, which pandas does not compare, by lists."""
    return frame.assign(coords=[repr(coords.tolist()) for coords in frame.coords])


def test_every_read_is_of_the_pin(stores):
    live, past, copy, ids, trajectories = stores
    changed = 0
    for method, read, by in READS:
        expected = read(copy, ids, trajectories)
        # From the database, and from memory.
        for answer in (read(past, ids, trajectories), read(past, ids, trajectories)):
            if isinstance(expected, pd.DataFrame):
                same(answer, expected, by)
                assert len(expected), method
                if "source" in answer.attrs.get("ngdata", {}) and not method.endswith("dask"):
                    assert answer.attrs["ngdata"].get("pin", {}).get("id") == past.pin.id, (
                        method,
                        answer.attrs,
                    )
            else:
                assert answer == expected
        changed += differs(live, read, ids, trajectories, expected)
    # The reads would show it if they were of now.
    assert changed > 0.9 * len(READS)


def differs(live, read, ids, trajectories, expected):
    try:
        now = read(live, ids, trajectories)
    except ngdata.errors.NotFoundError:
        return True
    return not now.equals(expected) if isinstance(expected, pd.DataFrame) else now != expected


def test_every_read_method_is_read(stores):
    """Methods with a cache mode read; so do those that return frames one by one, or for Dask."""
    live = stores[0]
    methods = {
        f"{prefix}{name}"
        for prefix, owner in (
            ("", live),
            ("tokens.", live.tokens),
            ("graph.", live.graph),
            ("experience.", live.experience),
        )
        for name, method in inspect.getmembers(owner, inspect.ismethod)
        if not name.startswith("_")
        and ("cache" in inspect.signature(method).parameters or name.startswith(("iter_", "to_")))
    }
    assert methods - WITHOUT_A_MOMENT == {method for method, _, _ in READS}


def test_answers_as_of_a_pin_are_cached_without_the_server(stores, monkeypatch):
    _, past, *_ = stores
    first = past.tokens.find_in_region(*WHOLE)
    assert first.attrs["ngdata"]["source"] in ("database", "memory")

    def refuse(*_):
        raise AssertionError("the server was asked")

    monkeypatch.setattr(past._wrapped._reader, "_table", refuse)
    monkeypatch.setattr(past._wrapped._reader.versions, "current", refuse)
    same(past.tokens.find_in_region(*WHOLE), first)
    inside = past.tokens.find_in_region(BOX)
    assert inside.attrs["ngdata"]["source"] == "region"
    assert past.cache.stats().memory_hits > 0


def test_async_reads_are_of_the_pin(stores):
    live, past, copy, *_ = stores
    url = live._wrapped._settings.database_url.get_secret_value()

    async def read():
        async with await ngdata.connect_async(url, as_of=past.pin.label) as client:
            assert client.pin == past.pin
            frames = [part async for part in client.tokens.iter_region(*WHOLE, chunk_rows=64)]
            return pd.concat(frames, ignore_index=True), await client.experience.get_events()

    tokens, events = asyncio.run(read())
    same(tokens, copy.tokens.find_in_region(*WHOLE), ["token_id"])
    same(events, copy.experience.get_events())


def test_files_are_of_the_pin(stores, tmp_path):
    _, past, copy, *_ = stores
    files = []
    for client, name in ((past, "past"), (copy, "copy")):
        client.tokens.to_geoparquet(tmp_path / f"{name}.parquet", WHOLE[0], WHOLE[1])
        frame = pd.read_parquet(tmp_path / f"{name}.parquet")
        client.tokens.to_geoparquet(tmp_path / name, partitions=3)
        client.experience.to_parquet(tmp_path / f"{name} events", partitions=3)
        tokens = open_dataset(tmp_path / name).find_in_region(*WHOLE)
        files.append(
            (
                frame.sort_values("token_id", ignore_index=True),
                tokens.sort_values("token_id", ignore_index=True),
                open_dataset(tmp_path / f"{name} events").get_events(),
            )
        )
    for past_frame, expected in zip(*files, strict=True):
        assert len(expected)
        same(past_frame, expected)
