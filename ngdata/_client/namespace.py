"""The base class of a client's namespaces: a reader, and writing rows, one or many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, TypeAlias

import asyncpg
import pandas as pd
import pyarrow as pa

from ngdata._arguments.id_space import UUIDS, IdSpace
from ngdata._arguments.numbers import as_flag
from ngdata._connections.database import Database
from ngdata._connections.process_bound import ProcessBound
from ngdata._connections.threads import in_daemon_thread
from ngdata._connections.write_connection import WriteConnection
from ngdata._reading.reader import Reader
from ngdata._store.copy import copy_into
from ngdata._store.fields import FieldTable
from ngdata._store.single_rows import insert_row
from ngdata.errors import InvalidQueryError

__all__ = ["Namespace", "as_series"]

Around: TypeAlias = (
    "Callable[[asyncpg.Connection[Any], str, bool | None], AbstractAsyncContextManager[None]]"
)


class Namespace(ProcessBound):
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
    may_write : bool
        Whether `_transaction` opens one; `explain` must not write.
    """

    def __init__(
        self, reader: Reader, database: Database, ids: IdSpace = UUIDS, *, may_write: bool = True
    ) -> None:
        self._reader = reader
        self._database = database
        self._ids = ids
        self._may_write = may_write

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._database.where}>"

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[WriteConnection]:
        """Open the transaction of a method that writes; its errors name token ids as they go out."""
        self._check_may_write()
        with self._ids.renaming():
            async with self._database.transaction() as connection:
                yield connection

    def _check_may_write(self) -> None:
        if not self._may_write:
            raise InvalidQueryError("explain takes a method that reads; this one writes")

    async def _write(
        self,
        table: FieldTable,
        rows: Callable[[], pa.Table],
        progress: bool | None = False,
        at_once: Callable[[pa.Table], int | None] = lambda _: None,
        around: Around = lambda *_: nullcontext(),
    ) -> list[str]:
        """Build and check the rows, write them in one transaction, and return their ids.

        `at_once` returns the number of rows in each COPY, `around` a context manager for the writes.
        """
        progress = as_flag(progress, "progress", optional=True)
        with self._ids.renaming():
            written = await in_daemon_thread(rows)
        if written.num_rows:
            async with (
                self._transaction() as connection,
                around(connection, self._database.where, progress),
            ):
                await copy_into(
                    connection,
                    table.relation,
                    written,
                    where=self._database.where,
                    rows_per_copy=at_once(written),
                    progress=progress,
                    key=table.key,
                )
        ids: list[str] = written["id"].to_pylist()
        return ids

    async def _write_one(self, table: FieldTable, row: Mapping[str, Any]) -> str:
        """Write one row that is checked, and return its id."""
        async with self._transaction() as connection:
            await insert_row(connection, table, row, where=self._database.where)
        row_id: str = row["id"]
        return row_id


def as_series(ids: list[str], name: str, frame: Any) -> pd.Series[str]:
    """Return the new ids of a frame's rows on the frame's index, ready to be assigned to it."""
    index = frame.index if isinstance(frame, pd.DataFrame) else None
    return pd.Series(ids, index=index, name=name, dtype="str")
