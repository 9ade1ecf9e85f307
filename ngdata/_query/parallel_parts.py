"""A region as disjoint parts for parallel reads: its estimated size, the cuts, the parts' queries.

If a region is a large part of its level, the parts are ranges of the table's pages, which together
cost as much as the whole.  Else they are boxes side by side along one axis, each beginning at the
next float64 after the end of the box before it: so each token is in exactly one part, however good
the cuts are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from ngdata._arguments.points import with_coordinate
from ngdata._query.attributes import IndexRows
from ngdata._query.filters import TokenFilter, where_clause
from ngdata._query.model import Query, Region
from ngdata._query.places import SPATIAL_INDEX, Place
from ngdata._query.regions import region as region_query
from ngdata.regions.algebra import Box

__all__ = ["estimate_sql", "sample_sql", "size_sql", "slabs", "sweeps"]

_SAMPLE_PAGES: Final = 200

# Quantiles of fewer sampled points per part are too inexact.
_MIN_POINTS_PER_PART: Final = 10


def estimate_sql(region: Region) -> str:
    """Write the query whose plan estimates the number of rows.

    Without the exact comparisons: the planner has no statistics for them, and would estimate one
    row.
    """
    source = IndexRows.of(region.where)
    conditions = region.place.search_conditions() + source.conditions()
    return f"SELECT FROM {source.sql}{where_clause(conditions)}"


def size_sql(region: Region) -> str:
    """Write the query for the level's number of pages, and the server's estimate of its rows."""
    table = f"'{SPATIAL_INDEX}_{region.place.level}'::regclass"
    pages = f"pg_relation_size({table}) / current_setting('block_size')::int8"
    return f"SELECT {pages}, reltuples::float8 FROM pg_class WHERE oid = {table}"


def sample_sql(region: Region, pages: int) -> str:
    """Write the query for a sample of the region's points, from a table of about `pages` pages."""
    source = IndexRows.of(region.where)
    percent = min(100.0, 100.0 * _SAMPLE_PAGES / max(pages, 1))
    return (
        "SELECT ST_X(geom), ST_Y(geom), ST_Z(geom)"
        f" FROM {source.sampled(percent)}{where_clause(source.conditions(region.place))}"
    )


def sweeps(query: Query, pages: int, parts: int) -> list[Query]:
    """Split a region's query into up to `parts` queries that each scan a range of pages.

    Parameters
    ----------
    query : Query
        With a region.
    pages : int
        The approximate number of pages of the table; the last part has no end.
    parts : int
    """
    place, where, names = _region_of(query)
    cuts = [pages * part // parts for part in range(parts)]
    return [
        region_query(place, where, names, pages=(first, end))
        for first, end in zip(cuts, [*cuts[1:], None], strict=True)
        if first != end
    ]


def slabs(query: Query, points: np.ndarray, parts: int) -> list[Query]:
    """Split a region's query into up to `parts` boxes of about the same number of rows.

    Parameters
    ----------
    query : Query
        With a region.
    points : array of shape (n, 3)
        A sample of the region's points.
    parts : int
    """
    place, where, names = _region_of(query)
    if len(points) < _MIN_POINTS_PER_PART * parts:
        return [query]
    low_corner, high_corner = place.corners or ((0.0,) * 3, (0.0,) * 3)
    cuts = [_cuts(points[:, axis], high_corner[axis], parts) for axis in range(3)]
    # Across the longest axis, slabs have the smallest surface, and share the fewest pages.
    extent = np.ptp(points, axis=0)
    axis = max(range(3), key=lambda axis: (len(cuts[axis]), extent[axis]))
    queries, low = [], low_corner[axis]
    for cut in [*cuts[axis], high_corner[axis]]:
        part = Box(with_coordinate(low_corner, axis, low), with_coordinate(high_corner, axis, cut))
        queries.append(region_query(place.in_part(part), where, names))
        low = math.nextafter(cut, math.inf)
    return queries


def _region_of(query: Query) -> tuple[Place, TokenFilter, Sequence[str]]:
    assert query.region is not None
    names = [column.name for column in query.columns]
    return query.region.place, query.region.where, names


def _cuts(values: np.ndarray, high: float, parts: int) -> list[float]:
    at = np.linspace(0, 1, parts + 1)[1:-1]
    cuts = np.unique(np.quantile(values, at, method="lower"))
    return [float(cut) for cut in cuts if cut < high]
