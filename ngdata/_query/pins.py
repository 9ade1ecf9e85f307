"""Reads of the pins that are kept, and of what each of them keeps."""

from __future__ import annotations

from typing import Final

from ngdata._query.model import Column, Kind, Query, select_list
from ngdata._query.moments import HISTORIES

__all__ = ["PINS", "kept"]

PINS: Final = "tokens.pins"

_COLUMNS: Final = {
    Column("pin_id", Kind.TEXT): "p.id::text",
    Column("label", Kind.TEXT): "p.label",
    Column("created_at", Kind.TIME): "p.created_at",
    Column("rows", Kind.INTEGER): "coalesce(sum(i.rows), 0)::int8",
    Column("bytes", Kind.INTEGER): "coalesce(sum(i.bytes), 0)::int8",
}


def kept() -> Query:
    """Read a row per pin, the oldest first, with the images under the numbers up to the next pin."""
    histories = sorted({each.history for each in HISTORIES.values()})
    images = " UNION ALL ".join(
        f"SELECT h.pin, count(*) AS rows, sum(pg_column_size(h)) AS bytes FROM {history} AS h GROUP BY 1"
        for history in histories
    )
    statement = (
        f"SELECT {select_list(_COLUMNS)} FROM (SELECT *, lead(number) OVER (ORDER BY number) AS following"
        f" FROM {PINS}) AS p LEFT JOIN ({images}) AS i"
        " ON i.pin >= p.number AND (i.pin < p.following OR p.following IS NULL)"
        " GROUP BY p.number, p.id, p.label, p.created_at ORDER BY p.number"
    )
    return Query(statement, tuple(_COLUMNS), (PINS, *histories), has_limit=False)
