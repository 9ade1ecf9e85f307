"""What the versions cost: writers, the table's pages, and the read that decides a hit; one table.

Run it with a number of writes, by default 100,000.  Each is a committed insert of one row into
`graph.connections`, of a loop on the server, so that no round trip hides what the trigger takes; by
several sessions at once, with the trigger and without.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from benchmarks.store import server

_SESSIONS: Final = (1, 4, 8)
_READS: Final = 500

_MANY: Final = """
CREATE PROCEDURE pg_temp.many(writes int) LANGUAGE plpgsql AS $$
DECLARE
    token uuid := (SELECT id FROM tokens.tokens LIMIT 1);
BEGIN
    FOR i IN 1 .. writes LOOP
        INSERT INTO graph.connections (source_id, target_id) VALUES (token, token);
        COMMIT;
    END LOOP;
END
$$
"""

_TOKEN: Final = """
INSERT INTO tokens.tokens (coord_x, coord_y, coord_z)
SELECT p, p, p FROM (SELECT '{0,0,0,0,0,0,0,0}'::float8[] AS p) AS point
"""


@dataclass
class Measured:
    """What one number of sessions gave: microseconds per write, pages, rows, a read in ms."""

    sessions: int
    with_trigger: float
    without_trigger: float
    pages: int
    nonces: int
    read: float


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Open a connection for the length of the body."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def write(url: str, sessions: int, writes: int) -> float:
    """Write from several sessions at once; microseconds per write."""

    async def session() -> None:
        async with opened(url) as connection:
            await connection.execute(_MANY)
            await connection.execute(f"CALL pg_temp.many({writes // sessions})")

    began = time.perf_counter()
    await asyncio.gather(*(session() for _ in range(sessions)))
    return (time.perf_counter() - began) / writes * 1e6


async def read(connection: asyncpg.Connection[Any]) -> float:
    """Read a version as a strict hit does after a write; the median in milliseconds."""
    statement = await connection.prepare(
        "SELECT tokens.current_version('{tokens.tokens,graph.connections}')"
    )
    times = []
    for _ in range(_READS):
        began = time.perf_counter()
        await statement.fetchval()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


async def run(url: str, writes: int) -> list[Measured]:
    """Measure each number of sessions on a table that is small again."""
    results = []
    async with opened(url) as connection:
        await connection.execute(_TOKEN)
        for sessions in _SESSIONS:
            await connection.execute("TRUNCATE graph.connections")
            await connection.execute("VACUUM FULL tokens.versions")
            with_trigger = await write(url, sessions, writes)
            read_took = await read(connection)
            pages = await connection.fetchval(
                "SELECT pg_relation_size('tokens.versions') / current_setting('block_size')::int"
            )
            nonces = await connection.fetchval("SELECT count(*) FROM tokens.versions")
            await connection.execute("ALTER TABLE graph.connections DISABLE TRIGGER renew_version")
            without = await write(url, sessions, writes)
            await connection.execute(
                "ALTER TABLE graph.connections ENABLE ALWAYS TRIGGER renew_version"
            )
            results.append(Measured(sessions, with_trigger, without, pages, nonces, read_took))
    return results


def table(results: list[Measured]) -> str:
    """Return the results as Markdown."""
    lines = [
        "| sessions | µs per write | without the trigger | pages after | rows after | read, ms |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {one.sessions} | {one.with_trigger:.0f} | {one.without_trigger:.0f} | {one.pages} "
        f"| {one.nonces} | {one.read:.3f} |"
        for one in results
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure on servers of its own, and print."""
    writes = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with server() as addresses:
        print(table(asyncio.run(run(addresses.database_url, writes))))


if __name__ == "__main__":
    main()
