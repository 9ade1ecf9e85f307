"""`Client.graph`: neighbors, degrees and connections as frames, and the creation of connections.

Written by scripts/generate_sync.py out of ngdata/graph.py; change that file, and run it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ngdata.graph import AsyncGraph
from ngdata.ids import Id, Ids
from ngdata.query.neighbors import Direction
from ngdata.reader import CacheMode
from ngdata.store.incoming import Frame
from ngdata.sync.twin import Twin

__all__ = ["Graph"]


class Graph(Twin[AsyncGraph]):
    """Connections: a weighted, typed, directed graph between tokens."""

    def get_neighbors(
        self,
        ids: Ids,
        direction: Direction = "outgoing",
        *,
        depth: int = 1,
        connection_type: str | Sequence[str] | None = None,
        min_weight: float | None = None,
        limit: int | None = None,
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
        limit : int, optional
            Give the first so many, in the order below.
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
            An unknown direction, a depth below 1, a value that is no id.

        Examples
        --------
        >>> near = ng.tokens.find_nearest((0, 0, 0), k=1, token_type="neuron")
        >>> found = ng.graph.get_neighbors(near.token_id, "both")
        >>> found.columns.tolist()[:3]
        ['token_id', 'neighbor_id', 'connection_id']
        """
        return self._loop.run(
            self._twin.get_neighbors(
                ids,
                direction,
                depth=depth,
                connection_type=connection_type,
                min_weight=min_weight,
                limit=limit,
                cache=cache,
            )
        )

    def get_degree(self, ids: Ids | None = None, *, cache: CacheMode | None = None) -> pd.DataFrame:
        """Count the connections of tokens.

        Parameters
        ----------
        ids : id or sequence of ids, optional
            All tokens, by id, if not given.
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

        Examples
        --------
        >>> near = ng.tokens.find_nearest((0, 0, 0), k=1)
        >>> degrees = ng.graph.get_degree(near.token_id)
        >>> degrees.columns.tolist()
        ['token_id', 'in_degree', 'out_degree', 'total_degree']
        """
        return self._loop.run(self._twin.get_degree(ids, cache=cache))

    def connections(
        self,
        source: Ids | None = None,
        target: Ids | None = None,
        *,
        connection_type: str | Sequence[str] | None = None,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """List connections as they are stored: all, or those from and to given tokens.

        Parameters
        ----------
        source, target : id or sequence of ids, optional
            Keep connections that begin at, and that end at, any of these.
        connection_type : str or sequence of str, optional
            Keep this type, or any of these.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            ``connection_id``, ``source_id``, ``target_id``, ``connection_type`` (str), ``weight``
            (float64), ``bidirectional`` (bool), in no order.

        Examples
        --------
        >>> gaps = ng.graph.connections(connection_type="electrical")
        >>> gaps.connection_type.unique().tolist()
        ['electrical']
        """
        return self._loop.run(
            self._twin.connections(source, target, connection_type=connection_type, cache=cache)
        )

    def create_connection(
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
        >>> a, b = ng.tokens.find_nearest((0, 0, 0), k=2).token_id
        >>> made = ng.graph.create_connection(a, b, "spatial", 0.8)
        >>> edges = ng.graph.connections(a, b, connection_type="spatial")
        >>> edges.weight.tolist()
        [0.8]
        """
        return self._loop.run(
            self._twin.create_connection(
                source_id,
                target_id,
                connection_type,
                weight,
                decay_rate=decay_rate,
                bidirectional=bidirectional,
                metadata=metadata,
                connection_id=connection_id,
            )
        )

    def bulk_create(self, frame: Frame, *, progress: bool | None = None) -> pd.Series[str]:
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
        >>> a, b = ng.tokens.find_nearest((0, 0, 0), k=2).token_id
        >>> made = ng.graph.bulk_create({"source_id": [a, b], "target_id": [b, a]})
        >>> len(made)
        2
        """
        return self._loop.run(self._twin.bulk_create(frame, progress=progress))
