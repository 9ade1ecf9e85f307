"""The schema's revision: which one this ngdata needs, and which one a database has."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import asyncpg

__all__ = ["HEAD", "VERSION_TABLE", "Schema", "read_revision", "read_schema"]

HEAD: Final = "0010"
"""The newest revision of this ngdata's migrations."""

VERSION_TABLE: Final = "tokens.alembic_version"
"""The table that holds a database's revision: one row, ``version_num``."""


# Citus lists the tables that it has distributed, as relations of the column `logicalrelid`.
_LOOK: Final = """
SELECT pg_catalog.to_regclass($1) IS NOT NULL AS has_schema, (
    SELECT pg_catalog.array_agg(pg_catalog.format('%I.%I', n.nspname, c.relname))
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE c.relname OPERATOR(pg_catalog.=) 'pg_dist_partition'
        AND n.nspname IN ('pg_catalog', 'citus')
        AND EXISTS (
            SELECT FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND NOT a.attisdropped
                AND a.attname OPERATOR(pg_catalog.=) 'logicalrelid'
        )
) AS lists
"""
_DISTRIBUTED: Final = """
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
FROM {lists} AS d
JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) d.logicalrelid::pg_catalog.oid
JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE n.nspname IN ('tokens', 'graph', 'experience')
ORDER BY 1
"""


class Schema(NamedTuple):
    """What a client must know of a database before it uses it.

    Attributes
    ----------
    revision : str or None
        None without a schema.
    distributed : tuple of str
        The tables of ngdata that Citus has distributed over other servers.
    """

    revision: str | None
    distributed: tuple[str, ...] = ()


async def read_schema(connection: asyncpg.Connection[Any]) -> Schema:
    """Read the schema's revision, and whether its tables are ordinary ones."""
    look: Any = await connection.fetchrow(_LOOK, VERSION_TABLE)
    if not look["has_schema"]:
        return Schema(None)
    revision: str | None = await connection.fetchval(f"SELECT version_num FROM {VERSION_TABLE}")
    distributed: dict[str, None] = {}
    for lists in look["lists"] or ():
        for row in await connection.fetch(_DISTRIBUTED.format(lists=lists)):
            distributed[row[0]] = None
    return Schema(revision, tuple(distributed))


async def read_revision(connection: asyncpg.Connection[Any]) -> str | None:
    """Read the schema's revision; return None without a schema."""
    return (await read_schema(connection)).revision
