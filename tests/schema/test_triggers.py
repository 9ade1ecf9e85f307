"""The spatial index is correct after each statement, however it writes tokens.

Correct rows are those that Python derives from `tokens.tokens`, bit for bit.
"""

import asyncio
import itertools
import json
import os
import random
import re
import struct
import subprocess
import uuid

import asyncpg
import pytest

from ngdata._connections import revision
from ngdata._local.binaries import find_postgres, find_psql
from ngdata._store import migrate

PSQL = find_psql()
IDS = [uuid.UUID(int=n) for n in range(1, 9)]
EIGHT = "'{1,2,3,4,5,6,7,8}'"
SOME = "'{1,NULL,3,NULL,5,NULL,7,NULL}'"
NONE = "array_fill(NULL::float8, '{8}')"

# Whole, partly defined, wholly undefined, and signs and magnitudes that are easily lost.
START = f"""
INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z, token_type, weight, flags) VALUES
    ('{IDS[0]}', {EIGHT}, {EIGHT}, {EIGHT}, 'whole', 1, 1),
    ('{IDS[1]}', {SOME}, {SOME}, {SOME}, 'partly', 2, 2),
    ('{IDS[2]}', {NONE}, {NONE}, {NONE}, 'nowhere', 3, 3),
    ('{IDS[3]}', '{{0,-0,1e37,-1e37,5e-324,0.1,1e-37,16777217}}', {EIGHT}, {EIGHT}, 'odd', -0.0, 4)
"""


def psql(url, script):
    result = subprocess.run(
        [PSQL, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url],
        input=script,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


def fetch(url, sql):
    async def go():
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch(sql)
        finally:
            await connection.close()

    return asyncio.run(go())


def bits(*numbers):
    return struct.pack(f"<{len(numbers)}d", *numbers)


TOKENS = 'SELECT *, "timestamp" AS time FROM tokens.tokens'
INDEX = """
SELECT ST_X(geom), ST_Y(geom), ST_Z(geom), weight, token_id, level, token_type, flags,
    "timestamp" AS time FROM tokens.spatial_index
"""


def derived(url):
    """Return the rows that the index must hold."""
    return derived_from(fetch(url, TOKENS))


def derived_from(tokens):
    return sorted(
        (str(t["id"]), level, bits(x, y, z, t["weight"]), t["token_type"], t["flags"], t["time"])
        for t in tokens
        for level, (x, y, z) in enumerate(
            zip(t["coord_x"], t["coord_y"], t["coord_z"], strict=True)
        )
        if x is not None
    )


def indexed(url):
    """Return the rows that the index holds."""
    return sorted(map(comparable, fetch(url, INDEX)))


def comparable(r):
    return (str(r["token_id"]), r["level"], bits(*r[:4]), r["token_type"], r["flags"], r["time"])


STATEMENTS = {
    "insert": f"""
        INSERT INTO tokens.tokens (coord_x, coord_y, coord_z, token_type)
        SELECT {SOME}, {EIGHT}::float8[], {SOME}, 'new' WHERE false;
        INSERT INTO tokens.tokens (coord_x, coord_y, coord_z, token_type)
        VALUES ({SOME}, {SOME}, {SOME}, 'new'), ({NONE}, {NONE}, {NONE}, 'new');
    """,
    "insert many": f"""
        INSERT INTO tokens.tokens (coord_x, coord_y, coord_z, weight)
        SELECT {SOME}::float8[], {SOME}, {SOME}, n FROM generate_series(1, 1500) AS n
        UNION ALL SELECT {NONE}, {NONE}, {NONE}, n FROM generate_series(1, 1500) AS n;
    """,
    "delete many and insert them again elsewhere": f"""
        INSERT INTO tokens.tokens (coord_x, coord_y, coord_z, weight)
        SELECT {EIGHT}::float8[], {EIGHT}, {EIGHT}, n FROM generate_series(1, 1500) AS n;
        WITH gone AS (DELETE FROM tokens.tokens RETURNING id)
        INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z, token_type)
        SELECT id, {SOME}, {SOME}, {SOME}, 'again' FROM gone;
    """,
    "move many": f"""
        INSERT INTO tokens.tokens (coord_x, coord_y, coord_z, weight)
        SELECT {EIGHT}::float8[], {EIGHT}, {EIGHT}, n FROM generate_series(1, 1500) AS n;
        UPDATE tokens.tokens SET coord_x = {SOME}, coord_y = {SOME}, coord_z = {SOME}
        WHERE weight > 5;
    """,
    "insert select": """
        INSERT INTO tokens.tokens (coord_x, coord_y, coord_z, "timestamp")
        SELECT c, c, c, '2020-01-01Z'::timestamptz + n * interval '1 second'
        FROM generate_series(1, 500) AS n, LATERAL (SELECT array_fill(sqrt(n), '{8}') AS c) AS s;
    """,
    "copy": f"""
        COPY tokens.tokens (id, coord_x, coord_y, coord_z) FROM stdin;
{IDS[4]}\t{{1,2,3,4,5,6,7,8}}\t{{1,2,3,4,5,6,7,8}}\t{{1,2,3,4,5,6,7,8}}
{IDS[5]}\t{{1,NULL,NULL,NULL,NULL,NULL,NULL,-0}}\t{{1,NULL,NULL,NULL,NULL,NULL,NULL,1}}\t{{1,NULL,NULL,NULL,NULL,NULL,NULL,1}}
\\.
    """,
    "move": f"UPDATE tokens.tokens SET coord_x = {EIGHT}, coord_y = {EIGHT}, coord_z = {EIGHT};",
    "define and undefine": f"""
        UPDATE tokens.tokens SET coord_x = {NONE}, coord_y = {NONE}, coord_z = {NONE}
        WHERE token_type = 'whole';
        UPDATE tokens.tokens SET coord_x = {SOME}, coord_y = {SOME}, coord_z = {SOME}
        WHERE token_type = 'nowhere';
    """,
    "one level": "UPDATE tokens.tokens SET coord_y[3] = 99 WHERE coord_y[3] IS NOT NULL;",
    "the sign of zero": "UPDATE tokens.tokens SET coord_x[1] = '-0' WHERE coord_x[1] = 0;",
    "the sign of a weight": "UPDATE tokens.tokens SET weight = '0' WHERE weight = '-0';",
    "attributes": """
        UPDATE tokens.tokens SET token_type = 'other', weight = 0.1, flags = 77,
            "timestamp" = '2001-02-03 04:05:06.789012Z';
    """,
    "what is not indexed": """
        UPDATE tokens.tokens SET metadata = '{"a": 1}', binary_data = decode(repeat('ab', 64), 'hex');
    """,
    "nothing": "UPDATE tokens.tokens SET weight = weight; DELETE FROM tokens.tokens WHERE false;",
    "another id": "UPDATE tokens.tokens SET id = gen_random_uuid();",
    "ids that move up": f"""
        UPDATE tokens.tokens SET id = '{IDS[6]}' WHERE id = '{IDS[3]}';
        UPDATE tokens.tokens AS t SET id = n.new_id FROM (VALUES
            ('{IDS[6]}'::uuid, '{IDS[7]}'::uuid), ('{IDS[2]}', '{IDS[3]}')
        ) AS n (old_id, new_id) WHERE t.id = n.old_id;
    """,
    "upsert": f"""
        INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z) VALUES
            ('{IDS[0]}', {SOME}, {SOME}, {SOME}), ('{IDS[4]}', {EIGHT}, {EIGHT}, {EIGHT})
        ON CONFLICT (id) DO UPDATE SET coord_x = excluded.coord_x, coord_y = excluded.coord_y,
            coord_z = excluded.coord_z, weight = tokens.weight + 1;
        INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z) VALUES
            ('{IDS[1]}', {EIGHT}, {EIGHT}, {EIGHT}), ('{IDS[5]}', {EIGHT}, {EIGHT}, {EIGHT})
        ON CONFLICT DO NOTHING;
    """,
    "merge": f"""
        MERGE INTO tokens.tokens AS t USING (VALUES
            ('{IDS[0]}'::uuid), ('{IDS[1]}'), ('{IDS[5]}')) AS v (id) ON t.id = v.id
        WHEN MATCHED AND t.token_type = 'whole' THEN DELETE
        WHEN MATCHED THEN UPDATE SET weight = 5
        WHEN NOT MATCHED THEN INSERT (id, coord_x, coord_y, coord_z)
            VALUES (v.id, {EIGHT}, {EIGHT}, {EIGHT});
    """,
    "delete": "DELETE FROM tokens.tokens WHERE token_type <> 'whole';",
    "delete all": "DELETE FROM tokens.tokens;",
    "truncate": "TRUNCATE tokens.tokens CASCADE;",
    "truncate and write": f"BEGIN; TRUNCATE tokens.tokens CASCADE; {START}; COMMIT;",
    "one statement, three kinds": f"""
        WITH gone AS (DELETE FROM tokens.tokens WHERE token_type = 'whole' RETURNING id),
        moved AS (
            UPDATE tokens.tokens SET coord_x[1] = -5 WHERE token_type = 'odd' RETURNING id
        )
        INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z)
        SELECT '{IDS[5]}', {EIGHT}, {EIGHT}, {EIGHT} FROM gone, moved;
    """,
    "deleted and inserted again": f"""
        WITH gone AS (DELETE FROM tokens.tokens WHERE token_type IN ('whole', 'odd') RETURNING id)
        INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z, token_type)
        SELECT id, {SOME}, {SOME}, {SOME}, 'again' FROM gone;
    """,
    # The INSERT ends before the DELETE that feeds it: so do their triggers.
    "inserted again before the deletion ends": """
        WITH gone AS (DELETE FROM tokens.tokens RETURNING id)
        INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z, token_type)
        SELECT id, '{NULL,1,1,NULL,NULL,NULL,NULL,NULL}', '{NULL,1,1,NULL,NULL,NULL,NULL,NULL}',
            '{NULL,1,1,NULL,NULL,NULL,NULL,NULL}', 'again' FROM gone LIMIT 1;
    """,
    "an id released and reused": f"""
        WITH moved AS (UPDATE tokens.tokens SET id = gen_random_uuid() WHERE id = '{IDS[1]}'
            RETURNING weight)
        INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z, weight)
        SELECT '{IDS[1]}', {EIGHT}, {EIGHT}, {EIGHT}, weight + 1 FROM moved LIMIT 1;
    """,
    "savepoints": f"""
        BEGIN;
        UPDATE tokens.tokens SET weight = 10;
        SAVEPOINT here;
        DELETE FROM tokens.tokens;
        INSERT INTO tokens.tokens (coord_x, coord_y, coord_z) VALUES ({EIGHT}, {EIGHT}, {EIGHT});
        ROLLBACK TO here;
        UPDATE tokens.tokens SET flags = 10;
        COMMIT;
    """,
    "rollback": "BEGIN; DELETE FROM tokens.tokens; ROLLBACK;",
    "repeatable read": """
        BEGIN ISOLATION LEVEL REPEATABLE READ;
        UPDATE tokens.tokens SET weight = 10; UPDATE tokens.tokens SET weight = 11;
        COMMIT;
    """,
    "another search_path": """
        SET search_path = ''; UPDATE tokens.tokens SET weight = 12;
    """,
    "a table in the way": """
        CREATE TEMP TABLE spatial_index (token_id uuid);
        CREATE TEMP TABLE new_rows (id uuid);
        UPDATE tokens.tokens SET weight = 13;
    """,
    "prepared for one, run for all": """
        PREPARE heavier (float8) AS UPDATE tokens.tokens SET weight = weight + 1 WHERE weight > $1;
        EXECUTE heavier (100); EXECUTE heavier (2); EXECUTE heavier (-100);
    """,
}

if find_postgres().major < 15:
    del STATEMENTS["merge"]


@pytest.mark.parametrize("role", ["origin", "replica"])
@pytest.mark.parametrize("kind", STATEMENTS)
def test_every_kind_of_statement_in_psql(database_url, kind, role):
    psql(database_url, START)
    assert indexed(database_url) == derived(database_url) != []

    psql(database_url, f"SET session_replication_role = {role};\n{STATEMENTS[kind]}")

    assert indexed(database_url) == derived(database_url)


def test_a_writer_with_rights_on_tokens_alone(database_url):
    writer = f"writer_{os.getpid()}"
    psql(
        database_url,
        f"CREATE ROLE {writer}; GRANT USAGE ON SCHEMA tokens TO {writer};"
        f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON tokens.tokens TO {writer};",
    )
    try:
        psql(
            database_url,
            f"SET ROLE {writer}; {START}; {STATEMENTS['move']} {STATEMENTS['upsert']} {STATEMENTS['another id']}"
            "DELETE FROM tokens.tokens WHERE token_type = 'whole';",
        )
        assert indexed(database_url) == derived(database_url) != []

        for statement in (
            "DELETE FROM tokens.spatial_index",
            "INSERT INTO tokens.spatial_index SELECT * FROM tokens.spatial_index",
            "SELECT tokens.index_truncate()",
        ):
            with pytest.raises(AssertionError, match="permission denied"):
                psql(database_url, f"SET ROLE {writer}; {statement}")
    finally:
        psql(database_url, f"DROP OWNED BY {writer}; DROP ROLE {writer}")


def test_unchanged_rows_are_not_written(database_url):
    psql(database_url, START)
    places = "SELECT tableoid::regclass::text, ctid::text FROM tokens.spatial_index ORDER BY 1, 2"
    before = fetch(database_url, places)

    psql(database_url, STATEMENTS["what is not indexed"] + STATEMENTS["nothing"])

    assert fetch(database_url, places) == before


SHAPES = {
    "all levels": [0.5] * 8,
    "one level": [None, None, -0.0, *[None] * 5],
    "another level": [*[None] * 7, 1e37],
    "two levels": [1.0, None, 0.0, *[None] * 5],
    "no level": [None] * 8,
}
# From one shape to another: $1 ids, $2 and $3 coordinates.
CHANGES = {
    "update": "UPDATE tokens.tokens SET coord_x = $2, coord_y = $2, coord_z = $3 WHERE id = ANY ($1)",
    "update also the id": """
        UPDATE tokens.tokens SET id = md5(id::text)::uuid, coord_x = $2, coord_y = $2, coord_z = $3
        WHERE id = ANY ($1)
    """,
    "upsert": """
        INSERT INTO tokens.tokens AS t (id, coord_x, coord_y, coord_z)
        SELECT id, $2, $2, $3 FROM unnest($1::uuid[]) AS ids (id) ON CONFLICT (id) DO UPDATE SET
            coord_x = excluded.coord_x, coord_y = excluded.coord_y, coord_z = excluded.coord_z,
            weight = t.weight - 1
    """,
    "delete and insert": """
        WITH gone AS (DELETE FROM tokens.tokens WHERE id = ANY ($1) RETURNING id)
        INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z) SELECT id, $2, $2, $3 FROM gone
    """,
    "insert before the deletion ends": """
        WITH gone AS (DELETE FROM tokens.tokens WHERE id = ANY ($1) RETURNING id)
        INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z)
        SELECT id, $2, $2, $3 FROM gone LIMIT 1
    """,
}


@pytest.mark.parametrize("count", [1, 2])
def test_each_change_of_levels_in_one_session(database_url, count):
    """The plans for one token are kept; each of them meets every other shape of token."""

    async def go():
        connection = await asyncpg.connect(database_url)
        try:
            for before, after in itertools.product(SHAPES.values(), repeat=2):
                for change in CHANGES.values():
                    await connection.execute(CHANGES["upsert"], IDS[:count], before, before)
                    await connection.execute(change, IDS[:count], after, after)
                    tokens, rows = await connection.fetch(TOKENS), await connection.fetch(INDEX)
                    assert sorted(map(comparable, rows)) == derived_from(tokens), change
                    await connection.execute("DELETE FROM tokens.tokens")
                    assert await connection.fetch(INDEX) == []
        finally:
            await connection.close()

    asyncio.run(go())


def test_the_index_has_a_new_version_only_if_it_changes(database_url):
    psql(database_url, START)
    nonces = (
        "SELECT nonce FROM tokens.versions WHERE relation = 'tokens.spatial_index' ORDER BY nonce"
    )
    one = f"WHERE id = '{IDS[0]}'"
    before = fetch(database_url, nonces)

    psql(database_url, f"UPDATE tokens.tokens SET metadata = '[1]', weight = weight {one}")
    assert fetch(database_url, nonces) == before

    psql(database_url, "DELETE FROM tokens.tokens WHERE false")
    assert fetch(database_url, nonces) == before

    for write in (
        f"UPDATE tokens.tokens SET weight = weight + 1 {one}",
        f"DELETE FROM tokens.tokens {one}",
        START.partition("),\n")[0] + ")",
    ):
        psql(database_url, write)
        after = fetch(database_url, nonces)
        assert len(set(after) - set(before)) == 1, "renewed once"
        before = after


def most_rows(plan):
    """Return how many rows the busiest node of a plan read."""
    read = sum(number for name, number in plan.items() if name.startswith("Rows Removed"))
    own = (read + plan["Actual Rows"]) * plan["Actual Loops"]
    return max([own, *map(most_rows, plan.get("Plans", []))])


@pytest.mark.parametrize("sizes", [(1, 600, 1), (600, 1, 600)], ids=["one first", "many first"])
@pytest.mark.parametrize("levels", [1, 2])
def test_no_plan_is_kept_for_another_number_of_rows(migrated_database, sizes, levels):
    """Also while the store grows from nothing: the statistics say that all tables are empty."""
    place = ["1.5"] * levels + ["NULL"] * (8 - levels)
    coords = ", ".join([f"ARRAY[{', '.join(place)}]::float8[]"] * 3)
    statements = [
        f"INSERT INTO tokens.tokens (coord_x, coord_y, coord_z, flags) SELECT {coords}, n"
        " FROM generate_series(1, $1::int) AS n",
        "UPDATE tokens.tokens SET weight = weight + 1 WHERE id = ANY ($1)",
        "UPDATE tokens.tokens SET coord_y[1] = coord_y[1] + 1 WHERE id = ANY ($1)",
        "DELETE FROM tokens.tokens WHERE id = ANY ($1)",
    ]
    psql(migrated_database, "VACUUM ANALYZE")

    async def go():
        plans = []
        connection = await asyncpg.connect(migrated_database)
        try:
            await connection.execute(
                "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0;"
                "SET auto_explain.log_nested_statements = on; SET auto_explain.log_analyze = on;"
                "SET auto_explain.log_timing = off; SET auto_explain.log_format = json;"
            )
            connection.add_log_listener(lambda _, message: plans.append(message.message))
            for size in sizes:
                # Once more than the five times that a plan with parameters is not kept.
                for statement in (statements[:1] + statements) * (7 if size == 1 else 1):
                    if "INSERT" in statement:
                        argument = size
                    else:
                        ids = await connection.fetch("SELECT id FROM tokens.tokens")
                        argument = [row["id"] for row in ids[:size]]
                    plans.clear()
                    await connection.execute("SET client_min_messages = log")
                    await connection.execute(statement, argument)
                    await connection.execute("RESET client_min_messages")
                    explained = [
                        json.loads(plan[plan.index("{") :]) for plan in plans if "plan:" in plan
                    ]
                    # Neither the statement itself nor what asyncpg asks about types.
                    triggered = [
                        one
                        for one in explained
                        if re.search(r"tokens\.|_rows", one["Query Text"])
                        and one["Query Text"] != statement
                    ]
                    assert any("spatial_index" in one["Query Text"] for one in triggered)
                    # A renewal reads the nonces, of which there are about 60.
                    assert max(most_rows(one["Plan"]) for one in triggered) <= 100 + 8 * size, (
                        size,
                        statement,
                    )
        finally:
            await connection.close()

    asyncio.run(go())


def test_concurrent_writers_of_the_same_tokens(database_url):
    psql(database_url, START)

    async def write(seed):
        choose = random.Random(seed)
        connection = await asyncpg.connect(database_url)
        try:
            for _ in range(40):
                one = choose.choice(IDS[:4])
                value = [float(choose.randrange(9))] * 8
                statement = choose.choice(
                    [
                        "UPDATE tokens.tokens SET coord_x = $2, coord_y = $2, coord_z = $2"
                        " WHERE id = $1",
                        "DELETE FROM tokens.tokens WHERE id = $1 AND $2::float8[] IS NOT NULL",
                        "INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z)"
                        " VALUES ($1, $2, $2, $2) ON CONFLICT (id) DO UPDATE SET weight = 7",
                    ]
                )
                async with connection.transaction():
                    await connection.execute(statement, one, value)
        finally:
            await connection.close()

    async def all_of_them():
        await asyncio.gather(*(write(seed) for seed in range(6)))

    asyncio.run(all_of_them())

    assert indexed(database_url) == derived(database_url)


def test_the_cost_depends_on_the_rows_written_and_not_on_the_store(migrated_database):
    # A database of its own: statistics of other rows change the plans.  As after autovacuum, the
    # partitions have statistics and the partitioned table has none.
    psql(
        migrated_database,
        """
        INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z)
        SELECT gen_random_uuid(), c, c, c FROM (
            SELECT array_fill(n::float8, '{8}') AS c FROM generate_series(1, 5000) AS n
        ) AS points;
        ANALYZE tokens.tokens; ANALYZE tokens.spatial_index_0; ANALYZE tokens.spatial_index_7;
        """,
    )
    some = "(SELECT id FROM tokens.tokens ORDER BY id LIMIT 50)"
    ids = [row["id"] for row in fetch(migrated_database, some)]
    read = """
        SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables
        WHERE schemaname = 'tokens'
    """

    async def rows_read(statement):
        connection = await asyncpg.connect(migrated_database)
        try:
            async with connection.transaction():
                await connection.execute(f"{statement} WHERE id = ANY ($1)", ids)
                return await connection.fetchval(read)
        finally:
            await connection.close()

    for statement in (
        "UPDATE tokens.tokens SET weight = 7",
        "UPDATE tokens.tokens SET coord_x[1] = 7",
        "DELETE FROM tokens.tokens",
    ):
        # Each token, its rows in the index, and the checks whether it still exists: 8 of each.  In
        # some runs the server counts up to three rows more; the store has 5,000.
        assert 50 < asyncio.run(rows_read(statement)) < 50 * (1 + 8 + 8 + 8 + 1), statement


def test_a_restored_dump_is_the_same(database_url, empty_database):
    psql(
        database_url,
        f"""
        {START};
        INSERT INTO graph.connections (source_id, target_id) VALUES ('{IDS[0]}', '{IDS[1]}');
        INSERT INTO experience.experience_events (event_type, token_id, trajectory_id, reward)
        VALUES ('step', '{IDS[0]}', '{IDS[7]}', 2.5), ('step', NULL, NULL, 1);
        """,
    )
    schemas = [f"--schema={name}" for name in ("tokens", "graph", "experience")]
    dumped = subprocess.run(
        [PSQL.with_name("pg_dump"), *schemas, "-d", database_url], capture_output=True, text=True
    )
    assert dumped.returncode == 0, dumped.stderr

    psql(empty_database, "CREATE EXTENSION postgis;" + dumped.stdout)

    assert indexed(empty_database) == derived(empty_database) == indexed(database_url) != []
    for table in (
        "graph.connections",
        "experience.experience_trajectories",
        revision.VERSION_TABLE,
    ):
        whole = f"SELECT * FROM {table}"
        assert fetch(empty_database, whole) == fetch(database_url, whole) != []

    # The restored store works, and is at head.
    psql(empty_database, STATEMENTS["move"] + STATEMENTS["insert"])
    assert indexed(empty_database) == derived(empty_database)
    migrate.upgrade(empty_database)
