"""A session of entities on a pooled connection: committed whole when it is left, or not at all.

What a session does on the server runs in its own transaction, so its reads see its own writes.  How
entities are read and written is in `ngdata.repositories`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm.exc import StaleDataError

from ngdata.errors import InvalidQueryError, NGDataError, NotFoundError
from ngdata.server_errors import DRIVER_ERRORS, is_lost_connection, translate, translated
from ngdata.slots import Slots
from ngdata.threads import uninterrupted

if TYPE_CHECKING:
    from ngdata.database import Database

__all__ = ["open_session", "session_errors"]

# Seconds for a rollback, before the connection is given up.
_PATIENCE: Final = 5.0


@asynccontextmanager
async def open_session(database: Database, turns: Slots) -> AsyncIterator[AsyncSession]:
    """Lend a session: it commits when the body ends, and rolls back if the body raises.

    Entities stay as they are after the end, and after an error too: nothing is loaded later.
    """
    where = database.where
    async with turns.one():
        with translated(where):
            pooled, cut = await uninterrupted(_connected(database.engine))
        session = AsyncSession(pooled, expire_on_commit=False, info={"where": where})
        try:
            with session_errors(where):
                async with database.while_alive(cut):
                    yield session
                    await _commit(session)
        finally:
            await uninterrupted(_end(session, pooled, cut))


@contextmanager
def session_errors(where: str) -> Iterator[None]:
    """Raise ngdata's error in place of what the server says to a session.

    A mistake in the use of SQLAlchemy itself, and whatever else the body raises, goes through.
    """
    try:
        yield
    except exc.PendingRollbackError:
        raise NGDataError(
            "an earlier error has ended this session's transaction, so it can write no more; let "
            "that error leave the session's block, and open a new session"
        ) from None
    except StaleDataError:
        raise NotFoundError(
            "an entity to be changed is no longer in the store: somebody has deleted it"
        ) from None
    except exc.DBAPIError as error:
        raise _translated(error, where) from None
    except exc.StatementError as error:
        raise InvalidQueryError(f"a value cannot be written: {error.orig}") from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise translate(error, where) from None


def _translated(error: exc.DBAPIError, where: str) -> NGDataError:
    # SQLAlchemy's copy of a driver's error has the class in its text; the driver's own has not.
    driver = getattr(error.orig, "__cause__", None) or error
    found = translate(driver, where)
    if isinstance(driver, asyncpg.NotNullViolationError):
        missing = InvalidQueryError(f"{driver.column_name} is needed; nothing was written")
        missing.sqlstate = found.sqlstate
        return missing
    return found


async def _connected(engine: AsyncEngine) -> tuple[AsyncConnection, Callable[[], None]]:
    """Take a connection that answers, and the way to cut it; those that died idle are skipped."""
    pool: Any = engine.pool
    while True:
        idle = pool.checkedin()
        pooled = engine.connect()
        await pooled.start()
        raw: Any = await pooled.get_raw_connection()
        cut = raw.driver_connection.terminate
        try:
            await raw.driver_connection.execute("SELECT")
        except DRIVER_ERRORS as error:
            await _cut(pooled, cut)
            if not idle or not is_lost_connection(error):
                raise
        else:
            return pooled, cut


async def _commit(session: AsyncSession) -> None:
    if not session.in_transaction():
        return
    # What is yet to be written may wait for others, and can be cancelled; the commit cannot.
    await session.flush()
    # PostgreSQL answers COMMIT in a failed transaction with a rollback, and no error.
    await session.execute(text("SELECT 1"))
    await uninterrupted(session.commit())


async def _end(session: AsyncSession, pooled: AsyncConnection, cut: Callable[[], None]) -> None:
    """Roll back what is not committed, and give the connection back; or cut it."""
    try:
        async with asyncio.timeout(_PATIENCE):
            await session.close()
            await pooled.close()
    except DRIVER_ERRORS:
        await _cut(pooled, cut)


async def _cut(pooled: AsyncConnection, cut: Callable[[], None]) -> None:
    cut()
    await pooled.invalidate()
    await pooled.close()
