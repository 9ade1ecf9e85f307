"""The operating system's user that the servers run as, and commands run as that user.

PostgreSQL refuses to run as root, so root's servers belong to an unprivileged user. Root
itself never writes into a directory of that user: a symbolic link planted there would redirect it.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ngdata.errors import ConfigError

__all__ = ["Account", "account_for"]

_CANDIDATES: Final = ("postgres", "_postgres")
_ENVIRONMENT: Final = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True)
class Account:
    """A user of the operating system, as whom the servers run.

    Attributes
    ----------
    name : str
    uid, gid : int
    owner : str
        The user who starts the servers and may connect to them; `name` itself, except for root.
    """

    name: str
    uid: int
    gid: int
    owner: str

    def run(
        self, command: Sequence[str | Path], text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as this user, detached from the caller's terminal, and wait for it.

        The environment is nearly empty: the caller's (PGPORT, a password) must neither affect the
        servers nor be readable by that user.
        """
        switch = self.uid != os.geteuid()
        try:
            return subprocess.run(
                command,
                check=False,
                capture_output=True,
                input="" if text is None else text,
                encoding="utf-8",
                errors="surrogateescape",
                cwd="/",
                env={k: v for k, v in os.environ.items() if k in _ENVIRONMENT} | {"LC_ALL": "C"},
                # Ctrl-C in a notebook must not stop the servers.
                start_new_session=True,
                user=self.uid if switch else None,
                group=self.gid if switch else None,
                extra_groups=[] if switch else None,
            )
        except PermissionError as error:
            raise ConfigError(
                f"cannot run {command[0]} as user {self.name!r}: {error.strerror}; that user must "
                "be able to run it, and this process must be allowed to switch to that user"
            ) from None

    def can_enter(self, directory: Path) -> bool:
        """Return whether this user can enter a directory, by trying."""
        # Not `test -x`, which checks the mode of the directory itself only.
        result = self.run(["/bin/sh", "-c", 'cd -- "$1"', "sh", directory])
        return result.returncode == 0

    def write(self, path: Path, text: str) -> None:
        """Replace a file that this user owns."""
        script = 'umask 077; cat >"$1.new" && mv -f -- "$1.new" "$1"'
        result = self.run(["/bin/sh", "-c", script, "sh", path], text)
        if result.returncode:
            raise ConfigError(f"user {self.name!r} cannot write {path}: {result.stderr.strip()}")

    def remove(self, *paths: Path) -> None:
        """Remove files and directory trees that this user owns, if they exist."""
        self.run(["rm", "-rf", "--", *paths])

    def tail(self, path: Path, lines: int = 12) -> str:
        """Return the last lines of a file that this user can read."""
        return self.run(["tail", "-n", str(lines), path]).stdout.strip()


def account_for(recorded: str | None = None) -> Account:
    """Return the user that the servers run as.

    Parameters
    ----------
    recorded : str, optional
        The owner of existing data.

    Raises
    ------
    ConfigError
        If root finds no unprivileged user, or this process's user has no name.
    """
    if os.geteuid() != 0:
        try:
            me = pwd.getpwuid(os.geteuid())
        except KeyError:
            raise ConfigError(
                f"user id {os.geteuid()} has no name on this machine, and PostgreSQL needs one; "
                "add it to /etc/passwd, or set NGDATA_DATABASE_URL to a server elsewhere"
            ) from None
        return Account(me.pw_name, me.pw_uid, me.pw_gid, me.pw_name)
    for name in (recorded,) if recorded else _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid, pwd.getpwuid(0).pw_name)
    required = recorded or _CANDIDATES[0]
    raise ConfigError(
        f"PostgreSQL does not run as root, and this machine has no user {required!r} to run it as; "
        f"create it with: useradd --system --no-create-home --shell /usr/sbin/nologin {required}"
    )
