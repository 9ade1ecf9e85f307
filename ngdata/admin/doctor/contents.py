"""What is in the tables: the spatial index against the tokens, statistics, replication."""

from __future__ import annotations

from typing import Any

import asyncpg

from ngdata._arguments.levels import LEVELS
from ngdata._store.spatial_index import compare_level
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
    """Compare the index with the tokens, row by row: it takes as long as reading all of them."""
    found = [await compare_level(connection, level) for level in range(len(LEVELS))]
    tokens = await connection.fetchval("SELECT count(*) FROM tokens.tokens")
    if bad := [difference for difference in found if difference.wrong]:
        many = (sum(getattr(d, kind) for d in bad) for kind in ("missing", "stray", "different"))
        missing, stray, different = many
        return [
            wrong(
                "spatial index",
                f"not in step with {tokens:,} tokens: {missing:,} points are missing, {stray:,} are "
                f"of no token, {different:,} are different, on the levels "
                f"{', '.join(LEVELS[d.level] for d in bad)}; for instance of token {bad[0].example}",
                "run `ngdata reindex` as the owner",
            )
        ]
    points = sum(difference.points for difference in found)
    return [ok("spatial index", f"in step: {points:,} points of {tokens:,} tokens")]


async def statistics(connection: asyncpg.Connection[Any]) -> list[Finding]:
    """Look for tables that changed much since the planner last looked at them."""
    stale = await connection.fetch(_STATISTICS)
    found = [
        note(
            "statistics",
            f"{row['changed']:,} rows of {row['place']} changed since it was last analyzed",
            f"ANALYZE {row['place']}, if reads are slow; autovacuum does it by itself in a while",
        )
        for row in stale
    ]
    if await connection.fetchval("SELECT NOT current_setting('autovacuum')::boolean"):
        found.append(
            note("statistics", "autovacuum is off", "turn it on, or run VACUUM ANALYZE regularly")
        )
    return found or [ok("statistics", "fresh")]


async def replication(connection: asyncpg.Connection[Any]) -> list[Finding]:
    """Look whether logical replication writes here: it fires no trigger of a statement."""
    if await connection.fetchval(_SUBSCRIPTIONS):
        return [
            note(
                "replication",
                "this database is a logical replica, and what it receives is not in the spatial "
                "index",
                "run `ngdata reindex` after it has received tokens, and read from the origin",
            )
        ]
    return [ok("replication", "no logical replication writes here")]


async def size(connection: asyncpg.Connection[Any]) -> list[Finding]:
    """Give the database's size; its server's free room is not for a client to see."""
    used = await connection.fetchval("SELECT pg_database_size(current_database())")
    return [ok("size", f"the database takes {used / 1e6:,.1f} MB of the server's disk")]
