"""The rights and locks for work that only the owner of the spatial index can do."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg

from ngdata.errors import ConfigError, NGDataError

__all__ = ["LOCK_TIMEOUT_SECONDS", "lock_tables", "require_owner"]

LOCK_TIMEOUT_SECONDS = 30.0

# Other transactions queue behind a lock that is waited for, so each attempt is short.
_ATTEMPT_SECONDS = 1.0

_OWNER = """
SELECT relowner::regrole::text AS owner, current_user::text AS "user",
    pg_has_role(relowner, 'USAGE') AS is_owner
FROM pg_class WHERE oid = 'tokens.spatial_index'::regclass
"""

# A prepared transaction has no process.  The state of another user's process may be hidden.
_HOLDERS = """
SELECT DISTINCT CASE WHEN l.pid IS NULL THEN 'a prepared transaction (see pg_prepared_xacts)'
    ELSE concat('process ', l.pid, ' of ', a.usename, coalesce(' in ' || nullif(a.application_name, ''), ''),
        coalesce(', ' || a.state, ''),
        coalesce(', for ' || round(extract(epoch FROM clock_timestamp() - a.xact_start)) || ' s', ''))
    END AS holder
FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.relation = ANY (SELECT to_regclass(t) FROM unnest($1::text[]) AS t) AND l.granted
    AND l.pid IS DISTINCT FROM pg_backend_pid() AND l.mode <> 'AccessShareLock'
ORDER BY 1 LIMIT 5
"""


async def require_owner(
    connection: asyncpg.Connection[Any], where: str, action: str, remedy: str
) -> None:
    """Raise `ConfigError` unless this user owns the index; the error names the owner.

    Parameters
    ----------
    connection : asyncpg.Connection
    where : str
        The server's address, for the error.
    action, remedy : str
        What is refused, and how the owner can do it; ``{owner}`` in it is the owner's name.
    """
    row: Any = await connection.fetchrow(_OWNER)
    if not row["is_owner"]:
        owner = row["owner"]
        raise ConfigError(
            f"{row['user']} may not {action} tokens.spatial_index of {where}, which belongs to "
            f"{owner}; {remedy.format(owner=owner)}"
        )


async def lock_tables(
    connection: asyncpg.Connection[Any],
    where: str,
    lock: str,
    attempt_seconds: float = _ATTEMPT_SECONDS,
) -> None:
    """Acquire a lock, such as ``tokens.tokens IN SHARE MODE``, or raise `NGDataError` in time.

    Each attempt waits for a second at most, or `attempt_seconds`, so that a lock that is waited for
    blocks others only briefly.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    tables = lock.partition(" IN ")[0]
    while True:
        timeout = max(0.001, min(attempt_seconds, deadline - time.monotonic()))
        await connection.execute(f"SET LOCAL lock_timeout = '{timeout * 1000:.0f}ms'")
        try:
            # In a savepoint: after a failure, earlier locks are kept and the transaction is usable.
            async with connection.transaction():
                await connection.execute(f"LOCK TABLE {lock}")
        except asyncpg.LockNotAvailableError:
            if time.monotonic() >= deadline:
                raise NGDataError(
                    f"could not lock {tables} within {LOCK_TIMEOUT_SECONDS:g} s (held by "
                    f"{await _holders(connection, tables)}); nothing was changed, try again later "
                    f"(pg_stat_activity of {where} shows them)"
                ) from None
        else:
            await connection.execute("SET LOCAL lock_timeout = DEFAULT")
            return
        await asyncio.sleep(attempt_seconds / 4)


async def _holders(connection: asyncpg.Connection[Any], tables: str) -> str:
    """Return who holds locks on tables, in words."""
    rows = await connection.fetch(_HOLDERS, tables.split(", "))
    return ", ".join(row["holder"] for row in rows) or "other transactions"
