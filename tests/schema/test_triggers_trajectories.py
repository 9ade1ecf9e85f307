"""A trajectory's times, count and total are those of its events, whichever writer writes them."""

import asyncio
import os
import random
import uuid

import asyncpg
import pytest

A, B, C = (uuid.UUID(int=n) for n in (1, 2, 3))

INSERT = """
INSERT INTO experience.experience_events (event_type, trajectory_id, "timestamp", reward)
VALUES ('step', $1, '2020-01-01Z'::timestamptz + $2::int * interval '1 s', $3)
"""

# Rewards that are sums of halves add up exactly in any order.
STORED = """
SELECT id, start_time, end_time, event_count, total_reward
FROM experience.experience_trajectories ORDER BY id
"""
DERIVED = """
SELECT t.id, min(e."timestamp"), max(e."timestamp"), count(e.id), coalesce(sum(reward), 0)
FROM experience.experience_trajectories AS t
LEFT JOIN experience.experience_events AS e ON e.trajectory_id = t.id GROUP BY t.id ORDER BY t.id
"""


async def rows(connection, sql, *arguments):
    return [tuple(row) for row in await connection.fetch(sql, *arguments)]


async def counts(connection):
    """Return count and total per trajectory, after checking that they match the events."""
    stored = await rows(connection, STORED)
    assert stored == await rows(connection, DERIVED)
    return {row[0]: row[3:] for row in stored}


def connected(url, body, connections=1):
    """Run a coroutine function on a number of connections."""

    async def go():
        opened = [await asyncpg.connect(url) for _ in range(connections)]
        try:
            return await body(*opened)
        finally:
            for connection in opened:
                await connection.close()

    return asyncio.run(go())


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_a_trajectory_is_created_and_updated(database_url, role):
    async def body(c):
        await c.execute(f"SET session_replication_role = {role}")
        await c.execute(INSERT, A, 5, 1.5)
        assert await counts(c) == {A: (1, 1.5)}

        await c.executemany(INSERT, [(A, 9, 2.0), (B, 1, 0.5), (None, 3, 8.0), (A, 2, -1.0)])
        assert await counts(c) == {A: (3, 2.5), B: (1, 0.5)}

        await c.execute("UPDATE experience.experience_events SET reward = reward * 2")
        assert await counts(c) == {A: (3, 5.0), B: (1, 1.0)}

        await c.execute(
            'UPDATE experience.experience_events SET "timestamp" = "timestamp" - interval \'1 day\''
            " WHERE reward = 4"
        )
        assert await counts(c) == {A: (3, 5.0), B: (1, 1.0)}

        # To one that does not exist yet, and to none.
        await c.execute(
            "UPDATE experience.experience_events SET trajectory_id = $1 WHERE reward = 4", C
        )
        assert await counts(c) == {A: (2, 1.0), B: (1, 1.0), C: (1, 4.0)}
        await c.execute(
            "UPDATE experience.experience_events SET trajectory_id = NULL WHERE trajectory_id = $1",
            B,
        )
        assert await counts(c) == {A: (2, 1.0), B: (0, 0.0), C: (1, 4.0)}

        await c.execute("DELETE FROM experience.experience_events WHERE reward = 3")
        assert await counts(c) == {A: (1, -2.0), B: (0, 0.0), C: (1, 4.0)}

        await c.execute("TRUNCATE experience.experience_events")
        assert await counts(c) == {A: (0, 0.0), B: (0, 0.0), C: (0, 0.0)}

        await c.execute(INSERT, A, 7, 0.5)
        assert await counts(c) == {A: (1, 0.5), B: (0, 0.0), C: (0, 0.0)}

    connected(database_url, body)


def test_copy_and_upsert(database_url):
    async def body(c):
        one, two = uuid.uuid4(), uuid.uuid4()
        await c.copy_records_to_table(
            "experience_events",
            schema_name="experience",
            columns=["id", "event_type", "trajectory_id", "reward"],
            records=[(one, "a", A, 1.0), (two, "b", B, 2.0), (uuid.uuid4(), "c", A, 4.0)],
        )
        assert await counts(c) == {A: (2, 5.0), B: (1, 2.0)}

        upsert = (
            "INSERT INTO experience.experience_events (id, event_type, trajectory_id, reward)"
            " SELECT id, 'd', $2, 8 FROM unnest($1::uuid[]) AS s (id) ON CONFLICT"
        )
        await c.execute(
            f"{upsert} (id) DO UPDATE SET trajectory_id = excluded.trajectory_id",
            [one, uuid.uuid4()],
            B,
        )
        assert await counts(c) == {A: (1, 4.0), B: (3, 11.0)}

        # An event that is not written creates no trajectory.
        await c.execute(f"{upsert} DO NOTHING", [one], C)
        assert await counts(c) == {A: (1, 4.0), B: (3, 11.0)}

    connected(database_url, body)


@pytest.mark.parametrize(
    "statement",
    [
        # The triggers of one statement see each other's rows, in either order.
        """
        WITH gone AS (
            DELETE FROM experience.experience_events WHERE reward = 1 RETURNING trajectory_id
        )
        INSERT INTO experience.experience_events (event_type, trajectory_id, reward)
        SELECT 'again', trajectory_id, 16 FROM gone
        """,
        """
        WITH made AS (
            INSERT INTO experience.experience_events (event_type, trajectory_id, reward)
            VALUES ('new', $1, 16) RETURNING trajectory_id
        )
        DELETE FROM experience.experience_events WHERE reward = 1
        """,
        """
        WITH moved AS (
            UPDATE experience.experience_events SET trajectory_id = $1 WHERE reward = 1
            RETURNING trajectory_id
        )
        INSERT INTO experience.experience_events (event_type, trajectory_id, reward)
        SELECT 'new', trajectory_id, 16 FROM moved
        """,
    ],
)
def test_one_statement_that_does_several_things(database_url, statement):
    async def body(c):
        await c.executemany(INSERT, [(A, 1, 1.0), (A, 2, 2.0), (B, 3, 4.0)])
        await c.execute(statement.replace("$1", f"'{A}'::uuid"))
        totals = await counts(c)
        assert sum(total for _, total in totals.values()) in (22.0, 23.0)

        # And with a trajectory that does not exist yet.
        await c.execute("DELETE FROM experience.experience_events")
        await c.executemany(INSERT, [(A, 1, 1.0), (B, 3, 4.0)])
        await c.execute(statement.replace("$1", f"'{C}'::uuid"))
        await counts(c)

    connected(database_url, body)


def test_an_upsert_that_moves_and_creates(database_url):
    async def body(c):
        one = uuid.uuid4()
        await c.execute(
            "INSERT INTO experience.experience_events (id, event_type, trajectory_id, reward)"
            " VALUES ($1, 'a', $2, 1)",
            one,
            A,
        )
        await c.execute(
            "INSERT INTO experience.experience_events AS e (id, event_type, trajectory_id, reward)"
            " VALUES ($1, 'a', $2, 2), (gen_random_uuid(), 'b', $3, 4)"
            " ON CONFLICT (id) DO UPDATE SET trajectory_id = excluded.trajectory_id",
            one,
            B,
            C,
        )
        assert await counts(c) == {A: (0, 0.0), B: (1, 1.0), C: (1, 4.0)}

    connected(database_url, body)


def test_totals_do_not_drift(database_url):
    async def body(c):
        await c.execute(INSERT, A, 1, 0.5)
        await c.execute(INSERT, A, 2, 1e20)
        await c.execute("DELETE FROM experience.experience_events WHERE reward = 1e20")
        assert await counts(c) == {A: (1, 0.5)}

    connected(database_url, body)


def test_events_outlive_their_trajectory_and_their_token(database_url):
    async def body(c):
        token = await c.fetchval(
            "INSERT INTO tokens.tokens (coord_x, coord_y, coord_z)"
            " SELECT a, a, a FROM (SELECT array_fill(1::float8, '{8}') AS a) AS s RETURNING id"
        )
        await c.executemany(INSERT, [(A, 1, 1.0), (A, 2, 1.0), (B, 3, 1.0)])
        await c.execute("UPDATE experience.experience_events SET token_id = $1", token)
        await c.execute("DELETE FROM tokens.tokens")
        assert await counts(c) == {A: (2, 2.0), B: (1, 1.0)}

        await c.execute("DELETE FROM experience.experience_trajectories WHERE id = $1", A)
        assert await counts(c) == {B: (1, 1.0)}
        assert await rows(
            c, "SELECT token_id, trajectory_id FROM experience.experience_events ORDER BY 2"
        ) == [(None, B), (None, None), (None, None)]

    connected(database_url, body)


def test_events_leave_nothing_to_check_at_the_commit(database_url):
    """A pending deferred check would forbid TRUNCATE and ALTER TABLE until the commit."""

    async def body(c):
        async with c.transaction():
            await c.executemany(INSERT, [(A, 1, 1.0), (None, 2, 1.0)])
            await c.execute("UPDATE experience.experience_events SET trajectory_id = $1", B)
            await c.execute("TRUNCATE experience.experience_events")
            await c.execute(INSERT, B, 1, 1.0)
        assert await counts(c) == {A: (0, 0.0), B: (1, 1.0)}

    connected(database_url, body)


def test_a_writer_with_rights_on_events_alone(database_url):
    writer = f"writer_{os.getpid()}"

    async def body(c):
        table = "experience.experience_events"
        await c.execute(
            f"CREATE ROLE {writer}; GRANT USAGE ON SCHEMA experience TO {writer};"
            f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON {table} TO {writer}"
        )
        try:
            await c.execute(f"SET ROLE {writer}")
            await c.executemany(INSERT, [(A, 1, 1.0), (B, 2, 1.0)])
            await c.execute(f"UPDATE {table} SET trajectory_id = $1", C)
            await c.execute(INSERT, B, 2, 4.0)
            await c.execute("RESET ROLE")
            assert await counts(c) == {A: (0, 0.0), B: (1, 4.0), C: (2, 2.0)}
            await c.execute(f"SET ROLE {writer}")
            await c.execute(f"DELETE FROM {table} WHERE reward = 1")
            await c.execute(f"TRUNCATE {table}")
            await c.execute("RESET ROLE")
            assert await counts(c) == {A: (0, 0.0), B: (0, 0.0), C: (0, 0.0)}
        finally:
            await c.execute(f"RESET ROLE; DROP OWNED BY {writer}; DROP ROLE {writer}")

    connected(database_url, body)


def test_writers_of_different_trajectories_do_not_wait(database_url):
    async def body(first, second):
        # A wait for the other's commit would never end: it fails instead.
        await second.execute("SET lock_timeout = '2s'")
        await first.execute(INSERT, C, 1, 1.0)
        async with first.transaction():
            await first.execute(INSERT, A, 1, 1.0)
            await first.execute(INSERT, None, 1, 1.0)
            await second.execute(INSERT, B, 1, 1.0)
            await second.execute(INSERT, C, 2, 1.0)
            await second.execute("UPDATE experience.experience_events SET reward = 4")
            await second.execute(
                "DELETE FROM experience.experience_events WHERE trajectory_id = $1", B
            )
        assert await counts(first) == {A: (1, 1.0), B: (0, 0.0), C: (2, 8.0)}

    connected(database_url, body, connections=2)


async def until_it_waits(watcher, connection):
    """Return once the other connection's statement waits for a lock."""
    pid = connection.get_server_pid()
    while not await watcher.fetchval("SELECT cardinality(pg_blocking_pids($1))", pid):
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("early", ["update", "delete", "insert"])
@pytest.mark.parametrize("late", ["update", "delete", "insert"])
def test_a_writer_that_waited_reads_what_the_other_committed(database_url, early, late):
    statements = {
        "update": "UPDATE experience.experience_events SET reward = 8 WHERE reward = {}",
        "delete": "DELETE FROM experience.experience_events WHERE reward = {}",
        "insert": "INSERT INTO experience.experience_events (event_type, trajectory_id, reward)"
        f" VALUES ('new', '{A}', {{}})",
    }

    async def body(first, second, watcher):
        await first.executemany(INSERT, [(A, 1, 1.0), (A, 2, 2.0), (A, 3, 4.0)])
        transaction = first.transaction()
        await transaction.start()
        await first.execute(statements[early].format(1))
        waiting = asyncio.create_task(second.execute(statements[late].format(2)))
        await until_it_waits(watcher, second)
        await transaction.commit()
        await waiting
        change = {"insert": 1, "update": 0, "delete": -1}
        assert (await counts(first))[A][0] == 3 + change[early] + change[late]

    connected(database_url, body, connections=3)


def test_concurrent_writers_of_the_same_trajectories(database_url):
    trajectories = [uuid.UUID(int=n) for n in range(1, 6)]
    statements = [
        # New and old ones in any order: a batch takes its locks in the order of ids.
        'INSERT INTO experience.experience_events (event_type, trajectory_id, "timestamp", reward)'
        " SELECT 'step', id, '2020-01-01Z'::timestamptz + $3::int * interval '1 s', $2"
        " FROM unnest($1::uuid[]) AS s (id)",
        "UPDATE experience.experience_events SET trajectory_id = ($1::uuid[])[1], reward = $2"
        " WHERE id = (SELECT id FROM experience.experience_events OFFSET $3::int LIMIT 1)",
        "DELETE FROM experience.experience_events WHERE trajectory_id = ($1::uuid[])[1]"
        " AND reward = $2 AND $3::int % 3 = 0",
    ]

    async def write(connection, seed):
        choose = random.Random(seed)
        for _ in range(40):
            await connection.execute(
                choose.choice(statements),
                choose.sample(trajectories, 3),
                choose.randrange(9) / 2,
                choose.randrange(60),
            )

    async def body(*connections):
        await asyncio.gather(*(write(c, seed) for seed, c in enumerate(connections)))
        assert sum(count for count, _ in (await counts(connections[0])).values()) > 0

    connected(database_url, body, connections=6)


def test_a_snapshot_that_is_too_old_is_refused_and_writes_nothing(database_url):
    async def body(first, second):
        await first.execute(INSERT, A, 1, 1.0)
        transaction = first.transaction(isolation="repeatable_read")
        await transaction.start()
        await first.fetch("SELECT FROM experience.experience_events")
        await second.execute(INSERT, A, 2, 1.0)
        with pytest.raises(asyncpg.SerializationError):
            await first.execute(INSERT, A, 3, 1.0)
        await transaction.rollback()
        assert await counts(first) == {A: (2, 2.0)}

    connected(database_url, body, connections=2)
