"""The one place that opens connections to PostgreSQL: a pool that reads Arrow, and one that writes.

Reads go through ADBC (`ngdata._connections.arrow_pool`), writes through asyncpg in SQLAlchemy's pool, which the
entities share.  What the drivers raise leaves here as an error of `ngdata.errors`.

A pooler such as PgBouncer may stand in between and give each transaction another of the server's
connections.  So statements are prepared without a name, within a transaction, and nothing is left
set for later behind a pooler; a setting that must last is refused there, with the way round it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from ngdata._arguments.json_text import json_text
from ngdata._config import postgres_url, tls
from ngdata._config.settings import Settings
from ngdata._connections.arrow_pool import ArrowPool
from ngdata._connections.connection_limit import Slots
from ngdata._connections.driver_errors import translated
from ngdata._connections.liveness import while_alive
from ngdata._connections.revision import HEAD, read_revision
from ngdata._connections.session import open_session
from ngdata._connections.threads import uninterrupted
from ngdata._connections.transaction import Transaction
from ngdata.errors import ConfigError, SchemaVersionError

__all__ = ["Database", "engine_of"]

# A backend then notices within a second that its client is gone.
_NOTICE_LOST_CLIENTS = "SELECT set_config('client_connection_check_interval', '1000', false)"

# What a URL asks of the session, in `options` or under a name that is no driver's.
_BAD_PARAMETER = (
    asyncpg.UndefinedObjectError,
    asyncpg.InvalidParameterValueError,
    asyncpg.CantChangeRuntimeParamError,
)

_POOLER = (
    "{where} is reached through a connection pooler, which lends a server's connection for one "
    "transaction and keeps no setting for a client ({found}). Leave it out and set it for the "
    "user, as its owner or a superuser: ALTER ROLE ... SET {name} = ...; or connect to the server "
    "itself"
)


class Database:
    """Both pools of one database; `close` ends them.

    Parameters
    ----------
    settings : Settings
        With a `database_url`.

    Attributes
    ----------
    settings : Settings
    where : str
        The address, without its password.
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.database_url is not None
        url = settings.database_url.get_secret_value()
        self.settings = settings
        self.where = postgres_url.shown(url)
        session: dict[str, str] = {}
        if settings.statement_timeout is not None:
            session["statement_timeout"] = str(max(1, round(settings.statement_timeout * 1000)))
        if settings.read_only:
            session["default_transaction_read_only"] = "on"
        self._patience = settings.connect_timeout
        self._session = session
        way = (url, session, settings.connect_timeout, settings.application_name)
        self._arguments = postgres_url.asyncpg_arguments(*way)
        self.arrow = ArrowPool(
            postgres_url.libpq_url(*way), settings.pool_max_size, settings.pool_timeout
        )
        kept = max(1, min(settings.pool_min_size, settings.pool_max_size))
        self._writers = Slots(settings.pool_max_size, settings.pool_timeout, "writing")
        self.pool_timeout = settings.pool_timeout
        self.engine = engine_of(
            self.connect,
            pool_size=kept,
            max_overflow=settings.pool_max_size - kept,
            hide_parameters=True,
            json_serializer=json_text,
        )

    async def connect(self) -> asyncpg.Connection[Any]:
        """Open a connection of one's own, which belongs to no pool."""
        try:
            connection: asyncpg.Connection[Any] = await asyncpg.connect(**self._arguments)
        except asyncpg.ProtocolViolationError as error:
            raise self._refused(str(error)) from None
        except asyncpg.ConnectionDoesNotExistError as error:
            # TLS 1.3 tells of a refused certificate when both are done, and asyncpg may hear the
            # server hang up before it hears why.
            is_told = tls.explanation(str(error.__cause__)) is not None
            if not is_told and "sslcert=" in self._arguments["dsn"]:
                meaning = tls.explanation("alert unknown ca")
                raise ConfigError(
                    f"{self.where} hung up when TLS was agreed; most likely {meaning}"
                ) from None
            raise
        except _BAD_PARAMETER as error:
            raise ConfigError(
                f"{self.where} refuses a parameter of its URL: {error.args[0]}; correct what stands "
                "behind the ? there"
            ) from None
        # A pooler gives its clients numbers of its own; only a server gives its process's.
        own = f"SELECT WHERE pg_backend_pid() = {connection.get_server_pid()}"
        if await connection.execute(own) == "SELECT 0":
            self.arrow.behind_pooler = True
            if self._session:
                await connection.close()
                raise self._refused("it would be passed over in silence")
            return connection
        # Servers before 14, and systems that cannot look, have no such setting.
        with contextlib.suppress(asyncpg.PostgresError):
            await connection.execute(_NOTICE_LOST_CLIENTS)
        return connection

    def _refused(self, found: str) -> ConfigError:
        name = next(iter(self._session), "name")
        return ConfigError(_POOLER.format(where=self.where, found=found, name=name))

    def while_alive(self, cut: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Cut the body's connection when the server no longer answers anybody."""
        return while_alive(self._probe, self._patience, self.where, cut)

    async def _probe(self) -> None:
        try:
            connection = await asyncpg.connect(**self._arguments)
        except asyncpg.PostgresError:
            return  # it says no, so it lives
        await connection.close(timeout=self._patience)

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
            revision = await read_revision(connection)
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
            transaction = Transaction(self.engine)
            async with self._writers.one(), self.while_alive(transaction.cut):
                try:
                    # Cancelled here, it has begun all the same, and is rolled back.
                    await uninterrupted(transaction.begin())
                    yield transaction.connection
                    await uninterrupted(transaction.commit())
                finally:
                    await uninterrupted(transaction.end())

    def session(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Lend a session of entities, committed at the end, or rolled back whole."""
        return open_session(self.engine, self.where, self._writers, self.while_alive)

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
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                await uninterrupted(self.engine.dispose())


def engine_of(connect: Callable[[], Awaitable[Any]], **options: Any) -> AsyncEngine:
    """Make an engine of asyncpg's connections whose statements have no names."""

    def adapted() -> Any:
        dbapi: Any = engine.dialect.dbapi
        # A cached one would run whatever was prepared last.
        return dbapi.connect(async_creator_fn=connect, prepared_statement_cache_size=0)

    engine = create_async_engine("postgresql+asyncpg://", creator=adapted, **options)
    return engine
