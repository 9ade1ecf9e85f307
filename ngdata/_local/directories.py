"""The directories: the home, the servers' own directory, and that of the sockets.

A directory is trusted according to its owner. The home belongs to the caller; the other two to the
servers' user, who differs from the caller if that is root.
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
    "create_home",
    "create_servers_directory",
    "create_sockets_directory",
    "default_home",
    "is_private",
    "resolve_home",
]

#: Root's own home, and where its servers' data go if the servers cannot reach the requested home.
SYSTEM_HOME: Final = Path("/var/lib/ngdata")

_LONGEST_SOCKET: Final = 103  # macOS; Linux binds 107 bytes
_LONGEST_HOME: Final = 800  # PostgreSQL allows 1023, including the names in its data directory


def default_home() -> Path:
    """Return the home that is used by default.

    Examples
    --------
    >>> from ngdata import _local
    >>> _local.default_home().is_absolute()
    True
    """
    configured = os.environ.get("NGDATA_HOME", "").strip()
    if configured:
        return Path(configured).expanduser().absolute()
    if os.geteuid() == 0:
        return SYSTEM_HOME
    return Path(platformdirs.user_data_dir("ngdata", appauthor=False))


def resolve_home(home: Path | None) -> Path:
    """Return the home's resolved path; raise `ConfigError` if it exists and is not safe to use."""
    requested = default_home() if home is None else Path(home)
    try:
        path = requested.expanduser().resolve()
        if len(os.fsencode(path)) > _LONGEST_HOME:
            raise ConfigError(
                f"the path {str(path)[:60]}... must be at most {_LONGEST_HOME} bytes long, since "
                "PostgreSQL appends its own names; set NGDATA_HOME to a shorter one"
            )
        info = path.stat()
    except FileNotFoundError:
        return path
    except (OSError, RuntimeError) as error:
        raise _unusable(requested, error) from None
    if path == path.parent:
        raise ConfigError(
            f"{path} cannot be the home of the data; set NGDATA_HOME to a directory inside it"
        )
    if not stat.S_ISDIR(info.st_mode):
        raise ConfigError(f"{path} must be a directory; set NGDATA_HOME to one")
    if info.st_uid != os.geteuid():
        raise ConfigError(
            f"{path} belongs to {_name(info.st_uid)}, and this process runs as "
            f"{_name(os.geteuid())}; set NGDATA_HOME to a directory of your own"
        )
    if info.st_mode & stat.S_IWOTH:
        raise ConfigError(
            f"{path} is writable by every user, who could then impersonate the server; set "
            "NGDATA_HOME to a directory inside it"
        )
    return path


def create_home(home: Path) -> None:
    """Create the home, for its owner only."""
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        home.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _unusable(home, error) from None


def create_servers_directory(home: Path, recorded: str | None, account: Account) -> Path:
    """Return the directory of the servers' data and logs, and create it if it does not exist.

    It is ``servers`` in the home, unless the servers' user cannot reach that.
    """
    if recorded is not None and os.path.lexists(recorded):
        directory = Path(recorded)
        if not is_private(directory, account):
            raise ConfigError(
                f"{directory} is not a directory of mode 0700 that belongs to {account.name!r}; "
                f"restore it with chown {account.name} and chmod 700"
            )
        return directory
    if account.uid != os.geteuid():
        only_ours = set(os.listdir(home)) <= state.NAMES
        if only_ours and not account.can_enter(home):
            _allow_entry(home, account)
        if not account.can_enter(home):
            return _create_elsewhere(account)
    directory = home / "servers"
    directory.mkdir(mode=0o700, exist_ok=True)
    os.chown(directory, account.uid, account.gid, follow_symlinks=False)
    return directory


def _create_elsewhere(account: Account) -> Path:
    create_home(SYSTEM_HOME)
    info = SYSTEM_HOME.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != 0 or info.st_mode & 0o022:
        raise ConfigError(
            f"{SYSTEM_HOME} must be a directory that only root can write; `chown root:root` and "
            "`chmod 711` it"
        )
    if not account.can_enter(SYSTEM_HOME):
        _allow_entry(SYSTEM_HOME, account)
    directory = Path(tempfile.mkdtemp(prefix="servers-", dir=SYSTEM_HOME))
    os.chown(directory, account.uid, account.gid)
    if not account.can_enter(directory):
        raise ConfigError(
            f"user {account.name!r}, as whom the servers run, cannot reach {SYSTEM_HOME}; allow it "
            "to pass through the directories above (chmod a+x)"
        )
    return directory


def _allow_entry(directory: Path, account: Account) -> None:
    """Allow the servers' group to enter a directory, not to list it."""
    os.chown(directory, -1, account.gid)
    directory.chmod(stat.S_IMODE(directory.stat().st_mode) | stat.S_IXGRP)


def is_private(directory: str | Path, account: Account) -> bool:
    """Return whether a path is a directory, not a link, that only this user owns and can access.

    Checked before each use of the sockets: after a restart of the machine, any user may have created
    a directory of that name.
    """
    try:
        info = os.lstat(directory)
    except FileNotFoundError:
        return False
    return (
        stat.S_ISDIR(info.st_mode) and info.st_uid == account.uid and info.st_mode & 0o777 == 0o700
    )


def create_sockets_directory(account: Account) -> Path:
    """Create a directory for the sockets, under an unpredictable name.

    A socket's path must be short, so it cannot be in the home.
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
        f"neither /tmp nor {tempfile.gettempdir()} can hold the servers' sockets (the path must be short "
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
