"""`open_database`, which opens, checks and closes every database."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType

from ngdata._config.settings import Settings
from ngdata._connections.database import Database
from ngdata._connections.threads import uninterrupted

__all__ = ["open_database"]


def open_database(
    settings: Settings, *, owner: bool = False, check: bool = True
) -> AbstractAsyncContextManager[Database]:
    """Open a database for the body of an ``async with``; close it at the end or on an error.

    To keep it open for longer, enter it into an `AsyncExitStack`, and close that.

    Parameters
    ----------
    settings : Settings
        With a `database_url`.
    owner : bool
        For maintenance by the schema's owner: writes are allowed, and no statement times out.
    check : bool
        Check, before the body, that the server answers and has the schema of this ngdata.

    Raises
    ------
    DatabaseUnavailable, ConfigError
        No server answers, or it refuses the connection.
    SchemaVersionError
        The schema is missing, older or newer.

    Examples
    --------
    >>> import asyncio
    >>> from ngdata._config.settings import load_settings
    >>> from ngdata._connections.opening import open_database
    >>> from ngdata._local.fallback import resolve_servers
    >>> async def count():
    ...     async with open_database(resolve_servers(load_settings())) as database:
    ...         return database.pool_status()["write"]["in_use"]
    >>> asyncio.run(count())
    0
    """
    if owner:
        settings = settings.model_copy(update={"statement_timeout": None, "read_only": False})
    return _Opening(settings, check)


class _Opening(AbstractAsyncContextManager[Database]):
    """Not a generator, which asyncio would close with its event loop: the database does that."""

    def __init__(self, settings: Settings, check: bool) -> None:
        self._settings = settings
        self._check = check

    async def __aenter__(self) -> Database:
        database = Database(self._settings)
        if self._check:
            try:
                await database.check()
            except BaseException:
                await uninterrupted(database.close())
                raise
        self._database = database
        return database

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await uninterrupted(self._database.close())
