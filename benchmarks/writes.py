"""What a bulk write costs, beside the least that PostgreSQL needs for it; one table.

The floor is COPY of the same rows, as bytes that are ready, into the same tables with the same
indexes and triggers, in the quicker of its two forms: text is what psql sends, binary what drivers do.
The layer that ngdata replaces wrote entities by `add_all`: here into a table of its own, with the
same columns and no index but the key.  The server is durable; the store is filled first.

Each turn runs every method once, one after the other, each with its own ids and after a checkpoint,
so that each has the same full pages to write.  The figures are medians: of the time that went by, and
of the processors' time of client and server together, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import io
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB, TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import ngdata
from benchmarks.store import new_database, server
from ngdata._store import copy, experience, fields, graph, tokens
from ngdata._store.index_repair import compare_level

Way = Callable[[], Awaitable[Any]]

_TOKEN: Final = 'coord_x, coord_y, coord_z, token_type, weight, flags, "timestamp"'
_COPIED: Final = {
    "tokens.tokens": _TOKEN,
    "graph.connections": "source_id, target_id, connection_type, weight, bidirectional",
    "experience.experience_events": 'event_type, "timestamp", token_id, reward, action,'
    " sequence_number",
}
_SUM: Final = "SELECT count(*), sum(hashtextextended(ROW({})::text, 0)) FROM {}"


class Base(DeclarativeBase):
    """The layer's models."""


class LayerToken(Base):
    """A token as the layer had it: coordinates in arrays, a key, and nothing derived."""

    __tablename__ = "layer_tokens"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    binary_data: Mapped[bytes | None]
    coord_x: Mapped[list[float | None]] = mapped_column(ARRAY(DOUBLE_PRECISION))
    coord_y: Mapped[list[float | None]] = mapped_column(ARRAY(DOUBLE_PRECISION))
    coord_z: Mapped[list[float | None]] = mapped_column(ARRAY(DOUBLE_PRECISION))
    flags: Mapped[int]
    weight: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    timestamp: Mapped[dt.datetime] = mapped_column(TIMESTAMP(timezone=True))
    token_type: Mapped[str]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSONB(none_as_null=True))


@dataclass
class Measured:
    """The elapsed and processor seconds of each method, by its name."""

    what: str
    rows: int
    seconds: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def medians(self, way: str) -> tuple[float, float]:
        """Return the medians."""
        gone, busy = zip(*self.seconds[way], strict=True)
        return statistics.median(gone), statistics.median(busy)

    @property
    def floor(self) -> tuple[float, float]:
        """Return the times of the faster form of COPY, or of the first method without one."""
        ways = [way for way in self.seconds if way.startswith("COPY")] or [*self.seconds][:1]
        gone, busy = zip(*map(self.medians, ways), strict=True)
        return min(gone), min(busy)

    async def take(self, name: str, way: Way, connection: asyncpg.Connection[Any]) -> None:
        """Run a method once, after a checkpoint."""
        await connection.execute("CHECKPOINT")
        backends = [
            psutil.Process(row[0])
            for row in await connection.fetch(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
                " AND datname = current_database()"
            )
        ]

        def busy() -> float:
            return time.process_time() + sum(sum(one.cpu_times()[:2]) for one in backends)

        before, began = busy(), time.perf_counter()
        await way()
        gone = time.perf_counter() - began
        self.seconds.setdefault(name, []).append((gone, busy() - before))


class Benchmark:
    """A store, and the ways to write to it.

    Parameters
    ----------
    client : ngdata.AsyncClient
    connection : asyncpg.Connection
        Of a superuser, to the same database.
    engine : AsyncEngine
        Of the layer's sessions.
    """

    def __init__(
        self,
        client: ngdata.AsyncClient,
        connection: asyncpg.Connection[Any],
        engine: AsyncEngine | None = None,
    ) -> None:
        self._client = client
        self._connection = connection
        self._engine = engine
        self._random = np.random.default_rng(20)

    async def fill(self, size: int) -> None:
        """Make `size` tokens, a tenth of them on all levels, as many connections and events."""
        some = size // 10
        parts = [self.tokens(size - some, 1), self.tokens(some, 8)]
        self._ids = pd.concat(
            [await self._client.tokens.bulk_create(f, coords=c) for f, c in parts],
            ignore_index=True,
        )
        await self._client.graph.bulk_create(self.connections(size))
        await self._client.experience.bulk_create(self.events(size))
        await self._connection.execute("VACUUM ANALYZE")

    def tokens(self, rows: int, levels: int) -> tuple[pd.DataFrame, np.ndarray]:
        """Make a frame of tokens, and their coordinates."""
        coords = np.full((rows, 8, 3), np.nan)
        coords[:, :levels] = self._random.uniform(0, 1000, (rows, levels, 3))
        frame = pd.DataFrame(
            {
                "token_type": pd.Series(self._random.choice(["a", "b", "c"], rows), dtype="str"),
                "weight": self._random.random(rows),
                "flags": self._random.integers(0, 1 << 16, rows),
                "timestamp": self._times(rows),
            }
        )
        return frame, coords

    def connections(self, rows: int) -> pd.DataFrame:
        """Make a frame of connections between tokens of the store."""
        return pd.DataFrame(
            {
                "source_id": self._of_store(rows),
                "target_id": self._of_store(rows),
                "connection_type": pd.Series(self._random.choice(["a", "b"], rows), dtype="str"),
                "weight": self._random.random(rows),
                "bidirectional": self._random.random(rows) < 0.1,
            }
        )

    def events(self, rows: int) -> pd.DataFrame:
        """Make a frame of events, two hundred to a trajectory."""
        return pd.DataFrame(
            {
                "event_type": pd.Series(self._random.choice(["a", "b"], rows), dtype="str"),
                "timestamp": self._times(rows),
                "token_id": self._of_store(rows),
                "reward": self._random.random(rows),
                "action": [{"move": move} for move in self._random.random(rows).tolist()],
                "trajectory_id": _trajectories(rows),
                "sequence_number": np.arange(rows) % 200,
            }
        )

    def _times(self, rows: int) -> pd.Series[Any]:
        return pd.Series(
            pd.to_datetime(self._random.integers(0, 1 << 40, rows), unit="ms", utc=True)
        )

    def _of_store(self, rows: int) -> Any:
        return self._ids.iloc[self._random.integers(0, len(self._ids), rows)].array

    async def token_ways(self, rows: int, levels: int) -> dict[str, Way]:
        """Return the methods to write the same tokens."""
        frame, coords = self.tokens(rows, levels)

        def identified() -> pa.Table:
            return tokens.check_frame(frame, 0, coords)

        async def ours() -> None:
            await self._client.tokens.bulk_create(frame, coords=coords, progress=False)

        async def by_entities() -> None:
            places = np.where(np.isnan(coords), None, coords)
            entities = [
                LayerToken(
                    coord_x=place[:, 0].tolist(),
                    coord_y=place[:, 1].tolist(),
                    coord_z=place[:, 2].tolist(),
                    **values,
                )
                for place, values in zip(places, frame.to_dict("records"), strict=True)
            ]
            async with AsyncSession(self._engine) as session, session.begin():
                session.add_all(entities)

        return await self._floors("tokens.tokens", identified) | {
            "ngdata": ours,
            "add_all of entities, no spatial index": by_entities,
        }

    async def connection_ways(self, rows: int) -> dict[str, Way]:
        """Return the methods to write the same connections."""
        frame = self.connections(rows)
        return await self._floors(graph.RELATION, lambda: graph.check_frame(frame)) | {
            "ngdata": lambda: self._client.graph.bulk_create(frame, progress=False)
        }

    async def event_ways(self, rows: int) -> dict[str, Way]:
        """Return the methods to write the same events."""
        frame = self.events(rows)

        def anew() -> pd.DataFrame:
            # Trajectories that are there already would be changed, not ids.
            return frame.assign(trajectory_id=_trajectories(rows))

        ours = anew()
        return await self._floors(experience.RELATION, lambda: experience.check_frame(anew())) | {
            "ngdata": lambda: self._client.experience.bulk_create(ours, progress=False)
        }

    async def _floors(self, relation: str, identified: Callable[[], pa.Table]) -> dict[str, Way]:
        """Make the bytes of a COPY in both forms, by the server itself, with ids of their own."""
        ways = {}
        schema_name, _, table = relation.partition(".")
        await self._connection.execute(
            f"CREATE TEMP TABLE staged (LIKE {relation} INCLUDING DEFAULTS INCLUDING IDENTITY)"
        )
        for form in ("csv", "binary"):
            rows = identified()
            await self._connection.execute("TRUNCATE staged")
            await copy.copy_into(
                self._connection, "pg_temp.staged", rows, where="the benchmark", progress=False
            )
            sink = io.BytesIO()
            names = ", ".join(f'"{name}"' for name in rows.column_names)
            await self._connection.copy_from_query(
                f"SELECT {names} FROM staged", output=sink, format=form
            )
            data = memoryview(sink.getvalue())

            async def send(
                data: memoryview = data, form: Any = form, names: Any = rows.column_names
            ) -> None:
                async def parts() -> Any:
                    for start in range(0, len(data), 1 << 20):
                        yield data[start : start + (1 << 20)]

                await self._connection.copy_to_table(
                    table, schema_name=schema_name, columns=names, source=parts(), format=form
                )

            ways[f"COPY, {form}"] = send
        await self._connection.execute("DROP TABLE staged")
        return ways

    async def measure(
        self, what: str, rows: int, turns: int, ways_of: Callable[[], Awaitable[dict[str, Way]]]
    ) -> Measured:
        """Run each method once in every turn, and check that all wrote the same."""
        measured = Measured(what, rows)
        for turn in range(turns):
            ways = await ways_of()
            written = []
            # Not always in one order: the store grows.
            first = turn % len(ways)
            for name in [*ways][first:] + [*ways][:first]:
                await self._connection.execute("TRUNCATE layer_tokens")
                now = await self._connection.fetchval("SELECT clock_timestamp()")
                await measured.take(name, ways[name], self._connection)
                written.append(await self._written(now, entities="entities" in name))
            assert written[0][0] == rows, written
            assert len(set(written)) == 1, written
        measured.seconds = {name: measured.seconds[name] for name in ways}
        return measured

    async def measure_moves(self, rows: int, turns: int) -> Measured:
        """Move tokens by one UPDATE from a table that holds their places already, and by ngdata."""
        measured = Measured("tokens moved, 1 level", rows)
        for turn in range(turns):
            places = pd.DataFrame(self._random.uniform(0, 1000, (rows, 3)), columns=list("xyz"))
            frame = places.assign(token_id=self._ids.sample(rows, random_state=turn).array)
            await self._connection.execute(
                "CREATE TEMP TABLE places (x float8, y float8, z float8, id text)"
            )
            await self._connection.copy_records_to_table(
                "places", records=frame.itertuples(index=False, name=None)
            )
            ways: dict[str, Way] = {
                "UPDATE from a table": lambda: self._connection.execute(
                    "UPDATE tokens.tokens AS t SET coord_x[1] = p.x, coord_y[1] = p.y,"
                    " coord_z[1] = p.z FROM places AS p WHERE t.id = p.id::uuid"
                ),
                # Elsewhere, for the same places would change nothing in the index.
                "ngdata": lambda frame=frame: self._client.tokens.bulk_update(
                    frame.assign(x=frame.x + 1), progress=False
                ),
            }
            for name in list(ways) if turn % 2 else list(ways)[::-1]:
                await measured.take(name, ways[name], self._connection)
            await self._connection.execute("DROP TABLE places")
        measured.seconds = {name: measured.seconds[name] for name in ways}
        return measured

    async def _written(self, since: dt.datetime, *, entities: bool) -> tuple[Any, ...]:
        """Return a checksum of the rows written since a time, without their new ids."""
        if entities:
            return tuple(await self._connection.fetchrow(_SUM.format(_TOKEN, "layer_tokens")))
        for relation, what in _COPIED.items():
            new = f"{relation} WHERE created_at >= $1"
            results = await self._connection.fetchrow(_SUM.format(what, new), since)
            if results[0]:
                return tuple(results)
        return (0, None)

    async def derived(self) -> int:
        """Return the number of errors in the spatial index."""
        return sum([(await compare_level(self._connection, level)).wrong for level in range(8)])


def _trajectories(rows: int) -> Any:
    ids = fields.new_ids(rows // 200 + 1).to_pandas().astype("str")
    return ids.iloc[np.arange(rows) // 200].array


async def measured_initial(url: str, rows: int, turns: int) -> Measured:
    """Compare loads of an empty store, with the spatial indexes there and built afterwards."""
    measured = Measured("tokens into an empty store, 8 levels", rows)
    connection = await asyncpg.connect(url)
    ways = {"ngdata": {}, "ngdata, initial=True": {"initial": True}}
    try:
        async with await ngdata.connect_async(url) as client:
            frame, coords = Benchmark(client, connection).tokens(rows, 8)
            for turn in range(turns):
                for name in list(ways) if turn % 2 else list(ways)[::-1]:
                    await connection.execute("TRUNCATE tokens.tokens CASCADE")
                    await measured.take(
                        name,
                        lambda name=name: client.tokens.bulk_create(
                            frame, coords=coords, progress=False, **ways[name]
                        ),
                        connection,
                    )
                    for level in range(8):
                        results = await compare_level(connection, level)
                        assert (results.points, results.wrong) == (rows, 0), results
    finally:
        await connection.close()
    measured.seconds = {name: measured.seconds[name] for name in ways}
    return measured


async def run(url: str, store: int, rows: int, turns: int) -> list[Measured]:
    """Fill a store, and measure each kind of write."""
    connection = await asyncpg.connect(url)
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url)
    )
    try:
        async with engine.begin() as layer:
            await layer.run_sync(Base.metadata.create_all)
        async with await ngdata.connect_async(url) as client:
            benchmark = Benchmark(client, connection, engine)
            await benchmark.fill(store)
            results = [
                await benchmark.measure(
                    f"tokens, {levels} level{'s' * (levels > 1)}",
                    rows,
                    turns,
                    lambda levels=levels: benchmark.token_ways(rows, levels),
                )
                for levels in (1, 8)
            ]
            results += [
                await benchmark.measure(
                    "connections", rows, turns, lambda: benchmark.connection_ways(rows)
                ),
                await benchmark.measure("events", rows, turns, lambda: benchmark.event_ways(rows)),
                await benchmark.measure_moves(rows, turns),
            ]
            assert await benchmark.derived() == 0
            return results
    finally:
        await connection.close()
        await engine.dispose()


def table(results: list[Measured]) -> str:
    """Return the results as Markdown; floor / this, by both kinds of time."""
    lines = [
        "| what | rows | way | s | rows/s | floor / this | CPU s | floor / this |",
        "|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    for one in results:
        least = one.floor
        for way in one.seconds:
            gone, busy = one.medians(way)
            lines.append(
                f"| {one.what} | {one.rows:,} | {way} | {gone:.2f} | {one.rows / gone:,.0f} "
                f"| {least[0] / gone:.2f} | {busy:.2f} | {least[1] / busy:.2f} |"
            )
    return "\n".join(lines)


def main(store: int = 1_000_000, rows: int = 50_000, initial: int = 200_000, turns: int = 5) -> str:
    """Measure on separate servers, and return the table."""
    with server(durable=True) as addresses:
        url = addresses.database_url
        results = asyncio.run(run(url, store, rows, turns))
        other = new_database(url, "initial")
        results.append(asyncio.run(measured_initial(other, initial, max(1, turns // 2))))
    return table(results)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What bulk writes cost.")
    parser.add_argument("--store", type=int, default=1_000_000, help="rows that are there before")
    parser.add_argument("--rows", type=int, default=50_000, help="rows of a write")
    parser.add_argument("--initial", type=int, default=200_000, help="rows into an empty store")
    parser.add_argument("--turns", type=int, default=5)
    print(main(**vars(parser.parse_args())))
