"""The compact columns that the server sends, converted to those of the answer.

Ids, coordinates and constants, a whole batch at a time, in memory that Arrow owns.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from ngdata._arguments.id_space import foreign_id
from ngdata._arguments.ids import id_bytes, id_text
from ngdata._arguments.integer_ids import numbers_of_uuids
from ngdata._query.model import Form, Kind, Query, Sent

__all__ = ["plain_batch", "unpack_batch"]

# Extended WKB in PostGIS of a point without an SRID: byte order, type, three numbers.
_POINT_BYTES: Final = 29
_COORDINATES_OFFSET: Final = 5

_NUMBERS: Final = (Kind.TOKEN_NUMBER, Kind.OPTIONAL_TOKEN_NUMBER)


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
    if not query.sent:
        return plain_batch(batch, query)
    names = [column.name for column in query.columns]
    columns = [
        _column(batch, sent, query.id_space if column.kind in _NUMBERS else None)
        for column, sent in zip(query.columns, query.sent, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names)


def plain_batch(batch: pa.RecordBatch, query: Query) -> pa.RecordBatch:
    """Return the columns of an answer, made from a batch that has exactly these columns."""
    names = [column.name for column in query.columns]
    if query.id_space is None:
        return batch.rename_columns(names)
    columns = [
        _numbers_of_texts(values, query.id_space) if column.kind in _NUMBERS else values
        for column, values in zip(query.columns, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names)


def _column(batch: pa.RecordBatch, sent: Sent, id_space: str | None) -> pa.Array:
    if sent.form is Form.CONSTANT:
        return pa.repeat(pa.scalar(sent.value, pa.int32()), batch.num_rows)
    column = batch.column(sent.place)
    if sent.form is Form.UUID:
        raw = _id_bytes(column)
        return id_text(raw, pa.string()) if id_space is None else _numbers(raw, id_space)
    if sent.form is Form.POINT:
        return _coordinate(column, sent.value)
    # A copy: any column of the driver's batch would keep the whole batch in memory.
    return pa.concat_arrays([column, column[:0]])


def _id_bytes(ids: pa.Array) -> np.ndarray:
    if isinstance(ids.type, pa.BaseExtensionType):
        ids = ids.storage
    count = len(ids)
    if ids.type != pa.binary(16) or ids.null_count:
        raise TypeError(f"ids must be 16 bytes each, not {ids.type} with {ids.null_count} NULLs")
    return _bytes_of(ids.buffers()[1])[16 * ids.offset :][: 16 * count]


def _numbers(raw: np.ndarray, id_space: str) -> pa.Array:
    numbers, are_numbers = numbers_of_uuids(raw, id_space)
    if not are_numbers.all():
        row = int(are_numbers.argmin())
        (text,) = id_text(raw.reshape(-1, 16)[row]).to_pylist()
        raise foreign_id(text, id_space)
    return pa.array(numbers)


def _numbers_of_texts(texts: pa.Array, id_space: str) -> pa.Array:
    raw = id_bytes(texts.drop_null())
    if raw is None:
        raise TypeError("ids must be sent as canonical text")
    numbers = _numbers(raw, id_space)
    if not texts.null_count:
        return numbers
    rows = np.zeros(len(texts), np.uint64)
    is_missing = texts.is_null().to_numpy(zero_copy_only=False)
    rows[~is_missing] = numbers.to_numpy()
    return pa.array(rows, mask=is_missing)


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
