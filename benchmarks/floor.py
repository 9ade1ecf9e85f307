"""The floor: what the server itself needs to send rows, to a reader that throws them away unread.

Libraries that read COPY look at each row, which takes them longer than the server needs.  So this
reads the socket, in large pieces, and looks only for the end.
"""

from __future__ import annotations

import socket
import struct
from typing import Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["Drain"]

_READY: Final = b"Z\0\0\0\x05"


class Drain:
    """A connection to a server on a unix socket that asks for no password."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}")
        asked = ("user", unquote(parts.username or ""), "database", parts.path[1:])
        body = b"".join(text.encode() + b"\0" for text in asked) + b"\0"
        self._socket.sendall(struct.pack("!ii", len(body) + 8, 196608) + body)
        self._buffer = bytearray(1 << 18)
        self._drain()

    def copy(self, statement: str) -> int:
        """Have an answer sent as COPY BINARY; give its size in bytes."""
        return self.run(f"COPY ({statement}) TO STDOUT (FORMAT binary)")

    def run(self, statement: str) -> int:
        """Run a statement, and count the bytes of what comes."""
        body = statement.encode() + b"\0"
        self._socket.sendall(b"Q" + struct.pack("!i", len(body) + 4) + body)
        return self._drain()

    def _drain(self) -> int:
        count, end = 0, b""
        while True:
            received = self._socket.recv_into(self._buffer)
            if not received:
                raise ConnectionError("the server hung up")
            if not count and self._buffer[:1] == b"E":
                raise RuntimeError(bytes(self._buffer[:received]).replace(b"\0", b" ").decode())
            count += received
            end = (end + bytes(self._buffer[max(0, received - 6) : received]))[-6:]
            if end[:5] == _READY:
                return count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
