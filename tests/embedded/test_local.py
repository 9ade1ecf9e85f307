"""The embedded servers in ordinary use: start, reuse, inspect, stop, and unusable homes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import pytest

from ngdata import _local
from ngdata._connections import revision
from ngdata._local import binaries, state
from ngdata._local.account import account_for
from ngdata._store import migrate
from ngdata.errors import ConfigError, DatabaseUnavailable


def ask(url: str, sql: str):
    with adbc.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        row = cursor.fetchone()
        return row and row[0]


def setting(addresses: _local.Addresses, name: str) -> str:
    return ask(addresses.database_url, f"SELECT current_setting('{name}')")


def test_first_start_restart_and_stop(empty_home):
    assert _local.status(empty_home) == _local.Status(empty_home)
    assert _local.down(empty_home) is False
    assert not empty_home.exists()

    addresses = _local.up(empty_home)
    assert _local.up(empty_home) == addresses
    ask(addresses.database_url, "CREATE TABLE public.stored AS SELECT 7 AS x")

    running = _local.status(empty_home)
    assert running.running
    assert running.addresses == addresses
    assert running.revision == revision.HEAD
    assert running.server_user == account_for().name
    assert None not in (running.postgres, running.postgis, running.redis)
    assert running.database_bytes > 1_000_000
    assert running.redis_bytes > 100_000

    assert _local.down(empty_home) is True
    stopped = _local.status(empty_home)
    assert (stopped.running, stopped.addresses, stopped.postgres) == (False, None, None)
    sockets = Path(addresses.redis_url.removeprefix("unix://")).parent
    assert not sockets.exists()
    assert _local.down(empty_home) is False

    again = _local.up(empty_home)
    assert ask(again.database_url, "SELECT x FROM public.stored") == 7


def test_data_are_durable_by_default(empty_home):
    names = ("fsync", "full_page_writes", "synchronous_commit")
    # The last stays on: a kill of the server, unlike one of the machine, must lose nothing.
    not_durable = _local.up(empty_home, durable=False)
    assert [setting(not_durable, n) for n in names] == ["off", "off", "on"]
    assert _local.status(empty_home).durable is False
    # A caller that requires it gets it even if the servers run without; no caller switches it off.
    for durable in (True, False):
        addresses = _local.up(empty_home, durable=durable)
        assert addresses == not_durable
        assert [setting(addresses, n) for n in names] == ["on", "on", "on"]
        assert _local.status(empty_home).durable is True


def test_a_running_database_is_migrated(empty_home):
    addresses = _local.up(empty_home, durable=False)
    migrate.downgrade(addresses.database_url, "0001")
    assert _local.up(empty_home, durable=False) == addresses
    assert _local.status(empty_home).revision == revision.HEAD


def test_a_long_home_with_spaces_quotes_and_letters_of_all_kinds(empty_home):
    home = empty_home / 'it\'s "mine" $HOME `x` %20' / "нейроны λ" / ("long " * 45) / ("l" * 200)
    assert len(os.fsencode(home)) > 450
    addresses = _local.up(home, durable=False)
    assert ask(addresses.database_url, "SELECT count(*) FROM tokens.tokens") == 0
    assert _local.status(home).running
    assert _local.down(home)


def test_a_home_too_long_for_postgresql(empty_home):
    home = empty_home.joinpath(*["l" * 200] * 5)
    with pytest.raises(ConfigError, match=r"at most 800 bytes.*NGDATA_HOME"):
        _local.up(home)


def test_the_home_is_named_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("NGDATA_HOME", str(tmp_path / "here"))
    assert _local.default_home() == tmp_path / "here"
    assert _local.status().home == tmp_path / "here"
    monkeypatch.delenv("NGDATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    root = Path("/var/lib/ngdata")
    assert (
        _local.default_home() == root
        if os.geteuid() == 0
        else tmp_path in _local.default_home().parents
    )


@pytest.mark.parametrize("call", [_local.up, _local.down, _local.status])
def test_a_home_of_another_user_is_refused(call, empty_home):
    other = Path("/usr")
    if os.geteuid() == 0:
        empty_home.mkdir()
        os.chown(empty_home, 65534, 65534)
        other = empty_home
    with pytest.raises(ConfigError, match=r"belongs to user .*NGDATA_HOME"):
        call(other)
    if os.geteuid() == 0:
        os.chown(empty_home, 0, 0)


def test_a_home_that_every_user_can_write_is_refused(empty_home):
    empty_home.mkdir()
    empty_home.chmod(0o1777)
    with pytest.raises(ConfigError, match="writable by every user"):
        _local.up(empty_home)
    empty_home.chmod(0o700)


def test_a_home_that_is_a_file_or_below_one_is_refused(empty_home):
    empty_home.write_text("")
    for home in (empty_home, empty_home / "below"):
        with pytest.raises(ConfigError, match=r"NGDATA_HOME"):
            _local.up(home)
    empty_home.unlink()


@pytest.mark.parametrize("text", ['{"format": 99}', "garbage", "[]"])
def test_a_state_of_another_version_is_refused(empty_home, text):
    empty_home.mkdir(mode=0o700)
    (empty_home / "state.json").write_text(text)
    with pytest.raises(ConfigError, match=r"state\.json was not written by this version"):
        _local.up(empty_home)
    (empty_home / "state.json").unlink()


def test_a_home_in_use_by_another_machine_is_refused_until_its_mark_is_removed(empty_home):
    _local.up(empty_home, durable=False)
    (empty_home / "host").write_text("elsewhere.example\n")
    for call in (_local.up, _local.down):
        with pytest.raises(ConfigError, match=r"'elsewhere\.example'.*ngdata down.*remove .*host"):
            call(empty_home)
    assert not _local.status(empty_home).running
    (empty_home / "host").unlink()
    assert _local.up(empty_home, durable=False)
    assert state.running_on(empty_home) not in (None, "elsewhere.example")
    _local.down(empty_home)
    assert state.running_on(empty_home) is None


def test_data_of_another_major_version_name_both(empty_home):
    data = empty_home / "servers" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("99\n")
    installed = binaries.find_postgres().major
    with pytest.raises(
        ConfigError, match=rf"of PostgreSQL 99.*has PostgreSQL .*{installed}.*NGDATA_HOME"
    ):
        _local.up(empty_home)
    assert list(data.iterdir()) == [data / "PG_VERSION"]


def test_a_directory_without_a_data_version_is_refused(empty_home):
    data = empty_home / "servers" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("my notes\n")
    with pytest.raises(ConfigError, match="PG_VERSION has no number"):
        _local.up(empty_home)
    (data / "PG_VERSION").unlink()
    with pytest.raises(ConfigError, match="PG_VERSION has no number"):
        _local.up(empty_home)


def test_a_server_that_does_not_start_shows_its_log(empty_home):
    _local.up(empty_home, durable=False)
    _local.down(empty_home)
    account_for().remove(empty_home / "servers" / "data" / "global" / "pg_control")
    with pytest.raises(DatabaseUnavailable, match=r"did not start(?s:.*)pg_control"):
        _local.up(empty_home)


@pytest.fixture
def bare_machine(monkeypatch, tmp_path) -> Path:
    """A machine without PostgreSQL and Redis, except for what a test puts into this directory."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "apt-get").write_text("")
    (tools / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(binaries, "PLACES", [str(tmp_path / "postgresql/*/bin")])
    monkeypatch.setattr(binaries, "REDIS_PLACES", [])
    return tmp_path


def pretend(root: Path, major: int) -> None:
    directory = root / "postgresql" / str(major) / "bin"
    directory.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        (directory / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {major}.1'\n")
        (directory / name).chmod(0o755)


def test_missing_programs_are_named_in_one_error_with_the_next_steps(bare_machine, empty_home):
    with pytest.raises(ConfigError) as error:
        _local.up(empty_home)
    text = str(error.value)
    assert "lacks PostgreSQL 14 or later, PostGIS and Redis" in text
    assert "apt-get install -y postgresql-postgis redis-server" in text
    assert "docker compose up -d" in text
    assert "NGDATA_DATABASE_URL" in text
    # On a disk that machines share, the next one must be able to start them.
    assert state.running_on(empty_home) is None


def test_postgresql_without_postgis(bare_machine):
    pretend(bare_machine, 98)
    with pytest.raises(
        ConfigError, match=r"lacks PostGIS for PostgreSQL 98 and Redis.*postgresql-98-postgis-3"
    ):
        binaries.find_postgres()


def test_the_newest_with_postgis_is_chosen_unless_data_need_another(bare_machine):
    for major in (97, 98, 99):
        pretend(bare_machine, major)
        if major != 99:
            share = bare_machine / "postgresql" / str(major) / "share" / "extension"
            share.mkdir(parents=True)
            (share / "postgis.control").write_text("")
    assert binaries.find_postgres().major == 98
    assert binaries.find_postgres(97).major == 97
    with pytest.raises(ConfigError, match="lacks PostGIS for PostgreSQL 99"):
        binaries.find_postgres(99)


def test_redis_alone_is_missing_and_valkey_replaces_it(bare_machine):
    with pytest.raises(ConfigError, match="lacks Redis, which"):
        binaries.find_redis()
    server = bare_machine / "tools" / "valkey-server"
    server.write_text("")
    server.chmod(0o755)
    assert binaries.find_redis() == server


def test_files_in_a_home_are_for_its_owner_only(empty_home):
    _local.up(empty_home, durable=False)
    for entry in empty_home.iterdir():
        mode = stat.S_IMODE(entry.stat().st_mode)
        assert mode & 0o077 == 0, entry
    _local.down(empty_home)


def test_the_root_directory_is_refused_as_a_home(monkeypatch):
    with pytest.raises(ConfigError, match="directory inside it"):
        _local.up(Path("/"))
    monkeypatch.setenv("NGDATA_HOME", "  ")
    assert _local.default_home().name == "ngdata"
