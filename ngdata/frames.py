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

from ngdata.query import Column, Kind

__all__ = ["to_frame"]

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
    >>> from ngdata.frames import to_frame
    >>> from ngdata.query import Column, Kind
    >>> to_frame(pa.table({"x": [1.5]}), [Column("x", Kind.FLOAT)]).dtypes.to_dict()
    {'x': dtype('float64')}
    """
    # The constructor copies what a dict holds, which makes the Arrow memory writable columns.
    return pd.DataFrame(
        {
            column.name: _CONVERT[column.kind](values)
            for column, values in zip(columns, table.columns, strict=True)
        }
    )


def _text(values: pa.ChunkedArray) -> Any:
    return values.to_pandas(types_mapper=lambda _: _STR)


def _numbers(values: pa.ChunkedArray) -> Any:
    return values.to_numpy()


def _optional_integers(values: pa.ChunkedArray) -> Any:
    return values.to_pandas(types_mapper=lambda _: pd.Int64Dtype())


def _times(values: pa.ChunkedArray) -> Any:
    return pd.array(values.cast(pa.timestamp("us")).to_numpy(), dtype="datetime64[us, UTC]")


def _json(values: pa.ChunkedArray) -> Any:
    return _objects([None if text is None else json.loads(text) for text in values.to_pylist()])


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
