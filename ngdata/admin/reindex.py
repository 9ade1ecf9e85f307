"""`ngdata reindex`: bring the spatial index back in step with the tokens, in one transaction.

Needed after something wrote tokens without firing the triggers.  Writers of tokens wait until it is
done; readers go on, and see the index as it was until all of it is right.  Rows that are right stay,
so it is quick where little is wrong; an index that is only bloated or corrupt is PostgreSQL's own
REINDEX's business.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import asyncpg
from tqdm.auto import tqdm

from ngdata._arguments.levels import LEVELS
from ngdata._config.settings import Settings, load_settings
from ngdata._connections.background_loop import background_loop
from ngdata._connections.opening import open_database
from ngdata._connections.threads import in_daemon_thread
from ngdata._local.fallback import resolve_servers
from ngdata._store.owner_locks import lock_tables, require_owner
from ngdata._store.spatial_index import repair_level

__all__ = ["Reindexed", "reindex"]


@dataclass(frozen=True)
class Reindexed:
    """What was done.

    Attributes
    ----------
    removed, added : int
        Rows of the index; one that was wrong counts in both.
    """

    removed: int
    added: int


def reindex(settings: Settings | None = None, *, progress: bool | None = None) -> Reindexed:
    """Bring the spatial index in step with the tokens, whatever it holds now.

    Parameters
    ----------
    settings : Settings, optional
        Of the database; by default those of the environment.
    progress : bool, optional
        Show a bar: always, never, or (None) where a terminal is.

    Returns
    -------
    Reindexed

    Raises
    ------
    ConfigError
        The user is not the owner of the index; it names who is.
    NGDataError
        Writers did not let go of the tokens in time.

    Examples
    --------
    >>> from ngdata.admin.reindex import reindex
    >>> reindex()
    Reindexed(removed=0, added=0)
    """
    return background_loop().run(_opened(settings or load_settings(), progress))


async def _opened(settings: Settings, progress: bool | None) -> Reindexed:
    settings = await in_daemon_thread(lambda: resolve_servers(settings))
    async with (
        open_database(settings, owner=True) as database,
        database.transaction() as connection,
    ):
        return await _rebuilt(connection, database.where, progress)


async def _rebuilt(
    connection: asyncpg.Connection[Any], where: str, progress: bool | None
) -> Reindexed:
    await require_owner(connection, where, "rebuild", "run `ngdata reindex` as {owner}")
    # A server's or a role's own limit would end it in the middle.
    await connection.execute("SET LOCAL statement_timeout = 0")
    await lock_tables(
        connection, where, "tokens.tokens, tokens.spatial_index IN SHARE ROW EXCLUSIVE MODE"
    )
    removed = added = 0
    hidden = not sys.stderr.isatty() if progress is None else not progress
    with tqdm(LEVELS, desc="spatial index", unit=" level", disable=hidden) as levels:
        for level, name in enumerate(levels):
            levels.set_postfix_str(name)
            gone, come = await repair_level(connection, level)
            removed, added = removed + gone, added + come
    await connection.execute("ANALYZE tokens.spatial_index")
    return Reindexed(removed, added)
