"""Read the sample's files as rows, whose ids are the same in every store.

Nothing here uses a store; `loading` does.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from importlib.resources import as_file, files
from typing import Any, Final, NamedTuple

import pandas as pd

from ngdata._arguments.texts import STR

__all__ = ["Sample", "read_sample"]

# Fixed forever: every id of the sample is a uuid5 in it, so that a row has the same id in any store.
_NAMESPACE: Final = uuid.UUID("6f0f3c1e-3f1f-5d0a-9d0e-0ce1e9a45302")
_FILES: Final = files("ngdata.datasets") / "celegans"

# Of columns of which pandas, or one of its versions, would make something else.
_DTYPES: Final[dict[str, Any]] = {
    "parent_segment": "Int64",
    "neuron": STR,
    "cell_type": STR,
    "classification": STR,
    "name": STR,
    "source": STR,
    "target": STR,
    "connection_type": STR,
}


class Sample(NamedTuple):
    """The sample's rows.

    Attributes
    ----------
    neurons : pandas.DataFrame
        ``neuron, token_id, x, y, z, diameter, cell_type, classification``, as published.
    tokens : pandas.DataFrame
        Input of `tokens.bulk_create`: the neurons, then the segments.
    connections : pandas.DataFrame
        Input of `graph.bulk_create`.
    """

    neurons: pd.DataFrame
    tokens: pd.DataFrame
    connections: pd.DataFrame


def read_sample() -> Sample:
    """Read the files of the sample, and add each row's id.

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
        return pd.read_csv(path, dtype=_DTYPES)


def _ids(kind: str, *parts: Iterable[Any]) -> Any:
    names = ("/".join(map(str, (kind, *row))) for row in zip(*parts, strict=True))
    return pd.array([str(uuid.uuid5(_NAMESPACE, name)) for name in names], STR)


def _tokens(rows: pd.DataFrame, token_type: str, columns: list[str]) -> pd.DataFrame:
    metadata = pd.Series(rows[columns].to_dict("records"), index=rows.index)
    return rows[["token_id", "x", "y", "z"]].assign(token_type=token_type, metadata=metadata)


def _synapses(edges: pd.DataFrame, neurons: pd.DataFrame) -> pd.DataFrame:
    """Return the edges as published, with each gap junction once per direction.

    So electrical connections are not bidirectional, which would count them twice: 12 pairs have
    different counts in the two directions, and 5 have one direction only.
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
    """Return the connections from each segment to its parent; the soma's segment has none."""
    token = segments.set_index(["neuron", "segment"]).token_id
    children = segments[segments.parent_segment.notna()]
    parent = pd.MultiIndex.from_frame(children[["neuron", "parent_segment"]])
    return pd.DataFrame(
        {
            "connection_id": _ids("parent", children.neuron, children.segment),
            "source_id": children.token_id.to_numpy(),
            "target_id": token.reindex(parent).to_numpy(),
            "connection_type": "parent",
            "weight": 1.0,
        }
    )
