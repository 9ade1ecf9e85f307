"""Reads of what is near many points at once, and of all pairs of tokens that are near each other.

One statement answers a batch: the points go as one array, and a lateral subquery does for each of
them what `ngdata._query.regions` does for one.  A `Search` also writes the read of all tokens that its
answer can contain, for a reader that searches in them by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np

from ngdata._arguments.levels import Level, level_index
from ngdata._arguments.numbers import as_flag, non_negative, positive
from ngdata._arguments.points import unmasked
from ngdata._arguments.shown import guarded, shown
from ngdata._query import literals as sql
from ngdata._query.asked import Asked
from ngdata._query.attributes import ATTRIBUTES, TOKENS, IndexRows
from ngdata._query.filters import TokenFilter, where_clause
from ngdata._query.footprints import ANYTHING, Footprint
from ngdata._query.index_boxes import CLAMP
from ngdata._query.model import (
    FEW_IDS,
    FEW_ROWS,
    LEVELS,
    MISSING_ID,
    Column,
    Kind,
    Query,
    Region,
    Sent,
    is_metadata_key,
    select_list,
)
from ngdata._query.places import SPATIAL_INDEX, Place, Window
from ngdata._query.regions import region, with_distance
from ngdata._query.wire_format import compact, with_id_bytes
from ngdata.errors import InvalidQueryError
from ngdata.regions.algebra import EVERYWHERE, Box

__all__ = [
    "ORIGIN",
    "Origins",
    "PairSearch",
    "Search",
    "nearest_many",
    "pairs_within",
    "within_many",
]

ORIGIN: Final = Column("query", Kind.INTEGER)
"""The column that says for which of the points a row is: its position, from 0."""

_PAIR: Final = {
    Column("token_id", Kind.TOKEN_ID): "token_id::text",
    Column("other_id", Kind.TOKEN_ID): "other_id::text",
    Column("distance", Kind.FLOAT): "distance",
}

_PLACE: Final = ("token_id", "x", "y", "z")
_FILTERED: Final = ("token_type", "weight", "flags")
_ATTRIBUTES: Final = frozenset(column.name for column in ATTRIBUTES)

# A computed distance may be too small by a few ulps, and below 1e-160, where squares underflow, by
# any amount.  The ends of a search box are rounded too; the guard is for a product that PostgreSQL
# refuses because it underflows.
_REACH_FACTOR: Final = 1 + 32 * sys.float_info.epsilon
_REACH_OFFSET: Final = 1e-160
_ROUNDING: Final = 1e-15
_GUARD: Final = 1e-280

# Keeps a subquery from being flattened into the join.
_FENCE: Final = " OFFSET 0"


@dataclass(frozen=True, eq=False, slots=True)
class Origins:
    """The points of a batch, checked: coordinates, or the ids of the tokens whose places they are.

    Attributes
    ----------
    coordinates : array of shape (n, 3), or None
    ids : sequence of str, or None
        Canonical.
    """

    coordinates: np.ndarray[Any, Any] | None = None
    ids: Sequence[str] | None = None

    def __len__(self) -> int:
        if self.coordinates is not None:
            return len(self.coordinates)
        return len(self.ids or ())


@dataclass(frozen=True, eq=False)
class Search:
    """A batch: for each of its points, the `k` nearest tokens, or those within `radii`.

    Attributes
    ----------
    origins : Origins
    level : int
    where : TokenFilter
    selected : dict of Column to str
        The columns of the answer but `ORIGIN`, each with its SQL expression.
    k : int or None
    radii : float, array of shape (n,), or None
        The largest distance: of all points, or of each.
    excludes_self : bool
        Whether a token that is one of the points is left out of its own rows.
    """

    origins: Origins
    level: int
    where: TokenFilter
    selected: dict[Column, str]
    k: int | None
    radii: float | np.ndarray[Any, Any] | None
    excludes_self: bool

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the answer."""
        return (ORIGIN, *self.selected)

    @property
    def asked(self) -> Asked | None:
        """What the store may have none of, if an empty answer is to be explained."""
        return Asked.tokens(self.level, None, self.where) if len(self.origins) else None

    @cached_property
    def query(self) -> Query:
        """The read by one statement, with the positions of the points in `ORIGIN`."""
        rows = FEW_ROWS + 1 if self.k is None else len(self.origins) * self.k
        source = IndexRows.of(self.where, self.selected)
        relations = (*source.relations, LEVELS)
        nearby = (
            f"{self._origins_sql()} AS origin CROSS JOIN LATERAL ({self._near(source)}) AS near"
            " ORDER BY origin.position, near.distance, near.token_id"
        )
        origin = {ORIGIN: "origin.position - 1"}
        columns = self.columns
        sent: tuple[Sent, ...] = ()
        noun = None
        if self.origins.ids is None:
            select, sent = compact(origin | self.selected, self.level, is_small=rows <= FEW_ROWS)
            statement = f"SELECT {select} FROM {nearby}"
        else:
            # A row that names a missing id has no values, which only plain columns may lack.
            columns, noun = (MISSING_ID, *columns), "token"
            select = select_list({MISSING_ID: "NULL::text"} | origin | self.selected)
            statement = (
                f"{self._requested_sql()}(SELECT {select} FROM {nearby}) UNION ALL"
                f" (SELECT id::text, 0{', NULL' * len(self.selected)} FROM requested"
                f" WHERE NOT EXISTS (SELECT FROM {TOKENS} AS t WHERE t.id = requested.id)"
                " GROUP BY id ORDER BY min(position))"
            )
            relations = tuple(dict.fromkeys((*relations, TOKENS)))
        return Query(
            statement,
            columns,
            relations,
            has_limit=False,
            sent=sent,
            is_small=rows <= FEW_ROWS,
            is_lookup=rows <= FEW_IDS and self.radii is None and not self.where.conditions(),
            id_noun=noun,
            level=self.level,
            asked=self.asked,
            footprint=ANYTHING if noun else Footprint(place=Place(EVERYWHERE, self.level)),
        )

    def _requested_sql(self) -> str:
        """Write the common table expression of the ids, if the points are ids."""
        if self.origins.ids is None:
            return ""
        return (
            f"WITH requested AS MATERIALIZED (SELECT * FROM unnest({sql.uuid_array(self.origins.ids)}"
            f"{self._radius_arrays()}) WITH ORDINALITY AS r ({self._names('id')})) "
        )

    def _radius_arrays(self) -> str:
        if not isinstance(self.radii, np.ndarray):
            return ""
        return f", {sql.float8_array(self.radii)}, {sql.float8_array(_reach(self.radii))}"

    def _names(self, *names: str) -> str:
        own = ("radius", "reach") if isinstance(self.radii, np.ndarray) else ()
        return ", ".join((*names, *own, "position"))

    def _origins_sql(self) -> str:
        """Write the FROM item of the points: position, point, and what else a row needs."""
        constant = ""
        if self.radii is not None and not isinstance(self.radii, np.ndarray):
            reach = float(_reach(self.radii))
            constant = f", {sql.float8(self.radii)} AS radius, {sql.float8(reach)} AS reach"
        if self.origins.coordinates is None:
            return (
                f"(SELECT requested.*, place.geom AS point{constant} FROM requested"
                f" JOIN {SPATIAL_INDEX} AS place ON place.level = {self.level}"
                " AND place.token_id = requested.id)"
            )
        axes = ", ".join(sql.float8_array(axis) for axis in self.origins.coordinates.T.tolist())
        return (
            f"(SELECT *, ST_MakePoint(px, py, pz) AS point{constant} FROM unnest({axes}"
            f"{self._radius_arrays()}) WITH ORDINALITY AS r ({self._names('px', 'py', 'pz')}))"
        )

    def _near(self, source: IndexRows) -> str:
        """Write the tokens near one point, as `nearest` and `within_radius` of one point do."""
        distance = "geom <<->> origin.point"
        conditions = source.conditions_on(self.level)
        if self.radii is not None:
            conditions += [f"geom &&& {_search_box('origin')}", f"{distance} <= origin.radius"]
        if self.origins.ids is not None and self.excludes_self:
            conditions.append("token_id <> origin.id")
        rows = f"SELECT *, {distance} AS distance FROM {source.sql}{where_clause(conditions)}"
        if self.k is None:
            # Fenced off, the index serves it, whatever the planner expects.
            return rows + _FENCE
        return (
            f"SELECT * FROM ({rows} ORDER BY {distance} FETCH FIRST {self.k} ROWS WITH TIES)"
            f" AS nearest ORDER BY nearest.distance, nearest.token_id LIMIT {self.k}"
        )

    def probe(self, points: int, rows: int) -> str:
        """Write the query for the number of rows of some points, and the number of these points.

        Of each, at most `rows` rows are counted.
        """
        some = np.unique(np.linspace(0, len(self.origins) - 1, points).astype(np.intp))
        coordinates, ids = self.origins.coordinates, self.origins.ids
        origins = Origins(
            None if coordinates is None else coordinates[some],
            None if ids is None else [ids[row] for row in some],
        )
        radii = self.radii[some] if isinstance(self.radii, np.ndarray) else self.radii
        part = replace(self, origins=origins, k=None, radii=radii, selected={})
        near = f"{part._near(IndexRows.of(self.where)).removesuffix(_FENCE)} LIMIT {rows}"
        return (
            f"{part._requested_sql()}SELECT count(*), {len(some)}"
            f" FROM {part._origins_sql()} AS origin CROSS JOIN LATERAL ({near}) AS near"
        )

    @property
    def filters_here(self) -> bool:
        """Whether `candidates` are not filtered yet: the places of the points are among them."""
        return self.origins.ids is not None and bool(self.where.conditions())

    @property
    def has_attributes(self) -> bool:
        """Whether rows or filter need columns of which reading all is dear."""
        return self.where.where is not None or any(
            column.name in _ATTRIBUTES or is_metadata_key(column.name) for column in self.selected
        )

    @cached_property
    def candidates(self) -> Query:
        """The read of all tokens that the answer can contain, without their distances."""
        names = {column.name for column in self.selected} - {"distance"} | {*_PLACE}
        if self.filters_here:
            names |= {*_FILTERED}
        # In the order of the whole answer, so that equal sets of columns are one cached answer.
        columns = sorted(names, key=[column.name for column in with_distance(None)].index)
        where = TokenFilter() if self.filters_here else self.where
        return region(Place(self._bounds(), self.level), where, columns)

    @property
    def is_of_whole_level(self) -> bool:
        """Whether the answer can contain any token of the level."""
        is_bounded = self.origins.coordinates is not None and self.radii is not None
        return not is_bounded and not self.where.conditions()

    def _bounds(self) -> Box:
        """Return a box that holds all tokens of the answer."""
        points = self.origins.coordinates
        if points is None or self.radii is None or not len(points):
            return EVERYWHERE
        with np.errstate(over="ignore", under="ignore"):
            reach = _reach(self.radii)
            slack = (np.abs(points).T * _ROUNDING + reach).T
            return Box((points - slack).min(axis=0), (points + slack).max(axis=0))


@dataclass(frozen=True, eq=False)
class PairSearch:
    """All pairs of tokens that are at most `radius` from each other.

    Attributes
    ----------
    radius : float
    level, other_level : int
        Of the place of the first token, and of the second.
    where, other_where : TokenFilter
    is_ordered : bool
        Whether the first and the second token differ, so that a pair may come in both orders.
    within : Place or None
        The region that holds both tokens, by their points on its level.
    """

    radius: float
    level: int
    other_level: int
    where: TokenFilter
    other_where: TokenFilter
    is_ordered: bool
    within: Place | None

    @property
    def asked(self) -> Asked:
        """What the store may have none of, if an empty answer is to be explained."""
        return Asked.tokens(self.level, None, self.where).within(self.within)

    @cached_property
    def query(self) -> Query:
        """The read by one statement: a join of the index with itself, ordered by both ids."""
        order = "<>" if self.is_ordered else "<"
        select, sent = with_id_bytes(_PAIR)
        radius, reach = sql.float8(self.radius), sql.float8(float(_reach(self.radius)))
        first = self._rows(
            self.level, self.where, f"geom AS point, token_id, {radius} AS radius, {reach} AS reach"
        )
        second = self._rows(
            self.other_level,
            self.other_where,
            "geom, token_id AS other_id, geom <<->> origin.point AS distance",
            f"geom &&& {_search_box('origin')}",
            "geom <<->> origin.point <= origin.radius",
            f"origin.token_id {order} token_id",
        )
        # Fenced off, the index serves it, whatever the planner expects.
        statement = (
            f"SELECT {select} FROM ({first}) AS origin CROSS JOIN LATERAL ({second}{_FENCE})"
            " AS near ORDER BY origin.token_id, near.other_id"
        )
        return Query(
            statement,
            tuple(_PAIR),
            self._relations,
            has_limit=False,
            sent=sent,
            level=self.level,
            asked=self.asked,
            footprint=Footprint(place=self.region.place)
            if self.level == self.other_level
            else ANYTHING,
        )

    @property
    def region(self) -> Region:
        """A region that holds the first tokens, as a guess of how many there are."""
        return Region(self._within(self.level) or Place(EVERYWHERE, self.level), self.where)

    @property
    def is_of_whole_level(self) -> bool:
        """Whether any token of the level may be the first one."""
        return self.within is None and not self.where.conditions()

    @property
    def _relations(self) -> tuple[str, ...]:
        relations = (
            *IndexRows.of(self.where).relations,
            *IndexRows.of(self.other_where).relations,
            LEVELS,
        )
        return tuple(dict.fromkeys(relations))

    def _rows(self, level: int, where: TokenFilter, select: str, *conditions: str) -> str:
        """Write the tokens that may be one of a pair."""
        source = IndexRows.of(where)
        inside = source.conditions_on(level, self._within(level))
        return f"SELECT {select} FROM {source.sql}{where_clause([*inside, *conditions])}"

    def _within(self, level: int) -> Place | None:
        """Return the region as a place of tokens that are read on a level."""
        if self.within is None:
            return None
        return Place(self.within.region.on(self.within.level), level)

    @cached_property
    def candidates(self) -> Query:
        """The read of all tokens that may be one of a pair, with their places.

        If the first and the second differ, ``is_other`` tells them apart.
        """
        if not self.is_ordered:
            return region(self.region.place, self.where, _PLACE)
        sides = [
            self._rows(self.level, self.where, "token_id, geom, false AS is_other"),
            self._rows(self.other_level, self.other_where, "token_id, geom, true AS is_other"),
        ]
        columns = {
            Column("is_other", Kind.BOOLEAN): "is_other",
            Column("token_id", Kind.TOKEN_ID): "token_id::text",
            **{Column(axis, Kind.FLOAT): f"ST_{axis.upper()}(geom)" for axis in "xyz"},
        }
        select, sent = compact(columns, self.level)
        statement = f"SELECT {select} FROM ({' UNION ALL '.join(sides)}) AS ends"
        return Query(statement, tuple(columns), self._relations, sent=sent, level=self.level)


def nearest_many(
    origins: Origins,
    k: int,
    level: Level,
    where: TokenFilter,
    max_distance: float | None = None,
    columns: Sequence[str] | None = None,
    include_self: bool = False,
) -> Search:
    """Return the search of the `k` tokens nearest to each point."""
    return Search(
        origins,
        level_index(level),
        where,
        with_distance(columns),
        positive(k, "k"),
        None if max_distance is None else non_negative(max_distance, "max_distance"),
        not as_flag(include_self, "include_self"),
    )


def within_many(
    origins: Origins,
    radius: object,
    level: Level,
    where: TokenFilter,
    columns: Sequence[str] | None = None,
    include_self: bool = False,
) -> Search:
    """Return the search of the tokens within a radius of each point: one of all, or one of each."""
    return Search(
        origins,
        level_index(level),
        where,
        with_distance(columns),
        None,
        _radii(radius, "radius", len(origins)),
        not as_flag(include_self, "include_self"),
    )


def pairs_within(
    radius: float,
    level: Level,
    within: Window | None,
    where: TokenFilter,
    other_where: TokenFilter | None = None,
    other_level: Level | None = None,
) -> PairSearch:
    """Return the search of all pairs of tokens that are at most `radius` from each other.

    With a filter or a level of the second token's own, pairs are ordered.
    """
    level_number = level_index(level)
    return PairSearch(
        non_negative(radius, "radius"),
        level_number,
        level_number if other_level is None else level_index(other_level, "other_level"),
        where,
        where if other_where is None else other_where,
        other_where is not None or other_level is not None,
        None if within is None else Place.within(within, level_number),
    )


@guarded
def _radii(radius: Any, name: str, count: int) -> float | np.ndarray[Any, Any]:
    """Return one radius, or an array of one for each point."""
    if isinstance(radius, Set | Mapping):
        raise InvalidQueryError(
            f"{name} must be one number, or a sequence of one for each point, in their order, not "
            f"{shown(radius)}"
        )
    has_length = isinstance(radius, Iterable) and not isinstance(radius, str | bytes)
    if not has_length or (isinstance(radius, np.ndarray) and radius.ndim == 0):
        return non_negative(
            radius.item() if isinstance(radius, np.ndarray) else radius,
            name,
            "; or pass one for each point",
        )
    values = _listed(radius, count)
    if values is None:
        length = f", but has {len(radius)}" if hasattr(radius, "__len__") else ""
        raise InvalidQueryError(
            f"{name} must be one number, or one for each of the {count} points{length}"
        )
    radii = np.array(
        [non_negative(value, f"{name}[{place}]") for place, value in enumerate(values)], np.float64
    )
    if count and (radii == radii[0]).all():
        return float(radii[0])
    return radii if count else 0.0


def _listed(values: Any, count: int) -> list[Any] | None:
    """Return one-dimensional values as a list; None if there are not `count` of them."""
    if not hasattr(values, "__len__") or len(values) != count:
        return None
    if isinstance(values, range | np.ma.MaskedArray):
        values = unmasked(values)
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise InvalidQueryError(f"radius must have one dimension, not the shape {values.shape}")
    # Iterating over an Arrow array yields scalars, not numbers.
    return list(getattr(values, "to_pylist", values.__iter__)())


def _reach(radii: Any) -> Any:
    """Return how far the tokens may be apart on one axis whose computed distance is a radius."""
    with np.errstate(over="ignore"):
        return np.asarray(radii, np.float64) * _REACH_FACTOR + _REACH_OFFSET


def _search_box(origin: str) -> str:
    """Write the operand of ``&&&`` for a sphere around ``point``, as `search_box` does for values."""
    corners = []
    for sign, function, limit in (("-", "greatest", -CLAMP), ("+", "least", CLAMP)):
        ends = []
        for axis in "XYZ":
            value = f"ST_{axis}({origin}.point)"
            slack = f"greatest(abs({value}), {sql.float8(_GUARD)}) * {sql.float8(_ROUNDING)}"
            end = f"{value} {sign} {origin}.reach {sign} {slack}"
            ends.append(f"{function}({end}, {sql.float8(limit)})")
        corners.append(f"ST_MakePoint({', '.join(ends)})")
    return f"ST_MakeLine({', '.join(corners)})"
