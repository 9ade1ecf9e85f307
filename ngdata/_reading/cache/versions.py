"""The version of relations: what a cached answer is true by.

A hash over the nonces that a snapshot sees (see the migration that makes `tokens.versions`).
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

__all__ = ["Versions", "told_version_sql", "version_of", "version_sql"]

T = TypeVar("T")
_Connection: TypeAlias = "asyncpg.Connection[Any]"

# Which relations' triggers tell of every change, to a role that sees every row.  Not so where a
# subscription changes rows, or a policy that may depend on anything chooses them.
_TOLD: Final = """
SELECT r.name FROM unnest($1::text[]) AS r (name)
WHERE has_table_privilege(r.name, 'SELECT') AND NOT row_security_active(r.name)
    AND EXISTS (SELECT FROM pg_trigger WHERE tgrelid = r.name::regclass
        AND tgname = 'renew_version' AND tgenabled = 'A')
    AND NOT EXISTS (SELECT FROM pg_subscription
        WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""

# Seconds until that is looked at again.
_TOLD_FOR: Final = 1.0

# Above, reading the nonces takes longer than it must, and a reader has them folded.
_MANY_CHARACTERS: Final = 36 * 64
_FOLD_AGAIN: Final = 10.0

# Two databases never share an answer, and neither do two roles, who may see different rows.  The
# secret is for whoever may read the database alone.
_IDENTITY: Final = """
SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
    (SELECT oid FROM pg_database WHERE datname = current_database()), current_user),
    (SELECT string_agg(nonce::text, '' ORDER BY nonce) FROM tokens.versions
        WHERE relation = 'redis')
"""


@functools.lru_cache
def version_sql(relations: Sequence[str]) -> str:
    """Give the query of the nonces; NULL if a relation has none: somebody has tampered with them."""
    nonces = [
        "(SELECT string_agg(nonce::text, '' ORDER BY nonce) FROM tokens.versions"
        f" WHERE relation = {sql.text(relation)})"
        for relation in relations
    ]
    return f"SELECT {' || '.join(nonces)}"


def version_of(nonces: str | None) -> str | None:
    """Give the version that nonces make; None if there is none."""
    return None if nonces is None else hashlib.sha256(nonces.encode()).hexdigest()


def told_version_sql(*relations: str) -> str:
    """Give the query of relations' nonces, or NULL where nothing tells of every change."""
    told = _TOLD.replace("$1::text[]", sql.text_array(relations))
    return (
        f"SELECT CASE WHEN (SELECT count(*) FROM ({told}) AS told) = {len(relations)}"
        f" THEN ({version_sql(relations)}) END"
    )


class Versions:
    """Asks for versions over a connection of its own, one question at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = ConnectionLimit(1, database.pool_timeout, "versions")
        self._connection: _Connection | None = None
        self._prepared: dict[str, asyncpg.prepared_stmt.PreparedStatement[Any]] = {}
        self._told: frozenset[str] = frozenset()
        self._look_again: dict[str, float] = {}
        self._fold_again = 0.0
        self._closing = False

    async def current(self, relations: Sequence[str]) -> str | None:
        """Read the version that a query beginning now would see; None if nothing can tell."""

        async def ask(connection: _Connection) -> str | None:
            await self._look(connection, relations)
            if not self._told.issuperset(relations):
                return None
            found = await self._nonces(connection, relations)
            if found and len(found) > _MANY_CHARACTERS and time.monotonic() >= self._fold_again:
                self._fold_again = time.monotonic() + _FOLD_AGAIN
                # Who may only read goes on with many.
                with contextlib.suppress(asyncpg.PostgresError):
                    await connection.execute("SELECT tokens.fold_versions()")
                    found = await self._nonces(connection, relations)
            return version_of(found)

        return await self._ask(ask)

    async def _nonces(self, connection: _Connection, relations: Sequence[str]) -> str | None:
        statement = version_sql(tuple(relations))
        if self._database.arrow.behind_pooler:
            # The next transaction may be on another connection of the server.
            return cast("str | None", await connection.fetchval(statement))
        prepared = self._prepared.get(statement)
        if prepared is None:
            # Without a name, asyncpg would have it prepared anew each time.
            name = f"ngdata_versions_{len(self._prepared)}"
            prepared = await connection.prepare(statement, name=name)
            self._prepared[statement] = prepared
        return cast("str | None", await prepared.fetchval())

    async def _look(self, connection: _Connection, relations: Sequence[str]) -> None:
        now = time.monotonic()
        if all(now < self._look_again.get(relation, 0.0) for relation in relations):
            return
        rows = await connection.fetch(_TOLD, list(relations))
        self._told = self._told.difference(relations) | {row[0] for row in rows}
        self._look_again |= dict.fromkeys(relations, now + _TOLD_FOR)

    async def identity(self) -> tuple[str, str] | None:
        """Read what tells this database and role from all others, and the database's secret.

        None if this role may not read the versions, or somebody has emptied them.
        """

        async def ask(connection: _Connection) -> tuple[str, str] | None:
            try:
                row = await connection.fetchrow(_IDENTITY)
            except asyncpg.InsufficientPrivilegeError:
                return None
            assert row is not None
            return None if row[1] is None else (row[0], row[1])

        return await self._ask(ask)

    async def _ask(self, ask: Callable[[_Connection], Awaitable[T]]) -> T:
        with translated(self._database.where):
            async with self._turns.acquire(), self._database.while_alive(self._cut):
                try:
                    return await self._asked_again(ask)
                finally:
                    if self._closing:
                        await self._end()

    async def _asked_again(self, ask: Callable[[_Connection], Awaitable[T]]) -> T:
        try:
            return await self._asked(ask)
        except DRIVER_ERRORS as error:
            self._drop()
            # Lost while it lay idle, or the schema was made anew: tried once more.
            if not (
                isinstance(error, asyncpg.InvalidCachedStatementError) or is_lost_connection(error)
            ):
                raise
        try:
            return await self._asked(ask)
        except DRIVER_ERRORS:
            self._drop()
            raise

    async def _asked(self, ask: Callable[[_Connection], Awaitable[T]]) -> T:
        if self._connection is None:
            await uninterrupted(self._connect())
            assert self._connection is not None
        try:
            return await ask(self._connection)
        except asyncio.CancelledError:
            # The answer to a cancelled question must not be taken for the next one's.
            self._drop()
            raise

    async def _connect(self) -> None:
        # Kept before anybody can be cancelled: else it would be left open.
        self._connection = await self._database.connect()

    def _cut(self) -> None:
        if self._connection is not None:
            self._connection.terminate()

    def _drop(self) -> None:
        self._cut()
        self._connection = None
        self._prepared.clear()

    async def close(self) -> None:
        """Close the connection, once who asks now has been answered; nobody else asks any more."""
        self._turns.close()
        self._closing = True
        if not self._turns.status(idle=0)["in_use"]:
            await self._end()

    async def _end(self) -> None:
        if self._connection is not None:
            try:
                await uninterrupted(self._connection.close(timeout=2))
            except DRIVER_ERRORS:
                self._cut()
            self._connection = None
