"""`ngdata optimize`: the same rows in another order, during reads and writes."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import uuid

import asyncpg
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import ngdata
from ngdata._config.settings import load_settings
from ngdata._store import owner_locks
from ngdata.admin import cli
from ngdata.admin.optimize import optimize
from ngdata.errors import ConfigError, NGDataError
from tests.conftest import execute
from tests.faults.conftest import wait_until
from tests.schema.test_triggers import derived, indexed
from tests.store.test_initial import EVERYTHING, WAITING, state

LOCKED = "SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted"


@pytest.fixture
def url(migrated_database):
    return migrated_database


def settings(url):
    return load_settings(database_url=url)


# How many pages hold the rows of a slab, of the index and of a copy in the order of PostGIS.
PAGES = "SELECT count(DISTINCT (ctid::text::point)[0]) FROM {} WHERE ST_Z(geom) BETWEEN 40 AND 45"
PLANE = "CREATE TABLE public.plane AS SELECT * FROM tokens.spatial_index_0 ORDER BY geom"


def scattered(url, rows=4000, times=20):
    """Write tokens in several loads, each of which sorts its own rows only; the same on each run."""
    random = np.random.default_rng(9)
    with ngdata.connect(url) as client:
        for _ in range(times):
            coords = random.uniform(0, 100, (rows // times, 8, 3))
            coords[:, 3:7] = np.nan
            ids = [uuid.UUID(bytes=random.bytes(16)) for _ in coords]
            weights = random.random(len(coords))
            client.tokens.bulk_create({"token_id": ids, "weight": weights}, coords=coords)
    mixed = "UPDATE tokens.tokens SET weight = weight + 1 WHERE id IN"
    execute(url, f"{mixed} (SELECT id FROM tokens.tokens ORDER BY id LIMIT {rows // 2})")


def test_the_same_rows_on_fewer_pages(url):
    scattered(url)
    execute(url, "ANALYZE")
    before, rows = state(url), indexed(url)
    results = optimize(settings(url))
    assert [result.level for result in results] == ["physical", "sensory", "motor", "abstract"]
    for result in results:
        assert result.rows == 4000
        assert result.pages_after < result.pages_before / 1.5
    assert indexed(url) == rows == derived(url)
    assert state(url) == before
    analyzed = "SELECT count(*) FROM pg_stats WHERE schemaname = 'tokens' AND attname = 'geom'"
    assert execute(url, analyzed)[0][0] >= 4


def test_one_token_far_away_does_not_spoil_the_order(url):
    points = np.random.default_rng(2).uniform(0, 100, (40_000, 3))
    points[0] = 1e30
    with ngdata.connect(url) as client:
        client.tokens.bulk_create(pd.DataFrame(points, columns=list("xyz")), initial=True)
    [(loaded,)] = execute(url, PAGES.format("tokens.spatial_index_0"))
    execute(url, "UPDATE tokens.tokens SET weight = 2", PLANE)
    assert optimize(settings(url))[0].rows == 40_000
    [(optimized,)] = execute(url, PAGES.format("tokens.spatial_index_0"))
    [(plane,)] = execute(url, PAGES.format("public.plane"))
    assert max(loaded, optimized) < 0.4 * plane


def test_an_empty_store_is_not_changed(url):
    before = state(url)
    assert optimize(settings(url)) == []
    assert state(url) == before


def test_results_are_the_same_and_cached_again(url):
    scattered(url, 1000)
    with ngdata.connect(url) as client:
        first = client.tokens.find_in_region(*EVERYTHING)
        optimize(settings(url))
        # CLUSTER rewrites the table, which renews its version.
        for source in ("database", "memory"):
            again = client.tokens.find_in_region(*EVERYTHING)
            assert again.attrs["ngdata"]["source"] == source
        uncached = client.tokens.find_in_region(*EVERYTHING, cache="off")
        by_id = [f.sort_values("token_id", ignore_index=True) for f in (first, again, uncached)]
        pd.testing.assert_frame_equal(by_id[0], by_id[1])
        pd.testing.assert_frame_equal(by_id[0], by_id[2])
        # Later writes are noticed.
        assert client.tokens.delete(first.token_id[:3]) == 3
        assert len(client.tokens.find_in_region(*EVERYTHING)) == len(first) - 3


def test_an_older_snapshot_sees_the_same_rows(url):
    scattered(url, 1000)
    count = "SELECT count(*), sum(hashtext(s::text)) FROM tokens.spatial_index AS s"

    async def go():
        old = await asyncpg.connect(url)
        try:
            async with old.transaction(isolation="repeatable_read"):
                await old.execute("SELECT 1 FROM tokens.tokens LIMIT 1")
                one = await asyncpg.connect(url)
                expected = await one.fetchrow(count)
                await one.execute("DELETE FROM tokens.tokens WHERE weight < 1")
                await one.close()
                await asyncio.to_thread(optimize, settings(url))
                assert await old.fetchrow(count) == expected
        finally:
            await old.close()

    asyncio.run(go())
    assert indexed(url) == derived(url)


def test_concurrent_reads_and_writes(url):
    scattered(url, 2000)
    wrong, stop = [], threading.Event()

    def reading(cache):
        with ngdata.connect(url) as client:
            while not stop.is_set():
                frame = client.tokens.find_in_region(*EVERYTHING, cache=cache)
                if len(frame) < 2000 or not frame.token_id.is_unique:
                    wrong.append(len(frame))

    def writing():
        with ngdata.connect(url) as client:
            while not stop.is_set():
                client.tokens.bulk_create({"x": [1.0] * 20, "y": [2.0] * 20, "z": [3.0] * 20})

    threads = [threading.Thread(target=reading, args=[mode]) for mode in ("off", "strict")]
    threads.append(threading.Thread(target=writing))
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            assert len(optimize(settings(url))) == 4
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert indexed(url) == derived(url)


def test_readers_that_keep_their_locks_make_it_fail(url, monkeypatch):
    monkeypatch.setattr(owner_locks, "LOCK_TIMEOUT_SECONDS", 0.2)
    scattered(url, 200)
    before = state(url), indexed(url)

    async def go():
        holder = await asyncpg.connect(url)
        async with holder.transaction():
            await holder.execute("SELECT count(*) FROM tokens.spatial_index")
            with pytest.raises(
                NGDataError,
                match=r"could not lock tokens\.spatial_index_0 within 0\.2 s .*pg_stat_activity",
            ):
                await asyncio.to_thread(optimize, settings(url))
        await holder.close()

    asyncio.run(go())
    assert (state(url), indexed(url)) == before


def test_an_interrupt_leaves_the_store_unchanged(url):
    """It waits at the third level that has rows, for a reader's lock."""
    scattered(url, 400)
    before = state(url), indexed(url)

    async def go():
        holder = await asyncpg.connect(url)
        async with holder.transaction():
            await holder.execute("SELECT count(*) FROM tokens.spatial_index_2")
            process = subprocess.Popen(
                [sys.executable, "-c", "from ngdata.admin.cli import app; app(['optimize'])"],
                env={**os.environ, "NGDATA_DATABASE_URL": url},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            deadline = time.monotonic() + 30
            # By another connection: a transaction sees one snapshot of the sessions.
            while execute(url, WAITING) != [(1,)]:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
            assert process.returncode != 0
        await holder.close()

    asyncio.run(go())
    wait_until(lambda: execute(url, LOCKED) == [])
    assert (state(url), indexed(url)) == before


def test_the_error_for_another_user_names_the_owner(url):
    execute(
        url,
        "DO $$ BEGIN CREATE ROLE visitor; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "SELECT tokens.grant_access('visitor', 'writer')",
    )
    try:
        with pytest.raises(
            ConfigError, match=r"visitor may not .* ngdata; run `ngdata optimize` as"
        ):
            optimize(settings(url + "&options=-c%20role%3Dvisitor"))
    finally:
        execute(url, "DROP OWNED BY visitor", "DROP ROLE visitor")


def test_the_command_prints_the_improvement(url):
    scattered(url, 1000)
    result = CliRunner().invoke(cli.app, ["optimize"], env={"NGDATA_DATABASE_URL": url})
    assert result.exit_code == 0, result.output
    first = result.stdout.splitlines()[0]
    assert first.startswith("physical: 1,000 rows; a region of a hundredth of them reads ")
    assert first.split(" s")[-1] == ""
