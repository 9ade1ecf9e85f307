"""COPY: stream an Arrow table into a table of PostgreSQL.

Most of the time is spent on the server, so it never waits for the client: while it works, the next
rows are converted to CSV.  A COPY's triggers and foreign keys run at its end, where progress is not
visible; several COPYs of about two seconds each take no longer, and show how far the whole is.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from itertools import chain
from typing import Any, Final

import asyncpg
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from ngdata._connections.threads import Worker
from ngdata._store.array_text import array_text
from ngdata._store.integrity import integrity_error
from ngdata._store.progress import progress_bar, redrawn
from ngdata._store.row_names import row_name

__all__ = ["copy_batch", "copy_into", "refusal"]

# Large enough to be fast, small enough to cancel between two.
_BATCH_ROWS: Final = 20_000

# Every value is quoted, because an unquoted empty text would be NULL.
_CSV: Final = csv.WriteOptions(include_header=False, quoting_style="all_valid")


async def copy_into(
    connection: asyncpg.Connection[Any],
    relation: str,
    rows: pa.Table,
    *,
    where: str,
    rows_per_copy: int | None = None,
    progress: bool | None = None,
    name: str = "writing rows",
    key: str = "id",
    label: Callable[[int], str] = row_name,
) -> None:
    """Write all rows, or fail; the caller's transaction decides what stays.

    Parameters
    ----------
    connection : asyncpg.Connection
        Inside a transaction.
    relation : str
        ``schema.table``.
    rows : pyarrow.Table
        With the table's column names.  Arrays are columns as `array_text` takes them.
    where : str
        The server's address, for errors.
    rows_per_copy : int, optional
        How many rows one COPY writes; the bar moves after each COPY.  If not given, one COPY writes
        all rows, and the bar shows how many were sent.
    progress : bool or None
        Show a bar: always, never, or (None) if it takes longer than two seconds.
    name : str
        What the bar says.
    key : str
        What an error calls the column ``id``: its name in the caller's frame or arguments.
    label : callable
        Return what an error calls a row, by its number in `rows`.

    Raises
    ------
    IntegrityError
        An id that already exists, or that names no token; the id and its row are named.
    """
    step = max(1, rows.num_rows if rows_per_copy is None else rows_per_copy)
    copies = [
        rows.slice(first, step).to_batches(_BATCH_ROWS) for first in range(0, rows.num_rows, step)
    ]
    with (
        progress_bar(rows.num_rows, "rows", name, progress) as bar,
        redrawn(bar),
        closing(_CsvPrefetch(chain.from_iterable(copies))) as prefetch,
    ):

        async def csv_parts(batches: list[pa.RecordBatch]) -> AsyncIterator[bytes]:
            for batch in batches:
                yield await prefetch.next_part()
                # When the last batch has been sent, the server still has work to do.
                if rows_per_copy is None and batch is not batches[-1]:
                    bar.update(batch.num_rows)

        try:
            for batches in copies:
                await _copy(connection, relation, rows.column_names, csv_parts(batches))
                completed = batches if rows_per_copy is not None else batches[-1:]
                bar.update(sum(batch.num_rows for batch in completed))
        except asyncpg.IntegrityConstraintViolationError as error:
            raise refusal(error, rows, where, key, label) from None


async def copy_batch(
    connection: asyncpg.Connection[Any], relation: str, rows: pa.Table, *, where: str, key: str
) -> None:
    """Write a few thousand rows in one COPY, without a thread, which Python refuses at its exit.

    Parameters and errors are those of `copy_into`.
    """

    async def csv_parts() -> AsyncIterator[bytes]:
        for batch in rows.to_batches(_BATCH_ROWS):
            yield _as_csv(batch)

    try:
        await _copy(connection, relation, rows.column_names, csv_parts())
    except asyncpg.IntegrityConstraintViolationError as error:
        raise refusal(error, rows, where, key, None) from None


async def _copy(
    connection: asyncpg.Connection[Any],
    relation: str,
    columns: list[str],
    csv_parts: AsyncIterator[bytes],
) -> None:
    schema, _, table = relation.partition(".")
    await connection.copy_to_table(
        table, schema_name=schema, columns=columns, source=csv_parts, format="csv"
    )


def refusal(
    error: asyncpg.IntegrityConstraintViolationError,
    rows: pa.Table,
    where: str,
    key: str,
    label: Callable[[int], str] | None = row_name,
) -> Exception:
    """Return the error for rows that the server rejects; it names the id and its row.

    `where`, `key` and `label` are those of `copy_into`.
    """
    return integrity_error(
        error,
        rows.column_names,
        lambda name, value: pc.index(rows[name], value).as_py(),
        where=where,
        key=key,
        label=label,
    )


class _CsvPrefetch:
    """Converts batches to CSV on a thread, one ahead of the consumer."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._worker = Worker("ngdata-csv")
        self._pending = self._submit_next()

    def _submit_next(self) -> asyncio.Future[bytes] | None:
        batch = next(self._batches, None)
        return None if batch is None else self._worker.submit(lambda: _as_csv(batch))

    def next_part(self) -> asyncio.Future[bytes]:
        """Return the CSV of the next batch; there must be one."""
        part, self._pending = self._pending, self._submit_next()
        assert part is not None
        return part

    def close(self) -> None:
        """Stop converting."""
        self._worker.stop()
        if self._pending is not None:
            self._pending.cancel()


def _as_csv(batch: pa.RecordBatch) -> bytes:
    columns = [array_text(column) for column in batch.columns]
    sink = io.BytesIO()
    csv.write_csv(pa.record_batch(columns, batch.schema.names), sink, _CSV)
    return sink.getvalue()
