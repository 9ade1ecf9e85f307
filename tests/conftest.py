"""Servers and stores for every test: the embedded ones, started by the code that users start them with.

Tests are grouped by subject, not by module: tests/README.md has one line per folder. Each pytest
process, with pytest-xdist each worker, has a home and servers of its own, so a test that counts
the server's connections counts its own. They live in a temporary home and do without fsync;
nothing else is different.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg.types.string import TextLoader

import ngdata
from ngdata import _local
from ngdata._arguments.texts import STR

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = "ngdata_template"
TABLES = (
    "tokens.tokens, graph.connections, graph.graph_snapshots,"
    " experience.experience_events, experience.experience_trajectories"
)

_HAS_UNIT = "unit IS NOT NULL OR description IS NOT NULL"

# The same examples on every run, and no clock: machines differ.
settings.register_profile(
    "ngdata",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("ngdata")

_HOMES = pytest.StashKey[Path]()
_COLLECTED = pytest.StashKey[list[pytest.Item]]()


# Has no Copy-on-Write by default, and leaves text as objects.
IS_PANDAS_2 = pd.__version__.startswith("2.")

# Where each process's home is made, and how much room that needs: creating and removing the files
# of tables is several times faster in memory.
_MEMORY = Path("/dev/shm")
_ROOM = 6 << 30

# Tests that take a sample take one this many times as large; see tests/README.md.
SCALE = int(os.environ.get("NGDATA_TEST_SCALE", "1"))

# Files whose tests start servers, clusters, kernels or interpreters of their own, or move much
# data: `make check` leaves them out. `make test` starts them first, the longest before the others,
# so that no process is left with a long one at the end.
SLOW = (
    "browser/test_view.py",
    "sample/test_notebooks.py",
    "faults/test_server.py",
    "cache/test_redis_faults.py",
    "store/test_copy.py",
    "admin/test_doctor.py",
    "cache/test_versions.py",
    "cache/test_strict.py",
    "regions/test_agreement.py",
    "bad_input/test_any_value.py",
    "faults/test_local_crash.py",
    "schema/test_schema.py",
    "embedded/test_local.py",
    "embedded/test_install_servers.py",
    "faults/test_scarcity_disk.py",
    "faults/test_scarcity_process.py",
    "faults/test_soak.py",
    "cache/test_scarcity.py",
    "access/test_roles.py",
    "reading/test_parallel.py",
    "faults/test_interrupt.py",
    "faults/test_interrupts.py",
    "faults/test_ended_loops.py",
    "documentation/test_docs.py",
    "documentation/test_site.py",
    "scaling/test_partitions.py",
    "faults/test_jupyter.py",
    "store/test_initial.py",
    "admin/test_optimize.py",
    "cache/test_containment.py",
    "embedded/test_local_access.py",
    "benchmarks/test_reads.py",
    "scaling/test_access.py",
    "binary/test_loading.py",
    "access/test_secrets.py",
    "scaling/test_geoparquet.py",
    "admin/test_backup.py",
    "sample/test_demo.py",
    "faults/test_pgbouncer.py",
    "faults/test_processes.py",
    "faults/test_recorder.py",
    "graph/test_benchmark.py",
    "sample/test_datasets.py",
    "scaling/test_consistency.py",
    "scaling/test_cluster.py",
    "reading/test_memory.py",
    "repositories/test_example.py",
    "properties/test_regions.py",
    "admin/test_cli.py",
    "repositories/test_cache.py",
    "scaling/test_replica.py",
    "properties/test_nearness.py",
    "config/test_compose.py",
    "access/test_tls.py",
    "access/test_session_settings.py",
    "access/test_troubleshooting.py",
    "properties/test_parallel.py",
    "benchmarks/test_scaling.py",
    "benchmarks/test_store.py",
    "benchmarks/test_writes.py",
    "faults/test_deadlock.py",
    "faults/test_late_imports.py",
    "benchmarks/test_imports.py",
    "view/test_view.py",
    "plot/test_browser.py",
    "browser/test_notebooks.py",
    "embedded/test_removal.py",
)
ORDER = {ROOT / "tests" / name: place for place, name in enumerate(SLOW)}


def pytest_configure(config: pytest.Config) -> None:
    """Keep the machine's settings away from the tests, and make this process's home."""
    for name in list(os.environ):
        is_ours = name.startswith(("NGDATA_", "POSTGRES_", "REDIS_", "PG"))
        if is_ours and name != "NGDATA_TEST_SCALE":
            del os.environ[name]
    # A shell's background job ignores interrupts, and so would its children, which tests send them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parent = getattr(config, "workerinput", {}).get("homes")
    if parent is None:
        roomy = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
        parent = tempfile.mkdtemp(prefix="ngdata tests ", dir=_MEMORY if roomy else None)
        # The servers' account goes through it.
        Path(parent).chmod(0o711)
        config.stash[_HOMES] = Path(parent)
    os.environ["NGDATA_HOME"] = tempfile.mkdtemp(prefix="home ", dir=parent)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Pass the directory of the homes to an xdist worker."""
    node.workerinput["homes"] = str(node.config.stash[_HOMES])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run three workers on two cores: a slow test waits for servers half of its time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(2, (cores or 1) if config.option.markexpr == "not slow" else (cores or 1) * 3 // 2)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers; the main process also stops those of a worker that crashed."""
    _local.down()
    if (parent := config.stash.get(_HOMES, None)) is not None:
        for home in parent.iterdir():
            _local.down(home)
        shutil.rmtree(parent, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the slow tests; with several workers, put them first."""
    config.stash[_COLLECTED] = list(items)
    order = {ROOT / "tests" / name: place for place, name in enumerate(SLOW)}
    if missing := [path.name for path in order if not path.is_file()]:
        raise pytest.UsageError(
            f"SLOW in tests/conftest.py names files that do not exist: {missing}"
        )
    for item in items:
        if item.path in order:
            item.add_marker("slow")
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: order.get(item.path, len(order)))


def execute(url: str, *statements: str) -> list[Any]:
    """Run statements in a database, outside of ngdata, and return the last one's rows."""
    rows: list[Any] = []
    with psycopg.connect(url, autocommit=True) as connection:
        for name in ("json", "jsonb", "numeric"):
            connection.adapters.register_loader(name, TextLoader)
        for statement in statements:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            rows = cursor.fetchall() if cursor.description else []
    return rows


def empty(url: str) -> None:
    """Empty every table of a store, unless nothing was written to any."""
    written = execute(
        url,
        "SELECT 1 FROM pg_class WHERE relkind = 'r'"
        " AND relname NOT IN ('alembic_version', 'changes', 'changes_edge', 'levels', 'pins',"
        " 'secrets', 'versions') AND relname NOT LIKE '%\\_history'"
        " AND relnamespace = ANY (ARRAY['tokens', 'graph', 'experience']::regnamespace[])"
        " AND pg_relation_size(oid) > 0"
        f" UNION ALL SELECT 1 FROM tokens.levels WHERE {_HAS_UNIT}"
        " UNION ALL SELECT 1 FROM tokens.pins",
    )
    if written:
        levels = f"UPDATE tokens.levels SET unit = NULL, description = NULL WHERE {_HAS_UNIT}"
        unpin = "SELECT tokens.remove_pin(id) FROM tokens.pins"
        rest = "SELECT tokens.rest_pins()"
        # An empty index is that of no tokens.
        trusted = "DELETE FROM tokens.changes_edge WHERE is_doubt"
        execute(url, unpin, rest, f"TRUNCATE {TABLES}", levels, trusted)


@pytest.fixture(scope="session")
def collected(request: pytest.FixtureRequest) -> list[pytest.Item]:
    """All tests of the files that were collected, those that options deselected too."""
    return request.config.stash[_COLLECTED]


@pytest.fixture(scope="session")
def server() -> _local.Addresses:
    """The servers of this process, with a migrated database and one to copy."""
    addresses = _local.up(durable=False)
    # A copy takes a fifth of the time that the migrations take.
    execute(addresses.database_url, f"CREATE DATABASE {TEMPLATE} TEMPLATE ngdata")
    return addresses


@pytest.fixture
def database_url(server: _local.Addresses) -> str:
    """The shared database, with every table empty."""
    empty(server.database_url)
    return server.database_url


@pytest.fixture(scope="session")
def new_database(server: _local.Addresses) -> Callable[[], AbstractContextManager[str]]:
    """Create a database without our schema, and drop it at the end."""
    return lambda: _database(server.database_url)


@pytest.fixture
def empty_database(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A database without our schema."""
    with new_database() as url:
        yield url


@pytest.fixture(scope="session")
def new_migrated_database(server: _local.Addresses) -> Callable[[], AbstractContextManager[str]]:
    """Create a database with our schema and no rows, and drop it at the end."""
    return lambda: _database(server.database_url, TEMPLATE)


@pytest.fixture
def migrated_database(
    new_migrated_database: Callable[[], AbstractContextManager[str]],
) -> Iterator[str]:
    """A database of the test's own, with our schema and no rows."""
    with new_migrated_database() as url:
        yield url


@pytest.fixture
def ng(database_url: str) -> Iterator[ngdata.Client]:
    """A sync client of an empty store."""
    with ngdata.connect(database_url) as client:
        yield client


@pytest.fixture(scope="session")
def celegans(
    new_migrated_database: Callable[[], AbstractContextManager[str]],
) -> Iterator[ngdata.Client]:
    """A sync client of a store of its own that holds the sample; for reading."""
    from ngdata.datasets import load_celegans

    with new_migrated_database() as url, ngdata.connect(url) as client:
        load_celegans(client)
        yield client


@contextmanager
def _database(url: str, template: str = "template1") -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    execute(url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
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


@pytest.fixture(autouse=True)
def _no_listeners_stay() -> Iterator[None]:
    """An example of a page may log, or listen to, more than other tests expect."""
    logger = logging.getLogger("ngdata")
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.fixture
def patient_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads and writes wait for Redis, however busy the machine is, rather than do without it."""
    from ngdata._reading.cache import redis_tier

    monkeypatch.setattr(redis_tier, "_READ_TIMEOUT", 60.0)


@pytest.fixture(name="execute")
def _execute() -> Any:
    """The function, for tests that cannot import it."""
    return execute


def with_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose text is of the dtype that answers have, which pandas 2 does not infer."""
    texts = [name for name in frame if pd.api.types.infer_dtype(frame[name]) == "string"]
    return frame.astype({name: STR for name in texts if frame[name].dtype == object})


def run(work: Any) -> Any:
    """Run async code in an event loop of its own."""
    return asyncio.run(work)


__all__ = ["IS_PANDAS_2", "ROOT", "backends", "empty", "execute", "run", "with_texts"]
