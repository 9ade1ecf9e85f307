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
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ngdata._connections.threads import in_daemon_thread, uninterrupted
from ngdata._query.model import Column, Kind, Query, is_metadata_key
from ngdata._reading.atomic_file import AtomicFile, target_path, write_error
from ngdata._reading.reader import Reader

__all__ = ["columns_to_read", "write"]

_GEOMETRY: Final = "geometry"
_OPTIONAL: Final = ("metadata", "binary_data")
_AXES: Final = ("x", "y", "z")

# Byte order (1: little-endian), type (1001: point with z, in ISO's numbering), coordinates.
_POINT: Final = np.dtype([("order", "u1"), ("type", "<u4"), ("coords", "<f8", 3)])

_TYPES: Final = {
    Kind.TEXT: pa.string(),
    Kind.TOKEN_ID: pa.string(),
    Kind.TOKEN_NUMBER: pa.uint64(),
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
    file = _RegionFile(
        AtomicFile(target_path(path)),
        [c for c in query.within(reader.ids).columns if c.name in columns],
    )
    try:
        # A cancellation waits for the write in progress: else the file would be removed under it.
        await uninterrupted(in_daemon_thread(file.open))
        async with aclosing(reader.frames(query, rows)) as frames:
            async for frame in frames:
                await uninterrupted(in_daemon_thread(partial(file.add, frame)))
        await uninterrupted(in_daemon_thread(file.finish))
    except OSError as error:
        raise write_error(error, str(path)) from None
    finally:
        file.discard()
    return file.rows


class _RegionFile:
    """A file of points that is written frame by frame."""

    def __init__(self, file: AtomicFile, columns: Sequence[Column]) -> None:
        self._file = file
        fields = [
            pa.field(
                c.name, _TYPES[c.kind], nullable=c.name in _OPTIONAL or is_metadata_key(c.name)
            )
            for c in columns
        ]
        self._schema = pa.schema([*fields, pa.field(_GEOMETRY, pa.binary(), nullable=False)])
        self._writer: pq.ParquetWriter | None = None
        self._low = np.full(3, np.inf)
        self._high = np.full(3, -np.inf)
        self.rows = 0

    def open(self) -> None:
        self._writer = pq.ParquetWriter(self._file.open(), self._schema, compression="zstd")

    def add(self, frame: pd.DataFrame) -> None:
        points = np.empty(len(frame), _POINT)
        points["order"], points["type"] = 1, 1001
        points["coords"] = frame[list(_AXES)].to_numpy()
        self._low = np.minimum(self._low, points["coords"].min(axis=0))
        self._high = np.maximum(self._high, points["coords"].max(axis=0))
        arrays = [
            pa.array(frame[field.name], field.type, from_pandas=True)
            for field in self._schema
            if field.name != _GEOMETRY
        ]
        table = pa.Table.from_arrays([*arrays, _wkb(points)], schema=self._schema)
        assert self._writer is not None
        self._writer.write_table(table, row_group_size=len(frame))
        self.rows += len(frame)

    def finish(self) -> None:
        assert self._writer is not None
        self._writer.add_key_value_metadata({"geo": json.dumps(self._metadata())})
        self._writer.close()
        self._file.finish()

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

    def discard(self) -> None:
        """Remove the file unless it is finished."""
        with contextlib.suppress(Exception):
            if self._writer is not None:
                self._writer.close()
        self._file.discard()


def _wkb(points: np.ndarray[Any, Any]) -> pa.Array:
    width = points.dtype.itemsize
    offsets = np.arange(0, width * len(points) + 1, width, dtype=np.int32)
    return pa.Array.from_buffers(
        pa.binary(), len(points), [None, pa.py_buffer(offsets), pa.py_buffer(points)]
    )
