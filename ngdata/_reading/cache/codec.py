"""An answer as bytes for Redis, which are believed only after they have been checked.

The bytes are an `Envelope` around the table as an Arrow IPC stream.  The head holds the answer's
own key, so an answer under the key of another question is a miss (redis-py#2624, #2665: after a
cancelled command the next reader received its answer).  The checksum is made with a secret of the
database, so bytes that others wrote are refused before Arrow parses them.
"""

from __future__ import annotations

import hmac
from typing import Any, Final

import pyarrow as pa

from ngdata._arguments.checked_bytes import Envelope, FormatError, read_table, write_table
from ngdata._query.model import Column, Kind
from ngdata._reading.answer import Answer

__all__ = ["FORMAT", "decode", "encode"]

FORMAT: Final = 2
_MARK: Final = b"ngdata%d" % FORMAT
_HEAD: Final = {"key": str, "version": str, "made": float, "rows": int, "size": int}

# For smaller tables, compressing costs more than the bytes it saves.
_MIN_COMPRESSED_BYTES: Final = 1 << 15

_ARROW_TYPES: Final[dict[Kind, tuple[pa.DataType, ...]]] = {
    Kind.TEXT: (pa.string(),),
    Kind.TOKEN_ID: (pa.string(),),
    Kind.OPTIONAL_TOKEN_ID: (pa.string(),),
    Kind.TOKEN_NUMBER: (pa.uint64(),),
    Kind.OPTIONAL_TOKEN_NUMBER: (pa.uint64(),),
    Kind.FLOAT: (pa.float64(),),
    Kind.INTEGER: (pa.int16(), pa.int32(), pa.int64()),
    Kind.OPTIONAL_INTEGER: (pa.int16(), pa.int32(), pa.int64()),
    Kind.BOOLEAN: (pa.bool_(),),
    Kind.TIME: (pa.timestamp("us", "UTC"),),
    Kind.JSON: (pa.string(),),
    Kind.BYTES: (pa.binary(),),
    Kind.COORDS: (pa.list_(pa.float64()),),
}


def encode(key: str, answer: Answer, secret: bytes) -> bytes:
    """Return an answer as bytes, compressed if that pays."""
    body = write_table(answer.table)
    size, compression = len(body), None
    if size >= _MIN_COMPRESSED_BYTES:
        compressed = pa.compress(body, "lz4", asbytes=True)
        if len(compressed) < 0.8 * size:
            body, compression = compressed, "lz4"
    head = {
        "key": key,
        "version": answer.version,
        "made": answer.read_at,
        "rows": answer.table.num_rows,
        "size": size,
        "compression": compression,
        "unit": answer.unit,
        "snapshot": answer.snapshot,
    }
    return _envelope(secret).seal(head, body)


def _envelope(secret: bytes) -> Envelope:
    return Envelope(_MARK, lambda data: hmac.digest(secret, data, "sha256"))


def decode(
    key: str, value: Any, columns: tuple[Column, ...], secret: bytes, max_bytes: int
) -> Answer:
    """Return the answer from bytes that may be anything.

    Parameters
    ----------
    key : str
        The key of the question.
    value : object
        As received from Redis.
    columns : tuple of Column
        The columns that the answer must have.
    secret : bytes
        The one it was encoded with.
    max_bytes : int
        The largest table that memory is allocated for.

    Raises
    ------
    FormatError
        They are not that answer, whole and unaltered.
    """
    if not isinstance(value, bytes):
        raise FormatError("it is not a byte string")
    head, body = _envelope(secret).open(value, _HEAD)
    if head["key"] != key:
        raise FormatError("it answers another question")
    compression, unit, snapshot = map(head.get, ("compression", "unit", "snapshot"))
    if not 0 <= head["size"] <= max_bytes or compression not in (None, "lz4"):
        raise FormatError("it is too large, or its compression is unknown")
    if not isinstance(unit, str | None):
        raise FormatError("its unit is not a text")
    if not isinstance(snapshot, str | None):
        raise FormatError("its snapshot is not a text")
    table = read_table(body, head["size"], compression, lambda schema: _matches(schema, columns))
    if table.num_rows != head["rows"]:
        raise FormatError("its number of rows is not the one in its head")
    return Answer(table, columns, head["version"], head["made"], unit, snapshot)


def _matches(schema: pa.Schema, columns: tuple[Column, ...]) -> bool:
    return schema.names == [column.name for column in columns] and all(
        kind in _ARROW_TYPES[column.kind]
        for kind, column in zip(schema.types, columns, strict=True)
    )
