"""A cached region while the store is written: how long it takes to read, and what the log costs writers.

A writer moves one token after the other, all over a level, at a steady rate.  A reader reads one
region ten times a second, with the cache and, in turns, without.  Then the writer is stopped for a
moment before each read, and both answers must be equal.  The cost of writes is the processor time of
their server process, with the triggers that log and without, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import numpy as np
import pandas as pd

import ngdata
from benchmarks.measure import processor_seconds
from benchmarks.store import box, copied, filled, server, side, token_ids

__all__ = ["Measured", "main", "run", "table"]

_RATE: Final = 200
_READS_PER_SECOND: Final = 10
_REGION: Final = 100_000

# It catches up after it had to wait, so that as many tokens are written per read in any case.
_WRITER: Final = """
CREATE PROCEDURE pg_temp.write(ids uuid[], side float8, rate float8) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := clock_timestamp();
    written bigint := 0;
    token uuid;
BEGIN
    LOOP
        WHILE written < rate * extract(epoch FROM clock_timestamp() - began) LOOP
            -- Not in the condition, where a random number is another one for each row of the table.
            token := ids[1 + floor(random() * cardinality(ids))];
            UPDATE tokens.tokens SET coord_x[1] = random() * side, coord_y[1] = random() * side,
                coord_z[1] = random() * side
            WHERE id = token;
            COMMIT;
            written := written + 1;
        END LOOP;
        PERFORM pg_sleep(0.5 / rate);
    END LOOP;
END
$$
"""

_LOG: Final = """
SELECT tgrelid::regclass::text, tgname::text FROM pg_trigger
WHERE tgname LIKE 'log%' AND NOT tgisinternal AND tgparentid = 0
"""

_WRITES: Final = {
    "create one": (
        "INSERT INTO tokens.tokens (coord_x, coord_y, coord_z) VALUES ($1, $2, $3)",
        60,
    ),
    "move one": (
        "UPDATE tokens.tokens SET coord_x = $1, coord_y = $2, coord_z = $3 WHERE id = $4",
        60,
    ),
    "create 1,000": (
        "INSERT INTO tokens.tokens (coord_x, coord_y, coord_z) SELECT"
        " array_fill(random() * $1, '{1}') || a, array_fill(random() * $1, '{1}') || a,"
        " array_fill(random() * $1, '{1}') || a"
        " FROM generate_series(1, 1000), (SELECT array_fill(NULL::float8, '{7}')) AS r (a)",
        4,
    ),
}


@dataclass
class Measured:
    """Milliseconds of reads, counts of the cache, microseconds of writes, and the size of the log."""

    rows: int
    cold: list[float]
    cached: list[float]
    checked: int
    moves_per_second: float
    stats: Any
    writes: dict[str, tuple[float, float]]
    log_rows: int
    log_bytes: int


@asynccontextmanager
async def writing(url: str, tokens: int) -> AsyncIterator[None]:
    """Move tokens at the rate while the body runs."""
    connection = await asyncpg.connect(url)
    await connection.execute(_WRITER)
    ids = token_ids(0, min(tokens, 10_000))
    task = asyncio.create_task(
        connection.execute(
            "CALL pg_temp.write('{" + ",".join(ids) + f"}}', {side(tokens)}, {_RATE})"
        )
    )
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()


async def read(
    url: str, tokens: int, turns: int
) -> tuple[int, list[float], list[float], int, float, Any]:
    """Read beside the writer, and then check the answers."""
    corners = box(min(_REGION, tokens // 2), tokens)
    cold: list[float] = []
    cached: list[float] = []
    owner = await asyncpg.connect(url)

    async with await ngdata.connect_async(url) as client:

        async def timed(times: list[float], cache: Any = None) -> pd.DataFrame:
            began = time.perf_counter()
            frame = await client.tokens.find_in_region(*corners, cache=cache)
            times.append((time.perf_counter() - began) * 1000)
            return frame

        await timed([])
        count = "SELECT count(*) FROM tokens.changes"
        async with writing(url, tokens):
            before, began = await owner.fetchval(count), time.perf_counter()
            for turn in range(turns):
                await asyncio.sleep(1 / _READS_PER_SECOND)
                if turn % 10 == 9:
                    await timed(cold, "off")
                else:
                    await timed(cached)
            stats = await client.cache.stats()
            moves = await owner.fetchval(count) - before
            rate = moves / (time.perf_counter() - began)
            checked = 0
            for _ in range(max(3, turns // 10)):
                await asyncio.sleep(1 / _READS_PER_SECOND)
                async with owner.transaction():
                    await owner.execute("LOCK TABLE tokens.tokens IN SHARE MODE")
                    frame, fresh = await timed([]), await timed([], "off")
                names = list(frame.columns)
                pd.testing.assert_frame_equal(
                    frame.sort_values(names, ignore_index=True),
                    fresh.sort_values(names, ignore_index=True),
                    check_exact=True,
                )
                checked += 1
    await owner.close()
    return len(frame), cold, cached, checked, rate, stats


async def write(url: str, tokens: int, turns: int) -> dict[str, tuple[float, float]]:
    """Return the median microseconds of each write, without the log and with it."""
    random = np.random.default_rng(0)
    ids = token_ids(0, min(tokens, 10_000))
    connection = await asyncpg.connect(url)
    triggers = [(row[0], row[1]) for row in await connection.fetch(_LOG)]
    backend = [connection.get_server_pid()]
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in _WRITES}

    def arguments(name: str) -> list[Any]:
        if name == "create 1,000":
            return [side(tokens)]
        places = [[float(v), *[None] * 7] for v in random.random(3) * side(tokens)]
        return places if name == "create one" else [*places, str(random.choice(ids))]

    for turn in range(2 * turns):
        state = "ENABLE ALWAYS" if turn % 2 else "DISABLE"
        for place, trigger in triggers:
            await connection.execute(f"ALTER TABLE {place} {state} TRIGGER {trigger}")
        for name, (text, count) in _WRITES.items():
            statement = await connection.prepare(text)
            for number in range(count + 2):
                values = arguments(name)
                # The server process has gone to sleep, and its time has been counted.
                await asyncio.sleep(0.0003)
                before = processor_seconds(backend)
                await statement.fetch(*values)
                await asyncio.sleep(0.0003)
                if number >= 2:  # the first ones plan
                    taken[name][turn % 2].append((processor_seconds(backend) - before) * 1e6)
    await connection.close()
    return {
        name: (statistics.median(without), statistics.median(logged))
        for name, (without, logged) in taken.items()
    }


async def run(url: str, tokens: int, turns: int, write_turns: int) -> Measured:
    """Measure reads and writes on a store that may be changed."""
    rows, cold, cached, checked, rate, stats = await read(url, tokens, turns)
    connection = await asyncpg.connect(url)
    log_rows = await connection.fetchval("SELECT count(*) FROM tokens.changes")
    log_bytes = await connection.fetchval("SELECT pg_total_relation_size('tokens.changes')")
    await connection.close()
    writes = await write(url, tokens, write_turns)
    return Measured(rows, cold, cached, checked, rate, stats, writes, log_rows, log_bytes)


def table(measured: Measured) -> str:
    """Return the results as Markdown."""
    cold, cached = statistics.median(measured.cold), statistics.median(measured.cached)
    late = statistics.quantiles(measured.cached, n=20)[-1]
    stats = measured.stats
    lines = [
        f"| region of {measured.rows:,} rows, {measured.moves_per_second:.0f} moves a second | ms |",
        "|---|---:|",
        f"| read without the cache | {cold:.1f} |",
        f"| read with it, median | {cached:.1f} |",
        f"| of twenty, the second slowest | {late:.1f} |",
        f"| without / with | {cold / cached:.1f} |",
        "",
        f"{stats.mended} answers were mended, {stats.outlived} outlived, {stats.misses} were read as a"
        f" whole, and before {stats.memory_hits} reads nothing was written;"
        f" {stats.rows_read_anew / max(1, stats.mended):.1f} rows were read anew for each that was"
        f" mended. {measured.checked} were compared with uncached reads, and were equal. The log had"
        f" {measured.log_rows:,} rows of {measured.log_bytes / max(1, measured.log_rows):.0f} bytes.",
        "",
        "| write | without the log, µs | with it | with / without |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {without:.0f} | {logged:.0f} | {logged / without:.2f} |"
        for name, (without, logged) in measured.writes.items()
    ]
    return "\n".join(lines)


def main(
    tokens: int = 1_000_000, home: str | None = None, turns: int = 200, write_turns: int = 6
) -> str:
    """Measure on a copy of the store, and return the tables."""
    with server(home) as addresses, copied(filled(addresses.database_url, tokens, 0, 0)) as url:
        return table(asyncio.run(run(url, tokens, turns, write_turns)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A cached region while the store is written.")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--home", help="keep the filled store here between runs")
    parser.add_argument("--turns", type=int, default=200, help="reads beside the writer")
    parser.add_argument("--write-turns", type=int, default=6)
    print(main(**vars(parser.parse_args())))
