"""What only the owner of the spatial index may do, and how long its locks are waited for."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg

from ngdata.errors import ConfigError, NGDataError

__all__ = ["PATIENCE_SECONDS", "lock", "refuse_others"]

PATIENCE_SECONDS = 30.0

# Others queue up behind a lock that is waited for.
_TURN_SECONDS = 1.0

_OWNER = """
SELECT relowner::regrole::text AS owner, current_user::text AS "user",
    pg_has_role(relowner, 'USAGE') AS may
FROM pg_class WHERE oid = 'tokens.spatial_index'::regclass
"""


async def refuse_others(
    connection: asyncpg.Connection[Any], where: str, doing: str, remedy: str
) -> None:
    """Raise `ConfigError` unless this user owns the index; the error names who does.

    Parameters
    ----------
    connection : asyncpg.Connection
    where : str
        The server's address, for the error.
    doing, remedy : str
        What is refused, and the owner's way to do it; ``{owner}`` in it is the owner's name.
    """
    rights: Any = await connection.fetchrow(_OWNER)
    if not rights["may"]:
        owner = rights["owner"]
        raise ConfigError(
            f"{rights['user']} may not {doing} tokens.spatial_index of {where}, which belongs to "
            f"{owner}; {remedy.format(owner=owner)}"
        )


async def lock(connection: asyncpg.Connection[Any], where: str, what: str) -> None:
    """Take a lock, such as ``tokens.tokens IN SHARE MODE``, or raise `NGDataError` in time.

    It is asked for a second at a time, so that nobody is held up for long by one that waits.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        turn = max(0.001, min(_TURN_SECONDS, deadline - time.monotonic()))
        await connection.execute(f"SET LOCAL lock_timeout = '{turn * 1000:.0f}ms'")
        try:
            # A savepoint: what was asked for before is kept, and the transaction can go on.
            async with connection.transaction():
                await connection.execute(f"LOCK TABLE {what}")
        except asyncpg.LockNotAvailableError:
            if time.monotonic() >= deadline:
                tables = what.partition(" IN ")[0]
                raise NGDataError(
                    f"could not lock {tables} within {PATIENCE_SECONDS:g} s (held by other "
                    "transactions); nothing was changed, try again later (pg_stat_activity of "
                    f"{where} shows them)"
                ) from None
        else:
            await connection.execute("SET LOCAL lock_timeout = DEFAULT")
            return
        await asyncio.sleep(_TURN_SECONDS / 4)
