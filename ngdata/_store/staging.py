"""Staging: the rows of a bulk write in a temporary table, for statements that COPY cannot express.

COPY only adds rows.  To change rows, or to add those that do not exist, the rows are first copied into
a temporary table, and one statement then takes them from there: ``UPDATE ... FROM``, or ``INSERT ...
SELECT ... ON CONFLICT``.  The table belongs to the transaction and goes with it, so nothing outlasts
the transaction, also behind a pooler.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa

from ngdata._connections.write_connection import WriteConnection
from ngdata._store.copy import copy_into
from ngdata._store.value_types import ValueType
from ngdata.errors import ConfigError

__all__ = ["STAGED", "stage"]

# Named with its schema: a table of this name elsewhere is never written or read.
STAGED: Final = "pg_temp.ngdata_rows"
"""The temporary table.  Its column `row` has the number of each row, from 0."""


async def stage(
    connection: WriteConnection, rows: pa.Table, types: Mapping[str, ValueType], *, where: str
) -> None:
    """Create the temporary table with the columns of `rows`, or empty it, and write the rows into it.

    The table has no constraint, and an index on `row` alone.  Statements that use it must not be kept
    prepared: pass ``name=""`` to `WriteConnection.prepare`.

    Parameters
    ----------
    connection : WriteConnection
        Inside a transaction, in which all staged rows have the same columns.
    rows : pyarrow.Table
        Checked rows.
    types : mapping of str to ValueType
        The type of each column of `rows`, and maybe of others.
    where : str
        The server's address, for errors.

    Raises
    ------
    ConfigError
        The user may not create temporary tables; the error says what to grant.
    """
    [(database, user, is_allowed, exists)] = await connection.fetch(
        "SELECT quote_ident(current_database()), quote_ident(current_user),"
        " has_database_privilege(current_database(), 'TEMPORARY'),"
        f" to_regclass('{STAGED}') IS NOT NULL"
    )
    if not is_allowed:
        raise ConfigError(
            f"{where}: the user {user} may not create temporary tables, through which many rows are "
            f"changed; the owner of the database grants it: GRANT TEMPORARY ON DATABASE {database} "
            f"TO {user}"
        )
    numbered = rows.append_column("row", pa.array(np.arange(rows.num_rows)))
    if exists:
        await connection.execute(f"TRUNCATE {STAGED}")
        await copy_into(connection, STAGED, numbered, where=where, progress=False)
        await connection.execute(f"ANALYZE {STAGED}")
        return
    columns = ", ".join(
        f'"{name}" {types[name].sql.rpartition("::")[2]}' for name in rows.column_names
    )
    await connection.execute(f"CREATE TABLE {STAGED} ({columns}, row int8) ON COMMIT DROP")
    await copy_into(connection, STAGED, numbered, where=where, progress=False)
    # Parts are found by their numbers.  Without ANALYZE, the planner would guess how many rows there are.
    await connection.execute(f"CREATE INDEX ON {STAGED} (row); ANALYZE {STAGED}")
