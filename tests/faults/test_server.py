"""Servers that crash, freeze, fill up or change: the right error, nothing half-written, recovery.

They run on servers of their own, which may come to harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import tempfile
import threading
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import psutil
import pytest

import ngdata
from ngdata import _local
from ngdata._store import migrate
from ngdata.errors import DatabaseUnavailable, NGDataError, SchemaVersionError

BOX = ((-1, -1, -1), (1, 1, 1))
EVERYTHING = ((float("-inf"),) * 3, (float("inf"),) * 3)


class Victim:
    """Embedded servers that are there to be harmed."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="ngdata victim "))
        self.addresses = self.up()

    def up(self) -> _local.Addresses:
        return _local.up(self.home, durable=False)

    @property
    def url(self) -> str:
        return self.addresses.database_url

    def postmaster(self) -> psutil.Process:
        directory = _local.status(self.home).directory
        return psutil.Process(int((directory / "data" / "postmaster.pid").read_text().split()[0]))

    def backends(self) -> dict[str, psutil.Process]:
        """The backends of clients, by the titles that PostgreSQL gives its processes."""
        found = {}
        for child in self.postmaster().children():
            with contextlib.suppress(psutil.Error):
                title = " ".join(child.cmdline())
                if "[local]" in title:
                    found[title] = child
        return found


@pytest.fixture(scope="module")
def victim():
    made = Victim()
    yield made
    _local.down(made.home)
    shutil.rmtree(made.home, ignore_errors=True)


@pytest.fixture
def ng(victim):
    victim.up()
    with ngdata.connect(victim.url, connect_timeout=2) as client:
        client.tokens.delete(client.tokens.find_in_region(*EVERYTHING).token_id)
        yield client


def in_thread(call):
    """Call in a thread; give a way to wait for its end and what it raised."""
    raised = []

    def work():
        try:
            call()
        except NGDataError as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()

    def join():
        thread.join(60)
        assert not thread.is_alive(), "the call did not end"
        return raised

    return join


def test_a_backend_killed_in_a_read_is_an_error_or_an_answer_and_then_all_is_well(
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


def test_idle_connections_lost_to_a_restart_cost_the_next_call_nothing(victim, ng):
    ng.tokens.create({0: (0, 0, 0)})
    assert len(ng.tokens.find_in_region(*BOX)) == 1
    victim.postmaster().send_signal(signal.SIGQUIT)  # pg_ctl stop -m immediate
    wait_for_end(victim)
    victim.up()
    assert len(ng.tokens.find_in_region(*BOX)) == 1
    ng.tokens.create({0: (0, 0, 0)})
    assert len(ng.tokens.find_in_region(*BOX)) == 2


def test_an_immediate_stop_in_a_bulk_write_leaves_nothing_behind(victim, ng, wait_until):
    many = 200_000
    frame = {"x": range(many), "y": [0.0] * many, "z": [0.0] * many}
    join = in_thread(lambda: ng.tokens.bulk_create(frame))
    wait_until(lambda: copying(victim))
    victim.postmaster().send_signal(signal.SIGQUIT)
    (error,) = join()
    assert isinstance(error, DatabaseUnavailable)
    with pytest.raises(DatabaseUnavailable, match="ngdata up"):
        ng.tokens.find_in_region(*BOX)
    wait_for_end(victim)
    victim.up()
    assert ng.tokens.count_in_region(*EVERYTHING) == 0
    ng.tokens.create({0: (0, 0, 0)})
    assert ng.tokens.count_in_region(*EVERYTHING) == 1


@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_a_frozen_server_is_given_up_on_and_taken_up_again(victim, ng, write):
    call = (lambda: ng.tokens.create({0: (5, 5, 5)})) if write else (lambda: works_or_raises(ng))
    call()
    frozen = [victim.postmaster(), *victim.postmaster().children()]
    for process in frozen:
        process.suspend()
    try:
        with pytest.raises(DatabaseUnavailable, match=r"stopped answering|does not answer"):
            call()
        assert ng.health()["ok"] is False
    finally:
        for process in reversed(frozen):
            process.resume()
    call()


def test_an_iterator_over_a_server_that_dies_ends_with_the_typed_error(victim, ng):
    many = 100_000
    ng.tokens.bulk_create({"x": range(many), "y": [0.0] * many, "z": [0.0] * many})
    parts = ng.tokens.iter_region(*EVERYTHING, chunk_rows=100)
    next(parts)
    victim.postmaster().send_signal(signal.SIGQUIT)
    wait_for_end(victim)
    with pytest.raises(DatabaseUnavailable):
        for _ in parts:
            pass
    victim.up()
    assert ng.tokens.count_in_region(*EVERYTHING) == many


def test_a_full_pool_is_an_error_after_the_wait_it_was_given(victim, ng):
    async def main():
        way = {"pool_max_size": 1, "pool_timeout": 0.2}
        async with await ngdata.connect_async(victim.url, **way) as ang:
            await ang.tokens.bulk_create({"x": [0, 1], "y": [0, 1], "z": [0, 1]})
            parts = ang.tokens.iter_region(*EVERYTHING, chunk_rows=1)
            await anext(parts)
            with pytest.raises(DatabaseUnavailable, match="pool_max_size"):
                await ang.tokens.find_in_region(*BOX)
            await parts.aclose()
            assert len(await ang.tokens.find_in_region(*BOX)) == 2

    asyncio.run(main())


def test_a_server_without_room_for_more_connections_says_so(victim, ng, execute):
    execute(victim.url, "ALTER ROLE ngdata CONNECTION LIMIT 0")
    # A superuser is not limited: so another role asks.
    execute(victim.url, "CREATE ROLE crowd LOGIN CONNECTION LIMIT 0")
    try:
        with pytest.raises(NGDataError) as refused:
            ngdata.connect(victim.url.replace("ngdata@", "crowd@"))
        assert "crowd" in str(refused.value)
    finally:
        execute(victim.url, "DROP ROLE crowd", "ALTER ROLE ngdata CONNECTION LIMIT -1")


def test_a_server_that_ends_idle_transactions_is_no_trouble(victim, execute):
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


def test_a_database_of_another_revision_is_named_at_connect_and_in_the_middle(victim, ng):
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


def test_no_server_at_all_is_told_at_connect():
    with pytest.raises(DatabaseUnavailable) as refused:
        ngdata.connect("postgresql://someone:s3cret@127.0.0.1:1/neurograph")
    assert "127.0.0.1:1" in str(refused.value)
    assert "s3cret" not in str(refused.value)


@contextlib.contextmanager
def locked(victim):
    """Hold a lock from a connection that is killed with the others."""
    holder = adbc.connect(victim.url)
    with holder.cursor() as cursor:
        cursor.execute("LOCK TABLE tokens.spatial_index IN ACCESS EXCLUSIVE MODE")
    yield
    for close in (holder.rollback, holder.close):
        with contextlib.suppress(adbc.Error):
            close()


def waiting(victim) -> int:
    return sum("waiting" in title for title in victim.backends())


def copying(victim) -> bool:
    return any("COPY" in title for title in victim.backends())


def wait_for_end(victim) -> None:
    # Gone already, the file or the process, it has ended.
    with contextlib.suppress(psutil.Error, OSError):
        psutil.wait_procs([victim.postmaster()], timeout=30)


def works(client) -> bool:
    try:
        client.tokens.find_in_region(*BOX)
    except DatabaseUnavailable:
        return False
    return True


def works_or_raises(client) -> None:
    client.tokens.find_in_region(*BOX)
