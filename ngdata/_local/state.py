"""The state that a home keeps between processes, and the lock over changing it.

`state.json` records the directories. `host` exists while the servers may run, and names the machine:
a file of its own, so that its owner can remove it by hand if that machine is gone.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ngdata.errors import ConfigError

__all__ = [
    "LOCK",
    "NAMES",
    "State",
    "claim",
    "load",
    "locked",
    "refuse_elsewhere",
    "release",
    "running_on",
    "save",
]

_FORMAT: Final = 1
_STATE: Final = "state.json"
_HOST: Final = "host"
LOCK: Final = "lock"

#: Everything that ngdata itself creates in a home.
NAMES: Final = frozenset(
    {_STATE, _STATE + ".new", _HOST, _HOST + ".new", LOCK, "servers", "programs"}
)


@dataclass(frozen=True)
class State:
    """The recorded state of a home's servers.

    Attributes
    ----------
    servers : str
        The directory of the data and the logs.
    sockets : str or None
        The directory of the sockets, while the servers run.
    user : str
        The user who owns `servers`.
    durable : bool
        Whether the data survive a crash of the machine.
    """

    servers: str
    sockets: str | None
    user: str
    durable: bool


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the home's lock, over creating, migrating, starting and stopping.

    The kernel releases it when the process dies, and no server inherits it.
    """
    # Opened again each time: the lock belongs to the open file, so threads exclude each other too.
    descriptor = _acquired(home / LOCK)
    try:
        yield
    finally:
        os.close(descriptor)


def _acquired(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # The previous holder may have deleted the file, and with it the home.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        path.parent.mkdir(mode=0o700, exist_ok=True)


def load(home: Path) -> State | None:
    """Read the state; None if there is none yet."""
    path = home / _STATE
    try:
        fields = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or fields.pop("format", None) != _FORMAT:
        raise ConfigError(
            f"{path} was not written by this version of ngdata; use the ngdata that wrote it, or "
            "set NGDATA_HOME to another directory"
        )
    return State(**fields)


def save(home: Path, state: State) -> None:
    """Write the state, atomically."""
    text = json.dumps({"format": _FORMAT} | dataclasses.asdict(state), indent=2)
    _replace(home / _STATE, text + "\n")


def _replace(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def refuse_elsewhere(home: Path) -> None:
    """Raise `ConfigError` if a home's servers may run on another machine.

    Two servers on one data directory destroy it, and a process id means nothing across machines.
    """
    here, host = socket.gethostname(), running_on(home)
    if host not in (None, here):
        raise ConfigError(
            f"the servers of {home} run on the machine {host!r}, and this is {here!r}; run "
            f"`ngdata down` there, or if that machine is gone remove {home / _HOST}"
        )


def claim(home: Path) -> None:
    """Record that this machine runs the servers."""
    _replace(home / _HOST, socket.gethostname() + "\n")


def running_on(home: Path) -> str | None:
    """Return the name of the machine that may run the servers; None if none does."""
    try:
        return (home / _HOST).read_text("utf-8").strip() or None
    except FileNotFoundError:
        return None


def release(home: Path) -> None:
    """Record that no machine runs the servers."""
    (home / _HOST).unlink(missing_ok=True)
