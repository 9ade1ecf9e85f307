"""Start, stop and inspect the embedded servers of a home, in order and under its lock."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import adbc_driver_manager as adbc

from ngdata._connections.driver_errors import shortage
from ngdata._local import directories, state
from ngdata._local.account import Account, account_for
from ngdata._local.binaries import find_postgres, find_redis
from ngdata._local.postgres import Postgres, fetch_value
from ngdata._local.redis import Redis
from ngdata._local.state import State
from ngdata.errors import ConfigError, NGDataError

__all__ = ["Addresses", "Status", "down", "status", "stop_recorded", "translated", "up"]

_NOWHERE: Final = Path("/nonexistent")


@dataclass(frozen=True)
class Addresses:
    """The URLs of the two servers; neither holds a password, since there is none."""

    database_url: str
    redis_url: str


@dataclass(frozen=True)
class Status:
    """The state of a home's servers.

    Attributes
    ----------
    home : Path
    running : bool
        Whether both servers answer.
    addresses : Addresses or None
        None unless both answer.
    durable : bool or None
        Whether the data survive a crash of the machine; None before the first start.
    server_user : str or None
        The user that the servers run as.
    directory : Path or None
        The directory of their data and logs.
    postgres, postgis, redis : str or None
        Versions; None for a server that does not answer.
    revision : str or None
        The schema's revision.
    database_bytes, redis_bytes : int or None
        The database's size on disk, and Redis's in memory.
    """

    home: Path
    running: bool = False
    addresses: Addresses | None = None
    durable: bool | None = None
    server_user: str | None = None
    directory: Path | None = None
    postgres: str | None = None
    postgis: str | None = None
    redis: str | None = None
    revision: str | None = None
    database_bytes: int | None = None
    redis_bytes: int | None = None


@dataclass(frozen=True)
class _Servers:
    """The two servers of a home whose state is known."""

    postgres: Postgres
    redis: Redis

    @classmethod
    def of(cls, directory: Path, sockets: Path, account: Account) -> _Servers:
        return cls(
            Postgres(directory, sockets, account),
            Redis(directory, sockets / "redis.sock", account),
        )

    @property
    def addresses(self) -> Addresses:
        return Addresses(self.postgres.url, self.redis.url)

    def stop(self) -> bool:
        # A list, so that both are stopped, whichever of them ran.
        return any([self.redis.stop(), self.postgres.stop()])


def up(home: Path | None = None, *, durable: bool = True) -> Addresses:
    """Start the embedded servers unless they run, and migrate the schema to its newest revision.

    Blocks: for milliseconds if they run, for seconds the first time. Any number of threads and
    processes may call it at once.

    Parameters
    ----------
    home : Path, optional
        The directory of the data; by default `default_home`.
    durable : bool
        False trades the data's safety in a crash of the machine for speed: for tests.

    Raises
    ------
    ConfigError
        If the machine lacks a server, or the home cannot be used; the message says what to do.
    DatabaseUnavailable
        If a server does not start; the message includes the end of its log.

    Examples
    --------
    >>> from ngdata import _local
    >>> _local.up().database_url.startswith("postgresql://ngdata@/ngdata?host=")
    True
    """
    home = directories.resolve_home(home)
    with translated(home):
        if addresses := _join(home, durable):
            return addresses
        directories.create_home(home)
        # Again, now that it exists: another user may have created it.
        directories.resolve_home(home)
        with state.locked(home):
            return _join(home, durable) or _start(home, durable)


def down(home: Path | None = None) -> bool:
    """Stop the embedded servers; the data stay.

    Returns
    -------
    bool
        Whether any ran.

    Examples
    --------
    >>> from ngdata import _local
    >>> _local.down()  # doctest: +SKIP
    True
    """
    home = directories.resolve_home(home)
    with translated(home):
        return _stop(home)


def _stop(home: Path) -> bool:
    if state.load(home) is None:
        return False
    with state.locked(home):
        recorded = state.load(home)
        return False if recorded is None else stop_recorded(home, recorded)


def stop_recorded(home: Path, recorded: State) -> bool:
    """Stop the servers of a home and remove their sockets; the caller holds the lock."""
    state.refuse_elsewhere(home)
    account = account_for(recorded.user)
    sockets = Path(recorded.sockets) if recorded.sockets else _NOWHERE
    stopped = _Servers.of(Path(recorded.servers), sockets, account).stop()
    if directories.is_private(sockets, account):
        account.remove(*sockets.iterdir())
        sockets.rmdir()
    state.save(home, dataclasses.replace(recorded, sockets=None))
    state.release(home)
    return stopped


def status(home: Path | None = None) -> Status:
    """Return the state of the embedded servers; start nothing.

    Examples
    --------
    >>> from ngdata import _local
    >>> _local.status().home == _local.default_home()
    True
    """
    from ngdata._connections.revision import VERSION_TABLE

    home = directories.resolve_home(home)
    recorded = state.load(home)
    if recorded is None:
        return Status(home)
    stopped = Status(
        home,
        durable=recorded.durable,
        server_user=recorded.user,
        directory=Path(recorded.servers),
    )
    servers = _find_servers(home, recorded)
    if servers is None:
        return stopped
    url, redis = servers.postgres.url, servers.redis
    memory = redis.info("memory", "used_memory")
    answers = dataclasses.replace(
        stopped,
        postgres=_value_or_none(url, "SELECT current_setting('server_version')"),
        postgis=_value_or_none(
            url, "SELECT extversion FROM pg_extension WHERE extname = 'postgis'"
        ),
        redis=redis.info("server", "redis_version"),
        revision=_value_or_none(url, f"SELECT version_num FROM {VERSION_TABLE}"),
        database_bytes=_value_or_none(url, "SELECT pg_database_size(current_database())"),
        redis_bytes=None if memory is None else int(memory),
    )
    if answers.postgres is None or answers.redis is None:
        return answers
    return dataclasses.replace(answers, running=True, addresses=servers.addresses)


@contextmanager
def translated(home: Path) -> Iterator[None]:
    """Raise what the operating system refuses as errors of ngdata."""
    try:
        yield
    except NGDataError:
        raise
    except OSError as error:
        what = f"the servers of {home} cannot be started or stopped"
        raise shortage(error, what) or ConfigError(f"{what}: {error}") from None


def _join(home: Path, durable: bool) -> Addresses | None:
    """Return the addresses if everything runs as required: the fast path, without the lock."""
    from ngdata._connections.revision import HEAD, VERSION_TABLE

    recorded = state.load(home)
    servers = None if recorded is None else _find_servers(home, recorded)
    if recorded is None or servers is None or (durable and not recorded.durable):
        return None
    if not servers.redis.answers():
        return None
    revision = _value_or_none(servers.postgres.url, f"SELECT version_num FROM {VERSION_TABLE}")
    return servers.addresses if revision == HEAD else None


def _find_servers(home: Path, recorded: State) -> _Servers | None:
    """Return the servers if they run here and no other user could have created their sockets."""
    if recorded.sockets is None or state.running_on(home) != socket.gethostname():
        return None
    account = account_for(recorded.user)
    if not directories.is_private(recorded.sockets, account):
        return None
    return _Servers.of(Path(recorded.servers), Path(recorded.sockets), account)


def _value_or_none(url: str, sql: str) -> Any:
    try:
        return fetch_value(url, sql)
    except adbc.Error:
        return None


def _start(home: Path, durable: bool) -> Addresses:
    """Start both servers, whatever their state; the caller holds the lock."""
    recorded = state.load(home)
    state.refuse_elsewhere(home)
    account = account_for(recorded.user if recorded else None)
    directory = directories.create_servers_directory(
        home, recorded.servers if recorded else None, account
    )
    sockets = Path(recorded.sockets) if recorded and recorded.sockets else _NOWHERE
    servers = _Servers.of(directory, sockets, account)
    # Find every program before anything runs.
    postgres, redis = find_postgres(servers.postgres.major()), find_redis()
    state.claim(home)
    if not directories.is_private(sockets, account):
        # Servers whose sockets are gone, or in a directory of another user, are out of reach.
        servers.stop()
        sockets = directories.create_sockets_directory(account)
        servers = _Servers.of(directory, sockets, account)
    has_data = servers.postgres.major() is not None
    if recorded is not None and servers.postgres.postmaster() is not None:
        durable = durable or recorded.durable
    # Recorded as durable only once it is: data written without fsync have yet to reach the disk.
    already_durable = durable and (recorded is None or recorded.durable or not has_data)
    updated = State(str(directory), str(sockets), account.name, already_durable)
    state.save(home, updated)
    if not has_data:
        servers.postgres.create(postgres, durable)
    servers.redis.start(redis)
    servers.postgres.start(postgres, durable)
    if durable and not already_durable:
        os.sync()
        state.save(home, dataclasses.replace(updated, durable=True))
    _migrate(servers.postgres.url)
    return servers.addresses


def _migrate(url: str) -> None:
    from ngdata._store.migrate import upgrade

    # On a thread without an event loop: a notebook's cell has one.
    with ThreadPoolExecutor(1, "ngdata-migrate") as thread:
        thread.submit(upgrade, url).result()
