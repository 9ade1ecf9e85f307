"""The only place that opens connections to PostgreSQL: one pool reads Arrow, the other writes.

Reads use ADBC (`ngdata._connections.arrow_pool`), writes asyncpg (`ngdata._connections.write_pool`);
sessions of entities use SQLAlchemy's pool of such connections, under the same limit.  Errors of the
drivers are raised from here as errors of `ngdata.errors`.

A pooler such as PgBouncer may run each transaction on another of the server's connections.  Behind
one, statements are therefore prepared without a name, within a transaction, and no setting outlasts a
transaction; a setting that must last is refused, with the alternative.  Elsewhere, each connection
keeps the statements of single writes, and `ngdata._connections.session_settings` sets its settings
when it opens.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from ngdata._arguments.json_text import json_text
from ngdata._config import postgres_url, tls
from ngdata._config.driver_arguments import SENT_BY_LIBPQ, asyncpg_arguments, libpq_url
from ngdata._config.settings import Settings
from ngdata._connections.arrow_pool import ArrowPool
from ngdata._connections.connection_limit import ConnectionLimit
from ngdata._connections.driver_errors import translated
from ngdata._connections.lifetime import Lifetime, cut_transport
from ngdata._connections.liveness import while_alive
from ngdata._connections.process_bound import ProcessBound
from ngdata._connections.revision import HEAD, read_schema
from ngdata._connections.session_settings import SET_LOCAL, open_session_of
from ngdata._connections.telemetry import observed
from ngdata._connections.threads import uninterrupted
from ngdata._connections.transaction import Transaction
from ngdata._connections.write_connection import CLOSE_TIMEOUT, WriteConnection
from ngdata._connections.write_pool import WritePool
from ngdata.errors import ConfigError, SchemaVersionError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

__all__ = ["Database"]

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
        self._write_limit = ConnectionLimit(
            settings.pool_max_size, settings.pool_timeout, "writing"
        )
        self.pool_timeout = settings.pool_timeout
        self._kept = max(1, min(settings.pool_min_size, settings.pool_max_size))
        self._writers = WritePool(self._connect_within_limit, self._kept)
        self._engine: AsyncEngine | None = None
        self._loop = asyncio.get_running_loop()
        self._opened: weakref.WeakSet[WriteConnection] = weakref.WeakSet()
        self.lifetime = Lifetime()
        self.lifetime.add(self._close, self._cut)

    @property
    def engine(self) -> AsyncEngine:
        """SQLAlchemy's engine for sessions, made when it is first needed."""
        if self._engine is None:
            # Slow to import, and most clients have no session.
            from sqlalchemy import event

            from ngdata._connections.engine import engine_of

            self._engine = engine_of(
                # An idle connection of the other pool is as good as a new one.
                self._writers.acquire,
                pool_size=self._kept,
                max_overflow=self.settings.pool_max_size - self._kept,
                hide_parameters=True,
                json_serializer=json_text,
            )
            event.listen(self._engine.sync_engine, "begin", self._on_begin)
        return self._engine

    def _on_begin(self, connection: Any) -> None:
        # A session of entities begins its transactions itself.
        if self.arrow.behind_pooler:
            connection.exec_driver_sql(SET_LOCAL)

    async def _connect_within_limit(self) -> WriteConnection:
        """Open a connection that writes; close the engine's idle ones if it would be one too many."""
        if self._engine is not None and self._status()["size"] > self.settings.pool_max_size:
            await self._engine.dispose()
        return await self.connect()

    async def connect(self) -> WriteConnection:
        """Open a connection that belongs to no pool; the caller closes it."""
        try:
            connection: WriteConnection = await asyncpg.connect(
                **self._arguments, connection_class=WriteConnection
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
            connection.behind_pooler = await open_session_of(connection)
            self.arrow.behind_pooler = connection.behind_pooler
            if connection.behind_pooler and self._session:
                raise self._refused("it would be ignored without an error")
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def set_local(self, connection: WriteConnection) -> None:
        """Set a transaction's settings behind a pooler; elsewhere, the session has them."""
        if connection.behind_pooler:
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
            The server does not answer, or refuses the connection; or tables are distributed by Citus.
        SchemaVersionError
            The schema is missing, older or newer.
        """
        async with self.transaction("connect") as connection:
            schema = await read_schema(connection)
        if schema.distributed:
            raise ConfigError(
                f"{self.where} has distributed {', '.join(schema.distributed)} by Citus, where ngdata "
                "would lose rows without an error; use tables of one server (SELECT "
                "undistribute_table(...) for each), and docs/scaling.md for what grows further"
            )
        revision = schema.revision
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
    async def transaction(self, kind: str = "transaction") -> AsyncIterator[WriteConnection]:
        """Begin a transaction for the body: commit when the body ends, roll back if it raises.

        `kind` is what it is called if no method of a client began it.

        Cancelling the body cancels it on the server too; the clean-up is not interrupted.  Once COMMIT
        has been sent, a cancellation is raised after it: the transaction may be committed.
        """
        with observed(kind) as statement, translated(self.where):
            # The wait for a connection can be cancelled at once; the rest must end in order.
            transaction = Transaction(self._writers, self.set_local)
            async with self._write_limit.acquire(), self.while_alive(transaction.abort):
                try:
                    # If this is cancelled, the transaction has begun and is rolled back below.
                    await uninterrupted(transaction.begin())
                    transaction.connection.rows_written = None
                    yield transaction.connection
                    statement.record(transaction.connection.rows_written)
                    # A cancellation that has arrived is raised here: then COMMIT is not sent.
                    await asyncio.sleep(0)
                    await uninterrupted(transaction.commit())
                finally:
                    await uninterrupted(transaction.end())

    def session(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Open a session of entities: commit at its end, roll back if the body raises."""
        from ngdata._connections.session import open_session

        return open_session(
            self.engine, self._writers, self.where, self._write_limit, self.while_alive
        )

    def check_open(self) -> None:
        """Raise if the client is closed, or used in a forked child; in any thread."""
        self._write_limit.check_open()

    def pool_status(self) -> dict[str, dict[str, int]]:
        """Return the numbers of connections of both pools."""
        return {"read": self.arrow.status(), "write": self._status()}

    def _status(self) -> dict[str, int]:
        """Return the numbers of the connections that write, those of sessions included."""
        pool: Any = None if self._engine is None else self._engine.pool
        of_sessions = 0 if pool is None else pool.checkedin()
        return self._write_limit.status(idle=self._writers.idle + of_sessions)

    async def close(self) -> None:
        """Close the idle connections now, and those in use when they are released.

        It may be called in any event loop, and again.  If that of the connections does not run any
        more, all are closed at once.
        """
        await self.lifetime.close()

    async def _close(self) -> None:
        self.arrow.close()
        self._write_limit.close()
        closing = [each.close() for each in self._writers.close()]
        if self._engine is not None:
            closing.append(self._engine.dispose())
        disposal = asyncio.gather(*closing, return_exceptions=True)
        # The engine closes one connection after the other, each within the same time.
        await asyncio.wait([disposal], timeout=CLOSE_TIMEOUT)
        if not disposal.done():
            for connection in list(self._opened):
                # A connection in use has a transaction.
                if not (connection.is_closed() or connection.is_in_transaction()):
                    connection.terminate()
        await disposal

    def _cut(self) -> None:
        self.arrow.cut()
        self._write_limit.close()
        # The pools forget their connections without closing them: that would need their event loop.
        self._writers.close()
        if self._engine is not None:
            self._engine.sync_engine.dispose(close=False)
        connection: Any
        for connection in list(self._opened):
            if not connection.is_closed():
                cut_transport(connection._transport, self._loop)
