"""A graph as bytes and back, and the rows of `graph.graph_snapshots` that hold it.

The bytes are an `Envelope` around two Arrow IPC streams, compressed with zstd: the tokens' ids, and
the connections, whose ends are the tokens' numbers.  They are believed only after they have been
checked, since every user who may write to the table may have written them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import pyarrow as pa
import pyarrow.compute as pc

from ngdata._arguments.checked_bytes import Envelope, FormatError, read_table, write_table
from ngdata.errors import NGDataError, ResultTooLarge

__all__ = ["CONNECTIONS", "TOKENS", "GraphMetrics", "decode", "encode", "insert_snapshot"]

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

_ENVELOPE: Final = Envelope(
    b"ngdata graph 1\n", lambda data: hashlib.blake2b(data, digest_size=32).digest()
)
_HEAD: Final = ("token_bytes", "connection_bytes", "token_size", "connection_size")

# PostgreSQL limits a value to 1 GiB, together with the message that carries it.  The part of a row is
# less, since client and server hold it several times over.
_PART_BYTES: Final = 1 << 28
# The largest decompressed stream that memory is allocated for.
_MAX_STREAM_BYTES: Final = 1 << 33


@dataclass(frozen=True)
class GraphMetrics:
    """The metrics of a graph that its row shows without the graph itself."""

    node_count: int
    edge_count: int
    mean_degree: float | None
    clustering_coefficient: float | None


def encode(tokens: pa.Table, connections: pa.Table) -> bytes:
    """Return a graph as bytes.

    Raises
    ------
    ResultTooLarge
        They are more than can be read back.
    """
    bodies, sizes = [], []
    for table in (tokens, connections):
        stream = write_table(table)
        sizes.append(len(stream))
        if len(stream) > _MAX_STREAM_BYTES:
            raise ResultTooLarge(
                f"a snapshot of {connections.num_rows:,} connections takes {len(stream):,} bytes, "
                f"and {_MAX_STREAM_BYTES:,} can be read back; keep this graph as files, from "
                "graph.connections()",
                connections.num_rows,
            )
        bodies.append(pa.compress(stream, "zstd", asbytes=True))
    sizes = [*map(len, bodies), *sizes]
    return _ENVELOPE.seal(dict(zip(_HEAD, sizes, strict=True)), *bodies)


def decode(
    data: bytes | None, snapshot_id: str, node_count: int, edge_count: int
) -> tuple[pa.Table, pa.Table]:
    """Return the tokens and connections of a graph from bytes that may be anything.

    Raises
    ------
    NGDataError
        They are not a graph of this many tokens and connections, whole and unaltered.
    """
    try:
        if data is None:
            raise FormatError("it holds no graph")
        tokens, connections = _tables(data)
        _check(tokens, connections, node_count, edge_count)
    except (FormatError, pa.ArrowException) as error:
        raise NGDataError(
            f"snapshot {snapshot_id} cannot be read: {error}; restore the row from a backup, or "
            "delete it"
        ) from None
    return tokens, connections


def _tables(data: bytes) -> tuple[pa.Table, pa.Table]:
    head, body = _ENVELOPE.open(data, dict.fromkeys(_HEAD, int))
    token_bytes, connection_bytes, *sizes = (head[name] for name in _HEAD)
    if any(not 0 <= head[name] <= _MAX_STREAM_BYTES for name in _HEAD):
        raise FormatError("a length in its head is impossible")
    if len(body) != token_bytes + connection_bytes:
        raise FormatError("its length is not the one in its head")
    return (
        read_table(body[:token_bytes], sizes[0], "zstd", TOKENS.equals),
        read_table(body[token_bytes:], sizes[1], "zstd", CONNECTIONS.equals),
    )


def _check(tokens: pa.Table, connections: pa.Table, node_count: int, edge_count: int) -> None:
    if (tokens.num_rows, connections.num_rows) != (node_count, edge_count):
        raise FormatError("it does not hold as many tokens and connections as its row states")
    if any(column.null_count for column in (*tokens.columns, *connections.columns)):
        raise FormatError("a value is missing")
    for ids in (tokens["id"], connections["id"]):
        if pc.count_distinct(ids).as_py() != len(ids):
            raise FormatError("an id occurs twice")
    for end in (connections["source"], connections["target"]):
        low, high = pc.min_max(end).as_py().values()
        if len(end) and (low < 0 or high >= node_count):
            raise FormatError("an end of a connection is not among its tokens")
    if not pc.all(pc.is_finite(connections["weight"]), min_count=0).as_py():
        raise FormatError("a weight is not finite")


async def insert_snapshot(
    connection: asyncpg.Connection[Any],
    label: str | None,
    created_at: Any,
    metrics: GraphMetrics,
    data: bytes,
) -> str:
    """Insert the row, and those of further parts, and return its id."""
    snapshot_id: str = await connection.fetchval(
        "INSERT INTO graph.graph_snapshots (label, created_at, node_count, edge_count, mean_degree,"
        " clustering_coefficient, data) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id::text",
        label,
        created_at,
        metrics.node_count,
        metrics.edge_count,
        metrics.mean_degree,
        metrics.clustering_coefficient,
        data[:_PART_BYTES],
    )
    for part, first in enumerate(range(_PART_BYTES, len(data), _PART_BYTES), 1):
        await connection.execute(
            "INSERT INTO graph.graph_snapshots (created_at, node_count, edge_count, data, part_of, part)"
            " VALUES ($1, 0, 0, $2, $3::text::uuid, $4)",
            created_at,
            data[first : first + _PART_BYTES],
            snapshot_id,
            part,
        )
    return snapshot_id
