"""Checks of the data: the spatial index against the tokens, statistics, replication."""

from __future__ import annotations

from typing import Any

import asyncpg

from ngdata._arguments.levels import LEVELS
from ngdata._store.index_repair import compare_level
from ngdata.admin.doctor.finding import Finding, note, ok, wrong

__all__ = ["replication", "size", "spatial_index", "statistics"]

_STATISTICS = """
SELECT relid::regclass::text AS place, n_live_tup AS rows, n_mod_since_analyze AS changed
FROM pg_stat_user_tables
WHERE schemaname IN ('tokens', 'graph', 'experience')
    AND n_mod_since_analyze > 1000 + 0.2 * n_live_tup
ORDER BY 1
"""

_SUBSCRIPTIONS = """
SELECT count(*) FROM pg_subscription AS s JOIN pg_database AS d ON d.oid = s.subdbid
WHERE d.datname = current_database()
"""


async def spatial_index(connection: asyncpg.Connection[Any]) -> list[Finding]:
    """Compare the index with the tokens, row by row, which reads all of them."""
    differences = [await compare_level(connection, level) for level in range(len(LEVELS))]
    tokens = await connection.fetchval("SELECT count(*) FROM tokens.tokens")
    if bad := [difference for difference in differences if difference.wrong]:
        missing, stray, different = (
            sum(getattr(d, kind) for d in bad) for kind in ("missing", "stray", "different")
        )
        return [
            wrong(
                "spatial index",
                f"not in step with {tokens:,} tokens: {missing:,} points are missing, {stray:,} "
                f"belong to no token, {different:,} differ, on the levels "
                f"{', '.join(LEVELS[d.level] for d in bad)}; for instance of token {bad[0].example}",
                "run `ngdata reindex` as the owner",
            )
        ]
    points = sum(difference.points for difference in differences)
    return [ok("spatial index", f"in step: {points:,} points of {tokens:,} tokens")]


async def statistics(connection: asyncpg.Connection[Any]) -> list[Finding]:
    """Check for tables that changed much since they were last analyzed."""
    stale = await connection.fetch(_STATISTICS)
    findings = [
        note(
            "statistics",
            f"{row['changed']:,} rows of {row['place']} changed since it was last analyzed",
            f"ANALYZE {row['place']}, if reads are slow; autovacuum does it eventually",
        )
        for row in stale
    ]
    if await connection.fetchval("SELECT NOT current_setting('autovacuum')::boolean"):
        findings.append(
            note("statistics", "autovacuum is off", "turn it on, or run VACUUM ANALYZE regularly")
        )
    return findings or [ok("statistics", "up to date")]


async def replication(connection: asyncpg.Connection[Any]) -> list[Finding]:
    """Check whether logical replication writes here, which fires no statement trigger."""
    if await connection.fetchval(_SUBSCRIPTIONS):
        return [
            note(
                "replication",
                "this database is a logical replica, and the tokens that it receives are not in the "
                "spatial index",
                "run `ngdata reindex` after it has received tokens, and read from the origin",
            )
        ]
    return [ok("replication", "no logical replication writes here")]


async def size(connection: asyncpg.Connection[Any]) -> list[Finding]:
    """Report the database's size; the server's free space is not visible to a client."""
    used = await connection.fetchval("SELECT pg_database_size(current_database())")
    return [ok("size", f"the database uses {used / 1e6:,.1f} MB of the server's disk")]
