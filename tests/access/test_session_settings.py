"""One session: whatever sets a session's settings, and however, answers and writes stay the same.

Each way of setting them (libpq's environment, `options` in the URL, ALTER ROLE, ALTER DATABASE) gets
values that would change an answer.  `NGDATA_TEST_SCALE=10` tries each setting by itself, too.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import adbc_driver_postgresql
import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

import ngdata
from ngdata._config.driver_arguments import LIBPQ_ENVIRONMENT, asyncpg_arguments, libpq_url
from ngdata._config.settings import load_settings
from ngdata._connections.database import Database
from ngdata._connections.libpq import connect_libpq
from ngdata._connections.opening import open_database
from ngdata._connections.session_settings import SETTINGS
from ngdata._reading.cache.versions import Versions
from ngdata._store import migrate
from ngdata.admin import examine
from ngdata.binary import TOKEN
from ngdata.binary.loading import load_records
from ngdata.errors import ConfigError
from ngdata.repositories import DatabaseFactory, RepositoryFactory
from tests.access.test_tls import encrypted
from tests.conftest import ROOT, SCALE, execute

BOX = ([-np.inf] * 3, [np.inf] * 3)

# For each setting, a value that would change an answer, a write, or what an error means.
HOSTILE = {
    "client_encoding": "LATIN1",
    "bytea_output": "escape",
    "DateStyle": "German, DMY",
    "extra_float_digits": "-15",
    "IntervalStyle": "sql_standard",
    "quote_all_identifiers": "on",
    "TimeZone": "Asia/Kathmandu",
    "timezone_abbreviations": "India",
    "xmlbinary": "hex",
    "xmloption": "document",
    "array_nulls": "off",
    "backslash_quote": "off",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "exit_on_error": "on",
    "gin_fuzzy_search_limit": "1",
    "row_security": "off",
    "client_min_messages": "debug5",
    "search_path": "hostile,pg_catalog,public",
    "session_replication_role": "replica",
}

NAMES = ["quote_all_identifiers", "search_path"]
GROUPS = {"names": NAMES, "others": [name for name in HOSTILE if name not in NAMES]}
if SCALE >= 10:
    GROUPS |= {name: [name] for name in HOSTILE}

# Found before the system's functions if the search_path names this schema first.
SHADOWS = """
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.pg_backend_pid() RETURNS int RETURN 0;
CREATE FUNCTION hostile.set_config(text, text, boolean) RETURNS text RETURN NULL;
CREATE FUNCTION hostile.concat_ws(text, text, text, text) RETURNS text RETURN 'hostile';
CREATE FUNCTION hostile.current_setting(text) RETURNS text RETURN 'hostile';
CREATE FUNCTION hostile.current_database() RETURNS name RETURN 'hostile'::name;
CREATE FUNCTION hostile.quote_ident(text) RETURNS text RETURN 'hostile';
CREATE FUNCTION hostile.st_x(geometry) RETURNS float8 RETURN -1;
CREATE FUNCTION hostile.same(name, name) RETURNS boolean RETURN false;
CREATE OPERATOR hostile.= (LEFTARG = name, RIGHTARG = name, PROCEDURE = hostile.same);
CREATE FUNCTION hostile.int4recv(internal) RETURNS int4 LANGUAGE internal AS 'int4recv';
"""

WORDS = ["é", "漢字", "\\'; --", "Ω≈ç√", "plain"]
COLUMNS = [
    *("token_id", "token_type", "weight", "flags", "timestamp", "coords", "metadata"),
    "binary_data",
]
IDS = [f"00000000-0000-4000-8000-{n:012d}" for n in range(1, 6)]
FLOATS = [0.1, 5e-324, 1.7976931348623157e308, np.pi, 1 / 3]


def option(name: str, value: str) -> str:
    return f"-c {name}={value.replace(' ', chr(92) + ' ')}"


@pytest.fixture(scope="module")
def store(new_migrated_database: Any) -> Iterator[str]:
    """A store whose rows show each difference: texts, floats, times, bytes, JSON, a snapshot."""
    with new_migrated_database() as url:
        execute(url, SHADOWS)
        with ngdata.connect(url, cache="off") as ng:
            write(ng, "", IDS)
            ng.graph.bulk_create(
                {
                    "source_id": IDS[:-1],
                    "target_id": IDS[1:],
                    "connection_type": WORDS[:-1],
                    "weight": FLOATS[:2] + FLOATS[3:],
                }
            )
            ng.graph.create_snapshot("é")
        yield url


def write(ng: ngdata.Client, label: str, ids: list[str]) -> None:
    ng.tokens.bulk_create(
        {
            "token_id": ids,
            "x": FLOATS[:1] + FLOATS[3:] + [1.5, 2.5],
            "y": [0.0] * 5,
            "z": [0.1] * 5,
            "token_type": [label + word for word in WORDS],
            "timestamp": pd.date_range("2024-03-31T00:30:00.123456Z", periods=5, freq="h"),
            "metadata": [
                {"é": word, "n": number} for word, number in zip(WORDS, FLOATS, strict=True)
            ],
            "binary_data": [bytes(range(64 * n, 64 * n + 64)) for n in range(4)] + [None],
        }
    )
    ng.experience.bulk_create(
        {
            "event_type": [label + word for word in WORDS],
            "timestamp": pd.date_range("2024-03-30T17:45:00.000001Z", periods=5, freq="7h"),
            "reward": FLOATS[:2] + FLOATS[3:] + [-1.25],
            "token_id": ids,
            "state_after": [{"t": word} for word in WORDS],
        }
    )


def answers(ng: ngdata.Client) -> dict[str, Any]:
    """Read by each of the ways that reads take."""
    plain: dict[str, Any] = {"cache": "off"}
    snapshots = ng.graph.list_snapshots(**plain)
    snapshot = ng.graph.load_snapshot(snapshots["snapshot_id"][0], **plain)
    around = ng.experience.events_around("2024-03-31T12:00Z", "24h", "12h", **plain)
    return {
        "region": ng.tokens.find_in_region(*BOX, **plain),
        "text": ng.tokens.find_in_region(*BOX, token_type=WORDS[:3], **plain),
        "nearest": ng.tokens.find_nearest((0, 0, 0), 3, **plain),
        "ids": ng.tokens.get(IDS, columns=COLUMNS, **plain),
        "iterated": pd.concat(ng.tokens.iter_region(*BOX, chunk_rows=2)),
        "neighbors": ng.graph.get_neighbors(IDS[0], depth=3, **plain),
        "path": ng.graph.shortest_path(IDS[0], IDS[3], **plain),
        "snapshots": snapshots,
        "snapshot": snapshot.connections,
        "events": ng.experience.get_events(**plain),
        "typed": ng.experience.get_events(event_type="é", **plain),
        "days": ng.experience.resample_rewards("D", **plain),
        "counts": ng.experience.count_events("D", "event_type", tz="Europe/Berlin", **plain),
        "types": ng.tokens.aggregate(["token_type", "metadata.é"], cell=0.1, **plain),
        "sample": ng.tokens.sample(4, **plain),
        "around": around,
        "offsets": around["offset"].dt.total_seconds().to_frame(),
        "strict": ng.tokens.find_in_region(*BOX, columns=["token_type"], cache="strict"),
    }


@pytest.fixture(scope="module")
def expected(store: str) -> dict[str, Any]:
    with ngdata.connect(store) as ng:
        result = answers(ng)
    # Not only the same, but right.
    rows = result["ids"].set_index("token_id").loc[IDS]
    assert rows["token_type"].tolist() == WORDS
    assert rows["metadata"].tolist() == [
        {"é": word, "n": number} for word, number in zip(WORDS, FLOATS, strict=True)
    ]
    assert b"".join(rows["binary_data"].tolist()[:4]) == bytes(range(256))
    assert len(result["text"]) == 3
    assert len(result["typed"]) == 1
    assert result["days"]["count"].tolist() == [1, 4]
    return result


@contextmanager
def by_environment(monkeypatch: Any, url: str, settings: dict[str, str]) -> Iterator[str]:
    options = " ".join(option(*setting) for setting in settings.items())
    own = {"client_encoding": "PGCLIENTENCODING", "TimeZone": "PGTZ", "DateStyle": "PGDATESTYLE"}
    with monkeypatch.context() as patch:
        patch.setenv("PGOPTIONS", options)
        for name, variable in own.items():
            if name in settings:
                patch.setenv(variable, settings[name])
        yield url


@contextmanager
def by_url(monkeypatch: Any, url: str, settings: dict[str, str]) -> Iterator[str]:
    options = " ".join(option(*setting) for setting in settings.items())
    yield f"{url}&options={quote(options, safe='')}"


def _altered(url: str, subject: str, settings: dict[str, str]) -> Iterator[str]:
    plain = (
        f"{url}&options={quote('-c search_path=public -c role=none', safe='')}&client_encoding=UTF8"
    )
    for name, value in settings.items():
        quoted = value if name == "search_path" else f"'{value}'"
        execute(plain, f"ALTER {subject} SET {name} = {quoted}")
    try:
        yield url
    finally:
        execute(plain, f"ALTER {subject} RESET ALL")


@contextmanager
def by_role(monkeypatch: Any, url: str, settings: dict[str, str]) -> Iterator[str]:
    yield from _altered(url, f"ROLE ngdata IN DATABASE {urlsplit(url).path[1:]}", settings)


@contextmanager
def by_database(monkeypatch: Any, url: str, settings: dict[str, str]) -> Iterator[str]:
    yield from _altered(url, f"DATABASE {urlsplit(url).path[1:]}", settings)


WAYS = {
    "environment": by_environment,
    "url": by_url,
    "role": by_role,
    "database": by_database,
}


def same(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, frame in expected.items():
        pd.testing.assert_frame_equal(actual[name], frame, check_exact=True, obj=name)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("way", WAYS)
def test_answers_and_writes_are_the_same(store, expected, monkeypatch, way, group, capfd):
    settings = {name: HOSTILE[name] for name in GROUPS[group]}
    new = [identifier.replace("-4000-", "-4001-") for identifier in IDS]
    with WAYS[way](monkeypatch, store, settings) as url, ngdata.connect(url) as ng:
        same(answers(ng), expected)
        write(ng, "new ", new)
        assert ng.tokens.get(new[0])["token_type"].tolist() == ["new é"]
    try:
        with ngdata.connect(store, cache="off") as ng:
            columns = [name for name in COLUMNS if name not in ("token_id", "token_type")]
            same(
                {"written": ng.tokens.get(new, columns=columns)},
                {"written": ng.tokens.get(IDS, columns=columns)},
            )
            assert ng.tokens.get(new)["token_type"].tolist() == ["new " + word for word in WORDS]
            events = ng.experience.get_events(token_ids=new)
            assert events["timestamp"].tolist() == (
                ng.experience.get_events(token_ids=IDS)["timestamp"].tolist()
            )
            assert sorted(events["event_type"]) == sorted("new " + word for word in WORDS)
    finally:
        execute(
            store,
            "DELETE FROM experience.experience_events WHERE event_type LIKE 'new %'",
            "DELETE FROM tokens.tokens WHERE token_type LIKE 'new %'",
        )
    assert capfd.readouterr().err == ""


async def _settings_of(database: Database) -> dict[str, dict[str, str]]:
    """Return the settings as each kind of connection has them."""
    names = [*SETTINGS, "search_path", "session_replication_role"]
    values = ", ".join(f"pg_catalog.current_setting('{name}') AS \"{name}\"" for name in names)
    query = f"SELECT {values}, current_user::text AS role"
    seen: dict[str, Any] = {}
    async with database.transaction() as connection:
        seen["write"] = dict(await connection.fetchrow(query))
    async with database.session() as session:
        seen["session"] = dict((await session.execute(text(query))).mappings().one())
    async with database.arrow.connection() as connection:
        row = (await connection.run(lambda session: session.read(query, copy=False))).table
        seen["read"] = row.to_pylist()[0]
    versions = Versions(database)
    seen["versions"] = dict(await versions._run(lambda connection: connection.fetchrow(query)))
    await versions.close()
    return seen


@pytest.mark.parametrize("way", WAYS)
def test_each_kind_of_connection_has_the_same_settings(store, monkeypatch, way):
    async def seen(url: str) -> dict[str, dict[str, str]]:
        async with open_database(load_settings(database_url=url)) as database:
            return await _settings_of(database)

    plain = asyncio.run(seen(store))
    assert plain["write"] == {
        **SETTINGS,
        "search_path": "public, public, pg_temp",
        "session_replication_role": "origin",
        "role": "ngdata",
    }
    with WAYS[way](monkeypatch, store, HOSTILE) as url:
        assert asyncio.run(seen(url)) == plain == dict.fromkeys(plain, plain["write"])


@pytest.mark.parametrize("way", ["environment", "role", "database"])
def test_files_sessions_maintenance_and_migrations(store, monkeypatch, tmp_path, way):
    """By way of the URL they are the same, as the options are part of it."""
    records = np.zeros(3, TOKEN)
    records["coordinates"] = 127
    records["coordinates"][:, 0] = 1
    records["id"] = [7, 8, 9]
    records["timestamp"] = [0, 1, 2**31]
    file = tmp_path / "records.bin"
    records.tofile(file)
    parts = urlsplit(store)
    host = re.search(r"host=([^&]+)", parts.query)[1]

    async def entities() -> list[str]:
        config = {"postgres": {"host": host.replace("%2F", "/").replace("%20", " "), "port": 5432}}
        config["postgres"] |= {"database": parts.path[1:], "user": "ngdata"}
        try:
            manager = await DatabaseFactory.create_database_manager(config)
            async with manager.session() as session:
                repository = RepositoryFactory.create_token_repository(session)
                return [entity.token_type for entity in await repository.find_by_type("é")]
        finally:
            await DatabaseFactory.close_all()

    with WAYS[way](monkeypatch, store, HOSTILE) as url:
        migrate.upgrade(url)
        with ngdata.connect(url, cache="off") as ng:
            load_records(ng, file, "tokens", progress=False)
            types = ng.tokens.find_in_region(*BOX)["token_type"].tolist()
            assert len(types) == 8
            frame = ng.tokens.to_dask(*BOX, npartitions=2).compute(scheduler="sync")
            assert sorted(frame["token_type"]) == sorted(types)
        assert asyncio.run(entities()) == ["é"]
        assert [f for f in examine(load_settings(database_url=url)) if f.state == "wrong"] == []
    execute(store, f"DELETE FROM tokens.tokens WHERE id <> ALL ('{{{','.join(IDS)}}}')")


def test_foreign_keys_cannot_be_switched_off(tcp_server):
    """Only a superuser could set it for a database, and only one may set it back."""
    tcp_server.run("CREATE ROLE ordinary LOGIN PASSWORD 'ordinary' IN ROLE ngdata_writer")
    tcp_server.run("ALTER ROLE ordinary SET session_replication_role = replica")
    try:
        with pytest.raises(ConfigError, match="session_replication_role"):
            ngdata.connect(tcp_server.url("ordinary", "ordinary"))
        tcp_server.run("ALTER ROLE ordinary RESET session_replication_role")
        with ngdata.connect(tcp_server.url("ordinary", "ordinary")) as ng:
            assert ng.health()["ok"]
    finally:
        tcp_server.run("DROP ROLE ordinary")


def test_a_database_without_an_encoding_is_refused(server):
    name = "ascii_only"
    execute(server.database_url, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII'")
    try:
        url = server.database_url.replace("/ngdata?", f"/{name}?")
        for refused in (migrate.upgrade, ngdata.connect):
            with pytest.raises(ConfigError, match="ENCODING 'UTF8'"):
                refused(url)
        assert execute(url, "SELECT to_regnamespace('tokens')") == [(None,)]
    finally:
        execute(server.database_url, f"DROP DATABASE {name}")


# ----------------------------------------------------------------------------------------------- roles


@pytest.fixture
def restricted(store: str) -> Iterator[str]:
    """A role that a policy lets see one of five rows; it does not apply to the owner."""
    name = "restricted_reader"
    execute(
        store,
        f"CREATE ROLE {name}",
        f"SELECT tokens.grant_access('{name}', 'analyst')",
        "ALTER TABLE tokens.tokens ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY one ON tokens.tokens TO {name} USING (token_type = 'plain')",
    )
    try:
        yield name
    finally:
        execute(
            store,
            "DROP POLICY one ON tokens.tokens",
            "ALTER TABLE tokens.tokens DISABLE ROW LEVEL SECURITY",
            f"SELECT tokens.grant_access('{name}', 'none')",
            f"DROP OWNED BY {name}",
            f"DROP ROLE {name}",
        )


@pytest.mark.usefixtures("patient_redis")
@pytest.mark.parametrize("security", ["on", "off"])
@pytest.mark.parametrize("way", WAYS)
def test_no_role_reads_the_rows_of_another_from_redis(
    store, server, restricted, monkeypatch, way, security
):
    """A role in PGOPTIONS reached the reads, and their rows were kept under the other role's key."""

    def count(url: str) -> tuple[int, str]:
        with ngdata.connect(url, redis_url=server.redis_url) as ng:
            frame = ng.tokens.get(many, missing="skip", cache="strict")
            return len(frame), frame.attrs["ngdata"]["source"]

    # A look-up of fewer is not kept in Redis.
    many = [*IDS, *(str(uuid.uuid4()) for _ in range(100))]
    settings = {"row_security": security, "role": restricted}
    visible = 5 if way == "environment" else 1
    with WAYS[way](monkeypatch, store, settings) as url:
        assert count(url)[0] == visible
    assert count(store)[0] == 5
    with WAYS[way](monkeypatch, store, settings) as url:
        assert count(url)[0] == visible
    assert count(store) == (5, "redis")


# ----------------------------------------------------------------------------------- libpq's environment


def test_every_variable_of_libpq_is_known():
    """A newer libpq may read more, which would reach reads and not writes."""
    library = Path(adbc_driver_postgresql._driver_path())
    names = set(re.findall(rb"\0(PG[A-Z]{2,})(?=\0)", library.read_bytes()))
    found = {name.decode() for name in names} - {"PGCOPY"}
    assert len(found) > 35
    assert found <= LIBPQ_ENVIRONMENT


def test_the_page_lists_every_setting_and_variable():
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    section = page.split("## Sessions and the environment")[1].split("\n## ")[0]
    names = set(re.findall(r"`(\w+)`", section))
    prefixes = tuple(re.findall(r"`(PG\w+)\.\.\.`", section))
    assert SETTINGS.keys() <= names
    assert {v for v in LIBPQ_ENVIRONMENT - names if not v.startswith(prefixes)} == set()
    assert {name for name in names if name.startswith("PG")} <= LIBPQ_ENVIRONMENT


def test_libpq_knows_every_parameter(store, monkeypatch):
    """Were one unknown, it would be left out, and its variable would have an effect."""
    monkeypatch.setattr("ngdata._connections.libpq.RECENT_PARAMETERS", frozenset())
    connect_libpq(libpq_url(store, {}, 5, "test")).close()


def test_an_older_libpq_gets_the_parameters_it_knows(store, monkeypatch):
    monkeypatch.setattr("ngdata._connections.libpq.RECENT_PARAMETERS", frozenset({"newest"}))
    connect_libpq(libpq_url(store, {}, 5, "test") + "&newest=1").close()


def test_no_variable_selects_another_session(store, expected, monkeypatch, tmp_path):
    service = tmp_path / "services"
    service.write_text(
        "[other]\nhost=/nowhere\nhostaddr=127.0.0.9\nport=1\nuser=nobody\ndbname=nowhere\n"
        "options=-c role=nobody\nclient_encoding=LATIN1\nsslmode=verify-full\n"
    )
    values = dict.fromkeys(LIBPQ_ENVIRONMENT, "nonsense") | {
        "PGPORT": "1",
        "PGHOST": "/nowhere",
        "PGHOSTADDR": "127.0.0.9",
        "PGSERVICE": "other",
        "PGSERVICEFILE": str(service),
        "PGTZ": "Asia/Kathmandu",
        "PGDATESTYLE": "German",
        "PGGEQO": "off",
        "PGOPTIONS": "-c role=nobody -c TimeZone=Asia/Kathmandu",
        "PGCLIENTENCODING": "LATIN1",
        "PGTARGETSESSIONATTRS": "standby",
        "PGREQUIREPEER": "nobody",
        "PGREQUIREAUTH": "password",
        "PGCONNECT_TIMEOUT": "x",
        "PGOAUTHDEBUG": "",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with ngdata.connect(store, cache="off") as ng:
        same(answers(ng), expected)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PGSERVICE", "nowhere"), ("PGTZ", "Nowhere/City"), ("PGDATESTYLE", "x"), ("PGGEQO", "x")],
)
def test_what_only_libpq_refuses_is_named_at_connect(store, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"because {variable} in the environment cannot be used"):
        ngdata.connect(store)


@pytest.mark.parametrize("name", ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD"])
def test_the_rest_of_an_address_comes_from_the_environment(store, monkeypatch, name):
    """The same part reaches both drivers."""
    monkeypatch.setenv(name, "7" if name == "PGPORT" else "some one")
    parsed = [
        urlsplit(libpq_url("postgresql:///", {}, 5, "test")),
        urlsplit(asyncpg_arguments("postgresql:///", {}, 5, "test")["dsn"]),
    ]
    assert len({(url.username, url.password, url.path) for url in parsed}) == 1
    hosts = [re.findall(r"(?:host|port)=[^&]*", url.query) for url in parsed]
    assert sorted(hosts[0]) == sorted(hosts[1])
    assert "some%20one" in parsed[0].geturl() or "port=7" in hosts[0]


@pytest.mark.parametrize("value", ["many", "99999999", "5432,"])
def test_a_port_in_the_environment_that_is_none(monkeypatch, value):
    monkeypatch.setenv("PGPORT", value)
    with pytest.raises(ConfigError, match="PGPORT must be a number"):
        ngdata.connect("postgresql://h/d")


def test_a_variable_that_is_not_text(monkeypatch):
    monkeypatch.setenv("PGUSER", "\udcff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        ngdata.connect("postgresql://h/d")


@pytest.mark.parametrize("url", ["postgresql:///d?service=x", "postgresql://h/d?service=x"])
def test_a_service_in_a_url_is_refused(url):
    with pytest.raises(ConfigError, match="may not name a service"):
        ngdata.connect(url)


@pytest.mark.parametrize("name", ["hostaddr", "requirepeer", "search_path", "replication"])
def test_a_parameter_of_one_driver_only_is_refused(store, name):
    with pytest.raises(ConfigError, match=f"refuses a parameter of its URL: '{name}'"):
        ngdata.connect(f"{store}&{name}=x")


def test_passwords_come_from_one_file(tcp_server, monkeypatch, tmp_path):
    file = tmp_path / "passwords"
    file.write_text(
        f"localhost:{tcp_server.port}:store:postgres:open sesame/ä\\:@\n", encoding="utf-8"
    )
    file.chmod(0o600)
    url = tcp_server.url(password=None)
    with pytest.raises(ConfigError, match="password"):
        ngdata.connect(url)
    monkeypatch.setenv("PGPASSFILE", str(file))
    with ngdata.connect(url, cache="off") as ng:
        assert ng.tokens.count_in_region(*BOX) == 0
    monkeypatch.delenv("PGPASSFILE")
    with ngdata.connect(f"{url}?passfile={quote(str(file))}", cache="off") as ng:
        assert ng.tokens.count_in_region(*BOX) == 0


def test_tls_from_the_environment_is_the_same_for_both(tcp_server, monkeypatch, tmp_path):
    url = tcp_server.url()
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    with pytest.raises(ConfigError, match="needs an authority to trust"):
        ngdata.connect(url)
    monkeypatch.setenv("PGSSLROOTCERT", str(tcp_server.impostor.certificate))
    with pytest.raises(ConfigError, match="not signed by"):
        ngdata.connect(url)
    monkeypatch.setenv("PGSSLROOTCERT", str(tcp_server.authority.certificate))
    for name in ("PGSSLCERT", "PGSSLKEY"):
        monkeypatch.setenv(name, str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match=r"ssl_cert: .*missing cannot be read"):
        ngdata.connect(url)
    own = tcp_server.authority.sign("environment", "bearer")
    monkeypatch.setenv("PGSSLCERT", str(own))
    monkeypatch.setenv("PGSSLKEY", str(own.with_suffix(".key")))
    assert encrypted(database_url=tcp_server.url("bearer", None))
