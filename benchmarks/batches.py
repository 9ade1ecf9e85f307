"""Batches of searches: the server against a tree at the client, and the way that ngdata chooses.

python -m benchmarks.batches --tokens 1000000

Both ways run in turns, without the cache, on stores of several sizes; *chosen* is the read as users
call it, which decides by itself, and its ratio is to the quicker of the two.  The costs in
`ngdata._reading.batch_costs` are fitted to these figures.  Last, 1,000 nearest by one call against a
loop of `find_nearest`.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

import ngdata
from benchmarks import store
from benchmarks.measure import Timings, alternate
from ngdata._reading import batches as ways

__all__ = ["Batches", "main", "measured", "tables"]

CHOSEN: Final = "chosen"
WAYS: Final = (ways.SERVER, ways.HERE, CHOSEN)
LOOP: Final = "loop of find_nearest"
BATCH: Final = "find_nearest_many"
KEPT: Final = "find_nearest_many, tokens in the cache"
POINTS: Final = (1, 10, 100, 1_000, 10_000)
KS: Final = (1, 10, 100)

# A read that takes longer, in seconds, is not repeated, nor tried with more points.
_PATIENCE: Final = 4.0


@dataclass
class Batches:
    """The results.

    Attributes
    ----------
    reads : dict of (str, int, int, int) to Timings
        By method, tokens, points and k (the rows of a point).
    choices : dict, with the same keys, to str
        The way that was chosen.
    loops : dict of int to Timings
        By tokens.
    """

    reads: dict[tuple[str, int, int, int], Timings]
    choices: dict[tuple[str, int, int, int], str]
    loops: dict[int, Timings]

    def loss(self, key: tuple[str, int, int, int]) -> float:
        """Return the time of the chosen way as a multiple of the quicker one's."""
        timings = self.reads[key]
        best = min(timings.median(way) for way in (ways.SERVER, ways.HERE) if timings.seconds[way])
        return timings.median(CHOSEN) / best


@contextmanager
def forced(way: str) -> Iterator[None]:
    """Answer all batches in one way."""
    before, ways.forced_way = ways.forced_way, None if way == CHOSEN else way
    try:
        yield
    finally:
        ways.forced_way = before


def _reads(
    ang: ngdata.AsyncClient, points: np.ndarray, k: int
) -> dict[str, Callable[[], Awaitable[pd.DataFrame]]]:
    # One token per unit of volume.
    radius = (k / (4 / 3 * np.pi)) ** (1 / 3)
    options: dict[str, Any] = {"cache": "off", "max_rows": None}
    return {
        "nearest": lambda: ang.tokens.find_nearest_many(points, k, **options),
        "within": lambda: ang.tokens.find_within_many(points, radius, **options),
    }


async def _in_turns(
    read: Callable[[], Awaitable[pd.DataFrame]], turns: int, slow: set[str]
) -> tuple[Timings, str]:
    """Measure a read in each way but the slow ones, after all returned the same rows."""

    async def run(way: str) -> pd.DataFrame:
        with forced(way):
            return await read()

    frames = {}
    for way in WAYS:
        if way not in slow:
            frames[way] = await run(way)
    for frame in frames.values():
        pd.testing.assert_frame_equal(frame, frames[CHOSEN], check_exact=True)
    chosen: str = frames[CHOSEN].attrs["ngdata"]["way"]
    del frames
    timings = await alternate(
        {way: (lambda way=way: run(way)) for way in WAYS if way not in slow}, 1
    )
    longest = max(map(max, timings.seconds.values()))
    repeats = max(0, min(turns, int(_PATIENCE / longest)) - 1)
    more = await alternate({way: (lambda way=way: run(way)) for way in timings.seconds}, repeats)
    for way, seconds in more.seconds.items():
        timings.seconds[way] += seconds
    slow |= {way for way, seconds in timings.seconds.items() if min(seconds) > _PATIENCE}
    for way in WAYS:
        timings.seconds.setdefault(way, [])
    return timings, chosen


async def measured(
    urls: dict[int, str],
    sizes: tuple[int, ...] = POINTS,
    ks: tuple[int, ...] = KS,
    turns: int = 7,
    looped: int = 1_000,
) -> Batches:
    """Measure on filled stores.

    Parameters
    ----------
    urls : dict of int to str
        By the number of tokens.
    sizes, ks : tuple of int
        The numbers of points, and of rows of each.
    turns : int
    looped : int
        The number of points of the loop.
    """
    results = Batches({}, {}, {})
    random = np.random.default_rng(5)
    for tokens, url in urls.items():
        async with await ngdata.connect_async(url) as ang:
            for method in ("nearest", "within"):
                for k in ks:
                    slow: set[str] = set()
                    for count in sizes:
                        points = random.uniform(0, store.side(tokens), (count, 3))
                        read = _reads(ang, points, k)[method]
                        key = method, tokens, count, k
                        timings, choice = await _in_turns(read, turns, slow)
                        results.reads[key], results.choices[key] = timings, choice
                        shown = {
                            way: round(timings.median(way), 2)
                            for way in WAYS
                            if timings.seconds[way]
                        }
                        print(*key, shown, choice, round(results.loss(key), 2), flush=True)
            results.loops[tokens] = await _looped(ang, tokens, looped)
    return results


async def _looped(ang: ngdata.AsyncClient, tokens: int, count: int) -> Timings:
    points = np.random.default_rng(6).uniform(0, store.side(tokens), (count, 3))

    async def loop() -> None:
        for point in points:
            await ang.tokens.find_nearest(point, cache="off")

    async def batch() -> pd.DataFrame:
        return await ang.tokens.find_nearest_many(points, cache="off")

    async def kept() -> pd.DataFrame:
        return await ang.tokens.find_nearest_many(points)

    with forced(ways.HERE):
        await kept()
    return await alternate({LOOP: loop, BATCH: batch, KEPT: kept}, 3)


def tables(results: Batches) -> str:
    """Return the results as Markdown."""
    lines = []
    for method, title in (("nearest", "`find_nearest_many`"), ("within", "`find_within_many`")):
        lines += [
            f"{title}, in milliseconds; the last column is the chosen way's time over the quicker one's:",
            "",
            "| tokens | points | k | server | client tree | chosen | |",
            "|---:|---:|---:|---:|---:|---|---:|",
        ]
        for key, timings in results.reads.items():
            if key[0] != method:
                continue
            took = [
                f"{timings.median(way):,.1f}" if timings.seconds[way] else "-" for way in WAYS[:2]
            ]
            lines.append(
                f"| {key[1]:,} | {key[2]:,} | {key[3]} | {' | '.join(took)}"
                f" | {results.choices[key]} | {results.loss(key):.2f} |"
            )
        lines.append("")
    lines += [
        "The ten nearest of 1,000 points:",
        "",
        "| tokens | way | ms | times quicker than the loop |",
        "|---:|---|---:|---:|",
    ]
    for tokens, timings in results.loops.items():
        lines += [
            f"| {tokens:,} | {way} | {timings.median(way):,.1f} | {timings.ratio(LOOP, way):.1f} |"
            for way in timings.seconds
        ]
    return "\n".join(lines)


def main(tokens: int = 1_000_000, home: str | None = None) -> Batches:
    """Measure on separate servers, print the tables, and return the results."""
    with store.server(home) as addresses:
        urls = {
            count: store.filled(addresses.database_url, count, 0, 0)
            for count in (tokens // 1_000, tokens // 100, tokens // 10, tokens)
        }
        results = asyncio.run(measured(urls))
    print(tables(results))
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--home", help="keep the filled store here between runs")
    arguments = parser.parse_args()
    main(arguments.tokens, arguments.home)
