"""The schema's revision: which one this ngdata needs, and which one a database has."""

from __future__ import annotations

from typing import Any, Final

import asyncpg

__all__ = ["HEAD", "VERSION_TABLE", "read_revision"]

HEAD: Final = "0010"
"""The newest revision of this ngdata's migrations."""

VERSION_TABLE: Final = "tokens.alembic_version"
"""The table that holds a database's revision: one row, ``version_num``."""


async def read_revision(connection: asyncpg.Connection[Any]) -> str | None:
    """Read the schema's revision; return None without a schema."""
    if await connection.fetchval("SELECT to_regclass($1)", VERSION_TABLE) is None:
        return None
    revision: str | None = await connection.fetchval(f"SELECT version_num FROM {VERSION_TABLE}")
    return revision
