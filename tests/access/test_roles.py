"""Owner, writer and analyst, each logged in: their rights, and who creates the groups."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import pandas as pd
import psycopg
import pytest

import ngdata
from ngdata._store import migrate
from ngdata.errors import ConfigError
from tests.access.conftest import PASSWORD

GROUPS = ("ngdata_writer", "ngdata_analyst")
WRITTEN_TABLES = [
    "experience.experience_events",
    "experience.experience_trajectories",
    "graph.connections",
    "graph.graph_snapshots",
    "tokens.tokens",
]
EVERYTHING = ((-9, -9, -9), (9, 9, 9))

WRITABLE = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname IN ('tokens', 'graph', 'experience') AND relkind IN ('r', 'p')
    AND has_table_privilege('{0}', c.oid, '{1}')
ORDER BY 1
"""


def refused(url, statement):
    """Check that the server refuses a statement for lack of rights."""
    with adbc.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        with pytest.raises(adbc.Error) as caught:
            cursor.execute(statement)
        assert caught.value.sqlstate == "42501", caught.value


def may(server, role, privilege, database="store"):
    return [name for (name,) in server.run(WRITABLE.format(role, privilege), database=database)]


@contextmanager
def login(server, *grants):
    """Yield the name of a login role, a member of other roles, that exists for the block."""
    name = f"role_{uuid.uuid4().hex[:8]}"
    server.run(
        f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'",
        *(f"GRANT {group} TO {name}" for group in grants),
    )
    try:
        yield name
    finally:
        databases = server.run("SELECT datname FROM pg_database WHERE datallowconn")
        for (database,) in databases:
            server.run(f"DROP OWNED BY {name}", database=database)
        server.run(f"DROP ROLE {name}")


@contextmanager
def database(server, owner="postgres"):
    """Yield the name of an empty database with PostGIS."""
    name = f"db_{uuid.uuid4().hex[:8]}"
    server.run(f"CREATE DATABASE {name} OWNER {owner}")
    server.run("CREATE EXTENSION postgis", database=name)
    try:
        yield name
    finally:
        server.run(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def no_groups(server):
    """Rename the groups for the block, as in a cluster without them."""
    for group in GROUPS:
        server.run(f"ALTER ROLE {group} RENAME TO {group}_aside")
    try:
        yield
    finally:
        for group in GROUPS:
            server.run(
                f"DROP ROLE IF EXISTS {group}", f"ALTER ROLE {group}_aside RENAME TO {group}"
            )


def groups(server):
    rows = server.run("SELECT rolname FROM pg_roles WHERE rolname LIKE 'ngdata%' ORDER BY 1 DESC")
    return tuple(name for (name,) in rows if not name.endswith("_aside"))


@pytest.fixture
def stored(tcp_server) -> Iterator[str]:
    """The id of a stored token, with a connection to itself and an event."""
    with ngdata.connect(tcp_server.url()) as ng:
        token = ng.tokens.create({0: (1, 2, 3)})
        ng.graph.create_connection(token, token)
        ng.experience.create_event("seen", token_id=token)
    yield token
    tcp_server.run("TRUNCATE tokens.tokens, experience.experience_events CASCADE")


def test_a_writer(tcp_server):
    with login(tcp_server, "ngdata_writer") as name, ngdata.connect(tcp_server.url(name)) as ng:
        first = ng.tokens.create({0: (0, 0, 0)})
        frame = pd.DataFrame({"x": np.arange(5.0), "y": 1.0, "z": 1.0})
        ids = ng.tokens.bulk_create(frame)
        assert len(ng.tokens.find_in_region(*EVERYTHING)) == 6
        ng.tokens.update(first, coords={0: (50, 50, 50)})
        assert list(ng.tokens.find_in_region(*EVERYTHING)["token_id"].sort_values()) == sorted(ids)
        ng.set_level("abstract", unit="mm")
        ng.graph.create_connection(first, ids[0])
        ng.graph.bulk_create(pd.DataFrame({"source_id": ids[:2], "target_id": ids[2:4].array}))
        edges = ng.graph.connections()
        assert len(edges) == 3
        assert ng.graph.bulk_update(edges.assign(weight=2.0)) == 3
        assert ng.tokens.bulk_update({"token_id": ids, "weight": 2.0}) == 5

        trajectory = str(uuid.uuid4())
        for reward in (1.5, 2.5):
            ng.experience.create_event("step", reward=reward, trajectory_id=trajectory)
        assert tcp_server.run(
            "SELECT event_count, total_reward FROM experience.experience_trajectories"
            f" WHERE id = '{trajectory}'"
        ) == [(2, 4.0)]
        assert ng.tokens.delete([first, *ids]) == 6
        assert len(ng.graph.connections()) == 0
        tcp_server.run("TRUNCATE experience.experience_events CASCADE")


def test_a_writer_writes_no_derived_table(tcp_server, stored):
    for privilege in ("INSERT", "UPDATE", "DELETE"):
        assert may(tcp_server, "ngdata_writer", privilege) == WRITTEN_TABLES
    for privilege in ("TRUNCATE", "REFERENCES", "TRIGGER"):
        assert may(tcp_server, "ngdata_writer", privilege) == []
    with login(tcp_server, "ngdata_writer") as name:
        url = tcp_server.url(name)
        for statement in (
            "DELETE FROM tokens.spatial_index",
            "DELETE FROM tokens.levels",
            "UPDATE tokens.levels SET name = 'other'",
            "DELETE FROM tokens.spatial_index_0",
            "UPDATE tokens.spatial_index SET weight = 2",
            "TRUNCATE tokens.tokens",
            "UPDATE tokens.alembic_version SET version_num = '0001'",
            "ALTER TABLE tokens.tokens DISABLE TRIGGER USER",
            "CREATE TABLE tokens.mine (id int)",
            "SELECT tokens.grant_access('ngdata_analyst', 'writer')",
            "SELECT tokens.index_truncate()",
        ):
            refused(url, statement)
        with pytest.raises(ConfigError, match="lacks a right"):
            migrate.downgrade(url)
    with ngdata.connect(tcp_server.url()) as ng:
        assert list(ng.tokens.find_in_region(*EVERYTHING)["token_id"]) == [stored]


def test_an_analyst_reads_all(tcp_server, stored):
    with login(tcp_server, "ngdata_analyst") as name, ngdata.connect(tcp_server.url(name)) as ng:
        assert list(ng.tokens.find_in_region(*EVERYTHING)["token_id"]) == [stored]
        assert list(ng.tokens.find_nearest((0, 0, 0), k=3)["token_id"]) == [stored]
        assert list(ng.tokens.find_within((1, 2, 3), 0)["token_id"]) == [stored]
        assert list(ng.tokens.get([stored])["token_id"]) == [stored]
        assert ng.tokens.count_in_region(*EVERYTHING) == 1
        assert ng.tokens.density(*EVERYTHING)["count"].sum() == 1
        assert [len(part) for part in ng.tokens.iter_region(*EVERYTHING)] == [1]
        assert len(ng.graph.get_neighbors(stored)) == 0
        assert list(ng.graph.get_degree([stored])["total_degree"]) == [2]
        assert len(ng.graph.connections()) == 1
        assert list(ng.experience.get_events(token_ids=[stored])["event_type"]) == ["seen"]
        assert len(ng.experience.get_recent_events()) == 1
        assert ng.health()["database"]["ok"]
        assert ng.explain(ng.tokens.find_in_region, *EVERYTHING).text


def each_write(token):
    frame = pd.DataFrame({"x": [0.0], "y": [0.0], "z": [0.0]})
    edges = pd.DataFrame({"source_id": [token], "target_id": [token]})
    events = pd.DataFrame({"event_type": ["a"], "timestamp": [0]})
    return [
        lambda ng: ng.tokens.create({0: (0, 0, 0)}),
        lambda ng: ng.tokens.bulk_create(frame),
        lambda ng: ng.tokens.update(token, weight=2.0),
        lambda ng: ng.tokens.bulk_update({"token_id": [token], "weight": 2.0}),
        lambda ng: ng.tokens.delete([token]),
        lambda ng: ng.tokens.delete(within=EVERYTHING),
        lambda ng: ng.set_level(7, unit="mm"),
        lambda ng: ng.graph.create_connection(token, token),
        lambda ng: ng.graph.bulk_create(edges),
        lambda ng: ng.graph.delete(source=token),
        lambda ng: ng.experience.create_event("a"),
        lambda ng: ng.graph.delete_snapshots(token),
        lambda ng: ng.experience.delete_events(start=0),
        lambda ng: ng.experience.delete_trajectories(token),
        lambda ng: ng.experience.bulk_create(events),
    ]


def test_an_analyst_writes_nothing(tcp_server, stored):
    for privilege in ("INSERT", "UPDATE", "DELETE", "TRUNCATE"):
        assert may(tcp_server, "ngdata_analyst", privilege) == []
    with login(tcp_server, "ngdata_analyst") as name, ngdata.connect(tcp_server.url(name)) as ng:
        for write in each_write(stored):
            with pytest.raises(ConfigError, match="lacks a right"):
                write(ng)
        assert ng.tokens.count_in_region(*EVERYTHING) == 1


@pytest.mark.parametrize("source", ["argument", "environment", "file"])
def test_read_only(tcp_server, stored, source, monkeypatch, tmp_path):
    """Even for a superuser; the server itself refuses writes."""
    arguments = {}
    if source == "argument":
        arguments["read_only"] = True
    elif source == "environment":
        monkeypatch.setenv("NGDATA_READ_ONLY", "true")
    else:
        arguments["config"] = tmp_path / "database.yaml"
        arguments["config"].write_text("database: {postgres: {read_only: true}}")
    with ngdata.connect(tcp_server.url(), **arguments) as ng:
        for write in each_write(stored):
            with pytest.raises(ConfigError, match="this connection may only read") as caught:
                write(ng)
            assert caught.value.sqlstate == "25006"
        # Both kinds of connections are read-only, whatever the URL sets.
        assert list(ng.tokens.find_in_region(*EVERYTHING)["token_id"]) == [stored]
        assert len(ng.graph.connections()) == 1


def test_read_only_overrides_the_url(tcp_server):
    url = tcp_server.url(options="-c default_transaction_read_only=off -c work_mem=1MB")
    with (
        ngdata.connect(url, read_only=True) as ng,
        pytest.raises(ConfigError, match="this connection may only read"),
    ):
        ng.tokens.create({0: (0, 0, 0)})


def test_a_role_without_access(tcp_server):
    with login(tcp_server) as name, pytest.raises(ConfigError, match="lacks a right"):
        ngdata.connect(tcp_server.url(name))


def test_a_wrong_password(tcp_server):
    with pytest.raises(ConfigError, match="check user and password"):
        ngdata.connect(tcp_server.url(password="wrong"))


def test_an_owner_without_other_rights(tcp_server):
    """Without CREATEROLE and superuser: migrates, has all rights, and grants access."""
    with ExitStack() as stack:
        stack.enter_context(no_groups(tcp_server))
        owner = stack.enter_context(login(tcp_server))
        name = stack.enter_context(database(tcp_server, owner))
        url = tcp_server.url(owner, database=name)
        migrate.upgrade(url)
        assert groups(tcp_server) == ()

        with ngdata.connect(url) as ng:
            token = ng.tokens.create({0: (1, 1, 1)})
            assert list(ng.tokens.find_in_region(*EVERYTHING)["token_id"]) == [token]

        with login(tcp_server) as reader:
            as_reader = tcp_server.url(reader, database=name)
            with adbc.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
                cursor.execute(f"SELECT tokens.grant_access('{reader}', 'analyst')")
                # Later tables are readable too.
                cursor.execute("CREATE TABLE graph.later (id int)")
            with ngdata.connect(as_reader) as ng:
                assert list(ng.tokens.find_in_region(*EVERYTHING)["token_id"]) == [token]
            assert "graph.later" in may(tcp_server, reader, "SELECT", name)
            assert may(tcp_server, reader, "INSERT", name) == []

        with adbc.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("DROP TABLE graph.later")
        migrate.downgrade(url)
        assert tcp_server.run("SELECT to_regnamespace('graph')", database=name) == [(None,)]


def test_access_changes(tcp_server):
    def grant(role, access):
        tcp_server.run(f"SELECT tokens.grant_access('{role}', '{access}')")

    odd = "Ann O''Neil"
    tcp_server.run('CREATE ROLE "Ann O\'Neil"')
    try:
        grant(odd, "writer")
        assert may(tcp_server, odd, "INSERT") == WRITTEN_TABLES
        grant(odd, "analyst")
        assert may(tcp_server, odd, "INSERT") == []
        assert may(tcp_server, odd, "SELECT") == may(tcp_server, "postgres", "SELECT")
        grant(odd, "none")
        # Everyone may read these, but needs USAGE of the schema to, which this role lacks now.
        assert may(tcp_server, odd, "SELECT") == ["tokens.levels", "tokens.pins"]
    finally:
        # DROP ROLE works only if no right is left.
        tcp_server.run('DROP ROLE "Ann O\'Neil"')

    for role, access, match in (
        ("nobody", "writer", "there is no role 'nobody'"),
        ("public", "analyst", "there is no role 'public'"),
        ("postgres", "analyst", "postgres owns the tables"),
        ("ngdata_analyst", "reader", "writer, analyst or none, not 'reader'"),
    ):
        with pytest.raises(psycopg.Error, match=match):
            grant(role, access)


def test_groups_are_dropped_when_unused(tcp_server):
    with no_groups(tcp_server), database(tcp_server) as one, database(tcp_server) as other:
        first, second = (tcp_server.url(database=name) for name in (one, other))
        migrate.upgrade(first)
        assert groups(tcp_server) == GROUPS
        migrate.upgrade(second)

        migrate.downgrade(first)
        assert groups(tcp_server) == GROUPS, "the other database needs them"
        with login(tcp_server, "ngdata_analyst") as name:
            migrate.downgrade(second)
            assert groups(tcp_server) == ("ngdata_analyst",), "it has a member"
            migrate.upgrade(first)
            with ngdata.connect(tcp_server.url(name, database=one)) as ng:
                assert ng.tokens.count_in_region(*EVERYTHING) == 0
        migrate.downgrade(first)
        assert groups(tcp_server) == ()


def test_each_revision_grants_access_to_its_own_tables(tcp_server):
    with database(tcp_server) as name:
        for revision, schemas in (
            ("0001", ("tokens",)),
            ("0002", ("tokens", "graph")),
            ("0003", ("tokens", "graph", "experience")),
        ):
            migrate.upgrade(tcp_server.url(database=name), revision)
            writable = [table for table in WRITTEN_TABLES if table.startswith(schemas)]
            assert may(tcp_server, "ngdata_writer", "INSERT", name) == writable
            assert may(tcp_server, "ngdata_analyst", "INSERT", name) == []
            for role in GROUPS:
                readable = may(tcp_server, role, "SELECT", name)
                assert readable == may(tcp_server, "postgres", "SELECT", name)
        migrate.downgrade(tcp_server.url(database=name), "0002")
        assert may(tcp_server, "ngdata_writer", "INSERT", name) == [*WRITTEN_TABLES[2:]]


def test_concurrent_migrations_of_several_databases(tcp_server):
    code = "import sys; from ngdata._store.migrate import upgrade; upgrade(sys.argv[1])"
    with no_groups(tcp_server), ExitStack() as stack:
        names = [stack.enter_context(database(tcp_server)) for _ in range(3)]
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code, tcp_server.url(database=name)],
                stderr=subprocess.PIPE,
                text=True,
            )
            for name in names
        ]
        for process in started:
            assert process.communicate()[1] == ""
            assert process.returncode == 0
        for name in names:
            assert may(tcp_server, "ngdata_writer", "INSERT", name) == WRITTEN_TABLES
            migrate.downgrade(tcp_server.url(database=name))


def test_objects_of_other_owners_are_not_granted(tcp_server):
    with ExitStack() as stack:
        owner = stack.enter_context(login(tcp_server))
        name = stack.enter_context(database(tcp_server, owner))
        migrate.upgrade(tcp_server.url(owner, database=name))
        tcp_server.run("CREATE TABLE graph.theirs (id int)", database=name)
        with (
            adbc.connect(tcp_server.url(owner, database=name), autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT tokens.grant_access('ngdata_analyst', 'analyst')")
        assert "graph.theirs" not in may(tcp_server, "ngdata_analyst", "SELECT", name)
