"""Interrupts, cancellations and timeouts: the server stops, and the client stays usable."""

from __future__ import annotations

import asyncio
import signal
import threading

import pandas as pd
import pytest

import ngdata
from ngdata.errors import QueryTimeout

BOX = ((-1, -1, -1), (1, 1, 1))
POINTS = pd.DataFrame({"x": [0.0, 0.5], "y": [0.0, 0.5], "z": [0.0, 0.5]})


def test_cancelled_read_leaves_the_server_idle_and_the_client_usable(observed):
    async def main():
        async with await ngdata.connect_async(observed.url) as ang:
            await ang.tokens.bulk_create(POINTS)
            with observed.locked("tokens.spatial_index"):
                for _ in range(3):
                    read = asyncio.create_task(ang.tokens.find_in_region(*BOX))
                    await asyncio.to_thread(observed.until_locked_out)
                    read.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await read
                    assert observed.busy() == 0
            assert len(await ang.tokens.find_in_region(*BOX)) == 2
            status = await ang.pool_status()
            assert status["read"]["in_use"] == status["write"]["in_use"] == 0

    asyncio.run(main())
    observed.until_idle()


def test_cancelled_read_that_computes_is_stopped_too(observed):
    """It waits for no lock: the server is computing a join of many rows."""
    ids = [f"00000000-0000-4000-8000-{n:012d}" for n in range(300)]

    async def main():
        async with await ngdata.connect_async(observed.url) as ang:
            await ang.tokens.bulk_create(
                {"token_id": ids, "x": range(300), "y": range(300), "z": range(300)}
            )
            pairs = [(a, b) for a in ids for b in ids]
            await ang.graph.bulk_create(
                {"source_id": [a for a, _ in pairs], "target_id": [b for _, b in pairs]}
            )
            read = asyncio.create_task(ang.graph.get_neighbors(ids, "both", depth=32, cache="off"))
            await asyncio.to_thread(observed.until_busy)
            read.cancel()
            with pytest.raises(asyncio.CancelledError):
                await read
            assert observed.busy() == 0

    asyncio.run(main())


def test_a_timeout_around_a_call_cancels_it(observed):
    async def main():
        async with await ngdata.connect_async(observed.url) as ang:
            with observed.locked("tokens.spatial_index"):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await ang.tokens.find_in_region(*BOX)
                assert observed.busy() == 0
            assert (await ang.tokens.find_in_region(*BOX)).empty

    asyncio.run(main())


def test_statement_timeout_is_a_query_timeout_for_reads_and_writes(observed):
    with ngdata.connect(observed.url, statement_timeout=0.3) as ng:
        with observed.locked("tokens.tokens"):
            with pytest.raises(QueryTimeout, match="allow it more time"):
                ng.tokens.get([])
            for write in (lambda: ng.tokens.bulk_create(POINTS), lambda: ng.tokens.create(ONE)):
                with pytest.raises(QueryTimeout, match="allow it more time"):
                    write()
        ng.tokens.bulk_create(POINTS)
        assert len(ng.tokens.find_in_region(*BOX)) == 2


@pytest.mark.parametrize("cache", ["strict", "off"])
def test_a_timeout_while_rows_are_computed_is_a_query_timeout(observed, cache):
    """It waits for no lock: while rows stream, the driver reports errors differently."""
    with ngdata.connect(observed.url) as ng:
        ids = ng.tokens.bulk_create({"x": range(300), "y": range(300), "z": range(300)})
        ends = pd.MultiIndex.from_product([ids, ids], names=["source_id", "target_id"])
        ng.graph.bulk_create(ends.to_frame(index=False))
    with ngdata.connect(observed.url, statement_timeout=1, cache=cache) as ng:
        with pytest.raises(QueryTimeout, match="allow it more time") as caught:
            ng.graph.get_neighbors(ids, "both", depth=32)
        assert caught.value.sqlstate == "57014"


TOKEN = "00000000-0000-4000-8000-00000000000a"
RUN = "00000000-0000-4000-8000-00000000000b"
ONE = {0: (0.5, 0.5, 0.5)}

# Each with the table on which it waits for a lock.
WRITES = {
    "bulk_create": ("tokens.tokens", lambda ang: ang.tokens.bulk_create(POINTS)),
    "create": ("tokens.tokens", lambda ang: ang.tokens.create(ONE)),
    "update": ("tokens.tokens", lambda ang: ang.tokens.update(TOKEN, coords=ONE)),
    "delete": ("tokens.tokens", lambda ang: ang.tokens.delete(TOKEN)),
    "create_connection": (
        "graph.connections",
        lambda ang: ang.graph.create_connection(TOKEN, TOKEN),
    ),
    "create_event": (
        "experience.experience_events",
        lambda ang: ang.experience.create_event("a", trajectory_id=RUN),
    ),
    "end_trajectory": (
        "experience.experience_trajectories",
        lambda ang: ang.experience.end_trajectory(RUN),
    ),
}


@pytest.mark.parametrize("name", WRITES)
def test_cancelled_write_leaves_nothing_behind(observed, execute, name):
    table, write = WRITES[name]
    rows = f"SELECT t::text FROM {table} AS t"

    async def main():
        async with await ngdata.connect_async(observed.url) as ang:
            await ang.tokens.create({0: (9, 9, 9)}, token_id=TOKEN)
            await ang.experience.start_trajectory(RUN)
            before = execute(observed.url, rows)
            with observed.locked(table, "EXCLUSIVE"):
                writing = asyncio.create_task(write(ang))
                await asyncio.to_thread(observed.until_locked_out)
                writing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await writing
                assert observed.busy() == 0
            assert execute(observed.url, rows) == before
            assert (await ang.pool_status())["write"]["in_use"] == 0
            await write(ang)
            assert execute(observed.url, rows) != before

    asyncio.run(main())


def test_cancelling_while_all_connections_are_in_use_is_quick_and_leaks_none(observed):
    async def main():
        async with await ngdata.connect_async(observed.url, pool_max_size=2, cache="off") as ang:
            with observed.locked("tokens.spatial_index"):
                reads = [asyncio.create_task(ang.tokens.find_in_region(*BOX)) for _ in range(6)]
                await asyncio.to_thread(observed.until_locked_out, 2)
                assert (await ang.pool_status())["read"]["waiting"] == 4
                for read in reads:
                    read.cancel()
                await asyncio.gather(*reads, return_exceptions=True)
                assert observed.busy() == 0
            assert (await ang.pool_status())["read"]["in_use"] == 0
            answers = await asyncio.gather(*(ang.tokens.find_in_region(*BOX) for _ in range(6)))
            assert all(answer.empty for answer in answers)
            assert (await ang.pool_status())["read"]["size"] <= 2

    asyncio.run(main())


def test_cancelling_at_any_moment_leaves_no_connection_behind(observed):
    """Cancel after each number of loop turns: while connecting, sending, and cleaning up."""

    async def main():
        async with await ngdata.connect_async(observed.url, pool_max_size=3) as ang:
            for turns in range(60):
                write = asyncio.create_task(ang.tokens.create({0: (0, 0, 0)}))
                read = asyncio.create_task(ang.tokens.find_in_region(*BOX))
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in (write, read):
                    task.cancel()
                await asyncio.gather(write, read, return_exceptions=True)
            status = await ang.pool_status()
            assert status["read"]["in_use"] == status["write"]["in_use"] == 0
            assert status["read"]["size"] <= 3
            assert status["write"]["size"] <= 3
            count = await ang.tokens.count_in_region(*BOX)
            await ang.tokens.create({0: (0, 0, 0)})
            assert await ang.tokens.count_in_region(*BOX) == count + 1

    asyncio.run(main())
    observed.until_idle()


def test_an_iterator_that_ends_early_releases_its_connection(observed):
    with ngdata.connect(observed.url, pool_max_size=1) as ng:
        many = 50_000
        ng.tokens.bulk_create({"x": [0.0] * many, "y": range(many), "z": [0.0] * many})
        box = ((0, 0, 0), (0, many, 0))
        for part in ng.tokens.iter_region(*box, chunk_rows=1000):
            assert len(part) == 1000
            break
        assert ng.tokens.count_in_region(*box) == many
        iterator = ng.tokens.iter_region(*box, chunk_rows=1000)
        next(iterator)
        del iterator
        assert sum(map(len, ng.tokens.iter_region(*box, chunk_rows=999))) == many
        assert ng.pool_status()["read"]["in_use"] == 0


INTERRUPTED = """
ng = ngdata.connect(URL)
ng.tokens.get([])
print("ready", flush=True)
try:
    ng.tokens.{call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
input()
in_use = {{pool["in_use"] for pool in ng.pool_status().values()}}
print(ng.tokens.count_in_region((0, 0, 0), (1, 1, 1)), in_use)
"""
CALLS = ["find_in_region((0, 0, 0), (1, 1, 1))", "create({0: (0, 0, 0)})"]


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_in_a_script_stops_the_query_and_the_client_stays_usable(observed, script, call):
    with script(INTERRUPTED.format(call=call)) as program:
        with observed.locked("tokens.spatial_index"):
            assert program.stdout.readline() == "ready\n"
            observed.until_locked_out()
            program.send_signal(signal.SIGINT)
            assert program.stdout.readline() == "interrupted\n"
            assert observed.busy() == 0
        out, err = program.communicate("\n", timeout=20)
        assert (program.returncode, out, err) == (0, "0 {0}\n", "")


INTERRUPTED_ASYNC = """
import asyncio
async def main():
    async with await ngdata.connect_async(URL) as ang:
        print("ready", flush=True)
        await ang.tokens.{call}
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_in_asyncio_run_stops_the_running_call(observed, script, call):
    others = observed.count("true")  # of clients that other tests share
    with (
        observed.locked("tokens.spatial_index"),
        script(INTERRUPTED_ASYNC.format(call=call)) as program,
    ):
        assert program.stdout.readline() == "ready\n"
        observed.until_busy()
        program.send_signal(signal.SIGINT)
        assert program.stdout.readline() == "interrupted\n"
        assert observed.count("true") == others
        assert program.wait(20) == 0


@pytest.mark.parametrize(("cache", "busy"), [("off", 3), ("strict", 1)])
def test_an_interrupt_of_one_thread_does_not_affect_the_others(observed, cache, busy):
    """Each thread has a read of its own, or all share one."""
    with ngdata.connect(observed.url, cache=cache) as ng:
        ng.tokens.bulk_create(POINTS)
        counts = []
        with observed.locked("tokens.spatial_index"):
            others = [
                threading.Thread(target=lambda: counts.append(len(ng.tokens.find_in_region(*BOX))))
                for _ in range(3)
            ]
            for other in others:
                other.start()
            observed.until_locked_out(busy)
            timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                ng.tokens.find_in_region(*BOX)
            assert observed.busy() == busy
        for other in others:
            other.join()
        assert counts == [2, 2, 2]
