"""A region inside a region: answered from the larger one's answer, by a filter in memory.

The rows are exactly those that the server would return: the filter makes the same float64
comparisons of the same values.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ngdata._query.model import Query, Region
from ngdata._query.places import Place
from ngdata._reading.answer import Answer
from ngdata.regions.algebra import Intersection

__all__ = ["contained_answer", "contains"]


def contains(outer: Query, inner: Query) -> bool:
    """Return whether the answer to a region holds all of another's."""
    if inner.region is None or outer.region is None or not _contains(outer.region, inner.region):
        return False
    # The version of an answer is that of its relations.
    if inner.relations != outer.relations:
        return False
    available = {column.name for column in outer.columns}
    needed = {column.name for column in inner.columns} | _filter_columns(inner.region, outer.region)
    return needed <= available


def contained_answer(inner: Query, outer: Query, answer: Answer) -> Answer:
    """Return the answer to a region from the answer to another one that contains it."""
    assert inner.region is not None
    assert outer.region is not None
    rows = answer.table.filter(_mask(inner.region, outer.region, answer.table))
    rows = rows.select([column.name for column in inner.columns])
    return Answer(rows, inner.columns, answer.version, answer.read_at, answer.unit, answer.snapshot)


def _contains(outer: Region, inner: Region) -> bool:
    # The places first: many regions are compared for each read.
    if not _place_contains(outer.place, inner.place):
        return False
    wide, narrow = outer.where, inner.where
    wide_types, narrow_types = wide.types(), narrow.types()
    types_contain = wide_types is None or (narrow_types is not None and narrow_types <= wide_types)
    flags_contain = wide.flags is None or (
        narrow.flags is not None and int(narrow.flags) & int(wide.flags) == int(wide.flags)
    )
    weights_contain = wide.min_weight is None or (
        narrow.min_weight is not None and float(narrow.min_weight) >= float(wide.min_weight)
    )
    # The answer has no metadata to compare, or only as text.
    same_metadata = wide.where == narrow.where
    return types_contain and same_metadata and flags_contain and weights_contain


def _place_contains(outer: Place, inner: Place) -> bool:
    """Return whether one place surely holds another, whose points then can be told apart in memory."""
    if outer.level != inner.level:
        return False
    if outer.is_box and inner.is_box:
        return _box_contains(outer.region, inner.region)
    if outer.region == inner.region:
        return True
    # A frame has points of one level only.
    if inner.region._levels != {None}:
        return False
    if isinstance(inner.region, Intersection) and outer.region in inner.region.parts:
        return True
    corners = inner.corners
    if corners is None:
        return True
    low, high = (np.array([corner]) for corner in corners)
    is_inside, _ = outer.region._classify((low, high), outer.level)
    return bool(is_inside[0])


def _box_contains(outer: Any, inner: Any) -> bool:
    # Written out: a loop would take several times as long.
    (a, b, c), (d, e, f) = outer.min_coords, inner.min_coords
    if not (a <= d and b <= e and c <= f):
        return False
    (a, b, c), (d, e, f) = outer.max_coords, inner.max_coords
    return bool(a >= d and b >= e and c >= f)


def _filter_columns(inner: Region, outer: Region) -> set[str]:
    """Return the names of the columns that the filter compares."""
    names = _compared_axes(inner.place, outer.place)
    if inner.where.types() != outer.where.types():
        names.add("token_type")
    if inner.where.flags != outer.where.flags:
        names.add("flags")
    if inner.where.min_weight != outer.where.min_weight:
        names.add("weight")
    return names


def _compared_axes(inner: Place, outer: Place) -> set[str]:
    if inner.region == outer.region:
        return set()
    if not (inner.is_box and outer.is_box):
        return set("xyz")
    corners = zip("xyz", *(inner.corners or ()), *(outer.corners or ()), strict=True)
    return {axis for axis, a, b, c, d in corners if a != c or b != d}


def _mask(inner: Region, outer: Region, table: pa.Table) -> pa.Array:
    names = _filter_columns(inner, outer)
    masks: list[np.ndarray] = [np.ones(table.num_rows, bool)]
    if inner.place.is_box and outer.place.is_box:
        # Only the axes on which the two boxes differ: the others need not be columns.
        for axis, low, high in zip("xyz", *(inner.place.corners or ()), strict=True):
            if axis in names:
                values = table[axis].to_numpy()
                masks += [values >= low] if low != -math.inf else []
                masks += [values <= high] if high != math.inf else []
    elif inner.place.region != outer.place.region:
        points = np.column_stack([table[axis].to_numpy() for axis in "xyz"])
        masks.append(inner.place.region.contains(points))
    if "token_type" in names:
        types = pa.array(sorted(inner.where.types() or ()), pa.string())
        masks.append(pc.is_in(table["token_type"], value_set=types).to_numpy())
    if "flags" in names:
        bits = int(inner.where.flags or 0)
        masks.append((table["flags"].to_numpy().astype(np.int64) & bits) == bits)
    if "weight" in names:
        masks.append(table["weight"].to_numpy() >= float(inner.where.min_weight or 0.0))
    return pa.array(functools.reduce(np.logical_and, masks))
