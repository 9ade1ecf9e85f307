"""A session of entities on a pooled connection: committed whole when it is left, or not at all.

What a session does on the server runs in its own transaction, so its reads see its own writes.  How
entities are read and written is in `ngdata.repositories`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Final

import asyncpg
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm.exc import StaleDataError

from ngdata._connections.connection_limit import Slots
from ngdata._connections.driver_errors import DRIVER_ERRORS, translate, translated
from ngdata._connections.pooled_connection import PooledConnection
from ngdata._connections.threads import uninterrupted
from ngdata.errors import InvalidQueryError, NGDataError, NotFoundError

__all__ = ["open_session", "session_errors"]

# Seconds for a rollback, before the connection is given up.
_PATIENCE: Final = 5.0


@asynccontextmanager
async def open_session(
    engine: AsyncEngine,
    where: str,
    limit: Slots,
    while_alive: Callable[[Callable[[], None]], AbstractAsyncContextManager[None]],
) -> AsyncIterator[AsyncSession]:
    """Lend a session: it commits when the body ends, and rolls back if the body raises.

    Entities stay as they are after the end, and after an error too: nothing is loaded later.
    """
    taken = PooledConnection(engine)
    session: AsyncSession | None = None
    async with limit.one():
        try:
            with session_errors(where):
                async with while_alive(taken.cut):
                    with translated(where):
                        await uninterrupted(taken.take(lambda driver: driver.execute("SELECT")))
                    session = AsyncSession(
                        taken.pooled, expire_on_commit=False, info={"where": where}
                    )
                    yield session
                    await _commit(session)
        finally:
            await uninterrupted(_end(taken, session))


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


async def _commit(session: AsyncSession) -> None:
    if not session.in_transaction():
        return
    # What is yet to be written may wait for others, and can be cancelled; the commit cannot.
    await session.flush()
    # PostgreSQL answers COMMIT in a failed transaction with a rollback, and no error.
    await session.execute(text("SELECT 1"))
    await uninterrupted(session.commit())


async def _end(taken: PooledConnection, session: AsyncSession | None) -> None:
    """Roll back what is not committed, and give the connection back; or cut it."""
    usable = True
    try:
        async with asyncio.timeout(_PATIENCE):
            if session is not None:
                await session.close()
    except DRIVER_ERRORS:
        usable = False
    await taken.give_back(usable=usable)
