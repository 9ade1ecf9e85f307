"""Redis restarted and at maxmemory under load, and clocks that jump: answers stay right, by themselves."""

from __future__ import annotations

import asyncio
import itertools
import math
import types
import warnings

import pytest

import ngdata
from ngdata._reading import clock
from ngdata.errors import CacheWarning
from tests.cache.conftest import eventually, points, run

WORKERS = 8


class Region:
    """What one worker owns: a unit cube of its own, and the number of tokens in it."""

    def __init__(self, number, client):
        self.client = client
        self.low = (10.0 * number, 0.0, 0.0)
        self.high = (10.0 * number + 1, 1.0, 1.0)
        self.count = 0
        self.reads = 0

    async def write(self):
        place = [value + 0.5 for value in self.low]
        await self.client.tokens.bulk_create(points(place, place))
        self.count += 2

    async def read(self, **options):
        frame = await self.client.tokens.find_in_region(self.low, self.high, **options)
        assert len(frame) == self.count
        self.reads += 1
        return frame.attrs["ngdata"]["source"]


async def work(region, is_over):
    """Read and write until it is over; every answer has what was written before."""
    for turn in itertools.count():
        if is_over():
            return
        if turn % 8 == 0:
            await region.write()
        # Without this process's memory, Redis is asked each time.
        region.client._reader.memory.clear()
        await region.read(columns=["x", "y"] if turn % 2 else ["x", "weight"])
        await asyncio.sleep(0.01)


async def under_load(database_url, redis_url, trouble):
    """Run `trouble` while workers read and write on two clients; return the clients' statistics."""
    async with (
        await ngdata.connect_async(database_url, redis_url=redis_url) as one,
        await ngdata.connect_async(database_url, redis_url=redis_url) as two,
    ):
        regions = [Region(n, (one, two)[n % 2]) for n in range(WORKERS)]
        over = []
        tasks = [asyncio.create_task(work(region, lambda: bool(over))) for region in regions]
        await eventually(lambda: all(region.reads > 3 for region in regions))
        await trouble(one, two)
        over.append(True)
        await asyncio.gather(*tasks)
        return [await client.cache.stats() for client in (one, two)]


async def hits_again(client):
    """Wait until the client uses answers of Redis again: 30 s is what is promised."""
    before = (await client.cache.stats()).redis_hits

    async def more():
        return (await client.cache.stats()).redis_hits > before

    await eventually(more, seconds=30)


def cache_warnings(caught):
    """Return the warnings of the cache, but those of a Redis that a busy machine makes too slow."""
    texts = [str(each.message) for each in caught if issubclass(each.category, CacheWarning)]
    return [text for text in texts if "timeout" not in text.lower()]


def test_redis_restarted_under_load(database_url, own_redis):
    async def trouble(one, two):
        for _ in range(2):
            before = [(await client.cache.stats()).redis_errors for client in (one, two)]
            own_redis.kill()

            async def failed(before=before):
                after = [(await client.cache.stats()).redis_errors for client in (one, two)]
                return all(a > b for a, b in zip(after, before, strict=True))

            await eventually(failed)
            own_redis.start()
            await hits_again(one)
            await hits_again(two)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        statistics = run(under_load(database_url, own_redis.url, trouble))
    assert all(each.redis_errors and each.redis_hits for each in statistics)
    # One for each client and outage.
    assert 1 <= len(cache_warnings(caught)) <= 4
    assert all(text.startswith("Redis is unavailable") for text in cache_warnings(caught))


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_redis_at_maxmemory_under_load(database_url, own_redis, policy):
    """Without eviction it refuses writes, with one warning; with it, it forgets, and nobody notices."""

    async def trouble(one, two):
        with own_redis.client() as client:
            client.config_set("maxmemory-policy", policy)
            used = client.info("memory")["used_memory"]
            client.config_set(
                "maxmemory", used + 4096 if policy == "noeviction" else used + (1 << 20)
            )
            filler = itertools.count()

            def is_full():
                try:
                    for _ in range(50):
                        client.set(f"filler {next(filler)}", b"x" * 50_000)
                except Exception:
                    return True
                return client.info("stats")["evicted_keys"] > 100

            await eventually(is_full)
            if policy == "noeviction":

                async def refused():
                    statistics = [await each.cache.stats() for each in (one, two)]
                    return all(each.redis_errors for each in statistics)

                await eventually(refused)
            else:
                await asyncio.sleep(0.2)
            client.config_set("maxmemory", "0")
        await hits_again(one)
        await hits_again(two)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        statistics = run(under_load(database_url, own_redis.url, trouble))
    texts = cache_warnings(caught)
    if policy == "noeviction":
        assert len(texts) <= 2
        assert all("maxmemory" in text for text in texts)
        assert all(each.redis_errors for each in statistics)
    else:
        assert texts == []


class MovedTime(types.SimpleNamespace):
    """Clocks that a test moves: of the day, which may jump, and the monotonic one, which may not."""

    def __init__(self):
        super().__init__(day=1_700_000_000.0, elapsed=5.0)

    def time(self):
        return self.day

    def monotonic(self):
        return self.elapsed

    def wait(self, seconds):
        self.day += seconds
        self.elapsed += seconds


@pytest.fixture
def moved(monkeypatch):
    moved = MovedTime()
    monkeypatch.setattr(clock, "time", moved)
    monkeypatch.setattr(clock, "_offset", -math.inf)
    return moved


HOURS = 3600.0
JUMPS = [jump * HOURS for jump in (-48, -3, -0.1, 0.1, 3, 48)]


@pytest.mark.parametrize("jump", JUMPS)
def test_no_clock_that_jumps_makes_an_answer_outlive_its_ttl(database_url, own_redis, moved, jump):
    async def main():
        options = {"redis_url": own_redis.url, "default_ttl": 60}
        async with (
            await ngdata.connect_async(database_url, cache="ttl", **options) as writer,
            await ngdata.connect_async(database_url, cache="ttl", **options) as reader,
        ):
            region, other = Region(0, writer), Region(0, reader)
            assert await region.read() == "database"
            await writer.cache._reader.flush()
            moved.wait(30)
            moved.day += jump
            await region.write()
            # Strict reads are right whatever the clocks say.
            assert await region.read(cache="strict") == "database"
            moved.wait(31)
            # What was read before the jump is older than its TTL now, in memory and in Redis.
            other.count = region.count
            frame = await reader.tokens.find_in_region(region.low, region.high)
            assert len(frame) == region.count
            # And after the jump, the tiers work as before it.
            moved.wait(61)
            await region.write()
            assert await region.read() == "database"
            assert await region.read() == "memory"
            await region.read(cache="strict")

    run(main())


@pytest.mark.parametrize("jump", [-3 * HOURS, 3 * HOURS])
def test_another_machines_clock_differs(database_url, own_redis, moved, jump, monkeypatch):
    """A reader whose clock is hours off uses no answer that is too old; at worst it uses none of Redis."""

    async def main():
        options = {"redis_url": own_redis.url, "default_ttl": 60, "cache": "ttl"}
        async with await ngdata.connect_async(database_url, **options) as writer:
            region = Region(0, writer)
            await region.read()
            await writer.cache._reader.flush()
            await region.write()
            moved.wait(61)
            # The other machine has its own clock, and nothing remembers the writer's.
            moved.day += jump
            monkeypatch.setattr(clock, "_offset", -math.inf)
            async with await ngdata.connect_async(database_url, **options) as reader:
                other = Region(0, reader)
                other.count = region.count
                assert await other.read() == "database"

    run(main())
