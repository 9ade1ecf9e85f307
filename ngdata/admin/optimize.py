"""`ngdata optimize`: put the rows of the spatial index in the order of the Hilbert curve, level by level.

A bulk load writes its rows in that order; what comes after lies behind them, and updates scatter them.
Rows that are near each other in space then lie on many pages.  Each level is one transaction of
CLUSTER, which keeps what older snapshots see: a table built aside and put in place of the old one
would lock readers out for a moment only, and be empty to snapshots that are older than it.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import numpy as np
from tqdm.auto import tqdm

from ngdata._arguments.levels import LEVELS
from ngdata._config.settings import Settings, load_settings
from ngdata._connections.background_loop import background_loop
from ngdata._connections.database import Database
from ngdata._connections.opening import open_database
from ngdata._connections.threads import in_daemon_thread
from ngdata._local.fallback import resolve_servers
from ngdata._query.filters import TokenFilter
from ngdata._query.regions import region
from ngdata._query.space import Box
from ngdata._store.owner_locks import lock_tables, require_owner

__all__ = ["Optimized", "optimize"]

# As many regions are tried on each level, each with a hundredth of the rows or so.
_REGIONS: Final = 20
_SAMPLE: Final = 2000


@dataclass(frozen=True)
class Optimized:
    """What was done on one level.

    Attributes
    ----------
    level : str
        Its name.
    rows : int
    pages_before, pages_after : float
        How many pages a region of about a hundredth of the rows reads, on average over some.
    seconds : float
        How long the level was locked.
    """

    level: str
    rows: int
    pages_before: float
    pages_after: float
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.level}: {self.rows:,} rows; a region of a hundredth of them reads "
            f"{self.pages_after:,.0f} pages, {self.pages_before:,.0f} before; "
            f"locked for {self.seconds:.1f} s"
        )


def optimize(settings: Settings | None = None, *, progress: bool | None = None) -> list[Optimized]:
    """Put the spatial index in the order of the Hilbert curve, and have the planner look at it.

    While a level is written anew, reads of regions and writes of tokens wait.  What is done when it
    is interrupted stays done, level by level; nothing that anybody reads changes by it.

    Parameters
    ----------
    settings : Settings, optional
        Of the database; by default those of the environment.
    progress : bool, optional
        Show a bar: always, never, or (None) where a terminal is.

    Returns
    -------
    list of Optimized
        One for each level that has rows.

    Raises
    ------
    ConfigError
        The user is not the owner of the index; it names who is.
    NGDataError
        Others did not let go of a level in time.

    Examples
    --------
    >>> from ngdata.admin.optimize import optimize
    >>> optimize()[0].level
    'physical'
    """
    return background_loop().run(_opened(settings or load_settings(), progress))


async def _opened(settings: Settings, progress: bool | None) -> list[Optimized]:
    settings = await in_daemon_thread(lambda: resolve_servers(settings))
    async with open_database(settings, owner=True) as database:
        return await _optimized(database, progress)


async def _optimized(database: Database, progress: bool | None) -> list[Optimized]:
    remedy = "run `ngdata optimize` as {owner}"
    async with database.transaction() as connection:
        await require_owner(connection, database.where, "reorder", remedy)
    regions, before, seconds = {}, {}, {}
    hidden = not sys.stderr.isatty() if progress is None else not progress
    with tqdm(LEVELS, desc="spatial index", unit=" level", disable=hidden) as levels:
        for level, name in enumerate(levels):
            levels.set_postfix_str(name)
            async with database.transaction() as connection:
                regions[level] = await _sample(connection, level)
                before[level] = await _pages(connection, regions[level])
            if regions[level]:
                async with database.transaction() as connection:
                    seconds[level] = await _reorder(connection, database.where, level)
    async with database.transaction() as connection:
        await connection.execute("SET LOCAL statement_timeout = 0")
        await connection.execute("ANALYZE tokens.tokens, tokens.spatial_index")
    found = []
    async with database.transaction() as connection:
        for level, took in seconds.items():
            rows = await connection.fetchval(
                "SELECT reltuples::bigint FROM pg_class WHERE oid = $1::text::regclass", _of(level)
            )
            after = await _pages(connection, regions[level])
            found.append(Optimized(LEVELS[level], rows, before[level], after, took))
    return found


def _of(level: int) -> str:
    return f"tokens.spatial_index_{level}"


async def _reorder(connection: asyncpg.Connection[Any], where: str, level: int) -> float:
    # A server's or a role's own limit would end it in the middle.
    await connection.execute("SET LOCAL statement_timeout = 0")
    await lock_tables(connection, where, f"{_of(level)} IN ACCESS EXCLUSIVE MODE")
    began = time.perf_counter()
    # For geometries, a B-tree is in the order of the curve.
    await connection.execute(f"CREATE INDEX along_the_curve ON {_of(level)} (geom)")
    await connection.execute(f"CLUSTER {_of(level)} USING along_the_curve")
    await connection.execute("DROP INDEX tokens.along_the_curve")
    return time.perf_counter() - began


async def _sample(connection: asyncpg.Connection[Any], level: int) -> list[str]:
    """Give queries of regions that follow the data: boxes around tokens, with as many each."""
    await connection.execute("SET LOCAL statement_timeout = 0")
    rows = await connection.fetchval(f"SELECT count(*) FROM {_of(level)}")
    if not rows:
        return []
    share = min(100.0, 100.0 * _SAMPLE / rows)
    found = await connection.fetch(
        f"SELECT ST_X(geom), ST_Y(geom), ST_Z(geom) FROM {_of(level)}"
        f" TABLESAMPLE BERNOULLI ({share:.6f}) REPEATABLE (7)"
    )
    points = np.array([tuple(row) for row in found]).reshape(-1, 3)
    boxes = []
    for centre in points[:: max(1, len(points) // _REGIONS)][:_REGIONS]:
        away = np.sort(np.abs(points - centre).max(axis=1))
        half = away[len(away) // 100]
        boxes.append(Box.of(centre - half, centre + half, level))
    return [region(box, TokenFilter(), None, None).sql for box in boxes]


async def _pages(connection: asyncpg.Connection[Any], queries: list[str]) -> float:
    """Count the pages that a query touches, cached or not, on average."""
    touched = 0
    for query in queries:
        plan: Any = await connection.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {query}"
        )
        # SQLAlchemy's connections decode JSON.
        top = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
        touched += top["Shared Hit Blocks"] + top["Shared Read Blocks"]
    return touched / max(1, len(queries))
