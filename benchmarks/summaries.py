"""Summaries by the server, compared with reading the rows and summing them up in pandas.

python -m benchmarks.summaries --tokens 1000000

Both ways return the same, which is checked first.  They run in turns; the figures are medians.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd

import ngdata
from benchmarks import store
from benchmarks.measure import Timings, alternate
from ngdata import EVERYWHERE

__all__ = ["main", "measured", "tables"]

SERVER: Final = "server"
PANDAS: Final = "rows and pandas"

_SAMPLE: Final = 1000
_CELLS_PER_SIDE: Final = 10


def _ways(ang: ngdata.AsyncClient, tokens: int, rows: int) -> dict[str, dict[str, Any]]:
    """Return, by summary, both ways to it."""
    box = store.box(rows, tokens)
    edge = store.side(tokens) / _CELLS_PER_SIDE
    mean = ("weight", "mean")

    async def read(columns: list[str], where: Any = (EVERYWHERE,)) -> pd.DataFrame:
        return await ang.tokens.find_in_region(*where, columns=columns, max_rows=None)

    def by_type(frame: pd.DataFrame, **named: Any) -> pd.DataFrame:
        return frame.groupby("token_type", as_index=False).agg(**named)

    async def cells() -> pd.DataFrame:
        points = await read([*"xyz"])
        centres = (np.floor(points / edge) + 0.5) * edge
        return centres.groupby([*"xyz"], as_index=False).size()

    async def events() -> pd.DataFrame:
        columns = ["timestamp", "event_type"]
        frame = await ang.experience.get_events(columns=columns, max_rows=None)
        hours = frame.groupby([pd.Grouper(key="timestamp", freq="h"), "event_type"]).size()
        return hours[hours > 0].reset_index()

    async def sample() -> pd.DataFrame:
        return (await read(["token_id", "x", "y", "z"])).sample(min(_SAMPLE, tokens))

    async def counts(where: Any = (EVERYWHERE,)) -> pd.DataFrame:
        return by_type(await read(["token_type"], where), n=("token_type", "size"))

    async def means() -> pd.DataFrame:
        return by_type(await read(["token_type", "weight"]), mean=mean)

    return {
        "counts by type": {SERVER: lambda: ang.tokens.aggregate("token_type"), PANDAS: counts},
        f"counts by type in a region of {rows:,}": {
            SERVER: lambda: ang.tokens.aggregate("token_type", within=box),
            PANDAS: lambda: counts(box),
        },
        "means by type": {
            SERVER: lambda: ang.tokens.aggregate("token_type", mean=mean),
            PANDAS: means,
        },
        f"counts in {_CELLS_PER_SIDE**3:,} cells": {
            SERVER: lambda: ang.tokens.aggregate(None, cell=edge),
            PANDAS: cells,
        },
        f"a sample of {_SAMPLE:,}": {
            SERVER: lambda: ang.tokens.sample(_SAMPLE, columns=["token_id", "x", "y", "z"]),
            PANDAS: sample,
        },
        "events by hour and type": {
            SERVER: lambda: ang.experience.count_events("h", "event_type"),
            PANDAS: events,
        },
    }


async def measured(url: str, tokens: int, rows: int, turns: int) -> dict[str, Timings]:
    """Measure on a filled store; both ways must return the same."""
    async with await ngdata.connect_async(url, cache="off") as ang:
        results = {}
        for name, ways in _ways(ang, tokens, rows).items():
            await _check(ways, is_random="sample" in name)
            results[name] = await alternate(ways, turns)
    return results


async def _check(ways: dict[str, Callable[[], Any]], *, is_random: bool) -> None:
    server, pandas = await ways[SERVER](), await ways[PANDAS]()
    pandas.columns = server.columns
    if is_random:
        assert len(server) == len(pandas)
    else:
        pd.testing.assert_frame_equal(server, pandas)


def tables(results: dict[str, Timings]) -> str:
    """Return the results as Markdown."""
    lines = ["| summary | server ms | rows and pandas ms | times |", "|---|---:|---:|---:|"]
    lines += [
        f"| {name} | {timings.median(SERVER):.0f} | {timings.median(PANDAS):.0f}"
        f" | {timings.ratio(PANDAS, SERVER):.1f} |"
        for name, timings in results.items()
    ]
    return "\n".join(lines)


def main(tokens: int = 1_000_000, home: str | None = None) -> str:
    """Fill a store, measure, print the table and return it."""
    with store.server(home) as addresses:
        url = store.filled(addresses.database_url, tokens)
        results = asyncio.run(measured(url, tokens, min(100_000, tokens), turns=7))
    text = tables(results)
    print(text)
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--home", help="keep the filled store here between runs")
    arguments = parser.parse_args()
    main(arguments.tokens, arguments.home)
