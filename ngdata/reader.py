"""Query to DataFrame: the one way that every read takes.

A cache will stand here, in front of the database; the callers will not notice.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import adbc_driver_postgresql.dbapi as adbc
import pandas as pd
import pyarrow as pa

from ngdata.database import Database
from ngdata.frames import to_frame
from ngdata.query import Query
from ngdata.server_errors import is_lost_connection, translated
from ngdata.threads import in_daemon_thread

__all__ = ["Reader"]

# Below, making the frame takes less than a millisecond, and the loop may wait for it.
_SMALL_BYTES = 1 << 18


class Reader:
    """Reads queries from one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def frame(self, query: Query) -> pd.DataFrame:
        """Read a whole answer as a frame that is the caller's own."""
        table = await self.table(query)
        if table.nbytes < _SMALL_BYTES:
            return to_frame(table, query.columns)
        return await in_daemon_thread(lambda: to_frame(table, query.columns))

    async def table(self, query: Query) -> pa.Table:
        """Read a whole answer as Arrow.

        A connection that was lost while it lay idle (the server was restarted) is no reason to
        fail: the read is tried once more, on a new one.
        """
        with translated(self._database.where):
            try:
                return await self._read(query.sql, fresh=False)
            except adbc.Error as error:
                if not is_lost_connection(error):
                    raise
            return await self._read(query.sql, fresh=True)

    async def _read(self, statement: str, fresh: bool) -> pa.Table:
        async with (
            self._database.arrow.connection(fresh) as connection,
            self._database.while_alive(connection.cut),
        ):
            return await connection.read(statement)

    async def frames(self, query: Query, rows: int) -> AsyncGenerator[pd.DataFrame, None]:
        """Read an answer in frames of `rows` rows while the server sends it."""
        with translated(self._database.where):
            # The parts are closed here: left to later, that would end the connection's next query.
            async with (
                self._database.arrow.connection() as connection,
                aclosing(connection.read_in_parts(query.sql, rows)) as tables,
            ):
                async for table in tables:
                    yield to_frame(table, query.columns)
