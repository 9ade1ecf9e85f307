"""`bulk_create(..., initial=True)`: the same store as without it, or an unchanged store."""

import asyncio
import threading

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import ngdata
from ngdata._store import owner_locks
from ngdata.admin import cli
from ngdata.binary import encode_tokens
from ngdata.binary.loading import load_records
from ngdata.errors import ConfigError, InvalidQueryError, NGDataError
from tests.conftest import execute
from tests.faults.conftest import wait_until
from tests.schema.test_schema import catalog
from tests.schema.test_triggers import derived, indexed

EVERYTHING = ((-np.inf,) * 3, (np.inf,) * 3)
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

# The properties of indexes that matter for their use, without object ids and file numbers.
INDEXES = """
SELECT x.indexrelid::regclass::text, x.indrelid::regclass::text, pg_get_indexdef(x.indexrelid),
    indisunique, indisprimary, indisvalid, indisready, indislive, indisclustered, indisreplident,
    p.inhparent::regclass::text, i.relowner::regrole::text, i.reloptions::text,
    c.conname::text, pg_get_constraintdef(c.oid), c.coninhcount, c.conislocal
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
LEFT JOIN pg_inherits p ON p.inhrelid = x.indexrelid
LEFT JOIN pg_constraint c ON c.conindid = x.indexrelid AND c.conrelid = x.indrelid
WHERE x.indrelid::regclass::text LIKE 'tokens.%' ORDER BY 1
"""


@pytest.fixture
def url(migrated_database):
    return migrated_database


def frame(rows):
    random = np.random.default_rng(3)
    coords = random.normal(size=(rows, 8, 3))
    coords[random.random((rows, 8)) < 0.3] = np.nan
    coords[random.random((rows, 8)) < 0.1] = -0.0
    return pd.DataFrame({"weight": random.random(rows), "token_type": "a"}), coords


def load(url, rows=300, **options):
    with ngdata.connect(url) as client:
        tokens, coords = frame(rows)
        return client.tokens.bulk_create(tokens, coords=coords, initial=True, **options)


def state(url):
    return catalog(url), execute(url, INDEXES)


@pytest.mark.parametrize("rows", [1, 300, 2500])
def test_the_store_equals_one_loaded_without_initial(url, rows):
    before = state(url)
    ids = load(url, rows)
    assert indexed(url) == derived(url) != []
    assert state(url) == before
    with ngdata.connect(url) as client:
        assert client.tokens.get(ids).token_id.tolist() == ids.tolist()
        # The triggers are enabled again.
        assert client.tokens.delete(ids[:1]) == 1
        client.tokens.create({3: (1.0, 2.0, 3.0)})
        assert indexed(url) == derived(url)
        plan = client.explain(client.tokens.find_in_region, (-1, -1, -1), (1, 1, 1))
        assert "spatial_index_0" in plan.text


def test_a_file_of_records(url, tmp_path):
    before = state(url)
    path = tmp_path / "tokens.bin"
    encode_tokens({"local_id": np.arange(3000)}, np.ones((3000, 8, 3))).tofile(path)
    loading = ["load-tokens", str(path), "--initial", "--quiet"]
    done = CliRunner().invoke(cli.app, loading, env={"NGDATA_DATABASE_URL": url})
    assert done.exit_code == 0, done.output
    assert indexed(url) == derived(url) != []
    assert state(url) == before
    done = CliRunner().invoke(cli.app, loading, env={"NGDATA_DATABASE_URL": url})
    assert done.exit_code == 1
    assert "initial=True is for an empty store" in done.stderr
    with (
        ngdata.connect(url) as client,
        pytest.raises(InvalidQueryError, match="for tokens, not for events"),
    ):
        load_records(client, path, "events", initial=True)


def test_custom_indexes_are_rebuilt_too(url):
    execute(
        url,
        "CREATE INDEX mine ON tokens.spatial_index (flags) WHERE flags > 0",
        'CREATE INDEX "O\'Mine" ON tokens.spatial_index_4 (weight) WITH (fillfactor = 70)',
        "ALTER INDEX tokens.spatial_index_2_pkey RENAME TO other_pkey",
        "ALTER TABLE tokens.tokens ENABLE REPLICA TRIGGER index_insert",
    )
    before = state(url)
    load(url)
    assert state(url) == before


def test_a_cached_answer_is_not_reused(url):
    with ngdata.connect(url) as client:
        assert client.tokens.find_in_region(*EVERYTHING).empty
        assert client.tokens.find_in_region(*EVERYTHING, cache="strict").empty
        new, coords = frame(50)
        client.tokens.bulk_create(new, coords=coords, initial=True)
        tokens = client.tokens.find_in_region(*EVERYTHING)
        assert len(tokens) == np.isfinite(coords[:, 0, 0]).sum()


@pytest.mark.parametrize("emptied", [(), ("DELETE FROM tokens.spatial_index",)])
def test_a_store_that_is_not_empty_is_refused(url, emptied):
    with ngdata.connect(url) as client:
        client.tokens.create({0: (1.0, 2.0, 3.0)})
    execute(url, "SELECT 1", *emptied)
    before = state(url), execute(url, "TABLE tokens.spatial_index")
    with pytest.raises(InvalidQueryError, match=r"empty store, and tokens\.tokens .* has rows"):
        load(url)
    assert (state(url), execute(url, "TABLE tokens.spatial_index")) == before
    execute(url, "DELETE FROM tokens.tokens")
    load(url)


def test_an_index_of_no_tokens_is_refused(url):
    execute(
        url,
        "INSERT INTO tokens.spatial_index SELECT gen_random_uuid(), 3, ST_MakePoint(1, 2, 3), 'a',"
        " 1, 0, now()",
    )
    with pytest.raises(InvalidQueryError, match=r"tokens\.spatial_index .* has rows"):
        load(url)


REFUSALS = {
    "a row": (
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.weight > 0.99 THEN RAISE 'not this one'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER no BEFORE INSERT ON tokens.tokens FOR EACH ROW EXECUTE FUNCTION no()",
    ),
    "the last index": (
        "CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF to_regclass('tokens.spatial_index_7_geom_idx') IS NOT NULL THEN"
        " RAISE 'not this one'; END IF; END $$",
        "CREATE EVENT TRIGGER no ON ddl_command_end WHEN TAG IN ('CREATE INDEX')"
        " EXECUTE FUNCTION no()",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_failure_in_the_middle_changes_nothing(url, what):
    execute(url, *REFUSALS[what])
    before = state(url)
    with pytest.raises(NGDataError, match="not this one"):
        load(url)
    assert state(url) == before
    assert execute(url, "SELECT count(*) FROM tokens.tokens") == [(0,)]
    assert execute(url, "SELECT count(*) FROM tokens.spatial_index") == [(0,)]


def test_a_cancelled_load_changes_nothing(url):
    before = state(url)

    async def go():
        async with await ngdata.connect_async(url) as client:
            tokens, coords = frame(20_000)
            loading = asyncio.ensure_future(
                client.tokens.bulk_create(tokens, coords=coords, initial=True)
            )
            for _ in range(2000):
                await asyncio.sleep(0.005)
                if execute(url, "SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock'"):
                    break
            loading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await loading
            assert await client.tokens.count_in_region(*EVERYTHING) == 0

    asyncio.run(go())
    assert state(url) == before


def test_writers_and_readers_wait_for_the_load(url):
    """The load is held up in its middle by a reader that holds a lock on the index."""
    with ngdata.connect(url) as client, adbc.connect(url) as holder:
        with holder.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM tokens.spatial_index")
            cursor.fetchall()
        counts = {}
        loading = threading.Thread(target=load, args=[url])
        loading.start()
        wait_until(lambda: execute(url, WAITING) == [(1,)])
        writing = threading.Thread(target=client.tokens.create, args=[{0: (99.0, 99.0, 99.0)}])
        writing.start()
        wait_until(lambda: execute(url, WAITING) == [(2,)])
        reading = threading.Thread(
            target=lambda: counts.update(many=client.tokens.count_in_region(*EVERYTHING))
        )
        reading.start()
        wait_until(lambda: execute(url, WAITING) == [(3,)])
        holder.rollback()
        for thread in (loading, writing, reading):
            thread.join()
        assert client.tokens.count_in_region((99, 99, 99), (99, 99, 99)) == 1
        assert counts["many"] in (client.tokens.count_in_region(*EVERYTHING) - n for n in (0, 1))
    assert indexed(url) == derived(url)


def test_a_reader_that_keeps_its_lock_ends_the_load(url, monkeypatch):
    monkeypatch.setattr(owner_locks, "LOCK_TIMEOUT_SECONDS", 0.1)
    with adbc.connect(url) as holder:
        with holder.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM tokens.spatial_index")
            cursor.fetchall()
        with pytest.raises(NGDataError, match="pg_stat_activity"):
            load(url)
        holder.rollback()
    load(url)


def test_the_error_for_another_user_names_the_owner(url):
    execute(
        url,
        "DO $$ BEGIN CREATE ROLE loader; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "SELECT tokens.grant_access('loader', 'writer')",
    )
    before = state(url)
    try:
        with pytest.raises(
            ConfigError, match=r"loader may not .* ngdata; load as ngdata, or without"
        ):
            load(url + "&options=-c%20role%3Dloader")
        assert state(url) == before
    finally:
        execute(url, "DROP OWNED BY loader", "DROP ROLE loader")
