"""An asyncpg connection that keeps the statements it has prepared, and closes in any case."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from ngdata._connections.driver_errors import DRIVER_ERRORS

__all__ = ["WriteConnection"]

# More texts than single writes have, unless each update changes other columns.
_MAX_STATEMENTS: Final = 100


class WriteConnection(asyncpg.Connection):
    """A connection of `ngdata._connections.database`.

    Attributes
    ----------
    behind_pooler : bool
        Whether the next transaction may be on another connection of the server, which does not have
        this one's prepared statements.
    """

    behind_pooler = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._names = count()
        # By their text; the one used last is the last.
        self._prepared: dict[str, PreparedStatement[Any]] = {}

    async def prepared(self, statement: str) -> PreparedStatement[Any]:
        """Return a statement that stays prepared on the server; behind a pooler, for one use.

        For the statements of single writes.  The server may keep one plan for all values, so a list
        of any length must not be among them.
        """
        if self.behind_pooler:
            return await self.prepare(statement)
        prepared = self._prepared.pop(statement, None)
        if prepared is None:
            # asyncpg sends a statement without a name again for each use.
            prepared = await self.prepare(statement, name=f"ngdata_{next(self._names)}")
            if len(self._prepared) >= _MAX_STATEMENTS:
                # asyncpg removes it from the server when it prepares the next one.
                del self._prepared[next(iter(self._prepared))]
        self._prepared[statement] = prepared
        return prepared

    async def close(self, *, timeout: float | None = None) -> None:
        """Close; if the server ends the connection meanwhile, there is nothing to report."""
        # AttributeError is asyncpg's, if its protocol has lost the connection while it is closing.
        try:
            await super().close(timeout=timeout)
        except (*DRIVER_ERRORS, AttributeError):
            self.terminate()
