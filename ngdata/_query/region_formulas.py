"""The exact formula of a region in SQL: the same operations in the same order as `Region.contains`.

`geom` is the point of a row of `tokens.spatial_index` on the level of the read, and `token_id` its
token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from ngdata._query import literals as sql
from ngdata._query.index_boxes import halves, point_sql
from ngdata.regions.algebra import Box, Complement, Intersection, Region, Shape, Union
from ngdata.regions.cells import INSIDE, OUTSIDE, CellStates, cell_states
from ngdata.regions.corners import Corners, is_finite, joined
from ngdata.regions.hulls import Hull
from ngdata.regions.meshes import Mesh
from ngdata.regions.shapes import HalfSpace, OrientedBox, Sphere

__all__ = ["box_comparisons", "formulas", "only_level", "parts_by_level"]

OnOtherLevel: TypeAlias = Callable[[Region, int], str]
"""Writes the condition that a token is in a region on another level."""

_POINT: Final = ("ST_X(geom)", "ST_Y(geom)", "ST_Z(geom)")

# A formula of many comparisons takes the coordinates out of the point once.
_MIN_COST: Final = 4
_NAMES: Final = ("x", "y", "z")
_NAMED_POINT: Final = (
    f"(SELECT {', '.join(f'{e} AS {name}' for e, name in zip(_POINT, _NAMES, strict=True))}"
    " OFFSET 0) AS point"
)

# The arrays of a mesh, by `Surface.edges` and `Surface.planes`.
_EDGE: Final = ("y_low", "y_high", "x_low", "dx", "dy")
_PLANE: Final = ("z_low", "z_high", "ax", "ay", "az", "a", "b", "c")

# Parts of a union that are compared one by one; more are first told apart by the boxes around groups.
_GROUP: Final = 4


def box_comparisons(corners: Corners, point: Sequence[str] = _POINT) -> list[str]:
    """Write the exact comparisons of a box, which no index answers; none for an infinite side."""
    conditions = []
    for expression, low, high in zip(point, *corners, strict=True):
        if low != -math.inf:
            conditions.append(f"{expression} >= {sql.float8(low)}")
        if high != math.inf:
            conditions.append(f"{expression} <= {sql.float8(high)}")
    return conditions


def formulas(region: Region, level: int, on_other_level: OnOtherLevel) -> list[str]:
    """Write the conditions that together are the region's formula; none if it always holds."""
    other = only_level(region)
    if other is not None:
        return [on_other_level(region, other)]
    states = cell_states(region, level)
    if states is None and isinstance(region, Intersection):
        parts = parts_by_level(region, Intersection)
        return [each for part in parts for each in formulas(part, level, on_other_level)]
    if states is None and isinstance(region, Box) and region.level is None:
        return box_comparisons(region._extent)
    if region._cost < _MIN_COST:
        return [f"({_Writer(_POINT, on_other_level).formula(region)})"]
    exact = f"(SELECT {_Writer(_NAMES, on_other_level).formula(region)} FROM {_NAMED_POINT})"
    return [exact if states is None else _by_cell(states, exact)]


def only_level(region: Region) -> int | None:
    """Return the level that all parts are bound to; None if there are several, or the read's own."""
    return next(iter(region._levels)) if len(region._levels) == 1 else None


def parts_by_level(
    region: Intersection | Union, kind: type[Intersection] | type[Union]
) -> list[Region]:
    """Return the parts, those on the same other level as one: it is read once."""
    own: list[Region] = []
    others: dict[int, list[Region]] = {}
    for part in region.parts:
        other = only_level(part)
        (own if other is None else others.setdefault(other, [])).append(part)
    return own + [kind.of(parts) for parts in others.values()]


def _by_cell(states: CellStates, exact: str) -> str:
    """Write the look at the cell of a point, and the exact formula for cells that do not decide."""
    size = states.cells + 2
    x, y, z = (
        f"width_bucket({expression}, {sql.float8(low)}, {sql.float8(high)}, {states.cells})"
        for expression, low, high in zip(_POINT, states.low, states.high, strict=True)
    )
    number = f"({x} * {size} + {y}) * {size} + {z}"
    state = f"get_byte({sql.byte_array(states.states.tobytes())}, {number})"
    return f"CASE {state} WHEN {OUTSIDE} THEN false WHEN {INSIDE} THEN true ELSE {exact} END"


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes formulas of one point.

    Attributes
    ----------
    point : sequence of str
        Its coordinates in SQL.
    on_other_level : function
    """

    point: Sequence[str]
    on_other_level: OnOtherLevel

    def formula(self, region: Region) -> str:
        """Write one condition, which is never NULL."""
        other = only_level(region)
        if other is not None:
            return self.on_other_level(region, other)
        match region:
            case Complement():
                return f"NOT ({self._shape(region.shape)})"
            case Union():
                return self._any_of(parts_by_level(region, Union))
            case Intersection():
                return self._all_of(parts_by_level(region, Intersection))
        assert isinstance(region, Shape)
        return self._shape(region)

    def _all_of(self, parts: list[Region]) -> str:
        # What is excluded on this level, if it is much, is one union that excludes.
        excluded: list[Region] = []
        others: list[Region] = []
        for part in parts:
            if isinstance(part, Complement) and part.shape.level is None:
                excluded.append(part.shape)
            else:
                others.append(part)
        if len(excluded) <= _GROUP:
            return " AND ".join(f"({self.formula(part)})" for part in parts)
        none = f"NOT ({self._any_of(excluded)})"
        return " AND ".join([*(f"({self.formula(part)})" for part in others), none])

    def _any_of(self, parts: list[Region]) -> str:
        if len(parts) <= _GROUP:
            return " OR ".join(f"({self.formula(part)})" for part in parts)
        bounded: list[Region] = []
        others: list[Region] = []
        for part in parts:
            corners = joined(part._corners(None))
            is_bounded = corners is not None and is_finite(corners)
            (bounded if is_bounded else others).append(part)
        conditions = [f"({self.formula(part)})" for part in others]
        if bounded:
            conditions.append(self._in_groups(bounded))
        return " OR ".join(conditions)

    def _in_groups(self, parts: list[Region]) -> str:
        """Write a union as a tree of boxes around its parts, halved along the longest axis."""
        corners = [around for part in parts if (around := joined(part._corners(None))) is not None]
        around = joined(corners)
        assert around is not None
        if len(parts) <= _GROUP:
            inner = " OR ".join(f"({self.formula(part)})" for part in parts)
        else:
            inner = " OR ".join(
                self._in_groups([parts[i] for i in half]) for half in halves(corners)
            )
        return f"({' AND '.join(box_comparisons(around, self.point))} AND ({inner}))"

    def _shape(self, shape: Shape) -> str:
        match shape:
            case Box():
                return " AND ".join(box_comparisons(shape._extent, self.point)) or "true"
            case Sphere():
                return f"geom <<->> {point_sql(shape.center)} <= {sql.float8(shape.radius)}"
            case HalfSpace():
                bound = sql.float8(shape._bound_value)
                return f"{_linear(shape._coefficients, self.point)} <= {bound}"
            case OrientedBox():
                moved = [
                    f"({expression} - {sql.float8(c)})"
                    for expression, c in zip(self.point, shape.center, strict=True)
                ]
                return " AND ".join(
                    f"abs({_linear(coefficients, moved)}) <= {sql.float8(size)}"
                    for coefficients, size in shape._planes
                )
            case Hull():
                facets = zip(shape._facets.tolist(), shape._offsets.tolist(), strict=True)
                inside = [
                    f"{_linear(facet, self.point)} <= {sql.float8(offset)}"
                    for facet, offset in facets
                ]
                return " AND ".join([*box_comparisons(shape._extent, self.point), *inside])
            case Mesh():
                around = box_comparisons(shape._extent, self.point)
                return " AND ".join([*around, _parity(shape, self.point)])
        raise AssertionError(f"unknown shape {type(shape)}")


def _linear(coefficients: Sequence[float], point: Sequence[str]) -> str:
    """Write ``(a * x + b * y) + c * z`` without the terms that are 0."""
    terms = [
        f"{sql.float8(c)} * {expression}"
        for c, expression in zip(coefficients, point, strict=True)
        if c
    ]
    return (
        f"(({terms[0]} + {terms[1]}) + {terms[2]})" if len(terms) == 3 else f"({' + '.join(terms)})"
    )


def _parity(mesh: Mesh, point: Sequence[str]) -> str:
    """Write whether an odd number of triangles lies above a point, as `Surface.has_inside` counts."""
    surface, (x, y, z) = mesh._surface, point
    column_x, column_y = (
        f"width_bucket({value}, {sql.float8(low)}, {sql.float8(high)}, {surface.columns})"
        for value, low, high in zip(
            (x, y), surface.low.tolist(), surface.high.tolist(), strict=True
        )
    )
    # Positions in SQL begin with 1.
    arrays = {
        "starts": sql.int_array(surface.starts + 1),
        "listed": sql.int_array(surface.listed + 1),
    }
    for edge in range(3):
        values = surface.edges[:, edge].T.tolist()
        arrays |= {
            f"{name}{edge}": sql.float8_array(v) for name, v in zip(_EDGE, values, strict=True)
        }
    planes = zip(_PLANE, surface.planes.T.tolist(), strict=True)
    arrays |= {name: sql.float8_array(values) for name, values in planes}
    constants = ", ".join(f"{values} AS {name}" for name, values in arrays.items())
    hits = [
        f"({y} >= m.y_low{n}[f] AND {y} < m.y_high{n}[f] AND m.dx{n}[f] * ({y} - m.y_low{n}[f])"
        f" - m.dy{n}[f] * ({x} - m.x_low{n}[f]) > '0'::float8)"
        for n in range(3)
    ]
    return (
        f"(SELECT count(*) % 2 = 1 FROM (SELECT {constants}) AS m, LATERAL"
        f" (SELECT {column_x} * {surface.columns + 2} + {column_y} + 1 AS number OFFSET 0) AS place,"
        " LATERAL unnest(m.listed[m.starts[number]:m.starts[number + 1] - 1]) AS f"
        f" WHERE ({hits[0]} <> {hits[1]}) <> {hits[2]}"
        f" AND ({z} < m.z_low[f] OR ({z} < m.z_high[f] AND m.c[f] > '0'::float8 AND"
        f" (m.a[f] * ({x} - m.ax[f]) + m.b[f] * ({y} - m.ay[f])) + m.c[f] * ({z} - m.az[f])"
        " < '0'::float8)))"
    )
