"""The version of a table: every write renews it, no two are equal, and it delays no writer."""

import asyncio
import json
import random
import subprocess

import adbc_driver_postgresql.dbapi as adbc
import asyncpg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ngdata
from ngdata._local.binaries import find_psql
from ngdata._reading.cache.versions import seen_by, seen_since, version_since_sql, version_sql
from tests.cache.conftest import insert, outsider, points, run

LEVELS = [None, "read committed", "repeatable read", "serializable"]
ALL = (
    "tokens.tokens",
    "tokens.spatial_index",
    "graph.connections",
    "experience.experience_events",
    "experience.experience_trajectories",
    "tokens.levels",
)
ZEROS = "ARRAY[0,NULL,NULL,NULL,NULL,NULL,NULL,NULL]::float8[]"
TOKEN = "00000000-0000-4000-8000-000000000001"
ROW = (
    f"INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z)"
    f" VALUES ('{TOKEN}', {ZEROS}, {ZEROS}, {ZEROS})"
)
MERGE = (
    f"MERGE INTO tokens.tokens AS t USING (SELECT '{TOKEN}'::uuid AS id) AS s ON t.id = s.id"
    " WHEN MATCHED THEN UPDATE SET weight = 7"
)

# Each renews the versions of tokens and of the index, from every client and in every role.
STATEMENTS = {
    "insert": insert(1),
    "update": "UPDATE tokens.tokens SET weight = weight + 1",
    "upsert": f"{ROW} ON CONFLICT (id) DO UPDATE SET weight = 3",
    "delete": f"DELETE FROM tokens.tokens WHERE id = '{TOKEN}'",
    "truncate": "TRUNCATE tokens.tokens CASCADE",
    "merge": MERGE,
    "in a common table expression": (
        "WITH gone AS (DELETE FROM tokens.tokens RETURNING id) SELECT count(*) FROM gone"
    ),
}


async def version(connection, *relations):
    return seen_by(await connection.fetchval(version_sql(relations or ("tokens.tokens",)))).version


@pytest.mark.parametrize(
    ("kind", "isolation", "role"),
    [
        *(
            (kind, LEVELS[1], role)
            for kind in STATEMENTS
            for role in ("origin", "replica", "local")
        ),
        # A version that was read from the transaction's snapshot would come again.
        *((kind, level, "origin") for kind in ("update", "truncate") for level in LEVELS[2:]),
    ],
)
def test_every_statement_renews_the_version(database_url, kind, isolation, role):
    async def main():
        async with outsider(database_url) as writer, outsider(database_url) as reader:
            await writer.execute(ROW)
            await writer.execute(f"SET session_replication_role = {role}")
            before = [await version(reader, relation) for relation in ALL[:2]]
            async with writer.transaction(isolation=isolation.replace(" ", "_")):
                await writer.execute(STATEMENTS[kind])
                assert [await version(reader, relation) for relation in ALL[:2]] == before
                inside = [await version(writer, relation) for relation in ALL[:2]]
            after = [await version(reader, relation) for relation in ALL[:2]]
            assert after == inside
            assert all(a != b for a, b in zip(after, before, strict=True))

    run(main())


def test_copy_by_psql_and_by_adbc_renews_the_version(database_url):
    async def main():
        async with outsider(database_url) as reader:
            versions = {await version(reader)}
            line = "{0,NULL,NULL,NULL,NULL,NULL,NULL,NULL}"
            copy = "COPY tokens.tokens (coord_x, coord_y, coord_z) FROM STDIN;\n"
            rows = "\t".join([line] * 3) + "\n"
            await asyncio.to_thread(
                subprocess.run,
                [find_psql(), "-X", "-q", "-v", "ON_ERROR_STOP=1", database_url],
                input=copy + rows + "\\.\n",
                text=True,
                check=True,
            )
            versions.add(await version(reader))
            await asyncio.to_thread(ingest, database_url)
            versions.add(await version(reader, "tokens.tokens"))
            assert len(versions) == 3

    def ingest(url):
        arrays = pa.array([[0.0] * 8], pa.list_(pa.float64()))
        table = pa.table({f"coord_{axis}": arrays for axis in "xyz"})
        with adbc.connect(url) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest("tokens", table, mode="append", db_schema_name="tokens")
            connection.commit()

    run(main())


def test_cascades_of_a_statement_renew_the_version(database_url):
    """Deleting a token deletes its connections, and removes it from its events."""

    async def main():
        async with await ngdata.connect_async(database_url) as ang, outsider(database_url) as other:
            ids = list(await ang.tokens.bulk_create(points((0, 0, 0), (1, 1, 1))))
            await ang.graph.create_connection(*ids)
            await ang.experience.create_event("seen", token_id=ids[0])
            before = [await version(other, relation) for relation in ALL[:4]]
            await ang.tokens.delete(ids[0])
            after = [await version(other, relation) for relation in ALL[:4]]
            assert all(a != b for a, b in zip(after, before, strict=True))

    run(main())


def test_a_write_to_a_partition_renews_the_version_of_the_index(database_url):
    async def main():
        async with outsider(database_url) as owner:
            await owner.execute(ROW)
            versions = [await version(owner, "tokens.spatial_index")]
            for statement in (
                "UPDATE tokens.spatial_index_0 SET weight = 2",
                "DELETE FROM tokens.spatial_index_0",
                "TRUNCATE tokens.spatial_index_0",
                "TRUNCATE tokens.spatial_index_7",
            ):
                await owner.execute(statement)
                versions.append(await version(owner, "tokens.spatial_index"))
            assert len(set(versions)) == len(versions)

    run(main())


def test_each_table_has_a_version(database_url):
    """Writing events and connections does not outdate the answer to a region."""

    async def main():
        async with await ngdata.connect_async(database_url) as ang, outsider(database_url) as other:
            token = await ang.tokens.create({0: (0, 0, 0)})
            # Else a writer might do so, and renew the versions of all tables with many nonces.
            await other.execute("SELECT tokens.fold_versions()")
            before = [await version(other, relation) for relation in ALL]
            await ang.experience.create_event("seen")
            await ang.graph.create_connection(token, token)
            after = [await version(other, relation) for relation in ALL]
            changed = [name for name, a, b in zip(ALL, before, after, strict=True) if a != b]
            assert changed == ["graph.connections", "experience.experience_events"]

    run(main())


def test_long_transactions_do_not_wait_for_each_other(database_url):
    """Eight writers of one table, each in a transaction that stays open over all writes."""

    async def main():
        writers = [await asyncpg.connect(database_url) for _ in range(8)]
        try:
            async with outsider(database_url) as observer:
                transactions = []
                for number, writer in enumerate(writers):
                    level = LEVELS[1 + number % 3].replace(" ", "_")
                    transactions.append(writer.transaction(isolation=level))
                    await transactions[-1].start()
                # A writer that waited for another would wait forever: the other has writes to do.
                async with asyncio.timeout(60):
                    for _ in range(5):
                        for writer in writers:
                            await writer.execute(insert(1))
                            assert (
                                await observer.fetchval(
                                    "SELECT count(*) FROM pg_locks WHERE NOT granted"
                                )
                                == 0
                            )
                    for transaction in transactions:
                        await transaction.commit()
                assert await observer.fetchval("SELECT count(*) FROM tokens.tokens") == 40
                assert await nonces(observer) <= 40 + 8
        finally:
            for writer in writers:
                await writer.close()

    run(main())


def test_writers_at_any_level_at_once_never_fail(database_url):
    async def writer(number):
        chance = random.Random(number)
        async with outsider(database_url) as connection:
            for _ in range(25):
                level = chance.choice(LEVELS[1:]).replace(" ", "_")
                async with connection.transaction(isolation=level):
                    for _ in range(chance.randint(1, 3)):
                        await connection.execute(insert(1))

    async def main():
        await asyncio.gather(*map(writer, range(8)))

    run(main())


async def nonces(connection, relation="tokens.tokens"):
    return await connection.fetchval(
        "SELECT count(*) FROM tokens.versions WHERE relation = $1", relation
    )


def test_a_read_in_the_last_ones_snapshot_has_its_version(database_url):
    relations = ("tokens.tokens", "graph.connections")

    async def main():
        async with outsider(database_url) as other:

            async def read(last):
                text = await other.fetchval(version_since_sql(relations, last))
                seen, last = seen_since(text, last)
                assert seen == seen_by(await other.fetchval(version_sql(relations)))
                return text.endswith(" "), last

            is_shorter, last = await read(None)
            assert not is_shorter
            assert await read(last) == (True, last)
            await other.execute(insert(1))
            is_shorter, after = await read(last)
            assert not is_shorter
            assert after.version != last.version
            await other.execute("ALTER TABLE tokens.tokens DISABLE TRIGGER renew_version")
            assert seen_since(await other.fetchval(version_since_sql(relations, after)), after) == (
                (None, None),
                None,
            )
            await other.execute("ALTER TABLE tokens.tokens ENABLE ALWAYS TRIGGER renew_version")

    run(main())


def test_a_reader_folds_the_nonces_of_strict_writers(database_url):
    async def main():
        async with await ngdata.connect_async(database_url) as ang, outsider(database_url) as other:
            await other.execute("SET default_transaction_isolation = 'serializable'")
            for _ in range(150):
                await other.execute(insert(1))
            assert await nonces(other, "tokens.spatial_index") > 100
            box = ((-1, -1, -1), (1, 1, 1))
            # The first read sees how many there are, the second folds them.
            for _ in range(2):
                assert len(await ang.tokens.find_in_region(*box)) == 150
            assert await nonces(other, "tokens.spatial_index") == 8
            assert await nonces(other) == 8
            assert (await ang.tokens.find_in_region(*box)).attrs["ngdata"]["source"] == "memory"

    run(main())


def test_a_plain_writer_folds_the_nonces_of_strict_writers(database_url):
    async def main():
        async with outsider(database_url) as writer:
            await writer.execute("SET default_transaction_isolation = 'repeatable read'")
            for _ in range(100):
                await writer.execute(insert(1))
            assert await nonces(writer) > 100
            await writer.execute("SET default_transaction_isolation = 'read committed'")
            # One write in fifty folds, by chance; the probability that none of these does is 1e-13.
            for _ in range(1500):
                await writer.execute("DELETE FROM tokens.tokens WHERE false")
            assert await nonces(writer) <= 16

    run(main())


def test_a_reader_that_may_not_write_continues_with_many_nonces(database_url):
    async def main():
        async with (
            await ngdata.connect_async(database_url, read_only=True) as ang,
            outsider(database_url) as other,
        ):
            await other.execute("SET default_transaction_isolation = 'serializable'")
            for _ in range(70):
                await other.execute(insert(1))
            box = ((-1, -1, -1), (1, 1, 1))
            for source in ("database", "memory"):
                frame = await ang.tokens.find_in_region(*box)
                assert (len(frame), frame.attrs["ngdata"]["source"]) == (70, source)
            await other.execute(insert(1))
            assert len(await ang.tokens.find_in_region(*box)) == 71

    run(main())


_WRITES = """
CREATE PROCEDURE pg_temp.many(writes int) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. writes LOOP
        DELETE FROM graph.connections WHERE false;
        COMMIT;
    END LOOP;
END
$$
"""


PAGES = "SELECT pg_relation_size('tokens.versions') / current_setting('block_size')::int"


async def write_many(url, sessions, writes):
    async def session():
        async with outsider(url) as connection:
            await connection.execute(_WRITES)
            await connection.execute(f"CALL pg_temp.many({writes // sessions})", timeout=240)

    await asyncio.gather(*(session() for _ in range(sessions)))


@pytest.mark.parametrize(("sessions", "pages"), [(1, 8), (4, 200)])
def test_a_hundred_thousand_writes_leave_a_small_table(database_url, sessions, pages):
    """One row for each of 100,000 writes would be 900 pages.

    Concurrent writers, on fewer processors, delay each other in reusing dead rows.
    """

    async def main():
        async with outsider(database_url) as observer:
            await observer.execute("VACUUM tokens.versions")
            before = await observer.fetchval(PAGES)
            await write_many(database_url, sessions, 100_000)
            assert await nonces(observer, "graph.connections") <= 16
            assert await observer.fetchval(PAGES) <= before + pages
            query = version_sql(("graph.connections", "tokens.tokens"))
            plan = await observer.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}")
            assert json.loads(plan)[0]["Plan"]["Shared Read Blocks"] == 0

    run(main())


# --------------------------------------------------------------- random histories

_STEPS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(
            ["begin", "write", "write", "savepoint", "back", "commit", "rollback", "fail"]
        ),
        st.sampled_from(LEVELS[1:]),
    ),
    min_size=10,
    max_size=60,
)


class History:
    """Connections that write, and the data that each snapshot of any of them saw, by version."""

    def __init__(self, url):
        self.url = url
        self.data_by_version = {}
        self.writes = 0

    async def __aenter__(self):
        self.connections = [await asyncpg.connect(self.url) for _ in range(4)]
        self.reader = await asyncpg.connect(self.url)
        self.depth = [0] * 4
        self.is_open = [False] * 4
        return self

    async def __aexit__(self, *_):
        for connection in (*self.connections, self.reader):
            await connection.close()

    async def step(self, number, action, level):
        connection = self.connections[number]
        if action == "begin" and not self.is_open[number]:
            await connection.execute(f"BEGIN ISOLATION LEVEL {level}")
            self.is_open[number], self.depth[number] = True, 0
        elif action == "write":
            self.writes += 1
            await connection.execute(
                "INSERT INTO experience.experience_events (event_type) VALUES ($1)",
                str(self.writes),
            )
        elif action == "savepoint" and self.is_open[number]:
            self.depth[number] += 1
            await connection.execute(f"SAVEPOINT s{self.depth[number]}")
        elif action == "back" and self.depth[number]:
            await connection.execute(f"ROLLBACK TO s{self.depth[number]}")
        elif action == "fail" and self.depth[number]:
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.execute("SELECT 1 / 0")
            await connection.execute(f"ROLLBACK TO s{self.depth[number]}")
        elif action in ("commit", "rollback") and self.is_open[number]:
            await connection.execute(action)
            self.is_open[number], self.depth[number] = False, 0

    async def check(self, connection):
        """Read data and version in one snapshot; a version seen before must be of the same data."""
        data, text = await connection.fetchrow(
            "SELECT (SELECT array_agg(event_type ORDER BY event_type)"
            " FROM experience.experience_events),"
            f" ({version_sql(('experience.experience_events',))})"
        )
        rows = frozenset(data or ())
        assert self.data_by_version.setdefault(seen_by(text).version, rows) == rows


@given(steps=_STEPS)
@settings(max_examples=60)
def test_different_data_never_has_the_same_version(database_url, steps):
    async def main():
        async with History(database_url) as history:
            await history.check(history.reader)
            for number, action, level in steps:
                await history.step(number, action, level)
                await history.check(history.reader)
                await history.check(history.connections[number])

    run(main())


def test_the_version_of_a_rolled_back_write_is_never_seen_again(database_url):
    async def main():
        async with outsider(database_url) as writer, outsider(database_url) as reader:
            rolled_back = set()
            for _ in range(50):
                transaction = writer.transaction()
                await transaction.start()
                await writer.execute(insert(1))
                rolled_back.add(await version(writer))
                await transaction.rollback()
                await writer.execute(insert(1))
                assert await version(reader) not in rolled_back
            assert len(rolled_back) == 50

    run(main())


async def _read(ang):
    return await ang.tokens.find_in_region((-1, -1, -1), (1, 1, 1))


async def _source(ang):
    return (await _read(ang)).attrs["ngdata"]["source"]


@pytest.mark.parametrize(
    ("spoil", "mend"),
    [
        ("DELETE FROM tokens.versions", "DELETE FROM tokens.spatial_index WHERE false"),
        ("TRUNCATE tokens.versions", "DELETE FROM tokens.spatial_index WHERE false"),
        (
            "CREATE SUBSCRIPTION other CONNECTION 'host=/nowhere' PUBLICATION one"
            " WITH (connect = false, enabled = false, slot_name = NONE)",
            "DROP SUBSCRIPTION other",
        ),
    ],
)
def test_no_cached_answer_is_returned_while_changes_are_not_tracked(database_url, spoil, mend):
    async def main():
        async with await ngdata.connect_async(database_url) as ang, outsider(database_url) as owner:
            assert await _source(ang) == "database"
            assert await _source(ang) == "memory"
            try:
                await owner.execute(spoil)
                assert (await _read(ang)).attrs["ngdata"]["version"] is None
                await owner.execute(insert(1))
                assert len(await _read(ang)) == 1
            finally:
                await owner.execute(mend)
                await owner.execute(
                    "INSERT INTO tokens.versions SELECT name FROM unnest($1::text[]) AS name"
                    " WHERE name NOT IN (SELECT relation FROM tokens.versions)",
                    [*ALL, "graph.graph_snapshots"],
                )
            assert await _source(ang) == "database"
            assert await _source(ang) == "memory"

    run(main())


def test_a_schema_that_is_created_again_under_an_open_client(migrated_database):
    from ngdata._store import migrate

    with ngdata.connect(migrated_database) as ng:
        ng.tokens.create({0: (0, 0, 0)})
        box = ((-1, -1, -1), (1, 1, 1))
        assert len(ng.tokens.find_in_region(*box)) == 1
        migrate.downgrade(migrated_database)
        migrate.upgrade(migrated_database)
        assert len(ng.tokens.find_in_region(*box)) == 0
        ng.tokens.create({0: (0, 0, 0)})
        assert len(ng.tokens.find_in_region(*box)) == 1
