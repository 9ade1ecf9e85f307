"""The reads of `client.tokens` by id and attributes, and columns of tokens for other frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ngdata._arguments.id_space import TokenIds
from ngdata._arguments.levels import Level
from ngdata._arguments.texts import checked_word
from ngdata._client.token_writes import AsyncTokenWrites
from ngdata._connections.threads import in_daemon_thread
from ngdata._query.filters import TokenFilter
from ngdata._query.tokens import by_id, matching, of_rows
from ngdata._reading.reader import CacheMode, MaxRows
from ngdata._store.input_frames import Frame
from ngdata._store.named_tokens import NamedTokens

__all__ = ["AsyncTokenLookups"]


class AsyncTokenLookups(AsyncTokenWrites):
    """Read tokens by id or by what they are, wherever they are."""

    async def get(
        self,
        ids: TokenIds,
        *,
        columns: Sequence[str] | None = None,
        missing: str = "raise",
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return whole tokens by id: a row per id, in the order of `ids`.

        Parameters
        ----------
        ids : id or sequence of ids
            Text, `uuid.UUID`, an integer from 0 to 2**64 - 1 (see `ngdata.ids`), or an array, Series
            or Index of these.
        columns : sequence of str, optional
            The columns of the answer, in order; those below by default.  On request also
            ``metadata`` (dicts or None), ``metadata.KEY`` (the text of one value, as in `find`),
            ``binary_data`` (64 bytes or None), ``created_at`` and ``updated_at``.
        missing : {"raise", "skip"}
            Whether to raise an error for ids that name no token, or to leave them out.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            ``token_id, token_type, weight, flags, timestamp`` and ``coords`` (float64 arrays of
            shape (8, 3), NaN where the token is undefined on the level).

        Raises
        ------
        NotFoundError
            Some ids name no token; the error's `missing` holds them.
        InvalidQueryError
            A value that is not an id.

        Examples
        --------
        >>> near = await ang.tokens.find_nearest((0, 0, 0), k=2)
        >>> (await ang.tokens.get(near.token_id)).coords[0].shape
        (8, 3)
        """
        skip_missing = checked_word(missing, ("raise", "skip"), "missing") == "skip"
        query = by_id(self._ids.canonical_ids(ids), columns, skip_missing)
        return await self._reader.frame(query, cache, None)

    async def find(
        self,
        *,
        where: Mapping[str, Any] | None = None,
        token_type: str | Sequence[str] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return the tokens with these attributes, wherever they are; all tokens without a filter.

        Parameters
        ----------
        where : mapping, optional
            Keep tokens whose metadata contain these keys with these values, as JSON: ``{"a": 1}``
            keeps ``{"a": 1.0, "b": 2}``, and neither ``{"a": "1"}`` nor tokens without metadata.
            Dicts in it are compared in the same way, and lists as sets of items.  An index serves it.
        token_type : str or sequence of str, optional
            Keep this type, or any of these.
        flags : int, optional
            Keep tokens that have all of these bits.
        min_weight : float, optional
            Keep tokens of at least this weight.
        columns : sequence of str, optional
            The columns of the answer, in order; those below by default.  On request also
            ``coords``, ``metadata``, ``binary_data``, ``created_at`` and ``updated_at`` as in
            `get`, and ``metadata.KEY``: the text of the value of that key (str); text as it is,
            all else as JSON, NaN where it is absent or null.  A dot leads deeper, unless the
            metadata have a key of the whole name: ``metadata.a.b`` is the value of ``"a.b"`` or
            else of ``"b"`` in ``"a"``; a number picks an item of a list.
        limit : int, optional
            Return only the first rows by id; by default the answer is complete and unordered.
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            ``token_id, token_type, weight, flags, timestamp`` with the dtypes of `get`.

        Raises
        ------
        InvalidQueryError
            `where` is not a mapping, is empty, or holds what JSON does not have; an unknown column.
        ResultTooLarge
            The answer has more rows than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> columns = ["token_type", "metadata.cell_type"]
        >>> aval = {"neuron": "AVAL"}
        >>> cell = await ang.tokens.find(where=aval, token_type="neuron", columns=columns)
        >>> cell.values.tolist()
        [['neuron', 'Layer 1 interneuron']]
        """
        tokens = TokenFilter(token_type, where, flags, min_weight)
        return await self._reader.frame(matching(tokens, columns, limit), cache, max_rows)

    async def join(
        self,
        frame: Frame,
        on: str = "token_id",
        columns: Sequence[str] | None = None,
        level: Level = 0,
        *,
        prefix: str = "",
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return a frame with further columns: those of the tokens that one of its columns names.

        The frame keeps its rows, their order, its index and its columns.  One query reads the
        tokens, each once, however many rows name it.

        Parameters
        ----------
        frame : pandas.DataFrame, mapping of columns, Arrow or Polars table
            It is not changed.
        on : str
            The column, or the level of the index, with ids of tokens; they may be missing.
        columns : sequence of str, optional
            Columns of `get`, ``metadata.KEY`` as in `find`, and ``x``, ``y``, ``z`` on `level`;
            ``token_type, x, y, z`` by default.
        level : int or str
            The level of ``x``, ``y``, ``z``.
        prefix : str
            What the names of the new columns begin with.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            The new columns come last, and have the dtypes of `get`, except that ``flags`` are Int64.
            They are missing (NaN, NaT, None) where the id is missing or names no token; so are ``x``,
            ``y``, ``z`` of a token that is undefined on the level.

        Raises
        ------
        InvalidQueryError
            An unknown column, a value that is not an id, or a name that the frame has already: pass
            another `prefix`.

        Examples
        --------
        >>> near = await ang.tokens.find_nearest((0, -250, 40), k=1, token_type="neuron")
        >>> edges = await ang.graph.get_neighbors(near.token_id)
        >>> labels = ["metadata.neuron", "x"]
        >>> edges = await ang.tokens.join(edges, on="neighbor_id", columns=labels, prefix="to_")
        >>> edges.columns.tolist()[-2:]
        ['to_metadata.neuron', 'to_x']
        """
        named = await in_daemon_thread(lambda: NamedTokens.of(frame, on, self._ids))
        query = of_rows(named.ids, columns, level)
        names = named.new_names([column.name for column in query.columns], prefix)
        tokens = await self._reader.frame(query, cache, None)
        return await in_daemon_thread(lambda: named.with_columns(tokens, names))
