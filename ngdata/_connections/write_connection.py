"""An asyncpg connection that keeps the statements it has prepared, and closes in any case."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from ngdata._connections.driver_errors import DRIVER_ERRORS

__all__ = ["CLOSE_TIMEOUT", "WriteConnection"]

CLOSE_TIMEOUT: Final = 2.0
"""Seconds for the server to confirm the end of a connection."""

_WRITES: Final = ("INSERT ", "UPDATE ", "DELETE ")

# More than single writes have, unless each update changes other columns.
_MAX_KEPT: Final = 100

# Longer texts have the values of many rows; the server would keep megabytes for each.
_MAX_LENGTH: Final = 4_000


class WriteConnection(asyncpg.Connection):
    """A connection of `ngdata._connections.database`.

    Attributes
    ----------
    behind_pooler : bool
        Whether the next transaction may be on another connection of the server, which does not have
        this one's prepared statements.
    rows_written : int or None
        How many rows the present transaction has written, if that is known.
    """

    behind_pooler = False
    rows_written: int | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._names = count()
        # By their text; the one used last is the last.
        self._kept: dict[str, PreparedStatement[Any]] = {}

    async def prepare(
        self, query: str, *, name: str | None = None, **options: Any
    ) -> PreparedStatement[Any]:
        """Return a prepared statement; those of single writes stay prepared for the next call.

        Short writes with parameters are kept, but none behind a pooler, and none that the caller
        names: ``name=""`` is for a single use.  The server may run a kept one by the same plan for
        all values, so pass that for a statement with a list of any length.
        """
        is_kept = query.startswith(_WRITES) and "$1" in query and len(query) <= _MAX_LENGTH
        if name is not None or self.behind_pooler or not is_kept:
            single_use: PreparedStatement[Any] = await super().prepare(query, name=name, **options)
            return single_use
        statement = self._kept.pop(query, None)
        if statement is None:
            # asyncpg sends one without a name again for each use.
            statement = await super().prepare(query, name=f"ngdata_{next(self._names)}", **options)
            if len(self._kept) >= _MAX_KEPT:
                # asyncpg removes it from the server when it prepares the next one.
                del self._kept[next(iter(self._kept))]
        self._kept[query] = statement
        return statement

    def forget_statements(self) -> None:
        """Prepare the kept statements anew when they are used again."""
        self._kept.clear()

    def terminate(self) -> None:
        """Close at once, without the server."""
        # Statements and connection refer to each other: neither need wait for the garbage collector.
        self._kept.clear()
        super().terminate()

    async def close(self, *, timeout: float | None = CLOSE_TIMEOUT) -> None:
        """Close; if the server ends the connection meanwhile, there is nothing to report.

        A server that does not answer within the timeout is not waited for.
        """
        self._kept.clear()
        # AttributeError is asyncpg's, if its protocol has lost the connection while it is closing.
        try:
            await super().close(timeout=timeout)
        except (*DRIVER_ERRORS, AttributeError):
            self.terminate()
