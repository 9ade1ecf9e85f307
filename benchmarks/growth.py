"""Measure how a store grows: the same questions to stores of different sizes, and what a token costs.

    python -m benchmarks.growth --sizes 100000 1000000

Each store is loaded by `bulk_load(initial=True)` from frames that are made while it loads, in a process of
its own, whose memory is measured.  Its tokens have the density of all others (`benchmarks.store`), so a
region of n rows is the same cube in each.  Before it is asked, it is vacuumed, and written to disk.
The questions are put in turns within a store, and the stores follow one another: ratios between
stores depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

import ngdata
from benchmarks import store
from benchmarks.measure import alternate

__all__ = ["Grown", "main", "measure", "table"]

_ROWS: Final = 1_000
_TURNS: Final = 30

# Prints how long the load took, how long of it the indexes, and the peak of the memory over that before.
_LOAD: Final = """
import json, sys, time
import psutil
import ngdata
from benchmarks import store

url, tokens, part = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def peak():
    # Of this process alone: ru_maxrss of a child begins at its parent's.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024


written = 0.0


def frames():
    global written
    for first in range(0, tokens, part):
        frame, coords = store.tokens(first, min(part, tokens - first), tokens)
        yield frame.assign(coords=list(coords))
    written = time.perf_counter()


with ngdata.connect(url) as ng:
    ng.tokens.count_in_region((0, 0, 0), (1, 1, 1))
    idle = psutil.Process().memory_info().rss
    began = time.perf_counter()
    assert ng.tokens.bulk_load(frames(), initial=True, progress=False) == tokens
    ended = time.perf_counter()
print(json.dumps({"load": ended - began, "indexes": ended - written, "memory": peak() - idle}))
"""


@dataclass
class Grown:
    """A store of one size.

    Attributes
    ----------
    tokens : int
    load, indexes : float
        Seconds of the load, and those of them that building the indexes took.
    memory : int
        Bytes of the peak of the loading process over what it had before.
    heap, index : float
        Bytes on disk for each token: its row with its indexes, and its places in the spatial index.
    seconds : dict of str to float
        The median of each question.
    """

    tokens: int
    load: float
    indexes: float
    memory: int
    heap: float
    index: float
    seconds: dict[str, float] = field(default_factory=dict)


async def measure(url: str, tokens: int, turns: int = _TURNS, part: int = 50_000) -> Grown:
    """Load an empty store, and ask it; `url` is that of the store."""
    arguments = [sys.executable, "-c", _LOAD, url, str(tokens), str(part)]
    loading = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE)
    output, _ = await loading.communicate()
    assert loading.returncode == 0
    loaded = json.loads(output)
    await asyncio.to_thread(store.settle, url)
    size = "SELECT {} AS bytes"
    partitions = (
        "(SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('tokens.spatial_index'))"
    )
    async with await ngdata.connect_async(url) as ang:
        heap = await ang.sql(size.format("pg_total_relation_size('tokens.tokens')"))
        index = await ang.sql(size.format(partitions))
        grown = Grown(
            tokens,
            loaded["load"],
            loaded["indexes"],
            loaded["memory"],
            float(heap.bytes[0]) / tokens,
            float(index.bytes[0]) / tokens,
        )
        random = np.random.default_rng(1)
        edge = store.side(_ROWS)

        def corners() -> tuple[Any, Any]:
            # Another cube each time, so that all of the store is read from in the end.
            low = random.random(3) * max(store.side(tokens) - edge, 0.0)
            return tuple(low), tuple(low + edge)

        fixed = corners()
        number = iter(range(10**9))

        async def create() -> None:
            low, _ = corners()
            await ang.tokens.create({0: low}, token_type=f"new {next(number)}")

        ids = store.token_ids(0, tokens)
        ways = {
            f"region of {_ROWS:,}": lambda: ang.tokens.find_in_region(*corners(), cache="off"),
            "count": lambda: ang.tokens.count_in_region(*corners(), cache="off"),
            "nearest, k=10": lambda: ang.tokens.find_nearest(corners()[0], k=10, cache="off"),
            "get of 100": lambda: ang.tokens.get(
                [ids[n] for n in random.integers(tokens, size=100)], cache="off"
            ),
        }
        timings = await alternate(ways, turns)
        # By themselves: after a write, the answer is read anew.
        await ang.tokens.find_in_region(*fixed, cache="strict")
        hits = await alternate(
            {"strict hit": lambda: ang.tokens.find_in_region(*fixed, cache="strict")}, turns
        )
        created = await alternate({"create": create}, turns)
        for each in (timings, hits, created):
            grown.seconds |= {way: each.median(way) for way in each.seconds}
    return grown


def table(stores: Sequence[Grown]) -> str:
    """Return the stores as Markdown: a column for each, and the largest over the smallest."""
    head = " | ".join(f"{each.tokens:,} tokens" for each in stores)
    lines = [f"| | {head} | growth |", "|---|" + "---:|" * (len(stores) + 1)]

    def row(name: str, values: Sequence[float], form: str) -> None:
        ratio = f"{values[-1] / values[0]:.2f}" if len(stores) > 1 and values[0] else ""
        lines.append(f"| {name} | {' | '.join(form.format(v) for v in values)} | {ratio} |")

    for way in stores[0].seconds:
        row(f"{way}, ms", [each.seconds[way] for each in stores], "{:.2f}")
    row("load, s per million", [each.load / each.tokens * 1e6 for each in stores], "{:.1f}")
    row(
        "of it the indexes, s per million",
        [each.indexes / each.tokens * 1e6 for each in stores],
        "{:.1f}",
    )
    row("memory of the load, MB", [each.memory / 1e6 for each in stores], "{:.0f}")
    row("disk per token: row, bytes", [each.heap for each in stores], "{:.0f}")
    row("disk per token: places, bytes", [each.index for each in stores], "{:.0f}")
    return "\n".join(lines)


def main(sizes: Sequence[int], home: str | None = None, turns: int = _TURNS) -> str:
    """Measure stores of these sizes on one server, one after the other, and return the table."""
    stores = []
    with store.server(home) as addresses:
        for tokens in sizes:
            with store.temporary(addresses.database_url, f"growth_{tokens}") as url:
                stores.append(asyncio.run(measure(url, tokens, turns)))
            print(table(stores), flush=True)
    return table(stores)


if __name__ == "__main__":
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    options.add_argument("--turns", type=int, default=_TURNS)
    options.add_argument("--home", help="where the server's data are; they are removed at the end")
    arguments = options.parse_args()
    main(arguments.sizes, arguments.home, arguments.turns)
