"""The embedded Redis: start it, ask whether it lives, stop it. It is a cache and keeps no file."""

from __future__ import annotations

import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from ngdata._local.account import Account
from ngdata._local.processes import end, working_in
from ngdata.errors import DatabaseUnavailable

__all__ = ["Redis"]

_PATIENCE: Final = 20.0
_SETTINGS: Final = {
    "port": "0",
    "unixsocketperm": "700",
    "save": "",
    "appendonly": "no",
    "maxmemory": "512mb",
    "maxmemory-policy": "allkeys-lru",
    "daemonize": "yes",
    "logfile": "redis.log",
    "pidfile": "redis.pid",
}


@dataclass(frozen=True)
class Redis:
    """The Redis of a home.

    Attributes
    ----------
    directory : Path
        Where it works and logs; by this its process is known.
    socket : Path
    account : Account
    """

    directory: Path
    socket: Path
    account: Account

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"unix://{self.socket}"

    def answers(self) -> bool:
        """Ask whether it lives, over its socket."""
        return self._ask("PING") == "+PONG"

    def info(self, section: str, field: str) -> str | None:
        """Give a field of what it tells of itself; None if it does not answer."""
        lines = self._ask(f"INFO {section}").splitlines()
        return dict(line.partition(":")[::2] for line in lines).get(field)

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1)
            try:
                connection.connect(str(self.socket))
                connection.sendall(f"{command}\r\nQUIT\r\n".encode())
                answer = b""
                while part := connection.recv(4096):
                    answer += part
            except OSError:
                return ""
        return answer.decode("utf-8", "replace").removesuffix("+OK\r\n").rstrip()

    def start(self, program: Path) -> None:
        """See to it that it answers."""
        if self.answers():
            return
        # One that hangs would keep its memory for ever once another has its socket.
        end(self._processes(), (signal.SIGKILL, 5))
        settings = _SETTINGS | {"unixsocket": str(self.socket)}
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        script = 'umask 077; cd -- "$1" && shift && exec "$@"'
        started = self.account.run(
            ["/bin/sh", "-c", script, "sh", self.directory, program, *options]
        )
        deadline = time.monotonic() + _PATIENCE
        while started.returncode == 0 and time.monotonic() < deadline:
            if self.answers():
                return
            time.sleep(0.02)
        log = self.account.tail(self.directory / "redis.log")
        said = started.stderr.strip() or started.stdout.strip() or log
        raise DatabaseUnavailable(f"Redis ({program}) did not start; it said:\n{said}")

    def stop(self) -> bool:
        """End it, if it runs."""
        found = self._processes()
        end(found, (signal.SIGTERM, 10), (signal.SIGKILL, 5))
        return bool(found)

    def _processes(self) -> list[psutil.Process]:
        return working_in(self.directory, "redis", "valkey")
