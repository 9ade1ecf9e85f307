"""A graph as bytes and back, and the row of `graph.graph_snapshots` that holds it.

The bytes are a mark, a checksum of all that follows, a length, a head in JSON, and two Arrow IPC
streams, compressed by zstd: the tokens' ids, and the connections, whose ends are numbers of tokens.
They are believed only after they have been checked, since anybody who writes to the table may have
put them there.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import pyarrow as pa
import pyarrow.compute as pc

from ngdata.errors import NGDataError, ResultTooLarge

__all__ = ["CONNECTIONS", "TOKENS", "Figures", "decoded", "encoded", "insert_snapshot"]

_ID: Final = pa.binary(16)
TOKENS: Final = pa.schema([pa.field("id", _ID, nullable=False)])
CONNECTIONS: Final = pa.schema(
    [
        pa.field("id", _ID, nullable=False),
        pa.field("source", pa.int32(), nullable=False),
        pa.field("target", pa.int32(), nullable=False),
        pa.field("connection_type", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("weight", pa.float64(), nullable=False),
        pa.field("bidirectional", pa.bool_(), nullable=False),
    ]
)

_MARK: Final = b"ngdata graph 1\n"
_CHECKSUM_BYTES: Final = 32
_LENGTH: Final = struct.Struct("<I")
_HEAD: Final = ("token_bytes", "connection_bytes", "token_size", "connection_size")

# A value of PostgreSQL's ends at 1 GiB, the message that brings it included.
_MOST_BYTES: Final = (1 << 30) - (1 << 16)
# What is made room for when one is read.
_MOST_SIZE: Final = 1 << 33


@dataclass(frozen=True)
class Figures:
    """What a snapshot's row tells beside the graph."""

    node_count: int
    edge_count: int
    mean_degree: float | None
    clustering_coefficient: float | None


def encoded(tokens: pa.Table, connections: pa.Table) -> bytes:
    """Write a graph as bytes.

    Raises
    ------
    ResultTooLarge
        More bytes than a row can hold.
    """
    streams = [_stream(tokens), _stream(connections)]
    bodies = [pa.compress(stream, "zstd", asbytes=True) for stream in streams]
    values = [len(part) for part in (*bodies, *streams)]
    head = json.dumps(dict(zip(_HEAD, values, strict=True))).encode()
    rest = b"".join((_LENGTH.pack(len(head)), head, *bodies))
    if len(rest) > _MOST_BYTES:
        raise ResultTooLarge(
            f"a snapshot of {connections.num_rows:,} connections takes {len(rest):,} bytes, and a "
            f"row holds {_MOST_BYTES:,}; keep this graph as files, from graph.connections()",
            connections.num_rows,
        )
    return b"".join((_MARK, _checksum(rest), rest))


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _checksum(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECKSUM_BYTES).digest()


class _Refused(Exception):  # noqa: N818 - says why; never leaves this module
    pass


def decoded(
    data: bytes | None, snapshot_id: str, node_count: int, edge_count: int
) -> tuple[pa.Table, pa.Table]:
    """Read a graph from bytes that may be anything.

    Raises
    ------
    NGDataError
        They are not a graph of so many tokens and connections, whole and unaltered.
    """
    try:
        if data is None:
            raise _Refused("it holds no graph")
        tokens, connections = _tables(memoryview(data))
        _check(tokens, connections, node_count, edge_count)
    except (_Refused, pa.ArrowException, OSError, ValueError) as error:
        raise NGDataError(
            f"snapshot {snapshot_id} cannot be read: {error}; restore the row from a backup, or "
            "delete it"
        ) from None
    return tokens, connections


def _tables(view: memoryview) -> tuple[pa.Table, pa.Table]:
    start = len(_MARK) + _CHECKSUM_BYTES
    if len(view) < start + _LENGTH.size or bytes(view[: len(_MARK)]) != _MARK:
        raise _Refused("its bytes are not in this format")
    rest = view[start:]
    if bytes(view[len(_MARK) : start]) != _checksum(rest):
        raise _Refused("its checksum is wrong")
    (length,) = _LENGTH.unpack_from(rest)
    head = json.loads(bytes(rest[_LENGTH.size : _LENGTH.size + length]))
    if not isinstance(head, dict) or any(
        type(head.get(name)) is not int or not 0 <= head[name] <= _MOST_SIZE for name in _HEAD
    ):
        raise _Refused("its head lacks something")
    first, second, *sizes = (head[name] for name in _HEAD)
    body = rest[_LENGTH.size + length :]
    if len(body) != first + second:
        raise _Refused("it is not as long as it says")
    return (
        _table(body[:first], sizes[0], TOKENS),
        _table(body[first:], sizes[1], CONNECTIONS),
    )


def _table(body: memoryview, size: int, schema: pa.Schema) -> pa.Table:
    buffer = pa.decompress(pa.py_buffer(body), size, "zstd")
    with pa.ipc.open_stream(buffer) as stream:
        if stream.schema != schema:
            raise _Refused("its columns are others")
        table = stream.read_all()
    table.validate(full=True)
    return table


def _check(tokens: pa.Table, connections: pa.Table, node_count: int, edge_count: int) -> None:
    if (tokens.num_rows, connections.num_rows) != (node_count, edge_count):
        raise _Refused("it has not as many tokens or connections as it says")
    if any(column.null_count for column in (*tokens.columns, *connections.columns)):
        raise _Refused("a value is missing")
    for ids in (tokens["id"], connections["id"]):
        if pc.count_distinct(ids).as_py() != len(ids):
            raise _Refused("an id stands twice")
    for end in (connections["source"], connections["target"]):
        least, most = pc.min_max(end).as_py().values()
        if len(end) and (least < 0 or most >= node_count):
            raise _Refused("a connection ends at no token of it")
    if not pc.all(pc.is_finite(connections["weight"]), min_count=0).as_py():
        raise _Refused("a weight is not finite")


async def insert_snapshot(
    connection: asyncpg.Connection[Any],
    label: str | None,
    taken: Any,
    figures: Figures,
    data: bytes,
) -> str:
    """Write the row, and give its id."""
    found: str = await connection.fetchval(
        "INSERT INTO graph.graph_snapshots (label, created_at, node_count, edge_count, mean_degree,"
        " clustering_coefficient, data) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id::text",
        label,
        taken,
        figures.node_count,
        figures.edge_count,
        figures.mean_degree,
        figures.clustering_coefficient,
        data,
    )
    return found
