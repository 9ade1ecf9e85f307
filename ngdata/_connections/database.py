"""The only place that opens connections to PostgreSQL: one pool reads Arrow, the other writes.

Reads use ADBC (`ngdata._connections.arrow_pool`); writes use asyncpg in SQLAlchemy's pool, and so do
the entities.  Errors of the drivers are raised from here as errors of `ngdata.errors`.

A pooler such as PgBouncer may run each transaction on another of the server's connections.
Statements are therefore prepared without a name, within a transaction, and no setting outlasts a
transaction behind a pooler; a setting that must last is refused there, with the alternative.
Elsewhere, `ngdata._connections.session_settings` sets each connection's settings when it opens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from ngdata._arguments.json_text import json_text
from ngdata._config import postgres_url, tls
from ngdata._config.driver_arguments import SENT_BY_LIBPQ, asyncpg_arguments, libpq_url
from ngdata._config.settings import Settings
from ngdata._connections.arrow_pool import ArrowPool
from ngdata._connections.connection_limit import ConnectionLimit
from ngdata._connections.driver_errors import DRIVER_ERRORS, translated
from ngdata._connections.lifetime import Lifetime, cut_transport
from ngdata._connections.liveness import while_alive
from ngdata._connections.process_bound import ProcessBound
from ngdata._connections.revision import HEAD, read_revision
from ngdata._connections.session import open_session
from ngdata._connections.session_settings import SET_LOCAL, open_session_of
from ngdata._connections.threads import uninterrupted
from ngdata._connections.transaction import Transaction
from ngdata.errors import ConfigError, SchemaVersionError

__all__ = ["Database", "engine_of"]

# Seconds for the server to confirm the end of the idle connections.
_CLOSE_TIMEOUT = 2.0

# What the server raises for the settings of a URL, in `options` or as other parameters.
_BAD_PARAMETER = (
    asyncpg.UndefinedObjectError,
    asyncpg.InvalidParameterValueError,
    asyncpg.CantChangeRuntimeParamError,
)

_POOLER = (
    "{where} is reached through a connection pooler, which may run each transaction on another "
    "connection of the server, so {name} cannot be set for this client ({reason}). Leave it out and "
    "set it for the user, as its owner or a superuser: ALTER ROLE ... SET {name} = ...; or connect "
    "to the server directly"
)


class _Connection(asyncpg.Connection):
    """One that is closed in any case: if the server ends it meanwhile, there is nothing to report."""

    async def close(self, *, timeout: float | None = None) -> None:
        # AttributeError is asyncpg's, if its protocol has lost the connection while it is closing.
        try:
            await super().close(timeout=timeout)
        except (*DRIVER_ERRORS, AttributeError):
            self.terminate()


class Database(ProcessBound):
    """Both pools of one database.

    Parameters
    ----------
    settings : Settings
        With a `database_url`.

    Attributes
    ----------
    settings : Settings
    where : str
        The address, without the password.
    lifetime : Lifetime
        Closes the database; what is opened on top of it is added.
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.database_url is not None
        url = settings.database_url.get_secret_value()
        self.settings = settings
        self.where = postgres_url.without_password(url)
        session: dict[str, str] = {}
        if settings.statement_timeout is not None:
            session["statement_timeout"] = str(max(1, round(settings.statement_timeout * 1000)))
        if settings.read_only:
            session["default_transaction_read_only"] = "on"
        self._connect_timeout = settings.connect_timeout
        self._session = session
        address = (url, session, settings.connect_timeout, settings.application_name)
        self._arguments = asyncpg_arguments(*address)
        self.arrow = ArrowPool(libpq_url(*address), settings.pool_max_size, settings.pool_timeout)
        min_size = max(1, min(settings.pool_min_size, settings.pool_max_size))
        self._write_limit = ConnectionLimit(
            settings.pool_max_size, settings.pool_timeout, "writing"
        )
        self.pool_timeout = settings.pool_timeout
        self.engine = engine_of(
            self.connect,
            pool_size=min_size,
            max_overflow=settings.pool_max_size - min_size,
            hide_parameters=True,
            json_serializer=json_text,
        )
        event.listen(self.engine.sync_engine, "begin", self._on_begin)
        self._loop = asyncio.get_running_loop()
        self._opened: weakref.WeakSet[asyncpg.Connection[Any]] = weakref.WeakSet()
        self.lifetime = Lifetime()
        self.lifetime.add(self._close, self._cut)

    def _on_begin(self, connection: Connection) -> None:
        # A session of entities begins its transactions itself.
        if self.arrow.behind_pooler:
            connection.exec_driver_sql(SET_LOCAL)

    async def connect(self) -> asyncpg.Connection[Any]:
        """Open a connection that belongs to no pool; the caller closes it."""
        try:
            connection: asyncpg.Connection[Any] = await asyncpg.connect(
                **self._arguments, connection_class=_Connection
            )
        except asyncpg.ProtocolViolationError as error:
            raise self._refused(str(error)) from None
        except asyncpg.ConnectionDoesNotExistError as error:
            # With TLS 1.3, the server refuses a certificate after the handshake, and asyncpg may see
            # the connection close before it sees the reason.
            is_explained = tls.explain_failure(str(error.__cause__)) is not None
            if not is_explained and "sslcert=" in self._arguments["dsn"]:
                reason = tls.explain_failure("alert unknown ca")
                raise ConfigError(
                    f"{self.where} closed the connection after the TLS handshake; most likely "
                    f"{reason}"
                ) from None
            raise
        except _BAD_PARAMETER as error:
            raise ConfigError(
                f"{self.where} refuses a parameter of its URL: {error.args[0]}; correct the part of "
                "the URL after the ?"
            ) from None
        self._opened.add(connection)
        try:
            self.arrow.behind_pooler = await open_session_of(connection)
            if self.arrow.behind_pooler and self._session:
                raise self._refused("it would be ignored without an error")
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def set_local(self, connection: asyncpg.Connection[Any]) -> None:
        """Set a transaction's settings behind a pooler; elsewhere, the session has them."""
        if self.arrow.behind_pooler:
            await connection.execute(SET_LOCAL)

    def _refused(self, reason: str) -> ConfigError:
        name = next(iter(self._session), "a parameter")
        return ConfigError(_POOLER.format(where=self.where, reason=reason, name=name))

    def while_alive(self, abort: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Abort the body with DatabaseUnavailable if the server stops responding."""
        return while_alive(self._probe, self._connect_timeout, self.where, abort)

    async def _probe(self) -> None:
        try:
            connection = await asyncpg.connect(**self._arguments)
        except asyncpg.PostgresError:
            return  # a refusal is a response
        await connection.close(timeout=self._connect_timeout)

    async def check(self) -> None:
        """Raise unless the server answers and has the schema of this ngdata.

        Raises
        ------
        DatabaseUnavailable, ConfigError
            The server does not answer, or refuses the connection.
        SchemaVersionError
            The schema is missing, older or newer.
        """
        async with self.transaction() as connection:
            revision = await read_revision(connection)
        if any(map(os.environ.get, SENT_BY_LIBPQ)):
            # Else the first read would raise what libpq alone refuses.
            with translated(self.where):
                async with self.arrow.connection() as reading:
                    await reading.run(lambda session: session.execute("SELECT"))
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
        """Begin a transaction for the body: commit when the body ends, roll back if it raises.

        Cancelling the body cancels it on the server too; the clean-up is not interrupted.  Once COMMIT
        has been sent, a cancellation is raised after it: the transaction may be committed.
        """
        with translated(self.where):
            # The wait for a connection can be cancelled at once; the rest must end in order.
            transaction = Transaction(self.engine, self.set_local)
            async with self._write_limit.acquire(), self.while_alive(transaction.abort):
                try:
                    # If this is cancelled, the transaction has begun and is rolled back below.
                    await uninterrupted(transaction.begin())
                    yield transaction.connection
                    # A cancellation that has arrived is raised here: then COMMIT is not sent.
                    await asyncio.sleep(0)
                    await uninterrupted(transaction.commit())
                finally:
                    await uninterrupted(transaction.end())

    def session(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Open a session of entities: commit at its end, roll back if the body raises."""
        return open_session(self.engine, self.where, self._write_limit, self.while_alive)

    def pool_status(self) -> dict[str, dict[str, int]]:
        """Return the numbers of connections of both pools."""
        pool: Any = self.engine.pool
        return {
            "read": self.arrow.status(),
            "write": self._write_limit.status(idle=pool.checkedin()),
        }

    async def close(self) -> None:
        """Close the idle connections now, and those in use when they are released.

        It may be called in any event loop, and again.  If that of the connections does not run any
        more, all are closed at once.
        """
        await self.lifetime.close()

    async def _close(self) -> None:
        self.arrow.close()
        self._write_limit.close()
        disposal = asyncio.ensure_future(self.engine.dispose())
        await asyncio.wait([disposal], timeout=_CLOSE_TIMEOUT)
        if not disposal.done():
            for connection in list(self._opened):
                # A connection in use has a transaction.
                if not (connection.is_closed() or connection.is_in_transaction()):
                    connection.terminate()
        with contextlib.suppress(*DRIVER_ERRORS):
            await disposal

    def _cut(self) -> None:
        self.arrow.cut()
        self._write_limit.close()
        # The pool forgets its connections without closing them: that would need their event loop.
        self.engine.sync_engine.dispose(close=False)
        connection: Any
        for connection in list(self._opened):
            if not connection.is_closed():
                cut_transport(connection._transport, self._loop)


def engine_of(connect: Callable[[], Awaitable[Any]], **options: Any) -> AsyncEngine:
    """Return an engine over asyncpg's connections that prepares statements without names."""

    def adapted() -> Any:
        dbapi: Any = engine.dialect.dbapi
        # Without a name, a cached statement would run the one that was prepared last.
        return dbapi.connect(async_creator_fn=connect, prepared_statement_cache_size=0)

    engine = create_async_engine("postgresql+asyncpg://", creator=adapted, **options)
    return engine
