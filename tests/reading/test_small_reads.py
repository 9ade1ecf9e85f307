"""Reads of few rows: one statement for rows and version, the same answers as by COPY."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import asyncpg
import numpy as np
import pandas as pd
import pytest

import ngdata
from ngdata._connections.arrow_session import ArrowSession
from ngdata._query import events, neighbors, regions
from ngdata._query.filters import TokenFilter
from ngdata._query.model import FEW_ROWS
from ngdata._query.places import Place
from ngdata._query.tokens import by_id
from ngdata._reading.cache.versions import Versions
from ngdata._reading.region_sizes import RegionSizes
from ngdata.errors import NotFoundError, ResultTooLarge
from tests.conftest import backends, run

EVERYTHING = TokenFilter()
HUB_DEGREE = FEW_ROWS + 5


@pytest.fixture(scope="module")
def store(new_migrated_database):
    """A store that no test changes: a cube of tokens, a hub, and events with all kinds of values."""
    with new_migrated_database() as url, ngdata.connect(url, redis_url=None) as ng:
        points = pd.DataFrame(np.random.default_rng(0).random((2000, 3)) * 10, columns=list("xyz"))
        ids = ng.tokens.bulk_create(points, progress=False).tolist()
        ends = {"source_id": [ids[0]] * HUB_DEGREE, "target_id": ids[1 : 1 + HUB_DEGREE]}
        ng.graph.bulk_create(pd.DataFrame(ends | {"connection_type": "é"}), progress=False)
        ng.graph.create_connection(ids[1], ids[2], bidirectional=True)
        for number in range(5):
            ng.experience.create_event(
                "step",
                1_700_000_000_000 - number,
                token_id=ids[number],
                action={"n": [number, None]},
            )
        ng.experience.create_event("last", 1_800_000_000_000)
        yield ng, ids


def _box(side):
    return regions.region(Place.of((1, 1, 1), (1 + side,) * 3, 0), EVERYTHING)


QUERIES = {
    "get": lambda ids: by_id([ids[7], ids[3], ids[7]]),
    "get, all columns": lambda ids: by_id(ids[:100], ["token_id", "metadata", "binary_data"]),
    "get, none": lambda _: by_id([]),
    "nearest": lambda _: regions.nearest((5, 5, 5), 10, 0, EVERYTHING),
    "nearest, none": lambda _: regions.nearest((5, 5, 5), 10, "motor", EVERYTHING),
    "neighbors": lambda ids: neighbors.neighbors([ids[1], ids[2]], "both"),
    "neighbors, none": lambda ids: neighbors.neighbors([ids[-1]], "outgoing"),
    "neighbors, more than few": lambda ids: neighbors.neighbors([ids[0]], "outgoing"),
    "recent": lambda _: events.recent(4),
    "recent, all": lambda _: events.recent(100),
    "region": lambda _: _box(2.0),
    "region, none": lambda _: _box(1e-9),
    "region, more than few": lambda _: _box(9.0),
}


@pytest.mark.parametrize("name", QUERIES)
def test_each_way_to_read_returns_the_same_answer(store, name, monkeypatch):
    ng, ids = store
    reader = ng._wrapped._reader
    query = QUERIES[name](ids)
    large = replace(query, is_lookup=False, is_small=False)
    if query.region is not None:
        monkeypatch.setattr(RegionSizes, "is_probably_small", lambda *_: True)

    async def read():
        reader.memory.clear()
        small = [await reader.answer(query, mode) for mode in ("off", "strict", "strict")]
        assert [source for _, source in small] == ["database", "database", "memory"]
        monkeypatch.setattr(RegionSizes, "is_probably_small", lambda *_: False)
        reader.memory.clear()
        by_copy = [await reader.answer(large, mode) for mode in ("off", "strict")]
        answers = [answer for answer, _ in small + by_copy]
        return answers, await reader.frame(query), {answer.version for answer in answers} - {""}

    answers, frame, versions = ng._loop.run(read())
    assert len(versions) == 1
    expected = answers[-1].frame()
    if query.region is not None:
        expected = expected.sort_values("token_id", ignore_index=True)
    for answer in answers:
        # The types that Redis holds, too.
        assert answer.table.schema.equals(answers[-1].table.schema, check_metadata=False)
        actual = answer.frame()
        if query.region is not None:
            actual = actual.sort_values("token_id", ignore_index=True)
        pd.testing.assert_frame_equal(actual, expected, check_exact=True)
    assert frame.dtypes.to_dict() == expected.dtypes.to_dict()


@pytest.fixture
def statements(monkeypatch):
    """Count what is sent: scripts, statements, and statements for a version alone."""
    sent = Counter()
    for owner, name, label in (
        (ArrowSession, "execute", "scripts"),
        (ArrowSession, "query", "statements"),
        (Versions, "_version", "versions"),
    ):
        monkeypatch.setattr(owner, name, _counted(getattr(owner, name), sent, label))
    return sent


def _counted(original, sent, label):
    def counted(*arguments, **options):
        sent[label] += 1
        return original(*arguments, **options)

    return counted


READS = {
    "get": lambda ng, ids, **o: ng.tokens.get([ids[5]], **o),
    "nearest": lambda ng, _, **o: ng.tokens.find_nearest((5, 5, 5), **o),
    "within": lambda ng, _, **o: ng.tokens.find_within((5, 5, 5), 1, **o),
    "count": lambda ng, _, **o: ng.tokens.count_in_region((1, 1, 1), (2, 2, 2), **o),
    "region": lambda ng, _, **o: ng.tokens.find_in_region((1, 1, 1), (3, 3, 3), **o),
    "neighbors": lambda ng, ids, **o: ng.graph.get_neighbors([ids[1]], **o),
    "recent": lambda ng, _, **o: ng.experience.get_recent_events(**o),
}


@pytest.mark.parametrize("name", READS)
def test_a_small_read_sends_few_statements(store, statements, name):
    ng, ids = store
    read = READS[name]
    ng.cache.clear()
    # Opens the connections, and shows how dense the tokens are.
    ng.tokens.find_in_region((6, 6, 6), (9, 9, 9))
    sent = {}
    for label, options in (("miss", {}), ("hit", {}), ("off", {"cache": "off"})):
        statements.clear()
        read(ng, ids, **options)
        sent[label] = dict(statements)
    separate = int(name in ("count", "within"))
    assert sent["miss"] == {"scripts": 2, "statements": 1 + separate}
    assert sent["hit"] == {"versions": 1}
    assert sent["off"] == {"statements": 1}


def test_a_region_that_was_taken_for_small_is_complete(store, monkeypatch):
    ng, _ = store
    # What is known is of a sparse region, from which the next seems to have no rows.
    monkeypatch.setattr(ng._wrapped._reader, "_sizes", RegionSizes())
    ng.tokens.find_in_region((-1e6,) * 3, (1e6,) * 3, cache="off")
    assert len(ng.tokens.find_in_region((0, 0, 0), (10, 10, 10), cache="off")) == 2000
    with pytest.raises(ResultTooLarge):
        ng.tokens.find_in_region((0, 0, 0), (10, 10, 10), cache="off", max_rows=1999)
    with pytest.raises(ResultTooLarge):
        ng.tokens.find_in_region((0, 0, 0), (3, 3, 3), cache="off", max_rows=3)


def test_what_is_known_of_a_regions_size():
    sizes = RegionSizes()
    small, large, plane, open_ = (_box(side).region for side in (1.0, 20.0, 0.0, np.inf))
    assert not sizes.is_probably_small(small)
    for region in (plane, open_):
        sizes.record(region, 10)
        assert not sizes.is_probably_small(small)
    sizes.record(replace(small, where=TokenFilter("neuron")), 1)
    assert not sizes.is_probably_small(small)
    sizes.record(small, 10)
    assert sizes.is_probably_small(small)
    for region in (large, plane, open_, replace(small, place=replace(small.place, level=1))):
        assert not sizes.is_probably_small(region)


def test_missing_ids_are_named_from_each_tier(store):
    ng, ids = store
    unknown = "00000000-0000-0000-0000-00000000000a"
    for _ in range(2):
        with pytest.raises(NotFoundError, match=unknown):
            ng.tokens.get([ids[0], unknown])
        with pytest.raises(NotFoundError, match=unknown):
            ng.graph.get_neighbors([unknown])
        assert len(ng.tokens.get([ids[0], unknown], missing="skip")) == 1


# ----------------------------------------------------------------------------------------- at once


async def _outsider(url):
    return await asyncpg.connect(url)


async def _until_locked_out(url, count=1):
    while await asyncio.to_thread(backends, url, "wait_event_type = 'Lock'") < count:
        await asyncio.sleep(0.01)


def _reads(reader):
    """Return a list to which each read of the database is added."""
    reads, read = [], reader._database_read

    def counted(work):
        reads.append(work)
        return read(work)

    reader._database_read = counted
    return reads


@pytest.mark.parametrize("is_written_meanwhile", [False, True])
def test_a_caller_joins_a_read_without_a_version_if_nothing_was_written(
    database_url, is_written_meanwhile
):
    async def main():
        other = await _outsider(database_url)
        async with await ngdata.connect_async(database_url, redis_url=None) as ang:
            token_id = await ang.tokens.create({0: (0, 0, 0)})
            await ang.tokens.count_in_region((0, 0, 0), (1, 1, 1))
            reads = _reads(ang._reader)
            lock = other.transaction()
            await lock.start()
            await other.execute("LOCK TABLE tokens.tokens IN ACCESS EXCLUSIVE MODE")
            callers = [asyncio.create_task(ang.tokens.get([token_id])) for _ in range(2)]
            await _until_locked_out(database_url)
            # The second caller has its version by now, and waits for the first one's read.
            while not any(
                each.callers == 2 for each in ang._reader._single_flight._running.values()
            ):
                await asyncio.sleep(0.01)
            if is_written_meanwhile:
                await other.execute("UPDATE tokens.tokens SET weight = 5")
                await lock.commit()
            else:
                await lock.rollback()
            frames = await asyncio.gather(*callers)
            weight = 5.0 if is_written_meanwhile else 1.0
            assert [frame.weight[0] for frame in frames] == [weight] * 2
            assert len(reads) == 1 + is_written_meanwhile
            sources = {frame.attrs["ngdata"]["source"] for frame in frames}
            assert sources == (
                {"database"} if is_written_meanwhile else {"database", "shared read"}
            )
            assert (await ang.tokens.get([token_id])).weight[0] == weight
        await other.close()

    run(main())


def test_a_cancelled_lookup_leaves_the_server_idle(database_url):
    async def main():
        other = await _outsider(database_url)
        async with await ngdata.connect_async(database_url, redis_url=None) as ang:
            token_id = await ang.tokens.create({0: (0, 0, 0)})
            await ang.tokens.count_in_region((0, 0, 0), (1, 1, 1))
            lock = other.transaction()
            await lock.start()
            await other.execute("LOCK TABLE tokens.tokens IN ACCESS EXCLUSIVE MODE")
            caller = asyncio.create_task(ang.tokens.get([token_id]))
            await _until_locked_out(database_url)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            busy = "application_name = 'ngdata' AND (state <> 'idle' OR wait_event_type = 'Lock')"
            assert await asyncio.to_thread(backends, database_url, busy) == 0
            await lock.rollback()
            assert len(await ang.tokens.get([token_id])) == 1
        await other.close()

    run(main())


def test_a_lookup_on_a_connection_that_was_lost_while_idle(database_url):
    with ngdata.connect(database_url, redis_url=None) as ng:
        token_id = ng.tokens.create({0: (0, 0, 0)})
        for _ in range(2):
            assert len(ng.tokens.get([token_id])) == 1
            assert len(ng.tokens.find_nearest((0, 0, 0))) == 1
            ng._wrapped._reader.memory.clear()

            async def terminate():
                other = await _outsider(database_url)
                await other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'ngdata' AND datname = current_database()"
                )
                await other.close()

            run(terminate())
