"""`ngdata reindex`: after writes that fired no trigger, the index matches the tokens again."""

from __future__ import annotations

import threading

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import ngdata
from ngdata._config.settings import load_settings
from ngdata._store import owner_locks
from ngdata.admin import cli, reindex
from ngdata.admin.reindex import Reindexed
from ngdata.errors import ConfigError, NGDataError
from tests.conftest import execute
from tests.faults.conftest import wait_until

INDEX = (
    "SELECT level, token_id::text, ST_AsEWKB(geom), token_type, float8send(weight), flags,"
    ' "timestamp" FROM tokens.spatial_index ORDER BY 1, 2'
)
WITHOUT_TRIGGERS = (
    *(
        f"ALTER TABLE tokens.tokens DISABLE TRIGGER index_{e}"
        for e in ("insert", "update", "delete")
    ),
)
WITH_TRIGGERS = tuple(s.replace("DISABLE", "ENABLE ALWAYS") for s in WITHOUT_TRIGGERS)


def filled(ng: ngdata.Client, rows: int = 500) -> list[str]:
    random = np.random.default_rng(7)
    coords = random.normal(size=(rows, 8, 3))
    coords[random.random((rows, 8)) < 0.3] = np.nan
    coords[random.random((rows, 8)) < 0.1] = -0.0
    frame = pd.DataFrame({"token_type": random.choice(["a", "b"], rows), "weight": 0.0})
    return list(ng.tokens.bulk_create(frame, coords=coords))


def replicated(url: str, *statements: str) -> None:
    """Run statements as replication does, firing no statement trigger."""
    execute(url, *WITHOUT_TRIGGERS, *statements, *WITH_TRIGGERS)


def settings(url: str, **more: object):
    return load_settings(database_url=url, **more)


def test_a_matching_index_is_not_changed(ng, database_url):
    filled(ng)
    before = execute(database_url, "SELECT sum(hashtext(ctid::text)) FROM tokens.spatial_index")
    assert reindex.reindex(settings(database_url)) == Reindexed(0, 0)
    after = execute(database_url, "SELECT sum(hashtext(ctid::text)) FROM tokens.spatial_index")
    assert after == before


def test_replicated_tokens_are_found_again(ng, database_url):
    ids = filled(ng)
    one, two, three = ids[:3]
    replicated(
        database_url,
        "INSERT INTO tokens.tokens (coord_x, coord_y, coord_z) SELECT a, a, a FROM"
        " (SELECT array_fill(9.5::float8, ARRAY[8]) AS a FROM generate_series(1, 40)) AS new",
        f"UPDATE tokens.tokens SET coord_x[1] = 77, coord_y[1] = 77, coord_z[1] = 77 WHERE id = '{one}'",
        f"UPDATE tokens.tokens SET weight = '-0' WHERE id = '{two}'",
        f"DELETE FROM tokens.tokens WHERE id = '{three}'",
        "UPDATE tokens.tokens SET coord_x[2] = NULL, coord_y[2] = NULL, coord_z[2] = NULL",
    )
    assert ng.tokens.count_in_region((9, 9, 9), (10, 10, 10)) == 0
    result = reindex.reindex(settings(database_url))
    assert result.added >= 40 * 7
    assert result.removed > 500 // 2
    assert ng.tokens.count_in_region((9, 9, 9), (10, 10, 10)) == 40
    assert list(ng.tokens.find_in_region((77, 77, 77), (77, 77, 77))["token_id"]) == [one]
    assert len(ng.tokens.find_in_region((-99, -99, -99), (99, 99, 99), level=1)) == 0
    # The triggers derive the same from all tokens.
    rebuilt = execute(database_url, INDEX)
    execute(
        database_url,
        "CREATE TEMP TABLE copy AS TABLE tokens.tokens",
        "TRUNCATE tokens.tokens CASCADE",
        "INSERT INTO tokens.tokens TABLE copy",
    )
    assert rebuilt == execute(database_url, INDEX)


@pytest.mark.parametrize("spoil", ["DELETE FROM {}", "UPDATE {} SET flags = flags + 1"])
def test_an_index_that_was_changed_by_hand(ng, database_url, spoil):
    filled(ng, 50)
    good = execute(database_url, INDEX)
    execute(database_url, spoil.format("tokens.spatial_index"))
    result = reindex.reindex(settings(database_url, read_only=True, statement_timeout=0.001))
    assert result.added == len(good)
    assert execute(database_url, INDEX) == good


def test_rows_without_a_token_are_removed(ng, database_url):
    filled(ng, 5)
    good = execute(database_url, INDEX)
    execute(
        database_url,
        "INSERT INTO tokens.spatial_index SELECT gen_random_uuid(), 3, ST_MakePoint(1, 2, 3), 'a',"
        " 1, 0, now() FROM generate_series(1, 20)",
    )
    assert reindex.reindex(settings(database_url)) == Reindexed(20, 0)
    assert execute(database_url, INDEX) == good


def test_readers_see_the_old_index_and_writers_wait(ng, database_url):
    """It waits halfway, for a lock on a row that it must delete."""
    one = filled(ng, 2)[0]
    everything = ((-99, -99, -99), (99, 99, 99))
    replicated(database_url, f"DELETE FROM tokens.tokens WHERE id = '{one}'")
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with adbc.connect(database_url) as holder:
        with holder.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
            cursor.execute(
                f"SELECT level FROM tokens.spatial_index WHERE token_id = '{one}' FOR UPDATE"
            )
            cursor.fetchall()
        rebuilding = threading.Thread(target=reindex.reindex, args=[settings(database_url)])
        rebuilding.start()
        wait_until(lambda: execute(database_url, waiting) == [(1,)])
        assert len(ng.tokens.find_in_region(*everything)) == 2
        writing = threading.Thread(target=ng.tokens.create, args=[{0: (1.0, 1.0, 1.0)}])
        writing.start()
        wait_until(lambda: execute(database_url, waiting) == [(2,)])
        holder.rollback()
    rebuilding.join()
    writing.join()
    frame = ng.tokens.find_in_region(*everything)
    assert one not in set(frame["token_id"])
    assert len(frame) == 2


def test_writers_that_keep_their_locks_make_it_fail(ng, database_url, monkeypatch):
    monkeypatch.setattr(owner_locks, "LOCK_TIMEOUT_SECONDS", 0.1)
    with adbc.connect(database_url) as writer:
        with writer.cursor() as cursor:
            cursor.execute("LOCK TABLE tokens.tokens IN ROW EXCLUSIVE MODE")
        with pytest.raises(
            NGDataError, match=r"could not lock tokens\.tokens, .* within 0\.1 s .*pg_stat_activity"
        ):
            reindex.reindex(settings(database_url))
        writer.rollback()


def test_the_error_for_another_user_names_the_owner(ng, database_url):
    """Connected as the owner with another role set, which needs no password."""
    execute(
        database_url,
        "CREATE ROLE visitor",
        "GRANT USAGE ON SCHEMA tokens TO visitor",
        "GRANT SELECT ON ALL TABLES IN SCHEMA tokens TO visitor",
    )
    try:
        visiting = database_url + "&options=-c%20role%3Dvisitor"
        with pytest.raises(ConfigError, match=r"visitor may not .* belongs to ngdata; run"):
            reindex.reindex(settings(visiting))
    finally:
        execute(database_url, "DROP OWNED BY visitor", "DROP ROLE visitor")


def test_the_command_prints_the_result(ng, database_url):
    filled(ng, 5)
    good = execute(database_url, "SELECT count(*) FROM tokens.spatial_index")[0][0]
    execute(database_url, "DELETE FROM tokens.spatial_index")
    runner = CliRunner()
    environment = {"NGDATA_DATABASE_URL": database_url}
    result = runner.invoke(cli.app, ["reindex"], env=environment)
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        f"the spatial index did not match the tokens: 0 rows removed, {good} added\n"
    )
    result = runner.invoke(cli.app, ["reindex"], env=environment)
    assert result.stdout == "the spatial index matches the tokens; nothing was changed\n"
