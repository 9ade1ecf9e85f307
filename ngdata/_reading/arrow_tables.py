"""Any frame as an Arrow table that Parquet can hold, and back.

pandas converts all columns but those of objects, which it would guess from their values.  Here a
column of objects is one of three: dicts and the like become JSON text, coordinates become 8x3 lists
of fixed size, and plain values of one type the Arrow column of that type.  The table's metadata say
which column is what, so that they come back as they were; nothing is guessed on the way back.

Tables may come from files of others: every mistake in them is an error of ngdata.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from ngdata._arguments.json_text import JsonError, json_text
from ngdata._arguments.levels import LEVELS
from ngdata._arguments.shown import own_error, shown
from ngdata._arguments.texts import STR, is_text_type
from ngdata._reading.frames import objects
from ngdata.errors import InvalidQueryError

__all__ = ["from_table", "to_table"]

_MARKS: Final = b"ngdata"
"""The key of the metadata that holds `{"objects": {column: kind}}`, as JSON."""

_ATTRS: Final = b"PANDAS_ATTRS"
"""The key under which pandas' own Parquet files hold the attrs of a frame."""

_PANDAS: Final = b"pandas"
"""The key under which pandas holds the dtypes of columns and index, as JSON."""

_TEXT: Final = "str"
"""The name that pandas 3 gives `STR`."""

_JSON: Final = "json"
_COORDS: Final = "coords"
_VALUES: Final = "values"

_SHAPE: Final = (len(LEVELS), 3)
_COORDS_TYPE: Final = pa.list_(pa.list_(pa.float64(), _SHAPE[1]), _SHAPE[0])

# What a column without any value becomes, by its name; others become JSON.
_OWN_TYPES: Final = {
    "coords": (_COORDS_TYPE, _COORDS),
    "binary_data": (pa.binary(), _VALUES),
}

# Types that Arrow has, and returns as the same objects.
_PLAIN: Final[frozenset[type]] = frozenset(
    {str, bytes, bool, int, float, Decimal, dt.date, dt.time, dt.datetime, dt.timedelta}
)

# Types of objects that pandas itself writes.
_OF_PANDAS: Final[frozenset[type]] = frozenset({np.ndarray, pd.Timestamp, pd.Timedelta, uuid.UUID})


def to_table(frame: pd.DataFrame) -> pa.Table:
    """Return a frame as a table with its index, dtypes and attrs.

    Raises
    ------
    InvalidQueryError
        A column or a value that a file cannot hold; the error names column and row.
    """
    _check_names(frame)
    own: dict[str, pa.Array] = {}
    marks: dict[str, str] = {}
    for name in frame.columns:
        if frame[name].dtype == object and (converted := _object_column(frame[name], name)):
            own[name], marks[name] = converted
    others = frame.drop(columns=list(own))
    # pandas' own key holds the attrs.
    others.attrs = {}
    table = _pandas_table(others, with_index=not len(frame.columns))
    columns = {name: own[name] if name in own else table[name] for name in frame.columns}
    # The columns of the index follow those of the frame.
    for name in table.column_names:
        if name in own:
            raise InvalidQueryError(
                f"the index and a column are both named {shown(name)}; rename one"
            )
        columns[name] = table[name]
    metadata = {**table.schema.metadata, _MARKS: json.dumps({"objects": marks}).encode()}
    metadata[_PANDAS] = _with_text_dtypes(metadata[_PANDAS], others)
    if frame.attrs:
        metadata[_ATTRS] = _attrs_text(frame.attrs).encode()
    return pa.table(columns).replace_schema_metadata(metadata)


def _check_names(frame: pd.DataFrame) -> None:
    for place, name in enumerate(frame.columns):
        if type(name) is not str:
            raise InvalidQueryError(
                f"the names of columns must be text, but column {place} is {shown(name)}; write "
                "frame.rename(columns=str)"
            )
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise InvalidQueryError(
            f"the names of columns must differ, but two are {shown(repeated[0])}; rename one"
        )


def _pandas_table(frame: pd.DataFrame, *, with_index: bool) -> pa.Table:
    """Return the table that pandas makes; `with_index` writes a default index as a column too."""
    try:
        # pandas would keep a range in the metadata, where other programs do not look for ids.
        is_named_range = isinstance(frame.index, pd.RangeIndex) and frame.index.name is not None
        with_index = with_index or is_named_range
        return pa.Table.from_pandas(frame, preserve_index=True if with_index else None)
    except Exception as error:
        if (own := own_error(error)) is not None:
            raise own from None
        for name in frame.columns:
            _check_convertible(frame[name], f"column {shown(name)}")
        _check_convertible(frame.index, "the index")
        raise InvalidQueryError(
            f"the frame cannot be written: {shown(error)}; rename its index, or reset it "
            "(frame.reset_index())"
        ) from None


def _with_text_dtypes(text: bytes, frame: pd.DataFrame) -> bytes:
    """Return the dtypes of columns as pandas 3 writes them.

    pandas 2 gives `STR` the name of another dtype.
    """
    if str(STR) == _TEXT:
        return text
    dtypes = json.loads(text)
    columns: list[Any] = [frame[name] for name in frame.columns]
    columns += [frame.index.get_level_values(level) for level in range(frame.index.nlevels)]
    # pandas leaves out the levels of a range.
    for column, entry in zip(columns, dtypes["columns"], strict=False):
        if column.dtype == STR:
            entry["numpy_type"] = _TEXT
    return json.dumps(dtypes).encode()


def _check_convertible(values: pd.Series[Any] | pd.Index[Any], what: str) -> None:
    """Raise if a column cannot be converted, with the first row that cannot."""
    try:
        pa.array(values, from_pandas=True)
    except Exception:
        for row in range(len(values)):
            try:
                pa.array(values[row : row + 1], from_pandas=True)
            except Exception:
                raise InvalidQueryError(
                    f"{what} cannot be written: row {row} is {shown(values[row : row + 1].tolist()[0])}"
                    f", and the dtype {values.dtype}; convert it, for example to text "
                    "(.astype(str)), or leave it out"
                ) from None
        raise InvalidQueryError(
            f"{what} cannot be written: its values are of different types; convert it, for example "
            "to text (.astype(str)), or leave it out"
        ) from None


def _object_column(column: pd.Series[Any], name: str) -> tuple[pa.Array, str] | None:
    """Return a column of objects as an array, and its mark; None leaves it to pandas."""
    cells = column.to_numpy()
    is_missing = pd.isna(cells)
    types = set(map(type, cells[~is_missing]))
    if not types:
        array_type, mark = _OWN_TYPES.get(name, (pa.large_string(), _JSON))
        return pa.nulls(len(cells), array_type), mark
    if types == {np.ndarray} and all(
        cell.shape == _SHAPE and cell.dtype == np.float64 for cell in cells[~is_missing]
    ):
        return _coords_array(cells, is_missing), _COORDS
    if len(types) == 1 and types <= _PLAIN:
        try:
            return pa.array(cells, mask=is_missing), _VALUES
        except (pa.ArrowException, ValueError, OverflowError):
            pass  # such as an integer beyond 64 bits, which JSON can hold
    elif len(types) == 1 and types <= _OF_PANDAS:
        return None
    return _json_array(cells, is_missing, name), _JSON


def _coords_array(cells: np.ndarray[Any, Any], is_missing: np.ndarray[Any, Any]) -> pa.Array:
    points = np.full((len(cells), *_SHAPE), np.nan)
    points[~is_missing] = np.stack(list(cells[~is_missing]))
    levels = pa.FixedSizeListArray.from_arrays(pa.array(points.ravel()), _SHAPE[1])
    return pa.FixedSizeListArray.from_arrays(levels, _SHAPE[0], mask=pa.array(is_missing))


def _json_array(
    cells: np.ndarray[Any, Any], is_missing: np.ndarray[Any, Any], name: str
) -> pa.Array:
    texts: list[str | None] = []
    for row, (cell, missing) in enumerate(zip(cells, is_missing, strict=True)):
        try:
            texts.append(None if missing else _json_of(cell))
        except JsonError as error:
            raise InvalidQueryError(
                f"column {shown(name)} in row {row} cannot be written as JSON: "
                f"{name}{error.place} {error.problem}"
            ) from None
    return pa.array(texts, pa.large_string())


_OPENING: Final = '{"": '


def _json_of(cell: object) -> str:
    if isinstance(cell, Mapping):
        return json_text(cell)
    # A list or a single value: as the only value of a dict, without the rest of that dict.
    try:
        return json_text({"": cell})[len(_OPENING) : -1]
    except JsonError as error:
        raise JsonError(error.place.removeprefix("['']"), error.problem) from None


def _attrs_text(attrs: Mapping[Any, Any]) -> str:
    try:
        return json_text(attrs)
    except JsonError as error:
        raise InvalidQueryError(
            f"attrs cannot be written as JSON: attrs{error.place} {error.problem}"
        ) from None


# --- and back ----------------------------------------------------------------------------------------


def from_table(table: pa.Table, source: str) -> pd.DataFrame:
    """Return the frame of a table; `source` is its file, for errors.

    Raises
    ------
    InvalidQueryError
        The metadata are damaged, or a value is not what they say.
    """
    metadata = table.schema.metadata or {}
    marks = _marks(metadata, table, source)
    columns: dict[str, Any] = {}
    for name, mark in marks.items():
        columns[name] = objects(_FROM[mark](table[name], name, source))
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pa.nulls(table.num_rows))
    try:
        frame = _with_texts(table.to_pandas(), table)
    except Exception as error:
        raise own_error(error) or _damaged(
            source, f"pandas cannot read it: {shown(error)}"
        ) from None
    for name, values in columns.items():
        # Of an array, pandas would infer another dtype.
        frame[name] = pd.Series(values, index=frame.index, dtype=object)
    attrs: dict[Any, Any] = _json_object(metadata.get(_ATTRS, b"{}"), "attrs", source)
    frame.attrs = attrs
    return frame


def _with_texts(frame: pd.DataFrame, table: pa.Table) -> pd.DataFrame:
    """Return the frame that pandas made of a table with its text as `STR`; pandas 2 makes objects."""
    texts = {field.name for field in table.schema if is_text_type(field.type)}
    texts &= {name for name, dtype in frame.dtypes.items() if pd.api.types.is_object_dtype(dtype)}
    frame = frame.astype(dict.fromkeys(texts, STR)) if texts else frame
    pandas = json.loads((table.schema.metadata or {}).get(_PANDAS, b"{}"))
    dtypes = {entry["field_name"]: entry["numpy_type"] for entry in pandas.get("columns", ())}
    index: Any = frame.index
    for level, field in enumerate(pandas.get("index_columns", ())):
        if not isinstance(field, str) or dtypes.get(field) != _TEXT:
            continue
        if isinstance(index, pd.MultiIndex):
            values: Any = index.levels[level].astype(STR)
            index = index.set_levels(values, level=level)
        else:
            index = index.astype(STR)
    frame.index = index
    return frame


def _marks(metadata: Mapping[bytes, bytes], table: pa.Table, source: str) -> dict[str, str]:
    marks = _json_object(metadata.get(_MARKS, b"{}"), "metadata", source).get("objects", {})
    if not isinstance(marks, dict):
        raise _damaged(source, f"the kinds of columns are {shown(marks)}")
    for name, mark in marks.items():
        if table.column_names.count(name) != 1:
            raise _damaged(source, f"it must have one column {shown(name)}")
        if not isinstance(mark, str) or mark not in _FROM:
            raise _damaged(source, f"the kind of column {shown(name)} is {shown(mark)}")
    return marks


def _json_object(text: bytes, what: str, source: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(source, f"its {what} are not JSON: {shown(error)}") from None
    if not isinstance(value, dict):
        raise _damaged(source, f"its {what} must be an object of JSON, not {shown(value)}")
    return value


def _damaged(source: str, reason: str) -> InvalidQueryError:
    return InvalidQueryError(
        f"{source} cannot be read as a frame that ngdata wrote: {reason}; write it again with "
        "write_parquet, or read it with pandas.read_parquet"
    )


def _from_json(column: pa.ChunkedArray, name: str, source: str) -> list[Any]:
    if not is_text_type(column.type):
        raise _damaged(source, f"column {shown(name)} must be JSON text, and is {column.type}")
    values: list[Any] = []
    for row, text in enumerate(column.to_pylist()):
        try:
            values.append(None if text is None else json.loads(text))
        except (ValueError, RecursionError) as error:
            raise _damaged(
                source, f"column {shown(name)} in row {row} is not JSON: {shown(error)}"
            ) from None
    return values


def _from_coords(column: pa.ChunkedArray, name: str, source: str) -> list[Any]:
    if column.type != _COORDS_TYPE:
        raise _damaged(source, f"column {shown(name)} must be 8x3 numbers, and is {column.type}")
    is_present = column.is_valid().to_numpy()
    levels = column.combine_chunks().flatten()
    flat = levels.flatten().to_numpy(zero_copy_only=False)
    if len(flat) != is_present.sum() * _SHAPE[0] * _SHAPE[1]:
        raise _damaged(source, f"column {shown(name)} must be 8x3 numbers, and some are missing")
    points = iter(np.array(flat, np.float64).reshape(-1, *_SHAPE))
    return [next(points) if present else None for present in is_present]


def _from_values(column: pa.ChunkedArray, name: str, source: str) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except Exception as error:  # a time that Python does not have, text that is not UTF-8
        raise own_error(error) or _damaged(
            source, f"column {shown(name)} has a value that Python does not have: {shown(error)}"
        ) from None
    return values


_FROM: Final = {_JSON: _from_json, _COORDS: _from_coords, _VALUES: _from_values}
