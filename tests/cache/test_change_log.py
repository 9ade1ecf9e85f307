"""The log of changes: what each statement leaves in it, what a snapshot does not see, and its pruning."""

import asyncio
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ngdata
from ngdata._config.settings import load_settings
from ngdata._reading.cache import outliving
from ngdata._reading.cache.change_log import TransactionSnapshot
from ngdata._reading.cache.versions import same_structure
from ngdata.admin.reindex import reindex
from tests.cache.conftest import eventually, outsider, points, run
from tests.conftest import execute

A, B = (f"00000000-0000-4000-8000-00000000000{n}" for n in "12")


@pytest.fixture
def small_answers_too(monkeypatch):
    """Bring answers up to date that the database would return as quickly."""
    monkeypatch.setattr(outliving, "is_read_quickly", lambda query, answer: False)


def places(*values):
    """Write the coordinates of eight levels, of which some are defined."""
    return (
        "ARRAY["
        + ",".join(str(values[n]) if n < len(values) else "NULL" for n in range(8))
        + "]::float8[]"
    )


def insert(token, *values):
    at = places(*values)
    return f"INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z) VALUES ('{token}', {at}, {at}, {at})"


def moved(*values):
    at = places(*values)
    return f"UPDATE tokens.tokens SET coord_x = {at}, coord_y = {at}, coord_z = {at}"


def logged(url, statement, *before):
    """Return what one script leaves in the log, as (relation, x of the places, number of ids)."""
    execute(url, "TRUNCATE tokens.tokens CASCADE", *before, "DELETE FROM tokens.changes", statement)
    rows = execute(url, "SELECT relation, is_extent, x, ids FROM tokens.changes ORDER BY ctid")
    return [
        (
            relation.partition(".")[2] + " as one" * is_extent,
            None if x is None else [[v for v in row if v is not None] for row in x],
            None if ids is None else len(set(ids)),
        )
        for relation, is_extent, x, ids in rows
    ]


ONE = ("tokens", [[1.0]], 1)
CONNECT = f"INSERT INTO graph.connections (source_id, target_id) VALUES ('{A}', '{B}')"
EVENT = f"INSERT INTO experience.experience_events (event_type, token_id) VALUES ('e', '{A}')"
NOTHING = " WHERE false"
STATEMENTS = {
    "insert": ([], insert(A, 1), [ONE]),
    "several levels": ([], insert(A, 1, 2), [("tokens", [[1.0, 2.0]], 1)]),
    "no level": ([], insert(A), [("tokens", [[]], 1)]),
    "move": ([insert(A, 1)], moved(2), [("tokens", [[1.0], [2.0]], 1)]),
    "of another level": ([insert(A, 1)], moved(1, 5), [("tokens", [[1.0], [1.0, 5.0]], 1)]),
    "metadata": (
        [insert(A, 1, 4)],
        "UPDATE tokens.tokens SET metadata = '{}'",
        [("tokens", [[1.0, 4.0], [1.0, 4.0]], 1)],
    ),
    "another id": (
        [insert(A, 1)],
        f"UPDATE tokens.tokens SET id = '{B}'",
        [("tokens", [[1.0], [1.0]], 2)],
    ),
    "delete": ([insert(A, 1)], "DELETE FROM tokens.tokens", [ONE]),
    "no row": ([insert(A, 1)], f"{moved(2)}{NOTHING}; DELETE FROM tokens.tokens{NOTHING}", []),
    "upsert": (
        [insert(A, 1)],
        f"{insert(A, 2)} ON CONFLICT (id) DO UPDATE SET coord_x = excluded.coord_x",
        [("tokens", [[1.0], [2.0]], 1)],
    ),
    "upsert of two": (
        [insert(A, 1)],
        f"{insert(A, 2)}, ('{B}', {places(3)}, {places(3)}, {places(3)})"
        " ON CONFLICT (id) DO UPDATE SET coord_x = excluded.coord_x",
        [("tokens", [[1.0], [2.0]], 1), ("tokens", [[3.0]], 1)],
    ),
    "merge": (
        [insert(A, 1)],
        f"MERGE INTO tokens.tokens AS t USING (VALUES ('{A}'::uuid)) AS s (id) ON t.id = s.id"
        " WHEN MATCHED THEN DELETE",
        [ONE],
    ),
    "with": (
        [insert(A, 1), insert(B, 7)],
        f"WITH gone AS (DELETE FROM tokens.tokens WHERE id = '{A}') {moved(8)} WHERE id = '{B}'",
        [("tokens", [[7.0], [8.0]], 1), ONE],
    ),
    "rolled back": ([], f"BEGIN; {insert(A, 1)}; ROLLBACK", []),
    "savepoint": (
        [],
        f"BEGIN; {insert(A, 1)}; SAVEPOINT s; {insert(B, 2)}; ROLLBACK TO s; COMMIT",
        [ONE],
    ),
    "as a replica": (
        [],
        f"SET session_replication_role = replica; {insert(A, 1)}",
        [ONE],
    ),
    "truncate": (
        [insert(A, 1)],
        "TRUNCATE tokens.tokens CASCADE",
        # Trajectories follow their events.
        [
            (table, None, None)
            for table in ("tokens", "connections", "experience_events", "experience_trajectories")
        ],
    ),
    "connection": ([insert(A, 1), insert(B, 1)], CONNECT, [("connections", None, 2)]),
    "cascade": (
        [insert(A, 1), insert(B, 1), CONNECT, EVENT],
        f"DELETE FROM tokens.tokens WHERE id = '{A}'",
        [ONE, ("connections", None, 2), ("experience_events", None, 1)],
    ),
    "index by hand": (
        [insert(A, 1)],
        "UPDATE tokens.spatial_index SET weight = 2",
        [("spatial_index", None, None)],
    ),
    "partition by hand": (
        [insert(A, 1)],
        "DELETE FROM tokens.spatial_index_0",
        [("spatial_index", None, None)],
    ),
    "level": ([], "UPDATE tokens.levels SET unit = NULL", [("levels", None, None)]),
    "trajectory": (
        [],
        "INSERT INTO experience.experience_trajectories DEFAULT VALUES",
        [("experience_trajectories", None, None)],
    ),
    "snapshot": (
        [],
        "INSERT INTO graph.graph_snapshots (node_count, edge_count) VALUES (0, 0)",
        [("graph_snapshots", None, None)],
    ),
}


@pytest.mark.parametrize("kind", STATEMENTS)
def test_each_statement_is_logged(database_url, kind):
    before, statement, expected = STATEMENTS[kind]
    # Triggers of one event run by name, and those of cascades where they please.
    assert sorted(logged(database_url, statement, *before), key=str) == sorted(expected, key=str)


def many(count, levels=1):
    at = ",".join(["n"] * levels + ["NULL"] * (8 - levels))
    return (
        "INSERT INTO tokens.tokens (coord_x, coord_y, coord_z) SELECT a, a, a FROM"
        f" (SELECT ARRAY[{at}]::float8[] FROM generate_series(1, {count}) AS n) AS t (a)"
    )


def test_many_points_are_logged_as_one_box(database_url):
    [(what, xs, ids)] = logged(database_url, many(256))
    assert (what, len(xs), ids) == ("tokens", 256, 256)
    assert logged(database_url, many(257)) == [("tokens as one", [[1.0], [257.0]], None)]
    assert logged(database_url, many(40, 7)) == [("tokens as one", [[1.0] * 7, [40.0] * 7], None)]
    update = "UPDATE tokens.tokens SET coord_x[1] = -coord_x[1] WHERE coord_x[1] > 100"
    assert logged(database_url, update, many(257)) == [("tokens as one", [[-257.0], [257.0]], None)]
    # An axis of its own for each.
    [row] = execute(database_url, "SELECT x, y, z FROM tokens.changes")
    assert [np.array(axis, float)[:, 0].tolist() for axis in row] == [
        [-257, 257],
        [101, 257],
        [101, 257],
    ]
    connections = (
        "INSERT INTO graph.connections (source_id, target_id)"
        " SELECT id, id FROM tokens.tokens LIMIT {}"
    ).format
    assert logged(database_url, connections(256), many(300)) == [("connections", None, 256)]
    assert logged(database_url, connections(257), many(300)) == [("connections", None, None)]


def test_the_times_of_events_are_those_before_and_after(database_url):
    event = "INSERT INTO experience.experience_events (event_type, timestamp) VALUES ('e', '{}Z')"
    times = "SELECT first_time, last_time FROM tokens.changes"
    logged(database_url, event.format("2026-01-05"))
    [(first, last)] = execute(database_url, times)
    assert first == last
    logged(
        database_url,
        "UPDATE experience.experience_events SET timestamp = '2026-01-02Z'",
        event.format("2026-01-05"),
    )
    [(first, last)] = execute(database_url, times)
    assert (first.day, last.day) == (2, 5)


# ------------------------------------------------------------------------------- trust in the log


@pytest.mark.parametrize("table", ["tokens.tokens", "graph.connections", "tokens.levels"])
def test_a_trigger_that_is_off_makes_the_log_untrusted(migrated_database, table):
    url = migrated_database
    version = f"SELECT tokens.current_version('{{{table}}}')"
    [(before,)] = execute(url, version)
    assert re.fullmatch("[0-9a-f]{40}s[0-9a-f]{48}n[0-9]+", before)
    assert same_structure(before, before)
    [(trigger,)] = execute(
        url,
        f"SELECT tgname FROM pg_trigger WHERE tgrelid = '{table}'::regclass AND tgname LIKE 'log%'"
        " ORDER BY 1 LIMIT 1",
    )
    for state in ("DISABLE", "ENABLE", "ENABLE REPLICA"):
        [(off,)] = execute(url, f"ALTER TABLE {table} {state} TRIGGER {trigger}", version)
        assert off.startswith("s")
        assert not same_structure(off, off)
    [(after,)] = execute(url, f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}", version)
    assert same_structure(after, after)
    assert not same_structure(before, after)
    [(emptied,)] = execute(url, "TRUNCATE tokens.changes", version)
    assert not same_structure(after, emptied)
    [(off,)] = execute(url, f"DROP TRIGGER {trigger} ON {table}", version)
    assert off.startswith("s")


def test_the_index_is_logged_by_the_triggers_of_the_tokens(migrated_database):
    version = "SELECT tokens.current_version('{tokens.spatial_index}')"
    [(before,)] = execute(migrated_database, version)
    assert same_structure(before, before)
    [(off,)] = execute(
        migrated_database, "ALTER TABLE tokens.tokens DISABLE TRIGGER log_update", version
    )
    assert off.startswith("s")


@pytest.mark.usefixtures("small_answers_too")
def test_an_index_written_by_hand_is_doubted_until_it_is_compared(database_url):
    """Its rows may be elsewhere than their tokens, and a later change of these is logged there."""
    with ngdata.connect(database_url) as ng:
        token = ng.tokens.create({0: (1, 1, 1)})
        box = ((5, 5, 5), (6, 6, 6))
        execute(
            database_url,
            "UPDATE tokens.spatial_index SET geom = ST_MakePoint(5, 5, 5)",
        )
        assert len(ng.tokens.find_in_region(*box)) == 1
        ng.tokens.update(token, weight=3)
        assert len(ng.tokens.find_in_region(*box)) == 0
        reindex(load_settings(database_url=database_url), progress=False)
        ng.tokens.find_in_region(*box)
        ng.tokens.update(token, weight=4)
        ng.tokens.find_in_region(*box)
        assert ng.cache.stats().outlived == 1


# ------------------------------------------------------------------------------------- snapshots

IDS = st.integers(3, 40)


@given(IDS, st.sets(IDS), IDS, IDS, st.sets(IDS))
def test_a_snapshot_is_covered_if_nothing_that_it_does_not_see_was_deleted(
    end, opened, complete_from, pruned_end, pruned_open
):
    since = TransactionSnapshot(end, tuple(sorted(each for each in opened if each < end)))
    pruned = TransactionSnapshot(
        pruned_end, tuple(each for each in pruned_open if each < pruned_end)
    )
    # What the pruning may have deleted: of transactions below the edge, those that it saw.
    deleted = [n for n in range(complete_from) if pruned.sees(n)]
    if since.is_covered(complete_from, pruned):
        assert all(since.sees(each) for each in deleted)
    elif complete_from <= end:
        assert not all(since.sees(each) for each in deleted)


def test_snapshots_are_read_as_the_server_writes_them():
    assert TransactionSnapshot.of("10:20:10,14") == TransactionSnapshot(20, (10, 14))
    assert TransactionSnapshot.of("10:10:") == TransactionSnapshot(10, ())
    assert [TransactionSnapshot(20, (10, 14)).sees(n) for n in (9, 10, 13, 14, 20)] == [
        *(True, False, True, False, False)
    ]
    for text in (None, "", "10:20", "1:2:x", "a:b:c"):
        assert TransactionSnapshot.of(text) is None


# --------------------------------------------------------------------------------------- pruning

OLD = "UPDATE tokens.changes SET logged_at = '2020-01-01Z'"
DUE = "UPDATE tokens.changes_edge SET pruned_at = '-infinity'"
PRUNE = "SELECT tokens.prune_changes()"
BOX = ((0, 0, 0), (5, 5, 5))


async def source(client, *box):
    frame = await client.tokens.find_in_region(*(box or BOX))
    return frame.attrs["ngdata"]["source"]


@pytest.mark.usefixtures("small_answers_too")
def test_answers_older_than_the_log_are_read_again(database_url):
    async def main():
        async with await ngdata.connect_async(database_url) as ang, outsider(database_url) as owner:
            await ang.tokens.bulk_create(points((1, 1, 1), (9, 9, 9)))
            far = "UPDATE tokens.tokens SET weight = weight + 1 WHERE coord_x[1] = 9"
            assert await source(ang) == "database"
            await owner.execute(f"{far};")
            await owner.execute(f"{OLD}; {DUE}; {PRUNE}")
            assert await owner.fetchval("SELECT count(*) FROM tokens.changes") == 0
            assert await source(ang) == "database"
            await owner.execute(far)
            # It is not due again, and then there is nothing so old.
            await owner.execute(f"{OLD}; {PRUNE}; UPDATE tokens.changes SET logged_at = now()")
            await owner.execute(f"{DUE}; {PRUNE}")
            assert await owner.fetchval("SELECT count(*) FROM tokens.changes") == 1
            assert await source(ang) == "memory"

    run(main())


@pytest.mark.usefixtures("small_answers_too")
def test_a_long_transaction_keeps_its_rows_and_no_others(database_url):
    async def main():
        async with (
            await ngdata.connect_async(database_url) as ang,
            outsider(database_url) as owner,
            outsider(database_url) as slow,
        ):
            await ang.tokens.bulk_create(points((1, 1, 1), (2, 2, 2), (9, 9, 9)))
            far = "UPDATE tokens.tokens SET weight = weight + 1 WHERE coord_x[1] = 9"
            transaction = slow.transaction()
            await transaction.start()
            await slow.execute("UPDATE tokens.tokens SET weight = 5 WHERE coord_x[1] = 1")
            await owner.execute(far)
            await owner.execute(f"{OLD}; {DUE}; {PRUNE}")
            # Read after the pruning, though before the end of the oldest transaction.
            assert await source(ang) == "database"
            await owner.execute(far)
            assert await source(ang) == "memory"
            await transaction.commit()
            frame = await ang.tokens.find_in_region(*BOX)
            assert frame.attrs["ngdata"]["source"] == "mended"
            assert sorted(frame.weight) == [1, 5]
            await owner.execute(far)
            await owner.execute(f"{OLD}; {DUE}; {PRUNE}")
            assert await source(ang) == "database"

    run(main())


def test_no_writer_waits_for_a_pruning_or_prunes_where_it_could_fail(database_url):
    async def main():
        async with outsider(database_url) as owner, outsider(database_url) as other:
            await owner.execute(f"{insert(A, 1)}; {OLD}; {DUE}")
            for level in ("repeatable_read", "serializable"):
                async with owner.transaction(isolation=level):
                    await owner.execute(PRUNE)
            assert await owner.fetchval("SELECT count(*) FROM tokens.changes") >= 1
            async with owner.transaction():
                await owner.execute(PRUNE)
                async with asyncio.timeout(20):
                    await other.execute(f"{PRUNE}; {insert(B, 1)}")
            count = "SELECT count(*) FROM tokens.changes WHERE logged_at < '2021-01-01'"
            assert await owner.fetchval(count) == 0

    run(main())


def test_writers_prune_by_chance(database_url):
    async def main():
        async with outsider(database_url) as owner:
            await owner.execute(f"{insert(A, 1)}; {OLD}; {DUE}")
            count = "SELECT count(*) FROM tokens.changes WHERE logged_at < '2021-01-01'"

            async def is_pruned():
                await owner.execute(f"{moved(1)};" * 50)
                return not await owner.fetchval(count)

            await eventually(is_pruned)

    run(main())


def test_rows_of_another_server_are_pruned(migrated_database):
    """A dump takes them along; there, transactions have other numbers."""
    execute(
        migrated_database,
        "INSERT INTO tokens.changes (xid, relation) VALUES (1000000000000, 'tokens.tokens')",
        f"{DUE}, complete_from = 1000000000000",
        PRUNE,
    )
    assert execute(migrated_database, "SELECT xid FROM tokens.changes") == []
    [(edge, now)] = execute(
        migrated_database,
        "SELECT complete_from, pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        " FROM tokens.changes_edge",
    )
    assert edge <= now


def test_the_log_holds_a_hundred_thousand_rows(migrated_database):
    execute(
        migrated_database,
        "INSERT INTO tokens.changes (xid, relation)"
        " SELECT n - 200000, 'tokens.levels' FROM generate_series(1, 100010) AS n",
        DUE,
        PRUNE,
    )
    assert execute(migrated_database, "SELECT count(*) FROM tokens.changes") == [(100000,)]
