"""PostgreSQL servers of a test's own, to stop, to copy and to let fail."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as adbc

from ngdata._local.account import Account, account_for
from ngdata._local.binaries import find_postgres
from ngdata._store import migrate

_HBA = "local all all peer map=tests\nlocal replication all peer map=tests\n"
_SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{directory}'
unix_socket_permissions = 0700
fsync = off
shared_buffers = 32MB
hot_standby_feedback = on
max_prepared_transactions = 5
archive_mode = on
archive_command = '{archive}'
"""


@dataclass
class Node:
    """One server, to start and to query.

    Attributes
    ----------
    account : Account
        Whose files they are.
    data, sockets : Path
    archive : Path or None
        Where the server copies its log of writes to.
    """

    account: Account
    data: Path
    sockets: Path
    archive: Path | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/store?host={self.sockets}&port=5432"

    def run(self, program: str, *options: Any) -> None:
        """Run a program of PostgreSQL's."""
        process = self.account.run([find_postgres().bin / program, *options])
        assert process.returncode == 0, (
            process.stdout,
            process.stderr,
            self.account.tail(self.log),
        )

    def control(self, command: str, *options: Any) -> None:
        self.run("pg_ctl", command, "-w", "-D", self.data, *options)

    @property
    def log(self) -> Path:
        return self.data.parent / f"{self.data.name}.log"

    def start(self, further: str = "") -> None:
        archive = "" if self.archive is None else f"cp %p {self.archive}/%f"
        settings = _SETTINGS.format(directory=self.sockets, archive=archive)
        self.account.write(self.data / "postgresql.conf", settings + further)
        self.control("start", "-l", self.log)

    def stop(self) -> None:
        self.control("stop", "-m", "immediate")

    def copy(self, to: Path, *options: str) -> None:
        """Copy the running server's files."""
        self.run(
            "pg_basebackup",
            *("-D", to, "-X", "stream", "--no-sync", "-c", "fast"),
            *("-h", self.sockets, "-U", "postgres", *options),
        )

    def fetch(self, statement: str, database: str = "store") -> Any:
        """Run a statement, and return the first value of its first row, if it has one."""
        url = self.url.replace("/store?", f"/{database}?")
        with adbc.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
            cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def execute(self, script: str) -> None:
        """Run several statements."""
        with adbc.connect(self.url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.adbc_statement.set_sql_query(script)
            cursor.adbc_statement.execute_update()


@contextmanager
def directory() -> Iterator[Path]:
    """Make a directory with a short path, for the files and the sockets of servers."""
    account = account_for()
    top = Path(tempfile.mkdtemp(prefix="ngdata-nodes-", dir="/tmp"))
    shutil.chown(top, account.uid, account.gid)
    try:
        yield top
    finally:
        account.remove(top)
        shutil.rmtree(top, ignore_errors=True)


def new(top: Path, name: str, *, is_archived: bool = False) -> Node:
    """Return a server that is not started yet, without files."""
    account = account_for()
    sockets, archive = top / f"s-{name}", top / f"archive-{name}"
    assert account.run(["mkdir", "-m", "700", sockets, archive]).returncode == 0
    return Node(account, top / name, sockets, archive if is_archived else None)


def started(top: Path, name: str, *, is_archived: bool = False) -> Node:
    """Return a server with an empty store."""
    node = new(top, name, is_archived=is_archived)
    node.run("initdb", "-D", node.data, "-U", "postgres", "--no-sync", "--auth=peer", "-E", "UTF8")
    users = {pwd.getpwuid(uid).pw_name for uid in (os.getuid(), node.account.uid)}
    node.account.write(node.data / "pg_hba.conf", _HBA)
    node.account.write(
        node.data / "pg_ident.conf", "".join(f"tests {user} postgres\n" for user in users)
    )
    node.start()
    try:
        node.fetch("CREATE DATABASE store", "postgres")
        migrate.upgrade(node.url)
    except BaseException:
        node.stop()
        raise
    return node


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds; the time that this takes is not tested."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.05)
