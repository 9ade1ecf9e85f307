"""Where things are: the home, the servers' own directory, the directory of the sockets.

Whose each directory is decides how far it is trusted. The home belongs to whoever calls; the other
two to the servers' user, for which root's differs.
"""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from pathlib import Path
from typing import Final

import platformdirs

from ngdata._local import state
from ngdata._local.account import Account
from ngdata.errors import ConfigError

__all__ = [
    "checked_home",
    "default_home",
    "is_private",
    "made_home",
    "made_servers",
    "made_sockets",
]

#: Root's own home, and where its servers' data go when they cannot reach the home asked for.
SYSTEM_HOME: Final = Path("/var/lib/ngdata")

_LONGEST_SOCKET: Final = 103  # macOS; Linux binds 107 bytes
_LONGEST_HOME: Final = 800  # PostgreSQL takes 1023, for the names in its data directory too


def default_home() -> Path:
    """Give the home that is used when none is named.

    Examples
    --------
    >>> from ngdata import local
    >>> local.default_home().is_absolute()
    True
    """
    named = os.environ.get("NGDATA_HOME", "").strip()
    if named:
        return Path(named).expanduser().absolute()
    if os.geteuid() == 0:
        return SYSTEM_HOME
    return Path(platformdirs.user_data_dir("ngdata", appauthor=False))


def checked_home(home: Path | None) -> Path:
    """Give the home's one true path; refuse it if it is there and belongs to somebody else."""
    asked = default_home() if home is None else Path(home)
    try:
        path = asked.expanduser().resolve()
        if len(os.fsencode(path)) > _LONGEST_HOME:
            raise ConfigError(
                f"the path {str(path)[:60]}... is longer than the {_LONGEST_HOME} bytes that leave "
                "PostgreSQL room for its own names; set NGDATA_HOME to a shorter one"
            )
        found = path.stat()
    except FileNotFoundError:
        return path
    except (OSError, RuntimeError) as error:
        raise _unusable(asked, error) from None
    if path == path.parent:
        raise ConfigError(f"{path} is no home for data; set NGDATA_HOME to a directory inside it")
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{path} is no directory; set NGDATA_HOME to one")
    if found.st_uid != os.geteuid():
        raise ConfigError(
            f"{path} belongs to {_name(found.st_uid)}, and this process runs as "
            f"{_name(os.geteuid())}; set NGDATA_HOME to a directory of your own"
        )
    if found.st_mode & stat.S_IWOTH:
        raise ConfigError(
            f"{path} can be written by everybody, who could then stand in for the server; set "
            "NGDATA_HOME to a directory inside it"
        )
    return path


def made_home(home: Path) -> None:
    """Make the home, for its owner alone."""
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        home.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _unusable(home, error) from None


def made_servers(home: Path, recorded: str | None, account: Account) -> Path:
    """Give the directory of the servers' data and logs, made if it is not there.

    It is ``servers`` in the home, unless the servers' user cannot reach that.
    """
    if recorded is not None and os.path.lexists(recorded):
        directory = Path(recorded)
        if not is_private(directory, account):
            raise ConfigError(
                f"{directory} is not a directory of mode 0700 that belongs to {account.name!r}; "
                f"give it back: chown {account.name} and chmod 700"
            )
        return directory
    if account.uid != os.geteuid():
        ours = set(os.listdir(home)) <= state.NAMES
        if ours and not account.can_enter(home):
            _let_in(home, account)
        if not account.can_enter(home):
            return _made_elsewhere(account)
    directory = home / "servers"
    directory.mkdir(mode=0o700, exist_ok=True)
    os.chown(directory, account.uid, account.gid, follow_symlinks=False)
    return directory


def _made_elsewhere(account: Account) -> Path:
    made_home(SYSTEM_HOME)
    found = SYSTEM_HOME.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise ConfigError(
            f"{SYSTEM_HOME} must be a directory that root alone can write; `chown root:root` and "
            "`chmod 711` it"
        )
    if not account.can_enter(SYSTEM_HOME):
        _let_in(SYSTEM_HOME, account)
    directory = Path(tempfile.mkdtemp(prefix="servers-", dir=SYSTEM_HOME))
    os.chown(directory, account.uid, account.gid)
    if not account.can_enter(directory):
        raise ConfigError(
            f"user {account.name!r}, as whom the servers run, cannot reach {SYSTEM_HOME}; allow it "
            "to pass through the directories above (chmod a+x)"
        )
    return directory


def _let_in(directory: Path, account: Account) -> None:
    """Let the servers' group pass through, not look around."""
    os.chown(directory, -1, account.gid)
    directory.chmod(stat.S_IMODE(directory.stat().st_mode) | stat.S_IXGRP)


def is_private(directory: str | Path, account: Account) -> bool:
    """Tell whether a path is a directory, no link, of that user, and for that user alone.

    Asked before each use of the sockets: after a restart of the machine anybody may have made
    a directory of that name.
    """
    try:
        found = os.lstat(directory)
    except FileNotFoundError:
        return False
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == account.uid
        and found.st_mode & 0o777 == 0o700
    )


def made_sockets(account: Account) -> Path:
    """Make a directory for the sockets, under a name that nobody can foresee.

    A socket's path must be short, so it cannot stand in the home.
    """
    for parent in dict.fromkeys(("/tmp", tempfile.gettempdir())):  # noqa: S108 - a fresh name in it
        try:
            directory = Path(tempfile.mkdtemp(prefix="ngdata-", dir=parent))
        except OSError:
            continue
        os.chown(directory, account.uid, account.gid)
        fits = len(os.fsencode(directory / ".s.PGSQL.5432")) <= _LONGEST_SOCKET
        if fits and account.can_enter(directory):
            return directory
        directory.rmdir()
    raise ConfigError(
        f"neither /tmp nor {tempfile.gettempdir()} can hold the servers' sockets (it must be short "
        f"and open to user {account.name!r}); set TMPDIR to such a directory"
    )


def _name(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name!r}"
    except KeyError:
        return f"user id {uid}"


def _unusable(path: object, error: BaseException) -> ConfigError:
    reason = error.strerror if isinstance(error, OSError) else error
    return ConfigError(
        f"{path} cannot be used as ngdata's home: {reason}; set NGDATA_HOME to a directory that "
        "you can write"
    )
