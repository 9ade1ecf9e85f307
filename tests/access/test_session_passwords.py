"""libpq's password file: the fields, their escapes, and what matches."""

import os
import stat

import psycopg
import pytest

from ngdata._config.driver_arguments import asyncpg_arguments, libpq_url
from ngdata._config.password_file import password_in
from ngdata._config.url import URL
from ngdata.errors import ConfigError

LINES = """
# h:1:d:u:a comment
h:1:d:u:plain
h:2:d:u:with\\:colon\\\\and:another
*:3:*:*:any
localhost:4:d:u:socket
/run/x:5:d:u:its directory
odd\\:host:6:d:u: space\u00e4
too:few
h:7:d:u:
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "passwords"
    path.write_text(LINES, encoding="utf-8")
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize(
    ("host", "port", "user", "password"),
    [
        ("h", "1", "u", "plain"),
        ("h", "1", "other", None),
        ("other", "1", "u", None),
        ("h", "2", "u", "with:colon\\and"),
        ("whatever", "3", "who", "any"),
        ("/run/x", "4", "u", "socket"),
        ("/run/x", "5", "u", "its directory"),
        ("odd:host", "6", "u", " spaceä"),
        ("too", "few", "u", None),
    ],
)
def test_the_first_line_that_matches(file, host, port, user, password):
    assert password_in(file, [host], [port], "d", user) == password


def test_several_hosts(file):
    assert password_in(file, ["other", "h"], ["9", "1"], "d", "u") == "plain"


def test_a_file_that_others_can_read_is_refused_only_if_it_is_needed(file):
    os.chmod(file, stat.S_IRUSR | stat.S_IROTH)
    assert password_in(file, ["other"], ["1"], "d", "u") is None
    with pytest.raises(ConfigError, match="readable by other users; run `chmod 600`") as caught:
        password_in(file, ["h"], ["1"], "d", "u")
    assert "plain" not in str(caught.value)


def test_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "missing", "/dev/null/none", ""):
        assert password_in(str(path), ["h"], ["1"], "d", "u") is None


def test_both_drivers_get_its_password_unless_another_is_given(file, monkeypatch):
    monkeypatch.setenv("PGPASSFILE", file)

    def passwords(url):
        return {
            URL.parse(libpq_url(url, {}, 1, "n")).password,
            URL.parse(asyncpg_arguments(url, {}, 1, "n")["dsn"]).password,
        }

    assert passwords("postgresql://u@h:2/d") == {"with:colon\\and"}
    assert passwords("postgresql://u:own@h:2/d") == {"own"}
    monkeypatch.setenv("PGPASSWORD", "environment")
    assert passwords("postgresql://u@h:2/d") == {"environment"}


def test_libpq_understands_the_same(tcp_server, tmp_path):
    """Compared with libpq itself, on a server that checks the password."""
    file = tmp_path / "passwords"
    file.write_text(f"localhost:{tcp_server.port}:store:named:a\\:b\\\\c\\:d:more\n")
    file.chmod(0o600)
    tcp_server.run("CREATE ROLE named LOGIN PASSWORD 'a:b\\c:d'")
    try:
        address = tcp_server.url("named", None)
        with psycopg.connect(f"{address}?passfile={file}") as connection:
            assert connection.info.user == "named"
        password = password_in(str(file), ["localhost"], [str(tcp_server.port)], "store", "named")
        assert password == "a:b\\c:d"
    finally:
        tcp_server.run("DROP ROLE named")
