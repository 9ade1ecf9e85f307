"""Large reads over several connections: one snapshot, within the pool's limit, without leaks."""

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
    """Treat every region as large, and as a large or small share of its level."""
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
    """Return a function that registers a hook, called with the connection before each step."""
    original, hooks = ArrowConnection.run, []

    async def stepped(self, work):
        for hook in hooks:
            await hook(self)
        return await original(self, work)

    monkeypatch.setattr(ArrowConnection, "run", stepped)
    return hooks.append


def test_the_answer_is_of_one_snapshot_under_a_writer(filled, database_url):
    """Each transaction sets one weight for all tokens, and moves them to another part's range."""

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
        is_done = asyncio.Event()
        writer = asyncio.create_task(write(is_done))
        weights = set()
        async with await ngdata.connect_async(database_url) as ang:
            turn = 0
            while len(weights) < 8:
                turn += 1
                frame = await ang.tokens.find_in_region(
                    *WHOLE, cache="off" if turn % 2 else "strict"
                )
                assert len(frame) == frame.token_id.nunique() == ROWS
                assert frame.weight.nunique() == 1
                weights.add(frame.weight[0])
            assert (await ang.pool_status())["read"]["size"] > 1
        is_done.set()
        await writer

    asyncio.run(main())


def test_the_version_is_that_of_the_snapshot(filled, at_each_step, database_url):
    """A write after the snapshot makes the answer out of date at once."""
    writes = []

    async def write(connection):
        if len(writes) < 5:
            writes.append(connection)
            other = await asyncpg.connect(database_url)
            await other.execute("UPDATE tokens.tokens SET weight = weight + 1")
            await other.close()

    async def main():
        async with await ngdata.connect_async(database_url) as ang:
            at_each_step(write)
            for _ in range(4):
                frame = await ang.tokens.find_in_region(*WHOLE)
                await ang.cache.stats()
            assert set(frame.weight) == {6.0}
            assert frame.attrs["ngdata"]["source"] == "memory"

    asyncio.run(main())
    assert len(writes) == 5


def test_a_cancelled_read_leaves_nothing_behind(filled, at_each_step, database_url):
    """It is cancelled at each step, of the leader and of the helper."""

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


def test_a_read_succeeds_if_a_helper_dies(filled, at_each_step, database_url):
    async def main():
        async with await ngdata.connect_async(database_url) as ang:
            for _ in range(2):  # the second time, the helpers reuse connections
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
                frame = await ang.tokens.find_in_region(*WHOLE, cache="off")
                assert len(frame) == frame.token_id.nunique() == ROWS
                assert killed

    asyncio.run(main())


def test_a_lock_requested_between_leader_and_helper_is_no_deadlock(
    filled, at_each_step, database_url
):
    """The helper would wait for that request, the request for the leader, the leader for the helper."""

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
                frame = await ang.tokens.find_in_region(*WHOLE, cache="off")
            assert len(frame) == frame.token_id.nunique() == ROWS
        assert len(waiting) == 1
        await waiting[0]
        await other.close()

    asyncio.run(main())


def test_an_error_of_the_read_is_raised_and_leaves_nothing_behind(filled, database_url):
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


def test_the_pool_limits_the_helpers(filled, at_each_step, database_url):
    async def main(limit):
        used = set()
        async with await ngdata.connect_async(database_url, pool_max_size=limit) as ang:

            async def note(connection):
                used.add(id(connection))

            at_each_step(note)
            frames = await asyncio.gather(
                *(ang.tokens.find_in_region(*WHOLE, cache="off") for _ in range(12))
            )
            assert all(len(frame) == ROWS for frame in frames)
            status = (await ang.pool_status())["read"]
            assert status["size"] <= limit
            assert status["in_use"] == status["waiting"] == 0
            return len(used)

    assert asyncio.run(main(1)) == 1
    assert asyncio.run(main(3)) <= 3


def test_other_reads_use_no_helpers(filled, at_each_step, monkeypatch, database_url):
    """These are small answers, those with a limit, and all behind a pooler."""
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


def test_a_read_only_role_can_read_in_parts(filled, at_each_step, database_url):
    """An analyst has no privileges on the partitions."""
    used = set()

    async def note(connection):
        used.add(id(connection))

    at_each_step(note)
    url = database_url + "&options=-c%20role%3Dngdata_analyst"
    with ngdata.connect(url, cache="off") as analyst:
        assert len(analyst.tokens.find_in_region(*WHOLE)) == ROWS
    assert len(used) > 1
