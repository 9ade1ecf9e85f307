"""The messages quoted in docs/operations.md are those that ngdata raises."""

from __future__ import annotations

import re
from collections.abc import Callable

import adbc_driver_postgresql.dbapi as adbc
import pytest

import ngdata
from ngdata._config import postgres_url
from ngdata._connections import revision
from ngdata._store import migrate
from ngdata.errors import (
    ConfigError,
    DatabaseUnavailable,
    NGDataError,
    QueryTimeout,
    ResultTooLarge,
    SchemaVersionError,
)
from tests.access.conftest import PASSWORD
from tests.conftest import ROOT

# Each quotation, without Markdown's marks and line breaks.
QUOTED = [
    re.sub(r"\n?> ?", " ", quotation).strip()
    for quotation in re.findall(
        r"(?:^> .*\n)+", (ROOT / "docs" / "operations.md").read_text("utf-8"), re.M
    )
]
seen: set[str] = set()


@pytest.fixture(scope="module", autouse=True)
def _every_message_was_seen(request):
    """Check after the whole file, if all of its tests run."""
    yield
    selected = {item.name for item in request.session.items if item.path == request.path}
    if selected == {name for name in globals() if name.startswith("test_")}:
        assert seen == set(QUOTED)


def assert_quoted(
    error: type[NGDataError], call: Callable[[], object], url: str | None = None
) -> None:
    """Check that a call fails with a quoted message, except for address and revision."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert PASSWORD not in message
    if url is not None:
        message = message.replace(postgres_url.without_password(url), "ADDRESS").replace(
            revision.HEAD, "HEAD"
        )
    [quotation] = [quotation for quotation in QUOTED if message.startswith(quotation)]
    seen.add(quotation)


@pytest.fixture
def me(tcp_server):
    """The URL of a role without rights, for a database that it may only connect to."""
    tcp_server.run(f"CREATE ROLE me LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE neurograph")
    yield tcp_server.url("me", database="neurograph")
    tcp_server.run("DROP DATABASE neurograph WITH (FORCE)", "DROP ROLE me")


def test_no_server_answers():
    nowhere = "postgresql://me:secret@127.0.0.1:1/neurograph"
    assert_quoted(DatabaseUnavailable, lambda: ngdata.connect(nowhere))


def test_a_wrong_password(tcp_server, me):
    url = tcp_server.url("me", "not it", database="neurograph")
    assert_quoted(ConfigError, lambda: ngdata.connect(url), url)


def test_no_such_database(tcp_server):
    url = tcp_server.url(database="neurograph")
    assert_quoted(ConfigError, lambda: ngdata.connect(url), url)


def test_a_full_pool(monkeypatch, database_url):
    """With the defaults, except for a shorter timeout."""
    with ngdata.connect(database_url, pool_timeout=0.01) as ng:
        ng.tokens.bulk_create({"x": [1.0] * 3, "y": [1.0] * 3, "z": [1.0] * 3})
        box = ((0, 0, 0), (2, 2, 2))
        left_open = [ng.tokens.iter_region(*box, chunk_rows=1) for _ in range(20)]
        for frames in left_open:
            next(frames)
        with pytest.raises(DatabaseUnavailable) as caught:
            ng.tokens.count_in_region(*box)
        for frames in left_open:
            frames.close()
    message = str(caught.value).replace("0.01 s", "30 s")
    assert message in QUOTED
    seen.add(message)


def test_no_servers_are_installed(monkeypatch, tmp_path):
    from ngdata._local import binaries

    monkeypatch.setattr(binaries, "PLACES", [])
    monkeypatch.setattr(binaries, "REDIS_PLACES", [])
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("NGDATA_HOME", str(tmp_path / "home"))
    assert_quoted(ConfigError, ngdata.connect)


def test_a_missing_and_an_old_schema(empty_database):
    assert_quoted(SchemaVersionError, lambda: ngdata.connect(empty_database), empty_database)
    migrate.upgrade(empty_database, "0002")
    assert_quoted(SchemaVersionError, lambda: ngdata.connect(empty_database), empty_database)


def test_a_database_of_a_newer_ngdata(tcp_server, me):
    url = tcp_server.url(database="neurograph")
    migrate.upgrade(url)
    tcp_server.run("UPDATE tokens.alembic_version SET version_num = '9999'", database="neurograph")
    assert_quoted(SchemaVersionError, lambda: migrate.upgrade(url), url)


def test_migrating_without_rights(tcp_server, me):
    assert_quoted(ConfigError, lambda: migrate.upgrade(me), me)
    tcp_server.run("GRANT CREATE ON DATABASE neurograph TO me")
    assert_quoted(ConfigError, lambda: migrate.upgrade(me), me)
    tcp_server.run("CREATE EXTENSION postgis", database="neurograph")
    migrate.upgrade(me)


def test_a_query_that_takes_too_long(database_url):
    with (
        ngdata.connect(database_url, statement_timeout=0.1) as ng,
        adbc.connect(database_url) as holder,
    ):
        with holder.cursor() as cursor:
            cursor.execute("LOCK TABLE tokens.spatial_index")
        assert_quoted(
            QueryTimeout,
            lambda: ng.tokens.count_in_region((0, 0, 0), (1, 1, 1)),
            database_url,
        )
        holder.rollback()


def test_a_result_that_is_too_large(database_url):
    with ngdata.connect(database_url, max_rows=2) as ng:
        ng.tokens.bulk_create({"x": [1.0] * 3, "y": [1.0] * 3, "z": [1.0] * 3})
        with pytest.raises(ResultTooLarge) as caught:
            ng.tokens.find_in_region((0, 0, 0), (2, 2, 2))
    message = str(caught.value).replace("3 rows", "1,500,000 rows").replace("2;", "1,000,000;")
    assert message in QUOTED
    seen.add(message)


def test_the_plan(migrated_database):
    # A database of its own: statistics of other tests' rows change the plan.
    with ngdata.connect(migrated_database) as ng:
        plan = repr(ng.explain(ng.tokens.find_nearest, (0, 0, 0), k=1))
    [quotation] = [quotation for quotation in QUOTED if plan.startswith(quotation)]
    seen.add(quotation)
