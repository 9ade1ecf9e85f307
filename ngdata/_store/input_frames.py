"""Frames on their way in, whoever made them: as DataFrames, with the columns that are known.

What stands in a column is checked in `ngdata._store.columns`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import pandas as pd
import pyarrow as pa

from ngdata._arguments.suggestions import did_you_mean
from ngdata.errors import InvalidQueryError

__all__ = ["Frame", "incoming", "one_row"]

Frame: TypeAlias = "pd.DataFrame | Mapping[str, Any] | Any"
"""What bulk writes take: a DataFrame, a mapping of columns, an Arrow or a Polars table."""

_NULLABLE: Final = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}


def incoming(frame: Frame, required: Sequence[str], optional: Sequence[str]) -> pd.DataFrame:
    """Take a frame, whoever made it, and check its columns' names.

    Raises
    ------
    InvalidQueryError
        For a column that is missing, unknown, or there twice.
    """
    if isinstance(frame, pd.DataFrame):
        taken = frame
    elif hasattr(frame, "__arrow_c_stream__") and not isinstance(frame, pd.Series):
        taken = _of_arrow(frame)
    elif isinstance(frame, Mapping):
        taken = _of_columns(frame)
    else:
        raise InvalidQueryError(
            "a bulk write takes a DataFrame, a mapping of columns, an Arrow or a Polars table, not "
            f"{type(frame).__name__}"
        )
    known = [*required, *optional]
    for name in taken.columns:
        if name not in known:
            hint = did_you_mean(name, known)
            raise InvalidQueryError(
                f"there is no column {name!r} to write, only {', '.join(known)}{hint}"
            )
    if not taken.columns.is_unique:
        raise InvalidQueryError(f"a column stands twice among {', '.join(taken.columns)}")
    missing = [name for name in required if name not in taken.columns]
    if missing:
        raise InvalidQueryError(f"the frame lacks the column {', '.join(missing)}")
    return taken


_NUMBERS: Final = ("weight", "decay_rate", "reward", "priority")


def one_row(values: Mapping[str, Any]) -> pd.DataFrame:
    """Make a frame of single values, kept as the objects that they are.

    In a column NaN means not given, but an argument that is NaN was computed, and went wrong.
    """
    for name in _NUMBERS:
        if isinstance(value := values.get(name), float) and math.isnan(value):
            raise InvalidQueryError(
                f"{name} must be a number, not nan; leave it out for its default"
            )
    return pd.DataFrame(
        {name: pd.Series([value], dtype=object) for name, value in values.items()}, index=[0]
    )


def _of_arrow(frame: Any) -> pd.DataFrame:
    try:
        table = pa.table(frame)
    except pa.ArrowInvalid as error:
        raise InvalidQueryError(
            f"a {type(frame).__name__} makes no frame, it needs columns with names: {error}"
        ) from None
    # By place, for two columns may have one name.
    columns = {place: _of_arrow_column(values) for place, values in enumerate(table.columns)}
    taken = pd.DataFrame(columns, index=range(table.num_rows))
    return taken.set_axis(table.column_names, axis=1)


def _of_arrow_column(values: Any) -> Any:
    # By way of NumPy, a column of Arrow or Polars would lose its time zone.
    if isinstance(values, pd.Series):
        return values
    if hasattr(values, "__arrow_c_stream__"):
        values = pa.chunked_array(values)
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if pa.types.is_nested(values.type):
        # By way of NumPy, integers in a struct would be floats where one is missing.
        return pd.Series(_listed(values), dtype=object)
    return values.to_pandas(types_mapper=_NULLABLE.get)


def _listed(values: Any) -> list[Any]:
    try:
        listed: list[Any] = values.to_pylist(maps_as_pydicts="strict")
    except KeyError as error:
        raise InvalidQueryError(f"a map makes no dict: {error.args[0]}") from None
    return listed


def _of_columns(columns: Mapping[str, Any]) -> pd.DataFrame:
    try:
        return pd.DataFrame({name: _of_arrow_column(values) for name, values in columns.items()})
    except ValueError as error:
        raise InvalidQueryError(f"the columns make no frame: {error}") from None
