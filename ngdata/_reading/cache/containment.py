"""A region inside a region: answered from the larger one's answer, by a filter in memory.

The rows are exactly those that the server would return: the filter makes the same float64
comparisons of the same values.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ngdata._query.model import Query, Region
from ngdata._reading.answer import Answer

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
    return Answer(rows, inner.columns, answer.version, answer.read_at, answer.unit)


def _contains(outer: Region, inner: Region) -> bool:
    # The boxes first, written out: many regions are compared for each read.
    (a, b, c), (d, e, f) = outer.box.low, inner.box.low
    if not (a <= d and b <= e and c <= f and outer.box.level == inner.box.level):
        return False
    (a, b, c), (d, e, f) = outer.box.high, inner.box.high
    if not (a >= d and b >= e and c >= f):
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


def _filter_columns(inner: Region, outer: Region) -> set[str]:
    """Return the names of the columns that the filter compares."""
    names = {
        axis
        for axis, a, b, c, d in zip(
            "xyz", inner.box.low, outer.box.low, inner.box.high, outer.box.high, strict=True
        )
        if a != b or c != d
    }
    if inner.where.types() != outer.where.types():
        names.add("token_type")
    if inner.where.flags != outer.where.flags:
        names.add("flags")
    if inner.where.min_weight != outer.where.min_weight:
        names.add("weight")
    return names


def _mask(inner: Region, outer: Region, table: pa.Table) -> pa.Array:
    names = _filter_columns(inner, outer)
    masks: list[np.ndarray] = [np.ones(table.num_rows, bool)]
    for axis, low, high in zip("xyz", inner.box.low, inner.box.high, strict=True):
        if axis in names:
            values = table[axis].to_numpy()
            masks += [values >= low] if low != -math.inf else []
            masks += [values <= high] if high != math.inf else []
    if "token_type" in names:
        types = pa.array(sorted(inner.where.types() or ()), pa.string())
        masks.append(pc.is_in(table["token_type"], value_set=types).to_numpy())
    if "flags" in names:
        bits = int(inner.where.flags or 0)
        masks.append((table["flags"].to_numpy().astype(np.int64) & bits) == bits)
    if "weight" in names:
        masks.append(table["weight"].to_numpy() >= float(inner.where.min_weight or 0.0))
    return pa.array(functools.reduce(np.logical_and, masks))
