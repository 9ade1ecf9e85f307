"""COPY: an Arrow table into a table of PostgreSQL, as it streams."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import asyncpg
import pyarrow as pa
from pyarrow import csv
from tqdm.auto import tqdm

from ngdata.errors import IntegrityError
from ngdata.server_errors import translate
from ngdata.threads import in_daemon_thread

__all__ = ["copy_into"]

# Large enough to be quick, small enough to be cancelled between.
_PART_ROWS: Final = 20_000

# Every value is quoted, so that an empty text is no NULL.
_CSV: Final = csv.WriteOptions(include_header=False, quoting_style="all_valid")

_AN_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def copy_into(
    connection: asyncpg.Connection[Any],
    relation: str,
    rows: pa.Table,
    *,
    where: str,
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
        Its columns' names are those of the table.
    where : str
        The server's address, for errors.
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
    with tqdm(
        total=rows.num_rows,
        unit=" rows",
        unit_scale=True,
        desc=relation,
        delay=0 if progress else 2,
        disable=progress is False,
        leave=bool(progress),
    ) as bar:

        async def parts() -> AsyncIterator[bytes]:
            for batch in rows.to_batches(_PART_ROWS):
                yield await in_daemon_thread(lambda batch=batch: _as_csv(batch))  # type: ignore[misc]
                bar.update(batch.num_rows)

        try:
            await connection.copy_to_table(
                table, schema_name=schema, columns=rows.column_names, source=parts(), format="csv"
            )
        except asyncpg.IntegrityConstraintViolationError as error:
            raise _explained(error, rows, where, place) from None


def _as_csv(batch: pa.RecordBatch) -> bytes:
    sink = io.BytesIO()
    csv.write_csv(batch, sink, _CSV)
    return sink.getvalue()


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
