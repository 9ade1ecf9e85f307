"""`ngdata optimize`: put the rows of the spatial index in the order of a Morton curve, level by level.

An initial load writes its rows in that order; later rows are appended, and updates scatter them.  Rows
that are near each other in space then lie on many pages.  Each level is one transaction of CLUSTER,
which keeps the rows that older snapshots see: a new table swapped for the old one would lock readers
out for a moment only, but appear empty to older snapshots.
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
from ngdata._config.settings import Settings, as_settings
from ngdata._connections.background_loop import background_loop
from ngdata._connections.database import Database
from ngdata._connections.opening import open_database
from ngdata._connections.threads import in_daemon_thread
from ngdata._local.fallback import resolve_servers
from ngdata._query.filters import TokenFilter
from ngdata._query.places import Place
from ngdata._query.regions import region
from ngdata._store.index_repair import place_on_curve
from ngdata._store.owner_locks import lock_tables, require_owner

__all__ = ["Optimized", "optimize"]

# Sample regions per level, each with about a hundredth of its rows.
_REGIONS: Final = 20
_SAMPLE: Final = 2000


@dataclass(frozen=True)
class Optimized:
    """The result for one level.

    Attributes
    ----------
    level : str
        The level's name.
    rows : int
    pages_before, pages_after : float
        The pages that a region of about a hundredth of the rows reads, on average over a sample.
    seconds : float
        The time for which the level was locked.
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
    """Put the spatial index in the order of a Morton curve, and analyze it.

    While a level is rewritten, reads of regions and writes of tokens wait.  If it is interrupted,
    the levels completed before stay reordered; no result of any read changes.

    Parameters
    ----------
    settings : Settings, optional
        The database's settings; by default the environment's.
    progress : bool, optional
        Whether to show a progress bar; by default, if stderr is a terminal.

    Returns
    -------
    list of Optimized
        One for each level that has rows.

    Raises
    ------
    InvalidQueryError
        If `settings` is of another type.
    ConfigError
        If the user is not the owner of the index; the message names the owner.
    NGDataError
        If other transactions did not release a level in time.

    Examples
    --------
    >>> from ngdata.admin.optimize import optimize
    >>> optimize()[0].level
    'physical'
    """
    return background_loop().run(_optimize_store(as_settings(settings), progress))


async def _optimize_store(settings: Settings, progress: bool | None) -> list[Optimized]:
    settings = await in_daemon_thread(lambda: resolve_servers(settings))
    async with open_database(settings, owner=True) as database:
        return await _optimize_levels(database, progress)


async def _optimize_levels(database: Database, progress: bool | None) -> list[Optimized]:
    remedy = "run `ngdata optimize` as {owner}"
    async with database.transaction() as connection:
        await require_owner(connection, database.where, "reorder", remedy)
    regions, before, seconds = {}, {}, {}
    hidden = not sys.stderr.isatty() if progress is None else not progress
    with tqdm(LEVELS, desc="reordering the spatial index", unit=" level", disable=hidden) as levels:
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
    results = []
    async with database.transaction() as connection:
        for level, duration in seconds.items():
            rows = await connection.fetchval(
                "SELECT reltuples::bigint FROM pg_class WHERE oid = $1::text::regclass",
                _partition(level),
            )
            after = await _pages(connection, regions[level])
            results.append(Optimized(LEVELS[level], rows, before[level], after, duration))
    return results


def _partition(level: int) -> str:
    return f"tokens.spatial_index_{level}"


async def _reorder(connection: asyncpg.Connection[Any], where: str, level: int) -> float:
    # A limit of the server or the role would interrupt it.
    await connection.execute("SET LOCAL statement_timeout = 0")
    await lock_tables(connection, where, f"{_partition(level)} IN ACCESS EXCLUSIVE MODE")
    start = time.perf_counter()
    axes = [f"ST_{axis}(geom)" for axis in "XYZ"]
    key = await place_on_curve(connection, _partition(level), axes, axes)
    # A function: as the index's own expression, the key is too long.
    function = "tokens.along_the_curve(geom geometry)"
    await connection.execute(f"CREATE FUNCTION {function} RETURNS int8 IMMUTABLE RETURN {key}")
    await connection.execute(
        f"CREATE INDEX along_the_curve ON {_partition(level)} (tokens.along_the_curve(geom), token_id)"
    )
    await connection.execute(f"CLUSTER {_partition(level)} USING along_the_curve")
    await connection.execute("DROP INDEX tokens.along_the_curve")
    await connection.execute(f"DROP FUNCTION {function}")
    return time.perf_counter() - start


async def _sample(connection: asyncpg.Connection[Any], level: int) -> list[str]:
    """Return queries of regions that follow the data: boxes around tokens, of equal row counts."""
    await connection.execute("SET LOCAL statement_timeout = 0")
    rows = await connection.fetchval(f"SELECT count(*) FROM {_partition(level)}")
    if not rows:
        return []
    share = min(100.0, 100.0 * _SAMPLE / rows)
    sample = await connection.fetch(
        f"SELECT ST_X(geom), ST_Y(geom), ST_Z(geom) FROM {_partition(level)}"
        f" TABLESAMPLE BERNOULLI ({share:.6f}) REPEATABLE (7)"
    )
    points = np.array([tuple(row) for row in sample]).reshape(-1, 3)
    places = []
    for centre in points[:: max(1, len(points) // _REGIONS)][:_REGIONS]:
        distances = np.sort(np.abs(points - centre).max(axis=1))
        half = distances[len(distances) // 100]
        places.append(Place.of(centre - half, centre + half, level))
    return [region(place, TokenFilter(), None, None).sql for place in places]


async def _pages(connection: asyncpg.Connection[Any], queries: list[str]) -> float:
    """Return the average number of pages that a query touches, cached or not."""
    touched = 0
    for query in queries:
        plan: Any = await connection.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {query}"
        )
        # SQLAlchemy's connections decode JSON.
        top = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
        touched += top["Shared Hit Blocks"] + top["Shared Read Blocks"]
    return touched / max(1, len(queries))
