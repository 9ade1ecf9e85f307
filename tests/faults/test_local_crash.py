"""The embedded servers after failures: killed processes, stale files, partial starts, races."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import psutil
import pytest

from ngdata import _local
from ngdata._local import state
from ngdata._local.account import account_for
from ngdata._local.postgres import Postgres
from ngdata._local.processes import working_in
from ngdata._local.server import _find_servers

UP = """
import sys
from pathlib import Path
from ngdata import _local
print(_local.up(Path(sys.argv[1]), durable=False))
"""


@pytest.fixture
def new_home() -> Iterator[Path]:
    yield from _home()


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Yield one home for the module; a test may leave it in any state."""
    yield from _home()


def _home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ngdata crash "))
    yield path
    _local.down(path)
    shutil.rmtree(path)


@pytest.fixture
def running(home) -> tuple[_local.Addresses, Postgres]:
    """Start the home's servers, with a row that must not be lost."""
    addresses = _local.up(home, durable=False)
    query(addresses.database_url, "DROP TABLE IF EXISTS public.kept")
    query(addresses.database_url, "CREATE TABLE public.kept AS SELECT 7 AS x")
    return addresses, _find_servers(home, state.load(home)).postgres


def query(url: str, sql: str):
    with adbc.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()


def works(home: Path, addresses: _local.Addresses) -> bool:
    return _local.status(home).running and query(
        addresses.database_url, "SELECT x FROM public.kept"
    ) == (7,)


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the state was not reached"
        time.sleep(0.005)


def kill_postmaster(postgres: Postgres) -> int:
    postmaster = postgres.postmaster()
    assert postmaster is not None
    postmaster.kill()
    wait_until(lambda: postgres.postmaster() is None)
    return postmaster.pid


def test_a_killed_postgresql_is_restarted_at_the_same_address(home, running):
    addresses, postgres = running
    kill_postmaster(postgres)
    assert not _local.status(home).running
    assert _local.up(home, durable=False) == addresses
    assert works(home, addresses)


def test_a_killed_redis_is_restarted_and_postgresql_is_not(home, running):
    addresses, postgres = running
    before = postgres.postmaster()
    (redis,) = working_in(postgres.directory, "redis", "valkey")
    redis.kill()
    wait_until(lambda: not working_in(postgres.directory, "redis", "valkey"))
    assert not _local.status(home).running
    assert _local.up(home, durable=False) == addresses
    assert works(home, addresses)
    assert postgres.postmaster() == before


def test_a_redis_that_hangs_is_replaced(home, running):
    addresses, postgres = running
    (redis,) = working_in(postgres.directory, "redis", "valkey")
    redis.suspend()
    assert _local.up(home, durable=False) == addresses
    assert works(home, addresses)
    (other,) = working_in(postgres.directory, "redis", "valkey")
    assert other.pid != redis.pid


def test_both_killed_and_stopped_by_down(home, running):
    _, postgres = running
    kill_postmaster(postgres)
    for redis in working_in(postgres.directory, "redis", "valkey"):
        redis.kill()
    _local.down(home)
    addresses = _local.up(home, durable=False)
    assert works(home, addresses)


def test_a_stale_pid_file_with_the_pid_of_another_process(home, running):
    addresses, postgres = running
    old = kill_postmaster(postgres)
    account = account_for()
    # Of the same user: PostgreSQL would assume that this is its own process and refuse to start.
    user = account.uid if os.geteuid() == 0 else None
    with subprocess.Popen(["sleep", "600"], user=user, cwd="/") as other:
        try:
            text = (postgres.data / "postmaster.pid").read_text()
            account.write(
                postgres.data / "postmaster.pid", text.replace(str(old), str(other.pid), 1)
            )
            assert _local.up(home, durable=False) == addresses
            assert works(home, addresses)
            _local.down(home)
            assert other.poll() is None
        finally:
            other.kill()


def test_a_backend_that_outlives_its_killed_server_is_ended(home, running):
    addresses, postgres = running

    def run_long_query() -> None:
        with pytest.raises(adbc.Error):
            query(addresses.database_url, "SELECT count(*) FROM generate_series(1, 1e15)")

    reader = threading.Thread(target=run_long_query)
    reader.start()
    active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%1e15%' AND state = 'active'"
    wait_until(lambda: query(addresses.database_url, active)[0] > 1)  # it includes this query
    kill_postmaster(postgres)
    orphans = working_in(postgres.data, "postgres")
    assert orphans
    assert _local.up(home, durable=False) == addresses
    reader.join(60)
    assert not reader.is_alive()
    assert not any(process.is_running() and not is_zombie(process) for process in orphans)
    assert works(home, addresses)


def is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def is_initializing(home: Path) -> bool:
    return any((home / "servers").glob("data.new-*/base"))


def is_initialized(home: Path) -> bool:
    return (home / "servers/data/PG_VERSION").exists()


def is_starting(home: Path) -> bool:
    return (home / "servers/data/postmaster.pid").exists()


@pytest.mark.parametrize("moment", [is_initializing, is_initialized, is_starting])
def test_a_client_killed_during_a_start_leaves_no_partial_state(new_home, moment):
    with subprocess.Popen([sys.executable, "-c", UP, new_home], stdout=subprocess.PIPE) as client:
        wait_until(lambda: moment(new_home) or client.poll() is not None)
        assert client.poll() is None
        client.send_signal(signal.SIGKILL)
    addresses = _local.up(new_home, durable=False)
    assert query(addresses.database_url, "SELECT count(*) FROM tokens.tokens") == (0,)
    assert _local.status(new_home).running
    assert {path.name for path in (new_home / "servers").iterdir()} <= {
        "data",
        "postgres.log",
        "redis.log",
        "redis.pid",
    }
    servers = _find_servers(new_home, state.load(new_home))
    assert len(working_in(servers.redis.directory, "redis", "valkey")) == 1


def test_processes_that_start_the_servers_at_once_all_succeed(new_home):
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", UP, new_home],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    # All of them ended, so no server holds their pipes open.
    answers = [client.communicate(timeout=120) for client in clients]
    assert [client.returncode for client in clients] == [0, 0, 0], answers
    assert set(answers) == {(f"{_local.up(new_home, durable=False)}\n", "")}


def test_threads_that_start_the_servers_at_once_all_succeed(home):
    _local.down(home)
    with ThreadPoolExecutor(6) as threads:
        addresses = list(threads.map(lambda _: _local.up(home, durable=False), range(6)))
    assert len(set(addresses)) == 1
    assert _local.status(home).running


def test_concurrent_starts_and_stops_end_in_either_state(home):
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(call, home) for call in (_local.down, _local.up) * 2]
    for call in calls:
        call.result()
    addresses = _local.up(home, durable=False)
    assert query(addresses.database_url, "SELECT 1") == (1,)
