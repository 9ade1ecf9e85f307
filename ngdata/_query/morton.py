"""The order of a Morton curve: points that are near each other in space are near each other in it.

The rows of the spatial index are in this order, so that those of a region are on few pages, and those of
data sets, so that their row groups are boxes that overlap little.  The server sorts, on disk what its
memory does not hold.  PostGIS has an order of its own for geometries, but along a curve in the plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from ngdata._query import literals as sql
from ngdata._query.attributes import IndexRows
from ngdata._query.filters import TokenFilter, where_clause
from ngdata._query.footprints import Footprint
from ngdata._query.model import Column, Kind, Query
from ngdata._query.places import Place

__all__ = ["Box", "extent", "key", "most_points", "order"]

_AXES: Final = ("ST_X(geom)", "ST_Y(geom)", "ST_Z(geom)")

# A place on an axis is two digits of this number of bits, which a table spreads: every third bit is its own.
_DIGIT_BITS: Final = 8
_CELLS: Final = 1 << (2 * _DIGIT_BITS)
_SPREAD: Final = [
    sum((digit >> bit & 1) << (3 * bit) for bit in range(_DIGIT_BITS))
    for digit in range(1 << _DIGIT_BITS)
]

# The least and the greatest points do not count: a single one far away would put all others in one cell.
_SHARES: Final = (0.01, 0.99)
# One row of this number decides where they are.
_SAMPLED: Final = 16


class Box(NamedTuple):
    """The corners of the box that a curve fills."""

    low: Sequence[float]
    high: Sequence[float]

    @classmethod
    def around(cls, numbers: Sequence[float]) -> Box:
        """Return the box around the points of which `most_points` returned these numbers.

        It is twice as wide as they are apart: then points that are spread evenly, or like a bell, are
        all in it.
        """
        lows, highs = numbers[:3], numbers[3:]
        margins = [(high - low) / 2 for low, high in zip(lows, highs, strict=True)]
        return cls(
            [low - margin for low, margin in zip(lows, margins, strict=True)],
            [high + margin for high, margin in zip(highs, margins, strict=True)],
        )


def most_points(axes: Sequence[str] = _AXES, only: str = "") -> list[str]:
    """Write what to select for a `Box`: between which numbers most points are, on each of the axes.

    Parameters
    ----------
    axes : sequence of str
        The coordinates of a row.
    only : str
        A condition on the rows to count.
    """
    where = f" FILTER (WHERE {only})" if only else ""
    return [
        f"coalesce(percentile_disc({share}) WITHIN GROUP (ORDER BY {axis}){where}, 0)"
        for share in _SHARES
        for axis in axes
    ]


def extent(place: Place, where: TokenFilter) -> Query:
    """Read the number of tokens in a region, and the numbers of a `Box`."""
    source = IndexRows.of(where)
    numbers = most_points(only=f"uuid_hash(spatial_index.token_id) % {_SAMPLED} = 0")
    bounds = {Column(f"number_{n}", Kind.FLOAT): text for n, text in enumerate(numbers)}
    selected = ", ".join(f'{text} AS "{column.name}"' for column, text in bounds.items())
    return Query(
        f'SELECT count(*) AS "count", {selected} FROM {source.sql}'
        f"{where_clause(source.conditions(place))}",
        (Column("count", Kind.INTEGER), *bounds),
        source.relations,
        is_small=True,
        footprint=Footprint(place=place),
    )


def key(box: Box, axes: Sequence[str] = _AXES) -> str:
    """Write the number of a row's point along the curve through a box.

    Points beyond the box have the numbers of its sides.
    """
    spread = f"({sql.int_array(_SPREAD)})"
    terms = []
    for number, (axis, low, high) in enumerate(zip(axes, box.low, box.high, strict=True)):
        if not low < high:
            continue
        # width_bucket, because in PostgreSQL a difference times a small factor may be an error (underflow).
        bucket = f"width_bucket({axis}, {sql.float8(low)}, {sql.float8(high)}, {_CELLS})"
        cell = f"least(greatest({bucket}, 1), {_CELLS}) - 1"
        coarse, fine = f"({cell}) >> {_DIGIT_BITS}", f"({cell}) & {(1 << _DIGIT_BITS) - 1}"
        terms += [
            f"({spread}[({digit}) + 1]::int8 << {shift + number})"
            for digit, shift in ((coarse, 3 * _DIGIT_BITS), (fine, 0))
        ]
    return f"({' | '.join(terms) or '0::int8'})"


def order(box: Box) -> str:
    """Write the terms of ORDER BY for rows of the spatial index: along the curve, then by id."""
    return f"{key(box)}, spatial_index.token_id"
