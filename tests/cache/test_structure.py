"""Data that changes without a write: restored, swapped, attached or inherited tables, and the like.

After each change, two clients that had cached the answers before it return what an uncached client
returns: one from its memory or Redis, the other from Redis alone.
"""

import asyncio
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import asyncpg
import pandas as pd
import pytest

import ngdata
from ngdata import _local
from ngdata._local.binaries import find_psql
from ngdata.errors import NGDataError
from tests.cache.conftest import WHOLE, RedisServer, points, row_set
from tests.conftest import SCALE, execute

READS = {
    "region": lambda ng: ng.tokens.find_in_region(*WHOLE, 2),
    "tokens": lambda ng: ng.tokens.get([TOKEN], columns=["token_id", "weight", "coords"]),
    "connections": lambda ng: ng.graph.connections(),
    "degrees": lambda ng: ng.graph.get_degree(),
    "events": lambda ng: ng.experience.get_events(),
}
TOKEN = "00000000-0000-4000-8000-000000000001"
OTHER = "00000000-0000-4000-8000-000000000002"

_ROW = (
    "INSERT INTO graph.{table} (source_id, target_id, connection_type, weight)"
    f" VALUES ('{TOKEN}', '{OTHER}', '{{type}}', 9)"
)
_ADD = _ROW.format(table="connections", type="unseen")
_INDEX_ROW = (
    "INSERT INTO {table} (token_id, level, geom, token_type, weight, flags, timestamp)"
    f" SELECT '{OTHER}', {{level}}, geom, 'unseen', 5, 0, timestamp FROM tokens.spatial_index"
    f" WHERE token_id = '{TOKEN}' AND level = 2"
)


def off(table, write):
    """Write while the trigger is off."""
    return (
        f"ALTER TABLE {table} DISABLE TRIGGER renew_version; {write};"
        f" ALTER TABLE {table} ENABLE ALWAYS TRIGGER renew_version"
    )


def in_one_transaction(statements):
    return f"BEGIN; {statements}; COMMIT"


# A copy with its own triggers, indexes and grants, as a program that reloads a table makes one.
_COPY = (
    "CREATE TABLE graph.reloaded (LIKE graph.connections INCLUDING ALL);"
    f"{_ROW.format(table='reloaded', type='reloaded')};"
    "CREATE TRIGGER renew_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON graph.reloaded"
    " FOR EACH STATEMENT EXECUTE FUNCTION tokens.renew_version('graph.connections');"
    "ALTER TABLE graph.reloaded ENABLE ALWAYS TRIGGER renew_version"
)
_SWAP = (
    "ALTER TABLE graph.connections RENAME TO aside;"
    "ALTER TABLE graph.reloaded RENAME TO connections;"
    "ALTER TABLE graph.aside RENAME TO reloaded"
)

# Statements by the owner of the schema, each of which changes an answer.
CHANGES = {
    "trigger off": off("graph.connections", _ADD),
    "trigger off, in one transaction": in_one_transaction(off("graph.connections", _ADD)),
    "all triggers off": (
        f"ALTER TABLE graph.connections DISABLE TRIGGER ALL; {_ADD};"
        "ALTER TABLE graph.connections ENABLE TRIGGER ALL"
    ),
    "trigger of a partition off": in_one_transaction(
        off("tokens.spatial_index_2", "DELETE FROM tokens.spatial_index_2")
    ),
    "trigger dropped and created": (
        f"DROP TRIGGER renew_version ON graph.connections; {_ADD};"
        "CREATE TRIGGER renew_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE"
        " ON graph.connections FOR EACH STATEMENT"
        " EXECUTE FUNCTION tokens.renew_version('graph.connections');"
        "ALTER TABLE graph.connections ENABLE ALWAYS TRIGGER renew_version"
    ),
    "trigger for another relation": (
        "DROP TRIGGER renew_version ON graph.connections;"
        "CREATE TRIGGER renew_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE"
        " ON graph.connections FOR EACH STATEMENT"
        f" EXECUTE FUNCTION tokens.renew_version('graph.graph_snapshots'); {_ADD};"
        "ALTER TABLE graph.connections ENABLE ALWAYS TRIGGER renew_version"
    ),
    "partition detached": "ALTER TABLE tokens.spatial_index DETACH PARTITION tokens.spatial_index_2",
    "partition detached concurrently": (
        "ALTER TABLE tokens.spatial_index DETACH PARTITION tokens.spatial_index_2 CONCURRENTLY"
    ),
    "partition detached, written and attached": in_one_transaction(
        "ALTER TABLE tokens.spatial_index DETACH PARTITION tokens.spatial_index_2;"
        "ALTER TABLE tokens.spatial_index_2 DISABLE TRIGGER USER;"
        "DELETE FROM tokens.spatial_index_2;"
        "ALTER TABLE tokens.spatial_index_2 ENABLE ALWAYS TRIGGER renew_version;"
        "ALTER TABLE tokens.spatial_index ATTACH PARTITION tokens.spatial_index_2 FOR VALUES IN (2)"
    ),
    "partition replaced": (
        "ALTER TABLE tokens.spatial_index DETACH PARTITION tokens.spatial_index_2;"
        "CREATE TABLE tokens.fresh PARTITION OF tokens.spatial_index FOR VALUES IN (2);"
        + _INDEX_ROW.format(table="tokens.fresh", level=2).replace(
            "tokens.spatial_index WHERE", "tokens.spatial_index_2 WHERE"
        )
    ),
    "partition truncated": "TRUNCATE tokens.spatial_index_2",
    "inheriting table": (
        "CREATE TABLE graph.extra () INHERITS (graph.connections);"
        f"{_ROW.format(table='extra', type='extra')}"
    ),
    "table that inherits later": (
        "CREATE TABLE graph.extra (LIKE graph.connections INCLUDING ALL);"
        f"{_ROW.format(table='extra', type='extra')};"
        "ALTER TABLE graph.extra INHERIT graph.connections"
    ),
    "inheriting table of an inheriting table": (
        "CREATE TABLE graph.extra () INHERITS (graph.connections);"
        "CREATE TRIGGER renew_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON graph.extra"
        " FOR EACH STATEMENT EXECUTE FUNCTION tokens.renew_version('graph.connections');"
        "ALTER TABLE graph.extra ENABLE ALWAYS TRIGGER renew_version;"
        "CREATE TABLE graph.deeper () INHERITS (graph.extra);"
        f"{_ROW.format(table='deeper', type='deeper')}"
    ),
    "written through a parent": (
        "CREATE TABLE public.parent (); ALTER TABLE graph.connections INHERIT public.parent;"
        "DELETE FROM public.parent"
    ),
    "tables swapped": in_one_transaction(f"{_COPY}; {_SWAP}"),
    "tables swapped that are alike": f"{_COPY}; BEGIN; {_SWAP}; COMMIT",
    "tables swapped through another schema": in_one_transaction(
        f"{_COPY}; CREATE SCHEMA aside; ALTER TABLE graph.connections SET SCHEMA aside;"
        "ALTER TABLE graph.reloaded RENAME TO connections"
    ),
    "a view in place of a table": in_one_transaction(
        "ALTER TABLE graph.connections RENAME TO behind;"
        "CREATE VIEW graph.connections AS SELECT * FROM graph.behind WHERE false"
    ),
    "columns swapped": in_one_transaction(
        "ALTER TABLE tokens.tokens RENAME COLUMN coord_x TO aside;"
        "ALTER TABLE tokens.tokens RENAME COLUMN coord_y TO coord_x;"
        "ALTER TABLE tokens.tokens RENAME COLUMN aside TO coord_y"
    ),
    "rows rewritten": "ALTER TABLE tokens.tokens ALTER COLUMN weight TYPE float8 USING weight * 2",
    "truncated": "TRUNCATE graph.connections",
    "truncated and filled by a replica": (
        "SET session_replication_role = replica; TRUNCATE graph.connections;"
        f" {_ADD}; RESET session_replication_role"
    ),
}

# The same rows at another place: a new version or the old one, and the right answer.
REWRITES = {
    "VACUUM FULL": "VACUUM FULL graph.connections",
    "CLUSTER": "CLUSTER graph.connections USING pk_connections",
    "REINDEX": "REINDEX TABLE graph.connections",
    "ANALYZE": "ANALYZE graph.connections",
    "VACUUM FREEZE": "VACUUM (FREEZE) graph.connections",
    "SET TABLESPACE": "ALTER TABLE graph.connections SET TABLESPACE pg_default",
}


@pytest.fixture(scope="module")
def redis_server():
    server = RedisServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
def store(migrated_database, redis_server):
    with Store(migrated_database, redis_server.url) as store:
        yield store


class Store:
    """Two clients with a cache, and one without, of a store with rows in each table."""

    def __init__(self, url, redis_url):
        self.url = url
        self.clients = [ngdata.connect(url, redis_url=redis_url) for _ in range(2)]
        self.plain = ngdata.connect(url, cache="off")

    def __enter__(self):
        ids = [TOKEN, OTHER]
        places = points((3, 2, 1), (1, 2, 3), token_id=ids, weight=[1.0, 2.0])
        self.plain.tokens.bulk_create(places, level=2)
        frame = pd.DataFrame({"source_id": ids, "target_id": ids[::-1], "connection_type": "seen"})
        self.plain.graph.bulk_create(frame)
        self.plain.experience.create_event("seen")
        return self

    def __exit__(self, *_):
        for client in (*self.clients, self.plain):
            client.close()

    def fill(self):
        """Cache each answer in the memory of the first client, and in Redis."""
        for read in READS.values():
            read(self.clients[0])
            assert read(self.clients[0]).attrs["ngdata"]["source"] == "memory"
        self.clients[0]._loop.run(self.clients[0]._wrapped._reader.flush())

    def execute(self, script):
        """Run a script, each statement in a transaction of its own, as psql does."""
        command = [find_psql(), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.url]
        result = subprocess.run(
            command, input=script.replace(";", ";\n") + ";\n", capture_output=True, text=True
        )
        if "prevents table" in result.stderr:
            pytest.skip("early minor versions of PostgreSQL 16 refuse a parent for such a table")
        assert result.returncode == 0, result.stderr

    def check(self):
        """Compare the answers of both clients with the uncached ones; return those that differ."""
        return {name for name, read in READS.items() if not self._is_current(read)}

    def _is_current(self, read):
        expected = outcome(read, self.plain)
        self.clients[1]._wrapped._reader.memory.clear()
        # The first once more, out of what it has cached now.
        for client in (*self.clients, self.clients[0]):
            if not same(outcome(read, client), expected):
                return False
        return True


def outcome(read, client):
    try:
        return row_set(read(client).map(str))
    except NGDataError as error:
        return type(error)


def same(one, other):
    if isinstance(one, type) or isinstance(other, type):
        return one is other
    return one.equals(other)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_fires_no_trigger_is_seen_at_once(store, change):
    before = {name: outcome(read, store.plain) for name, read in READS.items()}
    store.fill()
    store.execute(CHANGES[change])
    after = {name: outcome(read, store.plain) for name, read in READS.items()}
    assert any(not same(before[name], after[name]) for name in READS), "it changes no answer"
    assert store.check() == set()


def test_writes_through_another_parent_are_seen(store):
    """A statement that names a parent fires its triggers alone."""
    store.execute(
        "CREATE TABLE graph.extra () INHERITS (graph.connections);"
        f"{_ROW.format(table='extra', type='extra')};"
        "CREATE TRIGGER renew_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON graph.extra"
        " FOR EACH STATEMENT EXECUTE FUNCTION tokens.renew_version('graph.connections');"
        "ALTER TABLE graph.extra ENABLE ALWAYS TRIGGER renew_version;"
        "CREATE TABLE public.parent (connection_type text NOT NULL)"
    )
    store.fill()
    for change in (
        "ALTER TABLE graph.extra INHERIT public.parent; DELETE FROM public.parent",
        f"{_ROW.format(table='extra', type='another')}",
        "DELETE FROM public.parent",
        f"{_ROW.format(table='extra', type='another')}",
        "DELETE FROM public.parent; ALTER TABLE graph.extra NO INHERIT public.parent",
    ):
        store.execute(change)
        assert store.check() == set(), change
    store.fill()
    # While it has no more parents than these, the whole is cached again.
    store.execute(f"{_ROW.format(table='extra', type='last')}")
    store.fill()
    store.execute(
        "ALTER TABLE graph.extra INHERIT public.parent; DELETE FROM public.parent;"
        "ALTER TABLE graph.extra NO INHERIT public.parent"
    )
    assert store.check() == set()


@pytest.mark.parametrize("rewrite", REWRITES)
def test_rows_at_another_place_are_the_same_answer(store, rewrite):
    store.fill()
    store.execute(REWRITES[rewrite])
    assert store.check() == set()
    # And they are cached again.
    for read in READS.values():
        assert read(store.clients[0]).attrs["ngdata"]["source"] == "memory"


def tool(name, *arguments):
    result = subprocess.run(
        [find_psql().with_name(name), *arguments], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


GRAPH = "--schema=graph"
RESTORES = {
    "with --clean": (None, [GRAPH], ["--clean"]),
    "with --clean, in one transaction": (None, [GRAPH], ["--clean", "--single-transaction"]),
    "of a dropped schema": ("DROP SCHEMA graph CASCADE", [GRAPH], []),
    "of rows": ("TRUNCATE graph.connections", [GRAPH], ["--data-only"]),
    "of rows, with --disable-triggers": (
        "TRUNCATE graph.connections",
        [GRAPH],
        ["--data-only", "--disable-triggers"],
    ),
    "of a partition, with --disable-triggers": (
        "TRUNCATE tokens.spatial_index_2",
        ["--table=tokens.spatial_index_2"],
        ["--data-only", "--disable-triggers"],
    ),
    # Its nonces are those of the answers that were cached before the dump.
    "of the versions": (None, ["--table=tokens.versions"], ["--clean"]),
    "of everything": (
        "DROP SCHEMA graph, experience, tokens CASCADE",
        [GRAPH, "--schema=tokens", "--schema=experience"],
        [],
    ),
}


@pytest.mark.parametrize("restore", RESTORES)
def test_a_restored_table_is_seen_at_once(store, tmp_path, restore):
    prepare, what, how = RESTORES[restore]
    store.fill()
    dump = tmp_path / "dump"
    tool("pg_dump", "--format=custom", *what, f"--file={dump}", store.url)
    store.execute(_ADD)
    store.execute(f"UPDATE tokens.spatial_index SET weight = 7 WHERE token_id = '{TOKEN}'")
    # Answers of the time between dump and restore, too.
    store.fill()
    if prepare is not None:
        store.execute(prepare)
        store.check()
    tool("pg_restore", *how, f"--dbname={store.url}", dump)
    assert store.check() == set()


def test_an_older_copy_of_the_servers_files_is_seen_at_once(redis_server):
    """From there, transactions and files get the numbers that lost ones had; Redis has their answers."""
    home = Path(tempfile.mkdtemp(prefix="ngdata copied "))
    copy = home / "copy"
    _local.up(home, durable=False)
    try:
        files = _local.status(home).directory / "data"
        with ngdata.connect(_local.up(home).database_url) as ng:
            ng.tokens.bulk_create(points((3, 2, 1), token_id=[TOKEN], weight=[1.0]), level=2)
        _local.down(home)
        subprocess.run(["cp", "-a", files, copy], check=True)
        numbers = []
        for factor in (2, 3):
            url = _local.up(home, durable=False).database_url
            change = f"ALTER TABLE tokens.tokens ALTER weight TYPE float8 USING weight * {factor}"
            execute(url, change)
            with ngdata.connect(url, redis_url=redis_server.url) as ng:
                assert READS["tokens"](ng).weight.tolist() == [factor]
            same_row = "SELECT xmin::text, relfilenode FROM pg_class WHERE relname = 'tokens'"
            numbers += execute(url, same_row)
            _local.down(home)
            shutil.rmtree(files)
            subprocess.run(["cp", "-a", copy, files], check=True)
        assert numbers[0] == numbers[1], "it tests nothing"
    finally:
        _local.down(home)
        shutil.rmtree(home, ignore_errors=True)


# Changes that can be made in any order, any number of times; {} is a number.
REPEATED = [
    off("graph.connections", _ADD),
    off("tokens.spatial_index_2", "UPDATE tokens.spatial_index_2 SET weight = weight + 1"),
    "ALTER TABLE tokens.spatial_index DETACH PARTITION tokens.spatial_index_2;"
    "ALTER TABLE tokens.spatial_index ATTACH PARTITION tokens.spatial_index_2 FOR VALUES IN (2)",
    "CREATE TABLE graph.extra{} () INHERITS (graph.connections);"
    + _ROW.format(table="extra{}", type="extra"),
    "CREATE TABLE graph.extra{} () INHERITS (graph.connections);"
    "ALTER TABLE graph.extra{} NO INHERIT graph.connections",
    "CREATE TABLE graph.copy{} (LIKE graph.connections INCLUDING ALL);"
    "CREATE TRIGGER renew_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON graph.copy{}"
    " FOR EACH STATEMENT EXECUTE FUNCTION tokens.renew_version('graph.connections');"
    "ALTER TABLE graph.copy{} ENABLE ALWAYS TRIGGER renew_version;"
    "BEGIN; ALTER TABLE graph.connections RENAME TO aside{};"
    "ALTER TABLE graph.copy{} RENAME TO connections; COMMIT",
    "CREATE TRIGGER renew_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE"
    " ON graph.connections FOR EACH STATEMENT"
    " EXECUTE FUNCTION tokens.renew_version('graph.connections');"
    "ALTER TABLE graph.connections ENABLE ALWAYS TRIGGER renew_version",
    "VACUUM FULL graph.connections",
    "TRUNCATE graph.connections",
    "UPDATE tokens.tokens SET weight = weight + 1",
    _ADD,
]


@pytest.mark.parametrize("seed", range(SCALE))
def test_random_changes_with_reads_in_between(store, seed):
    chance = random.Random(seed)
    for number in range(25):
        script = chance.choice(REPEATED).replace("{}", str(number))
        # Some need what another has undone.
        asyncio.run(_try(store.url, script))
        assert store.check() == set(), script


async def _try(url, script):
    connection = await asyncpg.connect(url)
    try:
        for statement in script.split(";"):
            await connection.execute(statement)
    except asyncpg.PostgresError:
        pass
    finally:
        await connection.close()


def test_an_answer_of_another_role_or_server_is_not_kept(store, monkeypatch):
    """The connection that reads the rows says who it is, not the one that asked for the version."""
    client, read = store.clients[0], READS["connections"]
    answer = read(client)
    versions = client._wrapped._reader.versions
    identity = client._loop.run(versions.identity())
    monkeypatch.setattr(versions, "_identity", identity._replace(name="another"))
    for _ in range(3):
        frame = read(client)
        assert frame.attrs["ngdata"]["source"] == "database"
        pd.testing.assert_frame_equal(frame, answer)


def test_a_connection_that_is_lost_while_idle_is_opened_again(store):
    """asyncpg raises InternalClientError between the server's last message and the end."""
    store.fill()
    client = store.clients[0]
    connection = client._wrapped._reader.versions._connection
    store.execute(_ADD)
    store.execute(f"SELECT pg_terminate_backend({connection.get_server_pid()})")
    assert len(READS["connections"](client)) == 3
