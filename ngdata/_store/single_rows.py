"""Single rows: one INSERT per table, with fixed text, which each connection prepares once.

A COPY of one row would cost the client an Arrow table, its text and a thread.  The values are bound
as the types of `ngdata._store.fields` say, so that the server converts what a COPY would send.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import asyncpg

from ngdata._connections.write_connection import WriteConnection
from ngdata._store.fields import CONNECTIONS, EVENTS, TOKENS, TRAJECTORIES, FieldTable
from ngdata._store.integrity import integrity_error

__all__ = ["insert_row"]


def _insert(table: FieldTable) -> str:
    names = ", ".join(f'"{name}"' for name in table.types)
    values = ", ".join(
        f"${number}::{value_type.sql}" for number, value_type in enumerate(table.types.values(), 1)
    )
    return f"INSERT INTO {table.relation} ({names}) VALUES ({values})"


_INSERTS: Final = {
    table.relation: _insert(table) for table in (TOKENS, CONNECTIONS, EVENTS, TRAJECTORIES)
}


async def insert_row(
    connection: WriteConnection, table: FieldTable, row: Mapping[str, Any], *, where: str
) -> None:
    """Write a row whose values are checked; the caller's transaction decides whether it stays.

    Parameters
    ----------
    connection : WriteConnection
        Inside a transaction.
    table : FieldTable
    row : mapping
        Every column of the table, as `FieldTable.check_row` returns it.
    where : str
        The server's address, for errors.

    Raises
    ------
    IntegrityError
        The id already exists, or another one names no token.
    """
    statement = await connection.prepare(_INSERTS[table.relation])
    try:
        await statement.fetch(
            *[value_type.bound(row[name]) for name, value_type in table.types.items()]
        )
    except asyncpg.IntegrityConstraintViolationError as error:
        raise integrity_error(
            error,
            table.types,
            lambda name, value: 0 if row[name] == value else -1,
            where=where,
            key=table.key,
            label=None,
        ) from None
