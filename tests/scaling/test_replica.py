"""A real standby: its versions are those of what it shows, however far behind it is."""

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
from ngdata._store import migrate
from ngdata.errors import ConfigError, ConsistencyError
from tests.scaling.conftest import LIMITS, random_tokens, whole

HBA = "local all all peer map=tests\nlocal replication all peer map=tests\n"
SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{directory}'
unix_socket_permissions = 0700
fsync = off
shared_buffers = 32MB
hot_standby_feedback = on
"""


@dataclass
class Node:
    """One of the two servers; `start` it, ask it."""

    account: Account
    data: Path
    sockets: Path

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/store?host={self.sockets}&port=5432"

    def control(self, what: str, *options: Any) -> None:
        program = find_postgres().bin / "pg_ctl"
        done = self.account.run([program, what, "-w", "-D", self.data, *options])
        assert done.returncode == 0, (done.stdout, done.stderr, self.account.tail(self.log))

    @property
    def log(self) -> Path:
        return self.data.parent / f"{self.data.name}.log"

    def start(self) -> None:
        self.account.write(self.data / "postgresql.conf", SETTINGS.format(directory=self.sockets))
        self.control("start", "-l", self.log)

    def ask(self, question: str, database: str = "store") -> Any:
        url = self.url.replace("/store?", f"/{database}?")
        with adbc.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
            cursor.execute(question)
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
    done = account.run(
        [
            *(binaries / "initdb", "-D", primary.data, "-U", "postgres", "--no-sync"),
            *("--auth=peer", "--encoding=UTF8", "--locale=C"),
        ]
    )
    assert done.returncode == 0, done.stderr
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
        primary.ask("CREATE DATABASE store", "postgres")
        migrate.upgrade(primary.url)
        done = account.run(
            [
                *(binaries / "pg_basebackup", "-D", standby.data, "-R", "-X", "stream"),
                *("--no-sync", "-c", "fast", "-h", primary.sockets, "-U", "postgres"),
            ]
        )
        assert done.returncode == 0, done.stderr
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
        assert time.monotonic() < deadline, "the state did not come"
        time.sleep(0.05)


def replayed(primary: Node, standby: Node) -> None:
    """Wait until the standby has all that the primary has written until now."""
    written = primary.ask("SELECT pg_current_wal_lsn()::text")
    until(lambda: standby.ask(f"SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn") is True)


def version(client: ngdata.Client) -> str:
    return client.tokens.find_in_region(*LIMITS).attrs["ngdata"]["version"]


def test_partitions_from_a_replica(pair):
    primary, standby = pair
    with ngdata.connect(primary.url) as ng, ngdata.connect(standby.url) as behind:
        ng.tokens.bulk_create(random_tokens(1, 100))
        replayed(primary, standby)
        assert version(ng) == version(behind)
        frame = ng.tokens.to_dask(*LIMITS, npartitions=4, url=standby.url, consistent=True)
        assert len(whole(frame)) == 100
        assert behind.health()["ok"]
        standby.ask("SELECT pg_wal_replay_pause()")
        try:
            ids = ng.tokens.bulk_create(random_tokens(2, 11))
            # What the standby shows has not changed, so it is consistent, and says so.
            assert len(whole(frame)) == 100
            assert len(behind.tokens.find_in_region(*LIMITS)) == 100
            # The primary's version is not yet the standby's.
            assert version(ng) != version(behind)
            assert ng.tokens.count_in_region(*LIMITS) == 111
        finally:
            standby.ask("SELECT pg_wal_replay_resume()")
        replayed(primary, standby)
        with pytest.raises(ConsistencyError):
            whole(frame)
        # A cached answer of the standby is true or not by the standby's own version.
        found = behind.tokens.find_in_region(*LIMITS)
        assert set(ids) <= set(found.token_id)
        assert version(ng) == version(behind)


def test_workers_that_are_behind_the_version_they_are_to_have(pair, monkeypatch):
    """The frame is made on the primary, the workers read a standby which has not come so far."""
    primary, standby = pair
    monkeypatch.setenv("NGDATA_DATABASE_URL", standby.url)
    with ngdata.connect(primary.url) as ng:
        ng.tokens.bulk_create(random_tokens(3, 5))
        replayed(primary, standby)
        standby.ask("SELECT pg_wal_replay_pause()")
        try:
            ng.tokens.bulk_create(random_tokens(4, 5))
            frame = ng.tokens.to_dask(*LIMITS, npartitions=2, url="environment", consistent=True)
            with pytest.raises(ConsistencyError):
                whole(frame)
        finally:
            standby.ask("SELECT pg_wal_replay_resume()")
        replayed(primary, standby)
        assert len(whole(frame)) == ng.tokens.count_in_region(*LIMITS)


def test_a_replica_takes_no_writes(pair):
    _, standby = pair
    with ngdata.connect(standby.url) as behind:
        with pytest.raises(ConfigError, match="may only read"):
            behind.tokens.bulk_create(random_tokens(5, 5))
        assert len(behind.tokens.find_nearest((0, 0, 0), k=3)) == 3
