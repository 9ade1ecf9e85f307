"""Change and deletion of tokens that are there already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from ngdata.errors import NotFoundError
from ngdata.store.tokens import Change

__all__ = ["delete_tokens", "update_tokens"]


async def update_tokens(
    connection: asyncpg.Connection[Any], ids: Sequence[str], changes: Sequence[Change]
) -> int:
    """Make the same changes to each token, or raise `NotFoundError`."""
    assignments = ", ".join(
        f"{change.target} = ${place}::{change.sql_type}"
        for place, change in enumerate(changes, start=2)
    )
    changed = await connection.fetch(
        f"UPDATE tokens.tokens SET {assignments} WHERE id = ANY ($1::uuid[]) RETURNING id::text",
        ids,
        *(change.value for change in changes),
    )
    there = {row["id"] for row in changed}
    missing = [one for one in ids if one not in there]
    if missing:
        raise NotFoundError.of("token", missing)
    return len(changed)


async def delete_tokens(connection: asyncpg.Connection[Any], ids: Sequence[str]) -> int:
    """Delete the tokens that are there; the schema's foreign keys see to the rest."""
    status: str = await connection.execute(
        "DELETE FROM tokens.tokens WHERE id = ANY ($1::uuid[])", ids
    )
    return int(status.rpartition(" ")[2])
