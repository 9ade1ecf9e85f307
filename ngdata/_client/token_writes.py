"""The writes of `client.tokens`: new tokens, changes and deletions."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import EllipsisType
from typing import Any, get_args

import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike

from ngdata._arguments.id_space import TokenId, TokenIds
from ngdata._arguments.levels import Level, level_index
from ngdata._arguments.numbers import as_flag
from ngdata._arguments.shown import shown
from ngdata._arguments.texts import checked_word
from ngdata._arguments.times import Time
from ngdata._client.namespace import Namespace, as_series
from ngdata._connections.threads import in_daemon_thread
from ngdata._connections.write_connection import WriteConnection
from ngdata._query.filters import TokenFilter
from ngdata._query.places import Place, Window
from ngdata._store import tokens as store
from ngdata._store.conflicts import OnConflict, write_rows
from ngdata._store.fields import TOKENS
from ngdata._store.frame_streams import callers_errors, frames_of
from ngdata._store.initial_load import count_statistics, deferred_spatial_index
from ngdata._store.input_frames import Extra, Frame
from ngdata._store.progress import progress_bar, redrawn
from ngdata._store.row_names import rows_named
from ngdata.errors import InvalidQueryError

__all__ = ["AsyncTokenWrites"]


class AsyncTokenWrites(Namespace):
    """Create, change and delete tokens."""

    async def create(
        self,
        coords: ArrayLike | Mapping[Level, ArrayLike | None],
        *,
        token_type: str = "default",
        weight: float = 1.0,
        flags: int = 0,
        timestamp: Time | None = None,
        metadata: Mapping[str, Any] | None = None,
        binary_data: bytes | None = None,
        token_id: TokenId | None = None,
    ) -> str | int:
        """Create one token.

        Parameters
        ----------
        coords : array_like of shape (8, 3), or mapping of level to (x, y, z)
            The token is undefined on levels that are NaN or not in the mapping.
        token_type : str
        weight : float
        flags : int
            0 to 2**31 - 1.
        timestamp : datetime or int, optional
            With a time zone, or milliseconds since the epoch; now by default.
        metadata : mapping, optional
        binary_data : bytes, optional
            The token's 64-byte record; stored, but not interpreted.
        token_id : id, optional
            By default a random UUID, or a random integer below 2**63 if the client's ids are
            integers.

        Returns
        -------
        str or int
            The token's id; an integer if the client's ids are.

        Raises
        ------
        InvalidQueryError
            An invalid value; nothing was sent.
        IntegrityError
            A token with this id exists.

        Examples
        --------
        >>> token_id = await ang.tokens.create({0: (1e6, 0, 0), "temporal": (1, 2, 3)})
        >>> await ang.tokens.delete(token_id)
        1
        """
        values = {
            "token_type": token_type,
            "weight": weight,
            "flags": flags,
            "timestamp": timestamp,
            "metadata": metadata,
            "binary_data": binary_data,
            "token_id": token_id,
        }
        row_id = await self._write_one(TOKENS, store.check_row(coords, values, self._ids))
        created: str | int = self._ids.outgoing([row_id])[0]
        return created

    async def bulk_create(
        self,
        frame: Frame,
        *,
        level: Level = 0,
        coords: ArrayLike | None = None,
        initial: bool = False,
        progress: bool | None = None,
        extra: Extra = "refuse",
        on_conflict: OnConflict = "error",
    ) -> pd.Series[Any]:
        """Create a token per row: all of them in one transaction, or none.

        Parameters
        ----------
        frame : pandas.DataFrame, Arrow or Polars table, structured array, or mapping of columns
            ``x, y, z``, or ``coords`` (arrays of shape (8, 3)), unless `coords` is given; optional
            ``level`` (the level of a row's point), ``token_id, token_type, weight, flags, timestamp,
            metadata, binary_data``.  NaN, NaT or None in an optional column means the default.  An
            index that has the name of a column is that column.  The frames of all reads of tokens
            are accepted; what they have beside these columns is left out.
        level : int or str
            The level of ``x, y, z`` if the frame has no column ``level``.
        coords : array_like of shape (n, 8, 3), optional
            All levels at once, NaN where undefined.
        initial : bool
            Load an empty store, and build its spatial indexes after the load, which is faster.
            Only the owner of the tables may; until the end, other writes of tokens and reads of
            regions wait.  For more rows than fit into memory, see `bulk_load`.
        progress : bool, optional
            Whether to show a progress bar; by default, only if writing takes more than two seconds.
        extra : {"refuse", "metadata"}
            Whether columns with other names are refused, or become keys of ``metadata``: missing values
            are left out, times become text in ISO 8601.
        on_conflict : {"error", "skip", "update"}
            What becomes of rows whose id exists: IntegrityError, nothing, or a change of the token to
            the values of the frame's columns; all others, and its places on
            other levels, stay.

        Returns
        -------
        pandas.Series
            The tokens' ids (str, or uint64 if the client's ids are integers), in order, on the
            frame's index; ``attrs["ngdata"]`` has the numbers of rows
            ``created``, ``updated`` and ``skipped``.

        Raises
        ------
        InvalidQueryError
            An invalid value or column; the error names it and its row.  Or `initial`, and the store
            has tokens, or `on_conflict` is not ``"error"``.  Nothing was sent.
        IntegrityError
            An id that occurs twice in the frame, or exists in the store; nothing was written.
        ConfigError
            `initial`, and this user is not the owner of the tables.

        Examples
        --------
        >>> ids = await ang.tokens.bulk_create({"x": [1e6, 1e6], "y": [0, 1], "z": [0, 0]})
        >>> await ang.tokens.delete(ids)
        2
        """
        deferred = [deferred_spatial_index] if as_flag(initial, "initial") else []
        if deferred and on_conflict != "error":
            raise InvalidQueryError(
                f"initial loads an empty store, so on_conflict must be 'error', not {shown(on_conflict)}"
            )
        ids, counts = await self._write(
            TOKENS,
            lambda extra: store.check_frame(frame, level, coords, self._ids, extra),
            progress,
            store.rows_per_copy,
            *deferred,
            extra=extra,
            on_conflict=on_conflict,
            targets=store.MERGED_LEVELS,
        )
        if deferred:
            await count_statistics(self._database)
        return as_series(ids, counts, "token_id", frame, self._ids)

    async def bulk_load(
        self,
        frames: Iterable[Frame] | AsyncIterable[Frame],
        *,
        level: Level = 0,
        initial: bool = False,
        progress: bool | None = None,
        extra: Extra = "refuse",
    ) -> int:
        """Create a token per row of frames that come one after the other: all of them, or none.

        The memory is that of one frame, however many there are: pass a generator.  All of them are
        written in one transaction, which cannot be resumed: if the generator or a row fails, or
        the program ends, the store is as it was before.

        Parameters
        ----------
        frames : iterable of frames, also an asynchronous one
            Each as in `bulk_create`, with any number of rows; 100,000 are a good size.  An id may
            occur once in all of them.
        level : int or str
            The level of ``x, y, z`` of frames that have no column ``level``.
        initial : bool
            Load an empty store, and build its spatial indexes after the load, as in `bulk_create`.
        progress : bool, optional
            Whether to show a progress bar; by default, only if writing takes more than two seconds.
        extra : {"refuse", "metadata"}
            As in `bulk_create`.

        Returns
        -------
        int
            The number of tokens.

        Raises
        ------
        InvalidQueryError
            An invalid value or column; the error names the frame and the row.  Or `initial`, and the
            store has tokens.  Nothing was written.
        IntegrityError
            An id that occurs twice, or exists in the store; nothing was written.
        ConfigError
            `initial`, and this user is not the owner of the tables.

        Examples
        --------
        >>> def parts():
        ...     for number in range(3):
        ...         yield {"x": [2e6, 2e6], "y": [0, 1], "z": [number, number], "token_type": "part"}
        >>> await ang.tokens.bulk_load(parts())
        6
        >>> await ang.tokens.delete(token_type="part")
        6
        """
        self._check_may_write()
        is_initial = bool(as_flag(initial, "initial"))
        progress = as_flag(progress, "progress", optional=True)
        extra = checked_word(extra, get_args(Extra), "extra")
        number = level_index(level)
        stream = frames_of(frames)
        count = written = 0
        with (
            callers_errors(),
            progress_bar(None, "rows", "writing tokens", progress) as bar,
            redrawn(bar),
        ):
            # Before the transaction: an error of the first frame locks nothing.
            frame = await anext(stream, None)
            if frame is None:
                return 0
            async with self._loading(is_initial, progress) as connection:
                while frame is not None:
                    noun = f"frame {count}, row"
                    check = partial(self._checked_frame, frame, number, extra, noun)
                    rows = await in_daemon_thread(check)
                    if rows.num_rows:
                        with rows_named(noun, int):
                            await write_rows(
                                connection,
                                TOKENS,
                                rows,
                                "error",
                                where=self._database.where,
                                progress=False,
                                rows_per_part=store.rows_per_copy(rows),
                            )
                    bar.update(rows.num_rows)
                    written, count = written + rows.num_rows, count + 1
                    # Or it would be in memory beside the next one.
                    del rows, check, frame
                    frame = await anext(stream, None)
        return written

    def _checked_frame(self, frame: Frame, level: int, extra: Extra, noun: str) -> pa.Table:
        with rows_named(noun, int), self._ids.renaming():
            return store.check_frame(frame, level, None, self._ids, extra)

    @asynccontextmanager
    async def _loading(
        self, initial: bool, progress: bool | None
    ) -> AsyncIterator[WriteConnection]:
        """Open the transaction of a load; with `initial`, index at its end what the body wrote."""
        async with self._transaction() as connection:
            if initial:
                where = self._database.where
                async with deferred_spatial_index(connection, where, progress):
                    yield connection
            else:
                yield connection
        if initial:
            await count_statistics(self._database)

    async def update(
        self,
        ids: TokenIds,
        *,
        coords: ArrayLike | Mapping[Level, ArrayLike | None] | None = None,
        token_type: str | EllipsisType | None = ...,
        weight: float | EllipsisType | None = ...,
        flags: int | EllipsisType | None = ...,
        timestamp: Time | EllipsisType | None = ...,
        metadata: Mapping[str, Any] | EllipsisType | None = ...,
        binary_data: bytes | EllipsisType | None = ...,
    ) -> int:
        """Change tokens; attributes that are not passed stay unchanged.

        Parameters
        ----------
        ids : id or sequence of ids
        coords : mapping of level to (x, y, z), or array_like of shape (8, 3), optional
            A mapping changes its levels (None makes one undefined), an array changes all.
        token_type, weight, flags, timestamp, metadata, binary_data : optional
            As in `create`; None resets to a new token's default, ``...`` leaves unchanged.

        Returns
        -------
        int
            The number of changed tokens.

        Raises
        ------
        NotFoundError
            Some ids name no token; nothing was changed.
        InvalidQueryError
            An invalid value, or nothing to change.

        Examples
        --------
        >>> near = await ang.tokens.find_nearest((0, 0, 0), k=2)
        >>> await ang.tokens.update(near.token_id, weight=1.0)
        2
        """
        token_ids = self._ids.unique_ids(ids)
        attributes = {
            "token_type": token_type,
            "weight": weight,
            "flags": flags,
            "timestamp": timestamp,
            "metadata": metadata,
            "binary_data": binary_data,
        }
        changes = store.check_update(coords, attributes)
        return await self._update(TOKENS, token_ids, changes, ("coords", *attributes))

    async def bulk_update(
        self, frame: Frame, *, level: Level = 0, progress: bool | None = None
    ) -> int:
        """Change a token per row, each in its own way: all of them in one transaction, or none.

        Only the columns of the frame are changed.  A frame that a read returned can be corrected and
        written back.

        Parameters
        ----------
        frame : pandas.DataFrame, Arrow or Polars table, or mapping of columns
            ``token_id``, and at least one of: ``x, y, z`` (all three: the token's place on `level`);
            ``coords`` (arrays of shape (8, 3), NaN where undefined: its places on all levels);
            ``token_type, weight, flags, timestamp, metadata, binary_data``.  NaN, NaT or None in
            one of the latter resets to a new token's default, as None does in `update`; to leave a
            token unchanged, leave out its row.
        level : int or str
            The level of ``x, y, z``; a column ``level``, as regions have it, names a level for each
            row instead.
        progress : bool, optional
            Whether to show a progress bar; by default, only if writing takes more than two seconds.

        Returns
        -------
        int
            The number of changed tokens.

        Raises
        ------
        NotFoundError
            Some ids name no token; nothing was changed.
        InvalidQueryError
            An invalid value or column, or nothing to change; the error names the column and the row.
            Nothing was sent.
        IntegrityError
            An id is in two rows; the error names both.  Nothing was sent.

        Examples
        --------
        >>> near = await ang.tokens.find_nearest((0, 0, 0), k=2)
        >>> moved = near[["token_id", "x", "y", "z"]].assign(x=near.x + 0.5)
        >>> await ang.tokens.bulk_update(moved)
        2
        >>> await ang.tokens.bulk_update(near[["token_id", "x", "y", "z"]])
        2
        """
        return await self._update_each(
            TOKENS, lambda: store.check_changes(frame, level, self._ids), progress
        )

    async def delete(
        self,
        ids: TokenIds | None = None,
        *,
        within: Window | None = None,
        token_type: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> int:
        """Delete tokens and their connections; their events stay, with a missing ``token_id``.

        At least one argument must be given; of several, a token must meet all.

        Parameters
        ----------
        ids : id or sequence of ids, optional
            Ids that name no token are ignored; an empty sequence deletes nothing.
        within : region, (region, level), or (min_coords, max_coords[, level]), optional
            The region that the token must be in, exactly as `find_in_region` reads it; level 0 by
            default.
        token_type : str or sequence of str, optional
            The type, or any of several.
        where : mapping, optional
            What the token's metadata must contain, as JSON.

        Returns
        -------
        int
            The number of deleted tokens.

        Raises
        ------
        InvalidQueryError
            An invalid value, or no argument; nothing was sent.

        Examples
        --------
        >>> await ang.tokens.delete("00000000-0000-4000-8000-000000000000")
        0
        >>> await ang.tokens.delete(token_type="draft", within=((0, 0, 0), (1, 1, 1), "motor"))
        0
        """
        token_ids = None if ids is None else self._ids.unique_ids(ids)
        conditions = TokenFilter(token_type, where).conditions()
        if within is not None:
            conditions.append(store.within_place(Place.within(within)))
        names = ("ids", "within", "token_type", "where")
        return await self._delete(TOKENS, token_ids, conditions, names)
