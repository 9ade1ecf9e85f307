"""The modes strict, ttl and off; which clients share answers in Redis; the statistics."""

import asyncio
import contextlib
import math
import re
import types
import uuid

import pytest

import ngdata
from ngdata._connections.revision import HEAD
from ngdata._reading import clock
from ngdata._reading.cache import CacheStats
from ngdata._reading.cache.codec import FORMAT
from ngdata.errors import InvalidQueryError, NGDataError
from tests.cache.conftest import eventually, outsider, points, run, same

BOX = ((0, 0, 0), (1, 1, 1))


def source(frame):
    return frame.attrs["ngdata"]["source"]


async def stored_keys(server, count):
    """Return the keys in Redis once there are `count`; reads store them in the background."""
    with server.client() as client:
        await eventually(lambda: len(client.keys("*")) == count)
        return sorted(client.keys("*"))


def test_the_mode_is_set_per_client_and_per_call(database_url):
    for mode, sources in {
        "strict": ("database", "memory"),
        "ttl": ("database", "memory"),
        "off": ("database", "database"),
    }.items():
        with ngdata.connect(database_url, cache=mode) as ng:
            assert tuple(source(ng.tokens.find_in_region(*BOX)) for _ in range(2)) == sources
            assert source(ng.tokens.find_in_region(*BOX, cache="off")) == "database"
            ng.tokens.find_in_region(*BOX, cache="strict")
            assert source(ng.tokens.find_in_region(*BOX, cache="strict")) == "memory"
            assert source(ng.tokens.find_in_region(*BOX, cache="ttl")) == "memory"
            assert ng.cache.stats().bypassed == (3 if mode == "off" else 1)


@pytest.mark.parametrize("mode", ["sometimes", "", True, 1, ["strict"], "STRICT"])
def test_another_mode_is_refused(ng, database_url, mode):
    with pytest.raises(InvalidQueryError, match="cache must be"):
        ng.tokens.find_in_region(*BOX, cache=mode)
    with pytest.raises(NGDataError):
        ngdata.connect(database_url, cache=mode)


def test_another_mode_is_refused_before_the_server_is_contacted():
    with pytest.raises(InvalidQueryError, match="cache must be 'strict', 'ttl' or 'off', not"):
        ngdata.connect("postgresql://ngdata@127.0.0.1:1/ngdata", cache="sometimes")


def test_the_mode_can_come_from_the_environment(database_url, monkeypatch):
    monkeypatch.setenv("NGDATA_CACHE", "off")
    monkeypatch.setenv("NGDATA_CACHE_BYTES", "0")
    with ngdata.connect(database_url) as ng:
        ng.tokens.find_in_region(*BOX)
        assert source(ng.tokens.find_in_region(*BOX)) == "database"
        ng.tokens.find_in_region(*BOX, cache="strict")
        assert ng.cache.stats().entries == 0


def _ttl(ng):
    return ng._wrapped._reader._ttl


def test_the_ttl_can_be_configured(database_url, tmp_path, monkeypatch):
    with ngdata.connect(database_url) as ng:
        assert _ttl(ng) == 3600
    file = tmp_path / "database.yaml"
    file.write_text("database: {redis: {host: /nowhere, cache: {default_ttl: 70}}}")
    with ngdata.connect(database_url, config=file) as ng:
        assert _ttl(ng) == 70
    monkeypatch.setenv("NGDATA_DEFAULT_TTL", "80")
    with ngdata.connect(database_url, config=file) as ng:
        assert _ttl(ng) == 80
    with ngdata.connect(database_url, config=file, default_ttl=90) as ng:
        assert _ttl(ng) == 90


@pytest.mark.usefixtures("patient_redis")
def test_ttl_reads_no_database_and_limits_the_age(database_url, own_redis, monkeypatch):
    """The test moves the clock instead of waiting."""
    moved = types.SimpleNamespace(wall=1_000_000.0, elapsed=5.0)
    moved.time, moved.monotonic = lambda: moved.wall, lambda: moved.elapsed
    monkeypatch.setattr(clock, "time", moved)
    monkeypatch.setattr(clock, "_offset", -math.inf)

    def wait(seconds):
        moved.wall += seconds
        moved.elapsed += seconds

    async def main():
        async with contextlib.AsyncExitStack() as stack:
            one, two = [
                await stack.enter_async_context(
                    await ngdata.connect_async(
                        database_url, redis_url=own_redis.url, cache="ttl", default_ttl=100
                    )
                )
                for _ in range(2)
            ]
            assert source(await one.tokens.find_in_region(*BOX)) == "database"
            await stored_keys(own_redis, 2)
            await one.tokens.create({0: (0, 0, 0)})
            wait(99)
            frame = await one.tokens.find_in_region(*BOX)
            assert (source(frame), len(frame)) == ("memory", 0)
            frame = await two.tokens.find_in_region(*BOX)
            assert (source(frame), len(frame)) == ("redis", 0)
            # A strict read does not use the old answer, and stores a young one.
            assert len(await two.tokens.find_in_region(*BOX, cache="strict")) == 1
            wait(2)
            frame = await one.tokens.find_in_region(*BOX)
            assert (source(frame), len(frame)) in [("redis", 1), ("database", 1)]
            # No answer becomes young, or stays so, because the clock is set back.
            await one.tokens.create({0: (0, 0, 0)})
            moved.wall -= 1000
            for client in (one, two):
                assert len(await client.tokens.find_in_region(*BOX)) == 1
            wait(101)
            for client in (one, two):
                assert len(await client.tokens.find_in_region(*BOX)) == 2
            # Set forward, it makes them old.
            await one.tokens.create({0: (0, 0, 0)})
            moved.wall += 3000
            assert len(await one.tokens.find_in_region(*BOX)) == 3

    run(main())


@pytest.mark.parametrize("mode", ["strict", "ttl"])
def test_a_closed_client_returns_no_cached_answer(database_url, mode):
    client = ngdata.connect(database_url, cache=mode)
    client.tokens.find_in_region(*BOX)
    client.close()
    with pytest.raises(NGDataError, match="closed"):
        client.tokens.find_in_region(*BOX)


def test_the_age_of_an_answer_counts_from_the_start_of_its_read(database_url):
    async def main():
        async with (
            await ngdata.connect_async(database_url, cache="ttl", default_ttl=1) as ang,
            outsider(database_url) as other,
        ):
            lock = other.transaction()
            await lock.start()
            await other.execute("LOCK TABLE tokens.spatial_index IN ACCESS EXCLUSIVE MODE")
            reading = asyncio.create_task(ang.tokens.find_in_region(*BOX))
            await asyncio.sleep(1.2)
            await lock.rollback()
            await reading
            assert source(await ang.tokens.find_in_region(*BOX)) == "database"

    run(main())


def test_keys_in_redis_have_a_prefix_and_expire(database_url, own_redis):
    async def main():
        async with await ngdata.connect_async(
            database_url, redis_url=own_redis.url, default_ttl=500
        ) as ang:
            await ang.tokens.find_in_region(*BOX)
            keys = await stored_keys(own_redis, 2)
        with own_redis.client() as client:
            for key in keys:
                parts = key.decode().split(":")
                assert parts[:3] == ["ngdata", str(FORMAT), HEAD]
                assert len(parts[3]) == 40
                assert 400 < client.ttl(key) <= 500
        assert keys[1].startswith(keys[0] + b":")

    run(main())


def test_clear_deletes_only_the_answers_of_this_database(database_url, own_redis):
    async def main():
        async with await ngdata.connect_async(database_url, redis_url=own_redis.url) as ang:
            with own_redis.client() as client:
                client.set("ngdata:1:0000:another:question", "theirs")
                client.set("theirs", "theirs")
            for columns in (["x"], ["y"], ["z"]):
                await ang.tokens.find_in_region(*BOX, columns=columns)
            await stored_keys(own_redis, 8)
            await ang.cache.clear()
            assert await stored_keys(own_redis, 2) == [b"ngdata:1:0000:another:question", b"theirs"]
            stats = await ang.cache.stats()
            assert (stats.entries, stats.bytes) == (0, 0)
            assert source(await ang.tokens.find_in_region(*BOX, columns=["x"])) == "database"

    run(main())


def test_a_read_that_runs_during_a_clear_is_not_kept(database_url):
    async def main():
        async with (
            await ngdata.connect_async(database_url, cache="ttl") as ang,
            outsider(database_url) as other,
        ):
            lock = other.transaction()
            await lock.start()
            await other.execute("LOCK TABLE tokens.spatial_index IN ACCESS EXCLUSIVE MODE")
            reading = asyncio.create_task(ang.tokens.find_in_region(*BOX))
            await eventually(lambda: ang._reader._single_flight._running)
            await ang.cache.clear()
            await lock.rollback()
            await reading
            assert (await ang.cache.stats()).entries == 0

    run(main())


# --------------------------------------------------------------------- which clients share answers


def test_two_databases_share_nothing(server, database_url, migrated_database, own_redis):
    """The second is a copy with the same nonces and, as both come of one template, the same secret."""

    async def main():
        async with (
            await ngdata.connect_async(database_url, redis_url=own_redis.url, cache="ttl") as one,
            await ngdata.connect_async(
                migrated_database, redis_url=own_redis.url, cache="ttl"
            ) as two,
            outsider(database_url) as first,
            outsider(migrated_database) as second,
        ):
            await one.tokens.create({0: (0, 0, 0)})
            await second.execute("DELETE FROM tokens.versions")
            await second.executemany(
                "INSERT INTO tokens.versions VALUES ($1, $2)",
                await first.fetch("SELECT relation, nonce FROM tokens.versions"),
            )
            assert len(await one.tokens.find_in_region(*BOX)) == 1
            await stored_keys(own_redis, 2)
            for mode in ("strict", "ttl"):
                frame = await two.tokens.find_in_region(*BOX, cache=mode)
                assert len(frame) == 0
            await stored_keys(own_redis, 4)

    run(main())


@contextlib.asynccontextmanager
async def role(owner, url, access):
    """Create a role that may log in; yield its name and the URL."""
    name, password = f"r{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    await owner.execute(f"SELECT tokens.grant_access('{name}', '{access}')")
    try:
        yield name, url
    finally:
        await owner.execute(f"SELECT tokens.grant_access('{name}', 'none')")
        await owner.execute(f"DROP ROLE {name}")


@pytest.mark.parametrize(
    "right", ["SELECT ON graph.connections", "USAGE ON SCHEMA graph"], ids=["table", "schema"]
)
def test_a_right_that_is_revoked_counts_from_the_next_read(database_url, right):
    async def main():
        async with (
            outsider(database_url) as owner,
            role(owner, database_url, "analyst") as (name, _),
            await ngdata.connect_async(f"{database_url}&options=-c%20role%3D{name}") as analyst,
        ):

            async def read():
                return source(await analyst.graph.connections())

            assert [await read() for _ in range(2)] == ["database", "memory"]
            await owner.execute(f"REVOKE {right} FROM {name}")
            with pytest.raises(NGDataError, match="permission denied"):
                await read()
            await owner.execute(f"GRANT {right} TO {name}")
            await read()

    run(main())


def test_two_roles_share_nothing_and_policies_are_never_cached(database_url, own_redis):
    """Policies do not apply to the owner, but to the role of the second client."""

    async def main():
        async with (
            outsider(database_url) as owner,
            role(owner, database_url, "analyst") as (name, _),
        ):
            as_role = f"{database_url}&options=-c%20role%3D{name}"
            async with (
                await ngdata.connect_async(database_url, redis_url=own_redis.url) as all_rows,
                await ngdata.connect_async(as_role, redis_url=own_redis.url) as analyst,
            ):
                await all_rows.tokens.bulk_create(points((0, 0, 0), (1, 1, 1)))
                assert len(await all_rows.tokens.find_in_region(*BOX)) == 2
                await stored_keys(own_redis, 2)
                frame = await analyst.tokens.find_in_region(*BOX)
                assert (source(frame), len(frame)) == ("database", 2)
                await stored_keys(own_redis, 4)
                await owner.execute("ALTER TABLE tokens.spatial_index ENABLE ROW LEVEL SECURITY")
                try:
                    await owner.execute(
                        "CREATE POLICY one ON tokens.spatial_index USING"
                        " (ST_X(geom) < current_setting('test.most', true)::float8)"
                    )
                    frame = await analyst.tokens.find_in_region(*BOX)
                    assert (frame.attrs["ngdata"]["version"], len(frame)) == (None, 0)
                    # The owner sees all rows; ENABLE ROW LEVEL SECURITY has renewed the version.
                    for expected in ("database", "memory"):
                        frame = await all_rows.tokens.find_in_region(*BOX)
                        assert (source(frame), len(frame)) == (expected, 2)
                finally:
                    await owner.execute("DROP POLICY IF EXISTS one ON tokens.spatial_index")
                    await owner.execute(
                        "ALTER TABLE tokens.spatial_index DISABLE ROW LEVEL SECURITY"
                    )

    run(main())


def test_a_revoked_privilege_is_noticed(database_url):
    async def main():
        async with (
            outsider(database_url) as owner,
            role(owner, database_url, "analyst") as (name, _),
        ):
            as_role = f"{database_url}&options=-c%20role%3D{name}"
            async with await ngdata.connect_async(as_role) as ang:
                await ang.tokens.find_in_region(*BOX)
                await owner.execute(f"REVOKE SELECT ON tokens.spatial_index FROM {name}")
                with pytest.raises(ngdata.errors.ConfigError):
                    await ang.tokens.find_in_region(*BOX)

    run(main())


def test_a_role_without_access_to_the_versions_reads_without_a_cache(database_url, own_redis):
    async def main():
        async with (
            outsider(database_url) as owner,
            role(owner, database_url, "analyst") as (name, _),
        ):
            await owner.execute(f"REVOKE SELECT ON tokens.versions FROM {name}")
            as_role = f"{database_url}&options=-c%20role%3D{name}"
            async with await ngdata.connect_async(as_role, redis_url=own_redis.url) as ang:
                for mode in ("strict", "ttl", None):
                    assert source(await ang.tokens.find_in_region(*BOX, cache=mode)) == "database"
                assert (await ang.cache.stats()).bypassed == 3

    run(main())


@pytest.mark.parametrize("is_cached", [False, True])
def test_a_role_that_loses_access_to_the_versions_reads_on_without_a_cache(database_url, is_cached):
    async def main():
        async with (
            outsider(database_url) as owner,
            role(owner, database_url, "analyst") as (name, _),
            await ngdata.connect_async(f"{database_url}&options=-c%20role%3D{name}") as ang,
        ):

            async def read(*places):
                for place in places:
                    frame = await ang.tokens.find_in_region((place, 0, 0), (place + 0.5, 1, 1))
                    yield frame.attrs["ngdata"]["version"] is not None

            assert [each async for each in read(1, 2)] == [True, True]
            await owner.execute(f"REVOKE SELECT ON tokens.versions FROM {name}")
            places = (1, 2) if is_cached else (3, 4)
            assert [each async for each in read(*places)] == [False, False]
            await owner.execute(f"GRANT SELECT ON tokens.versions TO {name}")

    run(main())


# --------------------------------------------------------------------------------------- statistics


@pytest.mark.usefixtures("patient_redis")
def test_stats_count_each_read_once(database_url, own_redis):
    async def main():
        async with (
            await ngdata.connect_async(database_url, redis_url=own_redis.url) as one,
            await ngdata.connect_async(database_url, redis_url=own_redis.url) as two,
        ):
            await one.tokens.bulk_create(points((0, 0, 0), (1, 1, 1)))
            plain = await one.tokens.find_in_region(*BOX, cache="off")
            same(await one.tokens.find_in_region(*BOX), plain)
            same(await one.tokens.find_in_region(*BOX), plain)
            await one.tokens.find_in_region((0, 0, 0), (0, 0, 0))
            await stored_keys(own_redis, 2)
            same(await two.tokens.find_in_region(*BOX), plain)
            await two.tokens.create({0: (5, 5, 5)})
            same(await two.tokens.find_in_region(*BOX), plain)
            first, second = await one.cache.stats(), await two.cache.stats()
            assert (first.misses, first.memory_hits, first.region_hits, first.bypassed) == (
                1,
                1,
                1,
                1,
            )
            assert (first.hits, first.hit_ratio, first.entries) == (2, 2 / 3, 2)
            assert first.bytes == one._reader.memory.nbytes > 0
            assert (second.redis_hits, second.misses, second.stale_avoided) == (1, 1, 1)
            assert (second.redis_errors, second.refused_values) == (0, 0)
            # Returned statistics do not change later.
            await one.tokens.find_in_region(*BOX)
            assert first.misses == 1

    run(main())


def test_stats_in_a_notebook():
    html = CacheStats(memory_hits=3, misses=1)._repr_html_()
    assert re.search(r">memory_hits</th><td[^>]*>3</td>", html)
    assert re.search(r">hit_ratio</th><td[^>]*>75\.0%</td>", html)
    assert "no reads yet" in CacheStats()._repr_html_()
