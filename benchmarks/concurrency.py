"""Many readers of one client at once: 32 tasks, then 8 threads, each reading regions of all sizes.

What is reported are reads a second and how long the slowest took; what is checked is that each
answer has as many rows as it had when read alone, that the server never saw more connections than
the pool allows, and that every reader made progress.

    python -m benchmarks.concurrency --tokens 1000000
"""

from __future__ import annotations

import argparse
import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import adbc_driver_postgresql.dbapi as adbc
import numpy as np

import ngdata
from benchmarks import store

__all__ = ["Crowd", "main", "tables", "with_tasks", "with_threads"]

# Most are small, and some are large enough to be read over several connections.
_SIZES: Final = (10, 100, 1_000, 1_000, 8_000, 8_000, 30_000, 150_000)
_NAME: Final = "ngdata-crowd"


@dataclass
class Crowd:
    """What many readers saw.

    Attributes
    ----------
    reads : int
    rows : int
    seconds : float
    p50, p99, slowest : float
        Milliseconds of a read.
    connections : int
        The most that the server saw at once.
    slowest_reader : float
        Reads of the reader that got the fewest, as a share of the mean.
    """

    reads: int
    rows: int
    seconds: float
    p50: float
    p99: float
    slowest: float
    connections: int
    slowest_reader: float


class _Watch:
    """Counts the connections of a client, from outside, until it is left."""

    def __init__(self, url: str) -> None:
        self._connection = adbc.connect(url, autocommit=True)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.most = 0

    def _look(self) -> None:
        question = (
            "SELECT count(*) FROM pg_stat_activity"
            f" WHERE application_name = '{_NAME}' AND backend_type = 'client backend'"
        )
        with self._connection.cursor() as cursor:
            while not self._done.wait(0.005):
                cursor.execute(question)
                self.most = max(self.most, cursor.fetchone()[0])

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._connection.close()


def _regions(tokens: int, count: int) -> list[tuple[tuple[Any, Any], int]]:
    """Return regions of mixed sizes at random positions, each with its expected number of rows."""
    random = np.random.default_rng(0)
    regions = []
    for rows in random.choice([n for n in _SIZES if n <= tokens], count):
        edge = store.side(int(rows))
        low = random.random(3) * max(0.0, store.side(tokens) - edge)
        regions.append(((tuple(low), tuple(low + edge)), int(rows)))
    return regions


def _crowd(
    timings: list[list[tuple[float, int]]], seconds: float, connections: int, limit: int
) -> Crowd:
    # One writing connection opens the client, another asks for versions.
    assert connections <= limit + 2, f"{connections} connections of at most {limit} for reads"
    counts = [len(reader) for reader in timings]
    assert min(counts) > 0, "a reader got no answer at all"
    times = np.array([took for reader in timings for took, _ in reader]) * 1000
    return Crowd(
        reads=len(times),
        rows=sum(rows for reader in timings for _, rows in reader),
        seconds=seconds,
        p50=float(np.percentile(times, 50)),
        p99=float(np.percentile(times, 99)),
        slowest=float(times.max()),
        connections=connections,
        slowest_reader=min(counts) / float(np.mean(counts)),
    )


async def with_tasks(
    url: str, tokens: int, readers: int = 32, seconds: float = 5.0, pool: int = 8
) -> Crowd:
    """Read in concurrent tasks of one async client, for some seconds."""
    asked = _regions(tokens, 64)
    async with await ngdata.connect_async(
        url, cache="off", pool_max_size=pool, application_name=_NAME
    ) as ang:
        expected = [len(await ang.tokens.find_in_region(*box)) for box, _ in asked]
        timings: list[list[tuple[float, int]]] = [[] for _ in range(readers)]
        began = time.perf_counter()

        async def read(reader: int) -> None:
            turn = reader
            while time.perf_counter() - began < seconds:
                box, _ = asked[turn % len(asked)]
                start = time.perf_counter()
                frame = await ang.tokens.find_in_region(*box)
                timings[reader].append((time.perf_counter() - start, len(frame)))
                assert len(frame) == expected[turn % len(asked)]
                turn += 7

        with _Watch(url) as watch:
            await asyncio.gather(*map(read, range(readers)))
        return _crowd(timings, time.perf_counter() - began, watch.most, pool)


def with_threads(
    url: str, tokens: int, readers: int = 8, seconds: float = 5.0, pool: int = 8
) -> Crowd:
    """Read in concurrent threads with one sync client, for some seconds."""
    asked = _regions(tokens, 64)
    with ngdata.connect(url, cache="off", pool_max_size=pool, application_name=_NAME) as ng:
        expected = [len(ng.tokens.find_in_region(*box)) for box, _ in asked]
        timings: list[list[tuple[float, int]]] = [[] for _ in range(readers)]
        began = time.perf_counter()

        def read(reader: int) -> None:
            turn = reader
            while time.perf_counter() - began < seconds:
                box, _ = asked[turn % len(asked)]
                start = time.perf_counter()
                frame = ng.tokens.find_in_region(*box)
                timings[reader].append((time.perf_counter() - start, len(frame)))
                assert len(frame) == expected[turn % len(asked)]
                turn += 7

        with _Watch(url) as watch, ThreadPoolExecutor(readers) as threads:
            list(threads.map(read, range(readers)))
        return _crowd(timings, time.perf_counter() - began, watch.most, pool)


def tables(results: dict[str, Crowd]) -> str:
    """Return the results as Markdown."""
    lines = [
        "| readers | reads/s | rows/s | median, ms | p99, ms | slowest, ms | connections"
        " | fewest reads of a reader, of the mean |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {one.reads / one.seconds:.0f} | {one.rows / one.seconds:,.0f}"
        f" | {one.p50:.0f} | {one.p99:.0f} | {one.slowest:.0f} | {one.connections}"
        f" | {one.slowest_reader:.2f} |"
        for name, one in results.items()
    ]
    return "\n".join(lines)


def main(tokens: int = 1_000_000, home: str | None = None, seconds: float = 10.0) -> str:
    """Measure on separate servers, print the table, and return it."""
    with store.server(home) as addresses:
        url = store.filled(addresses.database_url, tokens)
        results = {
            "1 task": asyncio.run(with_tasks(url, tokens, 1, seconds)),
            "32 tasks": asyncio.run(with_tasks(url, tokens, 32, seconds)),
            "8 threads": with_threads(url, tokens, 8, seconds),
        }
    text = tables(results)
    print(text)
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--home", help="keep the filled store here between runs")
    arguments = parser.parse_args()
    main(arguments.tokens, arguments.home)
