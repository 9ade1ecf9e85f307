"""Snapshots of the graph: made of what was read, loaded as frames, and compared.

How one is stored is in `ngdata._store.snapshots`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ngdata._arguments.ids import id_text
from ngdata._client.components import clustering_coefficient
from ngdata._client.subgraph import Subgraph
from ngdata._store.snapshots import CONNECTIONS, TOKENS, Figures, decoded, encoded

__all__ = ["Snapshot", "Taken", "difference", "loaded", "taken"]

_STR: Final = pd.StringDtype("pyarrow", na_value=np.nan)


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


@dataclass(frozen=True)
class Taken:
    """What a snapshot's row is made of."""

    time: Any
    figures: Figures
    data: bytes


def taken(rows: pa.Table) -> Taken:
    """Make a snapshot of the whole graph, read by `ngdata._query.snapshots.whole_graph`."""
    time = rows["taken"].drop_null()[0].as_py()
    rows = rows.filter(pc.is_valid(rows["id"]))
    is_token = pc.is_null(rows["source_id"])
    ids = rows.filter(is_token)["id"].combine_chunks().cast(pa.binary(16))
    ids = ids.take(pc.sort_indices(ids))
    edges = rows.filter(pc.invert(is_token)).combine_chunks()
    ends = [
        pc.index_in(edges[name].cast(pa.binary(16)), value_set=ids).combine_chunks()
        for name in ("source_id", "target_id")
    ]
    connections = pa.table(
        [
            edges["id"].cast(pa.binary(16)),
            *ends,
            edges["connection_type"].combine_chunks().dictionary_encode(),
            edges["weight"],
            edges["bidirectional"],
        ],
        schema=CONNECTIONS,
    )
    tokens = pa.table([ids], schema=TOKENS)
    return Taken(time, _figures(tokens, connections), encoded(tokens, connections))


def _figures(tokens: pa.Table, connections: pa.Table) -> Figures:
    count = tokens.num_rows
    sources, targets = (connections[name].to_numpy() for name in ("source", "target"))
    back = connections["bidirectional"].to_numpy() & (sources != targets)
    # Each arc is one out of a token and one into another.
    degrees = 2 * (len(sources) + int(back.sum()))
    return Figures(
        count,
        len(sources),
        degrees / count if count else None,
        clustering_coefficient(count, sources, targets),
    )


def loaded(found: pd.DataFrame) -> Snapshot:
    """Make a snapshot's frames of its row, which `ngdata._query.snapshots.by_id` reads."""
    row = found.iloc[0]
    tokens, connections = decoded(
        row["data"], row["snapshot_id"], int(row["node_count"]), int(row["edge_count"])
    )
    ids = _texts(tokens["id"])
    sources, targets = (connections[name].to_numpy() for name in ("source", "target"))
    frame = pd.DataFrame(
        {
            "connection_id": _as_str(_texts(connections["id"])),
            "source_id": _as_str(ids.take(pa.array(sources))),
            "target_id": _as_str(ids.take(pa.array(targets))),
            "connection_type": _as_str(connections["connection_type"].cast(pa.string())),
            "weight": connections["weight"].to_numpy().copy(),
            "bidirectional": connections["bidirectional"].to_numpy().copy(),
        }
    )
    named = pd.DataFrame({"token_id": _as_str(ids)})
    for made in (named, frame):
        made.attrs = found.attrs
    label = None if pd.isna(row["label"]) else row["label"]
    return Snapshot(named, frame, row["snapshot_id"], label, pd.Timestamp(row["created_at"]))


def _texts(ids: pa.ChunkedArray) -> pa.Array:
    """Ids of 16 bytes as canonical text, all at once."""
    raw = b"".join(
        chunk.buffers()[1][16 * chunk.offset : 16 * (chunk.offset + len(chunk))]
        for chunk in ids.chunks
        if len(chunk)
    )
    return id_text(np.frombuffer(raw, np.uint8))


def _as_str(values: pa.Array | pa.ChunkedArray) -> Any:
    return values.to_pandas(types_mapper=lambda _: _STR)


def difference(a: Snapshot, b: Snapshot) -> pd.DataFrame:
    """Tell which connections came, went, and changed from `a` to `b`, by their id."""
    both = a.connections.merge(
        b.connections,
        on="connection_id",
        how="outer",
        suffixes=("_before", "_after"),
        indicator=True,
    )
    fields = ("source_id", "target_id", "connection_type", "weight", "bidirectional")
    differs = np.zeros(len(both), bool)
    for name in fields:
        differs |= (both[f"{name}_before"] != both[f"{name}_after"]).to_numpy(bool)
    both = both[differs].sort_values("connection_id", ignore_index=True)
    kind = (
        both["_merge"]
        .astype("str")
        .map({"left_only": "removed", "right_only": "added", "both": "changed"})
    )
    found = {"connection_id": both.connection_id, "change": kind}
    for name in fields[:3]:
        found[name] = both[f"{name}_after"].fillna(both[f"{name}_before"])
    found["weight_before"], found["weight_after"] = both.weight_before, both.weight_after
    texts = dict.fromkeys(("connection_id", "change", *fields[:3]), "str")
    made = pd.DataFrame(found).astype({**texts, "weight_before": float, "weight_after": float})
    made.attrs = b.connections.attrs
    return made
