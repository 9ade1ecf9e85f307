"""Reads split into partitions that are disjoint, complete and of equal size.

The rows are ordered without ties, because the order ends in the id; a partition is the rows from
one bound up to the next.  The first one has no lower bound and the last one no upper bound, so that
together they are complete, whatever is written after the bounds were read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeAlias

from ngdata._arguments.numbers import positive
from ngdata._arguments.points import with_coordinate
from ngdata._query import events, regions
from ngdata._query import literals as sql
from ngdata._query.attributes import IndexRows
from ngdata._query.events import EventFilter
from ngdata._query.filters import TokenFilter, where_clause
from ngdata._query.model import Column, Kind, Query, select_list
from ngdata._query.places import Place
from ngdata.errors import InvalidQueryError
from ngdata.regions.algebra import EVERYWHERE, Box

__all__ = ["PartCount", "Rows", "Split", "event_split", "head", "region_split", "with_json_as_text"]

_Bound: TypeAlias = Mapping[str, Any]

_AXES: Final = "XYZ"

_REGION_BOUND: Final = (
    Column("axis", Kind.INTEGER),
    Column("place", Kind.FLOAT),
    Column("token_id", Kind.TEXT),
)

# The order of events as expressions without NULLs, and without ties.  In the "C" collation, which
# every server has, ids compare as text like uuids; other collations may differ on a replica.
_EVENT_KEY: Final = {
    Column("timestamp", Kind.TIME): '"timestamp"',
    Column("unnumbered", Kind.BOOLEAN): "sequence_number IS NULL",
    Column("number", Kind.INTEGER): "coalesce(sequence_number, 0)",
    events.ENTRY: "entry_number",
    Column("event_id", Kind.TEXT): 'event_id::text COLLATE "C"',
}
_EVENT_ORDER: Final = ", ".join(_EVENT_KEY.values())


@dataclass(frozen=True, slots=True)
class PartCount:
    """The number of partitions, or of rows in each; fewer partitions if there are fewer rows."""

    npartitions: int | None = None
    rows_per_partition: int | None = None

    def __post_init__(self) -> None:
        if (self.npartitions is None) == (self.rows_per_partition is None):
            passed = "neither" if self.npartitions is None else "both"
            raise InvalidQueryError(f"pass either npartitions or rows_per_partition, not {passed}")
        # Kept as plain integers.
        for name, maximum in (("npartitions", 1_000_000), ("rows_per_partition", 2**31 - 1)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, positive(getattr(self, name), name, maximum))

    def sql(self) -> str:
        """Write the number of partitions as SQL, in which ``rows`` is the number of rows."""
        if self.npartitions is not None:
            return f"least({sql.integer(self.npartitions)}, rows)"
        size = sql.integer(self.rows_per_partition or 1)
        return f"(rows + {size} - 1) / {size}"


class Rows(Protocol):
    """The rows of a partition; a read of them is made once the columns are known."""

    def query(self, columns: Sequence[str]) -> Query:
        """Return the read of these columns, in this order."""


@dataclass(frozen=True, slots=True)
class RegionRows:
    """The tokens in a place that meet further conditions in SQL."""

    place: Place
    where: TokenFilter
    conditions: tuple[str, ...]

    def query(self, columns: Sequence[str]) -> Query:
        """Return the read of these columns."""
        return regions.region(self.place, self.where, columns, conditions=self.conditions)


@dataclass(frozen=True, slots=True)
class EventRows:
    """The events of a read, with their entry numbers, that meet further conditions in SQL."""

    whole: Query
    conditions: tuple[str, ...]

    def query(self, columns: Sequence[str]) -> Query:
        """Return the read of these columns, in the order of events."""
        by_name = {column.name: column for column in self.whole.columns}
        select = ", ".join(f'"{name}"' for name in columns)
        return replace(
            self.whole,
            sql=f"SELECT {select} FROM ({self.whole.sql}) AS part"
            f"{where_clause(self.conditions)} ORDER BY {_EVENT_ORDER}",
            columns=tuple(by_name[name] for name in columns),
        )


@dataclass(frozen=True, slots=True)
class Split:
    """A read, and how to split it.

    Attributes
    ----------
    whole : Query
        The read itself.
    bounds : Query
        The first row of each partition but the first, in order.
    part : function
        Returns the rows from one bound up to another; None means no bound.
    """

    whole: Query
    bounds: Query
    part: Callable[[_Bound | None, _Bound | None], Rows]

    def parts(self, bounds: Sequence[_Bound]) -> list[Rows]:
        """Return the rows of each partition."""
        return [
            self.part(low, high) for low, high in zip([None, *bounds], [*bounds, None], strict=True)
        ]


def region_split(
    place: Place, where: TokenFilter, columns: Sequence[str] | None, count: PartCount
) -> Split:
    """Split a region across the axis on which its tokens extend furthest."""
    # The planner estimates one row for a region, and would count it again for each of its rows; so
    # the expressions that must be evaluated once are MATERIALIZED.
    whole = regions.region(place, where, columns)
    source = IndexRows.of(where)
    extents = ", ".join(f"max({axis}) - min({axis}) AS d{axis}" for axis in "xyz")
    statement = (
        "WITH inside AS MATERIALIZED (SELECT ST_X(geom) AS x, ST_Y(geom) AS y, ST_Z(geom) AS z,"
        f" token_id FROM {source.sql}{where_clause(source.conditions(place))}),"
        f" extents AS (SELECT count(*) AS rows, {extents} FROM inside),"
        f" cut AS MATERIALIZED (SELECT rows, {count.sql()} AS parts,"
        " CASE greatest(dx, dy, dz) WHEN dx THEN 0 WHEN dy THEN 1 ELSE 2 END AS axis FROM extents),"
        " placed AS (SELECT cut.*, token_id, CASE axis WHEN 0 THEN x WHEN 1 THEN y ELSE z END"
        " AS place FROM inside CROSS JOIN cut),"
        f" {_firsts('place, token_id')}"
        ' SELECT axis, place, token_id::text AS "token_id" FROM firsts ORDER BY before'
    )

    def part(low: _Bound | None, high: _Bound | None) -> Rows:
        (low_corner, high_corner), ties = EVERYWHERE._extent, []
        for bound, is_low in ((low, True), (high, False)):
            if bound is None:
                continue
            axis, value = int(bound["axis"]), float(bound["place"])
            # The box includes the bound's coordinate, which the index can find; among the tokens at
            # exactly that coordinate, the id decides.
            if is_low:
                low_corner = with_coordinate(low_corner, axis, value)
            else:
                high_corner = with_coordinate(high_corner, axis, value)
            inner, side = (">", ">=") if is_low else ("<", "<")
            ties.append(
                f"(ST_{_AXES[axis]}(geom) {inner} {sql.float8(value)}"
                f" OR spatial_index.token_id {side} {sql.text(bound['token_id'])}::uuid)"
            )
        return RegionRows(place.in_part(Box(low_corner, high_corner)), where, tuple(ties))

    return Split(whole, Query(statement, _REGION_BOUND, whole.relations), part)


def event_split(
    where: EventFilter, count: PartCount, columns: Sequence[str] | None = None
) -> Split:
    """Split a window of events by time; each partition is in the order of events."""
    whole = events.window(where, columns=columns)
    # The partitions are cut where a frame may have no column.
    keyed = events.keyed_window(where)
    names = ", ".join(f'"{column.name}"' for column in _EVENT_KEY)
    statement = (
        f"WITH inside AS MATERIALIZED (SELECT {select_list(_EVENT_KEY)} FROM ({keyed.sql}) AS keyed),"
        f" cut AS MATERIALIZED (SELECT rows, {count.sql()} AS parts"
        " FROM (SELECT count(*) AS rows FROM inside) AS counted),"
        " placed AS (SELECT * FROM inside CROSS JOIN cut),"
        f" {_firsts(names)} SELECT {names} FROM firsts ORDER BY before"
    )

    def part(low: _Bound | None, high: _Bound | None) -> Rows:
        conditions = []
        for bound, side in ((low, ">="), (high, "<")):
            if bound is None:
                continue
            moment = sql.timestamptz(bound["timestamp"])
            values = (
                moment,
                str(bool(bound["unnumbered"])),
                sql.integer(bound["number"]),
                sql.integer(bound[events.ENTRY.name]),
                sql.text(bound["event_id"]),
            )
            # The index on times can answer only the first.
            conditions += [
                f'"timestamp" {side[0]}= {moment}',
                f"({_EVENT_ORDER}) {side} ({', '.join(values)})",
            ]
        # Partitions one after the other have the order of the whole.
        return EventRows(keyed, tuple(conditions))

    return Split(whole, Query(statement, tuple(_EVENT_KEY), whole.relations), part)


def _firsts(order: str) -> str:
    """Write the common table expressions of the first row of each partition but the first.

    A row with b rows ``before`` it is in partition ``b * parts / rows``, rounded down: so the sizes
    of the partitions differ by at most one.
    """
    return (
        f"numbered AS (SELECT *, row_number() OVER (ORDER BY {order}) - 1 AS before FROM placed),"
        " firsts AS (SELECT * FROM numbered WHERE before > 0"
        " AND before * parts / rows > (before - 1) * parts / rows)"
    )


def with_json_as_text(query: Query) -> Query:
    """Return the read with its JSON as text, as Parquet and the frames of Dask can hold it."""
    columns = [replace(c, kind=Kind.TEXT) if c.kind is Kind.JSON else c for c in query.columns]
    return replace(query, columns=tuple(columns))


def head(query: Query) -> Query:
    """Return the read without rows, for its dtypes."""
    return replace(query, sql=f"SELECT * FROM ({query.sql}) AS whole LIMIT 0", region=None)
