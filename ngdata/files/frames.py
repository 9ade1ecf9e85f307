"""Frames to Parquet files and back, and to Arrow and Polars, without losing anything."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ngdata._arguments.optional_imports import import_optional
from ngdata._arguments.shown import guarded, is_instance, own_error, shown
from ngdata._arguments.texts import as_path
from ngdata._connections.driver_errors import shortage
from ngdata._reading.arrow_tables import from_table, to_table
from ngdata._reading.atomic_file import AtomicFile, target_path, write_error
from ngdata.errors import InvalidQueryError

if TYPE_CHECKING:
    import polars

__all__ = ["UNNAMED_INDEX", "read_parquet", "to_arrow", "to_polars", "write_parquet"]

UNNAMED_INDEX: Final = "__index_level_"
"""How pyarrow names a column for an index without a name."""


def write_parquet(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a frame as one Parquet file, from which `read_parquet` returns the same frame.

    The file replaces an earlier one once it is complete.

    Parameters
    ----------
    frame : pandas.DataFrame
        Any frame that ngdata returns, also with columns of your own: of the dtypes that pandas
        writes to Parquet, and of objects that JSON can hold.
    path : str or path

    Raises
    ------
    InvalidQueryError
        A value that a file cannot hold, with its column and row; names of columns that are not
        text, or appear twice; attrs that JSON cannot hold; a path that cannot be written.
    OutOfResources
        The disk is full.  The earlier file is as it was.

    Examples
    --------
    >>> import tempfile
    >>> from ngdata.files import read_parquet, write_parquet
    >>> events = ng.experience.get_events(limit=5)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     write_parquet(events, f"{directory}/events.parquet")
    ...     read_parquet(f"{directory}/events.parquet").equals(events)
    True
    """
    table = to_arrow(frame)
    file = AtomicFile(target_path(path))
    try:
        sink = file.open()
        try:
            pq.write_table(table, sink, compression="zstd")
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InvalidQueryError(
                f"Parquet cannot hold a column of this frame: {shown(error)}; convert it, for "
                "example to text (.astype(str)), or leave it out"
            ) from None
        file.finish()
    except OSError as error:
        raise write_error(error, str(path)) from None
    finally:
        file.discard()


def read_parquet(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Return the frame of a Parquet file.

    Parameters
    ----------
    path : str or path
        A file that `write_parquet` wrote.  Files of other programs are read as pandas reads them.

    Returns
    -------
    pandas.DataFrame
        The frame as it was written; a missing value in a column of objects is None.

    Raises
    ------
    InvalidQueryError
        The file does not exist, is not a Parquet file, or is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from ngdata.files import read_parquet, write_parquet
    >>> near = ng.tokens.find_nearest((0, 0, 0), k=1)
    >>> token = ng.tokens.get(near.token_id, columns=["coords", "metadata"])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     write_parquet(token, f"{directory}/token.parquet")
    ...     again = read_parquet(f"{directory}/token.parquet")
    >>> again.metadata[0] == token.metadata[0], again.coords[0].shape
    (True, (8, 3))
    """
    name = as_path(path, "path")
    source = shown(name)
    try:
        with open(name, "rb") as file:
            table = pq.ParquetFile(file).read()
    except Exception as error:
        if isinstance(error, OSError) and (lack := shortage(error, f"{source} was not read")):
            raise lack from None
        reason = getattr(error, "strerror", None) or shown(error)
        raise own_error(error) or InvalidQueryError(
            f"path must name a Parquet file, but {source} cannot be read: {reason}"
        ) from None
    return from_table(table, source)


def to_arrow(frame: pd.DataFrame) -> pa.Table:
    """Return a frame as a table of Arrow, with the columns that `write_parquet` writes.

    Parameters
    ----------
    frame : pandas.DataFrame

    Returns
    -------
    pyarrow.Table
        Dicts are JSON text, coordinates lists of the fixed size 8x3; an index other than the
        default one is a column at the end.

    Raises
    ------
    InvalidQueryError
        As in `write_parquet`.

    Examples
    --------
    >>> from ngdata.files import to_arrow
    >>> near = ng.tokens.find_nearest((0, 0, 0), k=1)
    >>> to_arrow(ng.tokens.get(near.token_id)).schema.field("coords").type.list_size
    8
    """
    if not is_instance(frame, pd.DataFrame, "frame"):
        raise InvalidQueryError(
            f"frame must be a pandas DataFrame, not {shown(frame)}; of a Series, pass "
            "series.to_frame(), of a Subgraph its tokens and its connections"
        )
    return _table(frame, "frame")


def to_polars(frame: pd.DataFrame) -> polars.DataFrame:
    """Return a frame as a frame of Polars.

    Parameters
    ----------
    frame : pandas.DataFrame

    Returns
    -------
    polars.DataFrame
        The columns of `to_arrow`: JSON text, and coordinates as arrays of shape (8, 3).  An index
        with a name is a column at the end; one without a name is left out.

    Raises
    ------
    InvalidQueryError
        As in `write_parquet`.
    ConfigError
        Polars is not installed (``pip install 'ngdata[polars]'``).

    Examples
    --------
    >>> from ngdata.files import to_polars
    >>> to_polars(ng.tokens.find_nearest((0, 0, 0), k=2)).select("x", "y", "z").shape
    (2, 3)
    """
    table = to_arrow(frame)
    library = import_optional("polars", "to_polars", "polars")
    unnamed = [name for name in table.column_names if name.startswith(UNNAMED_INDEX)]
    result: polars.DataFrame = library.from_arrow(table.drop_columns(unnamed))
    return result


@guarded
def _table(frame: Any, name: str) -> pa.Table:
    return to_table(frame)
