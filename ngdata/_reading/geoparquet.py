"""Regions as GeoParquet files: for DuckDB, GeoPandas, QGIS, Sedona, and all readers of Parquet.

GeoParquet 1.1.0 (https://geoparquet.org/releases/v1.1.0/): points are ISO WKB, the metadata is JSON
under the key ``geo``.  PyArrow writes the file; the few lines of metadata and the 29 bytes of a
point are written here, because GeoPandas writes only whole frames, not parts of a stream.
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

from ngdata._arguments.shown import guarded, shown
from ngdata._connections.driver_errors import shortage
from ngdata._connections.threads import in_daemon_thread, uninterrupted
from ngdata._query.model import Column, Kind, Query, is_metadata_key
from ngdata._reading.reader import Reader
from ngdata.errors import InvalidQueryError, NGDataError

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
    file = _AtomicFile(
        _target(path),
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
        raise _failed(error, str(path)) from None
    finally:
        file.discard()
    return file.rows


def _failed(error: OSError, path: str) -> Exception:
    if isinstance(error, NGDataError):
        return error
    what = f"{path!r} could not be written, and is as it was before"
    return shortage(error, what) or NGDataError(f"{what}: {error.strerror or error}")


@guarded
def _target(path: Any, name: str = "path") -> Path:
    try:
        # A link stays a link: the file that it points to is replaced.
        target = Path(path).resolve()
        is_special = target.exists() and not target.is_file()
    except TypeError:
        raise InvalidQueryError(f"{name} must be the path of a file, not {shown(path)}") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidQueryError(
            f"{name} cannot be the path of a file: {shown(path)}: "
            f"{getattr(error, 'strerror', None) or shown(error)}"
        ) from None
    if not target.name or target.is_dir():
        raise InvalidQueryError(f"{name} must name a file, but {shown(str(path))} is a directory")
    if is_special:
        raise InvalidQueryError(
            f"{name} must name a new file or one to replace, but {shown(str(path))} is a device, a pipe "
            "or a socket"
        )
    return target


class _AtomicFile:
    """A file that is written under a temporary name, and renamed once it is complete."""

    def __init__(self, target: Path, columns: Sequence[Column]) -> None:
        self._target = target
        # In the same directory, so that it can be renamed; no glob for data files matches it.
        self._temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        fields = [
            pa.field(
                c.name, _TYPES[c.kind], nullable=c.name in _OPTIONAL or is_metadata_key(c.name)
            )
            for c in columns
        ]
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
            if isinstance(error, OSError) and shortage(error, "") is not None:
                raise
            reason = error.strerror if isinstance(error, OSError) else error
            raise InvalidQueryError(
                f"path must name a file that can be written, but {str(self._target)!r} cannot: "
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
        table = pa.Table.from_arrays([*arrays, _wkb(points)], schema=self._schema)
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
        # The permissions of a replaced file are kept: users who could not read it still cannot.
        with contextlib.suppress(FileNotFoundError):
            self._temporary.chmod(stat.S_IMODE(self._target.stat().st_mode))
        os.replace(self._temporary, self._target)

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
        """Remove the file under the temporary name; a finished file has another name."""
        if self._sink is None:
            return
        with contextlib.suppress(Exception):
            if self._writer is not None:
                self._writer.close()
        with contextlib.suppress(OSError):  # a full disk has already raised
            self._sink.close()
        self._temporary.unlink(missing_ok=True)


def _wkb(points: np.ndarray[Any, Any]) -> pa.Array:
    width = points.dtype.itemsize
    offsets = np.arange(0, width * len(points) + 1, width, dtype=np.int32)
    return pa.Array.from_buffers(
        pa.binary(), len(points), [None, pa.py_buffer(offsets), pa.py_buffer(points)]
    )
