"""What a process that reads partitions keeps open: one database for each way to one.

All threads of a worker share it, and its pool bounds them.  A minute after the last read it is
closed, so that a cluster which has nothing to do holds no connections.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Final

from ngdata._connections.background_loop import background_loop
from ngdata._connections.database import Database
from ngdata._connections.opening import open_database
from ngdata._reading.dask_frames.access import Access
from ngdata._reading.reader import DatabaseReader, Reader

__all__ = ["close_idle", "lent_reader"]

# Seconds without a read, after which the connections are closed.
_IDLE: Final = 60.0


class _Kept:
    """A database that is opened by the first who needs it, and closed when nobody has for long."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lock = threading.Lock()
        self._stack = AsyncExitStack()
        self._database: Database | None = None
        self._timer: threading.Timer | None = None
        self._users = 0

    def take(self) -> Reader:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._database is None:
                opening = open_database(self._access.resolved())
                self._database = background_loop().run(self._stack.enter_async_context(opening))
            self._users += 1
            return DatabaseReader(self._database)

    def give_back(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._timer = threading.Timer(_IDLE, self.close)
                self._timer.daemon = True
                self._timer.start()

    def close(self) -> None:
        with self._lock:
            if self._users or self._database is None:
                return
            self._database = None
            background_loop().run(self._stack.aclose())


_kept: dict[Access, _Kept] = {}
_lock = threading.Lock()


@contextmanager
def lent_reader(access: Access) -> Iterator[Reader]:
    """Lend a reader, which is to be used on the background loop."""
    with _lock:
        kept = _kept.setdefault(access, _Kept(access))
    reader = kept.take()
    try:
        yield reader
    finally:
        kept.give_back()


def close_idle() -> None:
    """Close now what nobody reads from."""
    with _lock:
        found = list(_kept.values())
    for kept in found:
        kept.close()


def _after_fork() -> None:
    # The connections are the parent's, and another thread may have held the lock.
    global _lock
    _lock = threading.Lock()
    _kept.clear()


os.register_at_fork(after_in_child=_after_fork)
