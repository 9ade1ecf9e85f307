"""Directories of files that appear under their name once they are complete, in place of an earlier one."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any, Final

from ngdata._arguments.shown import guarded, shown
from ngdata._connections.driver_errors import shortage
from ngdata.errors import InvalidQueryError

__all__ = ["PART", "AtomicDirectory", "part_name", "target_directory"]

PART: Final = re.compile(r"part-\d{5}\.parquet")
"""The name of a file of a data set."""


def part_name(number: int) -> str:
    """Return the name of a file of a data set, by its number from 0."""
    return f"part-{number:05}.parquet"


@guarded
def target_directory(path: Any, *, overwrite: bool, name: str = "path") -> Path:
    """Return the directory that an argument names: a new or an empty one, or one to replace.

    Raises
    ------
    InvalidQueryError
        It has files and `overwrite` is False, or files that no data set has.
    """
    try:
        target = Path(path).resolve()
        exists = target.exists()
        entries = sorted(os.listdir(target)) if exists and target.is_dir() else []
    except TypeError:
        raise InvalidQueryError(
            f"{name} must be the path of a directory, not {shown(path)}"
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidQueryError(
            f"{name} cannot be the path of a directory: {shown(path)}: "
            f"{getattr(error, 'strerror', None) or shown(error)}"
        ) from None
    if not target.name:
        raise InvalidQueryError(f"{name} must name a directory to make, not {shown(str(path))}")
    if exists and not target.is_dir():
        raise InvalidQueryError(
            f"{name} must name a directory if partitions is given, but {shown(str(path))} is a file"
        )
    if entries and not overwrite:
        raise InvalidQueryError(
            f"{name} must name a new or an empty directory, but {shown(str(path))} has "
            f"{len(entries)} files; name another one, or replace it with overwrite=True"
        )
    others = [entry for entry in entries if not PART.fullmatch(entry)]
    if others:
        # A directory of other things was named by mistake.
        raise InvalidQueryError(
            f"overwrite replaces a data set, but {shown(str(path))} has other files too, such as "
            f"{shown(others[0])}; name another directory, or remove them"
        )
    return target


class AtomicDirectory:
    """A directory that is made under a temporary name, and renamed once it is complete.

    Parameters
    ----------
    target : pathlib.Path
        From `target_directory`.
    overwrite : bool
        Whether files that are in the target are removed.
    """

    def __init__(self, target: Path, *, overwrite: bool) -> None:
        self._target = target
        self._overwrite = overwrite
        # Beside the target, so that it can be renamed; no glob for data files matches it.
        self.temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        self._is_made = False

    def make(self) -> None:
        """Make the directory under its temporary name."""
        try:
            self.temporary.mkdir()
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and shortage(error, "") is not None:
                raise
            reason = error.strerror if isinstance(error, OSError) else error
            raise InvalidQueryError(
                f"path must name a directory that can be made, but {str(self._target)!r} cannot: {reason}"
            ) from None
        self._is_made = True

    def finish(self) -> None:
        """Rename the directory, all of whose files are complete."""
        target_directory(self._target, overwrite=self._overwrite)
        with contextlib.suppress(FileNotFoundError):
            self.temporary.chmod(self._target.stat().st_mode & 0o7777)
        earlier = None
        if self._target.exists() and any(self._target.iterdir()):
            # A directory with files cannot be replaced in one step.
            earlier = self.temporary.with_suffix(".old")
            os.replace(self._target, earlier)
        try:
            os.replace(self.temporary, self._target)
        except OSError:
            if earlier is not None:
                os.replace(earlier, self._target)
            raise
        self._is_made = False
        if earlier is not None:
            shutil.rmtree(earlier, ignore_errors=True)

    def discard(self) -> None:
        """Remove the directory under the temporary name; a finished one has another name."""
        if self._is_made:
            shutil.rmtree(self.temporary, ignore_errors=True)
