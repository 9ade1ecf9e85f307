"""Access to the embedded servers: for their owner, and for no other user of the machine."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import psutil
import pytest

from ngdata import _local
from ngdata._local import binaries, directories, state
from ngdata._local.account import account_for
from ngdata._local.server import _find_servers
from ngdata.errors import ConfigError

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """One home for the module, private as `mkdtemp` creates it; each test leaves it running."""
    path = Path(tempfile.mkdtemp(prefix="ngdata access "))
    _local.up(path, durable=False)
    yield path
    _local.down(path)
    shutil.rmtree(path)


@pytest.fixture
def sockets(home) -> Path:
    return Path(state.load(home).sockets)


@pytest.fixture
def processes(home) -> list[psutil.Process]:
    servers = _find_servers(home, state.load(home))
    redis = [p for p in psutil.process_iter() if _works_in(p, servers.redis.directory)]
    assert len(redis) == 1
    return [servers.postgres.postmaster(), *redis]


def _works_in(process: psutil.Process, directory: Path) -> bool:
    try:
        return process.cwd() == str(directory)
    except psutil.Error:
        return False


def url_in(directory: Path) -> str:
    return f"postgresql://ngdata@/ngdata?host={directory}&port=5432"


def test_sockets_and_data_are_for_the_servers_user_only(home, sockets):
    account = account_for()
    directory = Path(state.load(home).servers)
    for private in (sockets, directory, directory / "data"):
        info = private.lstat()
        assert stat.S_IMODE(info.st_mode) == 0o700
        assert info.st_uid == account.uid
    for name in (".s.PGSQL.5432", "redis.sock"):
        assert stat.S_IMODE((sockets / name).lstat().st_mode) == 0o700
    assert len(os.fsencode(sockets / ".s.PGSQL.5432")) < 104


def test_they_listen_on_nothing_but_their_sockets(processes):
    for process in processes:
        assert process.net_connections("inet") == []


def test_they_do_not_run_as_root(processes):
    for process in processes:
        assert process.uids().effective == account_for().uid != 0


def test_they_do_not_see_the_callers_environment(processes):
    for process in processes:
        # The environment of another user's process is visible to root only; the test runs as one of them.
        names = set(process.environ())
        assert names <= {
            "PATH",
            "LC_ALL",
            "PWD",
            "OLDPWD",
            "LD_LIBRARY_PATH",
            "PGDATA",
            "SHLVL",
            "_",
        }


def test_ctrl_c_in_the_starting_terminal_does_not_reach_them(processes):
    for process in processes:
        assert os.getsid(process.pid) != os.getsid(0)


def test_no_password_is_needed_or_shown(home):
    addresses = _local.up(home, durable=False)
    assert addresses.database_url.startswith("postgresql://ngdata@/ngdata?")
    assert addresses.redis_url.startswith("unix:///")
    assert "password" not in repr(_local.status(home)).lower()


@root_only
def test_another_user_can_neither_connect_nor_read_the_data(home, sockets):
    data = Path(state.load(home).servers) / "data"
    client = shutil.which("redis-cli") or shutil.which("valkey-cli")
    attempts = (
        [binaries.find_psql(), "-XAtc", "SELECT 1", url_in(sockets)],
        [client, "-s", sockets / "redis.sock", "PING"],
        ["cat", data / "PG_VERSION"],
        ["ls", sockets],
        ["ls", home],
    )
    for command in attempts[:4]:
        assert account_for().run(command).returncode == 0, command
    for command in attempts:
        result = subprocess.run(
            command, user="nobody", group="nogroup", extra_groups=[], cwd="/", capture_output=True
        )
        assert result.returncode != 0, command
        assert b"ermission denied" in result.stdout + result.stderr


@root_only
def test_even_at_an_open_socket_the_kernel_identifies_the_caller(home, sockets):
    command = [binaries.find_psql(), "-XAtc", "SELECT 1", url_in(sockets)]
    try:
        sockets.chmod(0o755)
        (sockets / ".s.PGSQL.5432").chmod(0o777)
        result = subprocess.run(
            command, user="nobody", group="nogroup", extra_groups=[], cwd="/", capture_output=True
        )
    finally:
        sockets.chmod(0o700)
        (sockets / ".s.PGSQL.5432").chmod(0o700)
    assert result.returncode != 0
    assert b"eer authentication failed" in result.stderr


def open_to_all(sockets: Path) -> None:
    sockets.chmod(0o777)


def give_to_another_user(sockets: Path) -> None:
    # Only root can change an owner; a link to a directory of another user is as bad.
    if os.geteuid() == 0:
        os.chown(sockets, 65534, 65534)
    else:
        shutil.rmtree(sockets)
        sockets.symlink_to("/usr")


def replace_by_a_link(sockets: Path) -> None:
    moved = sockets.with_name(sockets.name + "-moved")
    sockets.rename(moved)
    sockets.symlink_to(moved)


@pytest.mark.parametrize(
    "spoil", [open_to_all, give_to_another_user, replace_by_a_link, shutil.rmtree]
)
def test_a_directory_of_sockets_that_another_user_may_have_created_is_never_used(
    home, sockets, spoil
):
    spoil(sockets)
    try:
        assert not _local.status(home).running
        addresses = _local.up(home, durable=False)
        assert str(sockets) + "/" not in addresses.redis_url
        replacement = Path(state.load(home).sockets)
        assert directories.is_private(replacement, account_for())
        with adbc.connect(addresses.database_url) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM tokens.tokens")
            assert cursor.fetchone() == (0,)
        assert _local.status(home).running
    finally:
        # No server uses the spoiled directory any more.
        if sockets.is_symlink():
            sockets.unlink()
        shutil.rmtree(sockets, ignore_errors=True)
        shutil.rmtree(sockets.with_name(sockets.name + "-moved"), ignore_errors=True)


@root_only
def test_a_private_home_can_be_entered_by_the_servers_group_and_listed_by_no_other_user(home):
    info = home.stat()
    assert stat.S_IMODE(info.st_mode) == 0o710
    assert (info.st_uid, info.st_gid) == (0, account_for().gid)


@root_only
def test_a_home_that_the_servers_cannot_reach_has_its_data_elsewhere():
    parent = Path(tempfile.mkdtemp(prefix="ngdata unreachable "))
    home = parent / "home"
    try:
        _local.up(home, durable=False)
        directory = _local.status(home).directory
        assert directory.parent == directories.SYSTEM_HOME
        assert _local.status(home).running
        assert stat.S_IMODE(parent.stat().st_mode) == 0o700
        _local.down(home)
        _local.up(home, durable=False)
        assert _local.status(home).directory == directory
    finally:
        _local.down(home)
        shutil.rmtree(directory)
        shutil.rmtree(parent)


@root_only
def test_the_mode_of_a_directory_with_other_files_is_not_changed():
    home = Path(tempfile.mkdtemp(prefix="ngdata mine "))
    (home / "thesis.txt").write_text("")
    try:
        _local.up(home, durable=False)
        directory = _local.status(home).directory
        assert directory.parent == directories.SYSTEM_HOME
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
    finally:
        _local.down(home)
        shutil.rmtree(directory)
        shutil.rmtree(home)


def test_a_servers_directory_that_another_user_can_write_is_refused(home):
    directory = Path(state.load(home).servers)
    _local.down(home)
    directory.chmod(0o777)
    with pytest.raises(ConfigError, match=r"mode 0700 that belongs to .* chmod 700"):
        _local.up(home)
    directory.chmod(0o700)
    assert _local.up(home, durable=False)
