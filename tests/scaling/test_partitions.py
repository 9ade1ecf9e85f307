"""Partitions are disjoint, complete and of equal size, in regions and in windows of time."""

from __future__ import annotations

import datetime as dt
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngdata._arguments.texts import STR
from ngdata.errors import InvalidQueryError
from tests.conftest import IS_PANDAS_2
from tests.scaling.conftest import (
    LIMITS,
    events_of,
    random_events,
    random_tokens,
    same_set,
    sizes,
    whole,
    with_points,
)

NEAR_ONE = (math.nextafter(1, 0), 1.0, math.nextafter(1, 2))
COORDINATES = st.sampled_from([*NEAR_ONE, -0.0, 0.0, 5e-324, -1e37, 1e37, 100_000.01])


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    points=st.lists(st.tuples(COORDINATES, COORDINATES, COORDINATES), min_size=1, max_size=25),
    npartitions=st.integers(1, 12),
)
def test_points_on_the_cuts(ng, points, npartitions):
    ng.tokens.delete(ng.tokens.find_in_region(*LIMITS, columns=["token_id"]).token_id)
    with_points(ng, points)
    box = ((0, -1e37, -1e37), (1e37, 1e37, 1e37))
    expected = ng.tokens.find_in_region(*box)
    frame = ng.tokens.to_dask(*box, npartitions=npartitions)
    same_set(whole(frame), expected)
    assert frame.npartitions == max(1, min(npartitions, len(expected)))
    assert max(sizes(frame)) - min(sizes(frame)) <= 1


def test_tokens_at_one_point(ng):
    ids = with_points(ng, [(1, 2, 3)] * 1000)
    frame = ng.tokens.to_dask((1, 2, 3), (1, 2, 3), npartitions=7)
    assert sorted(whole(frame).token_id) == sorted(ids)
    assert set(sizes(frame)) == {142, 143}


def test_a_dense_cluster_of_tokens_is_split_too(ng):
    """Split by volume, all but the outliers would be in one partition."""
    points = np.random.default_rng(1).normal(size=(500, 3)) * 1e-6
    with_points(ng, [*points, (1e6, 0, 0), (-1e6, 0, 0)])
    assert set(sizes(ng.tokens.to_dask(*LIMITS, npartitions=10))) == {50, 51}


@pytest.mark.parametrize("spread", [(1, 50, 2), (50, 2, 1), (1, 2, 50)])
def test_the_cut_is_across_the_widest_axis(ng, spread):
    points = np.random.default_rng(2).random((400, 3)) * spread
    with_points(ng, points)
    frame = ng.tokens.to_dask(*LIMITS, npartitions=4)
    axis = "xyz"[int(np.argmax(spread))]
    lows, highs = (
        frame.map_partitions(lambda part, name=name: getattr(part[axis], name)())
        .compute(scheduler="synchronous")
        .tolist()
        for name in ("min", "max")
    )
    assert all(high <= low for high, low in zip(highs, lows[1:], strict=False))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"token_type": "a"},
        {"token_type": ["a", "b"], "min_weight": 0.5},
        {"flags": 2},
        {"columns": ["weight", "token_id"]},
    ],
    ids=str,
)
def test_tokens_are_those_of_find_in_region(ng, options):
    ng.tokens.bulk_create(random_tokens(3, 600), level="motor")
    box = ((-1, -5, 0), (2, 15, 1))
    expected = ng.tokens.find_in_region(*box, "motor", **options)
    frame = ng.tokens.to_dask(*box, "motor", rows_per_partition=50, **options)
    assert 0 < len(expected) < 600
    assert frame.npartitions == math.ceil(len(expected) / 50)
    pd.testing.assert_series_equal(frame.dtypes, expected.dtypes)
    same_set(whole(frame), expected)


@pytest.mark.parametrize(
    "options", [{"npartitions": 1}, {"npartitions": 7}, {"rows_per_partition": 11}], ids=str
)
def test_events_are_those_of_get_events_in_its_order(ng, options):
    ng.experience.bulk_create(random_events(4, 300))
    for window in ((None, None), (1000, 4000), (dt.datetime(1970, 1, 1, tzinfo=dt.UTC), 2000)):
        expected = ng.experience.get_events(*window, event_type="a")
        frame = ng.experience.to_dask(*window, event_type="a", **options)
        pd.testing.assert_frame_equal(events_of(frame), expected)
        assert max(sizes(frame)) - min(sizes(frame)) <= 1


def test_events_of_tokens_and_trajectories(ng):
    token, other = with_points(ng, [(0, 0, 0), (1, 1, 1)])
    events = random_events(5, 60).assign(token_id=[token, other, None] * 20)
    ng.experience.bulk_create(events)
    ng.experience.bulk_create(random_events(6, 60))
    here = ((0, 0, 0), (0.5, 0.5, 0.5))
    trajectory = events.trajectory_id[0]
    for filters in ({"token_ids": [token]}, {"trajectory_id": trajectory}, {"within": here}):
        expected = ng.experience.get_events(**filters)
        frame = ng.experience.to_dask(npartitions=4, **filters)
        assert len(expected) in (20, 60)
        pd.testing.assert_frame_equal(events_of(frame), expected)


def test_the_largest_and_smallest_numbers_of_events(ng):
    numbers = pd.array([2**63 - 1, None, -(2**63), 0] * 5, dtype="Int64")
    ng.experience.bulk_create({"event_type": "a", "timestamp": 0, "sequence_number": numbers})
    expected = ng.experience.get_events()
    frame = ng.experience.to_dask(npartitions=20)
    pd.testing.assert_frame_equal(events_of(frame), expected)


def test_an_empty_store(ng):
    tokens = ng.tokens.to_dask(*LIMITS, npartitions=5)
    events = ng.experience.to_dask(rows_per_partition=5)
    assert tokens.npartitions == events.npartitions == 1
    pd.testing.assert_frame_equal(whole(tokens), ng.tokens.find_in_region(*LIMITS))
    pd.testing.assert_frame_equal(events_of(events), ng.experience.get_events())


def test_a_partition_that_became_empty(ng):
    ids = with_points(ng, [(float(i), 0, 0) for i in range(10)])
    frame = ng.tokens.to_dask(*LIMITS, npartitions=5)
    ng.tokens.delete(ids[:2])
    part = frame.partitions[0].compute(scheduler="synchronous")
    pd.testing.assert_frame_equal(part, ng.tokens.find_in_region((20, 0, 0), (20, 0, 0)))
    assert len(whole(frame)) == 8


def test_only_the_needed_columns_are_read(ng, monkeypatch):
    from ngdata._reading.dask_frames import tasks

    read_columns = []
    read_with_version = tasks.read_with_version
    monkeypatch.setattr(
        tasks,
        "read_with_version",
        lambda reader, query, with_version: (
            read_columns.append([column.name for column in query.columns])
            or read_with_version(reader, query, with_version)
        ),
    )
    ng.tokens.bulk_create(random_tokens(7, 30))
    ng.experience.bulk_create(random_events(7, 30))
    tokens = ng.tokens.to_dask(*LIMITS, npartitions=1)
    events = ng.experience.to_dask(npartitions=1)
    frame = ng.tokens.find_in_region(*LIMITS)
    assert np.isclose(tokens.weight.sum().compute(scheduler="synchronous"), frame.weight.sum())
    means = tokens.groupby("token_type").z.mean().compute(scheduler="synchronous")
    assert means.sort_index().to_dict() == frame.groupby("token_type").z.mean().to_dict()
    assert whole(tokens[[]]).shape == (30, 0)
    assert len(whole(events[["reward"]])) == 30
    assert [set(names) for names in read_columns] == [
        {"weight"},
        {"token_type", "z"},
        {"token_id"},
        {"reward"},
    ]


# Dask itself uses what pandas 3.1 deprecates.
@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_events_go_to_parquet_with_their_json_as_text(ng, tmp_path):
    ng.experience.bulk_create(random_events(8, 20).assign(metadata=[{"n": [1]}, None] * 10))
    columns = ["event_id", "metadata", "state_after", "created_at"]
    frame = ng.experience.to_dask(columns=columns, npartitions=3)
    frame.to_parquet(tmp_path / "events", compute_kwargs={"scheduler": "synchronous"})
    expected = ng.experience.get_events(columns=columns)
    result = pd.read_parquet(tmp_path / "events").reset_index(drop=True)
    assert result.columns.tolist() == columns
    if IS_PANDAS_2:  # has another dtype of text of this name, which it reads
        result["event_id"] = result.event_id.astype(STR)
    pd.testing.assert_frame_equal(
        result[["event_id", "created_at"]], expected[["event_id", "created_at"]]
    )
    assert result.state_after.map(json.loads).tolist() == expected.state_after.tolist()
    dicts = [None if pd.isna(text) else json.loads(text) for text in result.metadata]
    assert dicts == expected.metadata.tolist()


def test_async_returns_the_same_as_sync(database_url):
    import asyncio

    import ngdata

    async def run():
        async with await ngdata.connect_async(database_url) as ang:
            await ang.tokens.bulk_create(random_tokens(9, 50))
            await ang.experience.bulk_create(random_events(9, 50))
            return (
                await ang.tokens.to_dask(*LIMITS, npartitions=3),
                await ang.experience.to_dask(npartitions=3),
                await ang.tokens.find_in_region(*LIMITS),
                await ang.experience.get_events(),
            )

    tokens, events, all_tokens, all_events = asyncio.run(run())
    same_set(whole(tokens), all_tokens)  # the client is closed by now, and not needed
    pd.testing.assert_frame_equal(events_of(events), all_events)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "neither"),
        ({"npartitions": 2, "rows_per_partition": 2}, "both"),
        ({"npartitions": 0}, "npartitions must be an integer from 1"),
        ({"npartitions": True}, "npartitions must be an integer from 1"),
        ({"npartitions": 2.0}, "npartitions must be an integer from 1"),
        ({"npartitions": 10**7}, "to 1000000, not 10000000"),
        ({"rows_per_partition": -1}, "rows_per_partition must be an integer from 1"),
        ({"rows_per_partition": "2"}, "rows_per_partition must be an integer from 1"),
    ],
    ids=str,
)
def test_invalid_numbers(ng, options, text):
    for make in (
        lambda: ng.tokens.to_dask(*LIMITS, **options),
        lambda: ng.experience.to_dask(**options),
    ):
        with pytest.raises(InvalidQueryError, match=text):
            make()


def test_other_invalid_arguments(ng):
    for arguments, options in (
        (((1, 1, 1), (0, 0, 0)), {}),
        (((0, 0, math.nan), (1, 1, 1)), {}),
        (((0, 0, 0), (1, 1, 1), 8), {}),
        (LIMITS, {"columns": ["colour"]}),
        (LIMITS, {"flags": -1}),
    ):
        with pytest.raises(InvalidQueryError):
            ng.tokens.to_dask(*arguments, npartitions=2, **options)
    for window in ((dt.datetime(2026, 1, 1), None), (2, 1)):
        with pytest.raises(InvalidQueryError):
            ng.experience.to_dask(*window, npartitions=2)


def test_the_index_finds_each_partition(new_migrated_database, execute):
    """Otherwise each partition would read the whole region."""
    import ngdata
    from ngdata._client import explain

    with new_migrated_database() as url, ngdata.connect(url) as ng:
        ng.tokens.bulk_create(random_tokens(10, 20_000))
        times = np.arange(20_000) * 1000
        ng.experience.bulk_create({"event_type": "a", "timestamp": times})
        execute(url, "ANALYZE")
        tokens = ng.tokens.to_dask(*LIMITS, npartitions=20)
        events = ng.experience.to_dask(npartitions=20)
        for frame, index in ((tokens, "&&&"), (events, "ix_experience_events_timestamp")):
            part, columns = frame.expr.operand("iterables")[0][7], list(frame.columns)
            plan = ng._loop.run(
                explain.plan_of(ng._wrapped._database, part.rows.query(columns), analyze=False)
            )
            assert index in plan.text
            assert "Seq Scan" not in plan.text


def test_explain_accepts_both_methods(ng, tmp_path):
    with_points(ng, [(1, 2, 3)] * 10)
    assert ng.explain(ng.tokens.to_dask, *LIMITS, npartitions=2).sql.startswith("SELECT")
    plan = ng.explain(ng.tokens.to_geoparquet, tmp_path / "x.parquet", *LIMITS)
    assert "spatial_index" in plan.text
    assert list(tmp_path.iterdir()) == []


def test_the_rows_are_counted_once(new_migrated_database, execute):
    """The planner expects one row in a finite box, for which it would count them again."""
    import ngdata
    from ngdata._client import explain
    from ngdata._query import events, regions
    from ngdata._query.filters import TokenFilter
    from ngdata._query.partitions import PartCount, event_split, region_split
    from ngdata._query.places import Place

    box = Place.of((-100, -100, -100), (100, 100, 100), 0)
    with new_migrated_database() as url, ngdata.connect(url) as ng:
        ng.tokens.bulk_create(random_tokens(11, 5000))
        ng.experience.bulk_create(random_events(11, 5000))
        execute(url, "ANALYZE")
        assert regions.count(box, TokenFilter()).sql.count("ST_X") == 2
        for split in (
            region_split(box, TokenFilter(), None, PartCount(8)),
            event_split(events.EventFilter(0, 10**12), PartCount(8)),
        ):
            work = explain.plan_of(ng._wrapped._database, split.bounds, analyze=True)
            plan = ng._loop.run(work).text
            aggregates = [line for line in plan.splitlines() if "Aggregate" in line]
            assert aggregates
            assert all("loops=1)" in line for line in aggregates), plan
