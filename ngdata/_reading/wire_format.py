"""The compact columns that the server sends, converted to those of the answer.

Ids, coordinates and constants, a whole batch at a time, in memory that Arrow owns.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from ngdata._arguments.ids import id_text
from ngdata._query.model import Form, Query, Sent

__all__ = ["unpack_batch"]

# Extended WKB in PostGIS of a point without an SRID: byte order, type, three numbers.
_POINT_BYTES: Final = 29
_COORDINATES_OFFSET: Final = 5


def unpack_batch(batch: pa.RecordBatch, query: Query) -> pa.RecordBatch:
    """Return the columns of an answer, made from a batch as the server sends it.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        Has the columns of ``query.sql``.
    query : Query

    Returns
    -------
    pyarrow.RecordBatch
        Has the columns of the query, by name.
    """
    names = [column.name for column in query.columns]
    if not query.sent:
        return batch.rename_columns(names)
    return pa.RecordBatch.from_arrays([_column(batch, sent) for sent in query.sent], names)


def _column(batch: pa.RecordBatch, sent: Sent) -> pa.Array:
    if sent.form is Form.CONSTANT:
        return pa.repeat(pa.scalar(sent.value, pa.int32()), batch.num_rows)
    column = batch.column(sent.place)
    if sent.form is Form.UUID:
        return _id_text(column)
    if sent.form is Form.POINT:
        return _coordinate(column, sent.value)
    # A copy: any column of the driver's batch would keep the whole batch in memory.
    return pa.concat_arrays([column, column[:0]])


def _id_text(ids: pa.Array) -> pa.Array:
    if isinstance(ids.type, pa.BaseExtensionType):
        ids = ids.storage
    count = len(ids)
    if ids.type != pa.binary(16) or ids.null_count:
        raise TypeError(f"ids must be 16 bytes each, not {ids.type} with {ids.null_count} NULLs")
    raw = _bytes_of(ids.buffers()[1])[16 * ids.offset :][: 16 * count]
    return id_text(raw, pa.string())


def _coordinate(points: pa.Array, axis: int) -> pa.Array:
    count = len(points)
    buffer = pa.allocate_buffer(8 * count)
    if count:
        _, offsets, data = points.buffers()
        first, last = np.frombuffer(offsets, np.int32)[[points.offset, points.offset + count]]
        if last - first != _POINT_BYTES * count or points.null_count:
            raise TypeError("points of three coordinates must be 29 bytes each")
        sent = _bytes_of(data)[first:last]
        order = "<" if sent[0] else ">"
        layout = np.dtype(
            {
                "names": ["at"],
                "formats": [f"{order}f8"],
                "offsets": [_COORDINATES_OFFSET + 8 * axis],
                "itemsize": _POINT_BYTES,
            }
        )
        np.frombuffer(buffer, np.float64)[:] = sent.view(layout)["at"]
    return pa.Array.from_buffers(pa.float64(), count, [None, buffer])


def _bytes_of(buffer: pa.Buffer) -> np.ndarray:
    return np.frombuffer(buffer, np.uint8)
