"""The messages in docs/operations.md are those that our tools give."""

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

# Each quotation, without the marks of Markdown and its line breaks.
QUOTED = [
    re.sub(r"\n?> ?", " ", quotation).strip()
    for quotation in re.findall(
        r"(?:^> .*\n)+", (ROOT / "docs" / "operations.md").read_text("utf-8"), re.M
    )
]
seen: set[str] = set()


@pytest.fixture(scope="module", autouse=True)
def _every_message_was_seen(request):
    """After all of this file, when all of it was asked for."""
    yield
    asked_for = {item.name for item in request.session.items if item.path == request.path}
    if asked_for == {name for name in globals() if name.startswith("test_")}:
        assert seen == set(QUOTED)


def told(error: type[NGDataError], work: Callable[[], object], url: str | None = None) -> None:
    """The work fails with a message that is quoted, address and revision aside."""
    with pytest.raises(error) as caught:
        work()
    message = str(caught.value)
    assert PASSWORD not in message
    if url is not None:
        message = message.replace(postgres_url.shown(url), "ADDRESS").replace(revision.HEAD, "HEAD")
    [quotation] = [quotation for quotation in QUOTED if message.startswith(quotation)]
    seen.add(quotation)


@pytest.fixture
def me(tcp_server):
    """A role without rights, and a database of that name that it may only enter."""
    tcp_server.run(f"CREATE ROLE me LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE neurograph")
    yield tcp_server.url("me", database="neurograph")
    tcp_server.run("DROP DATABASE neurograph WITH (FORCE)", "DROP ROLE me")


def test_nobody_listens():
    nowhere = "postgresql://me:secret@127.0.0.1:1/neurograph"
    told(DatabaseUnavailable, lambda: ngdata.connect(nowhere))


def test_a_wrong_password(tcp_server, me):
    url = tcp_server.url("me", "not it", database="neurograph")
    told(ConfigError, lambda: ngdata.connect(url), url)


def test_no_such_database(tcp_server):
    url = tcp_server.url(database="neurograph")
    told(ConfigError, lambda: ngdata.connect(url), url)


def test_a_full_pool(monkeypatch, database_url):
    """As it is by default, but for the patience."""
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


def test_nothing_is_installed(monkeypatch, tmp_path):
    from ngdata._local import binaries

    monkeypatch.setattr(binaries, "PLACES", [])
    monkeypatch.setattr(binaries, "REDIS_PLACES", [])
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("NGDATA_HOME", str(tmp_path / "home"))
    told(ConfigError, ngdata.connect)


def test_no_schema_and_an_old_one(empty_database):
    told(SchemaVersionError, lambda: ngdata.connect(empty_database), empty_database)
    migrate.upgrade(empty_database, "0002")
    told(SchemaVersionError, lambda: ngdata.connect(empty_database), empty_database)


def test_a_database_that_a_newer_ngdata_made(tcp_server, me):
    url = tcp_server.url(database="neurograph")
    migrate.upgrade(url)
    tcp_server.run("UPDATE tokens.alembic_version SET version_num = '9999'", database="neurograph")
    told(SchemaVersionError, lambda: migrate.upgrade(url), url)


def test_migrating_without_rights(tcp_server, me):
    told(ConfigError, lambda: migrate.upgrade(me), me)
    tcp_server.run("GRANT CREATE ON DATABASE neurograph TO me")
    told(ConfigError, lambda: migrate.upgrade(me), me)
    tcp_server.run("CREATE EXTENSION postgis", database="neurograph")
    migrate.upgrade(me)


def test_a_query_that_takes_too_long(database_url):
    with (
        ngdata.connect(database_url, statement_timeout=0.1) as ng,
        adbc.connect(database_url) as holder,
    ):
        with holder.cursor() as cursor:
            cursor.execute("LOCK TABLE tokens.spatial_index")
        told(
            QueryTimeout,
            lambda: ng.tokens.count_in_region((0, 0, 0), (1, 1, 1)),
            database_url,
        )
        holder.rollback()


def test_an_answer_that_is_too_large(database_url):
    with ngdata.connect(database_url, max_rows=2) as ng:
        ng.tokens.bulk_create({"x": [1.0] * 3, "y": [1.0] * 3, "z": [1.0] * 3})
        with pytest.raises(ResultTooLarge) as caught:
            ng.tokens.find_in_region((0, 0, 0), (2, 2, 2))
    message = str(caught.value).replace("3 rows", "1,500,000 rows").replace("2;", "1,000,000;")
    assert message in QUOTED
    seen.add(message)


def test_the_plan(database_url):
    with ngdata.connect(database_url) as ng:
        plan = repr(ng.explain(ng.tokens.find_nearest, (0, 0, 0), k=1))
    [quotation] = [quotation for quotation in QUOTED if plan.startswith(quotation)]
    seen.add(quotation)
