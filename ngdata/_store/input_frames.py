"""Frames of any library as DataFrames, with the names of their columns checked.

The values in a column are checked by `ngdata._store.fields`.
"""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable, Mapping, Sequence, Set
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from ngdata._arguments.shown import MAX_SHOWN, own_error, shown
from ngdata._arguments.suggestions import did_you_mean
from ngdata._arguments.texts import STR, columns_text
from ngdata._query.model import is_metadata_key
from ngdata._store.extra_columns import into_metadata
from ngdata.errors import InvalidQueryError

__all__ = ["Extra", "Frame", "as_dataframe", "check_single_names", "to_dataframe", "with_points"]

Frame: TypeAlias = "pd.DataFrame | Mapping[str, Any] | Any"
"""What bulk writes accept: a DataFrame, a mapping of columns, an Arrow or a Polars table."""

Extra: TypeAlias = Literal["refuse", "metadata"]
"""What becomes of columns that the table does not have: an error, or keys of the metadata."""

# How many unknown columns an error names.
_MAX_NAMES: Final = 10

_PANDAS_TAKES: Final = (np.ndarray, np.generic, pd.Index, pd.api.extensions.ExtensionArray)

_DTYPES: Final = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.large_string(): STR,
}


def as_dataframe(
    frame: Frame,
    required: Sequence[str],
    optional: Sequence[str],
    ignored: Container[str] = (),
    extra: Extra | None = None,
) -> pd.DataFrame:
    """Return a frame of any library as a DataFrame, and check the names of its columns.

    An index, or a level of one, that has the name of a column becomes that column; any other index
    is ignored.

    Parameters
    ----------
    frame, required, optional
    ignored : container of str
        The columns that reads return and that cannot be written; they are left out.
    extra : {"refuse", "metadata"}, optional
        Whether all other columns are refused, or become keys of the metadata; by default they are
        refused without a hint at the other.

    Raises
    ------
    InvalidQueryError
        For a column that is missing, unknown, or duplicate.
    """
    try:
        return _with_checked_names(_without(_dataframe(frame), ignored), required, optional, extra)
    except Exception as error:
        raise _unreadable(frame, error) from None


def to_dataframe(frame: Frame) -> pd.DataFrame:
    """Return a frame of any library, with any columns, as a DataFrame."""
    try:
        return _dataframe(frame)
    except Exception as error:
        raise _unreadable(frame, error) from None


def with_points(frame: Frame) -> Frame:
    """Return a GeoDataFrame with its geometry as columns x, y and z; any other frame as it is.

    Coordinates are taken as they are, whatever the reference system.

    Raises
    ------
    InvalidQueryError
        A geometry that is not a point with x, y and z, with its row; or other columns x, y or z.
    """
    # Where GeoPandas is not loaded, no frame is one of its own.
    kind = getattr(sys.modules.get("geopandas"), "GeoDataFrame", ())
    try:
        is_geographic = isinstance(frame, kind) and frame.active_geometry_name is not None
        return _points_as_columns(frame) if is_geographic else frame
    except Exception as error:
        raise _unreadable(frame, error) from None


def _points_as_columns(frame: Any) -> pd.DataFrame:
    geometry, name = frame.geometry, frame.active_geometry_name
    is_point = ((geometry.geom_type == "Point") & ~geometry.is_empty).to_numpy()
    if not is_point.all():
        row = int(is_point.argmin())
        shape = "empty" if geometry.geom_type.isna().iloc[row] else geometry.geom_type.iloc[row]
        raise InvalidQueryError(
            f"{name} in row {row} must be a point, but is {shape}; drop the row, or pass for instance "
            "frame.set_geometry(frame.centroid)"
        )
    points = {"x": geometry.x.to_numpy(), "y": geometry.y.to_numpy()}
    has_z = geometry.has_z.to_numpy()
    if has_z.all():
        points["z"] = geometry.z.to_numpy()
    elif "z" not in frame:
        raise InvalidQueryError(
            f"{name} in row {int(has_z.argmin())} has no z; add a column z to the frame, such as "
            "frame.assign(z=0.0)"
        )
    for axis, values in points.items():
        if axis in frame and not np.array_equal(frame[axis].to_numpy(), values):
            raise InvalidQueryError(
                f"{axis} is a column of the frame and differs from {name}; drop one of them: "
                f"frame.drop(columns=['x', 'y', 'z']) keeps {name}"
            )
    return pd.DataFrame(frame.drop(columns=name)).assign(**points)


def _unreadable(frame: Frame, error: Exception) -> Exception:
    return own_error(error) or InvalidQueryError(
        f"the frame, a {type(frame).__name__[:100]}, cannot be read: {shown(error)}"
    )


def _dataframe(frame: Frame) -> pd.DataFrame:
    if isinstance(frame, pd.DataFrame):
        # A subclass may answer differently.
        return frame if type(frame) is pd.DataFrame else pd.DataFrame(frame)
    if hasattr(frame, "__arrow_c_stream__") and not isinstance(frame, pd.Series):
        return _from_arrow(frame)
    if isinstance(frame, Mapping):
        return _from_mapping(frame)
    if isinstance(frame, np.ndarray) and frame.dtype.names is not None and frame.ndim == 1:
        return pd.DataFrame(frame)
    raise InvalidQueryError(
        "the frame must be a DataFrame, a mapping of columns, an Arrow or a Polars table, not "
        f"{type(frame).__name__[:100]}"
    )


def _without(dataframe: pd.DataFrame, ignored: Container[str]) -> pd.DataFrame:
    are_kept = [not isinstance(name, str) or name not in ignored for name in dataframe.columns]
    return dataframe if all(are_kept) else dataframe.loc[:, are_kept]


def _with_checked_names(
    dataframe: pd.DataFrame, required: Sequence[str], optional: Sequence[str], extra: Extra | None
) -> pd.DataFrame:
    known = [*required, *optional]
    check_single_names(dataframe)
    if not dataframe.columns.is_unique:
        raise InvalidQueryError(
            "the frame has two columns of one name: "
            f"{', '.join(map(shown, dataframe.columns[dataframe.columns.duplicated()]))}"
        )
    dataframe = _with_index_columns(dataframe, known)
    if "metadata" in dataframe.columns:
        # What reads return for single keys is in there too.
        keys = [c for c in dataframe.columns if isinstance(c, str) and is_metadata_key(c)]
        dataframe = dataframe.drop(columns=keys) if keys else dataframe
    unknown = [n for n in dataframe.columns if not isinstance(n, str) or n not in known]
    lacking = [name for name in required if name not in dataframe.columns]
    names = ", ".join(map(shown, unknown[:_MAX_NAMES]))
    names += f" and {len(unknown) - _MAX_NAMES} more" if len(unknown) > _MAX_NAMES else ""
    if lacking:
        others = f"; it has {names}; rename what is meant" if unknown else ""
        raise InvalidQueryError(
            f"the frame lacks the {columns_text(lacking)}{_misspelt(lacking, unknown) or others}"
        )
    if not unknown:
        return dataframe
    if extra == "metadata":
        return into_metadata(dataframe, unknown)
    hint = "".join(did_you_mean(name, known) for name in unknown[:_MAX_NAMES])
    into = '; or pass extra="metadata" to keep others in metadata' if extra == "refuse" else ""
    raise InvalidQueryError(
        f"unknown column{'s' if len(unknown) > 1 else ''} {names}; the columns to write are "
        f"{', '.join(known)}{hint}{into}"
    )


def check_single_names(dataframe: pd.DataFrame) -> None:
    """Raise if the names of columns have several levels."""
    if dataframe.columns.nlevels > 1:
        raise InvalidQueryError(
            "the frame must have one name for each column, not several levels of names"
        )


def _misspelt(lacking: Sequence[str], unknown: Sequence[Any]) -> str:
    """Return the unknown column that a lacking one may be, as the end of an error."""
    texts = [name for name in unknown if isinstance(name, str)]
    for name in lacking:
        near = [text for text in texts if text.lower().strip("_ ").startswith(name)]
        hint = f"; is it {shown(near[0])}? rename it" if near else did_you_mean(name, texts)
        if hint:
            return hint
    return ""


def _with_index_columns(dataframe: pd.DataFrame, known: Sequence[str]) -> pd.DataFrame:
    """Return the frame with the levels of its index that have the name of a column as columns."""
    columns: dict[str, pd.Index[Any]] = {}
    for level, name in enumerate(dataframe.index.names):
        if not isinstance(name, str) or name not in known:
            continue
        if name in columns:
            raise InvalidQueryError(f"two levels of the frame's index have the name {name}")
        values = dataframe.index.get_level_values(level)
        # As set_index(name, drop=False) makes them, they are equal.
        if name in dataframe.columns and not values.equals(pd.Index(dataframe[name])):
            raise InvalidQueryError(
                f"{name} is the name of a column and of the frame's index, and they differ; keep "
                "one of them: frame.reset_index(drop=True) keeps the column, "
                f"frame.drop(columns={name!r}) the index"
            )
        columns[name] = values
    return dataframe.assign(**columns) if columns else dataframe


def _from_arrow(frame: Any) -> pd.DataFrame:
    try:
        table = pa.table(frame)
    except pa.ArrowInvalid as error:
        raise InvalidQueryError(
            f"a {type(frame).__name__} cannot be read as a frame of named columns: {_reason(error)}"
        ) from None
    # By position, because two columns may have one name.
    columns = {index: _column_values(values) for index, values in enumerate(table.columns)}
    dataframe = pd.DataFrame(columns, index=range(table.num_rows))
    return dataframe.set_axis(table.column_names, axis=1)


def _from_mapping(columns: Mapping[str, Any]) -> pd.DataFrame:
    try:
        if columns and not any(_has_length(values) for values in columns.values()):
            raise InvalidQueryError(
                "the frame has one value in place of each column; write a list for at least one of "
                f"them, such as {{{shown(next(iter(columns)))}: [value]}}"
            )
        for name, values in columns.items():
            # pandas takes a frame for a list of its rows.
            if isinstance(values, pd.DataFrame | Set):
                raise InvalidQueryError(
                    f"the column {shown(name)} must be a sequence of values, one for each row, not a "
                    f"{type(values).__name__[:100]}"
                )
        return pd.DataFrame({name: _column_values(values) for name, values in columns.items()})
    except Exception as error:  # a set has no order, lengths differ, an object's method raises
        reason = f"the columns do not form a frame: {_reason(error)}"
        raise own_error(error) or InvalidQueryError(reason) from None


def _has_length(values: Any) -> bool:
    """Return whether pandas takes a value for a column, and not for one that all rows share."""
    return isinstance(values, Iterable) and not isinstance(values, str | bytes)


def _reason(error: Exception) -> str:
    text = str(error)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def _column_values(values: Any) -> Any:
    """Return a column of Arrow or Polars as a Series, and any other as it is."""
    # Through NumPy, a column of Arrow or Polars would lose its time zone.
    if isinstance(values, pd.Series):
        return values
    if hasattr(values, "__arrow_c_stream__"):
        values = pa.chunked_array(values)
    if type(values) is list and _has_gaps_in_integers(values):
        # pandas would make floats of them, which are not ids.
        return pd.Series(values, dtype=object)
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        # Arrays of other libraries, such as those of PyTorch and xarray.
        is_foreign = hasattr(values, "__array__") and not isinstance(values, _PANDAS_TAKES)
        return np.asarray(values) if is_foreign else values
    if pa.types.is_nested(values.type):
        # Through NumPy, integers in a struct would become floats where one is missing.
        return pd.Series(_nested_values(values), dtype=object)
    if values.type in (pa.string(), pa.string_view()):
        # pandas 2 takes no other text of Arrow than this.
        values = values.cast(pa.large_string())
    return values.to_pandas(types_mapper=_DTYPES.get)


def _has_gaps_in_integers(values: list[Any]) -> bool:
    return any(value is None for value in values) and all(
        value is None or type(value) is int for value in values
    )


def _nested_values(values: Any) -> list[Any]:
    try:
        items: list[Any] = values.to_pylist(maps_as_pydicts="strict")
    except KeyError as error:
        raise InvalidQueryError(f"a map cannot become a dict: {error.args[0]}") from None
    return items
