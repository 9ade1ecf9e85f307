"""The embedded Redis: start it, check it, stop it. It is a cache and stores no file."""

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

_START_TIMEOUT: Final = 20.0
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
        Its working directory, with its log; its process is found by it.
    socket : Path
    account : Account
    """

    directory: Path
    socket: Path
    account: Account

    @property
    def url(self) -> str:
        """The URL that clients connect to."""
        return f"unix://{self.socket}"

    def answers(self) -> bool:
        """Return whether it answers on its socket."""
        return self._send("PING") == "+PONG"

    def info(self, section: str, field: str) -> str | None:
        """Return a field of its INFO; None if it does not answer."""
        lines = self._send(f"INFO {section}").splitlines()
        return dict(line.partition(":")[::2] for line in lines).get(field)

    def _send(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1)
            try:
                connection.connect(str(self.socket))
                connection.sendall(f"{command}\r\nQUIT\r\n".encode())
                reply = b""
                while part := connection.recv(4096):
                    reply += part
            except OSError:
                return ""
        return reply.decode("utf-8", "replace").removesuffix("+OK\r\n").rstrip()

    def start(self, program: Path) -> None:
        """Start Redis if it does not answer, and wait until it does."""
        if self.answers():
            return
        # A process that hangs would hold its memory forever once another one has its socket.
        end(self._processes(), (signal.SIGKILL, 5))
        settings = _SETTINGS | {"unixsocket": str(self.socket)}
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        script = 'umask 077; cd -- "$1" && shift && exec "$@"'
        result = self.account.run(
            ["/bin/sh", "-c", script, "sh", self.directory, program, *options]
        )
        deadline = time.monotonic() + _START_TIMEOUT
        while result.returncode == 0 and time.monotonic() < deadline:
            if self.answers():
                return
            time.sleep(0.02)
        log = self.account.tail(self.directory / "redis.log")
        output = result.stderr.strip() or result.stdout.strip() or log
        raise DatabaseUnavailable(f"Redis ({program}) did not start; its output:\n{output}")

    def stop(self) -> bool:
        """Stop Redis if it runs; return whether it did."""
        processes = self._processes()
        end(processes, (signal.SIGTERM, 10), (signal.SIGKILL, 5))
        return bool(processes)

    def _processes(self) -> list[psutil.Process]:
        return working_in(self.directory, "redis", "valkey")
