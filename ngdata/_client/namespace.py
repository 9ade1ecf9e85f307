"""The base class of a client's namespaces: a reader, and writing, changing and deleting rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from types import MappingProxyType
from typing import Any, TypeAlias, get_args

import asyncpg
import pandas as pd
import pyarrow as pa

from ngdata._arguments.cards import Card, methods_of
from ngdata._arguments.id_space import UUIDS, IdSpace
from ngdata._arguments.numbers import as_flag
from ngdata._arguments.texts import checked_word, text_column
from ngdata._client.suggesting import Suggesting
from ngdata._connections.database import Database
from ngdata._connections.threads import in_daemon_thread
from ngdata._connections.write_connection import WriteConnection
from ngdata._reading.reader import Reader
from ngdata._store.changes import (
    Assignment,
    FrameChanges,
    check_conditions,
    delete_rows,
    update_each,
    update_rows,
)
from ngdata._store.conflicts import Counts, OnConflict, write_rows
from ngdata._store.fields import FieldTable
from ngdata._store.input_frames import Extra
from ngdata._store.single_rows import insert_row
from ngdata.errors import InvalidQueryError

__all__ = ["Namespace", "as_series"]

Around: TypeAlias = (
    "Callable[[asyncpg.Connection[Any], str, bool | None], AbstractAsyncContextManager[None]]"
)


class Namespace(Suggesting):
    """A part of a client, which creates it.

    The first thing a read method does is read: after checking its arguments, it calls the reader
    before anything else that has an effect.  A method that writes opens `_transaction`, or calls
    `_check_may_write`.  `explain` relies on both: it calls a method with a reader that records the
    query and stops there.

    Parameters
    ----------
    reader : Reader
    database : Database
    ids : IdSpace
        How token ids go in and come out.
    refusal : str, optional
        Why methods that write are refused, if they are.
    """

    def __init__(
        self,
        reader: Reader,
        database: Database,
        ids: IdSpace = UUIDS,
        *,
        refusal: str | None = None,
    ) -> None:
        self._reader = reader
        self._database = database
        self._ids = ids
        self._refusal = refusal

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._database.where}>"

    def _card(self) -> Card:
        return Card(repr(self)[1:-1], methods_of(self))

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[WriteConnection]:
        """Open the transaction of a method that writes; its errors name token ids as they go out."""
        self._check_may_write()
        with self._ids.renaming():
            async with self._database.transaction() as connection:
                yield connection

    def _check_may_write(self) -> None:
        if self._refusal is not None:
            raise InvalidQueryError(self._refusal)

    async def _write(
        self,
        table: FieldTable,
        rows: Callable[[Extra], pa.Table],
        progress: bool | None = False,
        at_once: Callable[[pa.Table], int | None] = lambda _: None,
        around: Around = lambda *_: nullcontext(),
        *,
        extra: Extra = "refuse",
        on_conflict: OnConflict = "error",
        targets: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[pa.ChunkedArray, Counts]:
        """Build and check the rows, write them in one transaction; return their ids, and counts.

        `at_once` returns the number of rows in each statement, `around` a context manager for the
        writes; `targets` are those of `write_rows`.
        """
        self._check_may_write()
        progress = as_flag(progress, "progress", optional=True)
        extra = checked_word(extra, get_args(Extra), "extra")
        on_conflict = checked_word(on_conflict, get_args(OnConflict), "on_conflict")
        with self._ids.renaming():
            written = await in_daemon_thread(lambda: rows(extra))
        counts = Counts(written.num_rows)
        where = self._database.where
        if written.num_rows:
            async with self._transaction() as connection, around(connection, where, progress):
                counts = await write_rows(
                    connection,
                    table,
                    written,
                    on_conflict,
                    where=where,
                    progress=progress,
                    rows_per_part=at_once(written),
                    targets=targets,
                )
                connection.rows_written = counts.created + counts.updated
        return written["id"], counts

    async def _write_one(self, table: FieldTable, row: Mapping[str, Any]) -> str:
        """Write one row that is checked, and return its id."""
        async with self._transaction() as connection:
            await insert_row(connection, table, row, where=self._database.where)
            connection.rows_written = 1
        row_id: str = row["id"]
        return row_id

    async def _update(
        self,
        table: FieldTable,
        ids: Sequence[str],
        changes: Sequence[Assignment],
        names: Iterable[str],
    ) -> int:
        """Make the same changes to each row in one transaction, and return the number of rows.

        `names` are those of the arguments that could change something.
        """
        if not changes:
            raise InvalidQueryError(
                f"update names nothing to change; give at least one of {'=, '.join(names)}="
            )
        async with self._transaction() as connection:
            connection.rows_written = await update_rows(
                connection, table, ids, changes, where=self._database.where
            )
            return connection.rows_written

    async def _update_each(
        self, table: FieldTable, changes: Callable[[], FrameChanges], progress: bool | None
    ) -> int:
        """Build and check the changes of a frame, make them in one transaction, and count them."""
        progress = as_flag(progress, "progress", optional=True)
        with self._ids.renaming():
            checked = await in_daemon_thread(changes)
        async with self._transaction() as connection:
            connection.rows_written = await update_each(
                connection, table, checked, where=self._database.where, progress=progress
            )
            return connection.rows_written

    async def _delete(
        self,
        table: FieldTable,
        ids: Sequence[str] | None,
        conditions: Sequence[str],
        names: Iterable[str],
        alias: str = "t",
    ) -> int:
        """Delete the rows that have one of the ids and meet all conditions; return how many.

        `names` are those of the arguments of which one must be given.
        """
        check_conditions(ids, conditions, names)
        async with self._transaction() as connection:
            connection.rows_written = await delete_rows(
                connection, table, ids, conditions, alias=alias
            )
            return connection.rows_written


def as_series(
    ids: pa.ChunkedArray, counts: Counts, name: str, frame: Any, space: IdSpace = UUIDS
) -> pd.Series[Any]:
    """Return the ids of a frame's rows on the frame's index, ready to be assigned to it."""
    texts = text_column(ids).rename(name)
    series = space.column(texts.set_axis(frame.index) if isinstance(frame, pd.DataFrame) else texts)
    series.attrs["ngdata"] = counts._asdict()
    return series
