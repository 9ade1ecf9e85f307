"""Plans at 100,000 tokens: the GiST index serves all spatial reads, with or without statistics."""

import inspect
import math
import re

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import pandas as pd
import pytest

import ngdata
from ngdata import EVERYWHERE, NOWHERE, Box, HalfSpace, Hull, Mesh, OrientedBox, Sphere
from ngdata._arguments.texts import STR
from ngdata._client import experience, graph, token_batches, token_lookups, token_summaries, tokens
from ngdata._reading import batches
from ngdata.errors import InvalidQueryError

COUNT = 100_000
CENTRE = (500.0, 500.0, 500.0)
INF = math.inf
RARE, FREQUENT = {"cell": {"type": "AVA"}}, {"cell": {"type": "BWM"}, "side": "L"}
EVERYTHING = (-INF,) * 3, (INF,) * 3
BOXES = {
    "cube": ((100,) * 3, (200,) * 3),
    "plane": ((100.5, 0, 0), (100.5, 1000, 1000)),
    "point": (CENTRE, CENTRE),
    "slab, four sides open": ((100, -INF, -INF), (105, INF, INF)),
    "corner, three sides open": ((900, 900, 900), (INF, INF, INF)),
    "column, two sides open": ((100, 100, -INF), (130, 130, INF)),
    "outside": ((-INF,) * 3, (-1,) * 3),
}


@pytest.fixture(scope="module")
def url(new_migrated_database):
    """Yield a database of this module's own: statistics of other tests' data outlive a TRUNCATE."""
    with new_migrated_database() as address:
        yield address


@pytest.fixture(scope="module")
def database(url):
    with adbc.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def cloud():
    rng = np.random.default_rng(11)
    frame = pd.DataFrame(rng.uniform(0, 1000, (COUNT, 3)), columns=list("xyz"))
    frame["token_type"] = np.where(rng.random(COUNT) < 0.001, "rare", "common")
    frame["weight"] = rng.random(COUNT)
    # Half of the tokens are of one kind, twenty of another.
    frame["metadata"] = [
        RARE if n % 5000 == 0 else FREQUENT if n % 2 else None for n in range(COUNT)
    ]
    return frame


@pytest.fixture(scope="module")
def loaded(url, database, cloud):
    with ngdata.connect(url) as client:
        # Autovacuum must not run ANALYZE during the tests.
        for table in ("spatial_index_0", "tokens"):
            statement = f"ALTER TABLE tokens.{table} SET (autovacuum_enabled = off)"
            database.execute(statement).close()
        coords = np.full((COUNT, 8, 3), np.nan)
        coords[:, 0] = cloud[["x", "y", "z"]]
        # Some are elsewhere on another level.
        coords[: COUNT // 5, 2] = coords[: COUNT // 5, 0][::-1]
        client.tokens.bulk_create(cloud.drop(columns=["x", "y", "z"]), coords=coords)
        yield client


@pytest.fixture(params=["right after the load", "analyzed"], scope="module")
def ng(request, loaded, database):
    if request.param == "analyzed":
        database.execute("ANALYZE tokens.spatial_index, tokens.tokens").close()
    return loaded


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_boxes(ng, box):
    bounded = all(map(math.isfinite, (*box[0], *box[1])))
    for read, options in (
        (ng.tokens.find_in_region, {}),
        (ng.tokens.find_in_region, {"limit": 5}),
        (ng.tokens.find_in_region, {"token_type": "rare", "flags": 0, "min_weight": 0.5}),
        (ng.tokens.find_in_region, {"columns": ["token_id"]}),
        (ng.tokens.iter_region, {"chunk_rows": 10}),
        (ng.tokens.count_in_region, {}),
        *([(ng.tokens.density, {}), (ng.tokens.density, {"bins": (1, 2, 3)})] if bounded else []),
    ):
        plan = ng.explain(read, *box, **options)
        assert plan.uses_spatial_index, plan.text
    for read, argument, options in (
        (ng.tokens.aggregate, "token_type", {}),
        (ng.tokens.aggregate, None, {"cell": 50, "total": ("weight", "sum")}),
        (ng.tokens.aggregate, ["flags", "timestamp"], {"middle": ("x", "median")}),
        (ng.tokens.sample, 10, {}),
        (ng.tokens.sample, 50_000, {"token_type": "rare", "columns": ["x"]}),
    ):
        plan = ng.explain(read, argument, within=box, **options)
        assert plan.uses_spatial_index, plan.text
    assert ng.explain(ng.tokens.iter_all).sql == ng.explain(ng.tokens.iter_region, *EVERYTHING).sql


def spheres(count):
    several = NOWHERE
    for center in np.random.default_rng(4).uniform(100, 900, (count, 3)):
        several |= Sphere(center, 20)
    return several


BALL = Sphere(CENTRE, 60)
CORNERS = np.random.default_rng(5).uniform(400, 550, (60, 3))
TETRAHEDRON = [(0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2)]
REGIONS = {
    "sphere": BALL,
    "shell": BALL - Sphere(CENTRE, 40),
    "cut": Box((400,) * 3, (500,) * 3) & HalfSpace((1, 1, 1), 1350),
    "turned": OrientedBox(CENTRE, np.linalg.qr(CORNERS[:3])[0], (50, 60, 70)),
    "hull": Hull(CORNERS),
    "mesh": Mesh(np.vstack([CORNERS[:3], [(480, 480, 700)]]), TETRAHEDRON),
    "not both": BALL ^ Hull(CORNERS),
    "two apart": Sphere((100, 100, 100), 30) | Sphere((900, 900, 900), 30),
    "hundred": spheres(100),
    "two levels": Box((400,) * 3, (600,) * 3) & Sphere(CENTRE, 30).on("motor"),
    "not on the other": BALL - Sphere(CENTRE, 30).on("motor"),
    "the other alone": BALL.on("motor"),
    "of everything": EVERYWHERE & BALL.on("motor"),
}


@pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS)
def test_regions(ng, region):
    for read, options in (
        (ng.tokens.find_in_region, {}),
        (ng.tokens.find_in_region, {"limit": 5}),
        (ng.tokens.find_in_region, {"token_type": "rare", "flags": 0, "min_weight": 0.5}),
        (ng.tokens.iter_region, {"chunk_rows": 10}),
        (ng.tokens.count_in_region, {}),
    ):
        plan = ng.explain(read, region, **options)
        assert plan.uses_spatial_index, plan.text
        assert "Seq Scan on spatial_index_0" not in plan.text
    plan = ng.explain(ng.graph.connections, within=region)
    assert plan.uses_spatial_index, plan.text


@pytest.mark.parametrize("point", [CENTRE, (0.0, 0.0, 0.0), (1e6, 1e6, 1e6)])
def test_nearest_and_within(ng, point):
    for read, arguments, options in (
        (ng.tokens.find_nearest, (1,), {}),
        (ng.tokens.find_nearest, (10,), {}),
        (ng.tokens.find_nearest, (100,), {}),
        (ng.tokens.find_nearest, (10,), {"max_distance": 20}),
        (ng.tokens.find_nearest, (10,), {"min_weight": 0.5}),
        (ng.tokens.find_within, (0,), {}),
        (ng.tokens.find_within, (50,), {}),
        (ng.tokens.find_within, (50,), {"limit": 3}),
        (ng.tokens.find_within, (50,), {"token_type": "rare", "columns": ["distance"]}),
    ):
        plan = ng.explain(read, point, *arguments, **options)
        assert plan.uses_spatial_index, plan.text


def test_batches(ng, cloud, monkeypatch):
    points = cloud[[*"xyz"]].to_numpy()[:40]
    ids = ng.tokens.find_nearest(CENTRE, 40).token_id
    radii = np.linspace(1, 50, len(points))
    monkeypatch.setattr(batches, "forced_way", "server")
    for read, arguments, options in (
        (ng.tokens.find_nearest_many, (points, 1), {}),
        (ng.tokens.find_nearest_many, (points, 100), {}),
        (ng.tokens.find_nearest_many, (points, 10), {"max_distance": 20}),
        (ng.tokens.find_nearest_many, (points, 10), {"min_weight": 0.5, "columns": ["distance"]}),
        (ng.tokens.find_nearest_many, (ids, 10), {}),
        (ng.tokens.find_within_many, (points, 50), {}),
        (ng.tokens.find_within_many, (points, radii), {"token_type": "rare"}),
        (ng.tokens.find_within_many, (ids, radii), {}),
        (ng.tokens.pairs_within, (5,), {"within": BOXES["cube"]}),
        (ng.tokens.pairs_within, (5,), {"token_type": "rare", "other_type": "common"}),
    ):
        plan = ng.explain(read, *arguments, **options)
        assert plan.uses_spatial_index, plan.text
        if read != ng.tokens.pairs_within:
            assert "Seq Scan" not in plan.text, plan.text


def test_a_large_batch_is_one_read_of_the_level(ng, cloud):
    points = np.repeat(cloud[[*"xyz"]].to_numpy()[:1000], 5, axis=0)
    plan = ng.explain(ng.tokens.find_nearest_many, points)
    assert plan.sql == ng.explain(ng.tokens.iter_all).sql
    near = ng.tokens.find_nearest_many(points[:200], 3, cache="off")
    assert near.attrs["ngdata"]["way"] == "server"
    large = ng.tokens.find_nearest_many(points, 3)
    assert large.attrs["ngdata"]["way"] == "client tree"
    pd.testing.assert_frame_equal(near, large[: len(near)], check_exact=True)


def by_metadata(plan):
    return "Bitmap Index Scan on ix_tokens_metadata" in plan.text


def test_find_uses_the_index_of_metadata(ng):
    plan = ng.explain(ng.tokens.find, where=RARE)
    assert by_metadata(plan), plan.text


@pytest.mark.parametrize("ng", ["analyzed"], indirect=True)
def test_few_tokens_with_metadata_are_read_by_its_index(ng):
    """From them to their places, however large the region."""
    for read, *arguments in (
        (ng.tokens.find_in_region, *EVERYTHING),
        (ng.tokens.find_in_region, (100,) * 3, (900,) * 3),
        (ng.tokens.count_in_region, (100,) * 3, (900,) * 3),
        (ng.tokens.density, (100,) * 3, (900,) * 3),
        (ng.tokens.find_nearest, CENTRE, 100),
        (ng.tokens.find_within, CENTRE, 400),
        (ng.tokens.sample, 100),
        (ng.tokens.aggregate, "metadata.cell.type"),
    ):
        plan = ng.explain(read, *arguments, where=RARE)
        assert by_metadata(plan), plan.text
        assert not plan.uses_spatial_index, plan.text


@pytest.mark.parametrize("ng", ["analyzed"], indirect=True)
def test_few_tokens_in_a_region_are_read_by_the_spatial_index(ng):
    """From them to their metadata, however many have such metadata."""
    box = BOXES["cube"]
    for read, *arguments in (
        (ng.tokens.find_in_region, *box),
        (ng.tokens.count_in_region, *box),
        (ng.tokens.density, *box),
        (ng.tokens.iter_region, *box),
        (ng.tokens.find_nearest, CENTRE, 10),
        (ng.tokens.find_within, CENTRE, 50),
    ):
        plan = ng.explain(read, *arguments, where=FREQUENT)
        assert plan.uses_spatial_index, plan.text
        assert "pk_tokens" in plan.text, plan.text
    for read, *arguments in ((ng.tokens.find_in_region, *box), (ng.tokens.find_nearest, CENTRE)):
        plan = ng.explain(read, *arguments, columns=["x", "metadata.side"])
        assert plan.uses_spatial_index, plan.text


@pytest.mark.parametrize("ng", ["analyzed"], indirect=True)
def test_further_columns_are_read_for_the_sample_alone(ng):
    plan = ng.explain(ng.tokens.sample, 10, columns=["x", "metadata.side"], analyze=True)
    assert "pk_tokens" in plan.text, plan.text
    assert "loops=10" in plan.text, plan.text


@pytest.mark.parametrize("ng", ["analyzed"], indirect=True)
def test_many_tokens_with_metadata_in_a_large_region_are_joined_at_once(ng):
    """Looked up one by one, their metadata would take longer than the region itself."""
    for options in ({"where": FREQUENT}, {"columns": ["x", "y", "z", "metadata.side"]}):
        plan = ng.explain(ng.tokens.find_in_region, (1,) * 3, (999,) * 3, **options)
        assert "Hash Cond" in plan.text, plan.text


@pytest.mark.parametrize("ng", ["analyzed"], indirect=True)
def test_answers_with_metadata_at_this_size(ng, cloud):
    offset = cloud[[*"xyz"]].to_numpy() - CENTRE
    distance = np.sqrt(offset[:, 0] ** 2 + offset[:, 1] ** 2 + offset[:, 2] ** 2)
    for where in (RARE, FREQUENT):
        has_it = np.array([metadata is where for metadata in cloud.metadata])
        nearest = ng.tokens.find_nearest(CENTRE, 15, where=where)
        assert np.array_equal(nearest.distance, np.sort(distance[has_it])[:15])
        columns = ["x", "metadata.cell.type"]
        for box in (((1,) * 3, (999,) * 3), BOXES["cube"]):
            inside = ((offset + CENTRE >= box[0]) & (offset + CENTRE <= box[1])).all(axis=1)
            frame = ng.tokens.find_in_region(*box, where=where, columns=columns)
            assert sorted(frame.x) == sorted(cloud.x[has_it & inside])
            assert set(frame[columns[1]]) <= {where["cell"]["type"]}
    frame = ng.tokens.find_in_region(*EVERYTHING, columns=columns, cache="off")
    kinds = frame.set_index("x").sort_index()[columns[1]]
    expected = [metadata and metadata["cell"]["type"] for metadata in cloud.metadata]
    expected = pd.Series(expected, index=cloud.x, dtype=STR).sort_index()
    pd.testing.assert_series_equal(kinds, expected, check_names=False)


@pytest.mark.parametrize("ng", ["analyzed"], indirect=True)
def test_more_of_the_nearest_than_the_expected_rows_of_a_level_without_statistics(ng):
    """Without statistics, the planner assumes that a level is 0.5% of its table, and more rows than
    that the whole table; after ANALYZE it knows the size.
    """
    assert ng.explain(ng.tokens.find_nearest, CENTRE, 10_000).uses_spatial_index


def test_the_plan_is_of_the_query_that_is_read(ng, cloud):
    plan = ng.explain(ng.tokens.find_in_region, *BOXES["cube"], analyze=True)
    inside = (cloud[[*"xyz"]].to_numpy() >= 100) & (cloud[[*"xyz"]].to_numpy() <= 200)
    # PostgreSQL 18 writes 98.00.
    assert re.search(rf"rows={inside.all(axis=1).sum()}(\.00)? loops=1", plan.text)
    assert plan.text in repr(plan)
    assert repr(plan).startswith("Plan: rows found by the spatial index")


def test_a_plan_without_the_index_does_not_claim_it(ng):
    for read, *arguments in (
        (ng.tokens.get, ng.tokens.find_nearest(CENTRE, 1).token_id),
        (ng.graph.get_degree,),
        (ng.experience.get_recent_events, 5),
    ):
        plan = ng.explain(read, *arguments)
        assert not plan.uses_spatial_index
        assert repr(plan).startswith("Plan: rows not found by the spatial index")


def test_answers_at_this_size(ng, cloud):
    points = cloud[[*"xyz"]].to_numpy()
    for low, high in BOXES.values():
        inside = ((points >= low) & (points <= high)).all(axis=1)
        frame = ng.tokens.find_in_region(low, high, columns=["x"])
        assert sorted(frame.x) == sorted(cloud.x[inside])
    offset = points - CENTRE
    distance = np.sqrt(offset[:, 0] ** 2 + offset[:, 1] ** 2 + offset[:, 2] ** 2)
    nearest = ng.tokens.find_nearest(CENTRE, 1000).distance
    assert np.array_equal(nearest, np.sort(distance)[:1000])
    within = ng.tokens.find_within(CENTRE, 50).distance
    assert np.array_equal(within, np.sort(distance[distance <= 50]))


def test_reading_everything_may_use_any_plan(ng):
    """In a box around everything, a sequential scan is as good, and returns the same."""
    everything = (-INF,) * 3, (INF,) * 3
    assert ng.tokens.count_in_region(*everything) == COUNT
    assert len(ng.tokens.find_nearest(CENTRE, 2 * COUNT, columns=["distance"])) == COUNT
    assert sum(len(part) for part in ng.tokens.iter_region(*everything, columns=["x"])) == COUNT


def test_calls_that_cannot_be_explained(ng):
    with pytest.raises(InvalidQueryError, match="swapped"):
        ng.explain(ng.tokens.find_in_region, (1, 1, 1), (0, 0, 0))
    for max_rows in (0, True, 1.5, "none"):
        with pytest.raises(InvalidQueryError, match="max_rows must be an integer from 1"):
            ng.explain(ng.tokens.find_in_region, (0, 0, 0), (1, 1, 1), max_rows=max_rows)
    line = {"x": [0.0], "y": [0.0], "z": [0.0]}
    for write, *arguments in (
        (ng.tokens.delete, []),
        (ng.tokens.bulk_create, line),
        (ng.tokens.create, {0: (0, 0, 0)}),
        (ng.experience.start_trajectory,),
    ):
        with pytest.raises(InvalidQueryError, match="explain takes a method that reads"):
            ng.explain(write, *arguments)
    assert ng.tokens.count_in_region((-INF,) * 3, (INF,) * 3) == COUNT, "nothing was written"


def test_a_method_of_another_client(ng, url):
    with ngdata.connect(url) as other:
        message = "read must be a method of this client, but this count_in_region is one of another"
        with pytest.raises(InvalidQueryError, match=message):
            ng.explain(other.tokens.count_in_region, (0, 0, 0), (1, 1, 1))


def test_all_writes_of_a_client_can_be_refused():
    """`explain` refuses them in `Namespace._transaction`, so no method may go around it."""
    for module in (tokens, token_batches, token_lookups, token_summaries, graph, experience):
        assert "_database.transaction" not in inspect.getsource(module)
