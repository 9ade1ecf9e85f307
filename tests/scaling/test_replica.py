"""A real standby: its versions are those of the rows it shows, however far it lags."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import pytest

import ngdata
from ngdata._local.account import Account, account_for
from ngdata._local.binaries import find_postgres
from ngdata._store import migrate, owner_locks
from ngdata.errors import ConfigError, ConsistencyError, NGDataError, NotFoundError
from tests.scaling.conftest import LIMITS, random_tokens, whole

HBA = "local all all peer map=tests\nlocal replication all peer map=tests\n"
SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{directory}'
unix_socket_permissions = 0700
fsync = off
shared_buffers = 32MB
hot_standby_feedback = on
max_prepared_transactions = 5
"""


@dataclass
class Node:
    """One of the two servers, to start and to query."""

    account: Account
    data: Path
    sockets: Path

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/store?host={self.sockets}&port=5432"

    def control(self, command: str, *options: Any) -> None:
        program = find_postgres().bin / "pg_ctl"
        process = self.account.run([program, command, "-w", "-D", self.data, *options])
        assert process.returncode == 0, (
            process.stdout,
            process.stderr,
            self.account.tail(self.log),
        )

    @property
    def log(self) -> Path:
        return self.data.parent / f"{self.data.name}.log"

    def start(self) -> None:
        self.account.write(self.data / "postgresql.conf", SETTINGS.format(directory=self.sockets))
        self.control("start", "-l", self.log)

    def fetch(self, statement: str, database: str = "store") -> Any:
        url = self.url.replace("/store?", f"/{database}?")
        with adbc.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
            cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Node, Node]]:
    """A primary and a standby that streams from it."""
    import os
    import shutil

    account = account_for()
    top = Path(tempfile.mkdtemp(prefix="ngdata-pair-", dir="/tmp"))
    shutil.chown(top, account.uid, account.gid)
    nodes = []
    for name in ("primary", "standby"):
        sockets = top / f"s-{name}"
        assert account.run(["mkdir", "-m", "700", sockets]).returncode == 0
        nodes.append(Node(account, top / name, sockets))
    primary, standby = nodes
    binaries = find_postgres().bin
    initdb = account.run(
        [
            *(binaries / "initdb", "-D", primary.data, "-U", "postgres", "--no-sync"),
            *("--auth=peer", "--encoding=UTF8", "--locale=C"),
        ]
    )
    assert initdb.returncode == 0, initdb.stderr
    import pwd

    users = {pwd.getpwuid(uid).pw_name for uid in (os.getuid(), account.uid)}
    account.write(primary.data / "pg_hba.conf", HBA)
    account.write(
        primary.data / "pg_ident.conf", "".join(f"tests {user} postgres\n" for user in users)
    )
    started = []
    try:
        primary.start()
        started.append(primary)
        primary.fetch("CREATE DATABASE store", "postgres")
        migrate.upgrade(primary.url)
        backup = account.run(
            [
                *(binaries / "pg_basebackup", "-D", standby.data, "-R", "-X", "stream"),
                *("--no-sync", "-c", "fast", "-h", primary.sockets, "-U", "postgres"),
            ]
        )
        assert backup.returncode == 0, backup.stderr
        standby.start()
        started.append(standby)
        yield primary, standby
    finally:
        for node in reversed(started):
            node.control("stop", "-m", "immediate")
        account.remove(top)
        shutil.rmtree(top, ignore_errors=True)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.05)


def replayed(primary: Node, standby: Node) -> None:
    """Wait until the standby has replayed all that the primary has written so far."""
    written = primary.fetch("SELECT pg_current_wal_lsn()::text")
    until(lambda: standby.fetch(f"SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn") is True)


def version(client: ngdata.Client) -> str:
    return client.tokens.find_in_region(*LIMITS).attrs["ngdata"]["version"]


def test_partitions_from_a_replica(pair):
    primary, standby = pair
    with ngdata.connect(primary.url) as ng, ngdata.connect(standby.url) as replica:
        ng.tokens.delete(ng.tokens.find_in_region(*LIMITS).token_id)
        ng.tokens.bulk_create(random_tokens(1, 100))
        replayed(primary, standby)
        assert version(ng) == version(replica)
        frame = ng.tokens.to_dask(*LIMITS, npartitions=4, url=standby.url, consistent=True)
        assert len(whole(frame)) == 100
        assert replica.health()["ok"]
        standby.fetch("SELECT pg_wal_replay_pause()")
        try:
            ids = ng.tokens.bulk_create(random_tokens(2, 11))
            # The rows that the standby shows have not changed, so the frame is consistent.
            assert len(whole(frame)) == 100
            assert len(replica.tokens.find_in_region(*LIMITS)) == 100
            # The primary's version is not yet the standby's.
            assert version(ng) != version(replica)
            assert ng.tokens.count_in_region(*LIMITS) == 111
        finally:
            standby.fetch("SELECT pg_wal_replay_resume()")
        replayed(primary, standby)
        with pytest.raises(ConsistencyError):
            whole(frame)
        # A cached answer of the standby is valid by the standby's own version.
        frame = replica.tokens.find_in_region(*LIMITS)
        assert set(ids) <= set(frame.token_id)
        assert version(ng) == version(replica)


def test_workers_on_a_standby_that_lags_behind_the_planned_version(pair, monkeypatch):
    """The frame is planned on the primary; the workers read a standby that lags."""
    primary, standby = pair
    monkeypatch.setenv("NGDATA_DATABASE_URL", standby.url)
    with ngdata.connect(primary.url) as ng:
        ng.tokens.bulk_create(random_tokens(3, 5))
        replayed(primary, standby)
        standby.fetch("SELECT pg_wal_replay_pause()")
        try:
            ng.tokens.bulk_create(random_tokens(4, 5))
            frame = ng.tokens.to_dask(*LIMITS, npartitions=2, url="environment", consistent=True)
            with pytest.raises(ConsistencyError):
                whole(frame)
        finally:
            standby.fetch("SELECT pg_wal_replay_resume()")
        replayed(primary, standby)
        assert len(whole(frame)) == ng.tokens.count_in_region(*LIMITS)


def test_a_replica_refuses_writes(pair):
    primary, standby = pair
    with ngdata.connect(primary.url) as ng:
        ng.tokens.bulk_create(random_tokens(6, 3))
    replayed(primary, standby)
    with ngdata.connect(standby.url) as replica:
        with pytest.raises(ConfigError, match="may only read"):
            replica.tokens.bulk_create(random_tokens(5, 5))
        assert len(replica.tokens.find_nearest((0, 0, 0), k=3)) == 3


def test_a_standby_reads_as_of_a_pin(pair):
    primary, standby = pair
    with ngdata.connect(primary.url) as ng:
        ng.tokens.delete(ng.tokens.find_in_region(*LIMITS).token_id)
        ids = ng.tokens.bulk_create(random_tokens(7, 50))
        pin = ng.pin("on both")
        ng.tokens.delete(ids[:20])
        replayed(primary, standby)
        with ngdata.connect(standby.url) as replica:
            past = replica.as_of("on both")
            assert past.pin == pin
            assert set(past.tokens.find_in_region(*LIMITS).token_id) == set(ids)
            assert past.tokens.get(ids[:5]).token_id.tolist() == ids[:5].tolist()
            assert len(replica.diff("on both")) == 20
            with pytest.raises(ConfigError, match="may only read"):
                replica.pin()
        ng.unpin(pin)


def test_a_pin_waits_for_a_prepared_transaction(pair, monkeypatch):
    primary, _ = pair
    with ngdata.connect(primary.url) as ng:
        ids = ng.tokens.bulk_create(random_tokens(8, 5))
        with adbc.connect(primary.url, autocommit=True) as connection:
            cursor = connection.cursor()
            cursor.adbc_statement.set_sql_query(
                f"BEGIN; DELETE FROM tokens.tokens WHERE id = '{ids[0]}'; PREPARE TRANSACTION 'half'"
            )
            cursor.adbc_statement.execute_update()
        monkeypatch.setattr(owner_locks, "LOCK_TIMEOUT_SECONDS", 0.3)
        with pytest.raises(NGDataError, match="a prepared transaction"):
            ng.pin("half done")
        primary.fetch("COMMIT PREPARED 'half'")
        with pytest.raises(NotFoundError):
            ng.as_of(ng.pin("done")).tokens.get(ids[:1])
        ng.unpin("done")
