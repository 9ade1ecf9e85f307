"""A session of entities on a pooled connection: committed as a whole at its end, or rolled back.

All statements of a session run in one transaction, so its reads see its own writes.  How entities
are read and written is in `ngdata.repositories`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

import asyncpg
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm.exc import StaleDataError

from ngdata._connections.connection_limit import ConnectionLimit
from ngdata._connections.driver_errors import DRIVER_ERRORS, translate, translated
from ngdata._connections.engine import EngineConnection
from ngdata._connections.pooled_connection import ROLLBACK_TIMEOUT
from ngdata._connections.telemetry import observed, unavailable
from ngdata._connections.threads import uninterrupted
from ngdata._connections.write_pool import WritePool
from ngdata.errors import DatabaseUnavailable, InvalidQueryError, NGDataError, NotFoundError

__all__ = ["open_session", "session_errors"]


@asynccontextmanager
async def open_session(
    engine: AsyncEngine,
    pool: WritePool,
    where: str,
    limit: ConnectionLimit,
    while_alive: Callable[[Callable[[], None]], AbstractAsyncContextManager[None]],
) -> AsyncIterator[AsyncSession]:
    """Open a session for the body: commit when the body ends, roll back if it raises.

    Entities keep their values after the end, and after an error too: nothing is loaded later.
    """
    pooled = EngineConnection(engine, pool)
    session: AsyncSession | None = None
    async with limit.acquire():
        try:
            with observed("session"), session_errors(where):
                async with while_alive(pooled.abort):
                    with translated(where):
                        await uninterrupted(
                            pooled.acquire(lambda connection: connection.execute("SELECT"))
                        )
                    session = AsyncSession(
                        pooled.connection, expire_on_commit=False, info={"where": where}
                    )
                    yield session
                    await _commit(session, pooled)
        finally:
            await uninterrupted(_end(pooled, session))


@contextmanager
def session_errors(where: str) -> Iterator[None]:
    """Raise the server's errors in a session as errors of ngdata.

    A mistake in the use of SQLAlchemy itself, and any other error of the body, stays as it is.
    """
    try:
        yield
    except exc.PendingRollbackError:
        raise NGDataError(
            "an earlier error has ended this session's transaction, so it cannot write any more; "
            "let that error leave the session's block, and open a new session"
        ) from None
    except StaleDataError:
        raise NotFoundError(
            "an entity cannot be changed, because another writer has deleted it from the store"
        ) from None
    except exc.DBAPIError as error:
        raise _reported(_translate(error, where), where) from None
    except exc.StatementError as error:
        raise InvalidQueryError(f"a value cannot be written: {error.orig}") from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise _reported(translate(error, where), where) from None


def _reported(error: NGDataError, where: str) -> NGDataError:
    if isinstance(error, DatabaseUnavailable):
        unavailable(where, error, error.sqlstate)
    return error


def _translate(error: exc.DBAPIError, where: str) -> NGDataError:
    # The text of SQLAlchemy's copy of a driver's error contains the class; the original's does not.
    original = getattr(error.orig, "__cause__", None) or error
    translated_error = translate(original, where)
    if isinstance(original, asyncpg.NotNullViolationError):
        missing = InvalidQueryError(f"{original.column_name} is needed; nothing was written")
        missing.sqlstate = translated_error.sqlstate
        return missing
    return translated_error


async def _commit(session: AsyncSession, pooled: EngineConnection) -> None:
    if not session.in_transaction():
        return
    # The flush may wait for other writers and can be cancelled; the commit cannot.
    await session.flush()
    # PostgreSQL answers COMMIT in a failed transaction with a rollback and no error; this fails.
    await pooled.driver_connection.execute("SELECT")
    # A cancellation that has arrived is raised here: then COMMIT is not sent.
    await asyncio.sleep(0)
    await uninterrupted(session.commit())


async def _end(pooled: EngineConnection, session: AsyncSession | None) -> None:
    """Roll back unless committed, and release the connection; close it if that fails."""
    usable = True
    try:
        async with asyncio.timeout(ROLLBACK_TIMEOUT):
            if session is not None:
                await session.close()
    except (*DRIVER_ERRORS, exc.SQLAlchemyError):
        usable = False
    await pooled.release(usable=usable)
