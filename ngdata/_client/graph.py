"""`client.graph`: reads of neighbors, paths, connections and snapshots."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ngdata._arguments.id_space import TokenId, TokenIds
from ngdata._arguments.ids import Id, canonical_id
from ngdata._arguments.levels import Level
from ngdata._arguments.numbers import as_flag
from ngdata._arguments.texts import as_text, as_texts
from ngdata._client import components as connected
from ngdata._client import snapshots
from ngdata._client.graph_writes import AsyncGraphWrites
from ngdata._client.path_search import ConnectedTokens
from ngdata._client.snapshots import Snapshot
from ngdata._client.subgraph import Subgraph
from ngdata._connections.threads import in_daemon_thread
from ngdata._query import edges, neighbors, overview, paths
from ngdata._query import snapshots as snapshot_reads
from ngdata._query.neighbors import Direction
from ngdata._query.places import Place, Window
from ngdata._reading.derived import Derived
from ngdata._reading.reader import CacheMode, MaxRows, checked_max_rows, described
from ngdata._reading.units import level_and_unit
from ngdata._store.snapshots import insert_snapshot
from ngdata.errors import InvalidQueryError, NotFoundError

__all__ = ["AsyncGraph"]

# Graphs that were searched, for as long as a cache keeps the answer that they are made of.
_SEARCHED: Final = Derived(ConnectedTokens)

_TOKEN_COLUMNS: Final = (
    "token_id",
    "token_type",
    "weight",
    "flags",
    "timestamp",
    "coords",
    "depth",
)


class AsyncGraph(AsyncGraphWrites):
    """Read and write connections: a weighted, typed, directed graph of tokens."""

    async def get_neighbors(
        self,
        ids: TokenIds,
        direction: Direction = "outgoing",
        *,
        columns: Sequence[str] | None = None,
        depth: int = 1,
        connection_type: str | Sequence[str] | None = None,
        min_weight: float | None = None,
        within: float | None = None,
        level: Level = 0,
        limit: int | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return the tokens that can be reached from tokens, in one step or several.

        Parameters
        ----------
        ids : id or sequence of ids
            The starts; repeated ids count once.
        direction : {"outgoing", "incoming", "both"}
            A bidirectional connection is both outgoing and incoming at both of its ends.
        columns : sequence of str, optional
            The columns to return, in this order: those below, and of the connection
            ``bidirectional`` (bool), ``decay_rate`` (float64), ``metadata`` (dicts or None),
            ``created_at`` (datetime64[us, UTC]).
        depth : int
            The number of steps, 1 to 32.  Each reached token appears once per start, at its least
            depth, with the connection of the least id that reached it there.  The start is left out.
        connection_type : str or sequence of str, optional
            Follow only connections of this type, or of any of these.
        min_weight : float, optional
            Follow only connections of at least this weight.
        within : float, optional
            Keep tokens at most this far from their start on a level, and add a column ``distance``
            (float64).  The path to a token may lead further out.
        level : int or str
            The level on which `within` is measured; a token undefined there is left out.
        limit : int, optional
            Return only the first rows, in the order below.
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            ``token_id`` (the start), ``neighbor_id``, ``connection_id``, ``connection_type``
            (str), ``weight`` (float64), ``direction`` (str: that of the last step), ``depth``
            (int32); by start in the order of `ids`, then depth, then neighbor.

        Raises
        ------
        NotFoundError
            A start names no token.
        InvalidQueryError
            An unknown direction or column, a depth out of range, an invalid id or radius.
        ResultTooLarge
            The answer has more rows than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> near = await ang.tokens.find_nearest((0, 0, 0), k=1, token_type="neuron")
        >>> neighbors = await ang.graph.get_neighbors(near.token_id, "both")
        >>> neighbors.columns.tolist()[:3]
        ['token_id', 'neighbor_id', 'connection_id']
        >>> close = await ang.graph.get_neighbors(near.token_id, depth=3, within=10.0)
        >>> bool(close.distance.max() <= 10.0)
        True
        """
        query = neighbors.neighbors(
            self._ids.unique_ids(ids),
            direction,
            depth,
            connection_type,
            min_weight,
            limit,
            within,
            level,
            columns,
        )
        return await self._reader.frame(query, cache, max_rows)

    async def get_degree(
        self,
        ids: TokenIds | None = None,
        *,
        weighted: bool = False,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return the number of connections of each token.

        Parameters
        ----------
        ids : id or sequence of ids, optional
            By default all tokens, by id.
        weighted : bool
            Add the sums of the weights, by the same rules: ``in_weight``, ``out_weight``,
            ``total_weight`` (float64).
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            A row per id, in the order of `ids`: ``token_id`` (str), ``in_degree``, ``out_degree``,
            ``total_degree`` (int64).  A bidirectional connection counts both ways at both ends,
            a loop once in and once out.

        Raises
        ------
        NotFoundError
            An id names no token.
        ResultTooLarge
            The answer has more rows than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> near = await ang.tokens.find_nearest((0, 0, 0), k=1)
        >>> degrees = await ang.graph.get_degree(near.token_id)
        >>> degrees.columns.tolist()
        ['token_id', 'in_degree', 'out_degree', 'total_degree']
        """
        token_ids = None if ids is None else self._ids.unique_ids(ids)
        return await self._reader.frame(neighbors.degree(token_ids, weighted), cache, max_rows)

    async def connections(
        self,
        source: TokenIds | None = None,
        target: TokenIds | None = None,
        *,
        columns: Sequence[str] | None = None,
        connection_type: str | Sequence[str] | None = None,
        within: Window | None = None,
        ends: Literal["both", "any"] = "both",
        limit: int | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return connections as they are stored: all, or those between certain tokens.

        Parameters
        ----------
        source, target : id or sequence of ids, optional
            Keep connections that start at any of `source`, and end at any of `target`.
        columns : sequence of str, optional
            The columns to return, in this order: those below, and ``decay_rate`` (float64),
            ``metadata`` (dicts or None), ``created_at`` (datetime64[us, UTC]).
        connection_type : str or sequence of str, optional
            Keep this type, or any of these.
        within : region, (region, level), or (min_coords, max_coords[, level]), optional
            Keep connections in this region, as in `Tokens.find_in_region`.
        ends : {"both", "any"}
            Whether both ends must be in the region, or at least one.
        limit : int, optional
            Return only the first rows by id.
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            ``connection_id``, ``source_id``, ``target_id``, ``connection_type`` (str), ``weight``
            (float64), ``bidirectional`` (bool); unordered without a `limit`.

        Raises
        ------
        InvalidQueryError
            An unknown column, an invalid region or id.
        ResultTooLarge
            The answer has more rows than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> gaps = await ang.graph.connections(connection_type="electrical")
        >>> gaps.connection_type.unique().tolist()
        ['electrical']
        >>> head = (-30, -350, -70), (30, -250, 70)
        >>> len(await ang.graph.connections(within=head, connection_type="electrical"))
        763
        """
        sources = None if source is None else self._ids.unique_ids(source, "source")
        targets = None if target is None else self._ids.unique_ids(target, "target")
        place = None if within is None else Place.within(within)
        query = edges.edges(sources, targets, connection_type, place, ends, limit, columns)
        return await self._reader.frame(query, cache, max_rows)

    async def describe(self, *, cache: CacheMode | None = None) -> pd.DataFrame:
        """Return a row per type of connections: how many there are, and their weights.

        Parameters
        ----------
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            ``connection_type`` (str), ``connections``, ``bidirectional``, ``self_loops`` (int64:
            how many, and how many of these), ``weight_min``, ``weight_mean``, ``weight_max``
            (float64); by type.  Counts and extremes are exact, the mean is rounded.

        Examples
        --------
        >>> overview = await ang.graph.describe()
        >>> overview[["connection_type", "connections", "self_loops"]].values.tolist()
        [['chemical', 3638, 34], ['electrical', 2168, 13], ['parent', 13567, 0]]
        """
        return await self._reader.frame(overview.connections(), cache, None)

    async def shortest_path(
        self,
        source: TokenId,
        target: TokenId,
        *,
        weighted: bool = False,
        max_depth: int | None = None,
        connection_type: str | Sequence[str] | None = None,
        direction: Direction = "outgoing",
        cache: CacheMode | None = None,
    ) -> pd.DataFrame | None:
        """Return the path of the fewest steps between two tokens, or that of the least weight.

        The server searches first.  If the path is longer than it finds soon, and the store has up to
        about a million connections, all of these types are read, and cached, and searched in memory.

        Parameters
        ----------
        source, target : id
        weighted : bool
            Whether weights are costs, and the path is that of the least sum.
        max_depth : int, optional
            The maximum number of steps; unlimited by default.
        connection_type : str or sequence of str, optional
            Follow only connections of this type, or of any of these.
        direction : {"outgoing", "incoming", "both"}
            Whether to follow connections from source to target, from target to source, or both;
            a bidirectional connection is followed both ways in any case.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame or None
            None if no path exists.  Else a row per step: ``step`` (int32, from 1), ``source_id``
            and ``target_id`` in the direction of the path, ``connection_id``, ``connection_type``
            (str), ``weight`` (float64); no rows from a token to itself.  Of several shortest paths
            it is one, always the same while the graph does not change.

        Raises
        ------
        NotFoundError
            An end names no token.
        InvalidQueryError
            `weighted`, and any connection of this type, on the path or not, has a negative weight.

        Examples
        --------
        >>> a, b = (await ang.tokens.find_nearest((0, -250, 40), k=2, token_type="neuron")).token_id
        >>> path = await ang.graph.shortest_path(a, b, connection_type="chemical")
        >>> path.source_id[0] == a, path.target_id.iloc[-1] == b
        (True, True)
        """
        started = time.perf_counter()
        ends = self._ids.canonical_id(source, "source"), self._ids.canonical_id(target, "target")
        types = None if connection_type is None else as_texts(connection_type, "connection_type")
        query = paths.shortest_path(
            *ends,
            weighted=weighted,
            max_depth=max_depth,
            connection_type=types,
            direction=direction,
        )
        path: pd.DataFrame | None = await self._reader.frame(query, cache, None)
        assert path is not None
        negative = path[path.pop(paths.IS_NEGATIVE)]
        if len(negative):
            raise _negative_weight(negative.connection_id.iloc[0], negative.weight.iloc[0])
        table_bytes = path.pop(paths.FAR).max()
        if table_bytes > 0:
            if table_bytes > paths.SOON_READ:
                query = paths.cut_off(*ends, types, direction)
                if (await self._reader.frame(query, cache, None)).is_cut_off[0]:
                    return None
            answer, origin = await self._reader.answer(paths.arcs(types), cache)
            path = await in_daemon_thread(
                lambda: _SEARCHED.of(answer).shortest_path(
                    *ends, direction, weighted, max_depth, self._ids
                )
            )
            if path is None:
                return None
            moment = level_and_unit(query, None, self._reader.pin)
            return described(path, origin, answer.version or None, started, moment)
        return None if path.empty and ends[0] != ends[1] else path

    async def shortest_lengths(
        self,
        source: TokenId,
        targets: TokenIds | None = None,
        *,
        weighted: bool = False,
        max_depth: int | None = None,
        connection_type: str | Sequence[str] | None = None,
        direction: Direction = "outgoing",
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return how far each token is from one token: the lengths of the shortest paths there.

        The connections of all tokens that are reached are read; if these are many, and the store has
        up to about a million connections, all of these types, which are cached.

        Parameters
        ----------
        source : id
        targets : id or sequence of ids, optional
            Return only the lengths to these tokens; all that are reached by default.
        weighted : bool
            Whether the length is the sum of the weights, and the path that of the least sum.
        max_depth : int, optional
            The maximum number of steps of a path; unlimited by default.
        connection_type : str or sequence of str, optional
            Follow only connections of this type, or of any of these.
        direction : {"outgoing", "incoming", "both"}
            Whether to follow connections from the source on, towards the source, or both;
            a bidirectional connection is followed both ways in any case.
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            A row per token that is reached, the source among them: ``token_id`` (str), ``length``
            (int64, the number of steps; with `weighted` float64, the sum of the weights, added from
            the source on); by length, then token.  A target that is not reached has no row.

        Raises
        ------
        NotFoundError
            The source or a target names no token.
        InvalidQueryError
            `weighted`, and any connection of this type, on a path or not, has a negative weight.
        ResultTooLarge
            The answer has more rows than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> near = await ang.tokens.find_nearest((0, -250, 40), k=1, token_type="neuron")
        >>> lengths = await ang.graph.shortest_lengths(near.token_id[0], connection_type="chemical")
        >>> lengths.columns.tolist(), int(lengths.length[0])
        (['token_id', 'length'], 0)
        """
        started = time.perf_counter()
        start = self._ids.canonical_id(source, "source")
        ends = None if targets is None else self._ids.unique_ids(targets, "targets")
        types = None if connection_type is None else as_texts(connection_type, "connection_type")
        query = paths.lengths(
            start,
            ends,
            weighted=weighted,
            max_depth=max_depth,
            connection_type=types,
            direction=direction,
        )
        checked_max_rows(max_rows)
        answer, origin = await self._reader.answer(query, cache)
        if answer.missing_ids:
            raise self._ids.renamed(NotFoundError.of("token", answer.missing_ids))
        negative = answer.table.filter(answer.table[paths.IS_NEGATIVE]).to_pylist()
        if negative:
            connection_id = uuid.UUID(bytes=negative[0]["connection_id"])
            raise _negative_weight(connection_id, negative[0]["weight"])
        if pc.any(pc.greater(answer.table[paths.FAR], 0)).as_py():
            answer, origin = await self._reader.answer(paths.arcs(types), cache)
        lengths = await in_daemon_thread(
            lambda: _SEARCHED.of(answer).lengths(start, ends, direction, weighted, max_depth)
        )
        self._reader.check_size(len(lengths), max_rows)
        lengths["token_id"] = self._ids.column(lengths.token_id)
        moment = level_and_unit(query, None, self._reader.pin)
        return described(lengths, origin, answer.version or None, started, moment)

    async def components(
        self,
        *,
        strong: bool = False,
        connection_type: str | Sequence[str] | None = None,
        min_weight: float | None = None,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return the connected component of each token; reads the whole graph and needs scipy.

        Parameters
        ----------
        strong : bool
            Whether the tokens of a component must reach each other along directed connections; by
            default, direction is ignored.
        connection_type : str or sequence of str, optional
            Use only connections of this type, or of any of these.
        min_weight : float, optional
            Use only connections of at least this weight.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            A row per token of the store: ``token_id`` (str), ``component`` (int64), by component,
            then token.  Component 0 is the largest; of equally large ones, that with the least
            token id comes first.

        Raises
        ------
        ConfigError
            scipy is not installed.

        Examples
        --------
        >>> components = await ang.graph.components(connection_type=["chemical", "electrical"])
        >>> int((components.component == 0).sum())
        300
        """
        is_strong = bool(as_flag(strong, "strong"))
        query = edges.all_arcs(connection_type, min_weight)
        rows = await self._reader.frame(query, cache, None)
        frame = await in_daemon_thread(lambda: connected.components(rows, is_strong))
        frame.attrs = rows.attrs
        return frame

    async def subgraph(
        self,
        ids: TokenIds | None = None,
        depth: int | None = 1,
        *,
        direction: Direction = "both",
        connection_type: str | Sequence[str] | None = None,
        min_weight: float | None = None,
        within: Window | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> Subgraph:
        """Return the tokens within some steps or in a region, and the connections among them.

        They are read in one transaction.

        Parameters
        ----------
        ids : id or sequence of ids, or None
            The starts; None for all tokens in the region `within`.
        depth : int or None
            The number of steps; None for all that is reached, 0 for only these tokens and their
            connections.  Without starts there are no steps, and each token has depth 0.
        direction : {"outgoing", "incoming", "both"}
            The direction of the steps; all connections among the reached tokens are returned.
        connection_type : str or sequence of str, optional
            Use only connections of this type, or of any of these.
        min_weight : float, optional
            Use only connections of at least this weight.
        within : region, (region, level), or (min_coords, max_coords[, level]), optional
            Keep to the tokens in this region: starts outside of it are left out, and no step leaves
            it, so a token is returned only if a path inside of the region leads there.
        max_rows : int or None, optional
            Maximum number of tokens and connections together, None for no maximum; the client's by
            default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        Subgraph
            ``tokens``: the columns of `Tokens.get` and ``depth`` (int32), by depth, then id.
            ``connections``: all connections among them, as from `connections`, by id.
            ``to_networkx()`` and ``to_scipy()`` convert it.

        Raises
        ------
        NotFoundError
            An id names no token.
        InvalidQueryError
            Neither ids nor a region, or an invalid one.
        ResultTooLarge
            More than `max_rows` in all; the error's `count` is their number.

        Examples
        --------
        >>> near = await ang.tokens.find_nearest((0, -250, 40), k=2, token_type="neuron")
        >>> around = await ang.graph.subgraph(near.token_id, connection_type="electrical")
        >>> around
        <Subgraph of 5 tokens and 7 connections>
        >>> await ang.graph.subgraph(near.token_id[0], depth=None, connection_type="electrical")
        <Subgraph of 294 tokens and 2,166 connections>
        >>> head = (-30, -350, -70), (30, -250, 70)
        >>> await ang.graph.subgraph(within=head, connection_type="electrical")
        <Subgraph of 5,188 tokens and 763 connections>
        """
        query = neighbors.subgraph(
            None if ids is None else self._ids.unique_ids(ids),
            depth,
            direction,
            connection_type,
            min_weight,
            None if within is None else Place.within(within),
        )
        answer = await self._reader.frame(query, cache, max_rows)
        is_edge = answer.connection_id.notna()
        tokens = answer.loc[~is_edge, list(_TOKEN_COLUMNS)].reset_index(drop=True)
        connections = answer.loc[is_edge, list(edges.DEFAULT)]
        types = {"flags": "int32", "depth": "int32"}
        if self._ids.as_integers:
            # Each row of the answer is a token or a connection, and misses the ids of the other.
            types |= {"token_id": "uint64"}
            connections = connections.astype({"source_id": "uint64", "target_id": "uint64"})
        return Subgraph(tokens.astype(types), connections.reset_index(drop=True))

    async def create_snapshot(self, label: str | None = None) -> str:
        """Store the present graph, complete and compressed, in the database; needs scipy.

        To read the store again as it is now, a pin is better (`ng.pin`): it covers tokens, connections and
        events, every read can answer as of it, and it keeps only what changes later.  A snapshot is a copy
        of the connections, with measures of the graph, which no later change and no `unpin` touches.

        Parameters
        ----------
        label : str, optional
            A description; it need not be unique.

        Returns
        -------
        str
            The snapshot's id.

        Raises
        ------
        ConfigError
            This user or connection may not write, or scipy is not installed.
        ResultTooLarge
            More than can be read back, 8 GB before compression: about 230 million connections.

        Examples
        --------
        >>> snapshot_id = await ang.graph.create_snapshot("before the experiment")
        >>> snapshot = await ang.graph.load_snapshot(snapshot_id)
        >>> snapshot.label
        'before the experiment'
        """
        text = None if label is None else as_text(label, "label")
        answer, _ = await self._reader.answer(snapshot_reads.whole_graph(), "off")
        graph = await in_daemon_thread(partial(snapshots.graph_of, answer.table))
        # Or the rows would be in memory beside all that follows.
        del answer
        pa.default_memory_pool().release_unused()
        row = await in_daemon_thread(partial(snapshots.snapshot_row, graph))
        async with self._transaction() as connection:
            return await insert_snapshot(connection, text, row.created_at, row.metrics, row.data)

    async def list_snapshots(self, *, cache: CacheMode | None = None) -> pd.DataFrame:
        """Return a list of the snapshots, without their tokens and connections.

        Parameters
        ----------
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            ``snapshot_id``, ``label`` (str), ``created_at`` (datetime64[us, UTC]; the time of the
            graph that it shows), ``node_count``, ``edge_count`` (int64), ``mean_degree`` (float64;
            the mean of ``total_degree``), ``clustering_coefficient`` (float64; the mean over all
            tokens, ignoring directions, parallel connections and loops); by time, then id.

        Examples
        --------
        >>> (await ang.graph.list_snapshots()).columns.tolist()[:3]
        ['snapshot_id', 'label', 'created_at']
        """
        return await self._reader.frame(snapshot_reads.listing(), cache, None)

    async def load_snapshot(
        self,
        id: Id,  # noqa: A002 - the snapshot_id of list_snapshots
        *,
        cache: CacheMode | None = None,
    ) -> Snapshot:
        """Return a snapshot.

        Parameters
        ----------
        id : id
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        Snapshot
            ``tokens`` (one column, ``token_id``, in order), ``connections`` as from `connections`,
            ``id``, ``label``, ``created_at``; ``to_networkx()`` and ``to_scipy()`` convert it.

        Raises
        ------
        NotFoundError
            The id names no snapshot.
        NGDataError
            The stored data is damaged.

        Examples
        --------
        >>> snapshot_id = await ang.graph.create_snapshot()
        >>> snapshot = await ang.graph.load_snapshot(snapshot_id)
        >>> len(snapshot.connections) == len(await ang.graph.connections())
        True
        """
        row = await self._reader.frame(snapshot_reads.by_id(canonical_id(id)), cache, None)
        return await in_daemon_thread(lambda: snapshots.load(row, self._ids))

    async def diff_snapshots(
        self,
        a: Id,
        b: Id,
        *,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return the connections that were added, removed or changed between two snapshots.

        Parameters
        ----------
        a, b : id
            The earlier and the later snapshot.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            ``connection_id``, ``change`` (``added``, ``removed`` or ``changed``), ``source_id``,
            ``target_id``, ``connection_type`` (str; the values in `b`, or in `a` if removed),
            ``weight_before``, ``weight_after`` (float64; NaN if the connection is not in that
            snapshot); by connection.  Changes of anything but the weight are listed too.

        Raises
        ------
        NotFoundError
            The id names no snapshot.

        Examples
        --------
        >>> before = await ang.graph.create_snapshot()
        >>> a, b = (await ang.tokens.find_nearest((0, 0, 0), k=2)).token_id
        >>> connection_id = await ang.graph.create_connection(a, b)
        >>> after = await ang.graph.create_snapshot()
        >>> (await ang.graph.diff_snapshots(before, after)).change.tolist()
        ['added']
        """
        first, second = canonical_id(a, "a"), canonical_id(b, "b")
        before = await self.load_snapshot(first, cache=cache)
        after = await self.load_snapshot(second, cache=cache)
        return await in_daemon_thread(lambda: snapshots.compare(before, after))


def _negative_weight(connection_id: Any, weight: float) -> InvalidQueryError:
    return InvalidQueryError(
        f"weights must not be negative for weighted=True, but connection {connection_id} has "
        f"{weight:g}; exclude its type with connection_type=, or use weighted=False"
    )
