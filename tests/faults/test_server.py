"""Servers that crash, freeze, fill up or change: the right error, no partial write, and recovery.

The tests use servers of their own, which they may damage.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time

import adbc_driver_postgresql.dbapi as adbc
import asyncpg
import psutil
import pytest

import ngdata
from ngdata._config.settings import load_settings
from ngdata._connections.opening import open_database
from ngdata._store import migrate
from ngdata.errors import DatabaseUnavailable, NGDataError, SchemaVersionError

BOX = ((-1, -1, -1), (1, 1, 1))
EVERYTHING = ((float("-inf"),) * 3, (float("inf"),) * 3)


@pytest.fixture
def ng(victim):
    victim.up()
    with ngdata.connect(victim.url, connect_timeout=2) as client:
        client.tokens.delete(client.tokens.find_in_region(*EVERYTHING).token_id)
        yield client


def in_thread(call):
    """Call in a thread; return a function that waits for its end and returns the errors raised."""
    errors = []

    def work():
        try:
            call()
        except NGDataError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()

    def join():
        thread.join(60)
        assert not thread.is_alive(), "the call did not end"
        return errors

    return join


def test_a_read_whose_backend_is_killed_fails_or_succeeds_and_the_client_recovers(
    victim, ng, wait_until
):
    ng.tokens.create({0: (0, 0, 0)})
    with locked(victim):
        join = in_thread(lambda: ng.tokens.find_in_region(*BOX))
        wait_until(lambda: waiting(victim) == 1)
        for backend in victim.backends().values():
            with contextlib.suppress(psutil.Error):
                backend.send_signal(signal.SIGKILL)
    for error in join():
        assert isinstance(error, DatabaseUnavailable)
    wait_until(lambda: works(ng))
    assert len(ng.tokens.find_in_region(*BOX)) == 1


def test_a_single_write_whose_backend_is_killed_leaves_nothing(victim, ng, wait_until):
    token = ng.tokens.create({0: (0, 0, 0)})
    calls = (
        lambda: ng.tokens.create({0: (0.5, 0, 0)}),
        lambda: ng.tokens.update(token, weight=5.0),
    )
    for call in calls:
        with locked(victim, "tokens.tokens"):
            join = in_thread(call)
            wait_until(lambda: waiting(victim) == 1)
            backends = victim.backends()
            for title, backend in backends.items():
                with contextlib.suppress(psutil.Error):
                    if "waiting" in title:
                        backend.send_signal(signal.SIGKILL)
        (error,) = join()
        assert isinstance(error, DatabaseUnavailable)
        # The server ends all its backends, but until then a read on one of them works.
        _, alive = psutil.wait_procs(backends.values(), timeout=30)
        assert not alive
        wait_until(lambda: works(ng))
        assert ng.pool_status()["write"]["in_use"] == 0
    assert ng.tokens.count_in_region(*EVERYTHING) == 1
    assert ng.tokens.get(token).weight.tolist() == [1.0]
    ng.tokens.create({0: (0.5, 0, 0)})
    assert ng.tokens.count_in_region(*EVERYTHING) == 2


def test_idle_connections_lost_in_a_restart_do_not_fail_the_next_call(victim, ng):
    ng.tokens.create({0: (0, 0, 0)})
    assert len(ng.tokens.find_in_region(*BOX)) == 1
    victim.kill()
    victim.up()
    assert len(ng.tokens.find_in_region(*BOX)) == 1
    ng.tokens.create({0: (0, 0, 0)})
    assert len(ng.tokens.find_in_region(*BOX)) == 2


def test_an_immediate_stop_in_a_bulk_write_leaves_nothing_behind(victim, ng, wait_until):
    many = 200_000
    frame = {"x": range(many), "y": [0.0] * many, "z": [0.0] * many}
    join = in_thread(lambda: ng.tokens.bulk_create(frame))
    wait_until(lambda: copying(victim))
    processes = victim.processes()
    processes[0].send_signal(signal.SIGQUIT)
    (error,) = join()
    assert isinstance(error, DatabaseUnavailable)
    with pytest.raises(DatabaseUnavailable, match="ngdata up"):
        ng.tokens.find_in_region(*BOX)
    psutil.wait_procs(processes, timeout=30)
    victim.up()
    assert ng.tokens.count_in_region(*EVERYTHING) == 0
    ng.tokens.create({0: (0, 0, 0)})
    assert ng.tokens.count_in_region(*EVERYTHING) == 1


@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_a_frozen_server_is_an_error_and_works_again_later(victim, ng, write):
    call = (lambda: ng.tokens.create({0: (5, 5, 5)})) if write else (lambda: works_or_raises(ng))
    call()
    with victim.frozen():
        with pytest.raises(DatabaseUnavailable, match=r"stopped answering|does not answer"):
            call()
        assert ng.health()["ok"] is False
    call()


def test_interrupts_return_while_the_server_is_frozen(victim, wait_until):
    """Measured: 0.5 s each; the bound has room for a machine that does other work."""

    def threads():
        names = {thread.name for thread in threading.enumerate()}
        return {name for name in names if name.startswith("ngdata-")}

    with ngdata.connect(victim.url, cache="off") as ng, ngdata.connect(victim.url) as closing:
        many = 20_000
        ng.tokens.bulk_create({"x": range(many), "y": [0.0] * many, "z": [0.0] * many})
        rows = {"x": [0.5] * many, "y": [0.0] * many, "z": [0.0] * many}
        count = ng.tokens.count_in_region(*EVERYTHING)
        parts = ng.tokens.iter_region(*EVERYTHING, chunk_rows=100)
        next(parts)
        calls = {
            "read": lambda: ng.tokens.find_in_region(*BOX),
            "write": lambda: ng.tokens.bulk_create(rows | {"token_type": ["late"] * many}),
            "iterate": lambda: list(parts),
            "connect": lambda: ngdata.connect(victim.url),
            "close": closing.close,
        }
        seconds = {}
        with victim.frozen():
            for name, call in calls.items():
                timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
                timer.start()
                started = time.monotonic()
                with pytest.raises(KeyboardInterrupt):
                    call()
                    while True:  # a close that needs no answer
                        time.sleep(0.01)
                seconds[name] = time.monotonic() - started - 0.3
        assert all(each < 5 for each in seconds.values()), seconds
        assert ng.tokens.count_in_region(*EVERYTHING) == count
        wait_until(lambda: ng.pool_status()["write"]["in_use"] == 0)
        wait_until(lambda: ng.pool_status()["read"]["in_use"] == 0)
        assert ng.tokens.find_in_region(*EVERYTHING, token_type="late").empty
    wait_until(lambda: not victim.backends())
    wait_until(lambda: threads() <= {"ngdata-loop"})


def test_a_client_closes_while_the_server_is_frozen(victim, wait_until):
    ng = ngdata.connect(victim.url, connect_timeout=2, cache="off")
    ng.tokens.create({0: (5, 5, 5)})
    works_or_raises(ng)
    assert all(pool["idle"] for pool in ng.pool_status().values())
    with victim.frozen():
        assert in_thread(ng.close)() == []
    wait_until(lambda: not victim.backends())


def test_an_iterator_raises_the_typed_error_if_the_server_dies(victim, ng):
    many = 100_000
    ng.tokens.bulk_create({"x": range(many), "y": [0.0] * many, "z": [0.0] * many})
    parts = ng.tokens.iter_region(*EVERYTHING, chunk_rows=100)
    next(parts)
    victim.kill()
    with pytest.raises(DatabaseUnavailable):
        for _ in parts:
            pass
    victim.up()
    assert ng.tokens.count_in_region(*EVERYTHING) == many


def test_a_full_pool_is_an_error_after_the_pool_timeout(victim, ng):
    async def main():
        options = {"pool_max_size": 1, "pool_timeout": 0.2}
        async with await ngdata.connect_async(victim.url, **options) as ang:
            await ang.tokens.bulk_create({"x": [0, 1], "y": [0, 1], "z": [0, 1]})
            parts = ang.tokens.iter_region(*EVERYTHING, chunk_rows=1)
            await anext(parts)
            with pytest.raises(DatabaseUnavailable, match="pool_max_size"):
                await ang.tokens.find_in_region(*BOX)
            await parts.aclose()
            assert len(await ang.tokens.find_in_region(*BOX)) == 2

    asyncio.run(main())


def test_a_server_at_its_connection_limit_is_reported(victim, ng, execute):
    execute(victim.url, "ALTER ROLE ngdata CONNECTION LIMIT 0")
    # The limit does not apply to a superuser, so another role connects.
    execute(victim.url, "CREATE ROLE crowd LOGIN CONNECTION LIMIT 0")
    try:
        with pytest.raises(NGDataError) as refused:
            ngdata.connect(victim.url.replace("ngdata@", "crowd@"))
        assert "crowd" in str(refused.value)
    finally:
        execute(victim.url, "DROP ROLE crowd", "ALTER ROLE ngdata CONNECTION LIMIT -1")


def test_a_transaction_that_the_server_ends_for_idling_is_an_error_and_the_next_works(
    victim, execute
):
    execute(victim.url, "ALTER ROLE ngdata SET idle_in_transaction_session_timeout = '100ms'")
    try:

        async def main():
            async with await ngdata.connect_async(victim.url) as ang:
                with pytest.raises(DatabaseUnavailable):
                    async with ang._database.transaction() as connection:
                        await connection.execute("SELECT 1")
                        await asyncio.sleep(0.5)
                        await connection.execute("SELECT 1")
                await ang.tokens.create({0: (0, 0, 0)})

        asyncio.run(main())
    finally:
        execute(victim.url, "ALTER ROLE ngdata RESET idle_in_transaction_session_timeout")


def test_a_database_of_another_revision_is_reported_when_connecting_and_later(victim, ng):
    # Prepares its statement, which outlives the schema.
    ng.tokens.create({0: (0, 0, 0)})
    migrate.downgrade(victim.url)
    try:
        with pytest.raises(SchemaVersionError, match="ngdata migrate"):
            ng.tokens.find_in_region(*BOX)
        with pytest.raises(SchemaVersionError, match="ngdata migrate"):
            ng.tokens.create({0: (0, 0, 0)})
        with pytest.raises(SchemaVersionError, match="ngdata migrate"):
            ngdata.connect(victim.url)
        migrate.upgrade(victim.url, "0001")
        with pytest.raises(SchemaVersionError, match="0001"):
            ngdata.connect(victim.url)
    finally:
        migrate.upgrade(victim.url)
    assert ng.tokens.find_in_region(*BOX).empty
    ng.tokens.create({0: (0, 0, 0)})


def test_a_missing_server_is_reported_when_connecting():
    with pytest.raises(DatabaseUnavailable) as refused:
        ngdata.connect("postgresql://someone:s3cret@127.0.0.1:1/neurograph")
    assert "127.0.0.1:1" in str(refused.value)
    assert "s3cret" not in str(refused.value)


@contextlib.contextmanager
def locked(victim, table="tokens.spatial_index"):
    """Hold a lock on a connection that is killed together with the others."""
    holder = adbc.connect(victim.url)
    with holder.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    yield
    for close in (holder.rollback, holder.close):
        with contextlib.suppress(adbc.Error):
            close()


def waiting(victim) -> int:
    return sum("waiting" in title for title in victim.backends())


def copying(victim) -> bool:
    return any("COPY" in title for title in victim.backends())


def works(client) -> bool:
    try:
        client.tokens.find_in_region(*BOX)
    except DatabaseUnavailable:
        return False
    return True


def works_or_raises(client) -> None:
    client.tokens.find_in_region(*BOX)


@pytest.mark.parametrize("error", [AttributeError("_config"), OSError("reset by peer")])
def test_a_connection_that_ends_while_it_is_closed_is_closed(database_url, monkeypatch, error):
    """What asyncpg raises then depends on the moment."""

    async def fail(self, *, timeout=None):
        raise error

    async def main():
        async with open_database(load_settings(database_url=database_url)) as database:
            connection = await database.connect()
            monkeypatch.setattr(asyncpg.Connection, "close", fail)
            await connection.close()
            monkeypatch.undo()
            assert connection.is_closed()

    asyncio.run(main())
