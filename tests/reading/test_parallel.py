"""Large reads over several connections: one moment, within the pool, and nothing left behind."""

from __future__ import annotations

import asyncio
import math

import asyncpg
import numpy as np
import pandas as pd
import pytest

import ngdata
from ngdata._connections.arrow_connection import ArrowConnection
from ngdata._reading import parallel
from ngdata.errors import QueryTimeout
from tests.conftest import backends

WHOLE = ((-np.inf,) * 3, (np.inf,) * 3)
ROWS = 4000
OURS = "application_name = 'ngdata' AND (state <> 'idle' OR xact_start IS NOT NULL)"


@pytest.fixture(params=["sweeps", "slabs"], autouse=True)
def always(request, monkeypatch):
    """Every region is large, and much of its level or little."""
    monkeypatch.setattr(parallel, "_MIN_PARALLEL_ROWS", -1)
    monkeypatch.setattr(
        parallel, "_SWEEP_SHARE", -math.inf if request.param == "sweeps" else math.inf
    )


@pytest.fixture
def filled(ng):
    points = np.random.default_rng(0).random((ROWS, 3))
    frame = pd.DataFrame(points, columns=list("xyz"))
    ng.tokens.bulk_create(frame)
    return ng


@pytest.fixture
def at_each_step(monkeypatch):
    """Call a function before each step of a read, with its connection and what it sends."""
    original, hooks = ArrowConnection.run, []

    async def stepped(self, work):
        for hook in hooks:
            await hook(self)
        return await original(self, work)

    monkeypatch.setattr(ArrowConnection, "run", stepped)
    return hooks.append


def test_it_is_one_moment_under_a_writer(filled, database_url):
    """Each transaction gives all tokens one weight, and moves them where another part looks."""

    async def write(until):
        connection = await asyncpg.connect(database_url)
        generation = 1
        while not until.is_set():
            generation += 1
            async with connection.transaction():
                await connection.execute(
                    "UPDATE tokens.tokens SET weight = $1,"
                    " coord_x = array_fill(1 - coord_x[1], ARRAY[1]) || coord_x[2:]",
                    float(generation),
                )
        await connection.close()

    async def main():
        done = asyncio.Event()
        writer = asyncio.create_task(write(done))
        seen = set()
        async with await ngdata.connect_async(database_url) as ang:
            turn = 0
            while len(seen) < 8:
                turn += 1
                found = await ang.tokens.find_in_region(
                    *WHOLE, cache="off" if turn % 2 else "strict"
                )
                assert len(found) == found.token_id.nunique() == ROWS
                assert found.weight.nunique() == 1
                seen.add(found.weight[0])
            assert (await ang.pool_status())["read"]["size"] > 1
        done.set()
        await writer

    asyncio.run(main())


def test_its_version_is_that_of_its_snapshot(filled, at_each_step, database_url):
    """What is written after the snapshot makes the answer stale at once."""
    sent = []

    async def write(connection):
        if len(sent) < 5:
            sent.append(connection)
            other = await asyncpg.connect(database_url)
            await other.execute("UPDATE tokens.tokens SET weight = weight + 1")
            await other.close()

    async def main():
        async with await ngdata.connect_async(database_url) as ang:
            at_each_step(write)
            for _ in range(4):
                found = await ang.tokens.find_in_region(*WHOLE)
                await ang.cache.stats()
            assert set(found.weight) == {6.0}
            assert found.attrs["ngdata"]["source"] == "memory"

    asyncio.run(main())
    assert len(sent) == 5


def test_a_cancelled_read_leaves_nothing_behind(filled, at_each_step, database_url):
    """At each step, of the leader and the helper alike."""

    async def main():
        async with await ngdata.connect_async(database_url) as ang:
            steps = 0

            async def count(connection):
                nonlocal steps
                steps += 1
                if steps == stop:
                    read.cancel()
                    await asyncio.sleep(0)

            at_each_step(count)
            for stop in range(1, 40):
                steps = 0
                read = asyncio.create_task(ang.tokens.find_in_region(*WHOLE, cache="off"))
                try:
                    assert len(await read) == ROWS
                except asyncio.CancelledError:
                    pass
                else:
                    if steps < stop:
                        break
                assert (await ang.pool_status())["read"]["in_use"] == 0
                deadline = asyncio.get_running_loop().time() + 10
                while backends(database_url, OURS):
                    assert asyncio.get_running_loop().time() < deadline
                    await asyncio.sleep(0.01)
            assert stop > 8
            stop = 0
            assert len(await ang.tokens.find_in_region(*WHOLE, cache="off")) == ROWS

    asyncio.run(main())


def test_a_helper_that_dies_is_no_reason_to_fail(filled, at_each_step, database_url):
    async def main():
        async with await ngdata.connect_async(database_url) as ang:
            for _ in range(2):  # the second time, helpers have connections of before
                killed, helpers = [], set()

                async def kill(connection, killed=killed, helpers=helpers):
                    if connection.helpers:
                        helpers.update(map(id, connection.helpers))
                    elif id(connection) in helpers and not killed:
                        killed.append(connection)
                        other = await asyncpg.connect(database_url)
                        await other.execute(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                            " WHERE application_name = 'ngdata' AND query LIKE '%SNAPSHOT%'"
                        )
                        await other.close()

                at_each_step(kill)
                found = await ang.tokens.find_in_region(*WHOLE, cache="off")
                assert len(found) == found.token_id.nunique() == ROWS
                assert killed

    asyncio.run(main())


def test_who_waits_for_a_lock_in_between_stops_nobody(filled, at_each_step, database_url):
    """The helper would wait for them, they for the leader, and the leader for the helper."""

    async def main():
        other = await asyncpg.connect(database_url)
        waiting = []

        async def lock(connection):
            if not connection.helpers or waiting:
                return
            held = await other.fetchval(
                "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE"
                " relation = 'tokens.spatial_index'::regclass AND application_name = 'ngdata'"
            )
            if held:
                waiting.append(
                    asyncio.create_task(
                        other.execute("BEGIN; LOCK TABLE tokens.spatial_index; COMMIT")
                    )
                )
                await asyncio.sleep(0.2)

        at_each_step(lock)
        async with await ngdata.connect_async(database_url) as ang:
            async with asyncio.timeout(60):
                found = await ang.tokens.find_in_region(*WHOLE, cache="off")
            assert len(found) == found.token_id.nunique() == ROWS
        assert len(waiting) == 1
        await waiting[0]
        await other.close()

    asyncio.run(main())


def test_an_error_of_the_read_is_told_and_leaves_nothing_behind(filled, database_url):
    async def main():
        async with await ngdata.connect_async(database_url, statement_timeout=1.0) as ang:
            other = await asyncpg.connect(database_url)
            await other.execute("BEGIN; LOCK TABLE tokens.spatial_index_0")
            with pytest.raises(QueryTimeout):
                await ang.tokens.find_in_region(*WHOLE, cache="off")
            await other.execute("ROLLBACK")
            await other.close()
            assert backends(database_url, OURS) == 0
            assert len(await ang.tokens.find_in_region(*WHOLE, cache="off")) == ROWS

    asyncio.run(main())


def test_the_pool_is_the_bound(filled, at_each_step, database_url):
    async def main(most):
        used = set()
        async with await ngdata.connect_async(database_url, pool_max_size=most) as ang:

            async def note(connection):
                used.add(id(connection))

            at_each_step(note)
            frames = await asyncio.gather(
                *(ang.tokens.find_in_region(*WHOLE, cache="off") for _ in range(12))
            )
            assert all(len(frame) == ROWS for frame in frames)
            status = (await ang.pool_status())["read"]
            assert status["size"] <= most
            assert status["in_use"] == status["waiting"] == 0
            return len(used)

    assert asyncio.run(main(1)) == 1
    assert asyncio.run(main(3)) <= 3


def test_nobody_helps_who_reads_alone(filled, at_each_step, monkeypatch, database_url):
    """Small answers, those with a limit, and behind a pooler."""
    used = set()

    async def note(connection):
        used.add(id(connection))

    at_each_step(note)

    async def main():
        async with await ngdata.connect_async(database_url, cache="off") as ang:
            await ang.tokens.find_in_region(*WHOLE, limit=ROWS)
            await ang.tokens.find_within((0, 0, 0), 10.0)
            await ang.tokens.count_in_region(*WHOLE)
            ang._database.arrow.behind_pooler = True
            await ang.tokens.find_in_region(*WHOLE)
            ang._database.arrow.behind_pooler = False
            monkeypatch.setattr(parallel, "_MIN_PARALLEL_ROWS", 1e9)
            await ang.tokens.find_in_region(*WHOLE)
            assert len(used) == 1
            monkeypatch.setattr(parallel, "_MIN_PARALLEL_ROWS", -1)
            assert len(await ang.tokens.find_in_region(*WHOLE)) == ROWS
            assert len(used) > 1

    filled.close()
    asyncio.run(main())


def test_who_may_only_read_may_read_in_parts(filled, at_each_step, database_url):
    """Of the partitions, an analyst has no rights."""
    used = set()

    async def note(connection):
        used.add(id(connection))

    at_each_step(note)
    url = database_url + "&options=-c%20role%3Dngdata_analyst"
    with ngdata.connect(url, cache="off") as analyst:
        assert len(analyst.tokens.find_in_region(*WHOLE)) == ROWS
    assert len(used) > 1
