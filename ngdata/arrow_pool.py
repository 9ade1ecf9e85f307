"""Connections that read Arrow: ADBC's COPY, one daemon thread each, a bounded pool of them.

A read that is cancelled is cancelled on the server, and its connection is closed rather than used
again: a cancel request that comes late would hit the next query.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import adbc_driver_postgresql.dbapi as adbc

from ngdata.errors import DatabaseUnavailable
from ngdata.threads import Worker, in_daemon_thread, uninterrupted

__all__ = ["ArrowConnection", "ArrowPool"]

T = TypeVar("T")

# On a server that can, a backend notices within a second that its client is gone.
_ON_CONNECT = """
SELECT CASE WHEN current_setting('server_version_num')::int >= 150000
            THEN set_config('client_connection_check_interval', '1000', false) END
"""


class ArrowConnection:
    """One ADBC connection and the thread that alone uses it."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._worker = Worker("ngdata-read")
        self._connection: adbc.Connection | None = None
        self.used = False
        self.broken = False

    async def run(self, work: Callable[[adbc.Cursor], T]) -> T:
        """Do blocking work with a cursor; cancelling the task cancels it on the server."""
        wanted = True

        def job() -> T:
            if self._connection is None:
                self._connection = _open(self._uri)
            if not wanted:
                raise asyncio.CancelledError
            with self._connection.cursor() as cursor:
                return work(cursor)

        future = self._worker.submit(job)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            wanted = False
            self.broken = True
            await uninterrupted(self._cancel(future))
            raise
        except Exception:
            self.broken = True
            raise
        finally:
            self.used = True

    async def _cancel(self, future: asyncio.Future[T]) -> None:
        # Asked again until it ends: a request that comes before the query does nothing.
        for _ in range(100):
            if self._connection is not None:
                await in_daemon_thread(self._connection.adbc_cancel)
            done, _pending = await asyncio.wait([future], timeout=0.05)
            if done:
                break
        if future.done() and not future.cancelled():
            future.exception()
        else:
            future.add_done_callback(lambda f: f.cancelled() or f.exception())

    def close(self) -> None:
        """Close it behind whatever the thread still does; does not wait."""

        def job() -> None:
            if self._connection is not None:
                self._connection.close()

        self._worker.submit(job).add_done_callback(lambda f: f.cancelled() or f.exception())
        self._worker.stop()


def _open(uri: str) -> adbc.Connection:
    connection = adbc.connect(uri, autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(_ON_CONNECT)
            cursor.fetchone()
    except adbc.Error:
        pass  # an operating system on which the server cannot look
    return connection


class ArrowPool:
    """At most `most` connections, opened when needed, the one last used first.

    Parameters
    ----------
    uri : str
        As libpq takes it.
    most : int
        How many there may be at once.
    patience : float
        Seconds to wait for one when all are in use.
    """

    def __init__(self, uri: str, most: int, patience: float) -> None:
        self._uri = uri
        self._most = most
        self._patience = patience
        self._free = asyncio.Semaphore(most)
        self._idle: list[ArrowConnection] = []
        self._in_use = 0
        self._waiting = 0
        self._closed = False

    @asynccontextmanager
    async def connection(self, fresh: bool = False) -> AsyncIterator[ArrowConnection]:
        """Lend a connection; a `fresh` one was never used, and the idle ones are given up."""
        await self._take()
        try:
            if fresh:
                self._drop_idle()
            lent = self._idle.pop() if self._idle else ArrowConnection(self._uri)
            self._in_use += 1
            try:
                yield lent
            finally:
                self._in_use -= 1
                if lent.broken or self._closed:
                    lent.close()
                else:
                    self._idle.append(lent)
        finally:
            self._free.release()

    async def _take(self) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError:
            raise DatabaseUnavailable(
                f"all {self._most} connections for reading were in use for {self._patience:g} s; "
                "close iterators that are not read to their end, or allow more with pool_max_size"
            ) from None
        finally:
            self._waiting -= 1

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def status(self) -> dict[str, int]:
        """Count the connections."""
        return {
            "size": self._in_use + len(self._idle),
            "in_use": self._in_use,
            "idle": len(self._idle),
            "waiting": self._waiting,
            "limit": self._most,
        }

    def close(self) -> None:
        """Close what is idle now, and what is in use when it comes back."""
        self._closed = True
        self._drop_idle()
