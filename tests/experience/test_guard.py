"""The limit on the rows of an answer: as a setting, per call, and for cached answers."""

import asyncio
import inspect
from functools import partial

import numpy as np
import pytest

import ngdata
from ngdata._config.settings import load_settings
from ngdata._connections.arrow_pool import ArrowPool
from ngdata._connections.arrow_session import TooManyRows
from ngdata._query.model import Column, Kind, Query
from ngdata.errors import ConfigError, InvalidQueryError, ResultTooLarge

EVERYTHING = (-np.inf,) * 3, (np.inf,) * 3


def backends(execute, url, condition):
    return execute(
        url,
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        f" AND pid <> pg_backend_pid() AND {condition}",
    )[0][0]


@pytest.fixture
def filled(ng):
    line = np.arange(20.0)
    ids = ng.tokens.bulk_create({"x": line, "y": line, "z": line})
    ng.graph.bulk_create({"source_id": ids[:-1].tolist(), "target_id": ids[1:].tolist()})
    run = ng.experience.start_trajectory()
    ng.experience.bulk_create(
        {
            "event_type": "step",
            "timestamp": range(20),
            "token_id": ids.tolist(),
            "trajectory_id": run,
        }
    )
    return ng, ids.tolist(), run


def reads(ng, run):
    """All reads whose answers can be large, each with 20 rows."""
    experience = ng.experience
    return {
        "find_in_region": lambda **o: ng.tokens.find_in_region(*EVERYTHING, **o),
        "find_within": lambda **o: ng.tokens.find_within((0, 0, 0), 100, **o),
        "get_events": lambda **o: experience.get_events(**o),
        "events_around": lambda **o: experience.events_around(0, 0, "1s", **o),
        "get_trajectory": lambda **o: experience.get_trajectory(run, **o),
        "activity_in_region": lambda **o: experience.activity_in_region(*EVERYTHING, **o),
        "mean_position": lambda **o: experience.mean_position(run, "1ms", **o),
        "resample_rewards": lambda **o: experience.resample_rewards("1ms", **o),
        "count_events": lambda **o: experience.count_events("1ms", **o),
        "aggregate": lambda **o: ng.tokens.aggregate("x", **o),
    }


def takes_limit(method):
    return "limit" in inspect.signature(method).parameters


@pytest.mark.parametrize("cache", ["strict", "off"])
def test_each_read_reports_the_count_and_the_next_steps(filled, cache):
    ng, _, run = filled
    for name, read in reads(ng, run).items():
        for most in (1, 19):
            with pytest.raises(ResultTooLarge, match=rf"has 20 rows, and max_rows is {most}") as e:
                read(max_rows=most, cache=cache)
            assert (e.value.count, e.value.max_rows) == (20, most), name
            assert "max_rows=None" in str(e.value)
            assert ("iter_region" in str(e.value)) == (name == "find_in_region")
            assert ("limit=" in str(e.value)) == takes_limit(
                getattr(ng.tokens, name, None) or getattr(ng.experience, name)
            )
        assert len(read(max_rows=20, cache=cache)) == len(read(max_rows=None, cache=cache)) == 20
        # The complete answer may be cached; the limit applies to each call.
        with pytest.raises(ResultTooLarge, match="has 20 rows"):
            read(max_rows=3, cache=cache)
        for wrong in (0, -1, 1.0, True, "9"):
            with pytest.raises(InvalidQueryError, match="max_rows must be an integer from 1"):
                read(max_rows=wrong, cache=cache)


def test_reads_of_the_graph(filled):
    ng, ids, _ = filled
    for method, arguments, count in (
        (ng.graph.connections, (), 19),
        (ng.graph.get_degree, (), 20),
        (ng.graph.get_neighbors, (ids,), 19),
        (ng.graph.get_degree, (ids,), 20),
    ):
        read = partial(method, *arguments)
        with pytest.raises(ResultTooLarge, match=f"has {count} rows, and max_rows is 7") as e:
            read(max_rows=7)
        assert ("limit=" in str(e.value)) == takes_limit(method)
        assert len(read(max_rows=None)) == len(read()) == count


def test_a_limit_makes_the_answer_small_enough(filled):
    ng, _, _ = filled
    assert len(ng.tokens.find_in_region(*EVERYTHING, limit=4, max_rows=4)) == 4
    assert len(ng.experience.get_events(limit=4, max_rows=4)) == 4
    assert len(ng.graph.connections(limit=4, max_rows=4)) == 4
    parts = ng.tokens.iter_region(*EVERYTHING, chunk_rows=7)
    assert [len(part) for part in parts] == [7, 7, 6]


def test_the_limit_of_the_client_and_its_exceptions(filled, database_url):
    _, ids, run = filled
    with ngdata.connect(database_url, max_rows=10) as ng:
        for read in reads(ng, run).values():
            with pytest.raises(ResultTooLarge, match="max_rows is 10"):
                read()
            assert len(read(max_rows=None)) == 20
        with pytest.raises(ResultTooLarge):
            ng.graph.connections()
        # Reads with an argument for their size are not limited.
        assert len(ng.tokens.get(ids)) == 20
        assert len(ng.tokens.find_nearest((0, 0, 0), k=15)) == 15
        assert len(ng.experience.get_recent_events(15)) == 15
        assert len(ng.tokens.density((0,) * 3, (19,) * 3, 20)) == 20
        assert ng.tokens.count_in_region(*EVERYTHING) == 20
    with ngdata.connect(database_url, max_rows=None) as ng:
        assert len(ng.tokens.find_in_region(*EVERYTHING)) == 20


def test_empty_steps_count_too(ng):
    ng.experience.bulk_create({"event_type": "step", "timestamp": [0, 10_000_000]})
    with pytest.raises(ResultTooLarge, match="has 10,000,001 rows, and max_rows is 1,000,000"):
        ng.experience.resample_rewards("1ms")
    assert len(ng.experience.resample_rewards("1s")) == 10_001


def test_a_smaller_limit_does_not_fail_a_shared_read(filled, database_url):
    """Concurrent equal calls share a read, each with its own limit."""

    async def go():
        async with await ngdata.connect_async(database_url) as ang:
            bounds = [5, None, 20, 3, 19, ...] * 3
            result = await asyncio.gather(
                *(ang.experience.get_events(max_rows=most) for most in bounds),
                return_exceptions=True,
            )
            return list(zip(bounds, result, strict=True))

    for most, answer in asyncio.run(go()):
        if most in (3, 5, 19):
            assert isinstance(answer, ResultTooLarge)
            assert (answer.count, answer.max_rows) == (20, most)
        else:
            assert len(answer) == 20


ENDLESS = Query(
    "SELECT i FROM generate_series(1, 3000000) AS i",
    (Column("i", Kind.INTEGER),),
    ("tokens.tokens",),
)


def test_reading_stops_early_and_the_server_is_idle(ng, database_url, execute):
    async def go():
        pool = ArrowPool(database_url, 1, 5.0)
        async with pool.connection() as connection:
            with pytest.raises(TooManyRows) as error:
                await connection.read(ENDLESS.sql, max_rows=1000)
            assert connection.broken, "it is not used again"
        async with pool.connection() as connection:
            assert (await connection.read("SELECT 1 AS one")).table.num_rows == 1
        pool.close()
        return error.value.rows

    assert 1000 < asyncio.run(go()) < 3_000_000
    with pytest.raises(ResultTooLarge, match="has 3,000,000 rows"):
        ng._loop.run(ng.experience._wrapped._reader.frame(ENDLESS, max_rows=1000))
    assert backends(execute, database_url, "state <> 'idle'") == 0
    assert ng.cache.stats().entries == 0, "a part of an answer is not kept"
    assert ng.pool_status()["read"]["in_use"] == 0


def test_the_setting(monkeypatch, tmp_path):
    file = tmp_path / "database.yaml"
    assert load_settings().max_rows == 1_000_000
    assert load_settings(max_rows=5).max_rows == 5
    monkeypatch.setenv("NGDATA_MAX_ROWS", "7")
    assert load_settings().max_rows == 7
    monkeypatch.setenv("NGDATA_MAX_ROWS", "none")
    assert load_settings().max_rows is None
    monkeypatch.delenv("NGDATA_MAX_ROWS")
    for text, result in (("9", 9), ("none", None), ("${MOST:11}", 11), ("${MOST:none}", None)):
        file.write_text(f'database: {{postgres: {{max_rows: "{text}"}}}}')
        assert load_settings(config=file).max_rows == result
    for wrong in (0, -5, "many"):
        with pytest.raises(ConfigError, match="max_rows must be"):
            load_settings(max_rows=wrong)
