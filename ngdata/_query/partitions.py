"""Reads cut into parts that are disjoint, complete and of equal size: by the rows that are there.

Rows are put in an order that has no ties, because it ends in the id; a part is the rows from one
bound up to the next.  What is before the first bound or behind the last belongs to the outer parts,
so that the parts are complete whatever is written after the bounds were read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeAlias

from ngdata._arguments.numbers import positive
from ngdata._query import literals as sql
from ngdata._query import regions
from ngdata._query.filters import TokenFilter, clause
from ngdata._query.model import Column, Kind, Query
from ngdata._query.space import Box, moved
from ngdata.errors import InvalidQueryError

__all__ = ["PartCount", "Rows", "Split", "event_split", "head", "region_split"]

_Bound: TypeAlias = Mapping[str, Any]

_AXES: Final = "XYZ"

_REGION_BOUND: Final = (
    Column("axis", Kind.INTEGER),
    Column("place", Kind.FLOAT),
    Column("token_id", Kind.TEXT),
)

# The order of events, without its ties and its NULLs.  Text compares as ids do in the collation
# that is every server's; other collations differ between a server and its replica.
_EVENT_KEY: Final = {
    Column("timestamp", Kind.TIME): '"timestamp"',
    Column("unnumbered", Kind.BOOLEAN): "sequence_number IS NULL",
    Column("number", Kind.INTEGER): "coalesce(sequence_number, 0)",
    Column("event_id", Kind.TEXT): 'event_id::text COLLATE "C"',
}
_EVENT_ORDER: Final = ", ".join(_EVENT_KEY.values())


@dataclass(frozen=True, slots=True)
class PartCount:
    """How many parts are wanted: so many, or of so many rows each; fewer if there are fewer rows."""

    npartitions: int | None = None
    rows_per_partition: int | None = None

    def __post_init__(self) -> None:
        if (self.npartitions is None) == (self.rows_per_partition is None):
            given = "neither" if self.npartitions is None else "both"
            raise InvalidQueryError(f"give npartitions or rows_per_partition, not {given}")
        if self.npartitions is not None:
            positive(self.npartitions, "npartitions", 1_000_000)
        else:
            assert self.rows_per_partition is not None
            positive(self.rows_per_partition, "rows_per_partition")

    def sql(self) -> str:
        """Give the SQL of the number of parts of so many `rows`."""
        if self.npartitions is not None:
            return f"least({sql.integer(self.npartitions)}, rows)"
        size = sql.integer(self.rows_per_partition or 1)
        return f"(rows + {size} - 1) / {size}"


class Rows(Protocol):
    """Rows of a part, of which a read is made when it is known which columns are wanted."""

    def query(self, columns: Sequence[str]) -> Query:
        """Give the read of these columns, in this order."""


@dataclass(frozen=True, slots=True)
class RegionRows:
    """The tokens in a box for which something is true beside; `also` is SQL."""

    box: Box
    where: TokenFilter
    also: tuple[str, ...]

    def query(self, columns: Sequence[str]) -> Query:
        """Give the read of these columns."""
        return regions.region(self.box, self.where, columns, also=self.also)


@dataclass(frozen=True, slots=True)
class EventRows:
    """The events of a read for which something is true beside; `conditions` are SQL."""

    whole: Query
    conditions: tuple[str, ...]

    def query(self, columns: Sequence[str]) -> Query:
        """Give the read of these columns, in the order of events."""
        kinds = {column.name: column for column in self.whole.columns}
        chosen = ", ".join(f'"{name}"' for name in columns)
        return replace(
            self.whole,
            sql=f"SELECT {chosen} FROM ({self.whole.sql}) AS part"
            f"{clause(self.conditions)} ORDER BY {_EVENT_ORDER}",
            columns=tuple(kinds[name] for name in columns),
        )


@dataclass(frozen=True, slots=True)
class Split:
    """A read that is to be cut.

    Attributes
    ----------
    whole : Query
        The read itself.
    bounds : Query
        Which rows are the first ones of a part, but for the first part, in order.
    part : function
        Gives the rows from one bound up to another; None is no bound.
    """

    whole: Query
    bounds: Query
    part: Callable[[_Bound | None, _Bound | None], Rows]

    def parts(self, bounds: Sequence[_Bound]) -> list[Rows]:
        """Give the reads of all parts."""
        return [
            self.part(low, high) for low, high in zip([None, *bounds], [*bounds, None], strict=True)
        ]


def region_split(
    box: Box, where: TokenFilter, columns: Sequence[str] | None, count: PartCount
) -> Split:
    """Cut a region across the axis on which its tokens lie furthest apart."""
    # The planner takes a region for one row, and would count all of it again for each of its rows:
    # so what is made of it once is fenced in.
    whole = regions.region(box, where, columns)
    extents = ", ".join(f"max({axis}) - min({axis}) AS d{axis}" for axis in "xyz")
    statement = (
        "WITH inside AS MATERIALIZED (SELECT ST_X(geom) AS x, ST_Y(geom) AS y, ST_Z(geom) AS z,"
        f" token_id FROM tokens.spatial_index{clause(box.conditions() + where.conditions())}),"
        f" extents AS (SELECT count(*) AS rows, {extents} FROM inside),"
        f" cut AS MATERIALIZED (SELECT rows, {count.sql()} AS parts,"
        " CASE greatest(dx, dy, dz) WHEN dx THEN 0 WHEN dy THEN 1 ELSE 2 END AS axis FROM extents),"
        " placed AS (SELECT cut.*, token_id, CASE axis WHEN 0 THEN x WHEN 1 THEN y ELSE z END"
        " AS place FROM inside CROSS JOIN cut),"
        f" {_firsts('place, token_id')}"
        ' SELECT axis, place, token_id::text AS "token_id" FROM firsts ORDER BY before'
    )

    def part(low: _Bound | None, high: _Bound | None) -> Rows:
        reach, ties = box, []
        for bound, is_low in ((low, True), (high, False)):
            if bound is None:
                continue
            axis, place = int(bound["axis"]), float(bound["place"])
            # Up to the bound itself, which the index can find; among what lies exactly there, the
            # id decides.
            reach = _reaching(reach, axis, place, is_low)
            inner, side = (">", ">=") if is_low else ("<", "<")
            ties.append(
                f"(ST_{_AXES[axis]}(geom) {inner} {sql.float8(place)}"
                f" OR spatial_index.token_id {side} {sql.text(bound['token_id'])}::uuid)"
            )
        return RegionRows(reach, where, tuple(ties))

    return Split(whole, Query(statement, _REGION_BOUND, whole.relations), part)


def _reaching(box: Box, axis: int, place: float, is_low: bool) -> Box:
    if is_low:
        return replace(box, low=moved(box.low, axis, place))
    return replace(box, high=moved(box.high, axis, place))


def event_split(whole: Query, count: PartCount) -> Split:
    """Cut a read of events by time; it gives them in their order."""
    key = ", ".join(f'{made} AS "{column.name}"' for column, made in _EVENT_KEY.items())
    names = ", ".join(f'"{column.name}"' for column in _EVENT_KEY)
    statement = (
        f"WITH inside AS MATERIALIZED (SELECT {key} FROM ({whole.sql}) AS whole),"
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
                sql.text(bound["event_id"]),
            )
            # The index on times answers the first alone.
            conditions += [
                f'"timestamp" {side[0]}= {moment}',
                f"({_EVENT_ORDER}) {side} ({', '.join(values)})",
            ]
        # Parts behind each other have the order of the whole.
        return EventRows(whole, tuple(conditions))

    return Split(whole, Query(statement, tuple(_EVENT_KEY), whole.relations), part)


def _firsts(order: str) -> str:
    """Give the common table expressions of the first row of each part but the first.

    A row with b others `before` it is in part ``b * parts / rows``, rounded down: so the sizes of
    parts differ by one at most.
    """
    return (
        f"numbered AS (SELECT *, row_number() OVER (ORDER BY {order}) - 1 AS before FROM placed),"
        " firsts AS (SELECT * FROM numbered WHERE before > 0"
        " AND before * parts / rows > (before - 1) * parts / rows)"
    )


def head(query: Query) -> Query:
    """Give a read that has no rows, for the dtypes."""
    return replace(query, sql=f"SELECT * FROM ({query.sql}) AS whole LIMIT 0", region=None)
