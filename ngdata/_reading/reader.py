"""Query to DataFrame: the path of every read.

`DatabaseReader` reads from the database each time; `ngdata._reading.cache` has a reader that
caches.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from types import EllipsisType
from typing import Any, Final, Literal, Protocol, TypeAlias, TypeVar, get_args
from weakref import WeakKeyDictionary

import adbc_driver_manager as adbc
import pandas as pd
import pyarrow as pa

from ngdata._arguments.id_space import UUIDS, IdSpace
from ngdata._arguments.numbers import positive
from ngdata._arguments.texts import checked_word
from ngdata._connections.arrow_connection import ArrowConnection
from ngdata._connections.arrow_session import (
    ArrowSession,
    Snapshot,
    TextBeside,
    TooManyRows,
    Unpack,
    VersionedTable,
)
from ngdata._connections.caller_warnings import CallerLine, caller_line, warn_caller
from ngdata._connections.database import Database
from ngdata._connections.driver_errors import (
    Translation,
    is_lost_connection,
    statement_error,
    translate,
    translated,
)
from ngdata._connections.own_task import in_own_task
from ngdata._connections.telemetry import LOGGER, kind_of_call, observed
from ngdata._connections.threads import in_daemon_thread
from ngdata._query.asked import Asked
from ngdata._query.model import Query, Region
from ngdata._query.moments import SETTINGS, as_of, check_sql, pages_if_kept
from ngdata._query.parallel_parts import estimate_sql, size_sql
from ngdata._query.pin import Pin
from ngdata._query.statements import Statement
from ngdata._reading import clock, parallel, statements
from ngdata._reading.answer import Answer
from ngdata._reading.empty_answers import causes
from ngdata._reading.frames import to_frame
from ngdata._reading.region_sizes import LevelSize, RegionSizes
from ngdata._reading.units import level_and_unit, split_unit, with_unit
from ngdata._reading.wire_format import unpack_batch
from ngdata.errors import EmptyResultWarning, NotFoundError, ResultTooLarge

__all__ = [
    "CacheMode",
    "DatabaseReader",
    "MaxRows",
    "Reader",
    "checked_max_rows",
    "checked_mode",
    "described",
]

T = TypeVar("T")

CacheMode: TypeAlias = Literal["strict", "ttl", "off"]
"""When a cached answer is returned: while it is up to date, while it is young, or never."""

MaxRows: TypeAlias = int | EllipsisType | None
"""How many rows an answer may have: a number, any number (None), or the client's limit (``...``)."""

# Seconds that a look at why an answer is empty may take; how long it takes at most to be repeated at
# once; and else, how many times as long it is not repeated, so that readers of an empty region do not
# keep the server busy.
_LOOK_TIMEOUT: Final = 2.0
_QUICK_LOOK: Final = 0.5
_PAUSE_PER_LOOK: Final = 20

# A smaller frame is made in less than a millisecond, so it is made on the event loop.
_SMALL_BYTES: Final = 1 << 18


def checked_mode(mode: Any) -> CacheMode:
    """Return a cache mode, checked."""
    checked: CacheMode = checked_word(mode, get_args(CacheMode), "cache")
    return checked


def checked_max_rows(max_rows: MaxRows, default: int | None = None) -> int | None:
    """Return how many rows an answer may have, checked; `default` is the client's limit."""
    limit = default if max_rows is ... else max_rows
    return None if limit is None else positive(limit, "max_rows", 2**63 - 1)


def described(
    frame: pd.DataFrame,
    source: str,
    version: str | None,
    started: float,
    place: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Return a frame whose ``attrs["ngdata"]`` hold where it came from, and what `Reader.frame` says.

    `place` is what else is said of it: the level and the unit, a pin, or the two that were compared.
    """
    frame.attrs["ngdata"] = {
        "source": source,
        "version": version,
        "milliseconds": round((time.perf_counter() - started) * 1000, 3),
        **(place or {}),
    }
    return frame


class Reader(Protocol):
    """What the methods of a client read with.

    Attributes
    ----------
    ids : IdSpace
        How token ids go out.
    pin : Pin or None
        The moment of all answers; None: now.
    """

    ids: IdSpace
    pin: Pin | None

    async def frame(
        self, query: Query, cache: CacheMode | None = None, max_rows: MaxRows = ...
    ) -> pd.DataFrame:
        """Read a whole answer as a frame that the caller owns.

        Its ``attrs["ngdata"]`` hold where it came from, its version, and how long the read took; if
        its coordinates are of one level, also that level and its unit.
        """

    async def answer(
        self, query: Query, mode: CacheMode | None = None, max_rows: int | None = None
    ) -> tuple[Answer, str]:
        """Read a whole answer, and return it with where it came from."""

    async def frame_and_version(
        self, query: Query, version: str
    ) -> tuple[pd.DataFrame, str | None]:
        """Read from the database a whole answer and, in the same snapshot, its version.

        The statement for the version is from `ngdata._reading.cache.versions`.
        """

    def frames(self, query: Query, rows: int) -> AsyncGenerator[pd.DataFrame, None]:
        """Read an answer in frames of `rows` rows while the server sends it."""

    def check_size(self, count: int, max_rows: MaxRows) -> None:
        """Raise if an answer that is not made yet would have more rows than allowed."""

    async def level_size(
        self, region: Region, *, is_whole: bool, probe: str | None = None
    ) -> LevelSize:
        """Return about how many tokens a region's level has, and how many the region has.

        `is_whole` says that the region is all of its level, without a filter.  `probe` is a query
        of one row that is read beside.
        """

    async def kept_answer(self, query: Query, mode: CacheMode | None = None) -> Answer | None:
        """Return an answer that this process keeps, if it is up to date; nothing is read."""

    async def warn_if_empty(self, answer: Answer, asked: Asked | None) -> None:
        """Warn why an answer that was made of another one has no rows, if it has none."""


class DatabaseReader:
    """A reader that reads from one database each time.

    Parameters
    ----------
    database : Database
    ids : IdSpace
        How token ids go out.

    Attributes
    ----------
    ids : IdSpace
    max_rows : int or None
        How many rows an answer may have, unless the call says otherwise.
    pin : Pin or None
        The moment of all answers; None: now.
    """

    max_rows: int | None = None

    def __init__(self, database: Database, ids: IdSpace = UUIDS, pin: Pin | None = None) -> None:
        self._database = database
        self.ids = ids
        self.pin = pin
        self._sizes = RegionSizes()
        # Why answers are empty that are kept; read once for all callers of an answer.
        self._reasons: WeakKeyDictionary[Answer, list[str]] = WeakKeyDictionary()
        # Not before this time of the monotonic clock is another empty answer looked at.
        self._next_look = 0.0

    @property
    def where(self) -> str:
        """The address of the database, without its password."""
        return self._database.where

    def own(self, query: Query) -> Query:
        """Return the read with ids as this reader returns them, as of its pin."""
        query = query.within(self.ids)
        if self.pin is None or query.pin == self.pin:
            return query
        return as_of(query, self.pin, self._sizes.history_pages)

    async def frame(
        self, query: Query, cache: CacheMode | None = None, max_rows: MaxRows = ...
    ) -> pd.DataFrame:
        """Read a whole answer as a frame that the caller owns."""
        started = time.perf_counter()
        query = self.own(query)
        limit = checked_max_rows(max_rows, self.max_rows)
        answer, source = await self.answer(query, cache, limit)
        if answer.missing_ids:
            raise self._missing_ids(query, answer.missing_ids)
        with translated(self.where):
            if answer.nbytes < _SMALL_BYTES or answer.is_shareable:
                frame = answer.frame()
            else:
                frame = await in_daemon_thread(answer.frame)
        if not len(frame):
            await self.warn_if_empty(answer, query.asked)
        place = level_and_unit(query, answer.unit, self.pin)
        return described(frame, source, answer.version or None, started, place)

    async def warn_if_empty(self, answer: Answer, asked: Asked | None) -> None:
        """Warn why an answer has no rows, if it has none."""
        if asked is None or answer.table.num_rows:
            return
        reasons = self._reasons.get(answer)
        if reasons is None:
            reasons = await self._why_empty(asked)
        if reasons is not None:
            self._reasons[answer] = reasons
            _warn_of(reasons)

    async def _why_empty(self, asked: Asked) -> list[str] | None:
        """Return each cause of an empty answer that a second look at the store shows.

        Return None if the look failed or came too soon after a slow one: the answer is right without.
        """

        async def read(query: Query) -> list[dict[str, Any]]:
            table, _, _ = await self._table(query)
            rows: list[dict[str, Any]] = table.to_pylist()
            for row in rows:
                if "token_types" in row:
                    row["token_types"] = json.loads(row["token_types"])
            return rows

        started = time.monotonic()
        if started < self._next_look:
            return None
        reasons = None
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_LOOK_TIMEOUT):
                reasons = await causes(asked, read)
        ended = time.monotonic()
        if ended - started > _QUICK_LOOK:
            self._next_look = ended + _PAUSE_PER_LOOK * (ended - started)
        return reasons

    def check_size(self, count: int, max_rows: MaxRows) -> None:
        """Raise if an answer that is not made yet would have more rows than allowed."""
        limit = checked_max_rows(max_rows, self.max_rows)
        if limit is not None and count > limit:
            raise _too_large(count, limit)

    async def level_size(
        self, region: Region, *, is_whole: bool, probe: str | None = None
    ) -> LevelSize:
        """Return about how many tokens a region's level has, and how many the region has."""

        def read(session: ArrowSession) -> LevelSize:
            pages, counted = session.row(size_sql(region))
            expected = math.inf if is_whole else session.expected_rows(estimate_sql(region))
            size = LevelSize.of(pages, counted, expected)
            return size if probe is None else size._replace(probed=session.row(probe))

        return await self._database_read(lambda connection: connection.run(read))

    async def kept_answer(self, query: Query, mode: CacheMode | None = None) -> Answer | None:
        """Return an answer that this process keeps, if it is up to date: this reader keeps none."""
        return None

    async def answer(
        self, query: Query, mode: CacheMode | None = None, max_rows: int | None = None
    ) -> tuple[Answer, str]:
        """Read a whole answer, and return it with where it came from.

        Raises
        ------
        ResultTooLarge
            The answer has more than `max_rows` rows; they were not all read.
        """
        with observed("read") as statement:
            answer, source = await self._checked_answer(self.own(query), mode, max_rows)
            statement.record(answer.table.num_rows - len(answer.missing_ids), source)
        return answer, source

    async def _checked_answer(
        self, query: Query, mode: CacheMode | None, max_rows: int | None
    ) -> tuple[Answer, str]:
        try:
            answer, source = await self._answer(query, mode, max_rows)
        except TooManyRows as error:
            count, missing = await self._count(query)
            if missing:
                # A row that names a missing id is not a row of the answer.
                raise self._missing_ids(query, missing) from None
            # If rows were deleted since, the answer had at least as many as were read.
            raise _too_large(max(error.rows, count), error.max_rows, query) from None
        # An answer from the cache may have been read under another limit.
        if max_rows is not None and answer.table.num_rows > max_rows:
            if answer.missing_ids:
                raise self._missing_ids(query, answer.missing_ids)
            raise _too_large(answer.table.num_rows, max_rows, query)
        return answer, source

    async def _answer(
        self,
        query: Query,
        mode: CacheMode | None,
        max_rows: int | None,
    ) -> tuple[Answer, str]:
        read_at = clock.now()
        table, _, unit = await self._table(query, max_rows=max_rows)
        return Answer(table, query.columns, read_at=read_at, unit=unit), "database"

    async def _count(self, query: Query) -> tuple[int, list[str]]:
        """Return the number of rows of an answer, and the ids that are not in the store."""
        missing = "NULL" if query.id_noun is None else "string_agg(missing_id, ',')"
        statement = (
            f'SELECT count(*) AS "count", {missing}::text AS missing FROM ({query.sql}) AS answer'
        )
        table, _, _ = await self._database_read(
            lambda connection: connection.read(statement, copy=False)
        )
        ids = table[1][0].as_py()
        return int(table[0][0].as_py()), ids.split(",") if ids else []

    async def frame_and_version(
        self, query: Query, version: str
    ) -> tuple[pd.DataFrame, str | None]:
        """Read from the database a whole answer and, in the same snapshot, its version."""
        query = self.own(query)
        with observed("read") as statement:
            table, text, unit = await self._table(query, version)
            statement.record(table.num_rows)
        frame = await in_daemon_thread(lambda: to_frame(table, query.columns))
        frame.attrs["ngdata"] = level_and_unit(query, unit, self.pin)
        return frame, text

    async def _table(
        self, query: Query, version: str | None = None, max_rows: int | None = None
    ) -> VersionedTable:
        """Read an answer and, in the same snapshot, the unit of its level.

        If the statement for it is there, its version too.  An answer as of a pin has no version.
        """
        pool = self._database.arrow
        query = self.own(query)
        if query.pin is not None:
            version = check_sql(query.pin)
        # Of a version, the locks of the transaction keep TRUNCATE away.  One statement locks all its
        # tables before its snapshot too, and a few rows have room for what it says of the pin.
        is_one_statement = query.is_lookup or (query.is_nearest and query.is_small)
        in_transaction = version is not None and not (query.pin is not None and is_one_statement)
        text = version
        if query.level is not None:
            text = with_unit(version, query.level, query.pin)
        answer = await self._database_read(
            lambda connection: parallel.read(
                pool,
                connection,
                query,
                sizes=self._sizes,
                version=text,
                in_transaction=in_transaction,
                max_rows=max_rows,
            )
        )
        if query.level is not None:
            version, unit = split_unit(answer.version)
            answer = answer._replace(version=version, unit=unit)
        if query.pin is not None:
            self._sizes.history_pages = pages_if_kept(query.pin, answer.version)
            answer = answer._replace(version=None)
        if query.region is not None:
            self._sizes.record(query.region, answer.table.num_rows)
        return answer

    async def _database_read(
        self,
        read: Callable[[ArrowConnection], Awaitable[T]],
        translation: Translation = translate,
    ) -> T:
        """Read from the database.

        If the connection was lost while idle (because the server restarted), the read is repeated
        once, on a new connection.
        """
        with translated(self._database.where, translation):
            try:
                return await self._read_on_connection(read, fresh=False)
            except adbc.Error as error:
                if not is_lost_connection(error):
                    raise
            LOGGER.warning("%s closed a connection; reading again on a new one", self.where)
            return await self._read_on_connection(read, fresh=True)

    async def _read_on_connection(
        self, read: Callable[[ArrowConnection], Awaitable[T]], fresh: bool
    ) -> T:
        async with (
            self._database.arrow.connection(fresh) as connection,
            self._database.while_alive(connection.abort),
        ):
            return await read(connection)

    def _missing_ids(self, query: Query, missing: list[str]) -> NotFoundError:
        assert query.id_noun is not None
        return self.ids.renamed(NotFoundError.of(query.id_noun, missing))

    async def statement_frame(self, statement: Statement, max_rows: MaxRows) -> pd.DataFrame:
        """Read the rows of a caller's own statement as a frame; nothing of it is cached."""
        started = time.perf_counter()
        limit = checked_max_rows(max_rows, self.max_rows)
        with observed("sql") as observation:
            table = await self._statement_rows(statement, limit)
            observation.record(table.num_rows)
        frame = await in_daemon_thread(lambda: statements.to_frame(table))
        return described(frame, "database", None, started)

    async def _statement_rows(self, statement: Statement, limit: int | None) -> pa.Table:
        try:
            return await self._database_read(
                lambda connection: connection.run(
                    lambda session: statements.read_rows(session, statement, limit)
                ),
                statement_error,
            )
        except TooManyRows as error:
            count = await self._database_read(
                lambda connection: connection.run(
                    lambda session: statements.count_rows(session, statement)
                ),
                statement_error,
            )
            raise _too_large(max(error.rows, count), error.max_rows) from None

    def frames(self, query: Query, rows: int) -> AsyncGenerator[pd.DataFrame, None]:
        """Read an answer in frames of `rows` rows while the server sends it."""
        return in_own_task(self._frames(self.own(query), rows, caller_line(), kind_of_call("read")))

    async def _frames(
        self, query: Query, rows: int, line: CallerLine, kind: str
    ) -> AsyncGenerator[pd.DataFrame, None]:
        unpack: Unpack = functools.partial(unpack_batch, query=query)
        statement, beside, text, snapshot = query.sql, None, None, None
        if query.pin is not None:
            text = check_sql(query.pin)
            snapshot = Snapshot(query.relations, settings=SETTINGS)
        if query.level is not None:
            text = with_unit(text, query.level, query.pin)
        if text is not None:
            unpack = beside = TextBeside(text, unpack)
            statement = beside.statement(statement)
        with observed(kind) as observation, translated(self._database.where):
            # The stream is closed here: closed later, it would end the connection's next query.
            async with (
                self._database.arrow.connection() as connection,
                aclosing(connection.stream(statement, rows, unpack, snapshot)) as tables,
            ):
                is_empty = True
                count = 0
                async for table in tables:
                    is_empty = False
                    count += table.num_rows
                    observation.record(count)
                    frame = to_frame(table, query.columns)
                    if beside is not None:
                        version, unit = split_unit(beside.text)
                        if query.pin is not None:
                            pages_if_kept(query.pin, version)
                        frame.attrs["ngdata"] = level_and_unit(query, unit, self.pin)
                    yield frame
        if is_empty and query.pin is not None:
            # Without a row, nothing has said whether the pin was still there.
            await self._table(query)
        if is_empty and query.asked is not None:
            _warn_of(await self._why_empty(query.asked) or [], line)


def _warn_of(reasons: list[str], line: CallerLine | None = None) -> None:
    for reason in reasons:
        warn_caller(f"the answer is empty: {reason}", EmptyResultWarning, line=line)


def _too_large(count: int, max_rows: int, query: Query | None = None) -> ResultTooLarge:
    less = "" if query is None or not query.has_limit else " (limit=)"
    parts = "" if query is None or query.region is None else " in parts (iter_region),"
    return ResultTooLarge(
        f"the answer has {count:,} rows, and max_rows is {max_rows:,}; ask for less{less},{parts} "
        "or for all of it (max_rows=None)",
        count,
        max_rows,
    )
