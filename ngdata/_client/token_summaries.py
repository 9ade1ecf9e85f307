"""The summaries of `client.tokens`: statistics of groups, and samples that can be drawn again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ngdata._arguments.levels import Level
from ngdata._client.token_lookups import AsyncTokenLookups
from ngdata._query import summaries
from ngdata._query.filters import TokenFilter
from ngdata._query.places import Place, Window
from ngdata._query.summaries import Aggregation, Cell
from ngdata._reading.reader import CacheMode, MaxRows

__all__ = ["AsyncTokenSummaries"]


class AsyncTokenSummaries(AsyncTokenLookups):
    """Read what the tokens of a level or a region are like, without reading them all."""

    async def aggregate(
        self,
        by: str | Sequence[str] | None,
        level: Level = 0,
        *,
        within: Window | None = None,
        cell: Cell | None = None,
        token_type: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
        **named: Aggregation,
    ) -> pd.DataFrame:
        """Return statistics of groups of tokens, computed on the server; no token is sent.

        Parameters
        ----------
        by : str or sequence of str or None
            The columns that make the groups: ``token_type``, ``weight``, ``flags``, ``timestamp``,
            ``x``, ``y``, ``z``, ``created_at``, ``updated_at``, or ``metadata.KEY`` (the text of one
            value, as in `find`).  None: all tokens are one group.
        level : int or str
            The level whose tokens are read.
        within : region, (region, level), or (min_coords, max_coords[, level]), optional
            Keep the tokens in this region.  It is on `level`, unless it names another: then it
            keeps the tokens that are in the region there.
        cell : float or three floats, optional
            Group also by the cells of a grid with these edge lengths, which has a corner at 0.
        token_type, where, flags, min_weight
            As in `find_in_region`.
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.
        **named : "count" or (column, function)
            The further columns of the answer, as in the named aggregation of pandas: each keyword
            names one.  ``"count"`` is the number of tokens.  Functions of any column that `by` may
            name are ``count`` (of values that are not missing), ``nunique``, ``min`` and ``max``; of
            ``x``, ``y``, ``z``, ``weight`` and ``flags`` also ``sum``, ``mean``, ``median``, ``std``
            and ``var``.  Without any, the number of tokens is the column ``count``.  The names of
            the parameters above cannot be names of columns.

        Returns
        -------
        pandas.DataFrame
            A row per group that has tokens: the columns of `by`, with ``cell`` the centre of the
            cell, ``x``, ``y``, ``z`` (float64), then the named columns; sorted by all but these,
            text by code points.  Tokens that lack a key are in no group.  Counts are int64, min and
            max have the dtype of their column, all else is float64, but a sum of ``flags`` int64.
            Without groups there is one row, even if there are no tokens; min and max of ``flags``
            are Int64 then.

        Raises
        ------
        InvalidQueryError
            An unknown column or function, a cell that is not a positive number.
        ResultTooLarge
            There are more groups than `max_rows`; the error's `count` is their number.

        Notes
        -----
        Counts, min, max and median are those of pandas, bit for bit.  The others are computed from
        the shortest decimals of the values, without rounding up to the end, so that they are the
        same in any order of the rows; those of pandas are rounded at each term.  In NumPy, the cell
        of a coordinate is ``number = np.floor(x / size)``, and its centre ``(number + 0.5) * size``,
        bit for bit.

        Examples
        --------
        >>> types = await ang.tokens.aggregate("token_type", n="count", low=("y", "min"))
        >>> types.token_type.tolist(), types.n.tolist()
        (['neuron', 'segment'], [302, 13869])
        >>> halves = await ang.tokens.aggregate(None, cell=(1000, 1000, 1000))
        >>> halves.columns.tolist()
        ['x', 'y', 'z', 'count']
        """
        tokens = TokenFilter(token_type, where, flags, min_weight)
        place = Place.in_read(within, level)
        query = summaries.aggregate(by, level, place, cell, tokens, named)
        return await self._reader.frame(query, cache, max_rows)

    async def sample(
        self,
        n: int,
        level: Level = 0,
        *,
        within: Window | None = None,
        seed: int = 0,
        columns: Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return a random sample of tokens, which is the same whenever and wherever it is drawn.

        Each token has the same chance.  A smaller sample is the beginning of a larger one, and a
        token that is added or deleted changes only its own place.

        Parameters
        ----------
        n : int
            The number of tokens; all, if there are fewer.
        level : int or str
        within : region, (region, level), or (min_coords, max_coords[, level]), optional
            Draw from the tokens in this region, as in `aggregate`.
        seed : int
            An integer of 64 bits; another one draws another sample.
        columns, token_type, where, flags, min_weight
            As in `find_in_region`; the sample is of the tokens that pass.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            The columns of `find_in_region`, for the `n` tokens with the least hash, by hash.  The
            hash is SHA-256 of the seed and the id as bytes: in Python,
            ``sha256(seed.to_bytes(8, "big", signed=True) + uuid.UUID(token_id).bytes).digest()``; an
            integer id has the bytes of the UUID that `ngdata.ids.from_integers` returns.

        Raises
        ------
        InvalidQueryError
            A negative number, a seed that is not an integer of 64 bits, an unknown column.

        Examples
        --------
        >>> few = await ang.tokens.sample(3, columns=["token_id", "token_type"])
        >>> more = await ang.tokens.sample(50, columns=["token_id", "token_type"])
        >>> len(more), few.equals(more.head(3))
        (50, True)
        """
        tokens = TokenFilter(token_type, where, flags, min_weight)
        query = summaries.sample(n, level, Place.in_read(within, level), seed, tokens, columns)
        return await self._reader.frame(query, cache, None)
