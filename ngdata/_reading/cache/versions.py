"""The version of relations: a cached answer is valid while the version it was read at is current.

A version is a hash over the nonces and the structure that a snapshot sees; the migrations that create
`tokens.versions` and `tokens.current_version` explain both.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast

import asyncpg

from ngdata._connections.connection_limit import ConnectionLimit
from ngdata._connections.database import Database
from ngdata._connections.driver_errors import DRIVER_ERRORS, is_lost_connection, translated
from ngdata._connections.threads import uninterrupted
from ngdata._query import literals as sql

__all__ = [
    "Identity",
    "Last",
    "Seen",
    "Versions",
    "has_many_nonces",
    "same_structure",
    "seen_by",
    "seen_since",
    "version_since_sql",
    "version_sql",
]

T = TypeVar("T")
_Connection: TypeAlias = "asyncpg.Connection[Any]"

# Behind a pooler, these run outside a transaction and thus under any search_path.
_IDENTITY: Final = """
SELECT tokens.reader_identity(), tokens.redis_secret(),
    pg_catalog.has_table_privilege('tokens.versions', 'SELECT')
"""

# While the snapshot is that of the last call, nothing was committed since, and its version holds.  A
# standby's snapshot does not list the transactions in progress, so there the version is read again.
_CURRENT: Final = """
SELECT s.snapshot, CASE WHEN (s.snapshot OPERATOR(pg_catalog.=) $2) IS NOT TRUE
    THEN tokens.current_version($1) END
FROM (
    SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery()
        THEN pg_catalog.pg_current_snapshot()::pg_catalog.text END
) AS s (snapshot)
"""

_CHANGED: Final = (asyncpg.InvalidCachedStatementError, asyncpg.InsufficientPrivilegeError)

# More nonces of a relation are slow to read, so the reader folds them into few, at most this often in
# seconds.
_MAX_NONCES: Final = 24
_FOLD_INTERVAL: Final = 10.0


class Identity(NamedTuple):
    """The reader's identity: its name differs between databases and between roles.

    Attributes
    ----------
    name : str
    secret : str or None
        Known only to this role, and to the owner of the schema.
    """

    name: str
    secret: str | None


class Last(NamedTuple):
    """A snapshot, as text, and the version that it sees."""

    snapshot: str
    version: str


class Seen(NamedTuple):
    """What a snapshot sees: the reader's `Identity.name`, and the version; None if unknown."""

    identity: str | None
    version: str | None


@functools.lru_cache
def version_sql(relations: Sequence[str]) -> str:
    """Return the query of the text that `seen_by` reads, for the snapshot that it runs in."""
    return (
        "SELECT tokens.reader_identity() || ' ' ||"
        f" tokens.current_version({sql.text_array(relations)})"
    )


def seen_by(text: str | None) -> Seen:
    """Return what the snapshot saw whose `version_sql` returned this text."""
    if text is None:
        return Seen(None, None)
    identity, _, version = text.partition(" ")
    return Seen(identity, version)


@functools.lru_cache
def version_since_sql(relations: Sequence[str], last: Last | None) -> str:
    """Return the query of the text that `seen_since` reads, which is quicker for the last snapshot."""
    unchanged = "false" if last is None else f"s.snapshot = {sql.text(last.snapshot)}"
    return (
        "SELECT tokens.reader_identity() || ' ' || coalesce(s.snapshot, '') || ' ' ||"
        f" CASE WHEN {unchanged} THEN '' ELSE tokens.current_version({sql.text_array(relations)}) END"
        " FROM (SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_snapshot()::text END)"
        " AS s (snapshot)"
    )


def seen_since(text: str | None, last: Last | None) -> tuple[Seen, Last | None]:
    """Return what the snapshot saw, and what to pass as the last one in the next read."""
    if text is None:
        return Seen(None, None), None
    identity, snapshot, version = text.split(" ")
    if not version and last is not None:
        version = last.version
    return Seen(identity, version), Last(snapshot, version) if snapshot else None


def same_structure(one: str, other: str) -> bool:
    """Return whether two versions differ, if at all, by writes alone that the log has.

    A version begins with a hash of the structure, if all writes are logged.
    """
    structure, _, _ = one.partition("s")
    return bool(structure) and other.startswith(f"{structure}s")


def has_many_nonces(version: str | None, relations: Sequence[str]) -> bool:
    """Return whether `Versions.current` would fold them; the version has their number at its end."""
    nonces = 0 if version is None else int(version.rpartition("n")[2])
    return nonces > _MAX_NONCES * len(relations)


class Versions:
    """Reads versions over a connection of its own, one at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._limit = ConnectionLimit(1, database.pool_timeout, "versions")
        self._connection: _Connection | None = None
        self._statement: asyncpg.prepared_stmt.PreparedStatement[Any] | None = None
        self._identity: Identity | None = None
        # The snapshot that was seen last, and the version in it.
        self._last: dict[tuple[str, ...], tuple[str, str | None]] = {}
        self._next_fold = 0.0
        self._is_closing = False

    async def current(self, relations: tuple[str, ...]) -> tuple[Identity | None, str | None]:
        """Return the reader's identity, and the version that a query starting now would see.

        Both are None if this role may not read versions; the version, if a change could go
        unnoticed.
        """

        async def read(connection: _Connection) -> tuple[Identity | None, str | None]:
            if self._identity is None:
                return None, None
            version = await self._version(connection, relations)
            now = time.monotonic()
            if has_many_nonces(version, relations) and now >= self._next_fold:
                self._next_fold = now + _FOLD_INTERVAL
                # A role that may only read continues with many nonces.
                with contextlib.suppress(asyncpg.PostgresError):
                    await connection.execute("SELECT tokens.fold_versions()")
                    version = await self._version(connection, relations)
            return self._identity, version

        return await self._run(read)

    async def _version(self, connection: _Connection, relations: tuple[str, ...]) -> str | None:
        if self._database.arrow.behind_pooler:
            # The next transaction may be on another connection of the server.
            row = await connection.fetchrow(_CURRENT, relations, None)
            assert row is not None
            return cast("str | None", row[1])
        if self._statement is None:
            # asyncpg prepares a statement without a name again for each use.
            self._statement = await connection.prepare(_CURRENT, name="ngdata_versions")
        last = self._last.get(relations)
        row = await self._statement.fetchrow(relations, None if last is None else last[0])
        assert row is not None
        snapshot: str | None = row[0]
        version: str | None = row[1]
        if last is not None and snapshot == last[0]:
            return last[1]
        if snapshot is not None:
            self._last[relations] = snapshot, version
        return version

    async def identity(self) -> Identity | None:
        """Return the reader's identity; None if this role may not read versions."""

        async def read(_: _Connection) -> Identity | None:
            return self._identity

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
            # Retried once if the connection was lost while idle, or the schema was created again, or
            # this role may have lost the right to read versions, which a new connection finds out.
            if not (isinstance(error, _CHANGED) or is_lost_connection(error)):
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
        # It may be another server, or another role, than that of the connection before.
        self._identity = await _read_identity(self._connection)

    def _abort(self) -> None:
        if self._connection is not None:
            self._connection.terminate()

    def _discard(self) -> None:
        self._abort()
        self._connection = None
        self._statement = None
        self._last.clear()

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


async def _read_identity(connection: _Connection) -> Identity | None:
    try:
        row = await connection.fetchrow(_IDENTITY)
    except asyncpg.InsufficientPrivilegeError:
        return None
    assert row is not None
    name, secret, is_reader = row
    return Identity(name, secret) if is_reader else None
