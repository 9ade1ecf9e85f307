"""Arrow to DataFrame: what each kind of column becomes in pandas.

The dtypes follow from the query alone, so an empty answer has those of a full one.  A frame owns
its data: a change to it never shows in another frame.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from ngdata._arguments.texts import STR
from ngdata._query.model import Column, Kind
from ngdata.errors import NGDataError

__all__ = ["is_shareable", "objects", "to_frame", "to_shared_frame"]

# From a column of Arrow to a one-dimensional array of NumPy or pandas.
_Converters: TypeAlias = "dict[Kind, Callable[[pa.ChunkedArray], Any]]"

_UTC: Final = pd.DatetimeTZDtype("us", "UTC")
_ARROW_UTC: Final = pa.timestamp("us", "UTC")
_INT64: Final = pd.Int64Dtype()
_UINT64: Final = pd.UInt64Dtype()


def to_frame(table: pa.Table, columns: Sequence[Column]) -> pd.DataFrame:
    """Return the frame of an answer.

    Parameters
    ----------
    table : pyarrow.Table
        As many columns as there are in `columns`, by position.
    columns : sequence of Column

    Returns
    -------
    pandas.DataFrame
        Owns its data: changing it changes nothing else.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from ngdata._reading.frames import to_frame
    >>> from ngdata._query.model import Column, Kind
    >>> to_frame(pa.table({"x": [1.5]}), [Column("x", Kind.FLOAT)]).dtypes.to_dict()
    {'x': dtype('float64')}
    """
    try:
        return _frame(table, columns, _CONVERT)
    except _UnreadableJSON as unreadable:
        row = table.slice(unreadable.row, 1).columns
        ids = [
            f"{column.name} {values[0].as_py()}"
            for column, values in zip(columns, row, strict=True)
            if column.kind in (Kind.TEXT, Kind.TOKEN_ID, Kind.TOKEN_NUMBER)
        ]
        raise NGDataError(
            f"the JSON of {', '.join(ids[:1]) or 'a row'} was written by another program, and "
            f"Python cannot read it: {unreadable}; correct it in the database, or leave that row out"
        ) from None


class _UnreadableJSON(Exception):  # noqa: N818 - to_frame turns it into an error for the caller
    def __init__(self, row: int, error: Exception) -> None:
        super().__init__(str(error))
        self.row = row


def is_shareable(kind: Kind) -> bool:
    """Return whether frames can share the memory of a column and still not affect each other."""
    return _CAN_SHARE and kind in _READ_ONLY


def to_shared_frame(table: pa.Table, columns: Sequence[Column]) -> pd.DataFrame:
    """Return a frame over the table's own memory, only to be copied shallowly.

    pandas copies a column before it writes to it, because it knows of another frame over the same
    memory; writes that bypass pandas fail, because the memory is read-only.
    """
    frame: Any = _frame(table, columns, _READ_ONLY)
    for block in frame._mgr.blocks:
        block.refs.add_reference(_OTHER_OWNER._mgr.blocks[0])
    shared: pd.DataFrame = frame
    return shared


def _frame(table: pa.Table, columns: Sequence[Column], convert: _Converters) -> pd.DataFrame:
    """Make a frame over the converted columns; their memory is not copied."""
    arrays = [
        convert[column.kind](values) for column, values in zip(columns, table.columns, strict=True)
    ]
    index = pd.RangeIndex(table.num_rows)
    names = _names(tuple(column.name for column in columns))
    if _from_blocks is None:
        return pd.DataFrame(dict(zip(names, arrays, strict=True)), index=index, copy=False)
    # A block for each column: `DataFrame` would infer dtypes, which takes most of a small read's time.
    blocks = [
        (array[np.newaxis] if isinstance(array, np.ndarray) else array, np.array([place]))
        for place, array in enumerate(arrays)
    ]
    # A view, or a name that one frame gives its columns would be that of others too.
    frame: pd.DataFrame = _from_blocks(blocks, index, names.view())
    return frame


@functools.lru_cache
def _names(names: tuple[str, ...]) -> pd.Index[str]:
    return pd.Index(names)


_internals: Any = getattr(pd.api, "internals", None)
_from_blocks: Any = getattr(_internals, "create_dataframe_from_blocks", None)


# Counts as an owner of each shared frame's memory for ever.  Otherwise the last copy would be the
# only owner, and pandas would write to it in place and fail, because the memory is read-only.
_OTHER_OWNER: Final[Any] = pd.DataFrame({"": [0]})


def _read_only_numbers(values: pa.ChunkedArray) -> Any:
    array = owner = values.to_numpy()
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    if array.size and (owner.base is None or owner.flags.writeable):
        # NumPy's memory, not Arrow's: it could be made writable again, unlike bytes.
        array = np.frombuffer(array.tobytes(), array.dtype)
    return array


def _read_only_times(values: pa.ChunkedArray) -> Any:
    # Anything but integers would be copied, and the copy would be writable.
    return pd.array(_read_only_numbers(_in_utc(values)).view(np.int64), _UTC, copy=False)


def _in_utc(values: pa.ChunkedArray) -> pa.ChunkedArray:
    # The server sends these; casting takes longer than all else that is done with few rows.
    return values if values.type == _ARROW_UTC else values.cast(_ARROW_UTC)


def _text(values: pa.ChunkedArray) -> Any:
    # An array: of a Series, pandas would compare the index with that of the other columns.
    dtype: Any = STR
    return dtype.__from_arrow__(values)


def _numbers(values: pa.ChunkedArray) -> Any:
    return values.to_numpy().copy()


def _optional_integers(values: pa.ChunkedArray) -> Any:
    dtype: Any = _INT64
    return dtype.__from_arrow__(values)


def _optional_token_numbers(values: pa.ChunkedArray) -> Any:
    dtype: Any = _UINT64
    return dtype.__from_arrow__(values)


def _times(values: pa.ChunkedArray) -> Any:
    return pd.array(_numbers(_in_utc(values)).view(np.int64), _UTC, copy=False)


def _json(values: pa.ChunkedArray) -> Any:
    parsed = []
    for row, text in enumerate(values.to_pylist()):
        try:
            parsed.append(None if text is None else json.loads(text))
        except (ValueError, RecursionError) as error:
            raise _UnreadableJSON(row, error) from None
    return objects(parsed)


def _bytes(values: pa.ChunkedArray) -> Any:
    return objects(values.to_pylist())


def _coords(values: pa.ChunkedArray) -> Any:
    """Return 8x3 arrays of lists of 24 (eight x, y, z): NaN for NULL, None for a missing list."""
    is_present = values.is_valid().to_numpy()
    flat = values.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    points = iter(np.ascontiguousarray(flat.reshape(-1, 3, 8).transpose(0, 2, 1), dtype=np.float64))
    return objects([next(points) if present else None for present in is_present])


def objects(values: list[Any]) -> Any:
    """Return an array of any objects; NumPy would turn lists and arrays into further dimensions."""
    array = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        array[index] = value
    return array


_CONVERT: Final[_Converters] = {
    Kind.TEXT: _text,
    Kind.TOKEN_ID: _text,
    Kind.OPTIONAL_TOKEN_ID: _text,
    Kind.TOKEN_NUMBER: _numbers,
    Kind.OPTIONAL_TOKEN_NUMBER: _optional_token_numbers,
    Kind.FLOAT: _numbers,
    Kind.INTEGER: _numbers,
    Kind.OPTIONAL_INTEGER: _optional_integers,
    Kind.BOOLEAN: _numbers,
    Kind.TIME: _times,
    Kind.JSON: _json,
    Kind.BYTES: _bytes,
    Kind.COORDS: _coords,
}

_READ_ONLY: Final[_Converters] = {
    Kind.TEXT: _text,
    Kind.TOKEN_ID: _text,
    Kind.OPTIONAL_TOKEN_ID: _text,
    Kind.TOKEN_NUMBER: _read_only_numbers,
    Kind.FLOAT: _read_only_numbers,
    Kind.INTEGER: _read_only_numbers,
    Kind.BOOLEAN: _read_only_numbers,
    Kind.TIME: _read_only_times,
}


def _can_share() -> bool:
    """Return whether shallow copies of a shared frame are independent in this pandas.

    `to_shared_frame` uses its private block manager, which another version may change.
    """
    columns = (
        Column("text", Kind.TEXT),
        Column("float", Kind.FLOAT),
        Column("integer", Kind.INTEGER),
        Column("boolean", Kind.BOOLEAN),
        Column("time", Kind.TIME),
    )
    table = pa.table(
        {
            "text": ["a", "b"],
            "float": [1.0, 2.0],
            "integer": [1, 2],
            "boolean": [True, False],
            "time": pa.array([1, 2], pa.timestamp("us", "UTC")),
        }
    )
    rows = table.to_pylist()
    try:
        original = to_shared_frame(table, columns)
        changed, unchanged = original.copy(deep=False), original.copy(deep=False)
        _copy_first_row(changed)
        are_independent = (
            changed.equals(to_frame(table.take([0, 0]), columns))
            and unchanged.equals(to_frame(table, columns))
            and original.equals(unchanged)
        )
        # The last frame over the memory must not write to it either.
        del original, changed
        _copy_first_row(unchanged)
        return are_independent and table.to_pylist() == rows
    except Exception:
        return False


def _copy_first_row(frame: pd.DataFrame) -> None:
    for name in frame.columns:
        first: Any = frame.at[0, name]
        frame.at[1, name] = first


_CAN_SHARE: Final = _can_share()
