"""What the index of metadata costs a bulk write: `python -m benchmarks.metadata_index` prints a table.

The same rows are copied into a store with the index and without it, in turns and in transactions
that are rolled back.  The cost is the processor time of the session's server process, which other
work on the machine disturbs less than a clock.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from typing import Any, Final

import asyncpg
import numpy as np

from benchmarks.measure import processor_seconds
from benchmarks.store import new_database, server

_COLUMNS: Final = ("coord_x", "coord_y", "coord_z", "metadata")
_WITHOUT: Final = "DROP INDEX tokens.ix_tokens_metadata"


def rows(count: int, seed: int, *, has_metadata: bool) -> list[tuple[Any, ...]]:
    """Return tokens on one level, with three keys of metadata or with none."""
    points = np.random.default_rng(seed).random((count, 3)) * 1000
    return [
        (
            *([float(value), *[None] * 7] for value in point),
            f'{{"name": "n{number}", "kind": "k{number % 50}", "size": {number}}}'
            if has_metadata
            else None,
        )
        for number, point in enumerate(points)
    ]


async def run(url: str, store: int, count: int, turns: int) -> str:
    """Fill the store, measure, and return the table as Markdown."""
    lines = [
        f"| {count:,} rows | without the index, ms | with it, ms | with / without |",
        "|---|---:|---:|---:|",
    ]
    connection = await asyncpg.connect(url)
    try:
        filling = rows(store, 0, has_metadata=True)
        await connection.copy_records_to_table(
            "tokens", schema_name="tokens", columns=_COLUMNS, records=filling
        )
        await connection.execute("VACUUM ANALYZE tokens.tokens, tokens.spatial_index")
        for name, has_metadata in (("without metadata", False), ("with metadata", True)):
            written = rows(count, 1, has_metadata=has_metadata)
            costs: dict[bool, list[float]] = {True: [], False: []}
            # The first turn plans, and reads pages into memory.
            for turn in range(2 * (turns + 1)):
                # The first of two has no advantage.
                has_index = turn % 4 in (0, 3)
                cost = await _cost(connection, written, has_index=has_index)
                if turn > 1:
                    costs[has_index].append(cost * 1000)
            without, with_index = (statistics.median(costs[has]) for has in (False, True))
            lines.append(
                f"| {name} | {without:.1f} | {with_index:.1f} | {with_index / without:.3f} |"
            )
    finally:
        await connection.close()
    return "\n".join(lines)


async def _cost(
    connection: asyncpg.Connection[Any], written: list[tuple[Any, ...]], *, has_index: bool
) -> float:
    backend = [connection.get_server_pid()]
    transaction = connection.transaction()
    await transaction.start()
    try:
        if not has_index:
            await connection.execute(_WITHOUT)
        before = processor_seconds(backend)
        await connection.copy_records_to_table(
            "tokens", schema_name="tokens", columns=_COLUMNS, records=written
        )
        # The server process has gone to sleep, and its time has been counted.
        await asyncio.sleep(0.001)
        return processor_seconds(backend) - before
    finally:
        await transaction.rollback()


def main(store: int = 100_000, count: int = 5000, turns: int = 20) -> str:
    """Measure on servers of its own."""
    with server(durable=True) as addresses:
        return asyncio.run(run(new_database(addresses.database_url, "index"), store, count, turns))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What the index of metadata costs a bulk write.")
    parser.add_argument("--store", type=int, default=100_000)
    parser.add_argument("--count", type=int, default=5000, help="the rows of each write")
    parser.add_argument("--turns", type=int, default=20)
    print(main(**vars(parser.parse_args())))
