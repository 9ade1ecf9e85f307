"""Forks, exits and threads: what a client does if its process does something unusual."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

import ngdata
from ngdata.errors import NGDataError

FORKED = """
import os, warnings
warnings.simplefilter("ignore")
ng = ngdata.connect(URL)
assert ng.tokens.get([]).empty
child = os.fork()
if child == 0:
    for call in (ng.health, lambda: ng.tokens.get([]), lambda: ng.tokens.delete([])):
        try:
            call()
        except ngdata.errors.NGDataError as error:
            print(error, flush=True)
    with ngdata.connect(URL) as other:
        print(other.tokens.get([]).shape, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(ng.tokens.get([]).shape)
"""


def test_the_error_in_a_forked_child_says_to_open_another_client(observed, script):
    with script(FORKED) as program:
        out, err = program.communicate(timeout=60)
    lines = out.splitlines()
    assert err == ""
    assert len(lines) == 5
    assert all("before the process forked" in line and "connect()" in line for line in lines[:3])
    assert lines[3] == lines[4] == "(0, 6)"


DROPPED_IN_A_CHILD = """
import asyncio, gc, os, sys, warnings
warnings.simplefilter("ignore")
loop = asyncio.new_event_loop()
ang = loop.run_until_complete(ngdata.connect_async(URL))
ng = ngdata.connect(URL)
async def backend():
    async with ang._database.transaction() as connection:
        return await connection.fetchval("SELECT pg_backend_pid()")
ng.tokens.get([]), loop.run_until_complete(ang.tokens.get([]))
before = loop.run_until_complete(backend())
child = os.fork()
if child == 0:
    asyncio.run(ang.close())
    del ang, ng
    gc.collect()
    print("dropped", flush=True)
    END
_, status = os.waitpid(child, 0)
print(status, ng.tokens.get([]).shape, loop.run_until_complete(ang.tokens.get([])).shape)
print("same" if loop.run_until_complete(backend()) == before else "another")
ng.close()
loop.run_until_complete(ang.close())
loop.close()
"""


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)"])
def test_a_client_that_a_forked_child_closes_and_drops_stays_open_in_the_parent(
    observed, script, end
):
    before = observed.count("true")
    with script(DROPPED_IN_A_CHILD.replace("END", end)) as program:
        out, err = program.communicate(timeout=60)
    assert err == ""
    assert out.splitlines() == ["dropped", "0 (0, 6) (0, 6)", "same"]
    observed.until(lambda: observed.count("true") == before)


EXITING = """
import threading
ng = ngdata.connect(URL)
def read():
    ng.tokens.find_in_region((0, 0, 0), (1, 1, 1))
threading.Thread(target=read, daemon=True).start()
print("ready", flush=True)
input()
"""


def test_the_interpreter_exits_while_a_query_runs(observed, script):
    """The backend itself notices that its client is gone."""
    with observed.locked("tokens.spatial_index"), script(EXITING) as program:
        program.stdout.readline()
        observed.until_locked_out()
        # The lock is still held, so the program can only end by not waiting for the query.
        out, err = program.communicate("\n", timeout=20)
        assert (program.returncode, out, err) == (0, "", "")
        observed.until_idle()


QUIET = """
ng = ngdata.connect(URL)
parts = ng.tokens.iter_region((0, 0, 0), (1, 1, 1))
next(parts)
ng.tokens.create({0: (0, 0, 0)})
"""


def test_an_exit_without_close_is_quick_and_quiet(observed, script, ng):
    ng.tokens.create({0: (0, 0, 0)})
    with script(QUIET) as program:
        out, err = program.communicate(timeout=30)
    assert (program.returncode, out, err) == (0, "", "")


ABANDONED = """
import asyncio
async def main():
    ang = await ngdata.connect_async(URL)
    asyncio.create_task(ang.tokens.find_in_region((0, 0, 0), (1, 1, 1)))
    await asyncio.sleep(0.5)
asyncio.run(main())
print("done")
"""


def test_an_event_loop_that_ends_cancels_its_running_read(observed, script):
    with observed.locked("tokens.spatial_index"), script(ABANDONED) as program:
        out, _ = program.communicate(timeout=30)
        assert out == "done\n"
        observed.until_idle()


def test_many_threads_share_one_client(ng):
    frame = pd.DataFrame({"x": range(100), "y": [0] * 100, "z": [0] * 100})
    ng.tokens.bulk_create(frame)

    def read(n):
        if n % 10 == 0:
            ng.tokens.create({"abstract": (n, 0, 0)})
        return len(ng.tokens.find_in_region((0, 0, 0), (n, 0, 0)))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(100))) == list(range(1, 101))
    assert ng.tokens.count_in_region((0, 0, 0), (100, 0, 0), "abstract") == 10


def test_many_threads_connect_at_once(database_url):
    def connect(_):
        with ngdata.connect(database_url) as client:
            return client.tokens.count_in_region((0, 0, 0), (1, 1, 1))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(connect, range(16))) == [0] * 16


def test_the_sync_client_works_inside_a_running_event_loop(ng):
    async def main():
        return ng.tokens.get([]), await asyncio.to_thread(ng.tokens.get, [])

    assert all(frame.empty for frame in asyncio.run(main()))


def test_the_sync_client_refuses_its_own_loop(ng):
    async def call():
        return ng.tokens.get([])

    with pytest.raises(NGDataError, match="inside its own event loop"):
        ng._loop.run(call())


def test_an_async_client_refuses_another_loop(database_url):
    with asyncio.Runner() as runner:
        client = runner.run(ngdata.connect_async(database_url))
        for call in (client.tokens.get([]), client.tokens.delete([])):
            with asyncio.Runner() as other, pytest.raises(NGDataError, match="another event loop"):
                other.run(call)
        assert runner.run(client.tokens.get([])).empty
        runner.run(client.close())


def test_a_closed_client_is_reported(database_url):
    client = ngdata.connect(database_url)
    assert "open" in repr(client)
    client.close()
    client.close()
    assert "closed" in repr(client)
    for call in (client.tokens.get, client.tokens.delete):
        with pytest.raises(NGDataError, match="closed"):
            call([])


def test_closing_while_another_thread_reads_lets_it_finish(observed):
    client = ngdata.connect(observed.url)
    frames = []
    with observed.locked("tokens.spatial_index"):
        reader = threading.Thread(
            target=lambda: frames.append(client.tokens.find_in_region((0, 0, 0), (1, 1, 1)))
        )
        reader.start()
        observed.until_locked_out()
        client.close()
    reader.join(20)
    assert frames[0].empty
    observed.until_idle()
