"""The spatial index against the tokens that it is derived from: where they differ, and its repair.

Triggers keep it as long as they fire; logical replication fires none.  Compared is what the index
holds, bit for bit, by the rule of migration 0001.  When to repair is `ngdata.admin.reindex`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg

__all__ = ["Difference", "compare", "fill", "repair"]

_ATTRIBUTES = ("token_type", "weight", "flags", '"timestamp"')


@dataclass(frozen=True)
class Difference:
    """What is wrong on one level.

    Attributes
    ----------
    level : int
    points : int
        How many rows there should be.
    missing, stray, different : int
        Rows that are not there, that should not be there, and that are not what they should be.
    example : str or None
        The least id of a token that is concerned.
    """

    level: int
    points: int
    missing: int
    stray: int
    different: int
    example: str | None

    @property
    def wrong(self) -> int:
        """How many rows are wrong in any way."""
        return self.missing + self.stray + self.different


async def compare(connection: asyncpg.Connection[Any], level: int) -> Difference:
    """Compare one level, whole; reads every token."""
    found: Any = await connection.fetchrow(f"""
        SELECT count(d.token_id) AS points,
            count(*) FILTER (WHERE s.token_id IS NULL) AS missing,
            count(*) FILTER (WHERE d.token_id IS NULL) AS stray,
            count(*) FILTER (WHERE {_differ("d", "s")}) AS different,
            min(coalesce(d.token_id, s.token_id)::text) FILTER (
                WHERE s.token_id IS NULL OR d.token_id IS NULL OR {_differ("d", "s")}
            ) AS example
        FROM ({await _derived(connection, level)}) AS d
        FULL JOIN (SELECT * FROM tokens.spatial_index WHERE level = {level}) AS s USING (token_id)
    """)
    return Difference(level, **found)


async def repair(connection: asyncpg.Connection[Any], level: int) -> tuple[int, int]:
    """Take out what is wrong and put in what is missing; gives the numbers of both.

    Nobody may write tokens meanwhile.
    """
    derived = await _derived(connection, level)
    gone = await connection.execute(f"""
        DELETE FROM tokens.spatial_index AS s WHERE s.level = {level} AND NOT EXISTS (
            SELECT FROM ({derived}) AS d
            WHERE d.token_id = s.token_id AND NOT ({_differ("d", "s")})
        )
    """)
    come = await fill(connection, level, lacking=True)
    return _count(gone), come


async def fill(connection: asyncpg.Connection[Any], level: int, *, lacking: bool = False) -> int:
    """Put in what one level should hold, or only what it lacks; gives the number."""
    # In the order of the Hilbert curve, as the triggers do.
    what = ", ".join(_ATTRIBUTES)
    missing = f"""
        WHERE NOT EXISTS (
            SELECT FROM tokens.spatial_index AS s
            WHERE s.level = {level} AND s.token_id = d.token_id
        )
    """
    return _count(
        await connection.execute(f"""
            INSERT INTO tokens.spatial_index (level, token_id, geom, {what})
            SELECT {level}, token_id, geom, {what}
            FROM ({await _derived(connection, level)}) AS d {missing if lacking else ""}
            ORDER BY geom
        """)
    )


async def _derived(connection: asyncpg.Connection[Any], level: int) -> str:
    """Write the query of what the index should hold; PostGIS may be in any schema."""
    postgis = await connection.fetchval(
        "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'postgis'"
    )
    place = ", ".join(f"coord_{axis}[{level + 1}]" for axis in "xyz")
    return f"""
        SELECT id AS token_id, {postgis}.ST_MakePoint({place})::{postgis}.geometry(PointZ, 0)
            AS geom, {", ".join(_ATTRIBUTES)}
        FROM tokens.tokens WHERE coord_x[{level + 1}] IS NOT NULL
    """


def _differ(one: str, other: str) -> str:
    """Compare as bytes, by which -0.0 is not 0.0; null if a row is missing."""
    rows = (
        f"ROW({', '.join(f'{name}.{column}' for column in ('geom', *_ATTRIBUTES))})::record"
        for name in (one, other)
    )
    both = f"{one}.token_id IS NOT NULL AND {other}.token_id IS NOT NULL"
    return f"{both} AND {' OPERATOR(pg_catalog.*<>) '.join(rows)}"


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])
