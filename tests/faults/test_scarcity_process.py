"""A process that lacks descriptors, memory or threads: right answers or `OutOfResources`, and recovery.

Each test is a program of its own, because it limits its whole process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import ngdata
from tests.conftest import execute

ROWS = 120_000
LARGE = 200

# What each program begins with; its store has ROWS tokens in BOX.
HEAD = f"""
import collections, json, os, resource, sys, threading
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from ngdata.errors import NGDataError

ROWS = {ROWS}
BOX = ((0, 0, 0), (1, 1, 1))

def outcome(call):
    try:
        return [None, call()]
    except BaseException as error:
        return [type(error).__name__, str(error)]

def region(ng, **options):
    return len(ng.tokens.find_in_region(*BOX, **options))

def descriptors():
    return len(os.listdir("/proc/self/fd"))

def address_space():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

def limit(kind, soft):
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (hard if soft is None else soft, hard))
"""

DESCRIPTORS = """
with ngdata.connect(URL, cache="off") as ng:
    at_first = outcome(lambda: region(ng, limit=3))
    opened, threads = descriptors(), threading.active_count()
    limit(resource.RLIMIT_NOFILE, opened + 3)
    with ThreadPoolExecutor(12) as pool:
        lacking = list(pool.map(lambda _: outcome(lambda: region(ng, columns=["x"])), range(12)))
    path = os.path.join(sys.argv[1], "region.parquet")
    hog = []
    while not outcome(lambda: hog.append(os.open(os.devnull, os.O_RDONLY)))[0]:
        pass
    none_left = {
        "connect": outcome(lambda: ngdata.connect(URL))[:2],
        "up": outcome(lambda: __import__("ngdata._local")._local.up()),
        "to_geoparquet": outcome(lambda: ng.tokens.to_geoparquet(path)),
    }
    for descriptor in hog:
        os.close(descriptor)
    limit(resource.RLIMIT_NOFILE, None)
    with ThreadPoolExecutor(12) as pool:
        again = list(pool.map(lambda _: outcome(lambda: region(ng, columns=["x"])), range(12)))
    status = ng.pool_status()
    print(json.dumps({
        "lacking": lacking, "none left": none_left, "again": again, "status": status,
        "open": descriptors() - opened, "files": os.listdir(sys.argv[1]),
    }))
"""

FIRST_CONNECT = """
hog = []
limit(resource.RLIMIT_NOFILE, descriptors() + 20)
while not outcome(lambda: hog.append(os.open(os.devnull, os.O_RDONLY)))[0]:
    pass
lacking = []
for free in range(5):
    lacking.append(outcome(lambda: ngdata.connect(URL).close()))
    os.close(hog.pop())
for descriptor in hog:
    os.close(descriptor)
opened = descriptors()
with ngdata.connect(URL) as ng:
    count = ng.tokens.count_in_region(*BOX)
print(json.dumps({"lacking": lacking, "count": count}))
"""

MEMORY = """
with ngdata.connect(URL, cache="off") as ng:
    # The threads of the connections are there before memory is short.
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: region(ng, limit=3), range(12)))
    large = ng.tokens.find_in_region((8, 8, 8), (8, 8, 8)).token_id
    whole = lambda: len(ng.tokens.get(large, columns=["metadata"]))
    limit(resource.RLIMIT_AS, address_space() + (32 << 20))
    lacking = [[outcome(whole), outcome(lambda: region(ng, limit=3))] for _ in range(3)]
    wrote = outcome(lambda: len(ng.tokens.bulk_create(
        {name: np.broadcast_to(np.float64(5), 1_000_000) for name in "xyz"}, progress=False)))
    limit(resource.RLIMIT_AS, None)
    print(json.dumps({
        "lacking": lacking, "wrote": wrote, "again": outcome(whole),
        "counted": ng.tokens.count_in_region((5,) * 3, (5,) * 3),
        "in use": [each["in_use"] for each in ng.pool_status().values()],
    }))
"""

THREADS = """
with ngdata.connect(URL, cache="off") as ng:
    first = region(ng, limit=3)
    # No thread can have a stack of this size.
    threading.stack_size(64 << 20)
    whole = lambda: len(ng.tokens.get(large, columns=["metadata"]))
    limit(resource.RLIMIT_AS, address_space() + (32 << 20))
    lacking = {
        "a read on an idle connection": outcome(lambda: region(ng, limit=3)),
        "a large read without helpers": outcome(lambda: region(ng, columns=["x"])),
        "bulk_create": outcome(lambda: ng.tokens.bulk_create({"x": [5.], "y": [5.], "z": [5.]})),
        "create": outcome(lambda: len(ng.tokens.create({0: (5, 5, 5)}))),
        "export_snapshot": outcome(lambda: len(ng.graph.create_snapshot())),
    }
    threading.stack_size(0)
    limit(resource.RLIMIT_AS, None)
    print(json.dumps({
        "lacking": lacking, "counted": ng.tokens.count_in_region((5,) * 3, (5,) * 3),
        "wrote": outcome(lambda: len(ng.tokens.bulk_create({"x": [6.], "y": [6.], "z": [6.]}))),
        "in use": [each["in_use"] for each in ng.pool_status().values()],
    }))
"""


@pytest.fixture(scope="module")
def store(new_migrated_database):
    """Yield the address of a store with tokens, which no process of the tests has read."""
    with new_migrated_database() as url, ngdata.connect(url) as ng:
        coords = np.random.default_rng(0).random((3, ROWS))
        ng.tokens.bulk_create(dict(zip("xyz", coords, strict=True)), progress=False)
        # An answer of 80 MB; the server compresses it.
        ng.tokens.bulk_create(dict.fromkeys("xyz", np.full(LARGE, 8.0)), progress=False)
        execute(
            url,
            "UPDATE tokens.tokens SET metadata = jsonb_build_object('text', repeat('x', 400000))"
            " WHERE coord_x[1] = 8",
        )
        yield url


@pytest.fixture
def report(store, monkeypatch, tmp_path):
    """Run a program, and return the JSON on its last line; nothing may be on stderr."""
    # Arrow's own allocators reserve gigabytes at once, and glibc 64 MB for each thread.
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "system")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")

    def run(program: str) -> dict[str, Any]:
        code = f"import ngdata\nURL = {store!r}\n{HEAD}{program}"
        ended = subprocess.run(
            [sys.executable, "-c", code, tmp_path],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        return result

    return run


def test_reads_with_few_descriptors(report):
    """They share the connections that could be opened, or say what is missing; nothing leaks."""
    steps = report(DESCRIPTORS)
    kinds = {kind for kind, _ in steps["lacking"]}
    assert None in kinds
    for kind, value in steps["lacking"]:
        if kind is None:
            assert value == ROWS
        else:
            assert kind == "OutOfResources"
            assert "this process has no free file descriptor" in value
    for kind, text in steps["none left"].values():
        assert kind == "OutOfResources"
        assert "no free file descriptor; close what is open, or allow it more (ulimit -n)" in text
    assert steps["files"] == []
    assert steps["again"] == [[None, ROWS]] * 12
    assert [pool["in_use"] for pool in steps["status"].values()] == [0, 0]
    # What is open now is what the pool keeps, one descriptor each.
    assert steps["open"] <= steps["status"]["read"]["size"] + steps["status"]["write"]["size"]


def test_the_first_connection_with_few_descriptors(report):
    """Even the event loop needs some."""
    steps = report(FIRST_CONNECT)
    assert {kind for kind, _ in steps["lacking"]} <= {"OutOfResources", None}
    assert steps["lacking"][0][0] == "OutOfResources"
    assert steps["count"] == ROWS


def test_a_read_and_a_write_with_too_little_memory(report):
    """The connection is given back, and the next read works, with the limit still in place."""
    steps = report(MEMORY)
    for (kind, text), small in steps["lacking"]:
        assert kind == "OutOfResources"
        assert "read less (limit=, columns=), read in parts (iter_region, to_dask)" in text
        assert small == [None, 3]
    assert steps["wrote"][0] == "OutOfResources"
    assert steps["counted"] == 0
    assert steps["again"] == [None, LARGE]
    assert steps["in use"] == [0, 0]


def test_a_process_that_can_start_no_thread(report):
    steps = report(THREADS)
    reads = [steps["lacking"].pop(name)[1] for name in list(steps["lacking"]) if "read" in name]
    assert reads == [3, ROWS]
    # A single row needs no thread.
    assert steps["lacking"].pop("create") == [None, 36]
    for kind, text in steps["lacking"].values():
        assert kind == "OutOfResources"
        assert "threads and cannot start another" in text
    assert steps["counted"] == 1
    assert steps["wrote"] == [None, 1]
    assert steps["in use"] == [0, 0]
