"""Delete the data of the embedded servers: only what ngdata itself created, and nothing beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from ngdata._local import directories, state
from ngdata._local.account import account_for
from ngdata._local.server import stop_recorded, translated
from ngdata._local.state import State
from ngdata.errors import ConfigError

__all__ = ["Removable", "delete_data", "removable"]

#: Everything that the servers create in their directory.
_OWN: Final = ("data", "data.new-*", "postgres.log", "redis.log", "redis.pid")


@dataclass(frozen=True)
class Removable:
    """What `delete_data` removes.

    Attributes
    ----------
    home : Path
    directory : Path
        The directory of the servers' data and logs.
    size : int
        What it takes on the disk, in bytes.
    """

    home: Path
    directory: Path
    size: int


def removable(home: Path | None = None) -> Removable | None:
    """Return what deleting a home's data removes; None if it has none.

    Parameters
    ----------
    home : Path, optional
        By default `default_home`.

    Raises
    ------
    ConfigError
        The recorded directory is not one that ngdata created, or has other files.

    Examples
    --------
    >>> from ngdata import _local
    >>> _local.up().database_url and _local.removable().home == _local.default_home()
    True
    """
    home = directories.resolve_home(home)
    recorded = state.load(home)
    if recorded is None:
        return None
    directory = _own_directory(home, recorded)
    return Removable(home, directory, _size(directory) if directory.exists() else 0)


def delete_data(home: Path | None = None) -> Removable | None:
    """Stop the embedded servers of a home, and delete their data; return what was deleted.

    Other files in the home are left, and then so is the home.

    Raises
    ------
    ConfigError
        As in `removable`; or the servers run on another machine.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from ngdata import _local
    >>> with TemporaryDirectory() as folder:
    ...     print(_local.delete_data(Path(folder)))
    None
    """
    found = removable(home)
    if found is None:
        return None
    home = found.home
    with translated(home), state.locked(home):
        recorded = state.load(home)
        if recorded is None:
            return None
        _own_directory(home, recorded)
        stop_recorded(home, recorded)
        # Again: what was checked before the servers stopped may have changed.
        directory = _own_directory(home, recorded)
        size = _size(directory) if directory.exists() else 0
        _empty(directory, recorded)
        # The lock last, which others may be waiting for, and the home only if nothing is left.
        for name in sorted(state.NAMES, key=lambda name: name == state.LOCK):
            path = home / name
            if not path.is_dir():
                path.unlink(missing_ok=True)
        if not any(home.iterdir()):
            home.rmdir()
    return Removable(home, directory, size)


def _own_directory(home: Path, recorded: State) -> Path:
    """Return the directory of the servers; raise if it is not certain that ngdata created it."""
    directory = Path(recorded.servers)
    is_expected = directory == home / "servers" or (
        directory.parent == directories.SYSTEM_HOME and directory.name.startswith("servers-")
    )
    if not is_expected:
        raise ConfigError(
            f"{home} names {directory} as the directory of its data, where ngdata creates none; "
            "nothing was deleted"
        )
    if not os.path.lexists(directory):
        return directory
    if not directories.is_private(directory, account_for(recorded.user)):
        raise ConfigError(
            f"{directory} must be a directory of mode 0700 that belongs to {recorded.user!r}, as "
            "ngdata creates it; nothing was deleted"
        )
    others = sorted(
        name
        for name in os.listdir(directory)
        if not any(fnmatchcase(name, pattern) for pattern in _OWN)
    )
    if others:
        raise ConfigError(
            f"{directory} has files that ngdata did not create: {', '.join(others[:3])}; move them "
            "away first. Nothing was deleted"
        )
    return directory


def _empty(directory: Path, recorded: State) -> None:
    if not os.path.lexists(directory):
        return
    account_for(recorded.user).remove(*directory.iterdir())
    if left := sorted(os.listdir(directory)):
        raise ConfigError(
            f"{directory / left[0]} could not be deleted; see who holds it, and run the command again"
        )
    directory.rmdir()


def _size(directory: Path) -> int:
    """Return what the files below a directory take on the disk, in bytes."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:
                # A running server removes files.
                continue
    return total
