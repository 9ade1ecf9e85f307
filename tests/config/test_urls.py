"""A database's URL: normalized, composed, shown without its password, and per driver."""

from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

import pytest
from asyncpg import connect_utils
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from ngdata._config import postgres_url, redis_url
from ngdata._config.driver_arguments import asyncpg_arguments, libpq_url, without_options
from ngdata.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "normalized"),
    [
        ("postgresql://h/d", "postgresql://h/d"),
        ("postgres://h/d", "postgresql://h/d"),
        ("postgresql+asyncpg://u:p@h:1/d", "postgresql://u:p@h:1/d"),
        ("POSTGRESQL+psycopg2://h/d", "postgresql://h/d"),
        ("postgresql:///d?host=/run/pg", "postgresql:///d?host=%2Frun%2Fpg"),
        (
            "postgresql://a:1,b:2/d?target_session_attrs=any",
            "postgresql://a:1,b:2/d?target_session_attrs=any",
        ),
    ],
)
def test_normalize(url, normalized):
    assert postgres_url.normalize(url) == normalized


NO_URLS = [
    *("", "h/d", "mysql://me:sesame@h/d", "http://h", "postgresql:h", "://"),
    # A malformed scheme, or none: the beginning may be the password.
    *("sesame", "me:sesame@h/d", "p//me:sesame@h", "pg:/:sesame@h/d", ":sesame@h://d"),
]


@pytest.mark.parametrize("url", NO_URLS)
def test_not_a_database(url):
    with pytest.raises(ConfigError, match="must begin with postgresql://") as caught:
        postgres_url.normalize(url)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("url", NO_URLS)
def test_not_a_redis(url):
    with pytest.raises(ConfigError, match="must begin with redis://") as caught:
        redis_url.normalize(url)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("hosts", ["h:99999", "a:1,b:65536", "[::1]:99999"])
def test_not_a_port(hosts):
    for check, scheme in ((postgres_url.normalize, "postgresql"), (redis_url.normalize, "redis")):
        with pytest.raises(
            ConfigError, match=f"{scheme}://.* must be a number from 0 to 65535"
        ) as caught:
            check(f"{scheme}://me:sesame@{hosts}/0")
        assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("port", ["99999", "many", "5432,many"])
def test_not_a_port_in_the_query(port):
    with pytest.raises(ConfigError, match="must be a number from 0 to 65535"):
        postgres_url.normalize(f"postgresql:///d?host=/run/pg&port={port}")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:sesame[@h[/d",
        "postgresql://me:sesame@h/d?sslmode",
        "postgresql://me:sesame?same@h/d",
        "postgresql://me:sesame#same@h/d",
        "postgresql://me:sesame/same@h/d",
        "postgresql://me:sesame%zz@h/d",
        "postgresql://me:sesame@h/d#x",
    ],
)
def test_not_a_url(url):
    with pytest.raises(ConfigError, match=r"cannot be parsed; write the characters") as caught:
        postgres_url.normalize(url)
    assert "same" not in str(caught.value)
    assert "same" not in postgres_url.without_password(url)


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@settings(deadline=None, derandomize=True, database=None)
@given(database=TEXTS, user=TEXTS, password=st.none() | TEXTS, socket=st.booleans())
def test_compose_escapes_special_characters(database, user, password, socket):
    host = "/run/a b:c@d" if socket else "db.example"
    parts = urlsplit(postgres_url.compose(host, 5433, database, user, password))
    assert unquote(parts.username) == user
    assert (None if parts.password is None else unquote(parts.password)) == password
    assert unquote(parts.path[1:]) == database
    query = dict(parse_qsl(parts.query))
    assert (query.get("host", parts.hostname), str(query.get("port", parts.port))) == (host, "5433")


def test_an_ipv6_address():
    assert postgres_url.compose("::1", 5432, None, None, None) == "postgresql://[::1]:5432/"


@settings(deadline=None, derandomize=True, database=None)
@given(password=TEXTS)
def test_no_password_is_shown(password):
    where = "@db.example:5432/neuro?sslmode=require"
    shown = postgres_url.without_password(f"postgresql://me:{quote(password, safe='')}{where}")
    assert shown == "postgresql://me@db.example:5432/neuro"
    # An unescaped one may be malformed; it is not shown then either.
    shown = postgres_url.without_password(f"postgresql://me:{password}{where}")
    assert shown in ("postgresql://me@db.example:5432/neuro", "postgresql://...")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:ses@me@h/d", "postgresql://me@h/d"),
        ("postgresql://h/d?user=me&password=sesame", "postgresql://h/d"),
        ("postgresql://me@h/d?password=ses@me", "postgresql://me@h/d"),
        ("postgresql://me@/d?host=%2Frun%2Fpg&sslpassword=sesame", "postgresql://me@/d in /run/pg"),
        ("postgresql:///d", "postgresql:///d"),
    ],
)
def test_shown(url, shown):
    assert postgres_url.without_password(url) == shown


def test_libpq_gets_the_settings_after_the_urls_own():
    url = "postgresql://me:p%40ss@h/d?options=-c%20work_mem%3D1MB&connect_timeout=7"
    parts = urlsplit(libpq_url(url, {"statement_timeout": "9"}, 0.5, "me too"))
    assert (parts.username, unquote(parts.password), parts.path) == ("me", "p@ss", "/d")
    query = dict(parse_qsl(parts.query))
    assert query["options"].startswith("-c work_mem=1MB -c statement_timeout=9 -c ")
    assert (query["connect_timeout"], query["application_name"]) == ("7", "me too")
    query = dict(parse_qsl(urlsplit(without_options(urlunsplit(parts))).query))
    assert "options" not in query


def test_a_plus_sign_is_one_to_both_drivers():
    """As in libpq; in an HTML form it would be a space."""
    url = postgres_url.normalize("postgresql://h/d?application_name=a+b%20c&host=/run/x+y")
    for prepared in (libpq_url(url, {}, 10, "n"), asyncpg_arguments(url, {}, 10, "n")["dsn"]):
        assert "application_name=a%2Bb%20c" in prepared
        assert "host=%2Frun%2Fx%2By" in prepared
    assert postgres_url.without_password(url) == "postgresql:///d in /run/x+y"
    composed = postgres_url.compose("/run/x+ y", 1, "d", None, None)
    assert composed.endswith("?host=%2Frun%2Fx%2B%20y&port=1")


@pytest.mark.parametrize(("seconds", "written"), [(0.2, "2"), (1, "2"), (2.4, "2"), (10.0, "10")])
def test_libpq_waits_whole_seconds(seconds, written):
    url = libpq_url("postgresql://h/d", {}, seconds, "n")
    assert dict(parse_qsl(urlsplit(url).query))["connect_timeout"] == written


def test_asyncpg_does_not_get_libpqs_own_parameters():
    url = "postgresql://h/d?sslmode=require&keepalives=1&connect_timeout=3&application_name=mine"
    arguments = asyncpg_arguments(url, {"a": "b"}, 4.5, "ngdata")
    query = dict(parse_qsl(urlsplit(arguments["dsn"]).query))
    assert query["sslmode"] == "require"
    assert query["application_name"] == "mine"
    assert not {"keepalives", "connect_timeout", "channel_binding", "options"} & query.keys()
    assert (arguments["server_settings"], arguments["timeout"]) == ({"a": "b"}, 4.5)


def parsed_by_asyncpg(dsn: str) -> Any:
    """Return the addresses and parameters that asyncpg connects with."""
    names = (
        *(
            "host",
            "port",
            "user",
            "password",
            "passfile",
            "database",
            "ssl",
            "service",
            "servicefile",
        ),
        *("direct_tls", "server_settings", "target_session_attrs", "krbsrvname", "gsslib"),
    )
    parse: Any = connect_utils._parse_connect_dsn_and_args
    return parse(dsn=dsn, **dict.fromkeys(names))


@pytest.mark.parametrize(
    ("url", "hosts", "database"),
    [
        ("postgresql://a/d?host=b", [("b", 5432)], "d"),
        ("postgresql://a:7/d?host=b", [("b", 7)], "d"),
        ("postgresql://a:7/d?port=8", [("a", 8)], "d"),
        ("postgresql://a/d?port=8", [("a", 8)], "d"),
        ("postgresql://a,b/d?port=8", [("a", 8), ("b", 8)], "d"),
        ("postgresql://a,b:9/d", [("a", 5432), ("b", 9)], "d"),
        ("postgresql://a,b/d?port=8,9", [("a", 8), ("b", 9)], "d"),
        ("postgresql://[::1]/d?dbname=e%20f", [("::1", 5432)], "e f"),
        ("postgresql://[::1]:7/d", [("::1", 7)], "d"),
        ("postgresql:///d?host=/run/x", ["/run/x/.s.PGSQL.5432"], "d"),
        ("postgresql://:7/d?host=/run/x", ["/run/x/.s.PGSQL.7"], "d"),
        ("postgresql://%2Frun%2Fx:7/d", ["/run/x/.s.PGSQL.7"], "d"),
        ("postgresql:///d?host=/run/x,b&port=7,8", ["/run/x/.s.PGSQL.7", ("b", 8)], "d"),
    ],
)
def test_the_address_means_what_it_means_to_libpq(monkeypatch, url, hosts, database):
    """asyncpg alone would prefer another host, port or database, or one of the environment."""
    for name, value in {"PGHOST": "other", "PGPORT": "1", "PGDATABASE": "other"}.items():
        if name != "PGPORT" or "7" in url or "8" in url:
            monkeypatch.setenv(name, value)
    normalized = postgres_url.normalize(url)
    addresses, parameters = parsed_by_asyncpg(asyncpg_arguments(normalized, {}, 1, "n")["dsn"])
    assert (addresses, parameters.database) == (hosts, database)
    prepared = libpq_url(normalized, {}, 1, "n")
    options = conninfo_to_dict(prepared)
    listed = zip(options["host"].split(","), options["port"].split(","), strict=True)
    expected = [
        f"{host}/.s.PGSQL.{port}" if host[0] == "/" else (host, int(port)) for host, port in listed
    ]
    assert (expected, options["dbname"]) == (hosts, database)


@pytest.mark.parametrize(
    ("url", "match"),
    [
        (
            "redis://h/0?decode_responses=true",
            "unknown option 'decode_responses' .*the options are db",
        ),
        ("redis://h/0?socket_timeout=x", "unknown option 'socket_timeout'"),
        ("redis://h/0?max_connections=0", "unknown option 'max_connections'"),
        ("redis://h/0?no_such=1", "unknown option 'no_such'"),
        ("redis://h/0?db=zero", "option db .* must be the number of a database"),
        ("redis://h/0?protocol=9", "option protocol .* must be 2 or 3"),
        ("redis://h/0?client_name=a%20b", "option client_name .* must be printable"),
        ("redis://h/0?ssl_cert_reqs=none", "ssl_cert_reqs .* is for TLS; write rediss://"),
        ("rediss://h/0?ssl_cert_reqs=perhaps", "must be none, optional or required"),
        ("rediss://h/0?ssl_check_hostname=2", "must be true or false"),
        ("redis://h/zero", "path of a Redis URL must be the number of a database"),
    ],
)
def test_options_of_a_redis_url(url, match):
    with pytest.raises(ConfigError, match=match):
        redis_url.normalize(url)


def test_options_of_a_redis_url_are_kept():
    url = "rediss://:p@h:6379/3?client_name=lab&protocol=3&ssl_cert_reqs=none&ssl_check_hostname=false"
    assert redis_url.normalize(url) == url
    assert redis_url.normalize("unix:///run/redis.sock?db=2") == "unix:///run/redis.sock?db=2"


@pytest.mark.parametrize("check", [postgres_url.normalize, redis_url.normalize])
def test_half_a_surrogate_pair_in_a_password_is_nowhere_shown(check):
    scheme = "redis" if check is redis_url.normalize else "postgresql"
    for url in (
        f"{scheme}://u:canary\ud800@h/0",
        f"{scheme}://u@h/0?password=canary\udcff",
        f"{scheme}://u:canary%ff@h/0",
    ):
        with pytest.raises(ConfigError, match="cannot be parsed") as caught:
            check(url)
        error = caught.value
        while error is not None:
            assert "canary" not in repr(error) + repr(vars(error))
            assert not isinstance(error, UnicodeError)
            error = error.__cause__ or error.__context__
