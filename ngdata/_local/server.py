"""Start, stop and look at the embedded servers of a home: the order of things, and who may do it."""

from __future__ import annotations

import dataclasses
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import adbc_driver_postgresql.dbapi as adbc

from ngdata._local import directories, state
from ngdata._local.account import Account, account_for
from ngdata._local.binaries import find_postgres, find_redis
from ngdata._local.postgres import Postgres, ask
from ngdata._local.redis import Redis
from ngdata._local.state import State

__all__ = ["Addresses", "Status", "down", "status", "up"]

_NOWHERE: Final = Path("/nonexistent")


@dataclass(frozen=True)
class Addresses:
    """Where the two servers are reached; neither URL holds a password, for there is none."""

    database_url: str
    redis_url: str


@dataclass(frozen=True)
class Status:
    """What there is of a home's servers.

    Attributes
    ----------
    home : Path
    running : bool
        Whether both servers answer.
    addresses : Addresses or None
        While both answer.
    durable : bool or None
        Whether the data survive a crash of the machine; None before the first start.
    server_user : str or None
        As whom the servers run.
    directory : Path or None
        Holds their data and logs.
    postgres, postgis, redis : str or None
        Versions; None for one that does not answer.
    revision : str or None
        The schema's.
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
        # Both are stopped, whichever of them ran.
        return any([self.redis.stop(), self.postgres.stop()])


def up(home: Path | None = None, *, durable: bool = True) -> Addresses:
    """Start the embedded servers, or join them, with the schema at its newest revision.

    Blocks: for milliseconds when they run, for seconds the first time. Any number of threads and
    processes may call it at once.

    Parameters
    ----------
    home : Path, optional
        Where the data are kept; by default `default_home`.
    durable : bool
        False gives up the data's safety in a crash of the machine for speed: for tests.

    Raises
    ------
    ConfigError
        If the machine lacks a server, or the home cannot be used; it says what to do.
    DatabaseUnavailable
        If a server does not start; it shows the end of the log.

    Examples
    --------
    >>> from ngdata import local
    >>> local.up().database_url.startswith("postgresql://ngdata@/ngdata?host=")
    True
    """
    place = directories.checked_home(home)
    if found := _joined(place, durable):
        return found
    directories.made_home(place)
    # Again, now that it is there: somebody else may have made it.
    directories.checked_home(place)
    with state.locked(place):
        return _joined(place, durable) or _start(place, durable)


def down(home: Path | None = None) -> bool:
    """Stop the embedded servers; the data stay.

    Returns
    -------
    bool
        False if none ran.

    Examples
    --------
    >>> from ngdata import local
    >>> local.down()  # doctest: +SKIP
    True
    """
    place = directories.checked_home(home)
    if state.load(place) is None:
        return False
    with state.locked(place):
        known = state.load(place)
        if known is None:
            return False
        state.refuse_elsewhere(place)
        account = account_for(known.user)
        sockets = Path(known.sockets) if known.sockets else _NOWHERE
        stopped = _Servers.of(Path(known.servers), sockets, account).stop()
        if directories.is_private(sockets, account):
            account.remove(*sockets.iterdir())
            sockets.rmdir()
        state.save(place, dataclasses.replace(known, sockets=None))
        state.release(place)
        return stopped


def status(home: Path | None = None) -> Status:
    """Look at the embedded servers; starts nothing.

    Examples
    --------
    >>> from ngdata import local
    >>> local.status().home == local.default_home()
    True
    """
    from ngdata._connections.revision import VERSION_TABLE

    place = directories.checked_home(home)
    known = state.load(place)
    if known is None:
        return Status(place)
    found = Status(
        place, durable=known.durable, server_user=known.user, directory=Path(known.servers)
    )
    servers = _reachable(place, known)
    if servers is None:
        return found
    url, redis = servers.postgres.url, servers.redis
    memory = redis.info("memory", "used_memory")
    found = dataclasses.replace(
        found,
        postgres=_maybe(url, "SELECT current_setting('server_version')"),
        postgis=_maybe(url, "SELECT extversion FROM pg_extension WHERE extname = 'postgis'"),
        redis=redis.info("server", "redis_version"),
        revision=_maybe(url, f"SELECT version_num FROM {VERSION_TABLE}"),
        database_bytes=_maybe(url, "SELECT pg_database_size(current_database())"),
        redis_bytes=None if memory is None else int(memory),
    )
    if found.postgres is None or found.redis is None:
        return found
    return dataclasses.replace(found, running=True, addresses=servers.addresses)


def _joined(home: Path, durable: bool) -> Addresses | None:
    """Give the addresses if all runs as it should: the quick way, without the lock."""
    from ngdata._connections.revision import HEAD, VERSION_TABLE

    known = state.load(home)
    servers = None if known is None else _reachable(home, known)
    if known is None or servers is None or (durable and not known.durable):
        return None
    if not servers.redis.answers():
        return None
    revision = _maybe(servers.postgres.url, f"SELECT version_num FROM {VERSION_TABLE}")
    return servers.addresses if revision == HEAD else None


def _reachable(home: Path, known: State) -> _Servers | None:
    """Give the servers if they run here and their sockets are where nobody else can put any."""
    if known.sockets is None or state.running_on(home) != socket.gethostname():
        return None
    account = account_for(known.user)
    if not directories.is_private(known.sockets, account):
        return None
    return _Servers.of(Path(known.servers), Path(known.sockets), account)


def _maybe(url: str, sql: str) -> Any:
    try:
        return ask(url, sql)
    except adbc.Error:
        return None


def _start(home: Path, durable: bool) -> Addresses:
    """Bring both servers up, whatever is there; the lock is held."""
    known = state.load(home)
    state.refuse_elsewhere(home)
    account = account_for(known.user if known else None)
    directory = directories.made_servers(home, known.servers if known else None, account)
    sockets = Path(known.sockets) if known and known.sockets else _NOWHERE
    servers = _Servers.of(directory, sockets, account)
    # All that can be missing is looked for before anything runs.
    postgres, redis = find_postgres(servers.postgres.major()), find_redis()
    state.claim(home)
    if not directories.is_private(sockets, account):
        # Servers whose sockets are gone, or stand where somebody else made a directory, are lost.
        servers.stop()
        sockets = directories.made_sockets(account)
        servers = _Servers.of(directory, sockets, account)
    made = servers.postgres.major() is not None
    if known is not None and servers.postgres.postmaster() is not None:
        durable = durable or known.durable
    # Durable only once it is true: what was written without is yet to reach the disk.
    before = durable and (known is None or known.durable or not made)
    noted = State(str(directory), str(sockets), account.name, before)
    state.save(home, noted)
    if not made:
        servers.postgres.create(postgres, durable)
    servers.redis.start(redis)
    servers.postgres.start(postgres, durable)
    if durable and not before:
        os.sync()
        state.save(home, dataclasses.replace(noted, durable=True))
    _migrate(servers.postgres.url)
    return servers.addresses


def _migrate(url: str) -> None:
    from ngdata._store.migrate import upgrade

    # On a thread of its own, where no event loop runs: a notebook's cell has one.
    with ThreadPoolExecutor(1, "ngdata-migrate") as thread:
        thread.submit(upgrade, url).result()
