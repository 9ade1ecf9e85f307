"""Connected components of a graph that was read whole, and how clustered it is: scipy's work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd

from ngdata._client.subgraph import arcs
from ngdata._reading.optional_imports import import_optional

__all__ = ["clustering_coefficient", "components"]

# How many two-step paths are held in memory at once.
_AT_ONCE: Final = 20_000_000


def components(rows: pd.DataFrame, strong: bool) -> pd.DataFrame:
    """Number the components, the largest first, ties by their least token.

    Parameters
    ----------
    rows : pandas.DataFrame
        As the query `arcs_of_all` gives them.
    strong : bool
        Whether one must get from each token to each other along the arrows.

    Returns
    -------
    pandas.DataFrame
        ``token_id`` and ``component`` (int64), by component, then token.

    Examples
    --------
    >>> from ngdata._client.components import components
    >>> rows = pd.DataFrame({
    ...     "source_id": ["a", "b", "c", "a"], "target_id": [None, None, None, "c"],
    ...     "bidirectional": False}).astype({"source_id": "str", "target_id": "str"})
    >>> components(rows, strong=False).component.tolist()
    [0, 0, 1]
    """
    sparse = import_optional("scipy.sparse", "components", "graph")
    csgraph = import_optional("scipy.sparse.csgraph", "components", "graph")
    is_token = rows.target_id.isna()
    ids = pd.Index(rows.source_id[is_token].sort_values(), name="token_id")
    sources, targets, _ = arcs(rows[~is_token], ids)
    matrix = sparse.coo_array(
        (np.ones(len(sources), np.int8), (sources, targets)), shape=(len(ids), len(ids))
    )
    _, labels = csgraph.connected_components(
        matrix.tocsr(), directed=True, connection="strong" if strong else "weak"
    )
    _, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    number = np.empty(len(first), np.int64)
    # ids are sorted, so where a label comes first is its least token.
    number[np.lexsort((first, -sizes))] = np.arange(len(first))
    found = number[labels] if len(ids) else np.empty(0, np.int64)
    order = np.argsort(found, kind="stable")
    return pd.DataFrame({"token_id": ids[order].astype("str"), "component": found[order]})


def clustering_coefficient(
    count: int, sources: np.ndarray[Any, Any], targets: np.ndarray[Any, Any]
) -> float | None:
    """Give the mean of the local clustering coefficients; None where there is no token.

    Of the graph without arrows, parallels and loops, as `networkx.average_clustering` gives it.
    Each triangle is found once, from its member of the least degree: so a hub costs no more than
    its neighbors do.

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
    pairs = np.unique((low.astype(np.int64) * count + high)[low != high])
    low, high = pairs // count, pairs % count
    degrees = np.bincount(low, minlength=count) + np.bincount(high, minlength=count)
    # From the end of lower degree to the other.
    turned = degrees[low] > degrees[high]
    near, far = np.where(turned, high, low), np.where(turned, low, high)
    up = sparse.csr_array(
        (np.ones(len(near), np.int32), (near, far)), shape=(count, count), dtype=np.int32
    )
    triangles = np.zeros(count, np.int64)
    # Of a, b, c by degree: for each a -> c, how many b with a -> b -> c.
    for start, end, closed in _closed(up, up):
        triangles[start:end] += np.asarray(closed.sum(axis=1))
        triangles += np.asarray(closed.sum(axis=0))
    # And the b themselves: for each b -> c, how many a lead to both.
    for start, end, closed in _closed(up.T.tocsr(), up):
        triangles[start:end] += np.asarray(closed.sum(axis=1))
    pairs_of = degrees * (degrees - 1)
    local = np.divide(2.0 * triangles, pairs_of, out=np.zeros(count), where=pairs_of > 0)
    return float(local.mean())


def _closed(left: Any, up: Any) -> Iterator[tuple[int, int, Any]]:
    """Count, part by part, the two-step paths of left and up that an arc of up closes."""
    reach = np.diff(up.indptr)
    paths = np.add.reduceat(np.append(reach[left.indices], 0), left.indptr[:-1])
    paths[np.diff(left.indptr) == 0] = 0
    ends = np.flatnonzero(np.diff(np.cumsum(paths) // _AT_ONCE)) + 1
    for start, end in zip([0, *ends], [*ends, up.shape[0]], strict=True):
        yield start, end, (left[start:end] @ up).multiply(up[start:end]).tocsr()
