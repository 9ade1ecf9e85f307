"""No secret is shown: by repr, in a notebook, in an error or its traceback, in a log, on the terminal.

Any part of the password would be recognized, and it contains every character that a URL must escape.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
import sqlalchemy
from IPython.core.formatters import DisplayFormatter

import ngdata
from ngdata._config import postgres_url
from ngdata._config.settings import load_settings
from ngdata._config.yaml_file import load_config_file
from ngdata._store import migrate
from ngdata.admin import examine
from ngdata.admin.optimize import optimize
from ngdata.admin.reindex import reindex
from ngdata.binary import token_rows
from ngdata.datasets import load_celegans
from ngdata.errors import ConfigError, DatabaseUnavailable, InvalidQueryError, NGDataError
from ngdata.files import open_dataset, read_parquet

SECRET = "Sesame1@Sesame2/Sesame3:Sesame4?Sesame5#Sesame6%41Sesame7+ [Sesame8]'\"ä$"
ESCAPED = quote(SECRET, safe="")
USER = "teller"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def teller(tcp_server):
    """A user whose password is the secret."""
    literal = SECRET.replace("'", "''")
    tcp_server.run(f"CREATE ROLE {USER} LOGIN SUPERUSER PASSWORD '{literal}'")
    yield tcp_server
    tcp_server.run(f"DROP ROLE {USER}")


def assert_hidden(*texts):
    for text in texts:
        assert "sesame" not in str(text).lower(), text


def shown_by(error):
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.args)


def in_url(server, monkeypatch, tmp_path):
    return {"database_url": f"postgresql://{USER}:{ESCAPED}@localhost:{server.port}/store"}


def in_query(server, monkeypatch, tmp_path):
    url = f"postgresql://localhost:{server.port}/store?user={USER}&password={ESCAPED}"
    return {"database_url": url}


def in_environment(server, monkeypatch, tmp_path):
    monkeypatch.setenv("NGDATA_DATABASE_URL", in_url(server, monkeypatch, tmp_path)["database_url"])
    return {}


def in_parts(server, monkeypatch, tmp_path):
    names = ("HOST", "PORT", "DB", "USER", "PASSWORD")
    for name, value in zip(names, ("localhost", server.port, "store", USER, SECRET), strict=True):
        monkeypatch.setenv(f"POSTGRES_{name}", str(value))
    return {}


def in_file(server, monkeypatch, tmp_path):
    monkeypatch.setenv("THE_SECRET", SECRET)
    file = tmp_path / "database.yaml"
    file.write_text(
        "database:\n  postgres:\n    host: localhost\n    database: store\n"
        f"    port: {server.port}\n    user: {USER}\n    password: ${{THE_SECRET}}\n"
    )
    return {"config": file}


PLACES = [in_url, in_query, in_environment, in_parts, in_file]


async def session_of_entities(database):
    async with database.session() as session:
        await session.execute(sqlalchemy.text("SELECT 1"))


@pytest.mark.parametrize("place", PLACES)
def test_a_client_at_work(teller, monkeypatch, tmp_path, caplog, capfd, place):
    arguments = place(teller, monkeypatch, tmp_path)
    caplog.set_level(logging.DEBUG)
    for name in ("sqlalchemy", "sqlalchemy.pool", "sqlalchemy.engine", "asyncpg", "redis"):
        caplog.set_level(logging.DEBUG, name)
    settings = load_settings(**arguments)
    assert_hidden(repr(settings), settings.model_dump(), settings.model_dump_json())
    redis_url = f"redis://:{ESCAPED}@localhost:1/0"
    with ngdata.connect(**arguments, redis_url=redis_url) as ng:
        token = ng.tokens.create({0: (1, 2, 3)})
        assert ng.tokens.delete([token]) == 1
        with pytest.raises(NGDataError) as caught:
            ng.tokens.create({0: (1, 2, 3)}, metadata={"key": "\0"})
        ng._loop.run(session_of_entities(ng._wrapped._database))
        display, _ = DisplayFormatter().format(ng)
        health = ng.health()
        assert health["ok"]
        assert not health["redis"]["ok"]
        assert_hidden(repr(ng), display, health, ng.pool_status(), shown_by(caught.value))
    assert "sqlalchemy.pool" in caplog.text
    assert_hidden(caplog.text, *capfd.readouterr())


@pytest.mark.parametrize("place", PLACES)
def test_a_server_that_does_not_answer(monkeypatch, tmp_path, place):
    class Nowhere:
        port = 1

    arguments = place(Nowhere, monkeypatch, tmp_path)
    with pytest.raises(DatabaseUnavailable, match=f"{USER}@localhost:1/store") as caught:
        ngdata.connect(**arguments)
    assert_hidden(shown_by(caught.value))


def test_a_wrong_password(tcp_server):
    url = tcp_server.url(password=SECRET)
    for attempt in (lambda: ngdata.connect(url), lambda: migrate.upgrade(url)):
        with pytest.raises(ConfigError, match="check user and password") as caught:
            attempt()
        assert_hidden(shown_by(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@localhost:1/store",
        f"postgresql://me:{SECRET}",
        "postgresql://:Sesame@localhost:1",
        f"postgresql://localhost:1/store?password={SECRET}",
        "postgresql://me:Sesame%ZZSesame@localhost:1/store",
        "postgresql://me:Sesame%00Sesame@localhost:1/store",
        "postgresql://me:Sesame%FFSesame@localhost:1/store",
        "postgresql://me:Sesame[Sesame@localhost:1/store",
        "postgresql://me:1/Sesame@localhost:1/store",
        "postgresql://me:1?a=Sesame@localhost:1/store",
        "postgresql://localhost:Sesame/store",
        f"mysql://me:{SECRET}@localhost/store",
    ],
)
def test_urls_that_cannot_be_read(url):
    """URLs that a driver or Python would fail on, and show."""
    with pytest.raises(NGDataError) as caught:
        ngdata.connect(url)
    assert_hidden(shown_by(caught.value))
    with pytest.raises(NGDataError) as caught:
        migrate.upgrade(url)
    assert_hidden(shown_by(caught.value))


@pytest.mark.parametrize("function", [examine, optimize, reindex], ids=lambda f: f.__name__)
def test_an_address_in_place_of_settings(function):
    with pytest.raises(
        InvalidQueryError, match=r"^settings must .* of type str; leave it"
    ) as caught:
        function(f"postgresql://me:{ESCAPED}@localhost:1/store")
    assert_hidden(shown_by(caught.value))


@pytest.mark.parametrize(
    "function",
    [load_celegans, open_dataset, read_parquet, ngdata.Box, ngdata.ids.to_integers, token_rows],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{ESCAPED}@localhost:1/store",
        f"postgresql://me:{SECRET}@localhost:1/store",
        f"postgresql://localhost/store?user=me&password={ESCAPED}",
        f"redis://:{ESCAPED * 20}@localhost:1/0",
        pytest.param([f"redis://:{ESCAPED}@localhost:1/0"], id="list"),
    ],
)
def test_an_address_in_place_of_another_argument(function, url):
    with pytest.raises(InvalidQueryError) as caught:
        function(*[url] * (2 if function is ngdata.Box else 1))
    assert_hidden(shown_by(caught.value))


def test_an_invalid_url_is_shown_without_its_password():
    for url in (
        f"postgresql://me:{SECRET}@h/d",
        "postgresql://h/d?password=Sesame@Sesame",
        f"postgresql://h/d?user=me&password={ESCAPED}",
    ):
        assert_hidden(postgres_url.without_password(url))


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@localhost:1/0",
        "redis://:Sesame/Sesame@localhost:1/0",
        "redis://localhost:Sesame/0",
        "http://:Sesame@localhost:1/0",
    ],
)
def test_redis_urls_that_cannot_be_read(url):
    with pytest.raises(ConfigError) as caught:
        load_settings(redis_url=url)
    assert_hidden(shown_by(caught.value))


@contextmanager
def require_password(server, password):
    """Make Redis require a password."""
    with redis.Redis.from_url(server.redis_url) as client:
        client.config_set("requirepass", password)
        try:
            yield
        finally:
            client.config_set("requirepass", "")


@pytest.mark.parametrize("place", ["argument", "environment", "parts", "file"])
def test_redis_accepts_and_refuses_a_password(
    server, database_url, monkeypatch, tmp_path, caplog, place
):
    caplog.set_level(logging.DEBUG)
    sockets = server.redis_url.removeprefix("unix://")
    url = f"unix://:{ESCAPED}@{sockets}"
    arguments = {}
    if place == "argument":
        arguments["redis_url"] = url
    elif place == "environment":
        monkeypatch.setenv("NGDATA_REDIS_URL", url)
    elif place == "parts":
        monkeypatch.setenv("REDIS_HOST", sockets.split("?")[0])
        monkeypatch.setenv("REDIS_PASSWORD", SECRET)
    else:
        monkeypatch.setenv("THE_SECRET", SECRET)
        arguments["config"] = tmp_path / "database.yaml"
        arguments["config"].write_text(
            f"database: {{redis: {{host: '{sockets.split('?')[0]}', password: '${{THE_SECRET}}'}}}}"
        )
    with ngdata.connect(database_url, **arguments) as ng:
        with require_password(server, SECRET):
            assert ng.health()["redis"]["ok"]
        with require_password(server, "another"):
            report = ng.health()["redis"]
        assert not report["ok"]
        assert "password" in report["error"]
        assert_hidden(report, repr(ng), caplog.text)


def test_a_file_on_display(tmp_path, monkeypatch):
    class Server:
        port = 5432

    config = load_config_file(in_file(Server, monkeypatch, tmp_path)["config"])
    display, _ = DisplayFormatter().format(config)
    assert_hidden(repr(config), display)
    assert config["database"]["postgres"]["password"] == SECRET


@pytest.mark.parametrize(
    "text",
    [
        "database: {postgres: {password: *Sesame}}",
        "database: {postgres: {password: !Sesame x}}",
        "database: {postgres: {password: 'Sesame}}",
        "database: {postgres: {password: ${Sesame 1}}}",
        "database: {postgres: {password: 'a${Sesame'}}",
        "database: {postgres: {password: '${A?Sesame}'}}",
        "database: {postgres: {password: [Sesame]}}",
        "database: {postgres: {pasword: Sesame}}",
        "database: {postgres: {port: Sesame}}",
    ],
)
def test_files_that_cannot_be_read(tmp_path, text):
    (tmp_path / "database.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(config=tmp_path / "database.yaml")
    assert_hidden(shown_by(caught.value))


def test_on_the_terminal(teller, server):
    url = f"postgresql://{USER}:{ESCAPED}@localhost:{teller.port}/store"
    environment = os.environ | {
        "NGDATA_DATABASE_URL": url,
        "NGDATA_REDIS_URL": f"redis://:{ESCAPED}@localhost:1/0",
    }

    def run(*words):
        program = Path(sys.executable).with_name("ngdata")
        return subprocess.run([program, *words], env=environment, capture_output=True, text=True)

    for words in (["migrate"], ["status"], ["psql", "-c", "SELECT 1"]):
        result = run(*words)
        assert result.returncode == 0, result.stderr
        assert_hidden(result.stdout, result.stderr)
    # For other programs, this prints whole URLs; the embedded servers have no password.
    assert json.loads(run("status", "--json").stdout)["database_url"] == server.database_url

    teller.run(f"ALTER ROLE {USER} NOLOGIN")
    result = run("migrate")
    teller.run(f"ALTER ROLE {USER} LOGIN")
    assert (result.returncode, result.stdout) == (1, "")
    assert_hidden(result.stderr)
