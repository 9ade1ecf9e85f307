"""Shared by the fault tests: servers to damage, locks that block reads, and the backends that are left behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg
import pytest

from ngdata import _local
from tests.faults.victim import Victim

OURS = "backend_type = 'client backend' AND application_name = 'ngdata'"


class Server:
    """The server, seen from a connection of the test."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = psycopg.connect(url + "&application_name=observer", autocommit=True)

    def count(self, condition: str) -> int:
        counted = f"SELECT count(*) FROM pg_stat_activity WHERE {OURS} AND {condition}"
        [(count,)] = self._connection.execute(counted).fetchall()
        return count

    def busy(self) -> int:
        """Return the number of our backends that run a statement or have a transaction open."""
        return self.count("(state <> 'idle' OR xact_start IS NOT NULL)")

    def until_busy(self, many: int = 1) -> None:
        wait_until(lambda: self.busy() >= many)

    def until_locked_out(self, many: int = 1) -> None:
        """Wait until `many` of our backends wait for a lock that `locked` holds."""
        wait_until(lambda: self.count("wait_event_type = 'Lock'") >= many)

    def until_idle(self) -> None:
        wait_until(lambda: self.busy() == 0)

    def until(self, condition: Callable[[], bool]) -> None:
        wait_until(condition)

    @contextmanager
    def locked(self, table: str, mode: str = "ACCESS EXCLUSIVE") -> Iterator[None]:
        """Hold a lock during the body, so that statements on the table block."""
        with psycopg.connect(self.url + "&application_name=holder") as holder:
            holder.execute(f"LOCK TABLE {table} IN {mode} MODE")
            yield
            holder.rollback()

    def close(self) -> None:
        self._connection.close()


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for a state that must be reached; the time it takes is not tested."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the state was not reached"
        time.sleep(0.02)


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., None]:
    """Return the function, for tests that cannot import it."""
    return wait_until


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    """Yield servers that the tests of a module may damage."""
    servers = Victim()
    yield servers
    _local.down(servers.home)
    shutil.rmtree(servers.home, ignore_errors=True)


@pytest.fixture
def observed(database_url: str) -> Iterator[Server]:
    """Yield the server of an empty store; at the end, none of our backends is busy."""
    server = Server(database_url)
    server.until_idle()
    yield server
    server.until_idle()
    server.close()


@pytest.fixture
def script(database_url: str) -> Callable[[str], AbstractContextManager[subprocess.Popen[str]]]:
    """Return a function that runs Python code as a program of its own, with URL set."""

    @contextmanager
    def running(code: str) -> Iterator[subprocess.Popen[str]]:
        head = f"import ngdata\nURL = {database_url!r}\n"
        process = subprocess.Popen(
            [sys.executable, "-c", head + code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    return running


__all__ = ["Server", "observed", "script", "victim", "wait_until"]
