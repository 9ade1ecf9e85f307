"""A connection that reads Arrow by ADBC's COPY, on a daemon thread of its own.

A read that is cancelled is cancelled on the server, and its connection is closed rather than used
again: a cancel request that comes late would hit the next query.

ADBC asks for an answer's columns and then for its rows, in steps that belong together only on one
server connection: behind a pooler, each read is a transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa

from ngdata._connections.threads import Worker, in_daemon_thread, uninterrupted

__all__ = ["ArrowConnection", "Estimate", "TooManyRows", "Unpack", "begin_locked", "joined"]

T = TypeVar("T")

# On a server that can, a backend notices within a second that its client is gone.
_ON_CONNECT = """
SELECT CASE WHEN current_setting('server_version_num')::int >= 150000
            THEN set_config('client_connection_check_interval', '1000', false) END
"""

_BEGIN = "BEGIN READ ONLY"

# In parts, the server is never far ahead of the reader.
_SMALL_BATCHES = {"adbc.postgresql.batch_size_hint_bytes": str(1 << 20)}
_NO_COPY = {"adbc.postgresql.use_copy": "false"}

Unpack: TypeAlias = Callable[[pa.RecordBatch], pa.RecordBatch]


@dataclass(frozen=True)
class Estimate:
    """How many rows the server's planner must expect of a statement, for something to be so."""

    statement: str
    rows: float


def _as_it_is(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


class TooManyRows(Exception):  # noqa: N818 - an answer to the reader, who makes the error of it
    """More rows came than were wanted; the rest was not read."""

    def __init__(self, most: int, read: int) -> None:
        super().__init__(f"{read} rows came where {most} were wanted at most")
        self.most = most
        self.read = read


class ArrowConnection:
    """One ADBC connection and the thread that alone uses it.

    Attributes
    ----------
    most : int or None
        How many rows a whole answer may have; set anew by each who reads.
    """

    def __init__(self, uri: str, pooled: bool) -> None:
        self._uri = uri
        self._pooled = pooled
        self._worker = Worker("ngdata-read")
        self._connection: adbc.Connection | None = None
        self._future: asyncio.Future[Any] | None = None
        self.broken = False
        self.most: int | None = None
        self.companions: list[ArrowConnection] = []

    async def read(
        self,
        statement: str,
        unpack: Unpack = _as_it_is,
        unless: Estimate | None = None,
        *,
        copy: bool = True,
    ) -> pa.Table | None:
        """Read a whole answer; cancelling the task cancels the query on the server.

        Parameters
        ----------
        statement : str
        unpack : callable
            Makes a part of the answer of a part of what the server sent.
        unless : Estimate, optional
            None is the answer if that many rows are to be expected.
        copy : bool
            By COPY, which is quicker for many rows, and takes two more trips.
        """

        def work() -> pa.Table | None:
            if unless is not None and self._expected(unless.statement) >= unless.rows:
                return None
            with self._opened().cursor() as cursor, self._alone(cursor):
                return joined(self._batches(cursor, statement, unpack, copy))

        return await self._do(work)

    async def read_versioned(
        self,
        statement: str,
        version: str,
        relations: Sequence[str],
        unpack: Unpack = _as_it_is,
        unless: Estimate | None = None,
        *,
        copy: bool = True,
    ) -> tuple[pa.Table, str | None] | None:
        """Read an answer and, in the same snapshot, the version that it is true by."""

        def work() -> tuple[pa.Table, str | None] | None:
            if unless is not None and self._expected(unless.statement) >= unless.rows:
                return None
            begin = begin_locked(relations)
            with self._opened().cursor() as cursor, _transaction(cursor, begin):
                (found,) = self._row(version)
                parts = self._batches(cursor, statement, unpack, copy)
            # In one piece, or NumPy would make its own of each column of a frame.
            return joined(parts), found

        return await self._do(work)

    async def run(self, script: str) -> None:
        """Run statements that give nothing."""

        def work() -> None:
            with self._opened().cursor() as cursor:
                cursor.executescript(script)

        await self._do(work)

    async def row(self, statement: str) -> tuple[Any, ...]:
        """Read one small row."""
        return await self._do(lambda: self._row(statement))

    async def expected(self, statement: str) -> float:
        """Ask how many rows the planner expects of a statement."""
        return await self._do(lambda: self._expected(statement))

    async def read_more(self, statement: str, unpack: Unpack = _as_it_is) -> list[pa.RecordBatch]:
        """Read on in a transaction that is open: an answer's parts, at least one."""

        def work() -> list[pa.RecordBatch]:
            with self._opened().cursor() as cursor:
                return self._batches(cursor, statement, unpack)

        return await self._do(work)

    def _row(self, statement: str) -> tuple[Any, ...]:
        with self._opened().cursor() as cursor:
            cursor.adbc_statement.set_options(**_NO_COPY)
            cursor.execute(statement)
            return tuple(column[0].as_py() for column in cursor.fetch_arrow_table().columns)

    def _expected(self, statement: str) -> float:
        (plan,) = self._row(f"EXPLAIN (FORMAT JSON) {statement}")
        return float(json.loads(plan)[0]["Plan"]["Plan Rows"])

    def _batches(
        self, cursor: adbc.Cursor, statement: str, unpack: Unpack, copy: bool = True
    ) -> list[pa.RecordBatch]:
        """Read the parts of an answer, unpacked: one at least, without rows if there are none."""
        # So small that the server has room to go on sending while one is unpacked.
        cursor.adbc_statement.set_options(**(_SMALL_BATCHES if copy else _NO_COPY))
        cursor.execute(statement)
        batches = _batches_of(cursor)
        parts = []
        rows = 0
        for batch in batches:
            if batch.num_rows:
                parts.append(unpack(batch))
                rows += batch.num_rows
            if self.most is not None and rows > self.most:
                # Without this, closing the cursor would read the rest.
                self._opened().adbc_cancel()
                raise TooManyRows(self.most, rows)
        return parts or [unpack(pa.RecordBatch.from_pylist([], batches.schema))]

    async def read_in_parts(
        self, statement: str, rows: int, unpack: Unpack = _as_it_is
    ) -> AsyncGenerator[pa.Table, None]:
        """Read an answer as it comes, `rows` rows at a time, a little ahead of the caller at most.

        Ending the iteration early cancels the query on the server.
        """

        def start() -> tuple[adbc.Cursor, Any]:
            cursor = self._opened().cursor()
            self._begin(cursor)
            cursor.adbc_statement.set_options(**_SMALL_BATCHES)
            cursor.execute(statement)
            return cursor, _batches_of(cursor)

        def following() -> pa.RecordBatch | None:
            # A future cannot carry a StopIteration.
            batch = next(batches, None)
            return None if batch is None else unpack(batch)

        def end() -> None:
            self._commit(cursor)
            cursor.close()

        cursor, batches = await self._do(start)
        finished = False
        rest: pa.Table | None = None
        try:
            while not finished:
                batch = await self._do(following)
                if batch is None:
                    finished = True
                else:
                    more = pa.Table.from_batches([batch])
                    rest = more if rest is None else pa.concat_tables([rest, more])
                while rest is not None and (rest.num_rows >= rows or (finished and rest.num_rows)):
                    part, rest = rest.slice(0, rows), rest.slice(rows)
                    yield part
        finally:
            if finished:
                await uninterrupted(self._do(end))
            else:
                self.broken = True
                await uninterrupted(self._stopped(self._worker.submit(cursor.close)))

    def _opened(self) -> adbc.Connection:
        if self._connection is None:
            self._connection = _open(self._uri, self._pooled)
        return self._connection

    def _alone(self, cursor: adbc.Cursor) -> AbstractContextManager[None]:
        # But for a pooler, a statement alone is its own transaction.
        return _transaction(cursor, _BEGIN) if self._pooled else nullcontext()

    def _begin(self, cursor: adbc.Cursor) -> None:
        if self._pooled:
            cursor.executescript(_BEGIN)

    def _commit(self, cursor: adbc.Cursor) -> None:
        if self._pooled:
            cursor.executescript("COMMIT")

    async def _do(self, work: Callable[[], T]) -> T:
        wanted = True

        def job() -> T:
            if not wanted:
                raise asyncio.CancelledError
            return work()

        future = self._future = self._worker.submit(job)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            wanted = False
            self.broken = True
            await uninterrupted(self._stopped(future))
            raise
        except Exception:
            self.broken = True
            raise

    async def _stopped(self, future: asyncio.Future[T]) -> None:
        """Cancel what runs on the server until the thread is done with it, for 5 s at most."""
        future.add_done_callback(lambda f: f.cancelled() or f.exception())
        # Asked again until it ends: a request that comes before the query does nothing.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                while not future.done():
                    if self._connection is not None:
                        await in_daemon_thread(self._connection.adbc_cancel)
                    await asyncio.wait([future], timeout=0.05)

    def cut(self) -> None:
        """Make a wait for the server fail; the thread is left to it, and nobody uses it again."""
        self.broken = True
        for companion in self.companions:
            companion.cut()
        if self._future is not None and not self._future.done():
            self._future.set_exception(ConnectionError("the connection was given up"))

    def close(self) -> None:
        """Close it behind whatever the thread still does; does not wait."""

        def job() -> None:
            if self._connection is not None:
                self._connection.close()

        self._worker.submit(job).add_done_callback(lambda f: f.cancelled() or f.exception())
        self._worker.stop()


def _batches_of(cursor: adbc.Cursor) -> Any:
    # What fetch_record_batch() gives makes an OSError, without its SQLSTATE, of whatever the server
    # says once it is under way (apache/arrow-adbc#1523); this is the reader that it takes apart.
    executed: Any = cursor
    return executed._results.reader


def joined(parts: list[pa.RecordBatch]) -> pa.Table:
    """Put parts, at least one, together: one piece each column.

    They are freed on the way, and `parts` is emptied: all at once, an answer would for a moment
    take twice its memory.
    """
    schema = parts[0].schema
    columns = [[part.column(place) for part in parts] for place in range(len(schema))]
    parts.clear()
    arrays = []
    for place in range(len(columns)):
        chunks, columns[place] = columns[place], []
        arrays.append(chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks))
    return pa.Table.from_arrays(arrays, schema=schema)


@contextmanager
def _transaction(cursor: adbc.Cursor, begin: str) -> Iterator[None]:
    try:
        cursor.executescript(begin)
        yield
    except BaseException:
        # The connection will be closed, but the server may take a moment to notice.
        with contextlib.suppress(adbc.Error):
            cursor.executescript("ROLLBACK")
        raise
    cursor.executescript("COMMIT")


def begin_locked(relations: Sequence[str], first: str = "") -> str:
    """Write what begins a snapshot of relations, after statements that come `first`.

    They are locked before the snapshot is taken, against TRUNCATE alone: a snapshot from before one
    sees the old version, and no rows.  Tokens come first, as where TRUNCATE goes on to what refers
    to them.
    """
    return (
        f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {first}"
        f"LOCK TABLE {', '.join(sorted(relations, reverse=True))} IN ACCESS SHARE MODE"
    )


def _open(uri: str, pooled: bool) -> adbc.Connection:
    connection = adbc.connect(uri, autocommit=True)
    if pooled:
        return connection  # the setting would go to whoever is lent the server's connection next
    try:
        with connection.cursor() as cursor:
            cursor.execute(_ON_CONNECT)
            cursor.fetchone()
    except adbc.Error:
        pass  # an operating system on which the server cannot look
    return connection
