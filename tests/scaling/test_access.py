"""How workers reach the database: no secret shows, and errors name what is missing."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
import traceback

import pytest

import ngdata
from ngdata._reading.dask_frames import connections
from ngdata.errors import ConfigError, DatabaseUnavailable, NGDataError
from tests.conftest import backends
from tests.scaling.conftest import LIMITS, random_tokens, whole

SECRET = "Sesame1:Sesame2"
ESCAPED = "Sesame1%3ASesame2"


def assert_hidden(*texts):
    for text in texts:
        assert "sesame" not in str(text).lower(), text


def with_secret(url: str) -> str:
    """Add a password to a URL; the embedded server authenticates by user id and ignores it."""
    return url.replace("//ngdata@", f"//ngdata:{ESCAPED}@")


def texts_of(frame) -> list[str]:
    return [
        repr(frame),
        frame._repr_html_(),
        str(frame.dask),
        repr(dict(frame.dask)),
        repr(frame.expr),
        frame.expr.tree_repr(),
        str(frame.__dask_keys__()),
        repr(frame.optimize().dask),
    ]


def test_no_password_is_shown(database_url):
    with ngdata.connect(with_secret(database_url)) as ng:
        ng.tokens.bulk_create(random_tokens(1, 40))
        frame = ng.tokens.to_dask(*LIMITS, npartitions=3)
        events = ng.experience.to_dask(npartitions=3)
        assert_hidden(*texts_of(frame), *texts_of(events), *texts_of(frame[["x"]] + 1))
        assert len(whole(frame)) == 40
        # The pickle holds it, as documented.
        assert b"Sesame1" in pickle.dumps(frame)
        from_environment = ng.tokens.to_dask(*LIMITS, npartitions=3, url="environment")
        assert b"Sesame" not in pickle.dumps(from_environment)
        assert b"Sesame" not in pickle.dumps(ng.tokens.find_in_region(*LIMITS))


def test_no_password_is_in_the_error_of_a_task(ng, cluster):
    ng.tokens.bulk_create(random_tokens(1, 40))
    frame = ng.tokens.to_dask(*LIMITS, npartitions=2)
    reader = next(value for value in frame.dask.values()).func
    from ngdata._reading.dask_frames.access import Access
    from ngdata._reading.dask_frames.tasks import PartitionReader

    read = PartitionReader(
        Access.of(reader.access.settings, f"postgresql://me:{ESCAPED}@localhost:1/gone"),
        "call",
        None,
        consistent=False,
        default_column="token_id",
        ids=reader.ids,
        pin=None,
    )
    import dask.dataframe

    broken = dask.dataframe.from_map(read, frame.expr.operand("iterables")[0], meta=frame._meta)
    with pytest.raises(DatabaseUnavailable, match="me@localhost:1/gone") as caught:
        broken.compute()
    assert_hidden(*traceback.format_exception(caught.value), repr(caught.value))
    logs = cluster.get_worker_logs()
    assert_hidden(logs)
    assert "gone" in str(logs)


def test_another_database_with_the_same_schema(ng, database_url, new_migrated_database):
    """Such as a replica; planning reads the database that the workers will read."""
    ng.tokens.bulk_create(random_tokens(1, 10))
    with new_migrated_database() as other:
        with ngdata.connect(other) as other_client:
            other_client.tokens.bulk_create(random_tokens(2, 33))
        frame = ng.tokens.to_dask(*LIMITS, npartitions=3, url=other, consistent=True)
        assert len(whole(frame)) == 33
        # Planning opened a connection of its own, and closed it.
        assert backends(other, "datname = current_database()") == backends(
            other, "datname = current_database() AND application_name = 'ngdata'"
        )
        connections.close_idle()
        assert backends(other, "datname = current_database() AND pg_sleep(0.2) IS NOT NULL") == 0


@pytest.mark.parametrize(
    ("url", "error", "text"),
    [
        ("mysql://me:Sesame@there/db", ConfigError, "postgresql://"),
        ("postgresql://me:Sesame@localhost:1/db", DatabaseUnavailable, "me@localhost:1/db"),
        ("Sesame", ConfigError, "postgresql://"),
    ],
)
def test_wrong_urls(ng, url, error, text):
    with pytest.raises(error, match=text) as caught:
        ng.tokens.to_dask(*LIMITS, npartitions=2, url=url)
    assert_hidden(*traceback.format_exception(caught.value))


def test_a_database_without_a_schema(ng, empty_database):
    with pytest.raises(NGDataError, match="ngdata migrate"):
        ng.tokens.to_dask(*LIMITS, npartitions=2, url=empty_database)
    assert backends(empty_database, "datname = current_database()") == 0


def test_the_settings_of_the_client_are_used(database_url):
    with ngdata.connect(database_url, application_name="far away", read_only=True) as ng:
        frame = ng.tokens.to_dask(*LIMITS, npartitions=1)
        whole(frame)
        assert backends(database_url, "application_name = 'far away'") >= 2
    settings = next(iter(frame.dask.values())).func.access.settings
    assert settings.read_only
    assert settings.redis_url is None


def test_without_dask(ng, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.dataframe", None)
    with pytest.raises(ConfigError, match=r"pip install 'ngdata\[dask\]'"):
        ng.tokens.to_dask(*LIMITS, npartitions=2)


def test_dask_is_not_imported_with_ngdata():
    import subprocess

    code = "import sys, ngdata; sys.exit('dask' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_forked_child_opens_connections_of_its_own(ng):
    ng.tokens.bulk_create(random_tokens(1, 40))
    frame = ng.tokens.to_dask(*LIMITS, npartitions=2)
    assert len(whole(frame)) == 40
    child = os.fork()
    if not child:
        try:
            os._exit(0 if len(whole(frame)) == 40 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(whole(frame)) == 40


def test_cancelled_planning_leaves_no_query(database_url, execute):
    """It waits for a lock when it is cancelled; its query then ends on the server."""
    import adbc_driver_postgresql.dbapi as adbc

    async def run():
        async with await ngdata.connect_async(database_url, application_name="planner") as ang:
            with adbc.connect(database_url) as holder, holder.cursor() as cursor:
                cursor.execute("LOCK TABLE tokens.spatial_index IN ACCESS EXCLUSIVE MODE")
                plan = asyncio.create_task(
                    ang.tokens.to_dask(*LIMITS, npartitions=2, url=database_url)
                )
                waiting = "application_name = 'planner' AND wait_event_type = 'Lock'"
                while not await asyncio.to_thread(backends, database_url, waiting):
                    await asyncio.sleep(0.02)
                plan.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await plan
                holder.rollback()
            busy = "application_name = 'planner' AND state <> 'idle'"
            assert await asyncio.to_thread(backends, database_url, busy) == 0

    asyncio.run(run())


def test_an_idle_database_is_closed(ng, database_url, monkeypatch):
    monkeypatch.setattr(connections, "_IDLE_TIMEOUT", 0.05)
    with ngdata.connect(database_url, application_name="soon gone") as client:
        frame = client.tokens.to_dask(*LIMITS, npartitions=1)
    whole(frame)
    for _ in range(500):
        if not backends(database_url, "application_name = 'soon gone'"):
            break
        asyncio.run(asyncio.sleep(0.02))
    else:
        raise AssertionError("the connections are still open")
    whole(frame)


def test_terminated_connections_are_replaced_and_closed(new_migrated_database, execute):
    with new_migrated_database() as url:
        with ngdata.connect(url) as ng:
            frame = ng.tokens.to_dask(*LIMITS, npartitions=1)
        assert whole(frame).empty
        execute(
            url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        assert whole(frame).empty
        connections.close_idle()
