"""Compare reads of a region with other libraries and the floor; the nearest; and how time grows.

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
from benchmarks.measure import Timings, Way, alternate, turns_for
from benchmarks.peers import Peers, plain_sql
from ngdata._query import regions
from ngdata._query.filters import TokenFilter
from ngdata._query.places import Place

__all__ = ["Reads", "main", "measured"]

FLOOR: Final = "floor: drained COPY of the plain query"
SENT: Final = "floor: drained COPY of what ngdata sends"
COLD: Final = "ngdata, cache off"
MISS: Final = "ngdata, strict miss"
GROWTH_ROWS: Final = 1_000


@dataclass
class Reads:
    """The results.

    Attributes
    ----------
    regions : dict of int to (int, Timings)
        By the rows asked for: how many came, and what each way took.
    nearest : Timings
    nearest_server : float
        Milliseconds that the server itself planned and executed the nearest.
    growth : dict of int to (int, Timings)
        The same region of 1,000 rows, by the tokens of the store.
    """

    regions: dict[int, tuple[int, Timings]]
    nearest: Timings
    nearest_server: float
    growth: dict[int, tuple[int, Timings]]


def _ways(ang: ngdata.AsyncClient, peers: Peers, drain: Drain, box: Place) -> dict[str, Way]:
    corners = box.corners or ()

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
    """Check that all methods return the same rows, bit by bit; return their number."""
    frames: dict[str, pd.DataFrame] = {}
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
        frames[name] = frame.sort_values("token_id", ignore_index=True)
    for name, frame in frames.items():
        pd.testing.assert_frame_equal(frame, frames[COLD], check_exact=True, obj=name)
    return len(frames[COLD])


async def _region(url: str, box: Place, turns: int) -> tuple[int, Timings]:
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


async def _growing(url: str, box: Place, turns: int) -> tuple[int, Timings]:
    async with await ngdata.connect_async(url, cache="off") as ang:
        read = partial(ang.tokens.find_in_region, *(box.corners or ()))
        return len(await read()), await alternate({COLD: read}, turns)


async def _nearest(
    url: str, point: tuple[float, float, float], turns: int
) -> tuple[Timings, float]:
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
    url: str, tokens: int, sizes: tuple[int, ...], smaller: str | None = None, limit: int = 30
) -> Reads:
    """Measure on a filled store; `smaller` is one with a tenth of the tokens.

    Parameters
    ----------
    url : str
    tokens : int
        How many the store has.
    sizes : tuple of int
        Rows of the regions.
    smaller : str, optional
        The URL of a store with a tenth of the tokens.
    limit : int
        The largest number of turns.
    """
    middle = store.side(tokens) / 2
    by_rows = {
        rows: await _region(url, Place.of(*store.box(rows, tokens), 0), turns_for(rows * 5, limit))
        for rows in sizes
    }
    nearest, server = await _nearest(url, (middle, middle, middle), limit)
    growth: dict[int, tuple[int, Timings]] = {}
    if smaller is not None:
        box = Place.of(*store.box(GROWTH_ROWS, tokens), 0)
        for count, where in ((tokens // 10, smaller), (tokens, url)):
            growth[count] = await _growing(where, box, limit)
    return Reads(by_rows, nearest, server, growth)


def tables(reads: Reads) -> str:
    """Return the results as Markdown."""
    lines = [
        "| rows | way | ms | times the floor | times what ngdata sends |",
        "|---:|---|---:|---:|---:|",
    ]
    for rows, timings in reads.regions.values():
        lines += [
            f"| {rows:,} | {way} | {timings.median(way):.2f} | {timings.ratio(way, FLOOR):.2f}"
            f" | {timings.ratio(way, SENT):.2f} |"
            for way in timings.seconds
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
            f"| {tokens:,} | {rows:,} | {timings.median(COLD):.2f} |"
            for tokens, (rows, timings) in reads.growth.items()
        ]
    return "\n".join(lines)


def main(tokens: int = 1_000_000, home: str | None = None) -> Reads:
    """Measure on separate servers, print the tables, and return the results."""
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
    parser.add_argument("--home", help="keep the filled store here between runs")
    arguments = parser.parse_args()
    main(arguments.tokens, arguments.home)
