"""The embedded PostgreSQL: create its data directory, start it, stop it.

It listens on a unix socket only and accepts, as its superuser `ngdata`, the owner and the servers'
user, whom the kernel identifies (peer): no password can leak.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import adbc_driver_manager as adbc
import psutil

from ngdata._config.driver_arguments import libpq_url
from ngdata._connections.libpq import connect_libpq
from ngdata._local.account import Account
from ngdata._local.binaries import Installation
from ngdata._local.processes import end, is_alive, working_in, works_in
from ngdata.errors import ConfigError, DatabaseUnavailable

__all__ = ["DATABASE", "Postgres", "fetch_value"]

DATABASE: Final = "ngdata"

# Recovery after a crash may take longer; it continues after this wait.
_START_TIMEOUT: Final = 120.0

_LAUNCH: Final = 'umask 077; cd /; "$@" </dev/null >>"$0" 2>&1 & echo $!'


def fetch_value(url: str, sql: str, connect_timeout: int = 5) -> Any:
    """Return the first value of a query's result, over a connection of its own."""
    # A complete URL: nothing in the environment selects another server or role.
    uri = libpq_url(url, {}, connect_timeout, "ngdata")
    with connect_libpq(uri) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        row = cursor.row()
        return None if row is None else row[0]


@dataclass(frozen=True)
class Postgres:
    """The PostgreSQL of a home.

    Attributes
    ----------
    directory : Path
        Holds the data directory and the log.
    sockets : Path
    account : Account
    """

    directory: Path
    sockets: Path
    account: Account

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.directory / "postgres.log"

    @property
    def url(self) -> str:
        """The URL that clients connect to."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://{DATABASE}@/{database}?host={quote(str(self.sockets))}&port=5432"

    def major(self) -> int | None:
        """Return the major version of the data; None if there are none yet."""
        if not self.data.exists():
            return None
        try:
            return int((self.data / "PG_VERSION").read_text("ascii"))
        except (OSError, ValueError):
            raise ConfigError(
                f"{self.data} must be a data directory of PostgreSQL, but PG_VERSION has no number; "
                "restore it, or set NGDATA_HOME to another directory"
            ) from None

    def create(self, installation: Installation, durable: bool) -> None:
        """Create the data directory, completely or not at all."""
        self.account.remove(*self.directory.glob("data.new-*"))
        new = self.directory / f"data.new-{os.getpid()}"
        options = ["-U", DATABASE, "--auth=peer", "--encoding=UTF8", "--locale=C"]
        options += [] if durable else ["--no-sync"]
        result = self.account.run([installation.bin / "initdb", "-D", new, *options])
        script = """printf '\\n%s\\n' "include 'ngdata.conf'" >>"$1/postgresql.conf" && mv -- "$1" "$2" """
        if result.returncode == 0:
            result = self.account.run(["/bin/sh", "-c", script, "sh", new, self.data])
        if result.returncode:
            self.account.remove(new)
            raise ConfigError(
                f"PostgreSQL could not create its data in {self.directory}: {result.stderr.strip()}"
            )

    def start(self, installation: Installation, durable: bool) -> None:
        """Start the server if it does not run, apply these settings, and create the database."""
        postmaster, pid = self.postmaster(), None
        self._configure(durable)
        if postmaster is None:
            self._remove_stale_files()
            pid = self._launch(installation)
        else:
            postmaster.send_signal(signal.SIGHUP)
        self._wait(pid)
        exists = f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"
        if fetch_value(self.url_of("postgres"), exists) is None:
            fetch_value(self.url_of("postgres"), f"CREATE DATABASE {DATABASE}")

    def postmaster(self) -> psutil.Process | None:
        """Return the server's process, by its pid file and by what that process is; None if it is gone."""
        pid = self._recorded_pid()
        if pid is None or not works_in(self.data, pid, "postgres"):
            return None
        try:
            return psutil.Process(pid)
        except psutil.NoSuchProcess:
            return None  # it ended just now

    def stop(self) -> bool:
        """Stop the server if it runs, rolling back open transactions; return whether it ran."""
        postmaster = self.postmaster()
        if postmaster is not None:
            end([postmaster], (signal.SIGINT, 60), (signal.SIGQUIT, 10), (signal.SIGKILL, 5))
        return self._end_orphans() or postmaster is not None

    def _recorded_pid(self) -> int | None:
        try:
            return int((self.data / "postmaster.pid").read_text("ascii", "replace").split()[0])
        except (OSError, ValueError, IndexError):
            return None

    def _end_orphans(self) -> bool:
        """End the processes of a killed server, as the server itself does after a crash."""
        orphans = working_in(self.data, "postgres")
        end(orphans, (signal.SIGQUIT, 10), (signal.SIGKILL, 5))
        return bool(orphans)

    def _remove_stale_files(self) -> None:
        self._end_orphans()
        stale = list(self.sockets.glob(".s.PGSQL.*"))
        pid = self._recorded_pid()
        if pid is not None and psutil.pid_exists(pid):
            # Another process has that id now, and PostgreSQL would mistake it for its own.
            stale.append(self.data / "postmaster.pid")
        if stale:
            self.account.remove(*stale)

    def _launch(self, installation: Installation) -> int:
        if self.log.exists() and self.log.stat().st_size > 16 << 20:
            self.account.run(["mv", "-f", "--", self.log, self.log.with_suffix(".log.1")])
        result = self.account.run(
            ["/bin/sh", "-c", _LAUNCH, self.log, installation.bin / "postgres", "-D", self.data]
        )
        if result.returncode or not result.stdout.strip():
            raise DatabaseUnavailable(f"PostgreSQL could not be started: {result.stderr.strip()}")
        return int(result.stdout)

    def _wait(self, pid: int | None) -> None:
        """Wait until the server answers; `pid` is that of the process just started."""
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            try:
                fetch_value(self.url_of("postgres"), "SELECT 1")
            except adbc.Error as error:
                reply = str(error).strip()
            else:
                return
            # Another process may have started the server first, and been killed before it waited.
            gone = pid is not None and not is_alive(pid) and self.postmaster() is None
            if gone or time.monotonic() > deadline:
                reason = "did not start" if gone else f"does not answer ({reply})"
                raise DatabaseUnavailable(
                    f"PostgreSQL on {self.data} {reason}; the end of its log, {self.log}:\n"
                    f"{self.account.tail(self.log)}"
                )
            time.sleep(0.03)

    def _configure(self, durable: bool) -> None:
        settings = _settings(durable, shutil.disk_usage(self.directory).free) | {
            "unix_socket_directories": str(self.sockets)
        }
        text = "# Written by ngdata at every start; your own settings go after the include.\n"
        text += "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        self.account.write(self.data / "ngdata.conf", text)
        self.account.write(self.data / "pg_hba.conf", "local all all peer map=ngdata\n")
        owners = sorted({self.account.owner, self.account.name})
        lines = [f'ngdata "{owner}" {DATABASE}\n' for owner in owners]
        self.account.write(self.data / "pg_ident.conf", "".join(lines))


def _settings(durable: bool, free: int) -> dict[str, str]:
    memory = psutil.virtual_memory().total >> 20
    settings = {
        "listen_addresses": "",
        "port": "5432",
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "jit": "off",
        "random_page_cost": "1.1",
        "shared_buffers": f"{min(512, max(32, memory // 8))}MB",
        "effective_cache_size": f"{max(64, memory // 2)}MB",
        "work_mem": "32MB",
        "maintenance_work_mem": f"{min(256, max(32, memory // 16))}MB",
        # If the log of writes fills the disk, PostgreSQL stops; if rows do, it refuses them.
        "max_wal_size": f"{min(4096, max(64, free >> 23))}MB",
        "fsync": "on" if durable else "off",
        "full_page_writes": "on" if durable else "off",
    }
    # Docker's 64 MB of shared memory is too little for parallel queries.
    if Path("/dev/shm").exists() and _size("/dev/shm") < 512 << 20:  # noqa: S108 - only inspected
        settings["dynamic_shared_memory_type"] = "mmap"
    return settings


def _size(path: str) -> int:
    info = os.statvfs(path)
    return info.f_blocks * info.f_frsize
