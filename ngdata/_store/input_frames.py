"""Frames of any library as DataFrames, with the names of their columns checked.

The values in a column are checked by `ngdata._store.fields`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import pandas as pd
import pyarrow as pa

from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.suggestions import did_you_mean
from ngdata.errors import InvalidQueryError

__all__ = ["Frame", "as_dataframe"]

Frame: TypeAlias = "pd.DataFrame | Mapping[str, Any] | Any"
"""What bulk writes accept: a DataFrame, a mapping of columns, an Arrow or a Polars table."""

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


def as_dataframe(frame: Frame, required: Sequence[str], optional: Sequence[str]) -> pd.DataFrame:
    """Return a frame of any library as a DataFrame, and check the names of its columns.

    Raises
    ------
    InvalidQueryError
        For a column that is missing, unknown, or duplicate.
    """
    return _as_dataframe(frame, required, optional)


@guarded
def _as_dataframe(
    frame: Any, required: Sequence[str], optional: Sequence[str], name: str = "the frame"
) -> pd.DataFrame:
    if isinstance(frame, pd.DataFrame):
        dataframe = frame
    elif hasattr(frame, "__arrow_c_stream__") and not isinstance(frame, pd.Series):
        dataframe = _from_arrow(frame)
    elif isinstance(frame, Mapping):
        dataframe = _from_mapping(frame)
    else:
        raise InvalidQueryError(
            f"{name} must be a DataFrame, a mapping of columns, an Arrow or a Polars table, not "
            f"{type(frame).__name__}"
        )
    known = [*required, *optional]
    for column in dataframe.columns:
        if column not in known:
            hint = did_you_mean(column, known)
            raise InvalidQueryError(
                f"unknown column {shown(column)}; the columns to write are {', '.join(known)}{hint}"
            )
    if not dataframe.columns.is_unique:
        raise InvalidQueryError(
            f"the frame has two columns of one name: {', '.join(dataframe.columns)}"
        )
    missing = [name for name in required if name not in dataframe.columns]
    if missing:
        raise InvalidQueryError(f"the frame lacks the column {', '.join(missing)}")
    return dataframe


def _from_arrow(frame: Any) -> pd.DataFrame:
    try:
        table = pa.table(frame)
    except pa.ArrowInvalid as error:
        raise InvalidQueryError(
            f"a {type(frame).__name__} cannot be read as a frame of named columns: {error}"
        ) from None
    # By position, because two columns may have one name.
    columns = {index: _column_values(values) for index, values in enumerate(table.columns)}
    dataframe = pd.DataFrame(columns, index=range(table.num_rows))
    return dataframe.set_axis(table.column_names, axis=1)


def _from_mapping(columns: Mapping[str, Any]) -> pd.DataFrame:
    try:
        return pd.DataFrame({name: _column_values(values) for name, values in columns.items()})
    except (TypeError, ValueError) as error:
        raise InvalidQueryError(f"the columns do not form a frame: {error}") from None


def _column_values(values: Any) -> Any:
    """Return a column of Arrow or Polars as a Series, and any other as it is."""
    # Through NumPy, a column of Arrow or Polars would lose its time zone.
    if isinstance(values, pd.Series):
        return values
    if hasattr(values, "__arrow_c_stream__"):
        values = pa.chunked_array(values)
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if pa.types.is_nested(values.type):
        # Through NumPy, integers in a struct would become floats where one is missing.
        return pd.Series(_nested_values(values), dtype=object)
    return values.to_pandas(types_mapper=_NULLABLE.get)


def _nested_values(values: Any) -> list[Any]:
    try:
        items: list[Any] = values.to_pylist(maps_as_pydicts="strict")
    except KeyError as error:
        raise InvalidQueryError(f"a map cannot become a dict: {error.args[0]}") from None
    return items
