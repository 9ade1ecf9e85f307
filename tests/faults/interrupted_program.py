"""A program whose sync calls are interrupted at random moments; `test_interrupts.py` runs it.

Usage: python interrupted_program.py DATABASE_URL REDIS_URL SEED COUNT DIRECTORY.  It prints JSON: for
each interrupt the call, the seconds until it returned and whether it was still running; and what was
left at the end.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars  # noqa: F401 - it has a signal handler of its own, under which waits behave differently
import psutil

import ngdata
from ngdata.binary import TOKEN
from ngdata.binary.loading import load_records
from ngdata.datasets import load_celegans
from ngdata.files import load

URL, REDIS, SEED, COUNT, DIRECTORY = sys.argv[1:]
POINTS, PART, RECORDS = 20_000, 4_000, 2_000
BOX = (0, 0, 0), (POINTS, 0, 0)
LOADED = Path(DIRECTORY) / "records.bin"


def connect(**options: Any) -> ngdata.Client:
    return ngdata.connect(URL, redis_url=REDIS, connect_timeout=5, **options)


def read_in_a_client_of_its_own() -> None:
    with connect(pool_max_size=2) as ng:
        ng.tokens.find_nearest((0, 0, 0), k=5)


class Calls:
    """The calls to interrupt.  Those that write mark their rows, by the number of the call."""

    def __init__(self, ng: ngdata.Client) -> None:
        self.ng = ng
        self.number = 0
        points = {"x": np.arange(POINTS), "y": np.zeros(POINTS), "z": np.zeros(POINTS)}
        self.ids = list(ng.tokens.bulk_create(points, progress=False))
        ends = {"source_id": self.ids[: PART - 1], "target_id": self.ids[1:PART]}
        self.edges = ng.graph.bulk_create(ends, progress=False)
        self.snapshot = ng.graph.create_snapshot()
        part = self.ids[:PART]
        loops = {"source_id": part, "target_id": part, "connection_type": "loop"}
        ng.graph.bulk_create(loops, progress=False)
        events = {"event_type": f"of {part[0]}", "timestamp": [NOW] * PART}
        self.events = ng.experience.bulk_create(events, progress=False)
        self.closed: list[ngdata.Client] = []

    def all(self) -> dict[str, Callable[[], object]]:
        ng, ids = self.ng, self.ids
        return {
            "read a region": lambda: ng.tokens.find_in_region(*BOX, cache="off"),
            "read a cached region": lambda: ng.tokens.find_in_region(
                (0, 0, 0), (self.number, 0, 0)
            ),
            "read by id": lambda: ng.tokens.get(ids[:PART], cache="off"),
            "read neighbors": lambda: ng.graph.get_neighbors(ids[:50], depth=20, cache="off"),
            "read a subgraph": lambda: ng.graph.subgraph(ids[:PART]),
            "iterate": lambda: [len(part) for part in ng.tokens.iter_region(*BOX, chunk_rows=997)],
            "create one": lambda: ng.tokens.create({1: (1, 1, 1)}, token_type=f"one {self.number}"),
            "create many": lambda: ng.tokens.bulk_create(self.rows(), progress=False),
            "create events": lambda: ng.experience.bulk_create(
                {"event_type": [f"call {self.number}"] * PART, "timestamp": [NOW] * PART},
                progress=False,
            ),
            "update": lambda: ng.tokens.update(ids[self.number], weight=2.0),
            "update many": lambda: ng.tokens.bulk_update(
                {"token_id": ids[:PART], "token_type": f"changed {self.number}"}, progress=False
            ),
            "update connections": lambda: ng.graph.bulk_update(
                {"connection_id": self.edges, "connection_type": f"changed {self.number}"},
                progress=False,
            ),
            "update events": lambda: ng.experience.update_event(
                self.events, event_type=f"changed {self.number}"
            ),
            "delete": lambda: ng.tokens.delete(ids[-1 - self.number :]),
            "delete by type": lambda: ng.tokens.delete(token_type=self.earlier("many")),
            "delete connections": lambda: ng.graph.delete(connection_type="loop"),
            "delete events": lambda: ng.experience.delete_events(event_type=self.earlier("call")),
            "create a snapshot": ng.graph.create_snapshot,
            "load a snapshot": lambda: ng.graph.load_snapshot(self.snapshot, cache="off"),
            "write a file": lambda: ng.tokens.to_geoparquet(
                Path(DIRECTORY) / f"{self.number}.parquet", *BOX
            ),
            "load a file": lambda: load_records(ng, self.records(), progress=False),
            "load a CSV file": lambda: load(ng, self.csv(), progress=False),
            "load over existing rows": lambda: load(
                ng, self.csv(), on_conflict="update", progress=False
            ),
            "load the sample": lambda: load_celegans(ng),
            "health": ng.health,
            "explain": lambda: ng.explain(ng.tokens.find_in_region, *BOX),
            "clear the cache": ng.cache.clear,
            "connect": connect,
            "connect, read and close": read_in_a_client_of_its_own,
            "close": lambda: self.closed.pop().close(),
        }

    def earlier(self, word: str) -> list[str]:
        """Return how earlier calls marked their rows."""
        return [f"{word} {number}" for number in range(self.number)]

    def rows(self) -> dict[str, Any]:
        return {"x": np.arange(PART) + 0.5, "y": np.ones(PART), "z": np.ones(PART)} | {
            "token_type": [f"many {self.number}"] * PART
        }

    def csv(self) -> Path:
        path = Path(DIRECTORY) / f"{self.number}.csv"
        pd.DataFrame(self.rows() | {"token_type": f"file {self.number}"}).to_csv(path, index=False)
        return path

    def records(self) -> Path:
        records = np.zeros(RECORDS, TOKEN)
        records["coordinates"] = 127
        records["coordinates"][:, 2] = 1
        records["id"] = np.arange(RECORDS) + RECORDS * self.number
        records.tofile(LOADED)
        return LOADED


NOW = pd.Timestamp("2026-01-01", tz="UTC")


# Statements whose every count must be that of a whole call.
WHOLE = {
    "SELECT count(*) FROM tokens.tokens WHERE token_type LIKE 'one %' GROUP BY token_type": 1,
    "SELECT count(*) FROM tokens.tokens WHERE token_type LIKE 'many %' GROUP BY token_type": PART,
    "SELECT count(*) FROM tokens.tokens WHERE token_type LIKE 'file %' GROUP BY token_type": PART,
    "SELECT count(*) FROM tokens.tokens WHERE token_type LIKE 'changed %' GROUP BY token_type": PART,
    "SELECT count(*) FROM graph.connections WHERE connection_type LIKE 'changed %'"
    " GROUP BY connection_type": PART - 1,
    "SELECT count(*) FROM graph.connections WHERE connection_type = 'loop' HAVING count(*) > 0": PART,
    "SELECT count(*) FROM experience.experience_events GROUP BY event_type": PART,
    f"SELECT count(*) % {RECORDS} FROM tokens.spatial_index WHERE level = 2": 0,
}


class Interrupter:
    """Interrupts the main thread once, after a delay; a call that has returned waits for it."""

    def __init__(self) -> None:
        self.sent_at = 0.0

    def interrupt(self, call: Callable[[], object], delay: float) -> tuple[float, bool]:
        """Return the seconds until the call returned, and whether it was still running."""
        is_running = True
        self.sent_at = 0.0
        thread = threading.Timer(delay, self._send)
        result = None
        try:
            thread.start()
            result = call()
            is_running = False
            while True:
                time.sleep(0.001)
        except KeyboardInterrupt:
            seconds = time.monotonic() - self.sent_at
        if isinstance(result, ngdata.Client):
            result.close()
        thread.join()
        return seconds, is_running

    def _send(self) -> None:
        self.sent_at = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)


def left() -> tuple[list[str], int]:
    gc.collect()
    return sorted(thread.name for thread in threading.enumerate()), psutil.Process().num_fds()


def settled(expected: tuple[list[str], int]) -> Any:
    """Return what is left, once it is as expected; else what is left after ten seconds."""
    for _ in range(200):
        if (now := left()) == expected:
            break
        time.sleep(0.05)
    return now


def main() -> None:
    chance = random.Random(SEED)
    with connect() as ng:
        calls = Calls(ng)
        durations = {}
        for name, call in calls.all().items():
            calls.number += 1
            if name == "load the sample":  # a second of many statements: interrupted, never awaited
                durations[name] = 1.0
                continue
            calls.closed.append(connect())
            started = time.monotonic()
            if isinstance(result := call(), ngdata.Client):
                result.close()
            durations[name] = time.monotonic() - started
        while calls.closed:
            calls.closed.pop().close()
        whole = calls.number
    del ng, calls
    before = left()
    interrupts = []
    interrupter = Interrupter()
    with connect() as ng:
        calls = Calls(ng)
        names = list(calls.all())
        for number in range(int(COUNT)):
            calls.number = whole + number + 1
            name = names[number % len(names)]
            if name == "close":
                calls.closed.append(connect())
                calls.closed[-1].tokens.get(calls.ids[:10])
            delay = chance.uniform(0, 1.1) * durations[name]
            seconds, was_running = interrupter.interrupt(calls.all()[name], delay)
            interrupts.append((name, seconds, was_running))
            # The same client works at once.
            assert ng.tokens.count_in_region((0, 0, 0), (0, 0, 0)) == 1 + 1
        in_use = {kind: status["in_use"] for kind, status in ng.pool_status().items()}
    del ng, calls
    print(
        json.dumps(
            {
                "interrupts": interrupts,
                "in_use": in_use,
                "before": before,
                "after": settled(before),
                "halves": [path.name for path in Path(DIRECTORY).glob(".*.part")],
                "whole": WHOLE,
            }
        ),
        flush=True,
    )
    input()


if __name__ == "__main__":
    main()
