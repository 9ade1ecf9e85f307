"""Connected components and clustering coefficient of a graph that is in memory, by scipy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd

from ngdata._arguments.optional_imports import import_optional
from ngdata._client.subgraph import arcs

__all__ = ["clustering_coefficient", "components"]

# The number of two-step paths held in memory at once.
_PATHS_AT_ONCE: Final = 20_000_000


def components(rows: pd.DataFrame, strong: bool) -> pd.DataFrame:
    """Return the component of each token, numbered from the largest; ties by their least token.

    Parameters
    ----------
    rows : pandas.DataFrame
        The answer to the query `all_arcs`.
    strong : bool
        Whether the tokens of a component must reach each other along directed connections.

    Returns
    -------
    pandas.DataFrame
        ``token_id`` and ``component`` (int64), by component, then token.

    Examples
    --------
    >>> from ngdata._client.components import components
    >>> from ngdata._arguments.texts import STR
    >>> rows = pd.DataFrame({
    ...     "source_id": ["a", "b", "c", "a"], "target_id": [None, None, None, "c"],
    ...     "bidirectional": False}).astype({"source_id": STR, "target_id": STR})
    >>> components(rows, strong=False).component.tolist()
    [0, 0, 1]
    """
    sparse = import_optional("scipy.sparse", "components", "graph")
    csgraph = import_optional("scipy.sparse.csgraph", "components", "graph")
    is_token = rows.target_id.isna()
    ids = pd.Index(rows.source_id[is_token].sort_values(), name="token_id")
    # Integers are nullable here, because a row of a token has no target.
    edges = rows[~is_token].astype({"target_id": ids.dtype})
    sources, targets, _ = arcs(edges, ids)
    matrix = sparse.coo_array(
        (np.ones(len(sources), np.int8), (sources, targets)), shape=(len(ids), len(ids))
    )
    _, labels = csgraph.connected_components(
        matrix.tocsr(), directed=True, connection="strong" if strong else "weak"
    )
    _, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    number = np.empty(len(first), np.int64)
    # The ids are sorted, so a label first occurs at its least token.
    number[np.lexsort((first, -sizes))] = np.arange(len(first))
    numbers = number[labels] if len(ids) else np.empty(0, np.int64)
    order = np.argsort(numbers, kind="stable")
    return pd.DataFrame(
        {"token_id": ids[order].astype(rows.source_id.dtype), "component": numbers[order]}
    )


def clustering_coefficient(
    count: int, sources: np.ndarray[Any, Any], targets: np.ndarray[Any, Any]
) -> float | None:
    """Return the mean of the local clustering coefficients; None without tokens.

    It is `networkx.average_clustering` of the graph without directions, parallel connections and
    loops.  Each triangle is found once, from its token of the least degree, so that a hub costs no
    more than its neighbors.

    Examples
    --------
    >>> from ngdata._client.components import clustering_coefficient
    >>> clustering_coefficient(3, np.array([0, 1, 2]), np.array([1, 2, 0]))
    1.0
    """
    if not count:
        return None
    sparse = import_optional("scipy.sparse", "a snapshot's clustering coefficient", "graph")
    low, high = np.minimum(sources, targets), np.maximum(sources, targets)
    # In place and in few bytes: of a graph of 30 million connections, each of these is a quarter of a gigabyte.
    pairs = low.astype(np.int64)
    pairs *= count
    pairs += high
    pairs = pairs[low != high]
    del low, high
    pairs.sort()
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    low, high = ((pairs // count).astype(np.int32), (pairs % count).astype(np.int32))
    del pairs
    degrees = np.bincount(low, minlength=count) + np.bincount(high, minlength=count)
    # Arcs from the end of lower degree to the other.
    reversed_ = degrees[low] > degrees[high]
    starts, ends = np.where(reversed_, high, low), np.where(reversed_, low, high)
    up = sparse.csr_array(
        (np.ones(len(starts), np.int32), (starts, ends)), shape=(count, count), dtype=np.int32
    )
    triangles = np.zeros(count, np.int64)
    # For a, b, c by degree: the number of b with a -> b -> c, for each a -> c.
    for start, end, closed in _closed(up, up):
        triangles[start:end] += np.asarray(closed.sum(axis=1))
        triangles += np.asarray(closed.sum(axis=0))
    # The triangles of b itself: the number of a with arcs to both, for each b -> c.
    for start, end, closed in _closed(up.T.tocsr(), up):
        triangles[start:end] += np.asarray(closed.sum(axis=1))
    pairs_of_neighbors = degrees * (degrees - 1)
    local = np.divide(
        2.0 * triangles, pairs_of_neighbors, out=np.zeros(count), where=pairs_of_neighbors > 0
    )
    return float(local.mean())


def _closed(first: Any, up: Any) -> Iterator[tuple[int, int, Any]]:
    """Count the two-step paths, by arcs of `first` then `up`, that an arc of `up` closes, in parts."""
    reach = np.diff(up.indptr)
    paths = np.add.reduceat(np.append(reach[first.indices], 0), first.indptr[:-1])
    paths[np.diff(first.indptr) == 0] = 0
    ends = np.flatnonzero(np.diff(np.cumsum(paths) // _PATHS_AT_ONCE)) + 1
    for start, end in zip([0, *ends], [*ends, up.shape[0]], strict=True):
        yield start, end, (first[start:end] @ up).multiply(up[start:end]).tocsr()
