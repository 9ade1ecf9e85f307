"""An answer as bytes for Redis, which are believed only after they have been checked.

The bytes are: a mark, a checksum of all that follows, a length, a head in JSON, the table as an
Arrow IPC stream.  The head carries the answer's own key, so that one that belongs to another
question is a miss (redis-py#2624, #2665: after a cancelled command the next reader got it).  The
checksum is made with a secret of the database, so nobody else's bytes come as far as Arrow.
"""

from __future__ import annotations

import hmac
import json
import struct
from typing import Any, Final

import pyarrow as pa

from ngdata._query.model import Column, Kind
from ngdata._reading.answer import Answer

__all__ = ["FORMAT", "Refused", "decoded", "encoded"]

FORMAT: Final = 1
_MARK: Final = b"ngdata%d" % FORMAT
_CHECKSUM_BYTES: Final = 32
_LENGTH: Final = struct.Struct("<I")
_MOST_HEAD_BYTES: Final = 1 << 16

# Below, compressing costs more than the bytes it saves.
_WORTH_COMPRESSING: Final = 1 << 15

_ARROW: Final[dict[Kind, tuple[pa.DataType, ...]]] = {
    Kind.TEXT: (pa.string(),),
    Kind.FLOAT: (pa.float64(),),
    Kind.INTEGER: (pa.int16(), pa.int32(), pa.int64()),
    Kind.OPTIONAL_INTEGER: (pa.int16(), pa.int32(), pa.int64()),
    Kind.BOOLEAN: (pa.bool_(),),
    Kind.TIME: (pa.timestamp("us", "UTC"),),
    Kind.JSON: (pa.string(),),
    Kind.BYTES: (pa.binary(),),
    Kind.COORDS: (pa.list_(pa.float64()),),
}


class Refused(Exception):  # noqa: N818 - says why a value is a miss; never leaves the cache
    """Bytes that are not the answer that was asked for."""


def encoded(key: str, answer: Answer, secret: bytes) -> bytes:
    """Write an answer as bytes; compressed where that pays."""
    body = _stream(answer.table)
    size, compression = len(body), None
    if size >= _WORTH_COMPRESSING:
        smaller = pa.compress(body, "lz4", asbytes=True)
        if len(smaller) < 0.8 * size:
            body, compression = smaller, "lz4"
    head = json.dumps(
        {
            "key": key,
            "version": answer.version,
            "made": answer.read_at,
            "rows": answer.table.num_rows,
            "size": size,
            "compression": compression,
        }
    ).encode()
    rest = b"".join((_LENGTH.pack(len(head)), head, body))
    return b"".join((_MARK, _checksum(rest, secret), rest))


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _checksum(data: bytes | memoryview, secret: bytes) -> bytes:
    return hmac.digest(secret, data, "sha256")


def decoded(
    key: str, value: Any, columns: tuple[Column, ...], secret: bytes, most_bytes: int
) -> Answer:
    """Read an answer from bytes that may be anything.

    Parameters
    ----------
    key : str
        The question.
    value : object
        As it came from Redis.
    columns : tuple of Column
        What the answer must have.
    secret : bytes
        What it was encoded with.
    most_bytes : int
        The largest table that is made room for.

    Raises
    ------
    Refused
        If they are not that answer, whole and unaltered.
    """
    if not isinstance(value, bytes):
        raise Refused("it is no byte string")
    view = memoryview(value)
    start = len(_MARK) + _CHECKSUM_BYTES
    if len(view) < start + _LENGTH.size or view[: len(_MARK)] != _MARK:
        raise Refused("it is not in this format")
    rest = view[start:]
    if not hmac.compare_digest(view[len(_MARK) : start], _checksum(rest, secret)):
        raise Refused("its checksum is wrong")
    (length,) = _LENGTH.unpack_from(rest)
    if length > min(_MOST_HEAD_BYTES, len(rest) - _LENGTH.size):
        raise Refused("its head is too long")
    head = _checked_head(bytes(rest[_LENGTH.size : _LENGTH.size + length]), key, most_bytes)
    table = _checked_table(rest[_LENGTH.size + length :], head, columns)
    return Answer(table, columns, head["version"], head["made"])


def _checked_head(text: bytes, key: str, most_bytes: int) -> dict[str, Any]:
    try:
        head = json.loads(text)
    except ValueError:
        raise Refused("its head is no JSON") from None
    kinds = {"key": str, "version": str, "made": float, "rows": int, "size": int}
    if not isinstance(head, dict) or any(
        type(head.get(name)) is not kind for name, kind in kinds.items()
    ):
        raise Refused("its head lacks something")
    if head["key"] != key:
        raise Refused("it answers another question")
    if not 0 <= head["size"] <= most_bytes or head.get("compression") not in (None, "lz4"):
        raise Refused("it is too large, or compressed in an unknown way")
    return head


def _checked_table(body: memoryview, head: dict[str, Any], columns: tuple[Column, ...]) -> pa.Table:
    buffer: Any = pa.py_buffer(body)
    try:
        if head["compression"] is not None:
            buffer = pa.decompress(buffer, head["size"], head["compression"])
        if buffer.size != head["size"]:
            raise Refused("it is not as long as it says")
        with pa.ipc.open_stream(buffer) as stream:
            if not _fits(stream.schema, columns):
                raise Refused("its columns are others")
            table = stream.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Refused(f"it is no table: {error}") from None
    if table.num_rows != head["rows"]:
        raise Refused("it has not as many rows as it says")
    return table


def _fits(schema: pa.Schema, columns: tuple[Column, ...]) -> bool:
    return schema.names == [column.name for column in columns] and all(
        kind in _ARROW[column.kind] for kind, column in zip(schema.types, columns, strict=True)
    )
