"""Query to DataFrame: the one way that every read takes.

This reader asks the database each time; `ngdata._reading.cache` has one that remembers.
"""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from types import EllipsisType
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args

import adbc_driver_postgresql.dbapi as adbc
import pandas as pd

from ngdata._arguments.numbers import positive
from ngdata._connections.arrow_connection import ArrowConnection
from ngdata._connections.arrow_session import TooManyRows, VersionedTable
from ngdata._connections.database import Database
from ngdata._connections.driver_errors import is_lost_connection, translated
from ngdata._connections.threads import in_daemon_thread
from ngdata._query.model import Query
from ngdata._reading import parallel
from ngdata._reading.answer import Answer
from ngdata._reading.frames import to_frame
from ngdata._reading.wire_format import unpack_batch
from ngdata.errors import InvalidQueryError, ResultTooLarge

__all__ = ["CacheMode", "MaxRows", "Reader", "checked_mode"]

T = TypeVar("T")

CacheMode: TypeAlias = Literal["strict", "ttl", "off"]
"""How an answer may be given again: if it is still true, if it is young, or never."""

MaxRows: TypeAlias = int | EllipsisType | None
"""How many rows an answer may have: so many, any (None), or as the client was opened (``...``)."""

# A call's own, on its way to the connection.  It is no part of the question: so calls with different
# bounds share an answer, and whoever stands in between (the cache) need not know.
_MOST: Final[ContextVar[int | None]] = ContextVar("most", default=None)

# Below, making the frame takes less than a millisecond, and the loop may wait for it.
_SMALL_BYTES: Final = 1 << 18


def checked_mode(mode: Any) -> CacheMode:
    """Check a way to cache."""
    if mode not in get_args(CacheMode):
        raise InvalidQueryError(f"cache must be 'strict', 'ttl' or 'off', not {mode!r}")
    found: CacheMode = mode
    return found


class Reader:
    """Reads queries from one database.

    Attributes
    ----------
    max_rows : int or None
        How many rows an answer may have if the call does not say.
    """

    max_rows: int | None = None

    def __init__(self, database: Database) -> None:
        self._database = database

    async def frame(
        self, query: Query, cache: CacheMode | None = None, max_rows: MaxRows = ...
    ) -> pd.DataFrame:
        """Read a whole answer as a frame that is the caller's own.

        Its ``attrs["ngdata"]`` tell where it came from, by which version it is true, and how long
        that took.
        """
        started = time.perf_counter()
        answer, source = await self._answer_of(query, cache, self._bound(max_rows))
        if answer.nbytes < _SMALL_BYTES or answer.is_quick:
            frame = answer.frame()
        else:
            frame = await in_daemon_thread(answer.frame)
        frame.attrs["ngdata"] = {
            "source": source,
            "version": answer.version or None,
            "milliseconds": round((time.perf_counter() - started) * 1000, 3),
        }
        return frame

    def _bound(self, max_rows: MaxRows) -> int | None:
        most = self.max_rows if isinstance(max_rows, EllipsisType) else max_rows
        return None if most is None else positive(most, "max_rows", 2**63 - 1)

    def check_size(self, count: int, max_rows: MaxRows) -> None:
        """Raise if an answer that is yet to be made would have too many rows."""
        most = self._bound(max_rows)
        if most is not None and count > most:
            raise _too_large(count, most)

    async def _answer_of(
        self, query: Query, mode: CacheMode | None, most: int | None
    ) -> tuple[Answer, str]:
        """Read an answer of at most so many rows; of a larger one, only the number of its rows."""
        while True:
            bound = _MOST.set(most)
            try:
                answer, source = await self.answer(query, mode)
                count = answer.table.num_rows
            except TooManyRows as error:
                # A read that was shared with a call that wanted less is begun again.
                if most is None or error.max_rows < most:
                    continue
                count = None
            finally:
                _MOST.reset(bound)
            if most is None or (count is not None and count <= most):
                return answer, source
            count = count or await self._count(query)
            if count > most:
                raise _too_large(count, most, query)
            # Else some of them were deleted meanwhile.

    async def _count(self, query: Query) -> int:
        counted = f'SELECT count(*) AS "count" FROM ({query.sql}) AS answer'
        answer = await self._database_read(lambda connection: connection.read(counted, copy=False))
        return int(answer.table[0][0].as_py())

    async def answer(self, query: Query, mode: CacheMode | None = None) -> tuple[Answer, str]:
        """Read a whole answer, and tell where it came from."""
        made = time.time()
        table, _ = await self._table(query)
        return Answer(table, query.columns, made=made), "database"

    async def frame_and_nonces(self, query: Query, nonces: str) -> tuple[pd.DataFrame, str | None]:
        """Read from the database a whole answer and, in the same snapshot, what tells its version.

        Which is read by a statement of `ngdata._reading.cache.versions`.
        """
        table, found = await self._table(query, nonces)
        return await in_daemon_thread(lambda: to_frame(table, query.columns)), found

    async def _table(self, query: Query, version: str | None = None) -> VersionedTable:
        """Read an answer and, if asked for, the nonces that its snapshot sees."""
        pool = self._database.arrow
        return await self._database_read(
            lambda connection: parallel.read(
                pool, connection, query, version=version, max_rows=_MOST.get()
            )
        )

    async def _database_read(self, read: Callable[[ArrowConnection], Awaitable[T]]) -> T:
        """Read from the database.

        A connection that was lost while it lay idle (the server was restarted) is no reason to
        fail: the read is tried once more, on a new one.
        """
        with translated(self._database.where):
            try:
                return await self._read_on(read, fresh=False)
            except adbc.Error as error:
                if not is_lost_connection(error):
                    raise
            return await self._read_on(read, fresh=True)

    async def _read_on(self, read: Callable[[ArrowConnection], Awaitable[T]], fresh: bool) -> T:
        async with (
            self._database.arrow.connection(fresh) as connection,
            self._database.while_alive(connection.abort),
        ):
            return await read(connection)

    async def frames(self, query: Query, rows: int) -> AsyncGenerator[pd.DataFrame, None]:
        """Read an answer in frames of `rows` rows while the server sends it."""
        unpack = functools.partial(unpack_batch, query=query)
        with translated(self._database.where):
            # The parts are closed here: left to later, that would end the connection's next query.
            async with (
                self._database.arrow.connection() as connection,
                aclosing(connection.stream(query.sql, rows, unpack)) as tables,
            ):
                async for table in tables:
                    yield to_frame(table, query.columns)


def _too_large(count: int, most: int, query: Query | None = None) -> ResultTooLarge:
    less = "" if query is None or not query.has_limit else " (limit=)"
    parts = "" if query is None or query.region is None else " in parts (iter_region),"
    return ResultTooLarge(
        f"the answer has {count:,} rows, and max_rows is {most:,}; ask for less{less},{parts} or for "
        "all of it (max_rows=None)",
        count,
        most,
    )
