"""Compare a cold read, each cache tier, and handwritten caches; one table.

Run it with numbers of rows, by default 1, 1,000, 8,000 and 100,000.  Each turn measures every way
once, one after the other, as a notebook's cells do: nothing is repeated until it is warm, the round
trip to PostgreSQL neither.  The figures are medians.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import numpy as np
import pandas as pd
import redis.asyncio

import ngdata
from benchmarks.measure import Timings, Way, alternate
from benchmarks.store import server
from ngdata import _local

_ROWS: Final = (1, 1_000, 8_000, 100_000)


@dataclass
class Measured(Timings):
    """The timings of each method, and the number of rows."""

    rows: int = 0


async def ways_of(
    client: ngdata.AsyncClient,
    plain: redis.asyncio.Redis,
    connection: asyncpg.Connection[Any],
    rows: int,
) -> dict[str, Way]:
    """Return the methods to read one region; all but round trip and write return the same frame."""
    box = ((0, 0, 0), (rows - 1, 0, 0))

    async def read(cache: Any = None) -> pd.DataFrame:
        return await client.tokens.find_in_region(*box, cache=cache)

    async def out_of_redis() -> pd.DataFrame:
        client._reader.memory.clear()
        return await read()

    async def unpickled() -> pd.DataFrame:
        frame: pd.DataFrame = pickle.loads(await plain.get(f"pickle:{rows}"))
        return frame

    async def one_entity() -> pd.DataFrame:
        return pd.DataFrame([json.loads(await plain.get("json"))])

    async def write() -> None:
        # Of another table: the answer stays up to date, but that has to be checked.
        await connection.execute(
            "INSERT INTO experience.experience_events (event_type) VALUES ('')"
        )

    frame = await read("off")
    await plain.set(f"pickle:{rows}", pickle.dumps(frame), ex=3600)
    results: dict[str, Way] = {
        "round trip": lambda: connection.fetchval("SELECT 1"),
        "cold": lambda: read("off"),
        "Redis hit": out_of_redis,
        "in-process hit": read,
        "a write of another table": write,
        "in-process hit after it": read,
        "ttl hit": lambda: read("ttl"),
        "pickle in Redis": unpickled,
    }
    if rows == 1:
        await plain.set("json", json.dumps(frame.iloc[0].to_dict(), default=str), ex=3600)
        results["JSON in Redis"] = one_entity
    return results


async def answers_agree(client: ngdata.AsyncClient, ways: dict[str, Way]) -> None:
    """Check that all methods return the same frame, each from the expected source."""
    cold = (await ways["cold"]()).sort_values("token_id", ignore_index=True)
    await client._reader.flush()
    for name, source in {
        "Redis hit": "redis",
        "in-process hit": "memory",
        "ttl hit": "memory",
        "pickle in Redis": "database",
    }.items():
        frame = await ways[name]()
        assert frame.attrs["ngdata"]["source"] == source, (name, frame.attrs)
        pd.testing.assert_frame_equal(frame.sort_values("token_id", ignore_index=True), cold)


async def run(addresses: _local.Addresses, sizes: tuple[int, ...], turns: int) -> list[Measured]:
    """Fill a store, and measure each size."""
    results = []
    connection = await asyncpg.connect(addresses.database_url)
    # Large answers in Redis can take longer than a read may wait for them.
    plain = redis.asyncio.Redis.from_url(addresses.redis_url)
    async with await ngdata.connect_async(
        addresses.database_url, redis_url=addresses.redis_url
    ) as client:
        places = np.arange(max(sizes), dtype=float)
        await client.tokens.bulk_create({"x": places, "y": places * 0, "z": places * 0})
        await connection.execute("ANALYZE")
        try:
            for rows in sizes:
                ways = await ways_of(client, plain, connection, rows)
                await ways["in-process hit"]()
                await answers_agree(client, ways)
                timings = await alternate(ways, max(5, turns // (1 + rows // 10_000)))
                results.append(Measured(timings.seconds, rows))
        finally:
            await connection.close()
            await plain.aclose()
    return results


def table(results: list[Measured]) -> str:
    """Return the results as Markdown: milliseconds, and ratios."""
    lines = [
        "| rows | way | ms | round trips | cold read / this |",
        "|---:|---|---:|---:|---:|",
    ]
    for one in results:
        trip, cold = one.median("round trip"), one.median("cold")
        for way in one.seconds:
            took = one.median(way)
            lines.append(
                f"| {one.rows:,} | {way} | {took:.3f} | {took / trip:.1f} | {cold / took:.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure on separate servers, and print."""
    sizes = tuple(map(int, sys.argv[1:])) or _ROWS
    with server() as addresses:
        print(table(asyncio.run(run(addresses, sizes, turns=200))))


if __name__ == "__main__":
    main()
