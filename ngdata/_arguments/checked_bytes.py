"""Tables as bytes, checked before use because any program may have written them.

The bytes are a mark, a checksum of the rest, the length of the head, the head in JSON, and a body.
Each format defines its mark, its checksum and the values of its head; tables in the body are Arrow
IPC streams.
"""

from __future__ import annotations

import hmac
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

__all__ = ["Envelope", "FormatError", "read_table", "write_table"]

_CHECKSUM_BYTES: Final = 32
_LENGTH: Final = struct.Struct("<I")
_MAX_HEAD_BYTES: Final = 1 << 16


class FormatError(Exception):
    """Bytes are not what they should be; the text says why."""


@dataclass(frozen=True)
class Envelope:
    """The part of a format around the body: mark, checksum and head.

    Attributes
    ----------
    mark : bytes
        The first bytes; they name the format and its version.
    checksum : function
        Returns 32 bytes for any others.

    Examples
    --------
    >>> from hashlib import sha256
    >>> from ngdata._arguments.checked_bytes import Envelope
    >>> envelope = Envelope(b"example 1", lambda data: sha256(data).digest())
    >>> head, body = envelope.open(envelope.seal({"rows": 2}, b"the ", b"body"), {"rows": int})
    >>> head, bytes(body)
    ({'rows': 2}, b'the body')
    """

    mark: bytes
    checksum: Callable[[bytes | memoryview], bytes]

    def seal(self, head: Mapping[str, Any], *body: bytes) -> bytes:
        """Return the bytes of a head and of a body, which may come in pieces."""
        text = json.dumps(head).encode()
        rest = b"".join((_LENGTH.pack(len(text)), text, *body))
        return b"".join((self.mark, self.checksum(rest), rest))

    def open(
        self, data: bytes | memoryview, types: Mapping[str, type]
    ) -> tuple[dict[str, Any], memoryview]:
        """Return the head and the body of bytes that may be anything.

        Parameters
        ----------
        data : bytes
        types : dict of str to type
            The values that the head must have.

        Raises
        ------
        FormatError
            They are not in this format, whole and unaltered.
        """
        view = memoryview(data)
        start = len(self.mark) + _CHECKSUM_BYTES
        if len(view) < start + _LENGTH.size or view[: len(self.mark)] != self.mark:
            raise FormatError("its bytes are not in this format")
        rest = view[start:]
        if not hmac.compare_digest(view[len(self.mark) : start], self.checksum(rest)):
            raise FormatError("its checksum is wrong")
        (length,) = _LENGTH.unpack_from(rest)
        if length > min(_MAX_HEAD_BYTES, len(rest) - _LENGTH.size):
            raise FormatError("its head is too long")
        end = _LENGTH.size + length
        return _head(bytes(rest[_LENGTH.size : end]), types), rest[end:]


def _head(text: bytes, types: Mapping[str, type]) -> dict[str, Any]:
    try:
        head = json.loads(text)
    except (ValueError, RecursionError):
        raise FormatError("its head is not JSON") from None
    # Exactly these types: a bool is an int too.
    if not isinstance(head, dict) or any(
        type(head.get(name)) is not kind for name, kind in types.items()
    ):
        raise FormatError("a value of its head is missing or of another type")
    return head


def write_table(table: pa.Table) -> bytes:
    """Return a table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def read_table(
    body: memoryview, size: int, compression: str | None, is_expected: Callable[[pa.Schema], bool]
) -> pa.Table:
    """Return the table of an Arrow IPC stream that may be anything.

    Parameters
    ----------
    body : memoryview
    size : int
        The bytes of the stream, once decompressed.
    compression : str or None
    is_expected : function
        Returns whether a schema is the one that the table must have.

    Raises
    ------
    FormatError
        It is not a valid stream of this size and schema.
    """
    buffer: Any = pa.py_buffer(body)
    try:
        if compression is not None:
            buffer = pa.decompress(buffer, size, compression)
        if buffer.size != size:
            raise FormatError("its length is not the one in its head")
        with pa.ipc.open_stream(buffer) as stream:
            if not is_expected(stream.schema):
                raise FormatError("its columns are not the expected ones")
            table = stream.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FormatError(f"it does not hold a valid table: {error}") from None
    return table
