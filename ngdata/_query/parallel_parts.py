"""A region in disjoint parts: how many rows to expect, where to cut, and the parts' queries.

Where a region is much of its level, parts are ranges of the table's pages, which together cost what
the whole does.  Else they are boxes side by side along one axis, each beginning at the next float64
after the end of the one before it: so each token is in exactly one, whatever the cuts are worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from ngdata._query.filters import TokenFilter, clause
from ngdata._query.model import Query, Region
from ngdata._query.regions import region as region_query
from ngdata._query.space import Box, moved, search_box

__all__ = ["estimate_sql", "sample_sql", "size_sql", "slabs", "sweeps"]

_SAMPLE_PAGES: Final = 200

# Where there are fewer, a quantile of theirs says little.
_FEWEST_A_PART: Final = 10


def estimate_sql(region: Region) -> str:
    """Write the query that is planned for the number of rows.

    Without the exact comparisons: the planner knows nothing of them, and expects one row.
    """
    box = region.box
    conditions = [f"level = {box.level}", f"geom &&& {search_box(box.low, box.high)}"]
    return f"SELECT FROM tokens.spatial_index{clause(conditions + region.where.conditions())}"


def size_sql(region: Region) -> str:
    """Write the query of the level's pages, and of the rows that the server believes it has."""
    table = f"'tokens.spatial_index_{region.box.level}'::regclass"
    pages = f"pg_relation_size({table}) / current_setting('block_size')::int8"
    return f"SELECT {pages}, reltuples::float8 FROM pg_class WHERE oid = {table}"


def sample_sql(region: Region, pages: int) -> str:
    """Write the query of some of the region's points, out of a few of so many pages."""
    percent = min(100.0, 100.0 * _SAMPLE_PAGES / max(pages, 1))
    return (
        "SELECT ST_X(geom), ST_Y(geom), ST_Z(geom) FROM tokens.spatial_index"
        f" TABLESAMPLE SYSTEM ({percent!r})"
        f"{clause(region.box.conditions() + region.where.conditions())}"
    )


def sweeps(query: Query, pages: int, parts: int) -> list[Query]:
    """Cut a region's query in parts that each look through a range of the table's pages.

    Parameters
    ----------
    query : Query
        With a region.
    pages : int
        How many the table has, about: the last part goes to the end, wherever that is.
    parts : int
    """
    box, where, names = _of(query)
    cuts = [pages * part // parts for part in range(parts)]
    return [
        region_query(box, where, names, pages=(first, end))
        for first, end in zip(cuts, [*cuts[1:], None], strict=True)
        if first != end
    ]


def slabs(query: Query, points: np.ndarray, parts: int) -> list[Query]:
    """Cut a region's query in up to `parts` boxes of about as many rows.

    Parameters
    ----------
    query : Query
        With a region.
    points : array of shape (n, 3)
        Some of the region's.
    parts : int
    """
    box, where, names = _of(query)
    if len(points) < _FEWEST_A_PART * parts:
        return [query]
    cuts = [_cuts(points[:, axis], box.high[axis], parts) for axis in range(3)]
    # Across the longest axis, slabs have the least surface, and share the fewest pages.
    extent = np.ptp(points, axis=0)
    axis = max(range(3), key=lambda axis: (len(cuts[axis]), extent[axis]))
    found, low = [], box.low[axis]
    for cut in [*cuts[axis], box.high[axis]]:
        part = Box(moved(box.low, axis, low), moved(box.high, axis, cut), box.level)
        found.append(region_query(part, where, names))
        low = math.nextafter(cut, math.inf)
    return found


def _of(query: Query) -> tuple[Box, TokenFilter, Sequence[str]]:
    assert query.region is not None
    names = [column.name for column in query.columns]
    return query.region.box, query.region.where, names


def _cuts(values: np.ndarray, high: float, parts: int) -> list[float]:
    at = np.linspace(0, 1, parts + 1)[1:-1]
    cuts = np.unique(np.quantile(values, at, method="lower"))
    return [float(cut) for cut in cuts if cut < high]
