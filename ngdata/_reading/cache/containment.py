"""A region inside a region: answered out of the larger one's answer, by a filter in memory.

Exactly the rows that the server would give: the same float64 comparisons on the same values.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ngdata._query.model import Query, Region
from ngdata._reading.answer import Answer

__all__ = ["answered_by"]


def answered_by(inner: Query, outer: Query, answer: Answer) -> Answer | None:
    """Answer a region out of another's answer, if that holds all that is needed."""
    if inner.region is None or outer.region is None:
        return None
    if not _contains(outer.region, inner.region):
        return None
    names = set(answer.table.column_names)
    needed = {column.name for column in inner.columns} | _filtered_by(inner.region, outer.region)
    if not needed <= names:
        return None
    rows = answer.table.filter(_mask(inner.region, outer.region, answer.table))
    rows = rows.select([column.name for column in inner.columns])
    return Answer(rows, inner.columns, answer.version, answer.read_at)


def _contains(outer: Region, inner: Region) -> bool:
    boxes = (
        outer.box.level == inner.box.level
        and all(a <= b for a, b in zip(outer.box.low, inner.box.low, strict=True))
        and all(a >= b for a, b in zip(outer.box.high, inner.box.high, strict=True))
    )
    if not boxes:
        return False
    wide, narrow = outer.where, inner.where
    all_types, types_wanted = wide.types(), narrow.types()
    types = all_types is None or (types_wanted is not None and types_wanted <= all_types)
    flags = wide.flags is None or (
        narrow.flags is not None and int(narrow.flags) & int(wide.flags) == int(wide.flags)
    )
    weights = wide.min_weight is None or (
        narrow.min_weight is not None and float(narrow.min_weight) >= float(wide.min_weight)
    )
    return types and flags and weights


def _filtered_by(inner: Region, outer: Region) -> set[str]:
    """Name the columns that the filter looks at."""
    found = {
        axis
        for axis, a, b, c, d in zip(
            "xyz", inner.box.low, outer.box.low, inner.box.high, outer.box.high, strict=True
        )
        if a != b or c != d
    }
    if inner.where.types() != outer.where.types():
        found.add("token_type")
    if inner.where.flags != outer.where.flags:
        found.add("flags")
    if inner.where.min_weight != outer.where.min_weight:
        found.add("weight")
    return found


def _mask(inner: Region, outer: Region, table: pa.Table) -> pa.Array:
    looked_at = _filtered_by(inner, outer)
    masks: list[np.ndarray] = [np.ones(table.num_rows, bool)]
    for axis, low, high in zip("xyz", inner.box.low, inner.box.high, strict=True):
        if axis in looked_at:
            values = table[axis].to_numpy()
            masks += [values >= low] if low != -math.inf else []
            masks += [values <= high] if high != math.inf else []
    if "token_type" in looked_at:
        wanted = pa.array(sorted(inner.where.types() or ()), pa.string())
        masks.append(pc.is_in(table["token_type"], value_set=wanted).to_numpy())
    if "flags" in looked_at:
        bits = int(inner.where.flags or 0)
        masks.append((table["flags"].to_numpy().astype(np.int64) & bits) == bits)
    if "weight" in looked_at:
        masks.append(table["weight"].to_numpy() >= float(inner.where.min_weight or 0.0))
    return pa.array(functools.reduce(np.logical_and, masks))
