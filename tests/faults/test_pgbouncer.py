"""PgBouncer in transaction mode between the client and the server.

Two server connections serve all clients, so anything that a client left on one of them, or expected
there, would fail a test at once.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

import ngdata
from ngdata._config.settings import load_settings
from ngdata._connections import revision
from ngdata._store import migrate
from ngdata.admin.doctor import examine
from ngdata.admin.reindex import Reindexed, reindex
from ngdata.errors import ConfigError, DatabaseUnavailable, IntegrityError, QueryTimeout
from tests.conftest import execute
from tests.faults.conftest import wait_until
from tests.round_trips import counted

PASSWORD = "pass:word@bouncer"
CONFIGURATION = """
[databases]
* = host={sockets} port=5432 user=ngdata
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {directory}
auth_type = scram-sha-256
auth_file = {directory}/users
pool_mode = transaction
default_pool_size = 2
logfile = {directory}/log
pidfile = {directory}/pid
{more}
"""


class PgBouncer:
    """A PgBouncer in front of a server; the fixture stops it."""

    def __init__(self, database_url: str, more: str = "") -> None:
        parts = urlsplit(database_url)
        sockets = unquote(parts.query.split("host=")[1].split("&")[0])
        self.directory = Path(tempfile.mkdtemp(prefix="bouncer"))
        self.url = (
            f"postgresql://ngdata:{quote(PASSWORD, safe='')}@{parts.path}"
            f"?host={quote(str(self.directory))}&port=6432"
        )
        text = CONFIGURATION.format(sockets=sockets, directory=self.directory, more=more)
        (self.directory / "pgbouncer.ini").write_text(text)
        (self.directory / "users").write_text(f'"ngdata" "{PASSWORD}"\n')
        # It refuses to run as root, and the server admits the user that the server itself runs as.
        user = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            for path in (self.directory, *self.directory.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "install pgbouncer: scripts/install-system-packages --for-tests"
        self.process = subprocess.Popen(
            [program, "--quiet", self.directory / "pgbouncer.ini"], cwd="/", **user
        )
        wait_until(self._listens)

    def _listens(self) -> bool:
        # The socket exists a moment before PgBouncer listens on it.
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.directory / ".s.PGSQL.6432")) == 0

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.directory)


@pytest.fixture
def bouncer(database_url: str) -> Iterator[PgBouncer]:
    instance = PgBouncer(database_url)
    yield instance
    instance.close()


@pytest.fixture
def through(bouncer: PgBouncer) -> Iterator[ngdata.Client]:
    """Yield a client that connects through PgBouncer only."""
    with ngdata.connect(bouncer.url) as client:
        yield client


def points(many: int, **more: object) -> pd.DataFrame:
    x, y, z = np.random.default_rng(1).random((3, many))
    return pd.DataFrame({"x": x, "y": y, "z": z} | more)


def test_written_rows_are_read_back(through, database_url):
    ids = through.tokens.bulk_create(points(2_000, token_type="back\\slash's"))
    box = ((0.0, 0.0, 0.0), (0.5, 1.0, 1.0))
    frame = through.tokens.find_in_region(*box, token_type="back\\slash's")
    with ngdata.connect(database_url) as direct:
        expected = direct.tokens.find_in_region(*box)
    pd.testing.assert_frame_equal(
        frame.sort_values("token_id", ignore_index=True),
        expected.sort_values("token_id", ignore_index=True),
    )
    assert 0 < len(frame) < 2_000
    assert sum(map(len, through.tokens.iter_region(*box, chunk_rows=100))) == len(frame)
    settings = (
        "current_setting('TimeZone') AS zone, (SELECT count(*) FROM pg_prepared_statements) AS n"
    )
    for statement, params in (
        ("$1::text", ["UTC"]),
        ("set_config('TimeZone', $1, false)", ["Asia/Tokyo"]),
    ):
        count = f"SELECT count(*) AS many, {statement} AS a FROM tokens.tokens"
        assert through.sql(count, params).loc[0].tolist() == [2_000, *params]
        assert through.sql(f"SELECT {settings}").loc[0].tolist() == ["UTC", 0]
    first, second = ids[:2]
    through.graph.create_connection(first, second, weight=2.0)
    assert list(through.graph.get_neighbors(first)["neighbor_id"]) == [second]
    through.experience.create_event("seen", token_id=first, reward=1.5, state_after={"a": 1})
    assert through.experience.get_recent_events()["state_after"].tolist() == [{"a": 1}]
    execute(database_url, "ANALYZE tokens.spatial_index")  # statistics outlive other tests' rows
    assert through.explain(through.tokens.find_nearest, (0, 0, 0), k=1).uses_spatial_index
    # Each has a temporary table of the same name on the same two connections of the server.
    for weight in (2.0, 3.0, 4.0):
        assert through.tokens.bulk_update({"token_id": ids, "weight": weight}) == 2_000
        assert through.graph.bulk_update(through.graph.connections().assign(weight=weight)) == 1
    assert through.tokens.get(ids).weight.unique().tolist() == [4.0]
    assert through.tokens.delete([first]) == 1
    assert through.tokens.delete(within=box, token_type="back\\slash's") == len(
        frame[frame.token_id != first]
    )
    assert through.health()["ok"]


def test_the_doctor_reports_the_pooler_and_no_problem(bouncer):
    findings = examine(load_settings(database_url=bouncer.url))
    assert [finding for finding in findings if finding.state == "wrong"] == []
    assert any(f.observed.endswith(", through a connection pooler") for f in findings)
    assert reindex(load_settings(database_url=bouncer.url)) == Reindexed(0, 0)


def test_a_failed_write_writes_nothing(through):
    [existing] = through.tokens.bulk_create(points(1))
    with pytest.raises(IntegrityError, match=existing):
        through.tokens.bulk_create(points(2).assign(token_id=[None, existing]))
    assert through.tokens.count_in_region((0, 0, 0), (1, 1, 1)) == 1


def test_many_clients_share_two_connections_and_answers_stay_apart(bouncer):
    """Concurrent answers have different columns, which must not be confused."""

    async def reads(client, number):
        for _ in range(10):
            count = await client.tokens.count_in_region((0, 0, 0), (1, 1, 1))
            box = await client.tokens.find_in_region((0, 0, 0), (1, 1, 1), limit=number + 1)
            events = await client.experience.get_recent_events(number + 1)
            assert (count, len(box), len(events)) == (50, number + 1, number + 1)
            assert await client.experience.create_event("more")

    async def all_at_once():
        clients = [await ngdata.connect_async(bouncer.url) for _ in range(4)]
        await clients[0].tokens.bulk_create(points(50))
        for _ in clients:
            await clients[0].experience.create_event("first")
        await asyncio.gather(*(reads(c, n) for n, c in enumerate(clients) for _ in range(3)))
        for client in clients:
            await client.close()

    asyncio.run(all_at_once())


def test_no_setting_or_statement_is_left_for_the_next_client(bouncer):
    """PgBouncer itself applies a client's encoding and name to the server connection."""
    settings = (
        "SELECT name FROM pg_settings WHERE source = 'session'"
        " AND name NOT IN ('client_encoding', 'application_name')"
    )
    with ngdata.connect(bouncer.url) as client:
        client.tokens.bulk_create(points(10))
        client.tokens.find_in_region((0, 0, 0), (1, 1, 1))
    assert execute(bouncer.url, settings) == []
    assert execute(bouncer.url, "SELECT name FROM pg_prepared_statements") == []


def test_a_cancelled_query_ends_on_the_server_and_the_client_stays_usable(bouncer, database_url):
    ours = "pid <> pg_backend_pid() AND application_name = 'ngdata' AND state <> 'idle'"
    count = f"SELECT count(*) FROM pg_stat_activity WHERE {ours}"

    async def read_and_write():
        client = await ngdata.connect_async(bouncer.url)
        holder = adbc.connect(database_url)
        with holder.cursor() as cursor:
            cursor.execute("LOCK TABLE tokens.tokens, tokens.spatial_index")
        for work in (
            client.tokens.find_in_region((0, 0, 0), (1, 1, 1)),
            client.tokens.create({0: (0.5, 0.5, 0.5)}),
        ):
            task = asyncio.create_task(work)
            while execute(database_url, count + " AND wait_event_type = 'Lock'") != [(1,)]:
                await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            wait_until(lambda: execute(database_url, count) == [(0,)])
        holder.rollback()
        holder.close()
        assert await client.tokens.count_in_region((0, 0, 0), (1, 1, 1)) == 0
        await client.tokens.create({0: (0.5, 0.5, 0.5)})
        assert await client.tokens.count_in_region((0, 0, 0), (1, 1, 1)) == 1
        await client.close()

    asyncio.run(read_and_write())


def test_a_single_write_prepares_its_statement_each_time(bouncer):
    """The next transaction may be on another connection of the server: two clients take turns."""
    with (
        counted(bouncer.url) as trips,
        ngdata.connect(trips.url) as one,
        ngdata.connect(bouncer.url) as two,
    ):
        for client in (one, two) * 3:
            before = trips.count
            token = client.tokens.create({0: (1, 2, 3)})
            # BEGIN, the session's settings, twice the statement, COMMIT.
            assert trips.count - before == (5 if client is one else 0)
            assert client.tokens.update(token, weight=2.0) == client.tokens.delete(token) == 1


def test_an_iteration_that_ends_early_releases_its_connection(through, database_url):
    through.tokens.bulk_create(points(3_000))
    for _ in range(4):  # more often than there are connections
        for frame in through.tokens.iter_region((0, 0, 0), (1, 1, 1), chunk_rows=10):
            assert len(frame) == 10
            break
    assert through.tokens.count_in_region((0, 0, 0), (1, 1, 1)) == 3_000


def test_the_pool_limit_of_the_client_applies(bouncer):
    with ngdata.connect(bouncer.url, pool_max_size=1, pool_timeout=0.1) as client:
        client.tokens.bulk_create(points(3_000))
        frames = client.tokens.iter_region((0, 0, 0), (1, 1, 1), chunk_rows=10)
        next(frames)
        with pytest.raises(DatabaseUnavailable, match="pool_max_size"):
            client.tokens.count_in_region((0, 0, 0), (1, 1, 1))
        frames.close()
        assert client.tokens.count_in_region((0, 0, 0), (1, 1, 1)) == 3_000


@pytest.mark.parametrize("more", ["", "ignore_startup_parameters = statement_timeout"])
def test_a_setting_that_would_not_last_is_refused_at_connect(database_url, more):
    bouncer = PgBouncer(database_url, more)
    try:
        with pytest.raises(ConfigError, match=r"ALTER ROLE .* SET statement_timeout") as caught:
            ngdata.connect(bouncer.url, statement_timeout=5)
        assert PASSWORD not in str(caught.value)
        assert "pooler" in str(caught.value)
    finally:
        bouncer.close()


def test_a_setting_of_the_role_works_instead(bouncer, database_url):
    execute(database_url, "ALTER ROLE ngdata SET statement_timeout = '100ms'")
    try:
        with ngdata.connect(bouncer.url) as client, adbc.connect(database_url) as holder:
            with holder.cursor() as cursor:
                cursor.executescript("BEGIN; LOCK TABLE tokens.spatial_index")
            with pytest.raises(QueryTimeout):
                client.tokens.find_in_region((0, 0, 0), (1, 1, 1))
    finally:
        execute(database_url, "ALTER ROLE ngdata RESET statement_timeout")


def test_migrations_pass_through(bouncer, empty_database):
    """Two processes in a row: each numbers its prepared statements from one."""
    url = bouncer.url.replace("/ngdata?", f"{urlsplit(empty_database).path}?")
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", "from ngdata.admin.cli import app; app(['migrate'])"],
            env=os.environ | {"NGDATA_DATABASE_URL": url},
            check=True,
        )
    migrate.downgrade(url, "0001")
    migrate.upgrade(url)
    with ngdata.connect(url) as client:
        assert client.health()["database"]["revision"] == revision.HEAD


HOSTILE = {
    "TimeZone": "Asia/Kathmandu",
    "DateStyle": "German, DMY",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
    "extra_float_digits": "-15",
    "default_transaction_isolation": "serializable",
    "row_security": "off",
    "session_replication_role": "replica",
    "search_path": "",
}


def test_settings_of_the_role_change_nothing(bouncer, database_url):
    """No setting lasts behind the pooler, so each transaction sets them."""
    times = pd.date_range("2024-03-30T12:00Z", periods=4, freq="12h")
    with ngdata.connect(database_url) as direct:
        ids = direct.tokens.bulk_create(points(2_000, token_type="é\\'"))
        direct.experience.bulk_create({"event_type": "tick", "timestamp": times})
        box = ((0.0, 0.0, 0.0), (0.5, 1.0, 1.0))
        expected = direct.tokens.find_in_region(*box, token_type="é\\'")
        days = direct.experience.resample_rewards("D")
    for name, value in HOSTILE.items():
        execute(database_url, f"ALTER ROLE ngdata SET {name} = '{value}'")
    try:
        with ngdata.connect(bouncer.url, cache="off") as client:
            frame = client.tokens.find_in_region(*box, token_type="é\\'")
            pd.testing.assert_frame_equal(
                frame.sort_values("token_id", ignore_index=True),
                expected.sort_values("token_id", ignore_index=True),
            )
            rows = pd.concat(client.tokens.iter_region(*box, chunk_rows=100))
            assert sorted(rows["token_id"]) == sorted(expected["token_id"])
            pd.testing.assert_frame_equal(client.experience.resample_rewards("D"), days)
            with pytest.raises(IntegrityError):  # foreign keys are checked
                client.graph.create_connection(ids[0], "00000000-0000-4000-8000-00000000dead")
            assert client.graph.create_connection(ids[0], ids[1])
            settings = ("TimeZone", "search_path", "transaction_isolation")

            async def seen(shared):
                async with shared._database.transaction() as connection:
                    return [await connection.fetchval(f"SHOW {name}") for name in settings]

            assert asyncio.run(_with_client(bouncer.url, seen)) == [
                *("UTC", "public, public, pg_temp", "read committed"),
            ]
    finally:
        execute(database_url, "ALTER ROLE ngdata RESET ALL")


async def _with_client(url, work):
    async with await ngdata.connect_async(url) as client:
        return await work(client)


def test_entities_have_the_settings_in_each_transaction(bouncer, database_url):
    execute(database_url, "ALTER ROLE ngdata SET TimeZone = 'Asia/Kathmandu'")

    async def zones(client):
        shown = []
        async with client._database.session() as session:
            for _ in range(2):
                shown.append((await session.execute(text("SHOW TimeZone"))).scalar())
                await session.commit()
        return shown

    try:
        assert asyncio.run(_with_client(bouncer.url, zones)) == ["UTC", "UTC"]
    finally:
        execute(database_url, "ALTER ROLE ngdata RESET TimeZone")


def test_quoted_identifiers_are_refused_at_connect(bouncer, database_url):
    """The reading driver looks up types by name before it can set anything."""
    execute(database_url, "ALTER ROLE ngdata SET quote_all_identifiers = on")
    try:
        with pytest.raises(ConfigError, match=r"ALTER ROLE .* SET quote_all_identifiers = off"):
            ngdata.connect(bouncer.url)
    finally:
        execute(database_url, "ALTER ROLE ngdata RESET quote_all_identifiers")
