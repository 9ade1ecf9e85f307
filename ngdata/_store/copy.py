"""COPY: an Arrow table into a table of PostgreSQL, as it streams.

The server is what takes the time, so it never waits: while it works, the next rows are turned into
CSV.  A COPY's triggers and foreign keys run at its end, out of sight; several, of some two seconds
each, are as quick, and tell how far the whole is.
"""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from itertools import chain
from typing import Any, Final

import asyncpg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv
from tqdm.auto import tqdm

from ngdata._connections.driver_errors import translate
from ngdata._connections.threads import Worker
from ngdata.errors import IntegrityError

__all__ = ["bar_of", "copy_into"]

# Large enough to be quick, small enough to be cancelled between.
_PART_ROWS: Final = 20_000

_TICK_SECONDS: Final = 0.5

# Every value is quoted, so that an empty text is no NULL.
_CSV: Final = csv.WriteOptions(include_header=False, quoting_style="all_valid")

_AN_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def copy_into(
    connection: asyncpg.Connection[Any],
    relation: str,
    rows: pa.Table,
    *,
    where: str,
    at_once: int | None = None,
    progress: bool | None = None,
    place: Callable[[int], str] = "row {}".format,
) -> None:
    """Write all rows, or fail; the caller's transaction decides what stays.

    Parameters
    ----------
    connection : asyncpg.Connection
        Inside a transaction.
    relation : str
        ``schema.table``.
    rows : pyarrow.Table
        Its columns' names are those of the table.  A list of floats is an array, NaN a NULL in it.
    where : str
        The server's address, for errors.
    at_once : int, optional
        How many rows one COPY takes, after each of which the bar moves; if not given, all, and the
        bar tells what was sent.
    progress : bool or None
        Show a bar: always, never, or (None) if it takes longer than two seconds.
    place : callable
        What an error calls a row, by its number in `rows`.

    Raises
    ------
    IntegrityError
        An id that is there already, or names nothing; the id and its row are named.
    """
    schema, _, table = relation.partition(".")
    step = max(1, rows.num_rows if at_once is None else at_once)
    statements = [
        rows.slice(first, step).to_batches(_PART_ROWS) for first in range(0, rows.num_rows, step)
    ]
    with (
        bar_of(rows.num_rows, "rows", relation, progress) as bar,
        closing(_Ahead(chain.from_iterable(statements))) as ahead,
    ):
        shown = None if bar.disable else asyncio.ensure_future(_kept_alive(bar))

        async def parts(batches: list[pa.RecordBatch]) -> AsyncIterator[bytes]:
            for batch in batches:
                yield await ahead.take()
                # What the server does at the end is not done when the last has been sent.
                if at_once is None and batch is not batches[-1]:
                    bar.update(batch.num_rows)

        try:
            for batches in statements:
                await connection.copy_to_table(
                    table,
                    schema_name=schema,
                    columns=rows.column_names,
                    source=parts(batches),
                    format="csv",
                )
                whole = batches if at_once is not None else batches[-1:]
                bar.update(sum(batch.num_rows for batch in whole))
        except asyncpg.IntegrityConstraintViolationError as error:
            raise _explained(error, rows, where, place) from None
        finally:
            if shown is not None:
                shown.cancel()


async def _kept_alive(bar: Any) -> None:
    """Show how long it has taken, while one statement takes its time."""
    await asyncio.sleep(max(_TICK_SECONDS, bar.delay))
    while True:
        bar.refresh()
        await asyncio.sleep(_TICK_SECONDS)


def bar_of(total: int | None, unit: str, name: str, progress: bool | None) -> Any:
    """Make a bar, of a terminal or a notebook: rows a second, and the time left.

    Shown always, never, or (None) once two seconds have gone by.
    """
    return tqdm(
        total=total,
        unit=f" {unit}",
        unit_scale=True,
        desc=name,
        delay=0 if progress else 2,
        disable=progress is False,
        leave=bool(progress),
    )


class _Ahead:
    """Turns batches into CSV on a thread, one ahead of who takes them."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._worker = Worker("ngdata-csv")
        self._coming = self._next()

    def _next(self) -> asyncio.Future[bytes] | None:
        batch = next(self._batches, None)
        return None if batch is None else self._worker.submit(lambda: _as_csv(batch))

    def take(self) -> asyncio.Future[bytes]:
        """Give the next one; there must be one."""
        taken, self._coming = self._coming, self._next()
        assert taken is not None
        return taken

    def close(self) -> None:
        """Make no more."""
        self._worker.stop()
        if self._coming is not None:
            self._coming.cancel()


def _as_csv(batch: pa.RecordBatch) -> bytes:
    columns = [
        _as_array_text(column) if pa.types.is_fixed_size_list(column.type) else column
        for column in batch.columns
    ]
    sink = io.BytesIO()
    csv.write_csv(pa.record_batch(columns, batch.schema.names), sink, _CSV)
    return sink.getvalue()


def _as_array_text(lists: pa.FixedSizeListArray) -> pa.Array:
    """Write PostgreSQL's text of arrays; Arrow writes a float so that it reads back."""
    rows = lists.flatten().to_numpy().reshape(len(lists), -1)
    elements = [
        pa.array(np.ascontiguousarray(values), mask=np.isnan(values)).cast(pa.string())
        for values in rows.T
    ]
    joined = pc.binary_join_element_wise(
        *elements, ",", null_handling="replace", null_replacement="NULL"
    )
    return pc.binary_join_element_wise("{", joined, "}", "")


def _explained(
    error: asyncpg.IntegrityConstraintViolationError,
    rows: pa.Table,
    where: str,
    place: Callable[[int], str],
) -> Exception:
    """Say which id in which row is meant, which the server's detail names in any language."""
    found = _AN_ID.search(error.detail or "")
    foreign = isinstance(error, asyncpg.ForeignKeyViolationError)
    known = isinstance(error, asyncpg.UniqueViolationError) or foreign
    if found is None or not known:
        return translate(error, where)
    for name in rows.column_names:
        if name == "id" if not foreign else name.endswith("_id"):
            row = pa.compute.index(rows[name], found[0]).as_py()
            if row >= 0:
                what = "names no token" if foreign else "is there already"
                explained = IntegrityError(
                    f"{name} {found[0]} in {place(row)} {what}; nothing was written"
                )
                explained.sqlstate = error.sqlstate
                return explained
    return translate(error, where)
