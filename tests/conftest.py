"""Real servers for every test: the embedded ones, started by the code that users start them with.

They live in a temporary home and do without fsync; nothing else is different.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import pytest
from hypothesis import HealthCheck, settings

import ngdata
from ngdata import _local
from ngdata._store import migrate

ROOT = Path(__file__).resolve().parent.parent
TABLES = (
    "tokens.tokens, graph.connections, graph.graph_snapshots,"
    " experience.experience_events, experience.experience_trajectories"
)

# The same examples on every run, and no clock: machines differ.
settings.register_profile(
    "ngdata",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("ngdata")


def pytest_configure() -> None:
    """No setting of the machine reaches a test, and the embedded default is the temporary one."""
    for name in list(os.environ):
        if name.startswith(("NGDATA_", "POSTGRES_", "REDIS_", "PG")):
            del os.environ[name]
    # A shell's background job ignores interrupts, and so would its children, which tests send them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["NGDATA_HOME"] = tempfile.mkdtemp(prefix="ngdata tests ")


def pytest_unconfigure() -> None:
    _local.down()
    shutil.rmtree(os.environ["NGDATA_HOME"], ignore_errors=True)


def execute(url: str, *statements: str) -> list[Any]:
    """Run statements in a database, outside of ngdata, and give the last one's rows."""
    rows: list[Any] = []
    with adbc.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
        for statement in statements:
            cursor.execute(statement)
            rows = cursor.fetchall() if cursor.description else []
    return rows


@pytest.fixture(scope="session")
def server() -> _local.Addresses:
    """The servers of this run, migrated to head."""
    return _local.up(durable=False)


@pytest.fixture
def database_url(server: _local.Addresses) -> str:
    """The shared database, with every table empty."""
    execute(server.database_url, f"TRUNCATE {TABLES}")
    return server.database_url


@pytest.fixture(scope="session")
def new_database(server: _local.Addresses) -> Callable[[], AbstractContextManager[str]]:
    """Make a database without our schema, and drop it at the end."""
    return lambda: _database(server.database_url)


@pytest.fixture
def empty_database(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A database without our schema."""
    with new_database() as url:
        yield url


@pytest.fixture
def ng(database_url: str) -> Iterator[ngdata.Client]:
    """A sync client of an empty store."""
    with ngdata.connect(database_url) as client:
        yield client


@pytest.fixture(scope="session")
def celegans(server: _local.Addresses) -> Iterator[ngdata.Client]:
    """A sync client of a store of its own that holds the sample; for reading."""
    from ngdata.datasets import load_celegans

    with _database(server.database_url) as url:
        migrate.upgrade(url)
        with ngdata.connect(url) as client:
            load_celegans(client)
            yield client


@contextmanager
def _database(url: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    execute(url, f"CREATE DATABASE {name}")
    try:
        yield url.replace("/ngdata?", f"/{name}?")
    finally:
        execute(url, f"DROP DATABASE {name} WITH (FORCE)")


def backends(url: str, condition: str = "state <> 'idle'") -> int:
    """Count the server's other client connections that are in a state; by default, not idle."""
    counted = execute(
        url,
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        f" AND pid <> pg_backend_pid() AND {condition}",
    )
    return int(counted[0][0])


@pytest.fixture(name="execute")
def _execute() -> Any:
    """The function, for tests that cannot import it."""
    return execute


def run(work: Any) -> Any:
    """Run async code in an event loop of its own."""
    return asyncio.run(work)


__all__ = ["ROOT", "backends", "execute", "run"]
