"""A region to a finished frame, beside peers and the floor; the nearest; and how time grows.

python -m benchmarks.reads --tokens 1000000
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import asyncpg
import pandas as pd

import ngdata
from benchmarks import store
from benchmarks.floor import Drain
from benchmarks.measure import Taken, Way, alternate, turns_for
from benchmarks.peers import Peers, plain_sql
from ngdata._query import regions
from ngdata._query.filters import TokenFilter
from ngdata._query.space import Box

__all__ = ["Reads", "main", "measured"]

FLOOR: Final = "floor: drained COPY of the plain query"
SENT: Final = "floor: drained COPY of what ngdata sends"
COLD: Final = "ngdata, cache off"
MISS: Final = "ngdata, strict miss"
GROWTH_ROWS: Final = 1_000


@dataclass
class Reads:
    """What was measured.

    Attributes
    ----------
    regions : dict of int to (int, Taken)
        By the rows asked for: how many came, and what each way took.
    nearest : Taken
    nearest_server : float
        Milliseconds that the server itself planned and executed the nearest.
    growth : dict of int to (int, Taken)
        The same region of 1,000 rows, by the tokens of the store.
    """

    regions: dict[int, tuple[int, Taken]]
    nearest: Taken
    nearest_server: float
    growth: dict[int, tuple[int, Taken]]


def _ways(ang: ngdata.AsyncClient, peers: Peers, drain: Drain, box: Box) -> dict[str, Way]:
    corners = (box.low, box.high)

    async def miss() -> pd.DataFrame:
        ang._reader.memory.clear()
        return await ang.tokens.find_in_region(*corners)

    sent = regions.region(box, TokenFilter()).sql
    return {
        FLOOR: partial(drain.copy, plain_sql(box)),
        SENT: partial(drain.copy, sent),
        COLD: partial(ang.tokens.find_in_region, *corners, cache="off"),
        MISS: miss,
        "ADBC, Arrow to pandas": partial(peers.adbc, box),
        "connectorx": partial(peers.connectorx, box),
        "asyncpg, records to a frame": partial(peers.asyncpg, box),
        "pandas.read_sql": partial(peers.read_sql, box),
        "geopandas.read_postgis": partial(peers.read_postgis, box),
        "ORM objects, array columns": partial(peers.entities, box),
    }


async def answers_agree(ways: dict[str, Way]) -> int:
    """Compare the rows of all ways, bit by bit; give how many there are."""
    found: dict[str, pd.DataFrame] = {}
    for name, way in ways.items():
        answer: Any = way()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if name in (FLOOR, SENT):
            assert answer > 0
            continue
        if isinstance(answer, list):
            answer = pd.DataFrame(
                [(str(t.id), t.coord_x[0], t.coord_y[0], t.coord_z[0]) for t in answer],
                columns=["token_id", "x", "y", "z"],
            )
        if "geom" in answer:
            places = answer.geometry
            answer = answer.assign(x=places.x, y=places.y, z=places.z)
        frame = pd.DataFrame(answer)[["token_id", "x", "y", "z"]].astype({"token_id": str})
        found[name] = frame.sort_values("token_id", ignore_index=True)
    for name, frame in found.items():
        pd.testing.assert_frame_equal(frame, found[COLD], check_exact=True, obj=name)
    return len(found[COLD])


async def _region(url: str, box: Box, turns: int) -> tuple[int, Taken]:
    records = await asyncpg.connect(url)
    peers = Peers(url, records)
    try:
        async with await ngdata.connect_async(url) as ang:
            with Drain(url) as drain:
                ways = _ways(ang, peers, drain, box)
                rows = await answers_agree(ways)
                return rows, await alternate(ways, turns)
    finally:
        peers.close()
        await records.close()


async def _growing(url: str, box: Box, turns: int) -> tuple[int, Taken]:
    async with await ngdata.connect_async(url, cache="off") as ang:
        read = partial(ang.tokens.find_in_region, box.low, box.high)
        return len(await read()), await alternate({COLD: read}, turns)


async def _nearest(url: str, point: tuple[float, float, float], turns: int) -> tuple[Taken, float]:
    statement = regions.nearest(point, 10, 0, TokenFilter()).sql
    connection = await asyncpg.connect(url)
    trip = await connection.prepare("SELECT 1")
    server: list[float] = []

    async def execute() -> None:
        lines = await connection.fetch(f"EXPLAIN (ANALYZE, TIMING OFF) {statement}")
        text = "\n".join(line[0] for line in lines)
        server.append(sum(map(float, re.findall(r"(?:Planning|Execution) Time: ([\d.]+)", text))))

    try:
        async with await ngdata.connect_async(url) as ang:

            async def miss() -> pd.DataFrame:
                ang._reader.memory.clear()
                return await ang.tokens.find_nearest(point, k=10)

            with Drain(url) as drain:
                ways: dict[str, Way] = {
                    "round trip": trip.fetchval,
                    FLOOR: partial(drain.copy, statement),
                    "server": execute,
                    COLD: partial(ang.tokens.find_nearest, point, k=10, cache="off"),
                    MISS: miss,
                }
                return await alternate(ways, turns), statistics.median(server)
    finally:
        await connection.close()


async def measured(
    url: str, tokens: int, sizes: tuple[int, ...], smaller: str | None = None, most: int = 30
) -> Reads:
    """Measure on a store that is filled; `smaller` is one with a tenth of the tokens.

    Parameters
    ----------
    url : str
    tokens : int
        How many the store has.
    sizes : tuple of int
        Rows of the regions.
    smaller : str, optional
        The URL of a store with a tenth of the tokens.
    most : int
        Turns, at most.
    """
    middle = store.side(tokens) / 2
    found = {
        rows: await _region(url, Box.of(*store.box(rows, tokens), 0), turns_for(rows * 5, most))
        for rows in sizes
    }
    nearest, server = await _nearest(url, (middle, middle, middle), most)
    growth: dict[int, tuple[int, Taken]] = {}
    if smaller is not None:
        box = Box.of(*store.box(GROWTH_ROWS, tokens), 0)
        for count, where in ((tokens // 10, smaller), (tokens, url)):
            growth[count] = await _growing(where, box, most)
    return Reads(found, nearest, server, growth)


def tables(reads: Reads) -> str:
    """Write what was measured as Markdown."""
    lines = [
        "| rows | way | ms | times the floor | times what ngdata sends |",
        "|---:|---|---:|---:|---:|",
    ]
    for rows, taken in reads.regions.values():
        lines += [
            f"| {rows:,} | {way} | {taken.median(way):.2f} | {taken.ratio(way, FLOOR):.2f}"
            f" | {taken.ratio(way, SENT):.2f} |"
            for way in taken.seconds
        ]
    trip = reads.nearest.median("round trip")
    lines += [
        "",
        f"`find_nearest(k=10)`; a round trip takes {trip:.3f} ms, the server plans and executes in"
        f" {reads.nearest_server:.3f} ms:",
        "",
        "| way | ms | round trips over the server's time |",
        "|---|---:|---:|",
    ]
    for way in (COLD, MISS):
        took = reads.nearest.median(way)
        lines.append(f"| {way} | {took:.3f} | {(took - reads.nearest_server) / trip:.1f} |")
    if reads.growth:
        lines += ["", "One region in stores of different sizes:", ""]
        lines += ["| tokens | rows | ms |", "|---:|---:|---:|"]
        lines += [
            f"| {tokens:,} | {rows:,} | {taken.median(COLD):.2f} |"
            for tokens, (rows, taken) in reads.growth.items()
        ]
    return "\n".join(lines)


def main(tokens: int = 1_000_000, home: str | None = None) -> Reads:
    """Measure on servers of its own, and print."""
    sizes = tuple(rows for rows in (1_000, 8_000, 100_000) if rows <= tokens)
    with store.server(home) as addresses:
        url = store.filled(addresses.database_url, tokens)
        smaller = store.filled(addresses.database_url, tokens // 10)
        reads = asyncio.run(measured(url, tokens, sizes, smaller))
    print(tables(reads))
    return reads


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--home", help="keeps what is filled between runs")
    given = parser.parse_args()
    main(given.tokens, given.home)
