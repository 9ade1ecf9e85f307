"""The writes of `client.graph`: new connections, changes and deletions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any

import pandas as pd

from ngdata._arguments.id_space import TokenId, TokenIds
from ngdata._arguments.ids import Id, Ids, unique_ids
from ngdata._client.namespace import Namespace, as_series
from ngdata._query.edges import conditions_on
from ngdata._store import graph as store
from ngdata._store.changes import assignments
from ngdata._store.conflicts import OnConflict
from ngdata._store.fields import CONNECTIONS, SNAPSHOTS
from ngdata._store.input_frames import Extra, Frame

__all__ = ["AsyncGraphWrites"]


class AsyncGraphWrites(Namespace):
    """Create, change and delete connections, and delete snapshots."""

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

    async def bulk_create(
        self,
        frame: Frame,
        *,
        progress: bool | None = None,
        extra: Extra = "refuse",
        on_conflict: OnConflict = "error",
    ) -> pd.Series[str]:
        """Create a connection per row: all of them in one transaction, or none.

        Parameters
        ----------
        frame : pandas.DataFrame, Arrow or Polars table, or mapping of columns
            ``source_id, target_id``; optional ``connection_id, connection_type, weight,
            decay_rate, bidirectional, metadata``.  NaN or None in an optional column
            means the default.  An index that has the name of a column is that column, and what only reads
            return is left out.
        progress : bool, optional
            Whether to show a progress bar; by default, only if writing takes more than two seconds.
        extra : {"refuse", "metadata"}
            Whether columns with other names are refused, or become keys of ``metadata``: missing values
            are left out, times become text in ISO 8601.
        on_conflict : {"error", "skip", "update"}
            What becomes of rows whose id exists: IntegrityError, nothing, or a change of the connection to the
            values of the frame's columns; all others stay.

        Returns
        -------
        pandas.Series
            The connections' ids (str), in order, on the frame's index; ``attrs["ngdata"]`` has the
            numbers of rows ``created``, ``updated`` and ``skipped``.

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
        ids, counts = await self._write(
            CONNECTIONS,
            lambda extra: store.check_frame(frame, self._ids, extra),
            progress,
            lambda _: store.ROWS_PER_COPY,
            extra=extra,
            on_conflict=on_conflict,
        )
        return as_series(ids, counts, "connection_id", frame)

    async def update(
        self,
        connection_id: Ids,
        *,
        source_id: TokenId | EllipsisType = ...,
        target_id: TokenId | EllipsisType = ...,
        connection_type: str | EllipsisType | None = ...,
        weight: float | EllipsisType | None = ...,
        decay_rate: float | EllipsisType | None = ...,
        bidirectional: bool | EllipsisType | None = ...,
        metadata: Mapping[str, Any] | EllipsisType | None = ...,
    ) -> int:
        """Change connections; attributes that are not passed stay unchanged.

        Parameters
        ----------
        connection_id : id or sequence of ids
        source_id, target_id : id, optional
            The new end.
        connection_type, weight, decay_rate, bidirectional, metadata : optional
            As in `create_connection`; None resets to a new connection's default, ``...`` leaves
            unchanged.

        Returns
        -------
        int
            The number of changed connections.

        Raises
        ------
        NotFoundError
            Some ids name no connection; nothing was changed.
        IntegrityError
            A new end names no token; nothing was changed.
        InvalidQueryError
            An invalid value, or nothing to change; nothing was sent.

        Examples
        --------
        >>> a, b = (await ang.tokens.find_nearest((0, 0, 0), k=2)).token_id
        >>> connection_id = await ang.graph.create_connection(a, b)
        >>> await ang.graph.update(connection_id, weight=0.5, target_id=a)
        1
        >>> await ang.graph.delete(connection_id)
        1
        """
        attributes = {
            "source_id": source_id,
            "target_id": target_id,
            "connection_type": connection_type,
            "weight": weight,
            "decay_rate": decay_rate,
            "bidirectional": bidirectional,
            "metadata": metadata,
        }
        connection_ids = unique_ids(connection_id, "connection_id")
        changes = assignments(CONNECTIONS.within(self._ids), attributes)
        return await self._update(CONNECTIONS, connection_ids, changes, attributes)

    async def bulk_update(self, frame: Frame, *, progress: bool | None = None) -> int:
        """Change a connection per row, each in its own way: all in one transaction, or none.

        Only the columns of the frame are changed.

        Parameters
        ----------
        frame : pandas.DataFrame, Arrow or Polars table, or mapping of columns
            ``connection_id``, and at least one of ``source_id, target_id, connection_type, weight,
            decay_rate, bidirectional, metadata``.  NaN or None resets to a new connection's default,
            as None does in `update`; to leave a connection unchanged, leave out its row.
        progress : bool, optional
            Whether to show a progress bar; by default, only if writing takes more than two seconds.

        Returns
        -------
        int
            The number of changed connections.

        Raises
        ------
        NotFoundError
            Some ids name no connection; nothing was changed.
        InvalidQueryError
            An invalid value or column, or nothing to change; the error names the column and the row.
            Nothing was sent.
        IntegrityError
            An id is in two rows, or a new end names no token; the error names the rows.  Nothing was
            changed.

        Examples
        --------
        >>> edges = await ang.graph.connections()
        >>> await ang.graph.bulk_update(edges) == len(edges)
        True
        """
        return await self._update_each(
            CONNECTIONS, lambda: store.check_changes(frame, self._ids), progress
        )

    async def delete(
        self,
        ids: Ids | None = None,
        *,
        source: TokenIds | None = None,
        target: TokenIds | None = None,
        connection_type: str | Sequence[str] | None = None,
    ) -> int:
        """Delete connections; their tokens stay.

        At least one argument must be given; of several, a connection must meet all.

        Parameters
        ----------
        ids : id or sequence of ids, optional
            Ids that name no connection are ignored; an empty sequence deletes nothing.
        source, target : id or sequence of ids, optional
            The tokens that the connection leads from, or to, as it is stored.
        connection_type : str or sequence of str, optional
            The type, or any of several.

        Returns
        -------
        int
            The number of deleted connections.

        Raises
        ------
        InvalidQueryError
            An invalid value, or no argument; nothing was sent.

        Examples
        --------
        >>> await ang.graph.delete(connection_type="draft")
        0
        """
        connection_ids = None if ids is None else unique_ids(ids)
        conditions = conditions_on(
            None if source is None else self._ids.unique_ids(source, "source"),
            None if target is None else self._ids.unique_ids(target, "target"),
            connection_type,
        )
        names = ("ids", "source", "target", "connection_type")
        return await self._delete(CONNECTIONS, connection_ids, conditions, names, alias="c")

    async def delete_snapshots(self, ids: Ids) -> int:
        """Delete snapshots; the graph stays.

        Parameters
        ----------
        ids : id or sequence of ids
            Ids that name no snapshot are ignored; an empty sequence deletes nothing.

        Returns
        -------
        int
            The number of deleted snapshots.

        Raises
        ------
        InvalidQueryError
            A value that is not an id; nothing was sent.

        Examples
        --------
        >>> snapshot_id = await ang.graph.create_snapshot()
        >>> await ang.graph.delete_snapshots(snapshot_id)
        1
        """
        return await self._delete(SNAPSHOTS, unique_ids(ids), ["t.part_of IS NULL"], ("ids",))
