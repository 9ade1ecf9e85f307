"""The version of a table: renewed by whoever writes it, never seen twice, in nobody's way."""

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
from ngdata._reading.cache.versions import version_of, version_sql
from tests.cache.conftest import eventually, insert, outsider, points, run

LEVELS = [None, "read committed", "repeatable read", "serializable"]
ALL = (
    "tokens.tokens",
    "tokens.spatial_index",
    "graph.connections",
    "experience.experience_events",
    "experience.experience_trajectories",
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

# Each renews the versions of tokens and of the index, whoever sends it, in whichever role.
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
    return version_of(await connection.fetchval(version_sql(relations or ("tokens.tokens",))))


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
def test_every_statement_renews(database_url, kind, isolation, role):
    async def main():
        async with outsider(database_url) as writer, outsider(database_url) as reader:
            await writer.execute(ROW)
            await writer.execute(f"SET session_replication_role = {role}")
            before = [await version(reader, one) for one in ALL[:2]]
            async with writer.transaction(isolation=isolation.replace(" ", "_")):
                await writer.execute(STATEMENTS[kind])
                assert [await version(reader, one) for one in ALL[:2]] == before
                inside = [await version(writer, one) for one in ALL[:2]]
            after = [await version(reader, one) for one in ALL[:2]]
            assert after == inside
            assert all(a != b for a, b in zip(after, before, strict=True))

    run(main())


def test_copy_by_psql_and_by_adbc_renews(database_url):
    async def main():
        async with outsider(database_url) as reader:
            seen = {await version(reader)}
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
            seen.add(await version(reader))
            await asyncio.to_thread(ingest, database_url)
            seen.add(await version(reader, "tokens.tokens"))
            assert len(seen) == 3

    def ingest(url):
        arrays = pa.array([[0.0] * 8], pa.list_(pa.float64()))
        table = pa.table({f"coord_{axis}": arrays for axis in "xyz"})
        with adbc.connect(url) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest("tokens", table, mode="append", db_schema_name="tokens")
            connection.commit()

    run(main())


def test_what_a_statement_sets_off_renews_too(database_url):
    """Deleting a token deletes its connections, and takes itself out of its events."""

    async def main():
        async with await ngdata.connect_async(database_url) as ang, outsider(database_url) as other:
            ids = list(await ang.tokens.bulk_create(points((0, 0, 0), (1, 1, 1))))
            await ang.graph.create_connection(*ids)
            await ang.experience.create_event("seen", token_id=ids[0])
            before = [await version(other, one) for one in ALL[:4]]
            await ang.tokens.delete(ids[0])
            after = [await version(other, one) for one in ALL[:4]]
            assert all(a != b for a, b in zip(after, before, strict=True))

    run(main())


def test_a_write_of_a_partition_renews_the_index(database_url):
    async def main():
        async with outsider(database_url) as owner:
            await owner.execute(ROW)
            seen = [await version(owner, "tokens.spatial_index")]
            for statement in (
                "UPDATE tokens.spatial_index_0 SET weight = 2",
                "DELETE FROM tokens.spatial_index_0",
                "TRUNCATE tokens.spatial_index_0",
                "TRUNCATE tokens.spatial_index_7",
            ):
                await owner.execute(statement)
                seen.append(await version(owner, "tokens.spatial_index"))
            assert len(set(seen)) == len(seen)

    run(main())


def test_a_version_per_table(database_url):
    """Events and connections do not make a region's answer old."""

    async def main():
        async with await ngdata.connect_async(database_url) as ang, outsider(database_url) as other:
            token = await ang.tokens.create({0: (0, 0, 0)})
            before = [await version(other, one) for one in ALL]
            await ang.experience.create_event("seen")
            await ang.graph.create_connection(token, token)
            after = [await version(other, one) for one in ALL]
            changed = [one for one, a, b in zip(ALL, before, after, strict=True) if a != b]
            assert changed == ["graph.connections", "experience.experience_events"]

    run(main())


def test_long_transactions_wait_for_nobody(database_url):
    """Eight writers of one table, each in a transaction that stays open over all their writes."""

    async def main():
        writers = [await asyncpg.connect(database_url) for _ in range(8)]
        try:
            async with outsider(database_url) as observer:
                open_ones = []
                for number, writer in enumerate(writers):
                    level = LEVELS[1 + number % 3].replace(" ", "_")
                    open_ones.append(writer.transaction(isolation=level))
                    await open_ones[-1].start()
                # One that waited for another would do so for ever: that one is yet to write.
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
                    for one in open_ones:
                        await one.commit()
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


def test_a_reader_folds_what_strict_writers_leave(database_url):
    async def main():
        async with await ngdata.connect_async(database_url) as ang, outsider(database_url) as other:
            await other.execute("SET default_transaction_isolation = 'serializable'")
            for _ in range(150):
                await other.execute(insert(1))
            assert await nonces(other, "tokens.spatial_index") > 100
            box = ((-1, -1, -1), (1, 1, 1))
            assert len(await ang.tokens.find_in_region(*box)) == 150
            assert await nonces(other, "tokens.spatial_index") == 8
            assert await nonces(other) == 8
            assert (await ang.tokens.find_in_region(*box)).attrs["ngdata"]["source"] == "memory"

    run(main())


def test_a_plain_writer_folds_what_strict_writers_leave(database_url):
    async def main():
        async with outsider(database_url) as writer:
            await writer.execute("SET default_transaction_isolation = 'repeatable read'")
            for _ in range(100):
                await writer.execute(insert(1))
            assert await nonces(writer) > 100
            await writer.execute("SET default_transaction_isolation = 'read committed'")
            # By chance, one in fifty; that none of these does has a chance of 1e-13.
            for _ in range(1500):
                await writer.execute("DELETE FROM tokens.tokens WHERE false")
            assert await nonces(writer) <= 16

    run(main())


def test_a_reader_that_may_not_write_goes_on_with_many(database_url):
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
                found = await ang.tokens.find_in_region(*box)
                assert (len(found), found.attrs["ngdata"]["source"]) == (70, source)
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
    """A row each for 100,000 writes would be 900 pages.

    Writers at once, on fewer processors, keep each other from reusing what is dead for a moment.
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
    """Connections that write, and what each snapshot that anybody took has seen."""

    def __init__(self, url):
        self.url = url
        self.seen = {}
        self.wrote = 0

    async def __aenter__(self):
        self.all = [await asyncpg.connect(self.url) for _ in range(4)]
        self.reader = await asyncpg.connect(self.url)
        self.depth = [0] * 4
        self.opened = [False] * 4
        return self

    async def __aexit__(self, *_):
        for connection in (*self.all, self.reader):
            await connection.close()

    async def step(self, who, what, level):
        connection = self.all[who]
        if what == "begin" and not self.opened[who]:
            await connection.execute(f"BEGIN ISOLATION LEVEL {level}")
            self.opened[who], self.depth[who] = True, 0
        elif what == "write":
            self.wrote += 1
            await connection.execute(
                "INSERT INTO experience.experience_events (event_type) VALUES ($1)",
                str(self.wrote),
            )
        elif what == "savepoint" and self.opened[who]:
            self.depth[who] += 1
            await connection.execute(f"SAVEPOINT s{self.depth[who]}")
        elif what == "back" and self.depth[who]:
            await connection.execute(f"ROLLBACK TO s{self.depth[who]}")
        elif what == "fail" and self.depth[who]:
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.execute("SELECT 1 / 0")
            await connection.execute(f"ROLLBACK TO s{self.depth[who]}")
        elif what in ("commit", "rollback") and self.opened[who]:
            await connection.execute(what)
            self.opened[who], self.depth[who] = False, 0

    async def look(self, connection):
        """Read data and version by one snapshot; a version seen before must be of the same data."""
        data, nonces = await connection.fetchrow(
            "SELECT (SELECT array_agg(event_type ORDER BY event_type)"
            " FROM experience.experience_events),"
            f" ({version_sql(('experience.experience_events',))})"
        )
        found = frozenset(data or ())
        assert self.seen.setdefault(version_of(nonces), found) == found


@given(steps=_STEPS)
@settings(max_examples=60)
def test_different_data_never_has_the_same_version(database_url, steps):
    async def main():
        async with History(database_url) as history:
            await history.look(history.reader)
            for who, what, level in steps:
                await history.step(who, what, level)
                await history.look(history.reader)
                await history.look(history.all[who])

    run(main())


def test_a_rolled_back_version_never_comes_back(database_url):
    async def main():
        async with outsider(database_url) as writer, outsider(database_url) as reader:
            gone = set()
            for _ in range(50):
                transaction = writer.transaction()
                await transaction.start()
                await writer.execute(insert(1))
                gone.add(await version(writer))
                await transaction.rollback()
                await writer.execute(insert(1))
                assert await version(reader) not in gone
            assert len(gone) == 50

    run(main())


async def _cached(ang, source):
    found = await ang.tokens.find_in_region((-1, -1, -1), (1, 1, 1))
    assert found.attrs["ngdata"]["source"] == source
    return found


@pytest.mark.parametrize(
    ("spoil", "mend"),
    [
        ("DELETE FROM tokens.versions", "DELETE FROM tokens.spatial_index WHERE false"),
        ("TRUNCATE tokens.versions", "DELETE FROM tokens.spatial_index WHERE false"),
        (
            "ALTER TABLE tokens.spatial_index DISABLE TRIGGER renew_version",
            "ALTER TABLE tokens.spatial_index ENABLE ALWAYS TRIGGER renew_version;"
            "DELETE FROM tokens.spatial_index WHERE false",
        ),
        (
            "CREATE SUBSCRIPTION other CONNECTION 'host=/nowhere' PUBLICATION one"
            " WITH (connect = false, enabled = false, slot_name = NONE)",
            "DROP SUBSCRIPTION other",
        ),
    ],
)
def test_where_nothing_can_tell_nothing_is_given_again(database_url, spoil, mend):
    async def main():
        async with await ngdata.connect_async(database_url) as ang, outsider(database_url) as owner:
            await _cached(ang, "database")
            await _cached(ang, "memory")
            try:
                await owner.execute(spoil)

                async def noticed():
                    found = await ang.tokens.find_in_region((-1, -1, -1), (1, 1, 1))
                    return found.attrs["ngdata"]["version"] is None

                await eventually(noticed)
                await owner.execute(insert(1))
                assert len(await _cached_or_not(ang)) == 1
            finally:
                await owner.execute(mend)
                await owner.execute(
                    "INSERT INTO tokens.versions SELECT name FROM unnest($1::text[]) AS name"
                    " WHERE name NOT IN (SELECT relation FROM tokens.versions)",
                    [*ALL, "graph.graph_snapshots", "redis"],
                )

            async def again():
                found = await ang.tokens.find_in_region((-1, -1, -1), (1, 1, 1))
                return found.attrs["ngdata"]["source"] == "memory"

            await eventually(again)

    async def _cached_or_not(ang):
        return await ang.tokens.find_in_region((-1, -1, -1), (1, 1, 1))

    run(main())


def test_the_schema_made_anew_under_an_open_client(migrated_database):
    from ngdata._store import migrate

    with ngdata.connect(migrated_database) as ng:
        ng.tokens.create({0: (0, 0, 0)})
        box = ((-1, -1, -1), (1, 1, 1))
        assert len(ng.tokens.find_in_region(*box)) == 1
        migrate.downgrade(migrated_database, "0005")
        migrate.upgrade(migrated_database)
        assert len(ng.tokens.find_in_region(*box)) == 1
        ng.tokens.create({0: (0, 0, 0)})
        assert len(ng.tokens.find_in_region(*box)) == 2
