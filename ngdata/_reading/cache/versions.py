"""The version of relations: a cached answer is valid while the version it was read at is current.

A version is a hash over the nonces that a snapshot sees (see the migration that creates
`tokens.versions`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias, TypeVar, cast

import asyncpg

from ngdata._connections.connection_limit import ConnectionLimit
from ngdata._connections.database import Database
from ngdata._connections.driver_errors import DRIVER_ERRORS, is_lost_connection, translated
from ngdata._connections.threads import uninterrupted
from ngdata._query import literals as sql

__all__ = ["Versions", "tracked_version_sql", "version_of", "version_sql"]

T = TypeVar("T")
_Connection: TypeAlias = "asyncpg.Connection[Any]"

# The relations whose triggers track every change, for a role that sees every row.  A subscription
# changes rows without these triggers, and a policy may select rows by anything.
_TRACKED: Final = """
SELECT r.name FROM unnest($1::text[]) AS r (name)
WHERE has_table_privilege(r.name, 'SELECT') AND NOT row_security_active(r.name)
    AND EXISTS (SELECT FROM pg_trigger WHERE tgrelid = r.name::regclass
        AND tgname = 'renew_version' AND tgenabled = 'A')
    AND NOT EXISTS (SELECT FROM pg_subscription
        WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""

# Seconds for which the result is trusted.
_TRACKED_TTL: Final = 1.0

# Longer nonces are slow to read, so the reader folds them into few, at most this often in seconds.
_MAX_NONCE_CHARACTERS: Final = 36 * 64
_FOLD_INTERVAL: Final = 10.0

# No two databases share answers, nor do two roles, which may see different rows.  The secret is
# known only to users who may read the database.
_IDENTITY: Final = """
SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
    (SELECT oid FROM pg_database WHERE datname = current_database()), current_user),
    (SELECT string_agg(nonce::text, '' ORDER BY nonce) FROM tokens.versions
        WHERE relation = 'redis')
"""


@functools.lru_cache
def version_sql(relations: Sequence[str]) -> str:
    """Return the query of relations' nonces; NULL if one has none, as after tampering."""
    nonces = [
        "(SELECT string_agg(nonce::text, '' ORDER BY nonce) FROM tokens.versions"
        f" WHERE relation = {sql.text(relation)})"
        for relation in relations
    ]
    return f"SELECT {' || '.join(nonces)}"


def version_of(nonces: str | None) -> str | None:
    """Return the version for nonces; None if there are none."""
    return None if nonces is None else hashlib.sha256(nonces.encode()).hexdigest()


def tracked_version_sql(*relations: str) -> str:
    """Return the query of relations' nonces; NULL unless every change of all of them is tracked."""
    tracked = _TRACKED.replace("$1::text[]", sql.text_array(relations))
    return (
        f"SELECT CASE WHEN (SELECT count(*) FROM ({tracked}) AS tracked) = {len(relations)}"
        f" THEN ({version_sql(relations)}) END"
    )


class Versions:
    """Reads versions over a connection of its own, one at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._limit = ConnectionLimit(1, database.pool_timeout, "versions")
        self._connection: _Connection | None = None
        self._prepared: dict[str, asyncpg.prepared_stmt.PreparedStatement[Any]] = {}
        self._tracked: frozenset[str] = frozenset()
        self._tracked_until: dict[str, float] = {}
        self._next_fold = 0.0
        self._is_closing = False

    async def current(self, relations: Sequence[str]) -> str | None:
        """Return the version that a query starting now would see; None if it cannot be known."""

        async def read(connection: _Connection) -> str | None:
            await self._refresh_tracked(connection, relations)
            if not self._tracked.issuperset(relations):
                return None
            nonces = await self._nonces(connection, relations)
            now = time.monotonic()
            if nonces and len(nonces) > _MAX_NONCE_CHARACTERS and now >= self._next_fold:
                self._next_fold = now + _FOLD_INTERVAL
                # A role that may only read continues with many nonces.
                with contextlib.suppress(asyncpg.PostgresError):
                    await connection.execute("SELECT tokens.fold_versions()")
                    nonces = await self._nonces(connection, relations)
            return version_of(nonces)

        return await self._run(read)

    async def _nonces(self, connection: _Connection, relations: Sequence[str]) -> str | None:
        statement = version_sql(tuple(relations))
        if self._database.arrow.behind_pooler:
            # The next transaction may be on another connection of the server.
            return cast("str | None", await connection.fetchval(statement))
        prepared = self._prepared.get(statement)
        if prepared is None:
            # asyncpg prepares a statement without a name again for each use.
            name = f"ngdata_versions_{len(self._prepared)}"
            prepared = await connection.prepare(statement, name=name)
            self._prepared[statement] = prepared
        return cast("str | None", await prepared.fetchval())

    async def _refresh_tracked(self, connection: _Connection, relations: Sequence[str]) -> None:
        now = time.monotonic()
        if all(now < self._tracked_until.get(relation, 0.0) for relation in relations):
            return
        rows = await connection.fetch(_TRACKED, list(relations))
        self._tracked = self._tracked.difference(relations) | {row[0] for row in rows}
        self._tracked_until |= dict.fromkeys(relations, now + _TRACKED_TTL)

    async def identity(self) -> tuple[str, str] | None:
        """Return the identity of this database and role, unique among all, and the secret.

        None if this role may not read the versions, or they have been deleted.
        """

        async def read(connection: _Connection) -> tuple[str, str] | None:
            try:
                row = await connection.fetchrow(_IDENTITY)
            except asyncpg.InsufficientPrivilegeError:
                return None
            assert row is not None
            return None if row[1] is None else (row[0], row[1])

        return await self._run(read)

    async def _run(self, read: Callable[[_Connection], Awaitable[T]]) -> T:
        with translated(self._database.where):
            async with self._limit.acquire(), self._database.while_alive(self._abort):
                try:
                    return await self._run_with_retry(read)
                finally:
                    if self._is_closing:
                        await self._close_connection()

    async def _run_with_retry(self, read: Callable[[_Connection], Awaitable[T]]) -> T:
        try:
            return await self._run_once(read)
        except DRIVER_ERRORS as error:
            self._discard()
            # Retried once if the connection was lost while idle, or the schema was created again.
            if not (
                isinstance(error, asyncpg.InvalidCachedStatementError) or is_lost_connection(error)
            ):
                raise
        try:
            return await self._run_once(read)
        except DRIVER_ERRORS:
            self._discard()
            raise

    async def _run_once(self, read: Callable[[_Connection], Awaitable[T]]) -> T:
        if self._connection is None:
            await uninterrupted(self._connect())
            assert self._connection is not None
        try:
            return await read(self._connection)
        except asyncio.CancelledError:
            # Else the next read would receive the answer to the cancelled one.
            self._discard()
            raise

    async def _connect(self) -> None:
        # Assigned here, where nothing can be cancelled: else the connection could be left open.
        self._connection = await self._database.connect()

    def _abort(self) -> None:
        if self._connection is not None:
            self._connection.terminate()

    def _discard(self) -> None:
        self._abort()
        self._connection = None
        self._prepared.clear()

    async def close(self) -> None:
        """Refuse further reads, and close the connection when the running one ends."""
        self._limit.close()
        self._is_closing = True
        if not self._limit.status(idle=0)["in_use"]:
            await self._close_connection()

    async def _close_connection(self) -> None:
        if self._connection is not None:
            try:
                await uninterrupted(self._connection.close(timeout=2))
            except DRIVER_ERRORS:
                self._abort()
            self._connection = None
