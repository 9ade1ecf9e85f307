"""The first load of an empty store: the spatial index is filled and its indexes built afterwards.

All of it runs in the caller's transaction: a failure leaves everything as it was.  The indexes are
recreated from the server's own definitions, so they come back as they were, whatever was changed
since the migrations.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import asyncpg

from ngdata._arguments.levels import LEVELS
from ngdata._connections.database import Database
from ngdata._store.index_repair import fill_level, trust_log
from ngdata._store.owner_locks import lock_tables, require_owner
from ngdata._store.progress import progress_bar
from ngdata.errors import InvalidQueryError, NGDataError

__all__ = ["count_statistics", "deferred_spatial_index"]

_REMEDY: Final = "load as {owner}, or without initial=True"

# Writers of tokens and reads of regions wait; other reads do not.
_LOCKS: Final = (
    "tokens.tokens IN SHARE ROW EXCLUSIVE MODE",
    "tokens.spatial_index IN ACCESS EXCLUSIVE MODE",
)

# Parents first; an index that belongs to one partition alone has no parent.
_INDEXES: Final = """
SELECT x.indexrelid::regclass::text AS name, x.indrelid::regclass::text AS indexed_table,
    p.inhparent::regclass::text AS parent, s.spcname AS tablespace,
    pg_get_indexdef(x.indexrelid) AS definition,
    quote_ident(c.conname) AS constraint_name, pg_get_constraintdef(c.oid) AS constraint
FROM pg_index AS x
JOIN pg_class AS i ON i.oid = x.indexrelid
LEFT JOIN pg_inherits AS p ON p.inhrelid = x.indexrelid
LEFT JOIN pg_tablespace AS s ON s.oid = i.reltablespace
LEFT JOIN pg_constraint AS c ON c.conindid = x.indexrelid AND c.conrelid = x.indrelid
WHERE x.indrelid IN (SELECT relid FROM pg_partition_tree('tokens.spatial_index'))
ORDER BY i.relkind = 'I' DESC, i.relname
"""

_ENABLE: Final = {"O": "ENABLE", "D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}


@asynccontextmanager
async def deferred_spatial_index(
    connection: asyncpg.Connection[Any], where: str, progress: bool | None
) -> AsyncIterator[None]:
    """Index the tokens that the body writes to an empty store when the body ends.

    Parameters
    ----------
    connection : asyncpg.Connection
        Inside a transaction that has not read anything yet.
    where : str
        The server's address, for errors.
    progress : bool or None
        As in `copy_into`.

    Raises
    ------
    ConfigError
        The user does not own the tables.
    InvalidQueryError
        The store already has tokens.
    NGDataError
        Other transactions held locks on the tables for too long.
    """
    try:
        for lock in _LOCKS:
            await lock_tables(connection, where, lock)
    except asyncpg.InsufficientPrivilegeError:
        await require_owner(connection, where, "build the indexes of", _REMEDY)
        raise
    await require_owner(connection, where, "build the indexes of", _REMEDY)
    for table in ("tokens.tokens", "tokens.spatial_index"):
        if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table})"):
            raise InvalidQueryError(
                f"initial=True is for an empty store, and {table} of {where} has rows; nothing was "
                "written. Leave initial=True out, or empty the store first"
            )
    enabled = await connection.fetchval(
        "SELECT tgenabled::text FROM pg_trigger"
        " WHERE tgrelid = 'tokens.tokens'::regclass AND tgname = 'index_insert'"
    )
    indexes = await connection.fetch(_INDEXES)
    for index in indexes:
        if index["parent"] is None:
            await connection.execute(_drop_statement(index))
    await connection.execute("ALTER TABLE tokens.tokens DISABLE TRIGGER index_insert")
    yield
    with progress_bar(
        len(LEVELS) + len(indexes), "steps", "building the spatial index", progress
    ) as bar:
        for level in range(len(LEVELS)):
            await fill_level(connection, level)
            bar.update()
        await trust_log(connection)
        await connection.execute(
            f"ALTER TABLE tokens.tokens {_ENABLE[enabled]} TRIGGER index_insert"
        )
        for index in indexes:
            await _create(connection, index)
            bar.update()


async def count_statistics(database: Database) -> None:
    """Let the planner count what an initial load wrote, once it is committed and its locks are gone.

    Without, it would expect an empty store until autovacuum comes by.  A failure changes nothing: then
    autovacuum does it.
    """
    with suppress(NGDataError):
        async with database.transaction() as connection:
            await connection.execute("ANALYZE (SKIP_LOCKED) tokens.tokens, tokens.spatial_index")


def _drop_statement(index: Any) -> str:
    if index["constraint"] is None:
        return f"DROP INDEX {index['name']}"
    return f"ALTER TABLE {index['indexed_table']} DROP CONSTRAINT {index['constraint_name']}"


async def _create(connection: asyncpg.Connection[Any], index: Any) -> None:
    await connection.execute(
        "SELECT set_config('default_tablespace', $1, true)", index["tablespace"] or ""
    )
    if index["constraint"] is None:
        await connection.execute(index["definition"])
    else:
        await connection.execute(
            f"ALTER TABLE ONLY {index['indexed_table']} ADD CONSTRAINT {index['constraint_name']}"
            f" {index['constraint']}"
        )
    if index["parent"] is not None:
        await connection.execute(f"ALTER INDEX {index['parent']} ATTACH PARTITION {index['name']}")
