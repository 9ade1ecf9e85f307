"""Regions as GeoParquet files: for DuckDB, GeoPandas, QGIS, Sedona, and whatever reads Parquet.

GeoParquet 1.1.0 (https://geoparquet.org/releases/v1.1.0/): points are ISO WKB, the metadata is JSON
under the key ``geo``.  PyArrow writes the file; the few lines of metadata and the 29 bytes of a
point are made here, because GeoPandas writes whole frames only, not parts as they come.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ngdata._connections.threads import in_daemon_thread, uninterrupted
from ngdata._query.model import Column, Kind, Query
from ngdata._reading.reader import Reader
from ngdata.errors import InvalidQueryError

__all__ = ["needed", "write"]

_GEOMETRY: Final = "geometry"
_AXES: Final = ("x", "y", "z")

# Byte order (1: little endian), type (1001: point with z, in ISO's numbers), coordinates.
_POINT: Final = np.dtype([("order", "u1"), ("type", "<u4"), ("coords", "<f8", 3)])

_TYPES: Final = {
    Kind.TEXT: pa.string(),
    Kind.FLOAT: pa.float64(),
    Kind.INTEGER: pa.int32(),
    Kind.TIME: pa.timestamp("us", tz="UTC"),
}


def needed(columns: Sequence[str]) -> list[str]:
    """Give the columns to read: those that are wanted, and those that make the geometry."""
    return list(dict.fromkeys([*columns, *_AXES]))


async def write(
    reader: Reader, query: Query, columns: Sequence[str], rows: int, path: str | os.PathLike[str]
) -> int:
    """Write an answer that has x, y and z, row group by row group; give the number of rows.

    The file appears under its name when it is whole.
    """
    file = _File(_target(path), [column for column in query.columns if column.name in columns])
    try:
        # Cancelled, it ends what it writes first: the file is not taken away from under it.
        await uninterrupted(in_daemon_thread(file.open))
        async with aclosing(reader.frames(query, rows)) as frames:
            async for frame in frames:
                await uninterrupted(in_daemon_thread(partial(file.add, frame)))
        await uninterrupted(in_daemon_thread(file.finish))
    finally:
        file.discard()
    return file.rows


def _target(path: Any) -> Path:
    try:
        # A link stays one: what it leads to is replaced.
        target = Path(path).resolve()
        is_other = target.exists() and not target.is_file()
    except TypeError:
        raise InvalidQueryError(f"path must be the path of a file, not {path!r}") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidQueryError(f"path cannot be that of a file: {error}") from None
    if not target.name or target.is_dir():
        raise InvalidQueryError(f"path must name a file, and {str(path)!r} is a directory")
    if is_other:
        raise InvalidQueryError(
            f"path must name a file that is new or can be replaced, and {str(path)!r} is a device, "
            "a pipe or a socket"
        )
    return target


class _File:
    """A file that is written under a temporary name, and renamed when it is whole."""

    def __init__(self, target: Path, columns: Sequence[Column]) -> None:
        self._target = target
        # Beside it, or it could not be renamed; no pattern of data files finds it.
        self._temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        fields = [pa.field(c.name, _TYPES[c.kind], nullable=False) for c in columns]
        self._schema = pa.schema([*fields, pa.field(_GEOMETRY, pa.binary(), nullable=False)])
        self._sink: BinaryIO | None = None
        self._writer: pq.ParquetWriter | None = None
        self._low = np.full(3, np.inf)
        self._high = np.full(3, -np.inf)
        self.rows = 0

    def open(self) -> None:
        try:
            self._sink = self._temporary.open("xb")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise InvalidQueryError(
                f"path must name a file that can be written, and {str(self._target)!r} cannot: "
                f"{reason}"
            ) from None
        self._writer = pq.ParquetWriter(self._sink, self._schema, compression="zstd")

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
        table = pa.Table.from_arrays([*arrays, _binary(points)], schema=self._schema)
        assert self._writer is not None
        self._writer.write_table(table, row_group_size=len(frame))
        self.rows += len(frame)

    def finish(self) -> None:
        assert self._writer is not None
        assert self._sink is not None
        self._writer.add_key_value_metadata({"geo": json.dumps(self._metadata())})
        self._writer.close()
        self._sink.flush()
        os.fsync(self._sink.fileno())
        self._sink.close()
        # Who could not read what was there cannot read what comes.
        with contextlib.suppress(FileNotFoundError):
            self._temporary.chmod(stat.S_IMODE(self._target.stat().st_mode))
        os.replace(self._temporary, self._target)

    def _metadata(self) -> dict[str, Any]:
        column: dict[str, Any] = {
            "encoding": "WKB",
            "geometry_types": ["Point Z"],
            # Without the key, they would be degrees of longitude and latitude.
            "crs": None,
            "edges": "planar",
        }
        if self.rows:
            column["bbox"] = [*self._low.tolist(), *self._high.tolist()]
        return {"version": "1.1.0", "primary_column": _GEOMETRY, "columns": {_GEOMETRY: column}}

    def discard(self) -> None:
        """Leave nothing under the temporary name; what was finished has another."""
        if self._sink is None:
            return
        with contextlib.suppress(Exception):
            if self._writer is not None:
                self._writer.close()
        with contextlib.suppress(OSError):  # a full disk has been told already
            self._sink.close()
        self._temporary.unlink(missing_ok=True)


def _binary(points: np.ndarray[Any, Any]) -> pa.Array:
    width = points.dtype.itemsize
    offsets = np.arange(0, width * len(points) + 1, width, dtype=np.int32)
    return pa.Array.from_buffers(
        pa.binary(), len(points), [None, pa.py_buffer(offsets), pa.py_buffer(points)]
    )
