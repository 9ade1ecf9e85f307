"""Arrow to DataFrame: what each kind of column becomes in pandas.

The dtypes follow from the query alone, so an empty answer has those of a full one, and a frame
owns its data: nothing it shows is shared with another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from ngdata._query.model import Column, Kind
from ngdata.errors import NGDataError

__all__ = ["is_shareable", "to_frame", "to_shared_frame"]

_UTC: Final = pd.DatetimeTZDtype("us", "UTC")
_STR: Final = pd.StringDtype("pyarrow", na_value=np.nan)


def to_frame(table: pa.Table, columns: Sequence[Column]) -> pd.DataFrame:
    """Make the frame of an answer.

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
    # The constructor copies what a dict holds, which makes the Arrow memory writable columns.
    try:
        return pd.DataFrame(
            {
                column.name: _CONVERT[column.kind](values)
                for column, values in zip(columns, table.columns, strict=True)
            }
        )
    except _UnreadableJSON as unreadable:
        row = table.slice(unreadable.row, 1).columns
        named = [
            f"{column.name} {values[0].as_py()}"
            for column, values in zip(columns, row, strict=True)
            if column.kind is Kind.TEXT
        ]
        raise NGDataError(
            f"another program wrote JSON that Python does not read, for {', '.join(named[:1])}: "
            f"{unreadable}; correct it in the database, or leave that row out"
        ) from None


class _UnreadableJSON(Exception):  # noqa: N818 - to_frame makes the error of it
    def __init__(self, row: int, error: Exception) -> None:
        super().__init__(str(error))
        self.row = row


def is_shareable(kind: Kind) -> bool:
    """Tell whether several frames can stand over one memory without seeing each other's changes."""
    return kind in _READ_ONLY


def to_shared_frame(table: pa.Table, columns: Sequence[Column]) -> pd.DataFrame:
    """Make a frame over the table's own memory, to be copied shallowly and never given away.

    pandas copies before it writes, because it knows of another that looks at the same memory; and
    what goes past pandas meets memory that is read-only.
    """
    frame: Any = pd.DataFrame(
        {
            column.name: _READ_ONLY[column.kind](values)
            for column, values in zip(columns, table.columns, strict=True)
        },
        copy=False,
    )
    for block in frame._mgr.blocks:
        block.refs.add_reference(_WITNESS._mgr.blocks[0])
    shared: pd.DataFrame = frame
    return shared


# It looks at the memory of every shared frame for ever: else the last copy, once it is alone, would
# be written in place, and pandas would fail at memory that is read-only.
_WITNESS: Final[Any] = pd.DataFrame({"": [0]})


def _read_only_numbers(values: pa.ChunkedArray) -> Any:
    array = owner = values.to_numpy()
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    if array.size and (owner.base is None or owner.flags.writeable):
        # Not Arrow's own memory, but NumPy's, which can be made writable again; bytes cannot.
        array = np.frombuffer(array.tobytes(), array.dtype)
    return array


def _read_only_times(values: pa.ChunkedArray) -> Any:
    naive = _read_only_numbers(values.cast(pa.timestamp("us")))
    # Anything but integers would be copied, and the copy be writable.
    return pd.array(naive.view(np.int64), dtype=_UTC, copy=False)


def _text(values: pa.ChunkedArray) -> Any:
    # An array, for which pandas need not look whether its index is that of the others.
    dtype: Any = _STR
    return dtype.__from_arrow__(values)


def _numbers(values: pa.ChunkedArray) -> Any:
    return values.to_numpy()


def _optional_integers(values: pa.ChunkedArray) -> Any:
    return values.to_pandas(types_mapper=lambda _: pd.Int64Dtype())


def _times(values: pa.ChunkedArray) -> Any:
    return pd.array(values.cast(pa.timestamp("us")).to_numpy(), dtype="datetime64[us, UTC]")


def _json(values: pa.ChunkedArray) -> Any:
    found = []
    for row, text in enumerate(values.to_pylist()):
        try:
            found.append(None if text is None else json.loads(text))
        except (ValueError, RecursionError) as error:
            raise _UnreadableJSON(row, error) from None
    return _objects(found)


def _bytes(values: pa.ChunkedArray) -> Any:
    return _objects(values.to_pylist())


def _coords(values: pa.ChunkedArray) -> Any:
    """Lists of 24 (eight x, eight y, eight z) to 8x3 arrays; NULL is NaN, a missing list is None."""
    present = values.is_valid().to_numpy()
    flat = values.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    points = iter(np.ascontiguousarray(flat.reshape(-1, 3, 8).transpose(0, 2, 1), dtype=np.float64))
    return _objects([next(points) if there else None for there in present])


def _objects(values: list[Any]) -> pd.Series[Any]:
    # NumPy would look into lists and arrays and make more dimensions of them.
    array = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        array[place] = value
    return pd.Series(array, dtype=object)


_CONVERT: Final[dict[Kind, Callable[[pa.ChunkedArray], Any]]] = {
    Kind.TEXT: _text,
    Kind.FLOAT: _numbers,
    Kind.INTEGER: _numbers,
    Kind.OPTIONAL_INTEGER: _optional_integers,
    Kind.BOOLEAN: _numbers,
    Kind.TIME: _times,
    Kind.JSON: _json,
    Kind.BYTES: _bytes,
    Kind.COORDS: _coords,
}

_READ_ONLY: Final[dict[Kind, Callable[[pa.ChunkedArray], Any]]] = {
    Kind.TEXT: _text,
    Kind.FLOAT: _read_only_numbers,
    Kind.INTEGER: _read_only_numbers,
    Kind.BOOLEAN: _read_only_numbers,
    Kind.TIME: _read_only_times,
}
