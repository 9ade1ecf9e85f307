"""The comparison of the spatial index with the tokens that it is derived from, and its repair.

Triggers keep the index up to date whenever they fire; logical replication fires none.  The
comparison is bit for bit, with what the triggers of the migrations would write.  When to repair is
decided by `ngdata.admin.reindex`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from ngdata._query import morton

__all__ = [
    "Difference",
    "compare_level",
    "fill_level",
    "place_on_curve",
    "repair_level",
    "trust_log",
]

# How much of a table is read to see where its points are: about fifteen thousand rows.
_SAMPLED_BYTES: Final = 4_000_000

_ATTRIBUTES = ("token_type", "weight", "flags", '"timestamp"')


@dataclass(frozen=True)
class Difference:
    """The wrong rows on one level.

    Attributes
    ----------
    level : int
    points : int
        How many rows the index should have.
    missing, stray, different : int
        How many rows it lacks, has without a token, and has with other values than the token.
    example : str or None
        The smallest id of a token with a wrong row.
    """

    level: int
    points: int
    missing: int
    stray: int
    different: int
    example: str | None

    @property
    def wrong(self) -> int:
        """The number of rows that are wrong in any way."""
        return self.missing + self.stray + self.different


async def compare_level(connection: asyncpg.Connection[Any], level: int) -> Difference:
    """Compare a whole level of the index with the tokens; reads every token."""
    row: Any = await connection.fetchrow(f"""
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
    return Difference(level, **row)


async def repair_level(connection: asyncpg.Connection[Any], level: int) -> tuple[int, int]:
    """Delete the wrong rows, insert the missing ones, and return the numbers of both.

    The caller must hold a lock that keeps others from writing tokens.
    """
    derived = await _derived(connection, level)
    deleted = await connection.execute(f"""
        DELETE FROM tokens.spatial_index AS s WHERE s.level = {level} AND NOT EXISTS (
            SELECT FROM ({derived}) AS d
            WHERE d.token_id = s.token_id AND NOT ({_differ("d", "s")})
        )
    """)
    inserted = await fill_level(connection, level, only_missing=True)
    return _count(deleted), inserted


async def fill_level(
    connection: asyncpg.Connection[Any], level: int, *, only_missing: bool = False
) -> int:
    """Insert all rows of a level, or only those that are missing, and return their number."""
    attributes = ", ".join(_ATTRIBUTES)
    postgis = await _postgis(connection)
    key = await place_on_curve(
        connection,
        "tokens.tokens",
        [f"coord_{axis}[{level + 1}]" for axis in "xyz"],
        [f"{postgis}.ST_{axis}(geom)" for axis in "XYZ"],
    )
    missing = f"""
        WHERE NOT EXISTS (
            SELECT FROM tokens.spatial_index AS s
            WHERE s.level = {level} AND s.token_id = d.token_id
        )
    """
    return _count(
        await connection.execute(f"""
            INSERT INTO tokens.spatial_index (level, token_id, geom, {attributes})
            SELECT {level}, token_id, geom, {attributes}
            FROM ({await _derived(connection, level)}) AS d {missing if only_missing else ""}
            ORDER BY {key}, token_id
        """)
    )


async def place_on_curve(
    connection: asyncpg.Connection[Any],
    relation: str,
    sampled: Sequence[str],
    axes: Sequence[str],
) -> str:
    """Return the key of `ngdata._query.morton` for the points of a table, from a sample of its pages.

    Parameters
    ----------
    connection : asyncpg.Connection
    relation : str
        The table that is sampled.
    sampled, axes : sequence of str
        The coordinates of its rows, and those of the rows that the key is for.
    """
    percent = f"least(100, 100.0 * {_SAMPLED_BYTES} / greatest(pg_relation_size('{relation}'), 1))"
    numbers: Any = await connection.fetchrow(
        f"SELECT {', '.join(morton.most_points(sampled))}"
        f" FROM {relation} TABLESAMPLE SYSTEM ({percent}) REPEATABLE (1)"
    )
    return morton.key(morton.Box.around(numbers), axes)


async def trust_log(connection: asyncpg.Connection[Any]) -> None:
    """Let the log of changes count again: the index is what it derives from the tokens.

    Rows that were written by hand may have been elsewhere than their tokens, whose changes are logged.
    The caller must hold the lock since it made the index right.
    """
    await connection.execute("DELETE FROM tokens.changes_edge WHERE is_doubt")


async def _derived(connection: asyncpg.Connection[Any], level: int) -> str:
    """Return the query for what the index should hold."""
    postgis = await _postgis(connection)
    point = ", ".join(f"coord_{axis}[{level + 1}]" for axis in "xyz")
    return f"""
        SELECT id AS token_id, {postgis}.ST_MakePoint({point})::{postgis}.geometry(PointZ, 0)
            AS geom, {", ".join(_ATTRIBUTES)}
        FROM tokens.tokens WHERE coord_x[{level + 1}] IS NOT NULL
    """


async def _postgis(connection: asyncpg.Connection[Any]) -> str:
    """Return the schema of PostGIS, which may be any."""
    schema: str = await connection.fetchval(
        "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'postgis'"
    )
    return schema


def _differ(one: str, other: str) -> str:
    """Return the condition that two rows differ, as bytes (-0.0 is not 0.0); null if one is missing."""
    rows = (
        f"ROW({', '.join(f'{name}.{column}' for column in ('geom', *_ATTRIBUTES))})::record"
        for name in (one, other)
    )
    both = f"{one}.token_id IS NOT NULL AND {other}.token_id IS NOT NULL"
    return f"{both} AND {' OPERATOR(pg_catalog.*<>) '.join(rows)}"


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])
