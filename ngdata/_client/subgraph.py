"""A part of the graph as two frames, and its conversion to networkx and scipy, without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd

from ngdata._arguments.cards import Card, Shown
from ngdata._arguments.optional_imports import import_optional
from ngdata._arguments.texts import checked_word
from ngdata._client.plain_attributes import plain_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["Subgraph", "arcs"]


_MAX_TYPES: Final = 5


@dataclass(frozen=True, eq=False, repr=False)
class Subgraph(Shown):
    """Tokens and the connections among them, read in one transaction.

    Attributes
    ----------
    tokens : pandas.DataFrame
        A row per token, with a column ``token_id``.
    connections : pandas.DataFrame
        The columns of `Graph.connections`; both ends are among the tokens.

    Examples
    --------
    >>> near = ng.tokens.find_nearest((0, 0, 0), k=1, token_type="neuron")
    >>> around = ng.graph.subgraph(near.token_id)
    >>> around.to_networkx().number_of_nodes() == len(around.tokens)
    True
    """

    tokens: pd.DataFrame
    connections: pd.DataFrame

    def to_networkx(self, attributes: Literal["frame", "plain"] = "frame") -> Any:
        """Return it as a networkx graph.

        Parameters
        ----------
        attributes : {"frame", "plain"}
            Attributes are the values of the frames, or ``"plain"`` ones that networkx can write to
            every format (`write_graphml`, `write_gexf`, `write_gml`, `node_link_data`): text,
            numbers and bools.  Then ``coords`` become ``x_physical``, ``y_physical`` and so on for
            each level, times ISO 8601 text, dicts JSON text, ids text; what is missing is left out;
            characters that names or XML do not have are replaced.

        Returns
        -------
        networkx.MultiDiGraph
            Nodes are token ids, with the other columns as attributes.  Edges have the connection's
            id as key, and ``connection_type, weight, bidirectional`` as attributes; a bidirectional
            connection is two edges, there and back, so that degrees equal those of `get_degree`.

        Raises
        ------
        InvalidQueryError
            Unknown `attributes`.
        ConfigError
            networkx is not installed.

        Examples
        --------
        >>> near = ng.tokens.find_nearest((0, 0, 0), k=1, token_type="neuron")
        >>> graph = ng.graph.subgraph(near.token_id).to_networkx()
        >>> graph.nodes[near.token_id[0]]["token_type"]
        'neuron'
        >>> import io, networkx
        >>> plain = ng.graph.subgraph(near.token_id).to_networkx(attributes="plain")
        >>> networkx.write_graphml(plain, io.BytesIO())
        """
        is_plain = checked_word(attributes, ("frame", "plain"), "attributes") == "plain"
        graph = import_optional("networkx", "to_networkx", "graph").MultiDiGraph()
        ends = self.connections[["connection_id", "source_id", "target_id"]]
        nodes = self.tokens.token_id
        if is_plain:
            ends, nodes = ends.astype(str), nodes.astype(str)
        graph.add_nodes_from(
            zip(nodes, _rows(self.tokens.drop(columns="token_id"), is_plain), strict=True)
        )
        rest = _rows(self.connections.drop(columns=ends.columns), is_plain)
        for key, source, target, row in zip(*(ends[name] for name in ends), rest, strict=True):
            graph.add_edges_from([(source, target, key, row)])
            if row["bidirectional"] and source != target:
                graph.add_edges_from([(target, source, key, row)])
        return graph

    def to_scipy(self) -> tuple[csr_array[Any], pd.Index[str]]:
        """Return it as a sparse matrix.

        Returns
        -------
        scipy.sparse.csr_array
            The weight from the token of the row to that of the column, summed over parallel
            connections.  A bidirectional connection counts in both directions.
        pandas.Index
            The token ids of the rows and columns, in the order of `tokens`.

        Raises
        ------
        ConfigError
            scipy is not installed.

        Examples
        --------
        >>> near = ng.tokens.find_nearest((0, 0, 0), k=1, token_type="neuron")
        >>> around = ng.graph.subgraph(near.token_id)
        >>> matrix, ids = around.to_scipy()
        >>> matrix.shape == (len(ids), len(ids))
        True
        """
        sparse = import_optional("scipy.sparse", "to_scipy", "graph")
        ids = pd.Index(self.tokens.token_id, name="token_id")
        rows, columns, edges = arcs(self.connections, ids)
        weights = self.connections.weight.to_numpy()[edges]
        matrix = sparse.coo_array((weights, (rows, columns)), shape=(len(ids), len(ids)))
        return matrix.tocsr(), ids

    def _card(self) -> Card:
        rows = [
            ("tokens", _counted(self.tokens, "token_type")),
            ("connections", _counted(self.connections, "connection_type")),
        ]
        return Card(
            type(self).__name__.lower(), rows, ".tokens, .connections, .to_networkx(), .to_scipy()"
        )

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} of {len(self.tokens):,} tokens and"
            f" {len(self.connections):,} connections>"
        )


def _counted(frame: pd.DataFrame, column: str) -> str:
    """Return the number of rows, and of the most frequent types."""
    if column not in frame:
        return f"{len(frame):,}"
    counts = frame[column].value_counts()
    types = ", ".join(f"{count:,} {name}" for name, count in counts.head(_MAX_TYPES).items())
    more = f", {len(counts) - _MAX_TYPES} more types" if len(counts) > _MAX_TYPES else ""
    return f"{len(frame):,}" + (f" ({types}{more})" if types else "")


def _rows(frame: pd.DataFrame, is_plain: bool) -> list[dict[Any, Any]]:
    """Return a dict of attributes for each row."""
    if is_plain:
        return plain_rows(frame)
    # Without columns, pandas 2 returns no rows.
    return frame.to_dict("records") or [{} for _ in range(len(frame))]


def arcs(
    connections: pd.DataFrame, ids: pd.Index[str]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return arcs as positions: of their sources and targets in `ids`, and of their connections."""
    sources = ids.get_indexer(pd.Index(connections.source_id))
    targets = ids.get_indexer(pd.Index(connections.target_id))
    back = np.flatnonzero(connections.bidirectional.to_numpy() & (sources != targets))
    return (
        np.concatenate([sources, targets[back]]),
        np.concatenate([targets, sources[back]]),
        np.concatenate([np.arange(len(connections)), back]),
    )
