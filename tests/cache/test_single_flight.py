"""One read for many askers; who is cancelled takes nobody along."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

import ngdata
from ngdata._reading.cache.single_flight import SingleFlight
from tests.cache.conftest import WHOLE, eventually, outsider, points, run

BUSY = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ngdata' AND state <> 'idle'"


def test_one_read_for_fifty_askers(database_url):
    async def main():
        async with await ngdata.connect_async(database_url) as ang:
            await ang.tokens.bulk_create(points(*((n, n, n) for n in range(50))))
            began = _counted_reads(ang)
            found = await asyncio.gather(*(ang.tokens.find_in_region(*WHOLE) for _ in range(50)))
            assert all(frame.equals(found[0]) and len(frame) == 50 for frame in found)
            assert len(began) == 1
            stats = await ang.cache.stats()
            assert (stats.misses, stats.shared_reads + stats.memory_hits) == (1, 49)
            sources = {frame.attrs["ngdata"]["source"] for frame in found}
            assert sources == {"database", "shared read"}
            await ang.cache.clear()
            for how in ("strict", "ttl"):
                for _ in range(2):
                    reads = [ang.tokens.count_in_region(*WHOLE, cache=how) for _ in range(20)]
                    assert await asyncio.gather(*reads) == [50] * 20
                assert len(began) == 2
            # Each has a frame of its own.
            found[0].loc[:, "x"] = 0.0
            assert found[1].x.sum() > 0

    run(main())


def test_one_read_for_askers_in_many_threads(database_url):
    with ngdata.connect(database_url) as ng, ThreadPoolExecutor(8) as threads:
        ng.tokens.bulk_create(points((0, 0, 0), (1, 1, 1)))
        began = _counted_reads(ng._wrapped)
        found = list(threads.map(lambda _: ng.tokens.find_in_region(*WHOLE), range(64)))
        assert [len(frame) for frame in found] == [2] * 64
        assert len(began) == 1


def _counted_reads(ang):
    """Count what goes to the database; the reads themselves are as they were."""
    began, read = [], ang._reader._database_read

    def counted(work):
        began.append(work)
        return read(work)

    ang._reader._database_read = counted
    return began


def test_a_cancelled_asker_leaves_the_others_their_read(database_url):
    async def main():
        async with await ngdata.connect_async(database_url) as ang, outsider(database_url) as other:
            await ang.tokens.create({0: (0, 0, 0)})
            lock = other.transaction()
            await lock.start()
            await other.execute("LOCK TABLE tokens.spatial_index IN ACCESS EXCLUSIVE MODE")
            asked = [asyncio.create_task(ang.tokens.find_in_region(*WHOLE)) for _ in range(6)]
            await eventually(lambda: _joined(ang, 6))
            # The one that began it, and another.
            for task in (asked[0], asked[3]):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await lock.rollback()
            found = await asyncio.gather(*asked[1:3], *asked[4:])
            assert [len(frame) for frame in found] == [1] * 4
            assert (await ang.cache.stats()).redis_errors == 0

    run(main())


def _joined(ang, many):
    flights = ang._reader._single_flight._running.values()
    return any(flight.callers == many for flight in flights)


def test_the_last_ones_cancellation_leaves_the_server_idle(database_url):
    async def main():
        async with await ngdata.connect_async(database_url) as ang, outsider(database_url) as other:
            await ang.tokens.create({0: (0, 0, 0)})
            lock = other.transaction()
            await lock.start()
            await other.execute("LOCK TABLE tokens.spatial_index IN ACCESS EXCLUSIVE MODE")
            asked = [asyncio.create_task(ang.tokens.find_in_region(*WHOLE)) for _ in range(4)]
            await eventually(lambda: _joined(ang, 4))
            for task in asked:
                task.cancel()
            ended = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(error, asyncio.CancelledError) for error in ended)
            async with outsider(database_url) as observer:
                assert await observer.fetchval(BUSY) == 0
            assert ang._reader._single_flight._running == {}
            await lock.rollback()
            assert len(await ang.tokens.find_in_region(*WHOLE)) == 1
            assert (await ang.pool_status())["read"]["in_use"] == 0

    run(main())


def test_who_asks_after_a_write_does_not_join_what_began_before(database_url):
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


def test_an_error_is_everybodys_and_the_next_read_begins_anew(database_url):
    async def main():
        async with (
            await ngdata.connect_async(database_url, statement_timeout=0.5) as ang,
            outsider(database_url) as other,
        ):
            lock = other.transaction()
            await lock.start()
            await other.execute("LOCK TABLE tokens.spatial_index IN ACCESS EXCLUSIVE MODE")
            asked = [ang.tokens.find_in_region(*WHOLE) for _ in range(3)]
            ended = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(error, ngdata.errors.QueryTimeout) for error in ended)
            await lock.rollback()
            assert (await ang.tokens.find_in_region(*WHOLE)).empty

    run(main())


# ------------------------------------------------------------------------------ without a server


def test_a_new_flight_is_not_forgotten_when_an_old_one_lands():
    async def main():
        flights, ended, landed = SingleFlight(), asyncio.Event(), asyncio.Event()

        async def slow():
            try:
                await asyncio.sleep(60)
            finally:
                await ended.wait()

        async def new():
            await landed.wait()
            return "new"

        old = asyncio.create_task(flights.join("key", slow))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        old.cancel()
        await asyncio.sleep(0)
        second = asyncio.create_task(flights.join("key", new))
        await asyncio.sleep(0)
        ended.set()
        with pytest.raises(asyncio.CancelledError):
            await old
        third = asyncio.create_task(flights.join("key", new))
        await asyncio.sleep(0)
        landed.set()
        assert await second == ("new", False)
        assert await third == ("new", True)

    run(main())


def test_a_flight_that_began_too_long_ago_is_not_joined():
    async def main():
        flights, landed, begun = SingleFlight(), asyncio.Event(), []

        async def read():
            begun.append(1)
            await landed.wait()
            return len(begun)

        old = asyncio.create_task(flights.join("key", read))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        late = asyncio.create_task(flights.join("key", read, since=float("inf")))
        await asyncio.sleep(0)
        flights.clear()
        cleared = asyncio.create_task(flights.join("key", read))
        await asyncio.sleep(0)
        landed.set()
        assert [joined for _, joined in (await old, await late, await cleared)] == [False] * 3
        assert len(begun) == 3

    run(main())
