"""A region of a million rows: over one connection and over several, compared with the one-stream floor.

python -m benchmarks.large --tokens 1000000
"""

from __future__ import annotations

import argparse
import asyncio
from functools import partial
from typing import Final
from unittest.mock import patch

import pandas as pd

import ngdata
from benchmarks import store
from benchmarks.floor import Drain
from benchmarks.measure import Timings, Way, alternate
from benchmarks.peers import plain_sql
from benchmarks.reads import FLOOR, SENT
from ngdata._query import regions
from ngdata._query.filters import TokenFilter
from ngdata._query.places import Place
from ngdata._reading import parallel

__all__ = ["main", "measured", "tables"]

TOGETHER: Final = "ngdata, several connections"
ALONE: Final = "ngdata, one connection"


async def measured(
    url: str, tokens: int, sizes: tuple[int, ...], turns: int = 7
) -> dict[int, tuple[int, Timings]]:
    """Measure on a filled store."""
    results = {}
    async with await ngdata.connect_async(url, cache="off") as ang:
        for rows in sizes:
            corners = store.box(rows, tokens)

            async def alone(corners: tuple[object, object] = corners) -> pd.DataFrame:
                with patch.object(parallel, "_MIN_PARALLEL_ROWS", float("inf")):
                    return await ang.tokens.find_in_region(*corners)

            async def together(corners: tuple[object, object] = corners) -> pd.DataFrame:
                with patch.object(parallel, "_MIN_PARALLEL_ROWS", -1):
                    return await ang.tokens.find_in_region(*corners)

            box = Place.of(*corners, 0)
            with Drain(url) as drain:
                ways: dict[str, Way] = {
                    FLOOR: partial(drain.copy, plain_sql(box)),
                    SENT: partial(drain.copy, regions.region(box, TokenFilter()).sql),
                    ALONE: alone,
                    TOGETHER: together,
                }
                one, several = [
                    frame.sort_values("token_id", ignore_index=True)
                    for frame in (await alone(), await together())
                ]
                pd.testing.assert_frame_equal(one, several, check_exact=True)
                results[rows] = (len(one), await alternate(ways, turns))
    return results


def tables(results: dict[int, tuple[int, Timings]]) -> str:
    """Return the results as Markdown."""
    lines = [
        "| rows | way | ms | times the floor | times what ngdata sends |",
        "|---:|---|---:|---:|---:|",
    ]
    for rows, timings in results.values():
        lines += [
            f"| {rows:,} | {way} | {timings.median(way):.0f} | {timings.ratio(way, FLOOR):.2f}"
            f" | {timings.ratio(way, SENT):.2f} |"
            for way in timings.seconds
        ]
    return "\n".join(lines)


def main(tokens: int = 1_000_000, home: str | None = None) -> dict[int, tuple[int, Timings]]:
    """Measure on separate servers, print the table, and return the results."""
    sizes = (tokens // 10, 3 * tokens // 10, tokens)
    with store.server(home) as addresses:
        url = store.filled(addresses.database_url, tokens)
        results = asyncio.run(measured(url, tokens, sizes))
    print(tables(results))
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--home", help="keep the filled store here between runs")
    arguments = parser.parse_args()
    main(arguments.tokens, arguments.home)
