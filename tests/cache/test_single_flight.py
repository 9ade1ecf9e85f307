"""Concurrent callers share one read; cancelling one caller does not cancel the others."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

import ngdata
from ngdata._reading.cache.single_flight import SingleFlight
from tests.cache.conftest import WHOLE, eventually, outsider, points, run

BUSY = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ngdata' AND state <> 'idle'"


def test_fifty_callers_share_one_read(database_url):
    async def main():
        async with await ngdata.connect_async(database_url) as ang:
            await ang.tokens.bulk_create(points(*((n, n, n) for n in range(50))))
            reads = _count_reads(ang)
            frames = await asyncio.gather(*(ang.tokens.find_in_region(*WHOLE) for _ in range(50)))
            assert all(frame.equals(frames[0]) and len(frame) == 50 for frame in frames)
            assert len(reads) == 1
            stats = await ang.cache.stats()
            assert (stats.misses, stats.shared_reads + stats.memory_hits) == (1, 49)
            sources = {frame.attrs["ngdata"]["source"] for frame in frames}
            assert sources == {"database", "shared read"}
            await ang.cache.clear()
            for mode in ("strict", "ttl"):
                for _ in range(2):
                    calls = [ang.tokens.count_in_region(*WHOLE, cache=mode) for _ in range(20)]
                    assert await asyncio.gather(*calls) == [50] * 20
                assert len(reads) == 2
            # Each caller has a frame of its own.
            frames[0].loc[:, "x"] = 0.0
            assert frames[1].x.sum() > 0

    run(main())


def test_callers_in_several_threads_share_one_read(database_url):
    with ngdata.connect(database_url) as ng, ThreadPoolExecutor(8) as threads:
        ng.tokens.bulk_create(points((0, 0, 0), (1, 1, 1)))
        reads = _count_reads(ng._wrapped)
        frames = list(threads.map(lambda _: ng.tokens.find_in_region(*WHOLE), range(64)))
        assert [len(frame) for frame in frames] == [2] * 64
        assert len(reads) == 1


def _count_reads(ang):
    """Return a list to which each read of the database is added."""
    reads, read = [], ang._reader._database_read

    def counted(work):
        reads.append(work)
        return read(work)

    ang._reader._database_read = counted
    return reads


def test_cancelling_one_caller_leaves_the_read_running_for_the_others(database_url):
    async def main():
        async with await ngdata.connect_async(database_url) as ang, outsider(database_url) as other:
            await ang.tokens.create({0: (0, 0, 0)})
            lock = other.transaction()
            await lock.start()
            await other.execute("LOCK TABLE tokens.spatial_index IN ACCESS EXCLUSIVE MODE")
            callers = [asyncio.create_task(ang.tokens.find_in_region(*WHOLE)) for _ in range(6)]
            await eventually(lambda: _joined(ang, 6))
            # The caller that started the read, and another one.
            for task in (callers[0], callers[3]):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await lock.rollback()
            frames = await asyncio.gather(*callers[1:3], *callers[4:])
            assert [len(frame) for frame in frames] == [1] * 4
            assert (await ang.cache.stats()).redis_errors == 0

    run(main())


def _joined(ang, count):
    reads = ang._reader._single_flight._running.values()
    return any(read.callers == count for read in reads)


def test_cancelling_the_last_caller_stops_the_read(database_url):
    async def main():
        async with await ngdata.connect_async(database_url) as ang, outsider(database_url) as other:
            await ang.tokens.create({0: (0, 0, 0)})
            lock = other.transaction()
            await lock.start()
            await other.execute("LOCK TABLE tokens.spatial_index IN ACCESS EXCLUSIVE MODE")
            callers = [asyncio.create_task(ang.tokens.find_in_region(*WHOLE)) for _ in range(4)]
            await eventually(lambda: _joined(ang, 4))
            for task in callers:
                task.cancel()
            ended = await asyncio.gather(*callers, return_exceptions=True)
            assert all(isinstance(error, asyncio.CancelledError) for error in ended)
            async with outsider(database_url) as observer:
                assert await observer.fetchval(BUSY) == 0
            assert ang._reader._single_flight._running == {}
            await lock.rollback()
            assert len(await ang.tokens.find_in_region(*WHOLE)) == 1
            assert (await ang.pool_status())["read"]["in_use"] == 0

    run(main())


def test_a_read_after_a_write_does_not_join_one_that_started_before(database_url):
    async def main():
        async with await ngdata.connect_async(database_url) as ang, outsider(database_url) as other:
            await ang.tokens.create({0: (0, 0, 0)})
            lock = other.transaction()
            await lock.start()
            await other.execute("LOCK TABLE tokens.spatial_index IN ACCESS EXCLUSIVE MODE")
            first = asyncio.create_task(ang.tokens.find_in_region(*WHOLE))
            await eventually(lambda: _joined(ang, 1))
            await lock.rollback()
            await ang.tokens.create({0: (1, 1, 1)})
            assert len(await ang.tokens.find_in_region(*WHOLE)) == 2
            assert len(await first) in (1, 2)
            assert len(await ang.tokens.find_in_region(*WHOLE)) == 2

    run(main())


def test_an_error_is_raised_to_all_callers_and_the_next_read_starts_again(database_url):
    async def main():
        async with (
            await ngdata.connect_async(database_url, statement_timeout=0.5) as ang,
            outsider(database_url) as other,
        ):
            lock = other.transaction()
            await lock.start()
            await other.execute("LOCK TABLE tokens.spatial_index IN ACCESS EXCLUSIVE MODE")
            callers = [ang.tokens.find_in_region(*WHOLE) for _ in range(3)]
            ended = await asyncio.gather(*callers, return_exceptions=True)
            assert all(isinstance(error, ngdata.errors.QueryTimeout) for error in ended)
            await lock.rollback()
            assert (await ang.tokens.find_in_region(*WHOLE)).empty

    run(main())


# ------------------------------------------------------------------------------ without a server


def test_a_new_read_stays_joinable_when_an_old_one_ends():
    async def main():
        single_flight, can_stop, can_end = SingleFlight(), asyncio.Event(), asyncio.Event()

        async def slow():
            try:
                await asyncio.sleep(60)
            finally:
                await can_stop.wait()

        async def new():
            await can_end.wait()
            return "new"

        old = asyncio.create_task(single_flight.join("key", slow))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        old.cancel()
        await asyncio.sleep(0)
        second = asyncio.create_task(single_flight.join("key", new))
        await asyncio.sleep(0)
        can_stop.set()
        with pytest.raises(asyncio.CancelledError):
            await old
        third = asyncio.create_task(single_flight.join("key", new))
        await asyncio.sleep(0)
        can_end.set()
        assert await second == ("new", False)
        assert await third == ("new", True)

    run(main())


def test_a_read_that_started_too_long_ago_is_not_joined():
    async def main():
        single_flight, can_end, started = SingleFlight(), asyncio.Event(), []

        async def read():
            started.append(1)
            await can_end.wait()
            return len(started)

        old = asyncio.create_task(single_flight.join("key", read))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        late = asyncio.create_task(single_flight.join("key", read, since=float("inf")))
        await asyncio.sleep(0)
        single_flight.clear()
        cleared = asyncio.create_task(single_flight.join("key", read))
        await asyncio.sleep(0)
        can_end.set()
        assert [joined for _, joined in (await old, await late, await cleared)] == [False] * 3
        assert len(started) == 3

    run(main())
