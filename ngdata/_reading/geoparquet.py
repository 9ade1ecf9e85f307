"""Regions as GeoParquet files: for DuckDB, GeoPandas, QGIS, Sedona, and all readers of Parquet.

GeoParquet 1.1.0 (https://geoparquet.org/releases/v1.1.0/): points are ISO WKB, the metadata is JSON
under the key ``geo``.  PyArrow writes the file; the few lines of metadata and the 29 bytes of a
point are written here, because GeoPandas writes only whole frames, not parts of a stream.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ngdata._connections.threads import in_daemon_thread, uninterrupted
from ngdata._query.model import Column, Kind, Query, is_metadata_key
from ngdata._reading.atomic_file import AtomicFile, target_path, write_error
from ngdata._reading.reader import Reader

__all__ = ["FrameSink", "RegionFile", "RowsFile", "columns_to_read", "write", "write_frames"]

_GEOMETRY: Final = "geometry"
# Of tokens and of events; the others are in every row.
_OPTIONAL: Final = frozenset(
    {
        "metadata",
        "binary_data",
        "priority",
        "trajectory_id",
        "sequence_number",
        "state_before",
        "state_after",
        "action",
    }
)
_OPTIONAL_KINDS: Final = frozenset({Kind.OPTIONAL_TOKEN_ID, Kind.OPTIONAL_TOKEN_NUMBER})
_AXES: Final = ("x", "y", "z")

# Byte order (1: little-endian), type (1001: point with z, in ISO's numbering), coordinates.
_POINT: Final = np.dtype([("order", "u1"), ("type", "<u4"), ("coords", "<f8", 3)])

_TYPES: Final = {
    Kind.TEXT: pa.string(),
    Kind.TOKEN_ID: pa.string(),
    Kind.TOKEN_NUMBER: pa.uint64(),
    Kind.OPTIONAL_TOKEN_ID: pa.string(),
    Kind.OPTIONAL_TOKEN_NUMBER: pa.uint64(),
    Kind.OPTIONAL_INTEGER: pa.int64(),
    Kind.FLOAT: pa.float64(),
    Kind.INTEGER: pa.int32(),
    Kind.TIME: pa.timestamp("us", tz="UTC"),
    Kind.BYTES: pa.binary(),
}


def columns_to_read(columns: Sequence[str]) -> list[str]:
    """Return the columns to read: those to write, and those that make up the geometry."""
    return list(dict.fromkeys([*columns, *_AXES]))


async def write(
    reader: Reader, query: Query, columns: Sequence[str], rows: int, path: str | os.PathLike[str]
) -> int:
    """Write an answer that has x, y and z in row groups of `rows`; return the number of rows.

    The file appears under its name once it is complete.
    """
    file = RegionFile(
        AtomicFile(target_path(path)),
        [c for c in query.within(reader.ids).columns if c.name in columns],
    )
    await write_frames(reader, query, rows, file, str(path))
    return file.rows


class FrameSink(Protocol):
    """What frames are written to, one after the other."""

    def open(self) -> None:
        """Make what is written to, under a temporary name."""

    def add(self, frame: pd.DataFrame) -> None:
        """Write a frame as a row group."""

    def finish(self) -> None:
        """Let it appear under its name."""

    def discard(self) -> None:
        """Remove it unless it is finished."""


async def write_frames(reader: Reader, query: Query, rows: int, sink: FrameSink, path: str) -> None:
    """Write an answer in frames of `rows` while the server sends it, or leave nothing behind."""
    try:
        # A cancellation waits for the write in progress: else the file would be removed under it.
        await uninterrupted(in_daemon_thread(sink.open))
        async with aclosing(reader.frames(query, rows)) as frames:
            async for frame in frames:
                await uninterrupted(in_daemon_thread(partial(sink.add, frame)))
        await uninterrupted(in_daemon_thread(sink.finish))
    except OSError as error:
        raise write_error(error, path) from None
    finally:
        sink.discard()


class RowsFile:
    """A Parquet file of rows that is written frame by frame.

    Parameters
    ----------
    file : AtomicFile
    columns : sequence of Column

    Attributes
    ----------
    rows : int
        How many rows were written.
    notes : dict of str to str
        What the file's metadata say beside.
    """

    def __init__(self, file: AtomicFile, columns: Sequence[Column]) -> None:
        self._file = file
        self._schema = pa.schema(
            [pa.field(c.name, _TYPES[c.kind], nullable=_may_lack(c)) for c in columns]
        )
        self._writer: pq.ParquetWriter | None = None
        self.rows = 0
        self.notes: dict[str, str] = {}

    def open(self) -> None:
        """Open the file under a temporary name."""
        self._writer = pq.ParquetWriter(self._file.open(), self._schema, compression="zstd")

    def add(self, frame: pd.DataFrame) -> None:
        """Write a frame as a row group."""
        assert self._writer is not None
        arrays = self._arrays(frame)
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        self._writer.write_table(table, row_group_size=len(frame))
        self.rows += len(frame)

    def _arrays(self, frame: pd.DataFrame) -> list[pa.Array]:
        return [
            pa.array(frame[field.name], field.type, from_pandas=True)
            for field in self._schema
            if field.name != _GEOMETRY
        ]

    def finish(self) -> None:
        """Let the file appear under its name."""
        assert self._writer is not None
        self._writer.add_key_value_metadata(self.notes)
        self._writer.close()
        self._file.finish()

    def discard(self) -> None:
        """Remove the file unless it is finished."""
        with contextlib.suppress(Exception):
            if self._writer is not None:
                self._writer.close()
        self._file.discard()


class RegionFile(RowsFile):
    """A file of points, with their geometry as the last column."""

    def __init__(self, file: AtomicFile, columns: Sequence[Column]) -> None:
        super().__init__(file, columns)
        self._schema = self._schema.append(pa.field(_GEOMETRY, pa.binary(), nullable=False))
        self._low = np.full(3, np.inf)
        self._high = np.full(3, -np.inf)

    def _arrays(self, frame: pd.DataFrame) -> list[pa.Array]:
        points = np.empty(len(frame), _POINT)
        points["order"], points["type"] = 1, 1001
        points["coords"] = frame[list(_AXES)].to_numpy()
        self._low = np.minimum(self._low, points["coords"].min(axis=0))
        self._high = np.maximum(self._high, points["coords"].max(axis=0))
        return [*super()._arrays(frame), _wkb(points)]

    def finish(self) -> None:
        """Let the file appear under its name."""
        self.notes["geo"] = json.dumps(self._metadata())
        super().finish()

    def _metadata(self) -> dict[str, Any]:
        column: dict[str, Any] = {
            "encoding": "WKB",
            "geometry_types": ["Point Z"],
            # If the key is missing, coordinates are degrees of longitude and latitude.
            "crs": None,
            "edges": "planar",
        }
        if self.rows:
            column["bbox"] = [*self._low.tolist(), *self._high.tolist()]
        return {"version": "1.1.0", "primary_column": _GEOMETRY, "columns": {_GEOMETRY: column}}


def _may_lack(column: Column) -> bool:
    """Return whether a value of the column may be missing."""
    return (
        column.name in _OPTIONAL or column.kind in _OPTIONAL_KINDS or is_metadata_key(column.name)
    )


def _wkb(points: np.ndarray[Any, Any]) -> pa.Array:
    width = points.dtype.itemsize
    offsets = np.arange(0, width * len(points) + 1, width, dtype=np.int32)
    return pa.Array.from_buffers(
        pa.binary(), len(points), [None, pa.py_buffer(offsets), pa.py_buffer(points)]
    )
