"""The reads of `client.tokens` for many points at once, and of pairs of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from numpy.typing import ArrayLike

from ngdata._arguments.levels import Level
from ngdata._arguments.texts import as_texts
from ngdata._client.batch_points import BatchPoints, Points
from ngdata._client.token_summaries import AsyncTokenSummaries
from ngdata._connections.threads import in_daemon_thread
from ngdata._query import batches
from ngdata._query.filters import TokenFilter
from ngdata._query.places import Window
from ngdata._reading.batches import read_batch, read_pairs
from ngdata._reading.reader import CacheMode, MaxRows

__all__ = ["AsyncTokenBatches"]


class AsyncTokenBatches(AsyncTokenSummaries):
    """Read what is near many points at once, in long frames."""

    async def find_nearest_many(
        self,
        points: Points,
        k: int = 10,
        level: Level = 0,
        *,
        max_distance: float | None = None,
        include_self: bool = False,
        columns: Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return the `k` tokens nearest to each of many points, in one long frame.

        The rows of each point are those of `find_nearest`, with the same distances.

        Parameters
        ----------
        points : array_like of shape (n, 3), frame, or sequence of ids
            Coordinates (x, y, z); or a frame with columns ``x``, ``y``, ``z`` in any order, among
            others; or ids of tokens, whose places on the level are the points.  A frame is always
            points, also one that has a column ``token_id``; pass that column for ids.
        k : int
            The number of tokens for each point; fewer, if there are fewer.
        level : int or str
        max_distance : float, optional
            Leave out tokens further away than this.
        include_self : bool
            If `points` are ids, whether a token is among those near itself.  It is left out by its
            id: other tokens in the same place stay.
        columns, token_type, where, flags, min_weight
            As in `find_in_region`.  The filters do not apply to the points.
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            ``query``, then the columns of `find_nearest`; by point in the order of `points`,
            distance, id.  ``query`` is the point's position (int64), its label in the frame's
            index, or its id.  A point that is passed twice has its rows twice, a token that is
            undefined on the level has none.  ``attrs["ngdata"]["way"]`` says how they were found:
            ``"server"``, or ``"client tree"`` if it is quicker to read all tokens that matter.

        Raises
        ------
        NotFoundError
            An id names no token.
        InvalidQueryError
            Points of another shape, NaN or beyond 1e37; `k` below 1; a negative distance.
        ResultTooLarge
            The answer has more rows than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> near = await ang.tokens.find_nearest_many([(0, 0, 0), (10, -200, 30)], k=3)
        >>> near["query"].tolist()
        [0, 0, 0, 1, 1, 1]
        >>> neurons = await ang.tokens.find(token_type="neuron")
        >>> pairs = await ang.tokens.find_nearest_many(neurons.token_id, k=1, token_type="neuron")
        >>> len(pairs), bool((pairs["query"] != pairs.token_id).all())
        (302, True)
        """
        asked = await in_daemon_thread(lambda: BatchPoints.of(points, self._ids))
        tokens = TokenFilter(token_type, where, flags, min_weight)
        search = batches.nearest_many(
            asked.origins, k, level, tokens, max_distance, columns, include_self
        )
        return asked.label(await read_batch(self._reader, search, cache, max_rows))

    async def find_within_many(
        self,
        points: Points,
        radius: float | ArrayLike,
        level: Level = 0,
        *,
        include_self: bool = False,
        columns: Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return the tokens in a closed sphere around each of many points, in one long frame.

        The rows of each point are those of `find_within`, with the same distances.

        Parameters
        ----------
        points : array_like of shape (n, 3), frame, or sequence of ids
            As in `find_nearest_many`.
        radius : float or array_like of shape (n,)
            At least 0, in the units of the level: one of all points, or one for each.
        level : int or str
        include_self : bool
            As in `find_nearest_many`.
        columns, token_type, where, flags, min_weight
            As in `find_in_region`.  The filters do not apply to the points.
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            As of `find_nearest_many`.

        Raises
        ------
        NotFoundError
            An id names no token.
        InvalidQueryError
            Points of another shape, NaN or beyond 1e37; a negative radius, or another number of
            radii than of points.
        ResultTooLarge
            The answer has more rows than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> head = await ang.tokens.find_in_region((-15, -300, 20), (15, -290, 70))
        >>> around = await ang.tokens.find_within_many(head.token_id, 2.0)
        >>> sizes = around.groupby("query").size()
        >>> bool((around.distance <= 2.0).all())
        True
        """
        asked = await in_daemon_thread(lambda: BatchPoints.of(points, self._ids))
        tokens = TokenFilter(token_type, where, flags, min_weight)
        search = batches.within_many(asked.origins, radius, level, tokens, columns, include_self)
        return asked.label(await read_batch(self._reader, search, cache, max_rows))

    async def pairs_within(
        self,
        radius: float,
        level: Level = 0,
        *,
        within: Window | None = None,
        token_type: str | Sequence[str] | None = None,
        other_type: str | Sequence[str] | None = None,
        other_level: Level | None = None,
        where: Mapping[str, Any] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return all pairs of tokens that are at most `radius` apart.

        Each pair comes once, the lesser id first.  With `other_type` or `other_level`, pairs are
        ordered instead: the first token is of `token_type` on `level`, the second of `other_type`
        on `other_level`, and two tokens that can be either come in both orders.  A token is never
        paired with itself.

        Parameters
        ----------
        radius : float
            At least 0, in the units of the level.
        level : int or str
            Where the tokens are; with `other_level`, where the first token is.
        within : region, (region, level), or (min_coords, max_coords[, level]), optional
            Keep pairs of which both tokens are in this region, on `level` unless it has its own.
        token_type : str or sequence of str, optional
            Keep tokens of this type, or of any of these.
        other_type : str or sequence of str, optional
            The same for the second token; by default that of the first.
        other_level : int or str, optional
            Where the second token is; by default where the first is.  The two levels should share
            their units.
        where, flags, min_weight
            As in `find_in_region`, for both tokens.
        max_rows : int or None, optional
            Maximum number of pairs, None for no maximum; the client's by default.  Pairs are
            counted before they are made.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            ``token_id``, ``other_id`` (str), ``distance`` (float64), by both ids;
            ``attrs["ngdata"]["way"]`` as of `find_nearest_many`.

        Raises
        ------
        InvalidQueryError
            A negative radius, an unknown level, an invalid region.
        ResultTooLarge
            There are more pairs than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> head = ((-15, -300, 20), (15, -290, 70))
        >>> pairs = await ang.tokens.pairs_within(1.0, within=head)
        >>> pairs.columns.tolist(), bool((pairs.token_id < pairs.other_id).all())
        (['token_id', 'other_id', 'distance'], True)
        """
        first = TokenFilter(token_type, where, flags, min_weight)
        second = None
        if other_type is not None:
            types = as_texts(other_type, "other_type")
            second = TokenFilter(types, where, flags, min_weight)
        search = batches.pairs_within(radius, level, within, first, second, other_level)
        return await read_pairs(self._reader, search, cache, max_rows)
