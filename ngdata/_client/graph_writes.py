"""The writes of `client.graph`: new connections, changes and deletions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from ngdata._arguments.id_space import TokenId
from ngdata._arguments.ids import Id
from ngdata._client.namespace import Namespace, as_series
from ngdata._store import graph as store
from ngdata._store.fields import CONNECTIONS
from ngdata._store.input_frames import Frame

__all__ = ["AsyncGraphWrites"]

_TOKEN_COLUMNS: Final = (
    "token_id",
    "token_type",
    "weight",
    "flags",
    "timestamp",
    "coords",
    "depth",
)


class AsyncGraphWrites(Namespace):
    """Create, change and delete connections."""

    async def create_connection(
        self,
        source_id: TokenId,
        target_id: TokenId,
        connection_type: str = "generic",
        weight: float = 1.0,
        *,
        decay_rate: float | None = None,
        bidirectional: bool = False,
        metadata: Mapping[str, Any] | None = None,
        connection_id: Id | None = None,
    ) -> str:
        """Create a connection between two tokens; parallel connections and loops are allowed.

        Parameters
        ----------
        source_id, target_id : id
        connection_type : str
        weight : float
        decay_rate : float, optional
        bidirectional : bool
            Whether it can be followed from both ends.
        metadata : mapping, optional
        connection_id : id, optional
            A random UUID by default.

        Returns
        -------
        str
            The connection's id.

        Raises
        ------
        IntegrityError
            An end names no token, or a connection with this id exists.
        InvalidQueryError
            An invalid value; nothing was sent.

        Examples
        --------
        >>> a, b = (await ang.tokens.find_nearest((0, 0, 0), k=2)).token_id
        >>> connection_id = await ang.graph.create_connection(a, b, "spatial", 0.8)
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
        return await self._write_one(CONNECTIONS, CONNECTIONS.check_row(values, self._ids))

    async def bulk_create(self, frame: Frame, *, progress: bool | None = None) -> pd.Series[str]:
        """Create a connection per row: all of them in one transaction, or none.

        Parameters
        ----------
        frame : pandas.DataFrame, Arrow or Polars table, or mapping of columns
            ``source_id, target_id``; optional ``connection_id, connection_type, weight,
            decay_rate, bidirectional, metadata``.  NaN or None in an optional column
            means the default.  An index that has the name of a column is that column.
        progress : bool, optional
            Whether to show a progress bar; by default, only if writing takes more than two seconds.

        Returns
        -------
        pandas.Series
            The connections' ids (str), in order, on the frame's index.

        Raises
        ------
        InvalidQueryError
            An invalid value or column; the error names it and its row.  Nothing was sent.
        IntegrityError
            An end names no token, or an id exists already; nothing was written.

        Examples
        --------
        >>> a, b = (await ang.tokens.find_nearest((0, 0, 0), k=2)).token_id
        >>> ids = await ang.graph.bulk_create({"source_id": [a, b], "target_id": [b, a]})
        >>> len(ids)
        2
        """
        ids = await self._write(
            CONNECTIONS,
            lambda: store.check_frame(frame, self._ids),
            progress,
            lambda _: store.ROWS_PER_COPY,
        )
        return as_series(ids, "connection_id", frame)
