"""Every method that takes a region, with regions of several shapes and levels, beside a copy in NumPy."""

import asyncio

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import ngdata
from ngdata import EVERYWHERE, NOWHERE, Box, HalfSpace, Hull, Sphere
from ngdata.errors import InvalidQueryError
from tests.conftest import empty

RNG = np.random.default_rng(21)
COUNT = 1200
CUBE = Box((-1, -1, -1), (1, 1, 1))
BALL = Sphere((0, 0, 0), 0.9)
REGIONS = {
    "sphere": BALL,
    "box less sphere": CUBE - BALL,
    "hull": Hull(RNG.normal(size=(40, 3)) * 0.5),
    "two apart": Sphere((1, 1, 1), 0.5) | Sphere((-1, -1, -1), 0.5),
    "without end": HalfSpace((1, 1, 0), -1),
    "two levels": CUBE & Sphere((0, 0, 0), 1).on("motor"),
    "either level": BALL | Sphere((0, 0, 0), 0.5).on("motor"),
    "not on the other": CUBE - Sphere((0, 0, 0), 1).on("motor"),
    "the other alone": Sphere((0, 0, 0), 0.8).on("motor"),
    "a shell on the other": (BALL - Sphere((0, 0, 0), 0.5)).on("motor"),
    "half-spaces on the other": HalfSpace((1, 0, 0), 0).on("motor")
    & HalfSpace((0, 1, 0), 0).on("motor"),
    "outside on the other": ~BALL.on("motor") & ~HalfSpace((1, 0, 0), 0).on("motor"),
    "a shell on two": CUBE & (BALL - Sphere((0, 0, 0), 0.5)).on("motor"),
    "defined on the other": EVERYWHERE.on("motor"),
    "three levels": CUBE & BALL.on("motor") & Box((-1, -1, -1), (2, 2, 2)).on("social"),
    "nowhere": NOWHERE,
    "everywhere": EVERYWHERE,
}
for name, count in (("five holes", 5), ("seven holes", 7)):
    # What is excluded on one level must not hide what is excluded on the other.
    holes = CUBE
    for number in range(count):
        holes -= Sphere((0.2 * number - 0.5, 0, 0), 0.15)
    REGIONS[name] = holes - Sphere((0, 0, 0), 1).on("motor")
    REGIONS[f"{name} or a sphere"] = REGIONS[name] | Sphere((2, 2, 2), 0.5)
several = NOWHERE
for center in RNG.uniform(-1, 1, (20, 3)):
    several |= Sphere(center, 0.2)
REGIONS["twenty"] = several


class Store:
    """A client, and all that was written, as arrays."""

    def __init__(self, client):
        self.client = client
        self.coords = np.full((COUNT, 8, 3), np.nan)
        for level, share in ((0, 1.0), (2, 0.6), (5, 0.5)):
            rows = RNG.random(COUNT) < share
            self.coords[rows, level] = RNG.normal(size=(rows.sum(), 3)) * 0.7
        # On the surface.
        self.coords[:6, 0] = [
            (0.9, 0, 0),
            (1, 1, 1),
            (1, 0.5, 0),
            (0, 0, 0),
            (-1, 0, 0),
            (0, 0.9, 0),
        ]
        self.types = RNG.choice(["a", "b"], COUNT)
        frame = pd.DataFrame({"token_type": self.types})
        self.ids = client.tokens.bulk_create(frame, coords=self.coords).to_numpy()
        ends = RNG.integers(0, COUNT, (2, 3000))
        self.edges = pd.DataFrame({"source_id": self.ids[ends[0]], "target_id": self.ids[ends[1]]})
        client.graph.bulk_create(self.edges)
        self.events = pd.DataFrame(
            {
                "event_type": "seen",
                "timestamp": np.arange(2000) * 1000,
                "token_id": self.ids[RNG.integers(0, COUNT, 2000)],
                "reward": RNG.random(2000),
            }
        )
        client.experience.bulk_create(self.events)

    def inside(self, region, level=0):
        """Return the ids of the tokens in a region, by `contains`."""
        defined = ~np.isnan(self.coords[:, level, 0])
        if region._levels == {None}:
            return set(self.ids[defined & region.contains(self.coords[:, level])])
        return set(self.ids[defined & region.contains(self.coords, level)])


@pytest.fixture(scope="module")
def store(server):
    empty(server.database_url)
    with ngdata.connect(server.database_url, cache="off") as client:
        yield Store(client)


@pytest.mark.parametrize("level", [0, "motor"])
@pytest.mark.parametrize("name", REGIONS)
def test_tokens(store, tmp_path, name, level):
    region, number = REGIONS[name], 2 if level == "motor" else 0
    tokens, expected = store.client.tokens, store.inside(REGIONS[name], number)
    frame = tokens.find_in_region(region, level=level)
    assert set(frame.token_id) == expected
    assert len(frame) == len(expected)
    assert (frame.level == number).all()
    rows = np.searchsorted(store.ids, frame.token_id, sorter=np.argsort(store.ids))
    own = store.coords[np.argsort(store.ids)[rows], number]
    assert (frame[["x", "y", "z"]].to_numpy() == own).all()
    assert tokens.count_in_region(region, None, level) == len(expected)
    parts = list(tokens.iter_region(region, level=level, chunk_rows=100))
    assert {i for part in parts for i in part.token_id} == expected
    first = tokens.find_in_region(region, level=level, limit=7, token_type="a")
    typed = sorted(expected & set(store.ids[store.types == "a"]))
    assert first.token_id.tolist() == typed[:7]
    assert tokens.to_geoparquet(tmp_path / "r.parquet", region, level=level) == len(expected)
    assert set(pq.read_table(tmp_path / "r.parquet")["token_id"].to_pylist()) == expected


@pytest.mark.parametrize(
    "name", ["sphere", "two levels", "hull", "twenty", "nowhere", "without end"]
)
def test_partitions(store, name):
    expected = store.inside(REGIONS[name])
    frame = store.client.tokens.to_dask(REGIONS[name], npartitions=4)
    parts = [part.compute().token_id.tolist() for part in frame.partitions]
    assert sorted(i for part in parts for i in part) == sorted(expected)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("name", ["sphere", "box less sphere", "hull", "two apart", "two levels"])
def test_density(store, name):
    region = REGIONS[name]
    cells = store.client.tokens.density(region, bins=(3, 4, 5))
    frame = store.client.tokens.find_in_region(region)
    corners = region.bounds
    ranges = list(zip(corners.min_coords, corners.max_coords, strict=True))
    counts, _ = np.histogramdd(frame[["x", "y", "z"]].to_numpy(), bins=(3, 4, 5), range=ranges)
    assert sorted(cells["count"]) == sorted(counts[counts > 0])
    with pytest.raises(InvalidQueryError, match="finite"):
        store.client.tokens.density(HalfSpace((1, 0, 0), 0))


@pytest.mark.parametrize("name", REGIONS)
def test_within(store, name):
    region, expected = REGIONS[name], store.inside(REGIONS[name])
    graph, experience = store.client.graph, store.client.experience
    source, target = (store.edges[end].isin(expected) for end in ("source_id", "target_id"))
    assert len(graph.connections(within=region)) == (source & target).sum()
    assert len(graph.connections(within=(region, 0), ends="any")) == (source | target).sum()
    assert len(graph.connections(within=(region, "motor"))) == (
        store.edges.isin(store.inside(region, 2)).all(axis=1).sum()
    )
    here = store.events[store.events.token_id.isin(expected)]
    assert len(experience.get_events(within=region)) == len(here)
    assert len(experience.get_events(0, 500_000, within=region)) == (here.timestamp < 500_000).sum()
    activity = experience.activity_in_region(region)
    sums = here.groupby("token_id").reward.agg(["size", "sum"]).sort_index()
    assert activity.token_id.tolist() == sums.index.tolist()
    assert activity.event_count.tolist() == sums["size"].tolist()
    assert activity.total_reward.to_numpy() == pytest.approx(sums["sum"].to_numpy())


def test_async(store):
    url = store.client._wrapped._settings.database_url.get_secret_value()

    async def read():
        async with await ngdata.connect_async(url) as ang:
            return await ang.tokens.find_in_region(REGIONS["two levels"])

    assert set(asyncio.run(read()).token_id) == store.inside(REGIONS["two levels"])


def test_deletion(store):
    tokens, region = store.client.tokens, Sphere((0, 0, 0), 0.3) - Box((0, 0, 0), (1, 1, 1))
    ids = tokens.bulk_create(pd.DataFrame(RNG.uniform(-0.3, 0.3, (50, 3)), columns=list("xyz")))
    mine = set(tokens.find_in_region(region, level=0).token_id)
    before = tokens.count_in_region(EVERYWHERE)
    assert tokens.delete(ids[ids.isin(mine)], within=region) == ids.isin(mine).sum()
    assert tokens.delete(ids, within=region) == 0
    assert tokens.count_in_region(EVERYWHERE) == before - ids.isin(mine).sum()
    tokens.delete(ids[~ids.isin(mine)])


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda t: t.find_in_region(CUBE, (1, 1, 1)), "either a region or the two corners"),
        (lambda t: t.find_in_region((0, 0, 0)), "come with max_coords, the other corner"),
        (lambda t: t.find_in_region(CUBE, "motor"), "a level is level="),
        (lambda t: t.to_geoparquet("x", CUBE, (1, 1, 1)), "either a region or the two corners"),
        (lambda t: t.delete(within=(CUBE, 9)), "level must be"),
        (lambda t: t.delete(within=(CUBE, CUBE)), "join regions by"),
    ],
)
def test_bad_regions(store, call, problem):
    with pytest.raises(InvalidQueryError, match=problem):
        call(store.client.tokens)


def test_empty_answers_say_why(store):
    with pytest.warns(UserWarning, match="lies outside the extent of level 'physical'"):
        store.client.tokens.find_in_region(Sphere((50, 50, 50), 3) - Sphere((50, 50, 50), 2))
