"""Snapshots of the graph: made from the rows of a read, loaded as frames, and compared.

`ngdata._store.snapshots` holds their format.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ngdata._arguments.cards import Card
from ngdata._arguments.id_space import UUIDS, IdSpace
from ngdata._arguments.ids import id_text
from ngdata._arguments.texts import STR, text_column
from ngdata._client.components import clustering_coefficient
from ngdata._client.subgraph import Subgraph
from ngdata._store.snapshots import CONNECTIONS, TOKENS, GraphMetrics, decode, encode

__all__ = ["Graph", "Snapshot", "SnapshotRow", "compare", "graph_of", "load", "snapshot_row"]

_ID: Final = pa.binary(16)

# The columns of a connection, in the order of `CONNECTIONS`.
_OF_CONNECTION: Final = (
    "id",
    "source_id",
    "target_id",
    "connection_type",
    "weight",
    "bidirectional",
)
_ROWS_AT_ONCE: Final = 100_000


@dataclass(frozen=True, eq=False, repr=False)
class Snapshot(Subgraph):
    """The graph as it was at one time: all tokens by id, and all connections.

    Attributes
    ----------
    id : str
    label : str or None
    created_at : pandas.Timestamp
    """

    id: str
    label: str | None
    created_at: pd.Timestamp

    def _card(self) -> Card:
        card = super()._card()
        taken = f"{self.created_at:%Y-%m-%d %H:%M:%S} UTC"
        return replace(card, rows=[("label", str(self.label)), ("taken", taken), *card.rows])


@dataclass(frozen=True)
class SnapshotRow:
    """The values of a snapshot's row, without its label."""

    created_at: Any
    metrics: GraphMetrics
    data: bytes


@dataclass(frozen=True)
class Graph:
    """A graph in its compact form, at a time."""

    created_at: Any
    tokens: pa.Table
    connections: pa.Table


def graph_of(rows: pa.Table) -> Graph:
    """Return the graph from the rows of `ngdata._query.snapshots.whole_graph`.

    They are taken apart in small parts, so that there are never two copies of all of them.
    """
    created_at, ids = None, []
    edges: dict[str, list[pa.Array]] = {name: [] for name in _OF_CONNECTION}
    for batch in rows.to_batches(_ROWS_AT_ONCE):
        taken = batch["taken"].drop_null()
        if len(taken):
            created_at = taken[0].as_py()
        is_edge = pc.is_valid(batch["source_id"])
        is_token = pc.and_not(pc.is_valid(batch["id"]), is_edge)
        ids.append(batch["id"].filter(is_token).cast(_ID))
        for name, chunks in edges.items():
            values = batch[name].filter(is_edge)
            chunks.append(values.cast(_ID) if name.endswith("id") else values)
    token_ids = pa.chunked_array(ids, _ID).combine_chunks()
    token_ids = token_ids.take(pc.sort_indices(token_ids))
    # The last use of each, so that its parts are freed.
    columns = {name: pa.chunked_array(edges.pop(name)) for name in _OF_CONNECTION}
    for name in ("source_id", "target_id"):
        columns[name] = pc.index_in(columns[name], value_set=token_ids)
    columns["connection_type"] = columns["connection_type"].dictionary_encode()
    connections = pa.table(
        [column.combine_chunks() for column in columns.values()], schema=CONNECTIONS
    )
    return Graph(created_at, pa.table([token_ids], schema=TOKENS), connections)


def snapshot_row(graph: Graph) -> SnapshotRow:
    """Return the row of a snapshot of a graph."""
    return SnapshotRow(
        graph.created_at,
        _metrics(graph.tokens, graph.connections),
        encode(graph.tokens, graph.connections),
    )


def _metrics(tokens: pa.Table, connections: pa.Table) -> GraphMetrics:
    count = tokens.num_rows
    sources, targets = (connections[name].to_numpy() for name in ("source", "target"))
    is_two_way = connections["bidirectional"].to_numpy() & (sources != targets)
    # Each arc leaves one token and enters another, so it counts for the degrees of two.
    total_degree = 2 * (len(sources) + int(is_two_way.sum()))
    return GraphMetrics(
        count,
        len(sources),
        total_degree / count if count else None,
        clustering_coefficient(count, sources, targets),
    )


def load(rows: pd.DataFrame, token_ids: IdSpace = UUIDS) -> Snapshot:
    """Return a snapshot from the rows of its parts, which `ngdata._query.snapshots.by_id` reads."""
    row = rows.iloc[0]
    parts = rows["data"].tolist()
    tokens, connections = decode(
        None if None in parts else b"".join(parts),
        row["snapshot_id"],
        int(row["node_count"]),
        int(row["edge_count"]),
    )
    ids = _id_texts(tokens["id"])
    sources, targets = (connections[name].to_numpy() for name in ("source", "target"))
    own_ids: Any = token_ids.column(text_column(ids)).array
    connection_frame = pd.DataFrame(
        {
            "connection_id": text_column(_id_texts(connections["id"])),
            "source_id": own_ids.take(sources),
            "target_id": own_ids.take(targets),
            "connection_type": text_column(connections["connection_type"].cast(pa.string())),
            "weight": connections["weight"].to_numpy().copy(),
            "bidirectional": connections["bidirectional"].to_numpy().copy(),
        }
    )
    token_frame = pd.DataFrame({"token_id": own_ids})
    for frame in (token_frame, connection_frame):
        frame.attrs = deepcopy(rows.attrs)
    label = None if pd.isna(row["label"]) else row["label"]
    created_at = pd.Timestamp(row["created_at"])
    return Snapshot(token_frame, connection_frame, row["snapshot_id"], label, created_at)


def _id_texts(ids: pa.ChunkedArray) -> pa.Array:
    """Return ids of 16 bytes as canonical text, all at once."""
    raw = b"".join(
        chunk.buffers()[1][16 * chunk.offset : 16 * (chunk.offset + len(chunk))]
        for chunk in ids.chunks
        if len(chunk)
    )
    return id_text(np.frombuffer(raw, np.uint8))


def compare(a: Snapshot, b: Snapshot) -> pd.DataFrame:
    """Return the connections added, removed and changed from `a` to `b`, by their id."""
    ends = ["source_id", "target_id"]
    dtypes = b.connections[ends].dtypes
    # Where a connection is in one snapshot alone, integers of NumPy would become floats.
    nullable = {name: "UInt64" for name in ends if dtypes[name].kind == "u"}
    merged = a.connections.astype(nullable).merge(
        b.connections.astype(nullable),
        on="connection_id",
        how="outer",
        suffixes=("_before", "_after"),
        indicator=True,
    )
    fields = ("source_id", "target_id", "connection_type", "weight", "bidirectional")
    differs = (merged["_merge"] != "both").to_numpy(bool)
    for name in fields:
        changed = merged[f"{name}_before"] != merged[f"{name}_after"]
        differs = differs | changed.fillna(True).to_numpy(bool)
    merged = merged[differs].sort_values("connection_id", ignore_index=True)
    change = (
        merged["_merge"]
        .astype(STR)
        .map({"left_only": "removed", "right_only": "added", "both": "changed"})
    )
    columns = {"connection_id": merged.connection_id, "change": change}
    for name in fields[:3]:
        columns[name] = merged[f"{name}_after"].fillna(merged[f"{name}_before"])
    columns["weight_before"] = merged.weight_before
    columns["weight_after"] = merged.weight_after
    texts = dict.fromkeys(("connection_id", "change", "connection_type"), STR)
    frame = pd.DataFrame(columns).astype(
        {**texts, **dtypes, "weight_before": float, "weight_after": float}
    )
    frame.attrs = b.connections.attrs
    return frame
