"""Files that appear under their name once they are complete, in place of an earlier one."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import Any, BinaryIO

from ngdata._arguments.shown import guarded, shown
from ngdata._connections.driver_errors import shortage
from ngdata.errors import InvalidQueryError, NGDataError

__all__ = ["AtomicFile", "target_path", "write_error"]


@guarded
def target_path(path: Any, name: str = "path") -> Path:
    """Return the file that an argument names, which may exist or not; links are followed."""
    try:
        # A link stays a link: the file that it points to is replaced.
        target = Path(path).resolve()
        is_special = target.exists() and not target.is_file()
    except TypeError:
        raise InvalidQueryError(f"{name} must be the path of a file, not {shown(path)}") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidQueryError(
            f"{name} cannot be the path of a file: {shown(path)}: "
            f"{getattr(error, 'strerror', None) or shown(error)}"
        ) from None
    if not target.name or target.is_dir():
        raise InvalidQueryError(f"{name} must name a file, but {shown(str(path))} is a directory")
    if is_special:
        raise InvalidQueryError(
            f"{name} must name a new file or one to replace, but {shown(str(path))} is a device, a pipe "
            "or a socket"
        )
    return target


def write_error(error: OSError, path: str) -> Exception:
    """Return the error for a file that could not be written."""
    if isinstance(error, NGDataError):
        return error
    what = f"{path!r} could not be written, and is as it was before"
    return shortage(error, what) or NGDataError(f"{what}: {error.strerror or error}")


class AtomicFile:
    """A file that is written under a temporary name, and renamed once it is complete.

    Parameters
    ----------
    target : pathlib.Path
        From `target_path`.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        # In the same directory, so that it can be renamed; no glob for data files matches it.
        self._temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        self._sink: BinaryIO | None = None

    def open(self) -> BinaryIO:
        """Open the file under its temporary name, and return it to be written."""
        try:
            self._sink = self._temporary.open("xb")
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and shortage(error, "") is not None:
                raise
            reason = error.strerror if isinstance(error, OSError) else error
            raise InvalidQueryError(
                f"path must name a file that can be written, but {str(self._target)!r} cannot: "
                f"{reason}"
            ) from None
        return self._sink

    def finish(self) -> None:
        """Rename the file, once all of it is on the disk."""
        assert self._sink is not None
        self._sink.flush()
        os.fsync(self._sink.fileno())
        self._sink.close()
        # The permissions of a replaced file are kept: users who could not read it still cannot.
        with contextlib.suppress(FileNotFoundError):
            self._temporary.chmod(stat.S_IMODE(self._target.stat().st_mode))
        os.replace(self._temporary, self._target)

    def discard(self) -> None:
        """Remove the file under the temporary name; a finished file has another name."""
        if self._sink is None:
            return
        with contextlib.suppress(OSError):  # a full disk has already raised
            self._sink.close()
        self._temporary.unlink(missing_ok=True)
