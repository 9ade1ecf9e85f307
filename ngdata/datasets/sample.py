"""The sample as rows: its files, read and given ids that are the same wherever it is loaded.

Pure but for reading the package's own files; `loading` knows the store.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from importlib.resources import as_file, files
from typing import Any, Final, NamedTuple

import pandas as pd

__all__ = ["Sample", "read_sample"]

# Fixed for ever: all ids of the sample are uuid5 names in it, so a row is found again by its id.
_NAMESPACE: Final = uuid.UUID("6f0f3c1e-3f1f-5d0a-9d0e-0ce1e9a45302")
_FILES: Final = files("ngdata.datasets") / "celegans"


class Sample(NamedTuple):
    """The sample's rows.

    Attributes
    ----------
    neurons : pandas.DataFrame
        ``neuron, token_id, x, y, z, diameter, cell_type, classification``, as published.
    tokens : pandas.DataFrame
        As `tokens.bulk_create` takes them: the neurons, then the segments.
    connections : pandas.DataFrame
        As `graph.bulk_create` takes them.
    """

    neurons: pd.DataFrame
    tokens: pd.DataFrame
    connections: pd.DataFrame


def read_sample() -> Sample:
    """Read the files of the sample and give each row its id.

    Examples
    --------
    >>> from ngdata.datasets.sample import read_sample
    >>> [len(rows) for rows in read_sample()]
    [302, 14171, 19373]
    """
    neurons, segments, edges = (
        _read(name) for name in ("neurons.csv", "segments.csv.gz", "connections.csv")
    )
    neurons.insert(1, "token_id", _ids("neuron", neurons.neuron))
    segments["token_id"] = _ids("segment", segments.neuron, segments.segment)
    tokens = pd.concat(
        [
            _tokens(neurons, "neuron", ["neuron", "cell_type", "classification", "diameter"]),
            _tokens(segments, "segment", ["neuron", "segment", "name", "diameter"]),
        ],
        ignore_index=True,
    )
    connections = pd.concat([_synapses(edges, neurons), _parents(segments)], ignore_index=True)
    return Sample(neurons, tokens, connections)


def _read(name: str) -> pd.DataFrame:
    with as_file(_FILES / name) as path:
        return pd.read_csv(path, dtype={"parent_segment": "Int64"})


def _ids(kind: str, *parts: Iterable[Any]) -> list[str]:
    names = ("/".join(map(str, (kind, *row))) for row in zip(*parts, strict=True))
    return [str(uuid.uuid5(_NAMESPACE, name)) for name in names]


def _tokens(rows: pd.DataFrame, token_type: str, described: list[str]) -> pd.DataFrame:
    metadata = pd.Series(rows[described].to_dict("records"), index=rows.index)
    return rows[["token_id", "x", "y", "z"]].assign(token_type=token_type, metadata=metadata)


def _synapses(edges: pd.DataFrame, neurons: pd.DataFrame) -> pd.DataFrame:
    """Give the edges as published; a gap junction stands there once each way.

    So electrical connections are not made bidirectional, which would count them twice: 12 pairs
    were counted differently from the two sides, and 5 from one side only.
    """
    token = neurons.set_index("neuron").token_id
    return pd.DataFrame(
        {
            "connection_id": _ids("connection", edges.source, edges.target, edges.connection_type),
            "source_id": edges.source.map(token),
            "target_id": edges.target.map(token),
            "connection_type": edges.connection_type,
            "weight": edges.weight.astype("float64"),
        }
    )


def _parents(segments: pd.DataFrame) -> pd.DataFrame:
    """Link each segment to the one that it grows from; the soma's grows from none."""
    token = segments.set_index(["neuron", "segment"]).token_id
    grown = segments[segments.parent_segment.notna()]
    parent = pd.MultiIndex.from_frame(grown[["neuron", "parent_segment"]])
    return pd.DataFrame(
        {
            "connection_id": _ids("parent", grown.neuron, grown.segment),
            "source_id": grown.token_id.to_numpy(),
            "target_id": token.reindex(parent).to_numpy(),
            "connection_type": "parent",
            "weight": 1.0,
        }
    )
