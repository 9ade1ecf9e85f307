"""Changes and deletions of rows that exist, in any table: by ids, by conditions, or row by row.

Each function runs inside the caller's transaction, and either does all or raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import asyncpg
import pyarrow as pa

from ngdata._connections.write_connection import WriteConnection
from ngdata._store.copy import refusal
from ngdata._store.fields import Field, FieldTable
from ngdata._store.integrity import integrity_error
from ngdata._store.progress import progress_bar, redrawn
from ngdata._store.staging import STAGED, stage
from ngdata._store.value_types import ValueType
from ngdata.errors import InvalidQueryError, NGDataError, NotFoundError

__all__ = [
    "Assignment",
    "FrameChanges",
    "assignments",
    "check_conditions",
    "delete_rows",
    "frame_changes",
    "update_each",
    "update_rows",
]

# Of text: asyncpg would ask each new connection what an array of uuid is, which takes 9 ms.
_THESE: Final = "id = ANY ($1::text[]::uuid[])"

# What one UPDATE changes in about two seconds: after each, the bar moves.
_ROWS_PER_UPDATE: Final = 25_000


class Assignment(NamedTuple):
    """One assignment of an UPDATE.

    Attributes
    ----------
    name : str
        The column.
    sql_type : str
    value : object
        The value as it is bound to a parameter.
    target : str
        What is assigned, in SQL: the column, or an element of its array.
    """

    name: str
    sql_type: str
    value: Any
    target: str


def assignments(table: FieldTable, attributes: Mapping[str, Any]) -> list[Assignment]:
    """Return the assignments of a method's arguments; those that are ``...`` stay unchanged.

    Raises
    ------
    InvalidQueryError
        The first bad value.
    """
    return [
        _assignment(table[name], value) for name, value in attributes.items() if value is not ...
    ]


def _assignment(field: Field, value: Any) -> Assignment:
    bound = field.type.bound(field.check(value))
    return Assignment(field.name, field.type.sql, bound, f'"{field.name}"')


async def update_rows(
    connection: WriteConnection,
    table: FieldTable,
    ids: Sequence[str],
    changes: Sequence[Assignment],
    *,
    where: str,
) -> int:
    """Make the same changes to each row, and return the number of rows.

    Raises
    ------
    NotFoundError
        Some ids name no row.
    IntegrityError
        A changed id names no token, or the server rejects the change for another reason.
    """
    sets = ", ".join(
        f"{change.target} = ${parameter}::{change.sql_type}"
        for parameter, change in enumerate(changes, start=2)
    )
    text = f"UPDATE {table.relation} SET {sets} WHERE {_THESE} RETURNING id::text"
    statement = await connection.prepare(text, name=_statement_name(ids))
    try:
        rows = await statement.fetch(ids, *(change.value for change in changes))
    except asyncpg.IntegrityConstraintViolationError as error:
        values = {change.name: change.value for change in changes}
        raise integrity_error(
            error,
            values,
            lambda name, value: 0 if values[name] == value else -1,
            where=where,
            key=table.key,
            label=None,
        ) from None
    updated = {row["id"] for row in rows}
    missing = [row_id for row_id in ids if row_id not in updated]
    if missing:
        raise NotFoundError.of(table.noun, missing)
    return len(rows)


async def delete_rows(
    connection: WriteConnection,
    table: FieldTable,
    ids: Sequence[str] | None,
    conditions: Sequence[str] = (),
    *,
    alias: str = "t",
) -> int:
    """Delete the rows that have one of the ids, if given, and meet all conditions; return how many.

    The schema's foreign keys and triggers do the rest.

    Parameters
    ----------
    connection, table, ids
    conditions : sequence of str
        SQL, with literals.
    alias : str
        What the conditions call the table.
    """
    all_conditions = [*([] if ids is None else [_THESE]), *conditions]
    text = f"DELETE FROM {table.relation} AS {alias} WHERE {' AND '.join(all_conditions)}"
    name = "" if conditions or ids is None else _statement_name(ids)
    statement = await connection.prepare(text, name=name)
    await statement.fetch(*([] if ids is None else [ids]))
    return _count(statement.get_statusmsg() or "DELETE 0")


def check_conditions(
    ids: Sequence[str] | None, conditions: Sequence[str], names: Iterable[str]
) -> None:
    """Raise `InvalidQueryError` if a deletion has neither ids nor conditions: it would delete all rows.

    `names` are those of the arguments of which one must be given.
    """
    if ids is None and not conditions:
        raise InvalidQueryError(
            f"this would delete everything; give at least one of {'=, '.join(names)}="
        )


def _statement_name(ids: Sequence[str]) -> str | None:
    """Return the name for a statement of these ids: that of one id is kept, longer lists are planned."""
    return None if len(ids) == 1 else ""


def _count(status: str) -> int:
    """Return the number of rows in the status of a statement, as in ``UPDATE 3``."""
    return int(status.rpartition(" ")[2])


class FrameChanges(NamedTuple):
    """The changes of a frame, one row of the store per row.

    Attributes
    ----------
    rows : pyarrow.Table
        Checked rows: `id`, and columns from which values are assigned.
    types : mapping of str to ValueType
        The types of these columns.
    targets : mapping of str to str
        What each column is assigned to, in SQL, where the row of the frame is `s`.
    """

    rows: pa.Table
    types: Mapping[str, ValueType]
    targets: Mapping[str, str]


def frame_changes(
    table: FieldTable,
    columns: Mapping[str, pa.Array],
    types: Mapping[str, ValueType] = MappingProxyType({}),
    targets: Mapping[str, str | None] = MappingProxyType({}),
) -> FrameChanges:
    """Return the changes of checked columns, each of which is assigned to the column of its name.

    Parameters
    ----------
    table : FieldTable
    columns : mapping of str to pyarrow.Array
        The column `id`, and others.
    types, targets : mapping, optional
        Of columns that the table does not have; a target of None is not assigned.

    Raises
    ------
    InvalidQueryError
        The frame has only the column of ids.
    """
    all_targets = {name: targets.get(name, f'"{name}"') for name in columns if name != "id"}
    assigned = {name: target for name, target in all_targets.items() if target is not None}
    if not assigned:
        raise InvalidQueryError(
            f"the frame has no column to change; it has only {table.key}, which names the rows"
        )
    return FrameChanges(pa.table(dict(columns)), {**table.types, **types}, assigned)


async def update_each(
    connection: WriteConnection,
    table: FieldTable,
    changes: FrameChanges,
    *,
    where: str,
    progress: bool | None,
) -> int:
    """Change each row as its row of a frame says, and return the number of rows.

    Raises
    ------
    NotFoundError
        Some ids name no row; found before anything is changed.
    IntegrityError
        A changed id names no token; the error names its row.
    ConfigError
        The user may not create temporary tables.
    """
    rows = changes.rows
    if not rows.num_rows:
        return 0
    sets = ", ".join(f'{target} = s."{name}"' for name, target in changes.targets.items())
    text = (
        f"UPDATE {table.relation} AS t SET {sets} FROM {STAGED} AS s"
        " WHERE t.id = s.id AND s.row >= {} AND s.row < {}"
    )
    with (
        progress_bar(rows.num_rows, "rows", f"changing {table.noun}s", progress) as bar,
        redrawn(bar),
    ):
        await stage(connection, rows, changes.types, where=where)
        await _check_exist(connection, table)
        for first in range(0, rows.num_rows, _ROWS_PER_UPDATE):
            end = min(first + _ROWS_PER_UPDATE, rows.num_rows)
            try:
                status = await connection.execute(text.format(first, end))
            except asyncpg.IntegrityConstraintViolationError as error:
                raise refusal(error, rows, where, table.key) from None
            if _count(status) < end - first:
                await _check_exist(connection, table)
                raise NGDataError(
                    f"another writer deleted a {table.noun} and created it again meanwhile; nothing "
                    "was changed, try again"
                )
            bar.update(end - first)
    changed: int = rows.num_rows
    return changed


async def _check_exist(connection: WriteConnection, table: FieldTable) -> None:
    """Raise `NotFoundError` for staged rows whose ids name no row of the table."""
    missing = await connection.fetch(
        f"SELECT s.id::text FROM {STAGED} AS s LEFT JOIN {table.relation} AS t ON t.id = s.id"
        " WHERE t.id IS NULL ORDER BY s.row"
    )
    if missing:
        raise NotFoundError.of(table.noun, [row["id"] for row in missing])
