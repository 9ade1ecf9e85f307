"""What a write costs the server while a pin is kept, while none is, and without the triggers of pins.

Each write is a prepared statement between BEGIN and COMMIT, and its cost is the processor time of the
session's server process, which other work on the machine disturbs less than a clock.  The ways run in
turns.  The first change of a row since the pin keeps its image; a later one finds it kept.
"""

from __future__ import annotations

import asyncio
import statistics
import uuid
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import asyncpg
import numpy as np

import ngdata
from benchmarks.measure import processor_seconds
from benchmarks.store import side, token_ids

__all__ = ["Row", "measure", "table"]

OFF: Final = "triggers off"
NONE: Final = "no pin kept"
FIRST: Final = "first change"
AGAIN: Final = "later change"

_INSERT: Final = """
INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z)
SELECT id, ARRAY[x] || e, ARRAY[y] || e, ARRAY[z] || e
FROM unnest($1::uuid[], $2::float8[], $3::float8[], $4::float8[]) AS u (id, x, y, z),
    array_fill(NULL::float8, ARRAY[7]) AS e
"""
_MOVE: Final = """
UPDATE tokens.tokens AS t SET coord_x[1] = u.x, coord_y[1] = u.y, coord_z[1] = u.z
FROM unnest($1::uuid[], $2::float8[], $3::float8[], $4::float8[]) AS u (id, x, y, z)
WHERE t.id = u.id
"""
_TABLES: Final = (
    "tokens.tokens",
    "graph.connections",
    "experience.experience_events",
    "experience.experience_trajectories",
)


@dataclass
class _Write:
    """A kind of write.

    Attributes
    ----------
    name : str
    statement : str
    kind : str
        Which rows it changes: of the store on ``one level`` or ``eight levels``, or ``new`` ones.
    rows : int
        How many rows each statement changes.
    later : str or None
        The later change is one of the rows that the write with this name changed first.
    """

    name: str
    statement: str
    kind: str
    rows: int = 1
    later: str | None = None


@dataclass
class Row:
    """A kind of write, and the microseconds of the server for each of its statements, by way."""

    name: str
    costs: dict[str, list[float]] = field(default_factory=dict)

    def median(self, way: str) -> float:
        """Return the microseconds of a statement."""
        return statistics.median(self.costs[way])


def _writes(bulk: int) -> list[_Write]:
    move = "UPDATE tokens.tokens SET coord_x = $2, coord_y = $3, coord_z = $4 WHERE id = $1"
    delete = "DELETE FROM tokens.tokens WHERE id = "
    several = f"{bulk:,} tokens"
    eight = "move a token, eight levels"
    return [
        _Write(
            "insert a token",
            "INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z) VALUES ($1, $2, $3, $4)",
            "new",
            later="delete a token",
        ),
        _Write("move a token", move, "one level", later="move a token"),
        _Write(eight, move, "eight levels", later=eight),
        _Write(
            "change a weight",
            "UPDATE tokens.tokens SET weight = $2 WHERE id = $1",
            "one level",
            later="change a weight",
        ),
        _Write("delete a token", f"{delete}$1", "one level", later="change a weight"),
        _Write(
            "create a connection",
            "INSERT INTO graph.connections (source_id, target_id) VALUES ($1, $2)",
            "one level",
        ),
        _Write(
            "record an event",
            "INSERT INTO experience.experience_events (event_type, token_id) VALUES ('moved', $1)",
            "one level",
        ),
        _Write(f"insert {several}", _INSERT, "new", bulk, f"delete {several}"),
        _Write(f"move {several}", _MOVE, "one level", bulk, f"move {several}"),
        _Write(f"delete {several}", f"{delete}ANY($1)", "one level", bulk, f"move {several}"),
    ]


class _Session:
    """A session that writes to a store, each of whose rows it changes at most once per pin."""

    def __init__(self, connection: asyncpg.Connection[Any], tokens: int) -> None:
        self._connection = connection
        self._random = np.random.default_rng(23)
        self._side = side(tokens)
        self._backend = [connection.get_server_pid()]
        # Every tenth token has eight levels.
        ids = np.array(token_ids(0, tokens), dtype=object)
        has_eight = np.arange(tokens) % 10 == 0
        self._ids = {
            "one level": iter(self._random.permutation(ids[~has_eight]).tolist()),
            "eight levels": iter(self._random.permutation(ids[has_eight]).tolist()),
            "new": iter(lambda: str(uuid.uuid4()), None),
        }

    async def switch(self, change: str) -> None:
        """Switch the triggers of pins on or off."""
        for table in _TABLES:
            for event in ("insert", "update", "delete", "truncate"):
                await self._connection.execute(f"ALTER TABLE {table} {change} TRIGGER keep_{event}")

    def rows_of(self, write: _Write, count: int) -> list[list[str]]:
        """Return the ids for each of some statements."""
        ids = self._ids[write.kind]
        return [list(islice(ids, write.rows)) for _ in range(count)]

    async def costs(self, write: _Write, rows: list[list[str]], warm_up: int) -> list[float]:
        """Return the microseconds of each statement but the first ones, which plan."""
        statement = await self._connection.prepare(write.statement)
        return [await self._cost(statement, write, ids) for ids in rows][warm_up:]

    async def _cost(self, statement: Any, write: _Write, ids: list[str]) -> float:
        arguments = self._arguments(write, ids)
        # The server process has gone to sleep, and its time has been counted.
        await asyncio.sleep(0.0002)
        before = processor_seconds(self._backend)
        await self._connection.execute("BEGIN")
        await statement.fetch(*arguments)
        await self._connection.execute("COMMIT")
        await asyncio.sleep(0.0003)
        return (processor_seconds(self._backend) - before) * 1e6

    def _arguments(self, write: _Write, ids: list[str]) -> list[Any]:
        subject = write.name.partition(" ")[0]
        if subject in ("insert", "move"):
            if write.rows > 1:
                return [ids, *(self._random.random((3, write.rows)) * self._side).tolist()]
            levels = 8 if write.kind == "eight levels" else 1
            places = (self._random.random((3, levels)) * self._side).tolist()
            return [ids[0], *([*place, *[None] * (8 - levels)] for place in places)]
        if subject == "delete":
            return [ids if write.rows > 1 else ids[0]]
        if subject == "change":
            return [ids[0], float(self._random.random())]
        return [ids[0], ids[0]] if subject == "create" else [ids[0]]


async def measure(
    url: str, client: ngdata.AsyncClient, tokens: int, turns: int, calls: int, bulk: int
) -> list[Row]:
    """Measure each write in each way, on a store of which no pin is kept.

    Parameters
    ----------
    url : str
    client : ngdata.AsyncClient
        Of the same store.
    tokens : int
        How many tokens the store had when it was filled.
    turns, calls : int
        How many turns, and how many statements of each kind in each; of bulk a few.
    bulk : int
        How many rows a bulk statement changes.
    """
    writes = _writes(bulk)
    results = {write.name: Row(write.name) for write in writes}
    connection = await asyncpg.connect(url)
    try:
        session = _Session(connection, tokens)

        async def run(way: str, write: _Write, rows: list[list[str]]) -> None:
            warm_up = max(1, len(rows) // 5)
            costs = await session.costs(write, rows, warm_up)
            results[write.name].costs.setdefault(way, []).extend(costs)

        def new_rows(write: _Write) -> list[list[str]]:
            return session.rows_of(write, calls if write.rows == 1 else max(2, calls // 10))

        for _ in range(turns):
            await session.switch("DISABLE")
            for write in writes:
                await run(OFF, write, new_rows(write))
            await session.switch("ENABLE ALWAYS")
            for write in writes:
                await run(NONE, write, new_rows(write))
            pin = await client.pin()
            rows = {write.name: new_rows(write) for write in writes}
            for write in writes:
                await run(FIRST, write, rows[write.name])
            for write in writes:
                if write.later is not None:
                    await run(AGAIN, write, rows[write.later])
            await client.unpin(pin)
    finally:
        await connection.close()
    return list(results.values())


def table(rows: list[Row]) -> str:
    """Return the results as Markdown, each way with its ratio to the one before it."""
    lines = [
        "| write, µs of the server | triggers off | no pin kept | | first change | | later change | |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        off, none, first = (row.median(way) for way in (OFF, NONE, FIRST))
        cells = [
            f"{off:,.0f}",
            f"{none:,.0f}",
            f"{none / off:.2f}",
            f"{first:,.0f}",
            f"{first / none:.2f}",
        ]
        if AGAIN in row.costs:
            again = row.median(AGAIN)
            cells += [f"{again:,.0f}", f"{again / none:.2f}"]
        else:
            cells += ["", ""]
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return "\n".join(lines)
