"""`client.graph`: neighbors, paths, connections and snapshots, and the creation of connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import pandas as pd

from ngdata._arguments.ids import Id, Ids, canonical_id, unique_ids
from ngdata._arguments.levels import Level
from ngdata._client import components as connected
from ngdata._client import snapshots
from ngdata._client.namespace import Namespace, as_series
from ngdata._client.snapshots import Snapshot
from ngdata._client.subgraph import Subgraph
from ngdata._connections.threads import in_daemon_thread
from ngdata._query import edges, literals, neighbors, paths
from ngdata._query import snapshots as snapshot_reads
from ngdata._query.model import Query
from ngdata._query.neighbors import Direction
from ngdata._query.space import Box, Window
from ngdata._reading.reader import CacheMode, MaxRows
from ngdata._store import graph as store
from ngdata._store.input_frames import Frame, one_row
from ngdata._store.snapshots import insert_snapshot
from ngdata.errors import InvalidQueryError, NotFoundError

__all__ = ["AsyncGraph"]

_TOKEN_COLUMNS: Final = (
    "token_id",
    "token_type",
    "weight",
    "flags",
    "timestamp",
    "coords",
    "depth",
)


class AsyncGraph(Namespace):
    """Connections: a weighted, typed, directed graph between tokens."""

    async def get_neighbors(
        self,
        ids: Ids,
        direction: Direction = "outgoing",
        *,
        depth: int = 1,
        connection_type: str | Sequence[str] | None = None,
        min_weight: float | None = None,
        within: float | None = None,
        level: Level = 0,
        limit: int | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Find what tokens are connected to, in one step or several.

        Parameters
        ----------
        ids : id or sequence of ids
            The starts; one that is given twice counts once.
        direction : {"outgoing", "incoming", "both"}
            A bidirectional connection is outgoing, and incoming, at both of its ends.
        depth : int
            1 to 32; each token that can be reached is given once per start, at its least depth,
            with the connection of the least id that first reached it.  The start is left out.
        connection_type : str or sequence of str, optional
            Go along this type only, or any of these.
        min_weight : float, optional
            Go along connections of at least this weight only.
        within : float, optional
            Give only those at most this far from their start on a level, and a column ``distance``
            (float64).  The way there may lead further out.
        level : int or str
            The level that `within` is measured on; a token that is undefined there is left out.
        limit : int, optional
            Give the first so many, in the order below.
        max_rows : int or None, optional
            How many rows the answer may have, None for any number; by default as the client was
            opened.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            ``token_id`` (the start), ``neighbor_id``, ``connection_id``, ``connection_type``
            (str), ``weight`` (float64), ``direction`` (str: which way that last step went),
            ``depth`` (int32); by start in the order asked, then depth, then neighbor.

        Raises
        ------
        NotFoundError
            A start names no token.
        InvalidQueryError
            An unknown direction, a depth below 1, a value that is no id or no radius.
        ResultTooLarge
            More rows than `max_rows`; it tells how many.

        Examples
        --------
        >>> near = await ang.tokens.find_nearest((0, 0, 0), k=1, token_type="neuron")
        >>> found = await ang.graph.get_neighbors(near.token_id, "both")
        >>> found.columns.tolist()[:3]
        ['token_id', 'neighbor_id', 'connection_id']
        >>> close = await ang.graph.get_neighbors(near.token_id, depth=3, within=10.0)
        >>> bool(close.distance.max() <= 10.0)
        True
        """
        query = neighbors.neighbors(
            unique_ids(ids), direction, depth, connection_type, min_weight, limit, within, level
        )
        return await self._known(query, cache, max_rows)

    async def get_degree(
        self,
        ids: Ids | None = None,
        *,
        weighted: bool = False,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Count the connections of tokens.

        Parameters
        ----------
        ids : id or sequence of ids, optional
            All tokens, by id, if not given.
        weighted : bool
            Add the sums of their weights, by the same rules: ``in_weight``, ``out_weight``,
            ``total_weight`` (float64).
        max_rows : int or None, optional
            How many rows the answer may have, None for any number; by default as the client was
            opened.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            A row per id asked, in that order: ``token_id`` (str), ``in_degree``, ``out_degree``,
            ``total_degree`` (int64).  A bidirectional connection counts both ways at both ends,
            a loop once in and once out.

        Raises
        ------
        NotFoundError
            An id names no token.
        ResultTooLarge
            More rows than `max_rows`; it tells how many.

        Examples
        --------
        >>> near = await ang.tokens.find_nearest((0, 0, 0), k=1)
        >>> degrees = await ang.graph.get_degree(near.token_id)
        >>> degrees.columns.tolist()
        ['token_id', 'in_degree', 'out_degree', 'total_degree']
        """
        asked = None if ids is None else unique_ids(ids)
        return await self._known(neighbors.degree(asked, weighted), cache, max_rows)

    async def _known(
        self, query: Query, cache: CacheMode | None, max_rows: MaxRows
    ) -> pd.DataFrame:
        """Read an answer in which a row may stand for an id that is no token."""
        answer = await self._reader.frame(query, cache, max_rows)
        unknown = answer.pop(neighbors.UNKNOWN)
        if unknown.any():
            raise NotFoundError.of("token", answer.token_id[unknown].tolist())
        return answer

    async def connections(
        self,
        source: Ids | None = None,
        target: Ids | None = None,
        *,
        connection_type: str | Sequence[str] | None = None,
        within: Window | None = None,
        ends: Literal["both", "any"] = "both",
        limit: int | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """List connections as they are stored: all, or those from and to given tokens.

        Parameters
        ----------
        source, target : id or sequence of ids, optional
            Keep connections that begin at, and that end at, any of these.
        connection_type : str or sequence of str, optional
            Keep this type, or any of these.
        within : (min_coords, max_coords) or (min_coords, max_coords, level), optional
            Keep those in this region, a closed box as `find_in_region` takes it.
        ends : {"both", "any"}
            Which ends must lie in it: both, or at least one.
        limit : int, optional
            Give the first so many by id.
        max_rows : int or None, optional
            How many rows the answer may have, None for any number; by default as the client was
            opened.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            ``connection_id``, ``source_id``, ``target_id``, ``connection_type`` (str), ``weight``
            (float64), ``bidirectional`` (bool), in no order without a `limit`.

        Raises
        ------
        InvalidQueryError
            A region that cannot be, or a value that is no id.
        ResultTooLarge
            More rows than `max_rows`; it tells how many.

        Examples
        --------
        >>> gaps = await ang.graph.connections(connection_type="electrical")
        >>> gaps.connection_type.unique().tolist()
        ['electrical']
        >>> head = (-30, -350, -70), (30, -250, 70)
        >>> len(await ang.graph.connections(within=head, connection_type="electrical"))
        763
        """
        sources = None if source is None else unique_ids(source, "source")
        targets = None if target is None else unique_ids(target, "target")
        box = None if within is None else Box.within(within)
        query = edges.edges(sources, targets, connection_type, box, ends, limit)
        return await self._reader.frame(query, cache, max_rows)

    async def shortest_path(
        self,
        source: Id,
        target: Id,
        *,
        weighted: bool = False,
        max_depth: int | None = None,
        connection_type: str | Sequence[str] | None = None,
        direction: Direction = "outgoing",
        cache: CacheMode | None = None,
    ) -> pd.DataFrame | None:
        """Find the path of the fewest steps between two tokens, or that of the least weight.

        Parameters
        ----------
        source, target : id
        weighted : bool
            Weights are costs: the path of the least sum.
        max_depth : int, optional
            The most steps that it may have; any number, if not given.
        connection_type : str or sequence of str, optional
            Go along this type only, or any of these.
        direction : {"outgoing", "incoming", "both"}
            With the arrows, against them, or either way; a bidirectional connection is gone both
            ways.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame or None
            None if there is no path.  A row per step: ``step`` (int32, from 1), ``source_id`` and
            ``target_id`` as it is gone, ``connection_id``, ``connection_type`` (str), ``weight``
            (float64).  From a token to itself, no rows.  Of several that are as short it is one,
            the same as long as nothing changes.

        Raises
        ------
        NotFoundError
            An end names no token.
        InvalidQueryError
            `weighted`, and a connection of this type has a negative weight, wherever it is.

        Examples
        --------
        >>> a, b = (await ang.tokens.find_nearest((0, -250, 40), k=2, token_type="neuron")).token_id
        >>> path = await ang.graph.shortest_path(a, b, connection_type="chemical")
        >>> path.source_id[0] == a, path.target_id.iloc[-1] == b
        (True, True)
        """
        ends = canonical_id(source, "source"), canonical_id(target, "target")
        query = paths.shortest_path(
            *ends,
            weighted=weighted,
            max_depth=max_depth,
            connection_type=connection_type,
            direction=direction,
        )
        found = await self._reader.frame(query, cache, None)
        state = found.pop(paths.STATE)
        unknown = found.source_id[state == paths.UNKNOWN_END].tolist()
        if unknown:
            raise NotFoundError.of("token", list(dict.fromkeys(unknown)))
        negative = found[state == paths.NEGATIVE]
        if len(negative):
            raise InvalidQueryError(
                f"weights are costs here, but connection {negative.connection_id.iloc[0]} has "
                f"{negative.weight.iloc[0]:g}; leave its type out by connection_type=, or count "
                "steps"
            )
        return None if found.empty and ends[0] != ends[1] else found

    async def components(
        self,
        *,
        strong: bool = False,
        connection_type: str | Sequence[str] | None = None,
        min_weight: float | None = None,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Find which tokens hang together; reads the whole graph, and needs scipy.

        Parameters
        ----------
        strong : bool
            Whether one must get from each to each other along the arrows; by default, arrows do
            not count.
        connection_type : str or sequence of str, optional
            Connections of this type only, or of any of these.
        min_weight : float, optional
            Connections of at least this weight only.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            A row per token of the store: ``token_id`` (str), ``component`` (int64), by component,
            then token.  Component 0 is the largest; of equal ones, that with the least id comes
            first.

        Raises
        ------
        ConfigError
            scipy is not installed.

        Examples
        --------
        >>> found = await ang.graph.components(connection_type=["chemical", "electrical"])
        >>> int((found.component == 0).sum())
        300
        """
        query = edges.arcs_of_all(connection_type, min_weight)
        rows = await self._reader.frame(query, cache, None)
        found = await in_daemon_thread(lambda: connected.components(rows, strong))
        found.attrs = rows.attrs
        return found

    async def subgraph(
        self,
        ids: Ids,
        depth: int = 1,
        *,
        direction: Direction = "both",
        connection_type: str | Sequence[str] | None = None,
        min_weight: float | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> Subgraph:
        """Read the part of the graph around tokens, whole and of one moment.

        Parameters
        ----------
        ids : id or sequence of ids
        depth : int
            How many steps it reaches, 0 to 32; with 0, it is these tokens and what connects them.
        direction : {"outgoing", "incoming", "both"}
            Which way the steps go; of what they reach, all connections are in it.
        connection_type : str or sequence of str, optional
            Connections of this type only, or of any of these.
        min_weight : float, optional
            Connections of at least this weight only.
        max_rows : int or None, optional
            How many tokens and connections it may have together, None for any number; by default
            as the client was opened.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        Subgraph
            ``tokens``: as `tokens.get` gives them, and ``depth`` (int32); by depth, then id.
            ``connections``: all that connect them, as `connections` gives them, by id.
            ``to_networkx()`` and ``to_scipy()`` hand it on.

        Raises
        ------
        NotFoundError
            An id names no token.
        ResultTooLarge
            More than `max_rows`; it tells how many.

        Examples
        --------
        >>> near = await ang.tokens.find_nearest((0, -250, 40), k=2, token_type="neuron")
        >>> around = await ang.graph.subgraph(near.token_id, connection_type="electrical")
        >>> around
        <Subgraph of 5 tokens and 7 connections>
        """
        query = neighbors.subgraph(unique_ids(ids), depth, direction, connection_type, min_weight)
        answer = await self._known(query, cache, max_rows)
        is_edge = answer.connection_id.notna()
        tokens = answer.loc[~is_edge, list(_TOKEN_COLUMNS)].reset_index(drop=True)
        connections = answer.loc[is_edge, [column.name for column in edges.COLUMNS]]
        return Subgraph(
            tokens.astype({"flags": "int32", "depth": "int32"}), connections.reset_index(drop=True)
        )

    async def create_snapshot(self, label: str | None = None) -> str:
        """Store the graph as it is now, whole and compressed; needs scipy.

        Parameters
        ----------
        label : str, optional
            A name for people; it need not be the only one.

        Returns
        -------
        str
            The snapshot's id.

        Raises
        ------
        ConfigError
            This user or this connection may not write, or scipy is not installed.
        ResultTooLarge
            More than a row can hold, which is some tens of millions of connections.

        Examples
        --------
        >>> made = await ang.graph.create_snapshot("before the experiment")
        >>> snapshot = await ang.graph.load_snapshot(made)
        >>> snapshot.label
        'before the experiment'
        """
        if label is not None:
            if not isinstance(label, str):
                raise InvalidQueryError(f"label must be text, not {label!r}")
            literals.text(label)
        answer, _ = await self._reader.answer(snapshot_reads.whole_graph(), "off")
        row = await in_daemon_thread(lambda: snapshots.snapshot_row(answer.table))
        async with self._transaction() as connection:
            return await insert_snapshot(connection, label, row.created_at, row.metrics, row.data)

    async def list_snapshots(self, *, cache: CacheMode | None = None) -> pd.DataFrame:
        """List the snapshots, without what they hold.

        Parameters
        ----------
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            ``snapshot_id``, ``label`` (str), ``created_at`` (datetime64[us, UTC]; the moment that
            it shows), ``node_count``, ``edge_count`` (int64), ``mean_degree`` (float64; the mean of
            ``total_degree``), ``clustering_coefficient`` (float64; the mean over all tokens, with
            arrows, parallels and loops left aside); by time, then id.

        Examples
        --------
        >>> (await ang.graph.list_snapshots()).columns.tolist()[:3]
        ['snapshot_id', 'label', 'created_at']
        """
        return await self._reader.frame(snapshot_reads.listed(), cache, None)

    async def load_snapshot(
        self,
        id: Id,  # noqa: A002 - a snapshot's, as list_snapshots gives it
        *,
        cache: CacheMode | None = None,
    ) -> Snapshot:
        """Read a snapshot.

        Parameters
        ----------
        id : id
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        Snapshot
            ``tokens`` (one column, ``token_id``, in order), ``connections`` as `connections` gives
            them, ``id``, ``label``, ``created_at``; ``to_networkx()`` and ``to_scipy()`` hand it
            on.

        Raises
        ------
        NotFoundError
            There is no such snapshot.
        NGDataError
            What is stored is not what was written.

        Examples
        --------
        >>> made = await ang.graph.create_snapshot()
        >>> snapshot = await ang.graph.load_snapshot(made)
        >>> len(snapshot.connections) == len(await ang.graph.connections())
        True
        """
        wanted = canonical_id(id)
        found = await self._reader.frame(snapshot_reads.stored(wanted), cache, None)
        if found.empty:
            raise NotFoundError.of("snapshot", [wanted])
        return await in_daemon_thread(lambda: snapshots.load(found))

    async def diff_snapshots(
        self,
        a: Id,
        b: Id,
        *,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Tell which connections came, went and changed between two snapshots.

        Parameters
        ----------
        a, b : id
            The one before, and the one after.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            ``connection_id``, ``change`` (``added``, ``removed`` or ``changed``), ``source_id``,
            ``target_id``, ``connection_type`` (str; as they are in `b`, if it is there),
            ``weight_before``, ``weight_after`` (float64; NaN where it is not); by connection.  One
            that changed in anything but its weight is in it too.

        Raises
        ------
        NotFoundError
            There is no such snapshot.

        Examples
        --------
        >>> before = await ang.graph.create_snapshot()
        >>> a, b = (await ang.tokens.find_nearest((0, 0, 0), k=2)).token_id
        >>> made = await ang.graph.create_connection(a, b)
        >>> after = await ang.graph.create_snapshot()
        >>> (await ang.graph.diff_snapshots(before, after)).change.tolist()
        ['added']
        """
        before = await self.load_snapshot(a, cache=cache)
        after = await self.load_snapshot(b, cache=cache)
        return await in_daemon_thread(lambda: snapshots.compare(before, after))

    async def create_connection(
        self,
        source_id: Id,
        target_id: Id,
        connection_type: str = "generic",
        weight: float = 1.0,
        *,
        decay_rate: float | None = None,
        bidirectional: bool = False,
        metadata: Mapping[str, Any] | None = None,
        connection_id: Id | None = None,
    ) -> str:
        """Connect two tokens; parallel connections and loops are allowed.

        Parameters
        ----------
        source_id, target_id : id
        connection_type : str
        weight : float
        decay_rate : float, optional
        bidirectional : bool
            Whether it can be gone from both ends.
        metadata : mapping, optional
        connection_id : id, optional
            A new one is made if none is given.

        Returns
        -------
        str
            The connection's id.

        Raises
        ------
        IntegrityError
            An end names no token, or the id is there already.
        InvalidQueryError
            A value that cannot be.

        Examples
        --------
        >>> a, b = (await ang.tokens.find_nearest((0, 0, 0), k=2)).token_id
        >>> made = await ang.graph.create_connection(a, b, "spatial", 0.8)
        >>> edges = await ang.graph.connections(a, b, connection_type="spatial")
        >>> edges.weight.tolist()
        [0.8]
        """
        values = {
            "source_id": source_id,
            "target_id": target_id,
            "connection_type": connection_type,
            "weight": weight,
            "decay_rate": decay_rate,
            "bidirectional": bidirectional,
            "metadata": metadata,
            "connection_id": connection_id,
        }
        return (await self._write(store.RELATION, lambda: store.rows(one_row(values))))[0]

    async def bulk_create(self, frame: Frame, *, progress: bool | None = None) -> pd.Series[str]:
        """Create a connection per row: all of them, or none.

        Parameters
        ----------
        frame : pandas.DataFrame, Arrow or Polars table, or mapping of columns
            ``source_id, target_id``; optional ``connection_id, connection_type, weight,
            decay_rate, bidirectional, metadata``.  NaN or None there means not given.
        progress : bool, optional
            Show a bar: always, never, or by default if it takes longer than two seconds.

        Returns
        -------
        pandas.Series
            The connections' ids (str), in order, on the frame's index.

        Raises
        ------
        InvalidQueryError
            A bad value or column, with its row; nothing was sent.
        IntegrityError
            An end that names no token, or an id that is there already; nothing was written.

        Examples
        --------
        >>> a, b = (await ang.tokens.find_nearest((0, 0, 0), k=2)).token_id
        >>> made = await ang.graph.bulk_create({"source_id": [a, b], "target_id": [b, a]})
        >>> len(made)
        2
        """
        ids = await self._write(
            store.RELATION, lambda: store.rows(frame), progress, lambda _: store.ROWS_AT_ONCE
        )
        return as_series(ids, "connection_id", frame)
