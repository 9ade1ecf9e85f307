"""Reads of `tokens.spatial_index`: a box, a sphere, the nearest, a count, a histogram."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from ngdata._arguments.levels import Level, level_index
from ngdata._arguments.numbers import as_float, positive
from ngdata._query import literals as sql
from ngdata._query.filters import TokenFilter, clause, row_limit
from ngdata._query.model import Column, Kind, Query, Region, choose
from ngdata._query.space import Box, Point, as_point, point_sql, search_box
from ngdata._query.wire_format import compact
from ngdata.errors import InvalidQueryError

__all__ = ["Pages", "count", "density", "nearest", "region", "within_radius"]

_INDEX: Final = ("tokens.spatial_index",)

# An answer of so many rows at most is small.
_FEW: Final = 1000

Pages: TypeAlias = "tuple[int, int | None]"
"""A first page of the table, and the one behind the last; None: to the end."""

_COLUMNS: Final = {
    Column("token_id", Kind.TEXT): "token_id::text",
    Column("level", Kind.INTEGER): "level",
    Column("x", Kind.FLOAT): "ST_X(geom)",
    Column("y", Kind.FLOAT): "ST_Y(geom)",
    Column("z", Kind.FLOAT): "ST_Z(geom)",
    Column("token_type", Kind.TEXT): "token_type",
    Column("weight", Kind.FLOAT): "weight",
    Column("flags", Kind.INTEGER): "flags",
    Column("timestamp", Kind.TIME): '"timestamp"',
}
_WITH_DISTANCE: Final = {**_COLUMNS, Column("distance", Kind.FLOAT): "distance"}


def region(
    box: Box,
    where: TokenFilter,
    columns: Sequence[str] | None = None,
    limit: int | None = None,
    also: Sequence[str] = (),
    pages: Pages | None = None,
) -> Query:
    """Tokens in a closed box; a set, unless `limit` cuts it by id.

    What is true `also` is SQL of our own.  With `pages`, those of them that lie there, which are
    looked through without the index.
    """
    chosen = choose(_COLUMNS, columns)
    cut = row_limit(limit)
    is_small = limit is not None and limit <= _FEW
    selected, sent = compact(chosen, box.level, is_small=is_small)
    conditions = box.conditions() if pages is None else _within_pages(box, pages)
    statement = (
        f"SELECT {selected} FROM tokens.spatial_index"
        f"{clause([*conditions, *where.conditions(), *also])}"
    )
    if cut:
        # Inside, token_id is the uuid: its order is the order of its text, and cheaper.
        statement += f" ORDER BY spatial_index.token_id{cut}"
    whole = None if cut or also else Region(box, where)
    return Query(statement, tuple(chosen), _INDEX, whole, sent=sent, is_small=is_small)


def _within_pages(box: Box, pages: Pages) -> list[str]:
    first, end = pages
    found = [f"level = {box.level}", f"ctid >= '({int(first)},0)'::tid"]
    if end is not None:
        found.append(f"ctid < '({int(end)},0)'::tid")
    return found + box.comparisons()


def count(box: Box, where: TokenFilter) -> Query:
    """How many tokens a closed box holds."""
    return Query(
        'SELECT count(*) AS "count" FROM tokens.spatial_index'
        f"{clause(box.conditions() + where.conditions())}",
        (Column("count", Kind.INTEGER),),
        _INDEX,
    )


def nearest(
    point: object,
    k: int,
    level: Level,
    where: TokenFilter,
    max_distance: float | None = None,
    columns: Sequence[str] | None = None,
) -> Query:
    """The k nearest tokens; a tie at the end is broken by id.

    The index gives neighbors in order of ``<<->>``, but only if nothing else is in the ORDER BY,
    and a plain LIMIT keeps any of the tied: so all that tie with the k-th are taken first.
    """
    centre = as_point(point)
    chosen = choose(_WITH_DISTANCE, columns)
    conditions = [f"level = {level_index(level)}", *where.conditions()]
    if max_distance is not None:
        conditions += _within(centre, _radius(max_distance, "max_distance"))
    distance = f"geom <<->> {point_sql(centre)}"
    most = positive(k, "k")
    is_small = most <= _FEW
    selected, sent = compact(chosen, level_index(level), is_small=is_small)
    statement = (
        f"SELECT {selected} FROM (SELECT *, {distance} AS distance FROM tokens.spatial_index"
        f"{clause(conditions)} ORDER BY {distance} FETCH FIRST {most} ROWS WITH TIES) AS nearest"
        f" ORDER BY nearest.distance, nearest.token_id LIMIT {most}"
    )
    return Query(statement, tuple(chosen), _INDEX, sent=sent, is_small=is_small)


def within_radius(
    point: object,
    radius: float,
    level: Level,
    where: TokenFilter,
    columns: Sequence[str] | None = None,
    limit: int | None = None,
) -> Query:
    """Tokens in a closed sphere, by distance, then id; `limit` cuts by id."""
    centre = as_point(point)
    chosen = choose(_WITH_DISTANCE, columns)
    conditions = [
        f"level = {level_index(level)}",
        *_within(centre, _radius(radius, "radius")),
        *where.conditions(),
    ]
    inside = (
        f"SELECT *, geom <<->> {point_sql(centre)} AS distance FROM tokens.spatial_index"
        f"{clause(conditions)}"
    )
    cut = row_limit(limit)
    if cut:
        inside += f" ORDER BY token_id{cut}"
    is_small = limit is not None and limit <= _FEW
    selected, sent = compact(chosen, level_index(level), is_small=is_small)
    statement = (
        f"SELECT {selected} FROM ({inside}) AS inside ORDER BY inside.distance, inside.token_id"
    )
    return Query(statement, tuple(chosen), _INDEX, sent=sent, is_small=is_small)


def density(
    box: Box, bins: int | Sequence[int], where: TokenFilter
) -> tuple[Query, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Tokens per cell of a grid over the box, and the edges of the cells on each axis.

    The edges are those of `numpy.histogramdd`, which gives a box without extent on an axis one of
    half a unit to either side, and counts what is there; `width_bucket` with the edges themselves agrees with it in each
    cell, where ``width_bucket(x, low, high, n)`` does not.
    """
    given: Any = bins.tolist() if isinstance(bins, np.ndarray) else bins
    several = isinstance(given, Sequence) and not isinstance(given, str)
    shape = list(given) if several else [given] * 3
    if len(shape) != 3:
        raise InvalidQueryError(f"bins must be an integer or three integers, not {bins!r}")
    x, y, z = (
        _edges(low, high, positive(n, "bins", 100_000))
        for low, high, n in zip(box.low, box.high, shape, strict=True)
    )
    # On an axis without extent the cells reach further than the box.
    grid = Box(
        (float(x[0]), float(y[0]), float(z[0])),
        (float(x[-1]), float(y[-1]), float(z[-1])),
        box.level,
    )
    # numpy closes the last cell: the upper face belongs to it.
    cells = ", ".join(
        f"least(width_bucket(ST_{axis}(geom), {sql.float8_array(edges)}), {len(edges) - 1}) - 1"
        f' AS "{axis.lower()}"'
        for axis, edges in zip("XYZ", (x, y, z), strict=True)
    )
    statement = (
        f'SELECT {cells}, count(*) AS "count" FROM tokens.spatial_index'
        f"{clause(grid.conditions() + where.conditions())} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    columns = tuple(Column(name, Kind.INTEGER) for name in ("x", "y", "z", "count"))
    return Query(statement, columns, _INDEX), (x, y, z)


def _edges(low: float, high: float, n: int) -> np.ndarray:
    if not math.isfinite(high - low):
        raise InvalidQueryError(
            f"density needs a finite box, not one from {low!r} to {high!r}; find_in_region and "
            "count_in_region take infinite bounds"
        )
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, n + 1)


def _below(value: float) -> float:
    return math.nextafter(value, -math.inf)


def _above(value: float) -> float:
    return math.nextafter(value, math.inf)


def _radius(value: float, name: str) -> float:
    found = as_float(value)
    if found is None or found < 0:
        raise InvalidQueryError(f"{name} must be a number of at least 0, not {value!r}")
    return found


def _within(centre: Point, radius: float) -> list[str]:
    # A computed distance may be some ulps of itself too small, and below 1e-160, where squares
    # vanish, anything: the box holds every point whose distance can come out as the radius.  That
    # is more than nextafter(c - radius): where this cancels to 0, a point at -1e-20 belongs to it.
    reach = radius * (1 + 8 * sys.float_info.epsilon) + 1e-160
    x, y, z = centre
    low = (_below(x - reach), _below(y - reach), _below(z - reach))
    high = (_above(x + reach), _above(y + reach), _above(z + reach))
    return [
        f"geom &&& {search_box(low, high)}",
        f"geom <<->> {point_sql(centre)} <= {sql.float8(radius)}",
    ]
