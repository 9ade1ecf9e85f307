"""Frames to files and back, to Arrow and Polars, and files of rows into a store.

::

    write_parquet, read_parquet     a frame as a Parquet file, and back
    to_arrow, to_polars             a frame as a table of Arrow, or a frame of Polars
    load, load_async                a CSV or Parquet file of any size into a store
    open_dataset                    regions and time windows from a directory of files, without a server

Every frame that ngdata returns comes back from a file as it was: the same dtypes, order, index and
``attrs``.  In the file, dicts are JSON text and coordinates 8x3 lists of fixed size, so that pandas,
DuckDB, Polars and all other readers of Parquet can use it too.
"""

from ngdata.files.data_set import DataSet, open_dataset
from ngdata.files.frames import read_parquet, to_arrow, to_polars, write_parquet
from ngdata.files.loading import LoadedFile, load, load_async

__all__ = [
    "DataSet",
    "LoadedFile",
    "load",
    "load_async",
    "open_dataset",
    "read_parquet",
    "to_arrow",
    "to_polars",
    "write_parquet",
]
