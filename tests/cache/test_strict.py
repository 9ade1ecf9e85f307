"""No answer is ever stale: random steps of writers and readers, in turn and all at once.

Every answer is compared with an uncached read at the same moment.
"""

import asyncio
import contextlib
import itertools
import random
import subprocess

import adbc_driver_postgresql.dbapi as adbc
import asyncpg
import numpy as np
import pandas as pd
import pytest

import ngdata
from ngdata._local.binaries import find_psql
from tests.cache.conftest import WHOLE, outsider, points, run, same
from tests.conftest import SCALE

BOXES = [WHOLE, ((0, 0, 0), (3, 3, 3)), ((1, 0, 0), (2, 3, 3)), ((1, 1, 1), (1, 1, 1))]
LEVELS = ["read_committed", "repeatable_read", "serializable"]


class Interleaving:
    """Two clients that share one Redis, and writers of every kind; they act in turn."""

    def __init__(self, clients, facade, writers, plain, seed):
        self.clients, self.facade, self.writers, self.plain = clients, facade, writers, plain
        self.chance = random.Random(seed)
        self.open = [None] * len(writers)
        self.ids = []
        self.reads = 0
        self.sources = set()

    async def step(self):
        kinds = [self.read] * 6 + [self.write_by_facade, self.write_by_asyncpg] * 2
        kinds += [self.begin, self.end, self.forget]
        await self.chance.choice(kinds)()

    def place(self):
        x, y, z = (float(self.chance.randint(0, 3)) for _ in range(3))
        return x, y, z

    async def write_by_facade(self):
        client = self.facade
        kind = self.chance.randrange(9)
        # An open transaction may hold a lock on the row that this one changes.
        with contextlib.suppress(ngdata.errors.NGDataError):
            if kind == 0 or not self.ids:
                self.ids.append(await client.tokens.create({0: self.place()}))
            elif kind == 1:
                await client.tokens.delete(self.ids.pop(self.chance.randrange(len(self.ids))))
            elif kind == 2:
                token = self.chance.choice(self.ids)
                await client.tokens.update(
                    token, coords={0: self.place()}, weight=self.chance.random()
                )
            elif kind == 3:
                await client.graph.create_connection(
                    self.chance.choice(self.ids), self.chance.choice(self.ids)
                )
            elif kind == 4:
                moved = [self.chance.choice(self.ids)]
                x, y, z = self.place()
                await client.tokens.bulk_update({"token_id": moved, "x": x, "y": y, "z": z})
            elif kind == 5:
                place = self.place()
                await client.tokens.delete(within=(place, place), token_type="default")
            elif kind == 6:
                ends = await client.graph.connections(limit=2, cache="off")
                await client.graph.bulk_update(ends.assign(weight=self.chance.random()))
                await client.graph.update(ends.connection_id, weight=self.chance.random())
                await client.graph.delete(source=ends.source_id[1:])
            elif kind == 7:
                event = await client.experience.create_event("seen", reward=self.chance.random())
                await client.experience.update_event(event, reward=self.chance.random())
            else:
                await client.experience.delete_events(end=pd.Timestamp.now("UTC"))

    async def write_by_asyncpg(self):
        """Write, in a transaction that may stay open over many steps and may be rolled back."""
        number = self.chance.randrange(len(self.writers))
        statement = self.chance.choice(
            [
                "UPDATE tokens.tokens SET weight = weight + 1 WHERE coord_x[1] < 2",
                "INSERT INTO tokens.tokens (coord_x, coord_y, coord_z) SELECT a, a, a"
                " FROM (SELECT ARRAY[1,NULL,NULL,NULL,NULL,NULL,NULL,NULL]::float8[]) AS t (a)",
                "DELETE FROM tokens.tokens WHERE coord_z[1] = 3",
                "INSERT INTO experience.experience_events (event_type) VALUES ('seen')",
                "DELETE FROM graph.connections",
                "SAVEPOINT here; UPDATE tokens.tokens SET weight = 0; ROLLBACK TO here",
            ]
        )
        if self.open[number] is None and statement.startswith("SAVEPOINT"):
            return
        writer = self.writers[number]
        try:
            # Writers may wait for each other's rows; this test is not about that.
            await writer.execute("SET lock_timeout = '20ms'")
            await writer.execute(statement)
        except (
            asyncpg.LockNotAvailableError,
            asyncpg.SerializationError,
            asyncpg.ForeignKeyViolationError,
            asyncpg.DeadlockDetectedError,
        ):
            if self.open[number] is not None:
                await self.open[number].rollback()
                self.open[number] = None

    async def begin(self):
        number = self.chance.randrange(len(self.writers))
        if self.open[number] is None:
            self.open[number] = self.writers[number].transaction(
                isolation=self.chance.choice(LEVELS)
            )
            await self.open[number].start()

    async def end(self):
        number = self.chance.randrange(len(self.writers))
        transaction, self.open[number] = self.open[number], None
        if transaction is not None and self.chance.random() < 0.5:
            with contextlib.suppress(asyncpg.SerializationError):
                await transaction.commit()
        elif transaction is not None:
            await transaction.rollback()

    async def forget(self):
        """Clear the memory of a client, so that it reads from Redis."""
        self.chance.choice(self.clients)._reader.memory.clear()

    async def read(self):
        client = self.chance.choice(self.clients)
        self.reads += 1
        kind = self.chance.randrange(6)
        if kind < 3:
            box = self.chance.choice(BOXES)
            options = {"min_weight": 0.5} if self.chance.random() < 0.3 else {}
            frame = await client.tokens.find_in_region(*box, **options)
            same(frame, await self.plain.tokens.find_in_region(*box, **options))
        elif kind == 3:
            count = await client.tokens.count_in_region(*WHOLE)
            assert count == await self.plain.tokens.count_in_region(*WHOLE), "count_in_region"
            return
        else:
            method, namespace, arguments = self.chance.choice(
                [
                    ("find_nearest", "tokens", ((0, 0, 0), 5)),
                    ("get_degree", "graph", ()),
                    ("connections", "graph", ()),
                    ("get_events", "experience", ()),
                ]
            )
            frame = await getattr(getattr(client, namespace), method)(*arguments)
            plain = await getattr(getattr(self.plain, namespace), method)(*arguments)
            if method == "connections":
                same(frame, plain)
            else:
                pd.testing.assert_frame_equal(frame, plain, check_exact=True)
        self.sources.add(frame.attrs["ngdata"]["source"])


@pytest.mark.usefixtures("patient_redis")
@pytest.mark.parametrize("seed", range(2 * SCALE))
def test_random_interleavings_never_return_a_stale_answer(database_url, server, seed):
    """600 steps for each seed, about half of them reads."""

    async def main():
        async with contextlib.AsyncExitStack() as stack:
            redis_url = server.redis_url
            clients = [
                await stack.enter_async_context(
                    await ngdata.connect_async(database_url, redis_url=redis_url)
                )
                for _ in range(2)
            ]
            plain = await stack.enter_async_context(
                await ngdata.connect_async(database_url, cache="off")
            )
            facade = await stack.enter_async_context(
                await ngdata.connect_async(database_url, statement_timeout=0.1)
            )
            writers = [await stack.enter_async_context(outsider(database_url)) for _ in range(3)]
            await clients[0].tokens.bulk_create(points(*itertools.product(range(3), repeat=3)))
            interleaving = Interleaving(clients, facade, writers, plain, seed)
            for _ in range(600):
                await interleaving.step()
            assert interleaving.reads > 150
            assert interleaving.sources == {"database", "memory", "redis", "region"}

    # A step that waits for a lock of another step would wait forever.
    run(asyncio.wait_for(main(), 120))


def test_writers_of_other_programs_are_seen_at_once(database_url, server):
    """psql and ADBC: a process and a driver with which ngdata does not write."""
    statement = (
        "INSERT INTO tokens.tokens (coord_x, coord_y, coord_z) SELECT a, a, a"
        " FROM (SELECT ARRAY[{0},NULL,NULL,NULL,NULL,NULL,NULL,NULL]::float8[]) AS t (a)"
    )

    def psql(number):
        command = [find_psql(), "-X", "-q", database_url, "-c", statement.format(number)]
        subprocess.run(command, check=True)

    def by_adbc(number):
        with adbc.connect(database_url) as connection, connection.cursor() as cursor:
            cursor.execute(statement.format(number))
            connection.commit()

    with (
        ngdata.connect(database_url, redis_url=server.redis_url) as one,
        ngdata.connect(database_url, redis_url=server.redis_url) as two,
    ):
        for number in range(12):
            (psql if number % 2 else by_adbc)(number)
            for client in (one, two, one):
                assert sorted(client.tokens.find_in_region(*WHOLE).x) == list(range(number + 1))
                assert client.tokens.count_in_region(*WHOLE) == number + 1


@pytest.mark.usefixtures("patient_redis")
def test_readers_see_whole_and_acknowledged_transactions_while_all_write_at_once(
    database_url, server
):
    """Writers move weight within batches of four tokens, in one transaction each.

    A reader must never see part of a transaction, never see a batch go back, and see every
    transaction that was acknowledged before the read.
    """
    batches, seconds = 3, 6.0

    async def writer(client, batch, ids, acknowledged, stop):
        chance = random.Random(batch)
        while not stop.is_set():
            step = acknowledged[batch] + 1
            weights = [step, *(chance.random() for _ in range(2))]
            # Four weights whose sum is zero; the first is the number of steps.
            weights.append(-sum(weights))
            # At the strictest level, writes of others to the same pages can be conflicts.
            with contextlib.suppress(asyncpg.SerializationError):
                async with client.transaction(isolation=chance.choice(LEVELS)):
                    for token, weight in zip(ids, weights, strict=True):
                        await client.execute(
                            "UPDATE tokens.tokens SET weight = $1 WHERE id = $2", weight, token
                        )
                acknowledged[batch] = step
            await asyncio.sleep(chance.random() * 0.02)

    async def reader(client, seed, ids, acknowledged, stop, sources):
        chance = random.Random(seed)
        latest = [0] * batches
        while not stop.is_set():
            batch = chance.randrange(batches)
            before = acknowledged[batch]
            if chance.random() < 0.2:
                client._reader.memory.clear()
            if chance.random() < 0.5:
                frame = await client.tokens.get(ids[batch])
            else:
                box = ((batch,) * 3, (batch,) * 3) if chance.random() < 0.7 else WHOLE
                frame = await client.tokens.find_in_region(*box)
                frame = frame.set_index("token_id").loc[ids[batch]]
            sources[frame.attrs["ngdata"]["source"]] += 1
            weights = frame.weight.to_numpy()
            assert np.isclose(weights.sum(), 0.0), "part of a transaction"
            assert weights[0] >= max(before, latest[batch]), "older than a read or a write before"
            latest[batch] = weights[0]
            await asyncio.sleep(0)

    async def main():
        async with contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    await ngdata.connect_async(database_url, redis_url=server.redis_url)
                )
                for _ in range(2)
            ]
            places = [(n, n, n) for n in range(batches) for _ in range(4)]
            token_ids = list(await clients[0].tokens.bulk_create(points(*places, weight=0.0)))
            ids = [token_ids[n * 4 : n * 4 + 4] for n in range(batches)]
            acknowledged, stop = [0] * batches, asyncio.Event()
            sources = dict.fromkeys(["database", "memory", "redis", "region", "shared read"], 0)
            writers = [await stack.enter_async_context(outsider(database_url)) for _ in ids]
            work = [
                writer(connection, n, ids[n], acknowledged, stop)
                for n, connection in enumerate(writers)
            ]
            work += [reader(clients[n % 2], n, ids, acknowledged, stop, sources) for n in range(6)]
            tasks = [asyncio.create_task(each) for each in work]
            ended, _ = await asyncio.wait(
                tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION
            )
            stop.set()
            await asyncio.gather(*tasks)
            assert not ended
            assert min(acknowledged) > 10
            assert all(sources[tier] for tier in ("database", "memory", "redis"))

    run(main())


def test_a_truncation_for_which_a_reader_waits(database_url):
    """The read locks first: an older snapshot would see the old version and no rows."""

    async def main():
        async with await ngdata.connect_async(database_url) as ang, outsider(database_url) as other:
            for read in (
                lambda: ang.tokens.find_in_region(*WHOLE),
                lambda: ang.tokens.count_in_region(*WHOLE),
                # Reads its version with its rows.
                lambda: ang.tokens.find_nearest((0, 0, 0)),
            ):
                await ang.tokens.create({0: (0, 0, 0)})
                transaction = other.transaction()
                await transaction.start()
                await other.execute("TRUNCATE tokens.tokens CASCADE")
                waiting = asyncio.create_task(read())
                await asyncio.sleep(0.2)
                await transaction.rollback()
                assert _count(await waiting) == _count(await read()) == 1
                transaction = other.transaction()
                await transaction.start()
                await other.execute("TRUNCATE tokens.tokens CASCADE")
                await ang.cache.clear()
                waiting = asyncio.create_task(read())
                await asyncio.sleep(0.2)
                await transaction.commit()
                assert _count(await waiting) == _count(await read()) == 0

    run(main())


def _count(answer):
    return answer if isinstance(answer, int) else len(answer)


def test_a_filter_that_is_an_iterator_or_changed_after_the_read(database_url):
    """The filter of a larger region is compared again when a smaller one is read."""
    with ngdata.connect(database_url) as ng:
        ng.tokens.bulk_create(points((0, 0, 0), (1, 1, 1), token_type=["soma", "axon"]))
        types = ["soma"]
        assert len(ng.tokens.find_in_region(*WHOLE, token_type=types)) == 1
        types.append("axon")
        box = ((0, 0, 0), (1, 1, 1))
        assert len(ng.tokens.find_in_region(*box, token_type=iter(types))) == 2
        assert len(ng.tokens.find_in_region((1, 1, 1), (1, 1, 1), token_type=iter(types))) == 1
        assert len(ng.tokens.find_in_region(*box)) == 2
        assert len(ng.tokens.find_in_region((0, 0, 0), (0, 0, 0), token_type=iter(["axon"]))) == 0
        assert ng.cache.stats().region_hits == 2
