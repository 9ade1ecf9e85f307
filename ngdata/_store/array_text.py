"""Arrays of eight floats as PostgreSQL's text; Arrow writes each float so that it reads back the same."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ngdata._arguments.levels import LEVELS

__all__ = ["ARRAY_ELEMENT", "array_element", "array_text"]

ARRAY_ELEMENT: Final = pa.struct([("index", pa.int8()), ("value", pa.float64())])
"""The one element of an array that is not NULL: its place, and its value."""

_BEFORE: Final = pa.array(["{" + "NULL," * index for index in range(len(LEVELS))])
_AFTER: Final = pa.array([",NULL" * index + "}" for index in reversed(range(len(LEVELS)))])


def array_element(indexes: np.ndarray, values: np.ndarray) -> pa.StructArray:
    """Return arrays that have one element each, in a seventh of the memory of all eight; not a copy."""
    fields = list(ARRAY_ELEMENT)
    return pa.StructArray.from_arrays([pa.array(indexes, pa.int8()), values], fields=fields)


def array_text(column: pa.Array) -> pa.Array:
    """Return a column of `ARRAY_ELEMENT`, or of lists with NaN for NULL, as text; any other as it is.

    Examples
    --------
    >>> from ngdata._store.array_text import array_element, array_text
    >>> array_text(array_element(np.array([6]), np.array([0.1]))).to_pylist()
    ['{NULL,NULL,NULL,NULL,NULL,NULL,0.1,NULL}']
    """
    if column.type == ARRAY_ELEMENT:
        indexes, values = column.flatten()
        before, after = _BEFORE.take(indexes), _AFTER.take(indexes)
        return pc.binary_join_element_wise(before, values.cast(pa.string()), after, "")
    if not pa.types.is_fixed_size_list(column.type):
        return column
    rows = column.flatten().to_numpy().reshape(-1, column.type.list_size)
    elements = [
        pa.array(np.ascontiguousarray(values), mask=np.isnan(values)).cast(pa.string())
        for values in rows.T
    ]
    joined = pc.binary_join_element_wise(
        *elements, ",", null_handling="replace", null_replacement="NULL"
    )
    return pc.binary_join_element_wise("{", joined, "}", "")
