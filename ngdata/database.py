"""The one place that opens connections to PostgreSQL: a pool that reads Arrow, and one that writes.

Reads go through ADBC (`ngdata.arrow_pool`), writes through asyncpg in SQLAlchemy's pool, which the
entities share.  What the drivers raise leaves here as an error of `ngdata.errors`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ngdata import address
from ngdata.arrow_pool import ArrowPool
from ngdata.config import Settings
from ngdata.errors import SchemaVersionError
from ngdata.schema import HEAD, VERSION_TABLE
from ngdata.server_errors import translated
from ngdata.slots import Slots
from ngdata.threads import uninterrupted

__all__ = ["Database"]

# Literals are quoted for this; without it a backslash could end one (ngdata/query/literals.py).
_SESSION = {"standard_conforming_strings": "on"}

# A backend then notices within a second that its client is gone.
_NOTICE_LOST_CLIENTS = "SELECT set_config('client_connection_check_interval', '1000', false)"


class Database:
    """Both pools of one database; `close` ends them.

    Parameters
    ----------
    settings : Settings
        With a `database_url`.
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.database_url is not None
        url = settings.database_url.get_secret_value()
        self.where = address.shown(url)
        session = dict(_SESSION)
        if settings.statement_timeout is not None:
            session["statement_timeout"] = str(max(1, round(settings.statement_timeout * 1000)))
        way = (url, session, settings.connect_timeout, settings.application_name)
        self._arguments = address.asyncpg_arguments(*way)
        self.arrow = ArrowPool(
            address.libpq_url(*way), settings.pool_max_size, settings.pool_timeout
        )
        kept = max(1, min(settings.pool_min_size, settings.pool_max_size))
        self._writers = Slots(settings.pool_max_size, settings.pool_timeout, "writing")
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=kept,
            max_overflow=settings.pool_max_size - kept,
            pool_pre_ping=True,
            hide_parameters=True,
        )

    async def _connect(self) -> asyncpg.Connection[Any]:
        connection: asyncpg.Connection[Any] = await asyncpg.connect(**self._arguments)
        # Servers before 14, and systems that cannot look, have no such setting.
        with contextlib.suppress(asyncpg.PostgresError):
            await connection.execute(_NOTICE_LOST_CLIENTS)
        return connection

    async def check(self) -> None:
        """Raise unless the server answers and has the schema of this ngdata.

        Raises
        ------
        DatabaseUnavailable, ConfigError
            No server there, or it lets nobody in.
        SchemaVersionError
            The schema is missing, older or newer.
        """
        async with self.transaction() as connection:
            revision = await revision_of(connection)
        if revision is None:
            raise SchemaVersionError(
                f"{self.where} has no schema of ngdata yet; run `ngdata migrate` as its owner"
            )
        if revision != HEAD:
            raise SchemaVersionError(
                f"{self.where} has schema revision {revision}, this ngdata needs {HEAD}; run "
                "`ngdata migrate` as its owner, or install the ngdata that knows it"
            )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        """Lend a connection inside a transaction: committed at the end, or rolled back whole.

        A cancelled body is cancelled on the server too, and nothing that cleans up is interrupted.
        """
        with translated(self.where):
            # Waiting for a turn can be cancelled at once; what follows must end orderly.
            async with self._writers.one():
                pooled = self.engine.connect()
                try:
                    await uninterrupted(pooled.start())
                    raw = await pooled.get_raw_connection()
                    connection: Any = raw.driver_connection
                    transaction = connection.transaction()
                    try:
                        # Cancelled here, it has started all the same, and is rolled back.
                        await uninterrupted(transaction.start())
                        yield connection
                    except BaseException:
                        await uninterrupted(_roll_back(pooled, connection, transaction))
                        raise
                    await uninterrupted(transaction.commit())
                finally:
                    await uninterrupted(pooled.close())

    def pool_status(self) -> dict[str, dict[str, int]]:
        """Count the connections of both pools."""
        pool: Any = self.engine.pool
        return {
            "read": self.arrow.status(),
            "write": self._writers.status(idle=pool.checkedin()),
        }

    async def close(self) -> None:
        """Close what is idle now, and what is in use when it comes back."""
        self.arrow.close()
        self._writers.close()
        await uninterrupted(self.engine.dispose())


async def revision_of(connection: asyncpg.Connection[Any]) -> str | None:
    """Read the schema's revision; None where there is none."""
    if await connection.fetchval("SELECT to_regclass($1)", VERSION_TABLE) is None:
        return None
    found: str | None = await connection.fetchval(f"SELECT version_num FROM {VERSION_TABLE}")
    return found


async def _roll_back(
    pooled: AsyncConnection, connection: asyncpg.Connection[Any], transaction: Any
) -> None:
    # asyncpg first waits until the server has let go of a cancelled statement.
    try:
        if not connection.is_closed():
            async with asyncio.timeout(5):
                await transaction.rollback()
            return
    except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        connection.terminate()
    await pooled.invalidate()
