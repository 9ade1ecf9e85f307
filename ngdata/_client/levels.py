"""Levels as a whole: what each of them holds, its unit and its description.

`client.describe` and `client.set_level` call these methods.
"""

from __future__ import annotations

from types import EllipsisType

import pandas as pd

from ngdata._arguments.levels import Level, level_index
from ngdata._client.namespace import Namespace
from ngdata._query import overview
from ngdata._reading.reader import CacheMode
from ngdata._store.levels import check_changes, update_level

__all__ = ["AsyncLevels"]


class AsyncLevels(Namespace):
    """The eight levels of a store."""

    async def describe(self, *, cache: CacheMode | None = None) -> pd.DataFrame:
        """Return a row per level that holds tokens."""
        return await self._reader.frame(overview.levels(), cache, None)

    async def set_level(
        self,
        level: Level,
        *,
        unit: str | EllipsisType | None = None,
        description: str | EllipsisType | None = None,
    ) -> None:
        """Change a level's unit, description or both."""
        index, changes = level_index(level), check_changes(unit, description)
        async with self._transaction() as connection:
            await update_level(connection, index, changes)
