"""The databases that a process keeps open while it reads partitions: one for each `Access`.

All threads of a worker share a database, and its pool limits them.  It is closed a minute after the
last read, so that an idle cluster holds no connections.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Final

from ngdata._arguments.id_space import UUIDS, IdSpace
from ngdata._connections.background_loop import background_loop
from ngdata._connections.database import Database
from ngdata._connections.opening import open_database
from ngdata._query.pin import Pin
from ngdata._reading.dask_frames.access import Access
from ngdata._reading.reader import DatabaseReader, Reader

__all__ = ["acquire_reader", "close_idle"]

# Seconds after the last read until the connections are closed.
_IDLE_TIMEOUT: Final = 60.0


class _SharedDatabase:
    """A database that opens when first acquired, and closes when it has not been used for long."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lock = threading.Lock()
        self._stack = AsyncExitStack()
        self._database: Database | None = None
        self._timer: threading.Timer | None = None
        self._users = 0

    def acquire(self, ids: IdSpace, pin: Pin | None) -> Reader:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._database is None:
                opening = open_database(self._access.resolved())
                self._database = background_loop().run(self._stack.enter_async_context(opening))
            self._users += 1
            return DatabaseReader(self._database, ids, pin)

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._timer = threading.Timer(_IDLE_TIMEOUT, self.close_if_idle)
                self._timer.daemon = True
                self._timer.start()

    def close_if_idle(self) -> None:
        with self._lock:
            if self._users or self._database is None:
                return
            self._database = None
            background_loop().run(self._stack.aclose())


_databases: dict[Access, _SharedDatabase] = {}
_lock = threading.Lock()


@contextmanager
def acquire_reader(
    access: Access, ids: IdSpace = UUIDS, pin: Pin | None = None
) -> Iterator[Reader]:
    """Yield a reader, to be used on the background loop; its database is shared."""
    with _lock:
        database = _databases.setdefault(access, _SharedDatabase(access))
    reader = database.acquire(ids, pin)
    try:
        yield reader
    finally:
        database.release()


def close_idle() -> None:
    """Close the databases that are not in use now."""
    with _lock:
        databases = list(_databases.values())
    for database in databases:
        database.close_if_idle()


def _after_fork() -> None:
    # The connections belong to the parent, and another of its threads may have held the lock.
    global _lock
    _lock = threading.Lock()
    _databases.clear()


os.register_at_fork(after_in_child=_after_fork)
