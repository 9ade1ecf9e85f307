"""Searches in tokens that are in memory, by SciPy's k-d tree: exactly what the server would answer.

The tree only proposes tokens: it searches a little further than asked.  Their distances are then
computed as the server computes them, ``sqrt(dx*dx + dy*dy + dz*dz)`` in float64, each step rounded,
and equal distances are ordered by id.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from os import cpu_count
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from ngdata._arguments.ids import id_bytes
from ngdata._arguments.optional_imports import import_optional

__all__ = ["Found", "TokenTree", "distances"]

Array: TypeAlias = "np.ndarray[Any, Any]"

# A token whose computed distance is d has a distance between these two in any arithmetic: the tree's
# own rounding is some 1e-15, and squares below 1e-308 lose digits.
_FACTOR: Final = 1e-9
_OFFSET: Final = 1e-150

# Further than any two tokens are from each other; its square is within float64.
_FARTHEST: Final = 1e38

# The number of candidates whose distances are computed at once.
_AT_ONCE: Final = 1 << 20

# For more than this number of tokens per point, for which the tree reserves places, spheres may hold fewer.
_MANY_NEAREST: Final = 64

# For fewer points, threads do not pay.
_MANY: Final = 500
_WORKERS: Final = min(4, cpu_count() or 1)


class Found(NamedTuple):
    """Tokens near points, in order of point, distance, id.

    Attributes
    ----------
    points, tokens : array of int
        The position of the point, and the row of the token.
    distances : array of float64
    """

    points: Array
    tokens: Array
    distances: Array

    @classmethod
    def joined(cls, parts: list[Found]) -> Found:
        """Return several as one."""
        if not parts:
            return cls(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0))
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def take(self, rows: Array) -> Found:
        """Return some of them: by position, or by a mask."""
        return Found(*(column[rows] for column in self))


def distances(first: Array, second: Array) -> Array:
    """Return the distances between points, bit for bit those of PostGIS.

    Examples
    --------
    >>> from ngdata._reading.trees import distances
    >>> distances(np.zeros((1, 3)), np.array([[3.0, 4.0, 0.0]])).tolist()
    [5.0]
    """
    with np.errstate(under="ignore"):
        dx, dy, dz = np.moveaxis(first - second, -1, 0)
        root: Array = np.sqrt(dx * dx + dy * dy + dz * dz)
        return root


class TokenTree:
    """Tokens with their places, searched by a k-d tree.

    Parameters
    ----------
    table : pyarrow.Table
        With ``token_id`` (text, or integers), ``x``, ``y``, ``z``.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.places = np.column_stack([table[axis].to_numpy() for axis in "xyz"])
        spatial = import_optional("scipy.spatial", "a search by a k-d tree", "graph")
        self._new_tree = spatial.cKDTree
        self._tree = self._tree_of(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def _tree_of(self, places: Array) -> Any:
        # Built in half the time, and searched as quickly.
        return self._new_tree(places, balanced_tree=False, compact_nodes=False)

    def nearest(self, points: Array, k: int, radii: Any = None, own: Array | None = None) -> Found:
        """Return the `k` tokens nearest to each point, at most a radius away.

        Parameters
        ----------
        points : array of shape (n, 3)
        k : int
        radii : float or array of shape (n,), optional
        own : array of int, optional
            The row of the token that is left out for each point; -1 for none.
        """
        if not len(self) or not len(points):
            return Found.joined([])
        limits = np.broadcast_to(np.float64(np.inf if radii is None else radii), len(points))
        # With one more, it shows whether another token may be as near as the last one.
        count = min(len(self), k + 1 + (own is not None))
        if radii is not None and count > _MANY_NEAREST:
            most = self.most_within(points, limits)
            if most.sum() < count * len(points) / 2:
                blocks = self._blocks(points, limits, own, most)
                return Found.joined([_first(self._in_order(block), k) for block in blocks])
        step = max(1, _AT_ONCE // count)
        parts = []
        for first in range(0, len(points), step):
            rows = slice(first, first + step)
            part = self._nearest(
                points[rows], k, count, limits[rows], None if own is None else own[rows]
            )
            parts.append(part._replace(points=part.points + first))
        return Found.joined(parts)

    def _nearest(
        self, points: Array, k: int, count: int, limits: Array, own: Array | None
    ) -> Found:
        bound = float(_more(limits.max()))
        # A list of all counts: for the one number 1, an axis would be missing.
        reported, rows = self._tree.query(
            points, k=range(1, count + 1), distance_upper_bound=bound, workers=_workers(points)
        )
        is_token = rows < len(self)
        exact = distances(points[:, np.newaxis], self.places[np.where(is_token, rows, 0)])
        is_token &= exact <= limits[:, np.newaxis]
        if own is not None:
            is_token &= rows != own[:, np.newaxis]
        exact[~is_token] = np.inf
        last = np.partition(exact, k - 1, axis=1)[:, k - 1] if k <= count else np.inf
        farthest = np.minimum(last, limits)
        # All others are at least as far away as the tree says of the last one.
        is_complete = (farthest < _less(reported[:, -1])) | np.isinf(reported[:, -1])
        if count == len(self):
            is_complete[:] = True
        is_token &= is_complete[:, np.newaxis]
        places, columns = np.nonzero(is_token)
        found = Found(places, rows[places, columns], exact[places, columns])
        open_points = np.flatnonzero(~is_complete)
        if len(open_points):
            # All that are as near as the last one; most are not needed, so part by part.
            parts = [found]
            for further in self._blocks(
                points[open_points],
                farthest[open_points],
                None if own is None else own[open_points],
            ):
                part = _first(self._in_order(further), k)
                parts.append(part._replace(points=open_points[part.points]))
            found = Found.joined(parts)
        return _first(self._in_order(found), k)

    def within(
        self, points: Array, radii: Any, own: Array | None = None, most: Array | None = None
    ) -> Found:
        """Return the tokens at most a radius from each point: one of all, or one of each.

        `most` is what `most_within` returns, if it is known.
        """
        blocks = self._blocks(points, radii, own, most)
        return Found.joined([self._in_order(block) for block in blocks])

    def counts_within(self, points: Array, radii: Any, own: Array | None = None) -> Array:
        """Return for each point how many tokens `within` would return, without holding them."""
        limits = np.broadcast_to(np.float64(radii), len(points))
        counts, least = self.most_within(points, limits), self._counts(points, _less(limits))
        is_open = counts != least
        if is_open.any():
            places = np.flatnonzero(is_open)
            counts[places] = 0
            for block in self._blocks(points[places], limits[places], None):
                counts[places] += np.bincount(block.points, minlength=len(places))
        if own is not None and len(self):
            counts = counts - self._is_near_itself(points, limits, own)
        return counts

    def count_within(self, points: Array, radii: Any, own: Array | None = None) -> int:
        """Return how many tokens `within` would return."""
        if np.ndim(radii) or not len(self) or not len(points):
            return int(self.counts_within(points, radii, own).sum())
        other = self._tree_of(points)
        least, most = (
            int(self._tree.count_neighbors(other, max(float(limit(np.float64(radii))), 0.0)))
            for limit in (_less, _more)
        )
        if least != most:
            return int(self.counts_within(points, radii, own).sum())
        itself = 0 if own is None else int(self._is_near_itself(points, radii, own).sum())
        return most - itself

    def _is_near_itself(self, points: Array, radii: Any, own: Array) -> Array:
        away = distances(points, self.places[np.maximum(own, 0)])
        return np.asarray((own >= 0) & (away <= radii))

    def count_pairs(
        self, radius: float, other: TokenTree | None = None, same: Array | None = None
    ) -> int:
        """Return how many pairs `pairs`, or `pairs_with` another tree, would return."""
        if other is not None:
            return other.count_within(self.places, radius, same)
        return self.count_within(self.places, radius, np.arange(len(self))) // 2

    def count_nearest(
        self, points: Array, k: int, radii: Any = None, own: Array | None = None
    ) -> int:
        """Return how many tokens `nearest` would return, without holding them."""
        # Within any distance are all.
        limit = np.inf if radii is None else radii
        return int(np.minimum(self.counts_within(points, limit, own), k).sum())

    def most_within(self, points: Array, radii: Any) -> Array:
        """Return for each point a number that its number of tokens does not exceed."""
        limits = np.broadcast_to(np.float64(radii), len(points))
        return self._counts(points, _more(limits))

    def _counts(self, points: Array, radii: Array) -> Array:
        if not len(self) or not len(points):
            return np.zeros(len(points), np.intp)
        if (radii >= _FARTHEST / 2).all():
            return np.full(len(points), len(self))
        counts: Array = self._tree.query_ball_point(
            points, np.maximum(radii, 0), return_length=True, workers=_workers(points)
        )
        return np.where(radii < 0, 0, counts)

    def _blocks(
        self, points: Array, radii: Any, own: Array | None, most: Array | None = None
    ) -> Iterator[Found]:
        """Yield the tokens within radii of some points after the others, unordered for each."""
        limits = np.broadcast_to(np.float64(radii), len(points))
        counts = self.most_within(points, limits) if most is None else most
        ends = np.flatnonzero(np.diff(np.cumsum(counts) // _AT_ONCE)) + 1
        for start, end in zip([0, *ends], [*ends, len(points)], strict=True):
            if start == end or not counts[start:end].sum():
                continue
            lists = self._tree.query_ball_point(
                points[start:end], _more(limits[start:end]), workers=_workers(points)
            )
            lengths = np.fromiter(map(len, lists), np.intp, end - start)
            tokens = np.fromiter(chain.from_iterable(lists), np.intp, int(lengths.sum()))
            places = np.repeat(np.arange(start, end), lengths)
            exact = distances(points[places], self.places[tokens])
            is_near = exact <= limits[places]
            if own is not None:
                is_near &= tokens != own[places]
            yield Found(places[is_near], tokens[is_near], exact[is_near])

    def pairs(self, radius: float) -> Found:
        """Return all pairs at most a radius apart, once each, the token of the lesser id first."""
        if not len(self):
            return Found.joined([])
        ends = self._tree.query_pairs(float(_more(np.float64(radius))), output_type="ndarray")
        first, second = ends.T
        exact = distances(self.places[first], self.places[second])
        is_near = exact <= radius
        first, second = first[is_near], second[is_near]
        ranks = self._ranks()
        is_swapped = ranks[first] > ranks[second]
        first, second = np.where(is_swapped, second, first), np.where(is_swapped, first, second)
        order = np.argsort(ranks[first].astype(np.int64) * len(self) + ranks[second])
        return Found(first[order], second[order], exact[is_near][order])

    def pairs_with(self, other: TokenTree, radius: float, same: Array) -> Found:
        """Return the pairs with a token of another tree, ordered by the ids of the two.

        Parameters
        ----------
        other : TokenTree
        radius : float
        same : array of int
            The row that each token has in the other tree; -1 for none.
        """
        if not len(self) or not len(other):
            return Found.joined([])
        near = self._tree.sparse_distance_matrix(
            other._tree, float(_more(np.float64(radius))), output_type="ndarray"
        )
        first, second = near["i"], near["j"]
        exact = distances(self.places[first], other.places[second])
        is_pair = (exact <= radius) & (second != same[first])
        first, second = first[is_pair], second[is_pair]
        ranks = self._ranks()[first].astype(np.int64) * len(other) + other._ranks()[second]
        order = np.argsort(ranks)
        return Found(first[order], second[order], exact[is_pair][order])

    def most_pairs(self, radius: float, other: TokenTree | None = None) -> int:
        """Return a number that the number of pairs does not exceed, in little time."""
        tree = self if other is None else other
        if not len(self) or not len(tree):
            return 0
        count = int(self._tree.count_neighbors(tree._tree, float(_more(np.float64(radius)))))
        # A tree finds each of its tokens itself, and each pair in both orders.
        return (count - len(self)) // 2 if other is None else count

    def _in_order(self, found: Found) -> Found:
        """Return tokens by point, distance and id."""
        points, _, exact = found
        before, after = slice(None, -1), slice(1, None)
        is_later = points[after] > points[before]
        if not (
            is_later | ((points[after] == points[before]) & (exact[after] >= exact[before]))
        ).all():
            found = found.take(np.lexsort((exact, points)))
            points, _, exact = found
        ties = (points[after] == points[before]) & (exact[after] == exact[before])
        if not ties.any():
            return found
        is_tied = np.zeros(len(points), bool)
        is_tied[before] |= ties
        is_tied[after] |= ties
        places = np.flatnonzero(is_tied)
        tied = found.take(places)
        order = np.lexsort((*self._keys(tied.tokens), tied.distances, tied.points))
        tokens = found.tokens.copy()
        tokens[places] = tied.tokens[order]
        return found._replace(tokens=tokens)

    def _keys(self, rows: Array) -> tuple[Array, ...]:
        """Return numbers that order the ids of tokens, the most significant last."""
        ids = self.table["token_id"].take(pa.array(rows))
        if pa.types.is_integer(ids.type):
            return (ids.to_numpy(),)
        raw = id_bytes(ids)
        assert raw is not None, "ids are canonical text"
        high, low = np.ascontiguousarray(raw).reshape(-1).view(">u8").reshape(-1, 2).T
        return low.astype(np.uint64), high.astype(np.uint64)

    def _ranks(self) -> Array:
        """Return the position of each token in the order of ids."""
        ranks = np.empty(len(self), np.intp)
        ranks[np.lexsort(self._keys(np.arange(len(self))))] = np.arange(len(self))
        return ranks


def _workers(points: Array) -> int:
    return _WORKERS if len(points) >= _MANY else 1


def _more(radii: Any) -> Any:
    return np.minimum(np.minimum(radii, _FARTHEST) * (1 + _FACTOR) + _OFFSET, _FARTHEST)


def _less(radii: Any) -> Any:
    return np.minimum(radii, _FARTHEST) * (1 - _FACTOR) - _OFFSET


def _first(found: Found, k: int) -> Found:
    """Return the first `k` tokens of each point; they are in order."""
    starts = np.flatnonzero(np.append(True, found.points[1:] != found.points[:-1]))
    if not len(found.points):
        return found
    lengths = np.diff(np.append(starts, len(found.points)))
    is_first = np.arange(len(found.points)) - np.repeat(starts, lengths) < k
    return found if is_first.all() else found.take(is_first)
