"""Cached answers outlive writes elsewhere, and are never stale: random histories of every kind.

Each answer is compared with an uncached read of the same moment.
"""

import asyncio
import contextlib
import itertools
import random

import asyncpg
import pandas as pd
import pytest

import ngdata
from ngdata import Box, Sphere
from ngdata._client.subgraph import Subgraph
from ngdata._config.settings import load_settings
from ngdata._reading.cache import outliving
from ngdata.admin.reindex import reindex
from ngdata.errors import NGDataError
from tests.cache.conftest import WHOLE, outsider, points, run
from tests.conftest import SCALE

LEVELS = ["read_committed", "repeatable_read", "serializable"]
MOMENT = pd.Timestamp("2026-01-01", tz="UTC")
TOKENS = [f"00000000-0000-4000-8000-{n:012d}" for n in range(40)]
RUNS = [f"00000000-0000-4000-9000-{n:012d}" for n in range(3)]
BOX, SMALL = Box((0, 0, 0), (3, 3, 3)), ((1, 1, 0), (3, 2, 5))
NEAR = Sphere((2, 2, 2), 2.0)


@pytest.fixture(autouse=True)
def small_answers_too(monkeypatch):
    """Bring answers up to date that the database would return as quickly."""
    monkeypatch.setattr(outliving, "is_read_quickly", lambda query, answer: False)


def at(seconds):
    return MOMENT + pd.Timedelta(seconds, "s")


# Whether the rows have an order, and the read.
READS = {
    "region": (False, lambda c: c.tokens.find_in_region(BOX)),
    "small region": (False, lambda c: c.tokens.find_in_region(*SMALL)),
    "whole level": (False, lambda c: c.tokens.find_in_region(*WHOLE)),
    "sphere": (False, lambda c: c.tokens.find_in_region(NEAR)),
    "union": (False, lambda c: c.tokens.find_in_region(NEAR | Box((4, 4, 4), (5, 5, 5)))),
    "complement": (False, lambda c: c.tokens.find_in_region(~NEAR)),
    "two levels": (False, lambda c: c.tokens.find_in_region(BOX & NEAR.on("motor"))),
    "not on another level": (False, lambda c: c.tokens.find_in_region(BOX - NEAR.on("motor"))),
    "only another level": (False, lambda c: c.tokens.find_in_region(NEAR.on("motor"))),
    "motor level": (False, lambda c: c.tokens.find_in_region(BOX, level="motor")),
    "types": (False, lambda c: c.tokens.find_in_region(BOX, token_type="a")),
    "weights": (False, lambda c: c.tokens.find_in_region(BOX, min_weight=0.5)),
    "flags": (False, lambda c: c.tokens.find_in_region(BOX, flags=1)),
    "metadata": (False, lambda c: c.tokens.find_in_region(BOX, where={"n": 1})),
    "columns of metadata": (
        False,
        lambda c: c.tokens.find_in_region(BOX, columns=["token_id", "x", "y", "z", "metadata.n"]),
    ),
    "no ids": (False, lambda c: c.tokens.find_in_region(BOX, columns=["z", "y", "x", "weight"])),
    "no places": (False, lambda c: c.tokens.find_in_region(BOX, columns=["token_id", "weight"])),
    "limit": (True, lambda c: c.tokens.find_in_region(BOX, limit=4)),
    "count": (True, lambda c: c.tokens.count_in_region(BOX)),
    "density": (True, lambda c: c.tokens.density(BOX, bins=3)),
    "flat density": (True, lambda c: c.tokens.density((0, 0, 1), (4, 4, 1), bins=2)),
    "aggregate": (
        True,
        lambda c: c.tokens.aggregate("token_type", within=BOX, n="count", w=("weight", "sum")),
    ),
    "aggregate of all": (True, lambda c: c.tokens.aggregate(None, level=2, n="count")),
    "sample": (True, lambda c: c.tokens.sample(5, within=BOX)),
    "nearest": (True, lambda c: c.tokens.find_nearest((1, 1, 1), 4)),
    "more than there are": (True, lambda c: c.tokens.find_nearest((1, 1, 1), 500, level=2)),
    "nearest of a type": (True, lambda c: c.tokens.find_nearest((5, 5, 5), 3, token_type="b")),
    "nearest without distances": (
        True,
        lambda c: c.tokens.find_nearest((5, 5, 5), 3, columns=["token_id", "x"]),
    ),
    "nearest within": (True, lambda c: c.tokens.find_nearest((1, 1, 1), 9, max_distance=1.5)),
    "radius": (True, lambda c: c.tokens.find_within((3, 3, 3), 1.5)),
    "batch": (True, lambda c: c.tokens.find_nearest_many([(0, 0, 0), (5, 5, 5)], 3)),
    "batch of tokens": (True, lambda c: c.tokens.find_within_many(TOKENS[:2], 1.0)),
    "pairs": (True, lambda c: c.tokens.pairs_within(1.0, within=BOX)),
    "get": (True, lambda c: c.tokens.get(TOKENS[:6], missing="skip")),
    "get or fail": (True, lambda c: c.tokens.get(TOKENS[3:9])),
    "join": (True, lambda c: c.tokens.join({"token_id": TOKENS[:5]}, columns=["x", "weight"])),
    "find": (True, lambda c: c.tokens.find(where={"n": 1}, limit=3)),
    "neighbors": (True, lambda c: c.graph.get_neighbors(TOKENS[:3])),
    "further neighbors": (True, lambda c: c.graph.get_neighbors(TOKENS[0], depth=3)),
    "a few neighbors": (True, lambda c: c.graph.get_neighbors(TOKENS[0], "both", depth=2, limit=3)),
    "near neighbors": (True, lambda c: c.graph.get_neighbors(TOKENS[0], depth=2, within=2.0)),
    "degrees": (True, lambda c: c.graph.get_degree(TOKENS[:4])),
    "all degrees": (True, lambda c: c.graph.get_degree()),
    "connections": (False, lambda c: c.graph.connections(source=TOKENS[:3])),
    "connections into": (False, lambda c: c.graph.connections(target=TOKENS[:3], within=BOX)),
    "path": (True, lambda c: c.graph.shortest_path(TOKENS[0], TOKENS[5])),
    "lengths": (True, lambda c: c.graph.shortest_lengths(TOKENS[0], weighted=True)),
    "subgraph": (True, lambda c: c.graph.subgraph(TOKENS[:2], 2)),
    "subgraph in a region": (True, lambda c: c.graph.subgraph(TOKENS[:9], None, within=BOX)),
    "subgraph of a region": (True, lambda c: c.graph.subgraph(within=BOX)),
    "events": (True, lambda c: c.experience.get_events(at(2), at(5))),
    "events of tokens": (True, lambda c: c.experience.get_events(at(0), token_ids=TOKENS[:3])),
    "events in a region": (True, lambda c: c.experience.get_events(at(1), at(8), within=BOX)),
    "last events": (True, lambda c: c.experience.get_recent_events(3)),
    "events around": (True, lambda c: c.experience.events_around(at(4), before=1, after=1)),
    "rewards": (True, lambda c: c.experience.resample_rewards(1, start=at(3))),
    "counts of events": (True, lambda c: c.experience.count_events(2, end=at(5))),
    "trajectories": (True, lambda c: c.experience.list_trajectories()),
    "trajectory": (True, lambda c: c.experience.get_trajectory(RUNS[0])),
    "activity": (True, lambda c: c.experience.activity_in_region((0, 0, 0), (3, 3, 3))),
}


def rows_of(result, ordered):
    if isinstance(result, Subgraph):
        return [result.tokens, result.connections]
    if not isinstance(result, pd.DataFrame):
        return [pd.DataFrame({"result": [result]})]
    if not ordered and len(result):
        result = result.sort_values(list(result.columns), ignore_index=True)
    return [result]


async def outcome(call):
    try:
        return await call
    except NGDataError as error:
        return f"{type(error).__name__}: {error}"


async def compare(name, client, plain):
    """Compare an answer with an uncached read, and return where it came from."""
    ordered, read = READS[name]
    result, expected = await outcome(read(client)), await outcome(read(plain))
    for one, other in zip(rows_of(result, ordered), rows_of(expected, ordered), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True, obj=name)


def array(values):
    """Write an array of eight coordinates."""
    return "ARRAY[" + ",".join("NULL" if v is None else str(v) for v in values) + "]::float8[]"


class History:
    """Statements by which tokens, connections and events are written at random."""

    def __init__(self, seed):
        self.chance = random.Random(seed)

    def token(self):
        return self.chance.choice(TOKENS)

    def coords(self):
        place = [None] * 8
        axes = [list(place) for _ in range(3)]
        for level in self.chance.choice([(0,), (0, 2), (0, 2), (2,), ()]):
            for axis in axes:
                axis[level] = self.chance.choice([0.0, -0.0, 1, 2, 2.5, 3, 4, 5])
        return ", ".join(map(array, axes))

    def row(self, token=None):
        token = f"'{token or self.token()}'"
        kind, n = self.chance.choice("ab"), self.chance.randrange(3)
        return (
            f"({token}, {self.coords()}, '{kind}', {self.chance.random()}, {n}, '{{\"n\": {n}}}')"
        )

    def _insert(self, rows):
        return (
            "INSERT INTO tokens.tokens"
            " (id, coord_x, coord_y, coord_z, token_type, weight, flags, metadata) VALUES "
            + ", ".join(rows)
        )

    def statement(self):
        chance, token = self.chance, self.token()
        # Often, one that few answers depend on.
        return chance.choice([self._one, self._one, self._some, self._graph, self._events])(token)

    def _one(self, token):
        return self.chance.choice(
            [
                f"UPDATE tokens.tokens SET weight = {self.chance.random()} WHERE id = '{token}'",
                "UPDATE tokens.tokens SET (coord_x, coord_y, coord_z) ="
                f" ({self.coords()}) WHERE id = '{token}'",
                f"UPDATE tokens.tokens SET metadata = '{{\"n\": 1}}' WHERE id = '{token}'",
                f"{self._insert([self.row(token)])} ON CONFLICT (id) DO UPDATE SET"
                " coord_x = excluded.coord_x, coord_y = excluded.coord_y,"
                " coord_z = excluded.coord_z, token_type = excluded.token_type",
                f"{self._insert([self.row(token)])} ON CONFLICT DO NOTHING",
                f"DELETE FROM tokens.tokens WHERE id = '{token}'",
                f"MERGE INTO tokens.tokens AS t USING (SELECT '{token}'::uuid AS id) AS s"
                " ON t.id = s.id WHEN MATCHED AND t.weight > 0.5 THEN DELETE"
                " WHEN MATCHED THEN UPDATE SET weight = 0.9, token_type = 'b'",
                f"UPDATE tokens.tokens SET id = '{self.token()}' WHERE id = '{token}'"
                f" AND NOT EXISTS (SELECT FROM tokens.tokens WHERE id = '{self.token()}')",
            ]
        )

    def _some(self, _):
        rows = [self.row(token) for token in self.chance.sample(TOKENS, 8)]
        return self.chance.choice(
            [
                f"{self._insert(rows)} ON CONFLICT DO NOTHING",
                "UPDATE tokens.tokens SET weight = 1 - weight WHERE coord_x[1] = 2",
                "DELETE FROM tokens.tokens WHERE coord_y[1] = 4 AND token_type = 'a'",
                # More than are logged one by one, in a corner.
                "INSERT INTO tokens.tokens (coord_x, coord_y, coord_z) SELECT a, a, a FROM"
                f" (SELECT {array([9.5, *[None] * 7])}) AS t (a), generate_series(1, 300)",
                "DELETE FROM tokens.tokens WHERE coord_x[1] > 9",
                "WITH gone AS (DELETE FROM tokens.tokens WHERE flags = 1 RETURNING id) UPDATE"
                " tokens.tokens SET flags = 1 WHERE flags = 2 AND id NOT IN (SELECT id FROM gone)",
            ]
        )

    def _graph(self, token):
        other = self.token()
        return self.chance.choice(
            [
                "INSERT INTO graph.connections (source_id, target_id, weight, bidirectional)"
                f" SELECT a.id, b.id, {self.chance.random()}, {self.chance.random() < 0.3}"
                f" FROM tokens.tokens AS a, tokens.tokens AS b"
                f" WHERE a.id = '{token}' AND b.id = '{other}'",
                "INSERT INTO graph.connections (source_id, target_id)"
                " SELECT a.id, b.id FROM tokens.tokens AS a, tokens.tokens AS b"
                f" WHERE a.id = '{token}' AND b.flags = 1",
                f"DELETE FROM graph.connections WHERE source_id = '{token}'",
                f"UPDATE graph.connections SET weight = 2 WHERE target_id = '{token}'",
                f"UPDATE graph.connections SET target_id = source_id WHERE source_id = '{token}'",
            ]
        )

    def _events(self, token):
        time, run = at(self.chance.randrange(10)), self.chance.choice(RUNS)
        of = f"(SELECT id FROM tokens.tokens WHERE id = '{token}')"
        return self.chance.choice(
            [
                "INSERT INTO experience.experience_events"
                " (event_type, timestamp, token_id, reward, trajectory_id)"
                f" VALUES ('e', '{time}', {of}, {self.chance.randrange(5)}, '{run}')",
                f"UPDATE experience.experience_events SET timestamp = '{time}'"
                f" WHERE token_id = '{token}'",
                f"DELETE FROM experience.experience_events WHERE timestamp = '{time}'",
                "UPDATE experience.experience_trajectories SET metadata = '{}'"
                f" WHERE id = '{run}'",
            ]
        )


class Interleaving:
    """Clients that share a Redis or have none, and writers whose transactions stay open."""

    def __init__(self, clients, plain, writers, url, reads, seed):
        self.clients, self.plain, self.writers, self.url = clients, plain, writers, url
        self.reads = reads
        self.history = History(seed)
        self.chance = self.history.chance
        self.open = [None] * len(writers)
        self.is_by_hand = False

    async def write(self):
        number = self.chance.randrange(len(self.writers))
        statement = self.history.statement()
        writer = self.writers[number]
        if self.open[number] is not None and self.chance.random() < 0.3:
            end = self.chance.choice(["ROLLBACK TO here", "RELEASE here"])
            statement = f"SAVEPOINT here; {statement}; {end}"
        try:
            await writer.execute(statement)
        except asyncpg.PostgresError:
            await self.end(number, commit=False)

    async def begin(self):
        number = self.chance.randrange(len(self.writers))
        if self.open[number] is None:
            level = self.chance.choice(LEVELS)
            self.open[number] = self.writers[number].transaction(isolation=level)
            await self.open[number].start()

    async def end(self, number=None, commit=None):
        number = self.chance.randrange(len(self.writers)) if number is None else number
        transaction, self.open[number] = self.open[number], None
        if transaction is not None:
            commit = self.chance.random() < 0.6 if commit is None else commit
            with contextlib.suppress(asyncpg.PostgresError):
                await (transaction.commit() if commit else transaction.rollback())

    async def rare(self):
        """Do what leaves nothing in the log, or everything; no other transaction is open then."""
        for number in range(len(self.writers)):
            await self.end(number)
        owner = self.writers[0]
        kind = self.chance.randrange(6)
        if kind == 0:
            await owner.execute(
                "UPDATE tokens.changes SET logged_at = logged_at - interval '2 hours'"
                f" WHERE random() < {self.chance.choice([0.3, 1])};"
                "UPDATE tokens.changes_edge SET pruned_at = '-infinity';"
                "SELECT tokens.prune_changes()"
            )
        elif kind == 1:
            self.is_by_hand = True
            await owner.execute(
                "UPDATE tokens.spatial_index SET weight = 5 WHERE token_id ="
                f" '{self.history.token()}'"
            )
        elif kind == 2 or self.is_by_hand:
            self.is_by_hand = False
            settings = load_settings(database_url=self.url)
            await asyncio.to_thread(reindex, settings, progress=False)
        elif kind == 3 and self.chance.random() < 0.5:
            await owner.execute("TRUNCATE tokens.tokens CASCADE")
            await fill(owner, self.history)
        elif kind == 4:
            await owner.execute("UPDATE tokens.levels SET unit = 'mm' WHERE level = 0")
        else:
            self.chance.choice(self.clients)._reader.memory.clear()

    async def read(self):
        await compare(self.chance.choice(self.reads), self.chance.choice(self.clients), self.plain)


async def fill(owner, history):
    await owner.execute(
        f"{history._insert([history.row(token) for token in TOKENS])} ON CONFLICT DO NOTHING"
    )
    for _ in range(20):
        await owner.execute(history._graph(history.token()))
        await owner.execute(history._events(history.token()))


# So few that each is read again soon.
GROUPS = {"regions": [*READS][:15], **{f"part {n}": [*READS][n::4] for n in range(4)}}


@pytest.mark.parametrize("seed", range(SCALE))
@pytest.mark.parametrize("group", GROUPS)
def test_random_histories_never_return_a_stale_answer(database_url, server, group, seed):
    async def main():
        async with contextlib.AsyncExitStack() as stack:
            options = [{"redis_url": server.redis_url}, {}]
            clients = [
                await stack.enter_async_context(await ngdata.connect_async(database_url, **more))
                for more in options
            ]
            plain = await stack.enter_async_context(
                await ngdata.connect_async(database_url, cache="off")
            )
            writers = [await stack.enter_async_context(outsider(database_url)) for _ in range(3)]
            for writer in writers:
                await writer.execute("SET lock_timeout = '20ms'")
            work = Interleaving(clients, plain, writers, database_url, GROUPS[group], seed)
            await fill(writers[0], work.history)
            kinds = [work.read] * 12 + [work.write] * 4 + [work.begin, work.end]
            for number in range(160):
                await work.chance.choice(kinds)()
                if number % 40 == 39:
                    await work.rare()
            stats = [client._reader.statistics() for client in clients]
            assert sum(each.outlived for each in stats) > 2, stats
            assert group != "regions" or sum(each.mended for each in stats) > 3, stats

    run(asyncio.wait_for(main(), 240))


# ---------------------------------------------------------------- what each read depends on

# Statements that touch nothing which the reads depend on, and those reads.
FAR = "coord_x[1] = 8, coord_y[1] = 8, coord_z[1] = 8"
ELSEWHERE = {
    f"UPDATE tokens.tokens SET weight = 7 WHERE id = '{TOKENS[39]}'": [
        *("region", "small region", "sphere", "union", "two levels", "metadata", "limit", "count"),
        *("density", "aggregate", "sample", "nearest", "nearest within", "radius", "pairs", "get"),
        *("neighbors", "further neighbors", "degrees", "connections", "path", "lengths"),
        *("subgraph", "events in a region", "subgraph of a region"),
    ],
    f"INSERT INTO experience.experience_events (event_type, timestamp) VALUES ('e', '{at(9)}')": [
        "events",
        "counts of events",
        "events around",
    ],
    f"INSERT INTO graph.connections (source_id, target_id) VALUES ('{TOKENS[39]}', '{TOKENS[39]}')": [
        *("neighbors", "further neighbors", "degrees", "connections", "connections into"),
        *("subgraph", "subgraph of a region"),
    ],
}


def test_answers_outlive_writes_elsewhere(database_url):
    """Else a read might be right only because all of it is read again."""

    async def main():
        async with (
            await ngdata.connect_async(database_url) as client,
            await ngdata.connect_async(database_url, cache="off") as plain,
            outsider(database_url) as owner,
        ):
            places = [*itertools.product(range(4), range(3), range(3)), *[(8, 8, 8)] * 4]
            await client.tokens.bulk_create(
                points(*places, token_id=TOKENS, metadata=[{"n": n % 3} for n in range(40)])
            )
            frame = pd.DataFrame({"source_id": TOKENS[:8], "target_id": TOKENS[1:9]})
            await client.graph.bulk_create(frame)
            await client.experience.create_event("e", at(3), token_id=TOKENS[0])
            for statement, names in ELSEWHERE.items():
                for name in names:
                    await compare(name, client, plain)
                before = client._reader.statistics()
                await owner.execute(statement)
                for name in names:
                    await compare(name, client, plain)
                    stats = client._reader.statistics()
                    assert stats.misses == before.misses, name
                    assert stats.mended == before.mended, name
                assert stats.outlived - before.outlived >= len(names) - 3

    run(main())
