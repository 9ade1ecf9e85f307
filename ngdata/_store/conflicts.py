"""Bulk writes of rows of which some may exist: they are an error, left out, or changed.

If existing rows are an error, COPY writes.  Else the rows are staged, and one statement for each part
inserts those that are new.  Which rows exist is thus decided by the same statement that writes,
whatever other writers do.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

import asyncpg
import pyarrow as pa

from ngdata._connections.write_connection import WriteConnection
from ngdata._store.copy import copy_into, refusal
from ngdata._store.fields import FieldTable
from ngdata._store.progress import progress_bar, redrawn
from ngdata._store.row_names import row_name
from ngdata._store.staging import STAGED, stage
from ngdata.errors import IntegrityError

__all__ = ["Counts", "OnConflict", "write_rows"]

OnConflict: TypeAlias = Literal["error", "skip", "update"]
"""What becomes of a row whose id exists: an error for all rows, nothing, or a change of that row."""


class Counts(NamedTuple):
    """What became of the rows of a bulk write."""

    created: int
    updated: int = 0
    skipped: int = 0


async def write_rows(
    connection: WriteConnection,
    table: FieldTable,
    rows: pa.Table,
    on_conflict: OnConflict,
    *,
    where: str,
    progress: bool | None,
    rows_per_part: int | None,
    targets: Mapping[str, str] = MappingProxyType({}),
    is_part: bool = False,
) -> Counts:
    """Insert the rows whose ids are new; refuse, skip or change the others.

    Parameters
    ----------
    connection : WriteConnection
        Inside a transaction.
    table : FieldTable
    rows : pyarrow.Table
        Checked rows; of existing ones, only these columns are changed.
    on_conflict : {"error", "skip", "update"}
    where : str
        The server's address, for errors.
    progress : bool or None
        As in `copy_into`.
    rows_per_part : int or None
        How many rows one statement writes; None: all.
    targets : mapping of str to str, optional
        The columns of existing rows (`t`) that do not just become those of the new one
        (`excluded`), and what they become, in SQL.
    is_part : bool
        Whether earlier calls in this transaction wrote other rows of the same data, in which an id
        may appear once.

    Raises
    ------
    IntegrityError
        An id exists, and `on_conflict` is ``"error"``; an id names no token or appears in an earlier
        part, or a trajectory has ended.  Nothing was written.
    """
    if on_conflict == "error":
        await copy_into(
            connection,
            table.relation,
            rows,
            where=where,
            rows_per_copy=rows_per_part,
            progress=progress,
            name=f"writing {table.noun}s",
            key=table.key,
        )
        return Counts(rows.num_rows)
    columns = ", ".join(f'"{name}"' for name in rows.column_names)
    new_values = {name: f'excluded."{name}"' for name in rows.column_names if name != "id"}
    sets = ", ".join(f'"{name}" = {value}' for name, value in (new_values | dict(targets)).items())
    action = "NOTHING" if on_conflict == "skip" else f"UPDATE SET {sets}"
    step = max(1, rows.num_rows if rows_per_part is None else rows_per_part)
    created = written = 0
    with (
        progress_bar(rows.num_rows, "rows", f"writing {table.noun}s", progress) as bar,
        redrawn(bar),
    ):
        await stage(connection, rows, table.types, where=where)
        if is_part:
            await _check_unwritten(connection, table)
        if on_conflict == "update":
            # In one order, so that writers of the same rows wait for each other without a deadlock.
            await connection.execute(
                f"SELECT FROM {table.relation} AS t JOIN {STAGED} AS s ON s.id = t.id"
                " ORDER BY t.id FOR UPDATE OF t"
            )
        for first in range(0, rows.num_rows, step):
            end = min(first + step, rows.num_rows)
            try:
                # A row that was inserted has no xmax; one that was changed was locked before.
                [(new, all_rows)] = await connection.fetch(
                    f"WITH written AS (INSERT INTO {table.relation} AS t ({columns})"
                    f" SELECT {columns} FROM {STAGED} WHERE row >= {first} AND row < {end}"
                    f" ORDER BY row ON CONFLICT (id) DO {action} RETURNING t.xmax = 0 AS is_new)"
                    " SELECT count(*) FILTER (WHERE is_new), count(*) FROM written"
                )
            except asyncpg.IntegrityConstraintViolationError as error:
                raise refusal(error, rows, where, table.key) from None
            created, written = created + new, written + all_rows
            bar.update(end - first)
    return Counts(created, written - created, rows.num_rows - written)


async def _check_unwritten(connection: WriteConnection, table: FieldTable) -> None:
    """Raise if this transaction wrote one of the staged rows before."""
    # An array: the planner expects few rows of this transaction, and would search the staged ones for each.
    repeated = await connection.fetchrow(
        f"SELECT id, row FROM {STAGED} WHERE id IN (SELECT id FROM {table.relation}"
        f" WHERE id = ANY (ARRAY(SELECT id FROM {STAGED})) AND xmin = pg_current_xact_id()::xid)"
        " ORDER BY row LIMIT 1"
    )
    if repeated is not None:
        raise IntegrityError(
            f"{table.key} {repeated['id']} in {row_name(repeated['row'])} appears before too; "
            "nothing was written"
        )
