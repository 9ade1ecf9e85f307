"""A connection that reads Arrow from an event loop: an ADBC session on a daemon thread of its own.

A cancelled read is cancelled on the server too, and its connection is closed rather than reused: a
cancel request that arrives late would hit the next query.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import pyarrow as pa

from ngdata._connections.arrow_session import ArrowSession, Snapshot, Unpack, VersionedTable
from ngdata._connections.threads import Worker, in_daemon_thread, uninterrupted

__all__ = ["ArrowConnection"]

T = TypeVar("T")

# Seconds until a cancelled statement must have ended on the server.
_CANCEL_TIMEOUT: Final = 5.0

# Seconds between cancel requests.
_CANCEL_INTERVAL: Final = 0.05


class ArrowConnection:
    """An `ArrowSession` and the thread that owns it.

    Parameters
    ----------
    uri : str
        In libpq's format.
    behind_pooler : bool
        Whether a pooler may run each transaction on another server connection.

    Attributes
    ----------
    broken : bool
        Whether something failed or was cancelled; the pool then closes the connection.
    helpers : list of ArrowConnection
        Connections that read for this one now; `abort` aborts them too.
    """

    def __init__(self, uri: str, behind_pooler: bool) -> None:
        self._session = ArrowSession(uri, behind_pooler)
        self._worker = Worker("ngdata-read")
        # Stops the thread of a connection that is garbage, too.
        self._close = weakref.finalize(self, self._worker.stop, self._session.close)
        self._close.atexit = False
        self._future: asyncio.Future[Any] | None = None
        self.broken = False
        self.helpers: list[ArrowConnection] = []

    async def run(self, work: Callable[[ArrowSession], T]) -> T:
        """Call a function with the session, on its thread, and return the result.

        Cancelling the task cancels the statement on the server.
        """
        is_cancelled = False

        def job() -> T:
            if is_cancelled:
                raise asyncio.CancelledError
            return work(self._session)

        future = self._future = self._worker.submit(job)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            is_cancelled = True
            self.broken = True
            await uninterrupted(self._cancel(future))
            raise
        except GeneratorExit:
            # The event loop was closed under this task.
            is_cancelled = True
            self.cut()
            raise
        except Exception:
            self.broken = True
            raise

    async def read(
        self,
        statement: str,
        *,
        version: str | None = None,
        snapshot: Snapshot | None = None,
        max_rows: int | None = None,
        unpack: Unpack | None = None,
        copy: bool = True,
    ) -> VersionedTable:
        """Read a whole answer; the parameters are those of `ArrowSession.read`."""
        return await self.run(
            lambda session: session.read(
                statement,
                version=version,
                snapshot=snapshot,
                max_rows=max_rows,
                unpack=unpack,
                copy=copy,
            )
        )

    @asynccontextmanager
    async def transaction(self, snapshot: Snapshot) -> AsyncIterator[None]:
        """Begin before the body, which may `run` several functions, and commit after it.

        If the body raises, the connection is closed, which rolls the transaction back.
        """
        try:
            await self.run(lambda session: session.begin(snapshot))
            yield
            await self.run(ArrowSession.commit)
        except BaseException:
            self.broken = True
            raise

    async def stream(
        self,
        statement: str,
        rows: int,
        unpack: Unpack | None = None,
        snapshot: Snapshot | None = None,
    ) -> AsyncGenerator[pa.Table, None]:
        """Read an answer in tables of `rows` rows as it arrives, little ahead of the caller.

        `snapshot` is the transaction to read in.  Ending the iteration early cancels the query on the server.
        """

        def start(session: ArrowSession) -> Any:
            session.begin(snapshot)
            return session.query(statement)

        def next_batch(_: ArrowSession) -> pa.RecordBatch | None:
            # A future cannot carry a StopIteration.
            batch = next(batches, None)
            return batch if batch is None or unpack is None else unpack(batch)

        def end(session: ArrowSession) -> None:
            cursor.close()
            session.commit()

        cursor = await self.run(start)
        batches = cursor.reader
        is_finished = False
        rest: pa.Table | None = None
        try:
            while not is_finished:
                batch = await self.run(next_batch)
                if batch is None:
                    is_finished = True
                else:
                    table = pa.Table.from_batches([batch])
                    rest = table if rest is None else pa.concat_tables([rest, table])
                while rest is not None and (
                    rest.num_rows >= rows or (is_finished and rest.num_rows)
                ):
                    part, rest = rest.slice(0, rows), rest.slice(rows)
                    yield part
        finally:
            if is_finished:
                await uninterrupted(self.run(end))
            else:
                self.broken = True
                await uninterrupted(self._cancel(self._worker.submit(cursor.close)))

    async def _cancel(self, future: asyncio.Future[T]) -> None:
        """Cancel the statement on the server until the thread is done with it."""
        future.add_done_callback(lambda f: f.cancelled() or f.exception())
        # Repeated, because a request that arrives before the query does nothing.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_TIMEOUT):
                while not future.done():
                    await in_daemon_thread(self._session.cancel)
                    await asyncio.wait([future], timeout=_CANCEL_INTERVAL)

    def abort(self) -> None:
        """Make the wait for the server fail; the thread may go on waiting, and is not reused."""
        self.broken = True
        for helper in self.helpers:
            helper.abort()
        if self._future is not None and not self._future.done():
            self._future.set_exception(ConnectionError("the connection was aborted"))

    def close(self) -> None:
        """Close the session once the thread has finished its work; return at once."""
        self._close()

    def cut(self) -> None:
        """Cancel what the server does for this connection, and close it; return at once.

        It needs no event loop, and may be called in any thread.
        """
        self.broken = True
        done = threading.Event()
        if self._close.detach() is None:
            return

        def close() -> None:
            done.set()
            self._session.close()

        self._worker.stop(close)
        threading.Thread(
            target=_cancel_until, args=[done, self._session], name="ngdata-cut", daemon=True
        ).start()


def _cancel_until(done: threading.Event, session: ArrowSession) -> None:
    deadline = time.monotonic() + _CANCEL_TIMEOUT
    while not done.wait(_CANCEL_INTERVAL) and time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            session.cancel()
