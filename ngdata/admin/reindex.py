"""`ngdata reindex`: make the spatial index match the tokens again, in one transaction.

Needed after tokens were written without firing the triggers.  Writers of tokens wait until it
finishes; readers continue, and see the old index until the transaction commits.  Correct rows stay,
so it is quick if few are wrong; for an index that is only bloated or corrupt, use PostgreSQL's own
REINDEX.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import asyncpg
from tqdm.auto import tqdm

from ngdata._arguments.levels import LEVELS
from ngdata._config.settings import Settings, as_settings
from ngdata._connections.background_loop import background_loop
from ngdata._connections.opening import open_database
from ngdata._connections.threads import in_daemon_thread
from ngdata._local.fallback import resolve_servers
from ngdata._store.index_repair import repair_level, trust_log
from ngdata._store.owner_locks import lock_tables, require_owner

__all__ = ["Reindexed", "reindex"]


@dataclass(frozen=True)
class Reindexed:
    """The result of a reindex.

    Attributes
    ----------
    removed, added : int
        Rows of the index; a row that was wrong counts in both.
    """

    removed: int
    added: int


def reindex(settings: Settings | None = None, *, progress: bool | None = None) -> Reindexed:
    """Make the spatial index match the tokens, whatever it holds now.

    Parameters
    ----------
    settings : Settings, optional
        The database's settings; by default the environment's.
    progress : bool, optional
        Whether to show a progress bar; by default, if stderr is a terminal.

    Returns
    -------
    Reindexed

    Raises
    ------
    InvalidQueryError
        If `settings` is of another type.
    ConfigError
        If the user is not the owner of the index; the message names the owner.
    NGDataError
        If writers did not release the tokens in time.

    Examples
    --------
    >>> from ngdata.admin.reindex import reindex
    >>> reindex()
    Reindexed(removed=0, added=0)
    """
    return background_loop().run(_reindex_store(as_settings(settings), progress))


async def _reindex_store(settings: Settings, progress: bool | None) -> Reindexed:
    settings = await in_daemon_thread(lambda: resolve_servers(settings))
    async with (
        open_database(settings, owner=True) as database,
        database.transaction() as connection,
    ):
        return await _repair_levels(connection, database.where, progress)


async def _repair_levels(
    connection: asyncpg.Connection[Any], where: str, progress: bool | None
) -> Reindexed:
    await require_owner(connection, where, "rebuild", "run `ngdata reindex` as {owner}")
    # A limit of the server or the role would interrupt it.
    await connection.execute("SET LOCAL statement_timeout = 0")
    await lock_tables(
        connection, where, "tokens.tokens, tokens.spatial_index IN SHARE ROW EXCLUSIVE MODE"
    )
    removed = added = 0
    hidden = not sys.stderr.isatty() if progress is None else not progress
    with tqdm(LEVELS, desc="repairing the spatial index", unit=" level", disable=hidden) as levels:
        for level, name in enumerate(levels):
            levels.set_postfix_str(name)
            level_removed, level_added = await repair_level(connection, level)
            removed, added = removed + level_removed, added + level_added
    await trust_log(connection)
    await connection.execute("ANALYZE tokens.spatial_index")
    return Reindexed(removed, added)
