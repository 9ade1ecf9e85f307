"""Regions in the order of a Morton curve, for files whose row groups are boxes that overlap little.

The order is the server's, so one statement reads it, of one moment, whatever the number of rows: the
server sorts on disk what its memory does not hold.  PostGIS has an order of its own for geometries,
but along a curve in the plane.
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

__all__ = ["Extent", "extent", "order"]

_AXES: Final = ("X", "Y", "Z")

# A place on an axis is two digits of this number of bits, which a table spreads: every third bit is its own.
_DIGIT_BITS: Final = 8
_CELLS: Final = 1 << (2 * _DIGIT_BITS)
_SPREAD: Final = [
    sum((digit >> bit & 1) << (3 * bit) for bit in range(_DIGIT_BITS))
    for digit in range(1 << _DIGIT_BITS)
]


class Extent(NamedTuple):
    """How many tokens a region has, and the corners of the box around them."""

    rows: int
    low: Sequence[float]
    high: Sequence[float]


def extent(place: Place, where: TokenFilter) -> Query:
    """Read the values of an `Extent`: one row; zeros of a region without tokens."""
    source = IndexRows.of(where)
    bounds = {
        Column(f"{side}_{axis}", Kind.FLOAT): f"coalesce({side}(ST_{axis}(geom)), 0)"
        for side in ("min", "max")
        for axis in _AXES
    }
    selected = ", ".join(f'{text} AS "{column.name}"' for column, text in bounds.items())
    return Query(
        f'SELECT count(*) AS "count", {selected} FROM {source.sql}'
        f"{where_clause(source.conditions(place))}",
        (Column("count", Kind.INTEGER), *bounds),
        source.relations,
        is_small=True,
        footprint=Footprint(place=place),
    )


def order(around: Extent) -> str:
    """Write the terms of ORDER BY: along the curve through a box, then by id.

    Points beyond the box, which were written since it was read, are in the order of its sides.
    """
    spread = f"({sql.int_array(_SPREAD)})"
    terms = []
    for number, (axis, low, high) in enumerate(zip(_AXES, around.low, around.high, strict=True)):
        if not low < high:
            continue
        # width_bucket, because in PostgreSQL a difference times a small factor may be an error (underflow).
        bucket = f"width_bucket(ST_{axis}(geom), {sql.float8(low)}, {sql.float8(high)}, {_CELLS})"
        cell = f"least(greatest({bucket}, 1), {_CELLS}) - 1"
        coarse, fine = f"({cell}) >> {_DIGIT_BITS}", f"({cell}) & {(1 << _DIGIT_BITS) - 1}"
        terms += [
            f"({spread}[({digit}) + 1]::int8 << {shift + number})"
            for digit, shift in ((coarse, 3 * _DIGIT_BITS), (fine, 0))
        ]
    return ", ".join([*([" | ".join(terms)] if terms else []), "spatial_index.token_id"])
