"""What one small operation costs: processor time of client and server, beside the raw driver's.

python -m benchmarks.single --tokens 1000000

Each turn calls every way of every operation a few times, one after the other, each time with
arguments of its own.  The figures are medians over the turns, of the time of one call: of this
process with all its threads, of the server's processes that serve it, and of the clock.  The raw
driver is asyncpg with a prepared statement: for a write in a transaction, for a read with its records
as a frame.  *Triggers off* are those of ngdata's schema; the server's own foreign keys stay.

A recorder is measured by many events, since it writes them in batches: from the first call to the end
of its `flush`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import numpy as np
import pandas as pd

import ngdata
from benchmarks import store
from benchmarks.measure import processor_seconds
from ngdata._query import events, neighbors, regions
from ngdata._query.filters import TokenFilter
from ngdata._query.model import Query
from ngdata._query.places import Place
from ngdata._query.tokens import by_id

__all__ = ["Operation", "Way", "main", "recorded_table", "run", "table"]

RAW: Final = "asyncpg"
OFF: Final = "asyncpg, triggers off"
OURS: Final = "ngdata"
MISS: Final = "ngdata, strict miss"
HIT: Final = "ngdata, strict hit"
UNCACHED: Final = "ngdata, cache off"

_TABLES: Final = ("tokens.tokens", "graph.connections", "experience.experience_events")
_CALLS: Final = 20


@dataclass
class Way:
    """One way to do an operation.

    Attributes
    ----------
    call : callable
        Does it once, with an argument of its own.
    prepare : callable, optional
        Returns that many arguments; its time does not count.
    without_triggers : bool
        Whether the triggers are off meanwhile.
    """

    call: Callable[[Any], object]
    prepare: Callable[[int], list[Any]] = lambda count: [None] * count
    without_triggers: bool = False


@dataclass
class Operation:
    """An operation, the ways to do it, and what they took: seconds of client, server and clock."""

    name: str
    ways: dict[str, Way]
    seconds: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)

    def medians(self, way: str) -> tuple[float, float, float]:
        """Return the milliseconds of one call: of the client's processor, the server's, the clock."""
        client, server, clock = zip(*self.seconds[way], strict=True)
        return (
            statistics.median(client) * 1000,
            statistics.median(server) * 1000,
            statistics.median(clock) * 1000,
        )


class Driver:
    """asyncpg without anything around it, called from code that is not async."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection: asyncpg.Connection[Any] = self._run(asyncpg.connect(url))
        self._statements: dict[str, Any] = {}

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    def execute(self, script: str) -> None:
        """Run statements."""
        self._run(self._connection.execute(script))

    def write(self, statement: str, *arguments: Any) -> None:
        """Run a prepared statement in a transaction of its own."""

        async def write() -> None:
            async with self._connection.transaction():
                await (await self._prepared(statement)).fetch(*arguments)

        self._run(write())

    def frame(self, statement: str) -> pd.DataFrame:
        """Read a frame; the statement is new each time, as its values are part of it."""
        rows: list[Any] = self._run(self._connection.fetch(statement))
        return pd.DataFrame(rows, columns=list(rows[0].keys()) if rows else None)

    async def _prepared(self, statement: str) -> Any:
        if statement not in self._statements:
            self._statements[statement] = await self._connection.prepare(statement)
        return self._statements[statement]

    def rows(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Read rows."""
        return [tuple(row) for row in self._run(self._connection.fetch(statement, *arguments))]

    def backends(self) -> list[int]:
        """Return the processes that serve the connections to this database."""
        rows = self.rows(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend'"
        )
        return [row[0] for row in rows]

    def close(self) -> None:
        """Close the connection and its loop."""
        self._run(self._connection.close())
        self._loop.close()


class Benchmark:
    """The operations, on a filled store.

    Parameters
    ----------
    client : ngdata.Client
    driver : Driver
        To the same database, as the owner of its tables.
    tokens : int
        How many tokens the store has.
    """

    def __init__(self, client: ngdata.Client, driver: Driver, tokens: int) -> None:
        self._client = client
        self._driver = driver
        self._tokens = tokens
        self._random = np.random.default_rng(13)
        # The store's own ids, each used once.
        self._ids = iter(self._random.permutation(store.token_ids(0, tokens)).tolist())

    def operations(self) -> list[Operation]:
        """Return all operations with their ways."""
        return [*self._writes(), *self._reads()]

    def _take(self, count: int) -> list[str]:
        return list(itertools.islice(self._ids, count))

    # --- writes ------------------------------------------------------------------------------------

    def _writes(self) -> Iterator[Operation]:
        tokens, graph, experience = (
            self._client.tokens,
            self._client.graph,
            self._client.experience,
        )
        for levels in (1, 8):
            yield self._write(
                f"create a token, {levels} level{'s' * (levels > 1)}",
                lambda coords: tokens.create(coords),
                "INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z) VALUES ($1, $2, $3, $4)",
                lambda coords: (uuid.uuid4(), *(_column(coords, axis) for axis in range(3))),
                lambda count, levels=levels: [self._coords(levels) for _ in range(count)],
            )
        for levels in (1, 8):
            yield self._write(
                f"move a token, {levels} level{'s' * (levels > 1)}",
                lambda moved: tokens.update(moved[0], coords=moved[1]),
                "UPDATE tokens.tokens SET coord_x = $2, coord_y = $3, coord_z = $4"
                " WHERE id = $1 RETURNING id",
                lambda moved: (moved[0], *(_column(moved[1], axis) for axis in range(3))),
                lambda count, levels=levels: [
                    (token_id, self._coords(levels)) for token_id in self._new_tokens(count, levels)
                ],
            )
        yield self._write(
            "change a token's weight",
            lambda token_id: tokens.update(token_id, weight=0.5),
            "UPDATE tokens.tokens SET weight = 0.5 WHERE id = $1 RETURNING id",
            lambda token_id: (token_id,),
            self._take,
        )
        for levels in (1, 8):
            yield self._write(
                f"delete a token, {levels} level{'s' * (levels > 1)}",
                tokens.delete,
                "DELETE FROM tokens.tokens WHERE id = $1",
                lambda token_id: (token_id,),
                lambda count, levels=levels: self._new_tokens(count, levels),
            )
        yield self._write(
            "create a connection",
            lambda ends: graph.create_connection(*ends),
            "INSERT INTO graph.connections (source_id, target_id) VALUES ($1, $2)",
            tuple,
            lambda count: [self._take(2) for _ in range(count)],
        )
        yield self._write(
            "record an event",
            lambda token_id: experience.create_event(
                "step", token_id=token_id, reward=0.5, action={"move": 1}
            ),
            "INSERT INTO experience.experience_events"
            " (event_type, token_id, reward, action) VALUES ('step', $1, 0.5, '{\"move\": 1}')",
            lambda token_id: (token_id,),
            self._take,
        )
        yield Operation(
            "end a trajectory",
            {
                OURS: Way(
                    experience.end_trajectory,
                    lambda count: [experience.start_trajectory() for _ in range(count)],
                )
            },
        )

    def _write(
        self,
        name: str,
        ours: Callable[[Any], object],
        statement: str,
        parameters: Callable[[Any], tuple[Any, ...]],
        prepare: Callable[[int], list[Any]],
    ) -> Operation:
        def raw(argument: Any) -> None:
            self._driver.write(statement, *parameters(argument))

        return Operation(
            name,
            {
                OFF: Way(raw, prepare, without_triggers=True),
                RAW: Way(raw, prepare),
                OURS: Way(ours, prepare),
            },
        )

    def _coords(self, levels: int) -> np.ndarray:
        coords = np.full((8, 3), np.nan)
        coords[:levels] = self._random.uniform(0, store.side(self._tokens), (levels, 3))
        return coords

    def _new_tokens(self, count: int, levels: int) -> list[str]:
        coords = np.array([self._coords(levels) for _ in range(count)])
        return self._client.tokens.bulk_create({}, coords=coords, progress=False).tolist()

    # --- reads -------------------------------------------------------------------------------------

    def _reads(self) -> Iterator[Operation]:
        tokens = self._client.tokens
        everything = TokenFilter()
        yield self._read(
            "get one",
            lambda token_id, cache: tokens.get([token_id], cache=cache),
            lambda token_id: by_id([token_id], None, False),
            lambda: self._take(1)[0],
        )
        yield self._read(
            "find_nearest, k=10",
            lambda point, cache: tokens.find_nearest(point, k=10, cache=cache),
            lambda point: regions.nearest(point, 10, 0, everything),
            self._point,
        )
        yield self._read(
            "find_in_region, 100 rows",
            lambda corners, cache: tokens.find_in_region(*corners, cache=cache),
            lambda corners: regions.region(Place.of(*corners, 0), everything),
            self._corners,
        )
        yield self._read(
            "count_in_region, 100 rows",
            lambda corners, cache: tokens.count_in_region(*corners, cache=cache),
            lambda corners: regions.count(Place.of(*corners, 0), everything),
            self._corners,
        )
        yield self._read(
            "get_neighbors of one",
            lambda token_id, cache: self._client.graph.get_neighbors([token_id], cache=cache),
            lambda token_id: neighbors.neighbors([token_id], "outgoing"),
            lambda: self._take(1)[0],
        )
        counts = itertools.count()
        yield self._read(
            "get_recent_events",
            lambda count, cache: self._client.experience.get_recent_events(count, cache=cache),
            events.recent,
            # Another question each time, with about as many rows.
            lambda: 10 + next(counts) % (1 + _CALLS),
        )

    def _read(
        self,
        name: str,
        ours: Callable[[Any, Any], object],
        query: Callable[[Any], Query],
        argument: Callable[[], Any],
    ) -> Operation:
        def many(count: int) -> list[Any]:
            self._client.cache.clear()
            return [argument() for _ in range(count)]

        def repeated(count: int) -> list[Any]:
            one = argument()
            ours(one, None)
            return [one] * count

        return Operation(
            name,
            {
                RAW: Way(self._driver.frame, lambda count: [query(one).sql for one in many(count)]),
                UNCACHED: Way(lambda one: ours(one, "off"), many),
                MISS: Way(lambda one: ours(one, None), many),
                HIT: Way(lambda one: ours(one, None), repeated),
            },
        )

    def _point(self) -> tuple[float, ...]:
        return tuple(self._random.uniform(0, store.side(self._tokens), 3).tolist())

    def _corners(self) -> tuple[np.ndarray, np.ndarray]:
        edge = min(100, self._tokens) ** (1 / 3)
        low = self._random.uniform(0, store.side(self._tokens) - edge, 3)
        return low, low + edge

    # --- many single events ------------------------------------------------------------------------

    def recorded(self, events: int) -> Operation:
        """Return the ways to write many events, one call for each of them or one for all."""
        experience = self._client.experience
        token_id = next(self._ids)

        def by_recorder(_: object) -> None:
            with experience.recorder() as record:
                for number in range(events):
                    record("step", token_id=token_id, reward=0.5, action={"move": number})

        def in_bulk(_: object) -> None:
            experience.bulk_create(
                {
                    "event_type": ["step"] * events,
                    "timestamp": [pd.Timestamp.now("UTC")] * events,
                    "token_id": [token_id] * events,
                    "reward": [0.5] * events,
                    "action": [{"move": number} for number in range(events)],
                },
                progress=False,
            )

        return Operation(
            f"{events:,} events", {"bulk_create": Way(in_bulk), "recorder": Way(by_recorder)}
        )

    # --- the measurement ---------------------------------------------------------------------------

    def measure(self, operation: Operation, name: str, calls: int) -> None:
        """Call one way of an operation, first once without measuring it."""
        way = operation.ways[name]
        first, *arguments = way.prepare(1 + calls)
        with self.triggers_off() if way.without_triggers else _nothing():
            way.call(first)
            backends = self._driver.backends()
            server, client, clock = (
                processor_seconds(backends),
                time.process_time(),
                time.perf_counter(),
            )
            for argument in arguments:
                way.call(argument)
            seconds = (
                time.process_time() - client,
                processor_seconds(backends) - server,
                time.perf_counter() - clock,
            )
        client_time, server_time, clock_time = (second / calls for second in seconds)
        operation.seconds.setdefault(name, []).append((client_time, server_time, clock_time))

    @contextmanager
    def triggers_off(self) -> Iterator[None]:
        """Switch the schema's triggers off for the body, and on again as they were."""
        enabled = self._driver.rows(
            "SELECT tgrelid::regclass::text, quote_ident(tgname), tgenabled = 'A' FROM pg_trigger"
            " WHERE NOT tgisinternal AND tgenabled <> 'D' AND tgrelid = ANY ($1::text[]::regclass[])",
            list(_TABLES),
        )
        for relation, trigger, _ in enabled:
            self._driver.execute(f"ALTER TABLE {relation} DISABLE TRIGGER {trigger}")
        try:
            yield
        finally:
            for relation, trigger, is_always in enabled:
                always = "ALWAYS " if is_always else ""
                self._driver.execute(f"ALTER TABLE {relation} ENABLE {always}TRIGGER {trigger}")


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _column(coords: np.ndarray, axis: int) -> list[float | None]:
    return [None if np.isnan(value) else value for value in coords[:, axis].tolist()]


def run(
    addresses: Any, tokens: int, turns: int, calls: int = _CALLS, events: int = 20_000
) -> tuple[list[Operation], Operation]:
    """Measure on a copy of a store that the server has, or gets now: all operations, and many events."""
    with (
        store.copied(store.filled(addresses.database_url, tokens)) as url,
        ngdata.connect(url, redis_url=addresses.redis_url) as client,
    ):
        driver = Driver(url)
        try:
            benchmark = Benchmark(client, driver, tokens)
            operations = benchmark.operations()
            recorded = benchmark.recorded(events)
            for _ in range(turns):
                for operation in operations:
                    for name in operation.ways:
                        benchmark.measure(operation, name, calls)
                for name in recorded.ways:
                    benchmark.measure(recorded, name, 1)
        finally:
            driver.close()
    return operations, recorded


def table(operations: list[Operation]) -> str:
    """Return the results as Markdown, with the client's time beyond asyncpg's, and the triggers' share."""
    lines = [
        "| operation | way | client, ms | beyond asyncpg, ms | server, ms | of triggers off | clock, ms |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for operation in operations:
        medians = {name: operation.medians(name) for name in operation.ways}
        for name, (client, server, clock) in medians.items():
            is_ours = name.startswith(OURS) and RAW in medians
            beyond = f"{client - medians[RAW][0]:.2f}" if is_ours else ""
            ratio = f"{server / medians[OFF][1]:.1f}" if OFF in medians else ""
            lines.append(
                f"| {operation.name} | {name} | {client:.2f} | {beyond} | {server:.2f} | {ratio}"
                f" | {clock:.2f} |"
            )
    return "\n".join(lines)


def recorded_table(recorded: Operation, events: int) -> str:
    """Return the results of many events as Markdown, for each event."""
    lines = [
        "| what | way | client, µs an event | server, µs an event | events/s |",
        "|---|---|---:|---:|---:|",
    ]
    for name in recorded.ways:
        client, server, clock = recorded.medians(name)
        lines.append(
            f"| {recorded.name} | {name} | {1000 * client / events:.1f}"
            f" | {1000 * server / events:.1f} | {1000 * events / clock:,.0f} |"
        )
    return "\n".join(lines)


def main(tokens: int = 1_000_000, home: str | None = None, turns: int = 15) -> str:
    """Measure on separate servers, print the table, and return it."""
    with store.server(home) as addresses:
        operations, recorded = run(addresses, tokens, turns)
    results = f"{table(operations)}\n\n{recorded_table(recorded, 20_000)}"
    print(results)
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--home", help="keep the filled store here between runs")
    parser.add_argument("--turns", type=int, default=15)
    arguments = parser.parse_args()
    main(arguments.tokens, arguments.home, arguments.turns)
