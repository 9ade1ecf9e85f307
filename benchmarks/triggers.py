"""What a single write costs the server, with the triggers and without; one table for each store.

Each write is a prepared statement between BEGIN and COMMIT, and its cost is the processor time of the
session's server process, which other work on the machine disturbs less than a clock.  The ways run in
turns: with all triggers; with those of PostgreSQL's foreign keys only, against which the others are
compared; and by hand, which writes the token's rows of the spatial index as a client would, without
any trigger that derives them: less than that no trigger can cost.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import uuid
from typing import Any, Final

import asyncpg
import numpy as np
import pandas as pd

import ngdata
from benchmarks.measure import processor_seconds
from benchmarks.store import new_database, server, side, token_ids

_PLACE: Final = "coord_x = $2, coord_y = $3, coord_z = $4"
_WRITES: Final = {
    "insert": "INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z) VALUES ($1, $2, $3, $4)",
    "move": f"UPDATE tokens.tokens SET {_PLACE} WHERE id = $1",
    "reweight": "UPDATE tokens.tokens SET weight = $2 WHERE id = $1",
    "delete": "DELETE FROM tokens.tokens WHERE id = $1",
    "connect": "INSERT INTO graph.connections (source_id, target_id) VALUES ($1, $2)",
    "record": "INSERT INTO experience.experience_events (event_type, token_id, trajectory_id)"
    " VALUES ('moved', $1, $2)",
}
_POINT: Final = (
    "ST_MakePoint(($2::float8[])[level + 1], ($3::float8[])[level + 1], ($4::float8[])[level + 1])"
)
_BY_HAND: Final = {
    "insert": f"""
        INSERT INTO tokens.spatial_index
        SELECT $1::uuid, level, {_POINT}, 'default', 1, 0, now()
        FROM generate_series(0, 7) AS level WHERE ($2::float8[])[level + 1] IS NOT NULL
    """,
    "move": f"UPDATE tokens.spatial_index SET geom = {_POINT} WHERE token_id = $1",
    "reweight": "UPDATE tokens.spatial_index SET weight = $2 WHERE token_id = $1",
    "delete": "DELETE FROM tokens.spatial_index WHERE token_id = $1",
}
_TRAJECTORIES: Final = """
INSERT INTO experience.experience_trajectories (id)
SELECT lpad(to_hex(n), 32, '0')::uuid FROM generate_series(0, 999) AS n
"""
_WRITTEN: Final = """
SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p')
    AND relnamespace = ANY (ARRAY['tokens', 'graph', 'experience']::regnamespace[])
"""
_ALWAYS: Final = """
SELECT tgrelid::regclass::text, tgname::text FROM pg_trigger
WHERE tgenabled = 'A' AND NOT tgisinternal
"""


class Store:
    """A session of a store whose tokens have a number of levels, each written once at most."""

    def __init__(self, connection: asyncpg.Connection[Any], tokens: int, levels: int) -> None:
        self._connection = connection
        self._random = random.Random(levels)
        self._side = side(tokens)
        self._levels = levels
        ids = token_ids(0, tokens)
        self._kept, others = ids[: tokens // 2], ids[tokens // 2 :]
        self._random.shuffle(others)
        self._next = iter(others)
        self._backend = [connection.get_server_pid()]

    async def measure(self, turns: int, writes: int) -> dict[str, dict[str, float]]:
        """Return the median microseconds of each write, by hand, without triggers and with them."""
        tables = [row[0] for row in await self._connection.fetch(_WRITTEN)]
        always = await self._connection.fetch(_ALWAYS)
        taken: dict[str, dict[str, list[float]]] = {name: {} for name in _WRITES}
        for turn in range(turns * 3):
            way = ("without", "by hand", "with")[turn % 3]
            change = "ENABLE" if way == "with" else "DISABLE"
            await self._connection.execute(
                "; ".join(f"ALTER TABLE {table} {change} TRIGGER USER" for table in tables)
            )
            if way == "with":
                for table, trigger in always:
                    await self._connection.execute(
                        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}"
                    )
            for name, write in _WRITES.items():
                texts = [
                    write,
                    *([_BY_HAND[name]] if way == "by hand" and name in _BY_HAND else []),
                ]
                statements = [await self._connection.prepare(text) for text in texts]
                # The first ones plan.
                costs = [await self._cost(name, statements) for _ in range(8 + writes)][8:]
                taken[name].setdefault(way, []).extend(costs)
        return {
            name: {way: statistics.median(costs) for way, costs in ways.items()}
            for name, ways in taken.items()
        }

    async def _cost(self, name: str, statements: list[Any]) -> float:
        arguments = self._arguments(name)
        # The server process has gone to sleep, and its time has been counted.
        await asyncio.sleep(0.0002)
        before = processor_seconds(self._backend)
        await self._connection.execute("BEGIN")
        for statement in statements:
            await statement.fetch(*arguments)
        await self._connection.execute("COMMIT")
        await asyncio.sleep(0.0003)
        return (processor_seconds(self._backend) - before) * 1e6

    def _arguments(self, name: str) -> list[Any]:
        match name:
            case "insert":
                return [uuid.uuid4(), *self._coords()]
            case "move":
                return [next(self._next), *self._coords()]
            case "reweight":
                return [next(self._next), self._random.random()]
            case "delete":
                return [next(self._next)]
            case "connect":
                return self._random.sample(self._kept, 2)
        return [self._random.choice(self._kept), uuid.UUID(int=self._random.randrange(1000))]

    def _coords(self) -> list[list[float | None]]:
        defined = [level < self._levels for level in range(8)]
        return [
            [self._random.random() * self._side if one else None for one in defined]
            for _ in range(3)
        ]


async def run(url: str, tokens: int, levels: int, turns: int, writes: int) -> str:
    """Fill the store, measure, and return the table as Markdown."""
    coords = np.random.default_rng(levels).random((tokens, 8, 3)) * side(tokens)
    coords[:, levels:] = np.nan
    async with await ngdata.connect_async(url) as client:
        await client.tokens.bulk_create(
            pd.DataFrame({"token_id": token_ids(0, tokens)}),
            coords=coords,
            progress=False,
            initial=True,
        )
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_TRAJECTORIES)
        await connection.execute("VACUUM ANALYZE")
        measured = await Store(connection, tokens, levels).measure(turns, writes)
    finally:
        await connection.close()
    lines = [
        f"| {levels} level{'s' * (levels > 1)} | without, µs | by hand | with | with / without |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, ways in measured.items():
        by_hand = f"{ways['by hand']:.0f}" if name in _BY_HAND else ""
        lines.append(
            f"| {name} | {ways['without']:.0f} | {by_hand} | {ways['with']:.0f}"
            f" | {ways['with'] / ways['without']:.2f} |"
        )
    return "\n".join(lines)


def main(tokens: int = 1_000_000, turns: int = 6, writes: int = 60) -> str:
    """Measure stores of one level and of eight on servers of their own."""
    with server(durable=True) as addresses:
        tables = []
        for levels in (1, 8):
            url = new_database(addresses.database_url, f"levels_{levels}")
            tables.append(asyncio.run(run(url, tokens, levels, turns, writes)))
    return "\n\n".join(tables)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What the triggers of a single write cost.")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--writes", type=int, default=60, help="of each kind in a turn")
    print(main(**vars(parser.parse_args())))
