"""Reads of `tokens.spatial_index`: a box, a sphere, the nearest tokens, a count, a histogram."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from ngdata._arguments.levels import Level, level_index
from ngdata._arguments.numbers import non_negative, positive
from ngdata._arguments.points import as_point
from ngdata._arguments.shown import guarded, shown
from ngdata._query import literals as sql
from ngdata._query.asked import Asked
from ngdata._query.attributes import ATTRIBUTES, IndexRows
from ngdata._query.filters import TokenFilter, checked_limit, row_limit, where_clause
from ngdata._query.footprints import Footprint, Nearest
from ngdata._query.index_boxes import point_sql
from ngdata._query.model import (
    FEW_IDS,
    FEW_ROWS,
    LEVELS,
    Column,
    Kind,
    Query,
    Region,
    choose,
    select_list,
)
from ngdata._query.places import Place
from ngdata._query.wire_format import compact
from ngdata.errors import InvalidQueryError
from ngdata.regions.algebra import Box
from ngdata.regions.shapes import Sphere

__all__ = [
    "Pages",
    "count",
    "density",
    "nearest",
    "region",
    "selected_columns",
    "with_distance",
    "within_radius",
]

Pages: TypeAlias = "tuple[int, int | None]"
"""The first page of a range of the table, and the page after its last; None for no end."""

_COLUMNS: Final = {
    Column("token_id", Kind.TOKEN_ID): "token_id::text",
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
    place: Place,
    where: TokenFilter,
    columns: Sequence[str] | None = None,
    limit: int | None = None,
    conditions: Sequence[str] = (),
    pages: Pages | None = None,
    order: str | None = None,
) -> Query:
    """Read the tokens in a region, unordered; `limit` keeps the first by id.

    Parameters
    ----------
    place, where, columns, limit
    conditions : sequence of str
        Further conditions, SQL that holds no caller's value.
    pages : Pages, optional
        Read only the tokens on these pages, by a scan without the index.
    order : str, optional
        The terms of ORDER BY, from `ngdata._query.morton`; without a limit.
    """
    selected = selected_columns(columns)
    source, limit = IndexRows.of(where, selected), checked_limit(limit)
    limit_clause = row_limit(limit)
    is_small = limit is not None and limit <= FEW_ROWS
    select, sent = compact(selected, place.level, is_small=is_small)
    inside = source.conditions(place) if pages is None else _on_pages(source, place, pages)
    rows = f"FROM {source.sql}{where_clause([*inside, *conditions])}"
    if limit_clause and not place.is_box:
        # A formula's rows are expected to be many, and would be looked for in the order of ids.
        rows = f"FROM (SELECT * {rows} OFFSET 0) AS spatial_index"
    if limit_clause:
        # By the table's column, a uuid: the same order as that of its text, but cheaper.
        rows += f" ORDER BY spatial_index.token_id{limit_clause}"
    elif order is not None:
        rows += f" ORDER BY {order}"
    return Query(
        f"SELECT {select} {rows}",
        tuple(selected),
        (*source.relations, LEVELS),
        None if limit_clause or conditions or order else Region(place, where),
        sent=sent,
        plain_sql=f"SELECT {select_list(selected)} {rows}" if sent else None,
        is_small=is_small,
        level=place.level,
        asked=None if limit == 0 else Asked.tokens(place.level, place, where),
        footprint=Footprint(place=place),
    )


def selected_columns(
    columns: Sequence[str] | None,
    default: dict[Column, str] = _COLUMNS,
    name: str = "columns",
) -> dict[Column, str]:
    """Return the columns with these names, or the default; attributes of tokens only by name.

    `name` is that of the argument, for the error.
    """
    if columns is None:
        return default
    return choose(default | ATTRIBUTES, columns, metadata="metadata", name=name)


def with_distance(columns: Sequence[str] | None) -> dict[Column, str]:
    """Return the columns of an answer that may have distances, each with its SQL expression."""
    return selected_columns(columns, _WITH_DISTANCE)


def _on_pages(source: IndexRows, place: Place, pages: Pages) -> list[str]:
    first, end = pages
    conditions = [f"level = {place.level}", f"spatial_index.ctid >= '({int(first)},0)'::tid"]
    if end is not None:
        conditions.append(f"spatial_index.ctid < '({int(end)},0)'::tid")
    return conditions + place.comparisons() + source.conditions()


def count(place: Place, where: TokenFilter) -> Query:
    """Count the tokens in a region."""
    source = IndexRows.of(where)
    return Query(
        f'SELECT count(*) AS "count" FROM {source.sql}{where_clause(source.conditions(place))}',
        (Column("count", Kind.INTEGER),),
        source.relations,
        is_small=True,
        footprint=Footprint(place=place),
    )


def nearest(
    point: object,
    k: int,
    level: Level,
    where: TokenFilter,
    max_distance: float | None = None,
    columns: Sequence[str] | None = None,
) -> Query:
    """Read the k nearest tokens; a tie at the end is broken by id.

    The index returns neighbors in order of ``<<->>``, but only if the ORDER BY has no other term,
    and a plain LIMIT keeps any of the tied ones: so first all tokens that tie with the k-th are
    read, then the ones with the least ids are kept.
    """
    centre = as_point(point)
    selected = selected_columns(columns, _WITH_DISTANCE)
    source, level_number = IndexRows.of(where, selected), level_index(level)
    within = None
    if max_distance is not None:
        within = Place(Sphere(centre, non_negative(max_distance, "max_distance")), level_number)
    conditions = source.conditions_on(level_number, within)
    distance = f"geom <<->> {point_sql(centre)}"
    count = positive(k, "k")
    is_small = count <= FEW_ROWS
    # With a filter, many tokens may be nearer than those that pass it.
    is_lookup = count <= FEW_IDS and within is None and not source.conditions()
    select, sent = compact(selected, level_number, is_small=is_small)
    statement = (
        f"SELECT {select} FROM (SELECT *, {distance} AS distance FROM {source.sql}"
        f"{where_clause(conditions)} ORDER BY {distance} FETCH FIRST {count} ROWS WITH TIES)"
        f" AS nearest ORDER BY nearest.distance, nearest.token_id LIMIT {count}"
    )
    return Query(
        statement,
        tuple(selected),
        (*source.relations, LEVELS),
        sent=sent,
        is_small=is_small,
        is_lookup=is_lookup,
        is_nearest=True,
        level=level_number,
        asked=Asked.tokens(level_number, within, where),
        footprint=Footprint(place=within, nearest=Nearest(centre, count, level_number)),
    )


def within_radius(
    point: object,
    radius: float,
    level: Level,
    where: TokenFilter,
    columns: Sequence[str] | None = None,
    limit: int | None = None,
) -> Query:
    """Read the tokens in a closed sphere, by distance, then id; `limit` keeps the first by id."""
    centre, limit = as_point(point), checked_limit(limit)
    within = Place(Sphere(centre, radius), level_index(level))
    selected = selected_columns(columns, _WITH_DISTANCE)
    source, level_number = IndexRows.of(where, selected), within.level
    conditions = source.conditions(within)
    inside = (
        f"SELECT *, geom <<->> {point_sql(centre)} AS distance FROM {source.sql}"
        f"{where_clause(conditions)}"
    )
    limit_clause = row_limit(limit)
    if limit_clause:
        inside += f" ORDER BY token_id{limit_clause}"
    is_small = limit is not None and limit <= FEW_ROWS
    select, sent = compact(selected, level_number, is_small=is_small)
    statement = (
        f"SELECT {select} FROM ({inside}) AS inside ORDER BY inside.distance, inside.token_id"
    )
    return Query(
        statement,
        tuple(selected),
        (*source.relations, LEVELS),
        sent=sent,
        is_small=is_small,
        level=level_number,
        asked=None if limit == 0 else Asked.tokens(level_number, within, where),
        footprint=Footprint(place=within),
    )


def density(
    place: Place, bins: int | Sequence[int], where: TokenFilter
) -> tuple[Query, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Count the tokens in each cell of a grid over a region; return the edges of the cells too.

    The edges are those of `numpy.histogramdd`, which widens an axis without extent by half a unit
    to either side, and counts the tokens there.  `width_bucket` with an array of the edges agrees
    with it in each cell; ``width_bucket(x, low, high, n)`` does not.
    """
    low, high = place.corners or ((0.0,) * 3, (0.0,) * 3)
    x, y, z = (_edges(a, b, n) for a, b, n in zip(low, high, _shape(bins, "bins"), strict=True))
    grid = place
    if place.is_box:
        # On an axis without extent, the cells extend beyond the box.
        ends = [[float(edges[end]) for edges in (x, y, z)] for end in (0, -1)]
        grid = Place(Box(*ends), place.level)
    # As in NumPy, the last cell includes its upper edge.
    cells = ", ".join(
        f"least(width_bucket(ST_{axis}(geom), {sql.float8_array(edges)}), {len(edges) - 1}) - 1"
        f' AS "{axis.lower()}"'
        for axis, edges in zip("XYZ", (x, y, z), strict=True)
    )
    source = IndexRows.of(where)
    statement = (
        f'SELECT {cells}, count(*) AS "count" FROM {source.sql}'
        f"{where_clause(source.conditions(grid))} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    columns = tuple(Column(name, Kind.INTEGER) for name in ("x", "y", "z", "count"))
    asked = Asked.tokens(place.level, place, where)
    relations = (*source.relations, LEVELS)
    footprint = Footprint(place=grid)
    query = Query(
        statement, columns, relations, level=place.level, asked=asked, footprint=footprint
    )
    return query, (x, y, z)


@guarded
def _shape(bins: Any, name: str) -> list[int]:
    """Return the number of cells on each axis."""
    values: Any = bins.tolist() if isinstance(bins, np.ndarray) else bins
    is_sequence = isinstance(values, Sequence) and not isinstance(values, str | bytes)
    if is_sequence and len(values) != 3:
        raise InvalidQueryError(f"{name} must be an integer or three integers, not {shown(bins)}")
    return [positive(value, name, 100_000) for value in (values if is_sequence else [values] * 3)]


def _edges(low: float, high: float, n: int) -> np.ndarray:
    if not math.isfinite(high - low):
        raise InvalidQueryError(
            f"density needs a region with finite bounds, not from {low!r} to {high!r}; find_in_region and "
            "count_in_region accept infinite bounds"
        )
    if low == high:
        low, high = low - 0.5, high + 0.5
    # Among the smallest float64 numbers, rounded steps add up to more than the whole.
    return np.minimum(np.linspace(low, high, n + 1), high)
