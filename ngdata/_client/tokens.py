"""`client.tokens`: tokens as frames, by region, nearness, id; and their creation and change."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import EllipsisType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ngdata._arguments.ids import Id, Ids, canonical_ids, unique_ids
from ngdata._arguments.levels import Level
from ngdata._arguments.numbers import positive
from ngdata._arguments.times import Time
from ngdata._client.namespace import Namespace, as_series
from ngdata._query import regions
from ngdata._query import tokens as by_id
from ngdata._query.filters import TokenFilter
from ngdata._query.partitions import PartCount, region_split
from ngdata._query.space import Box
from ngdata._reading import geoparquet
from ngdata._reading.dask_frames import DaskFrame, dask_frame
from ngdata._reading.reader import CacheMode, MaxRows
from ngdata._store import tokens as store
from ngdata._store.initial_load import indexed_afterwards
from ngdata._store.input_frames import Frame
from ngdata._store.tokens import delete_tokens, update_tokens
from ngdata.errors import InvalidQueryError, NotFoundError

__all__ = ["AsyncTokens"]


class AsyncTokens(Namespace):
    """Tokens: points that live in up to eight 3D coordinate spaces at once."""

    async def find_in_region(
        self,
        min_coords: ArrayLike,
        max_coords: ArrayLike,
        level: Level = 0,
        *,
        columns: Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        limit: int | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Find the tokens in a closed box: ``min <= p <= max`` on all three axes, in float64.

        Parameters
        ----------
        min_coords, max_coords : array_like of shape (3,)
            Corners (x, y, z) in the units of the level; infinite ones leave a side open.
        level : int or str
            0 to 7, or a name such as ``"physical"``.
        columns : sequence of str, optional
            Which columns, in which order; by default all that are listed below.
        token_type : str or sequence of str, optional
            Keep this type, or any of these.
        flags : int, optional
            Keep tokens that have all of these bits.
        min_weight : float, optional
            Keep tokens of at least this weight.
        limit : int, optional
            Give the first so many by id; without it the answer is complete, in no order.
        max_rows : int or None, optional
            How many rows the answer may have, None for any number; by default as the client was
            opened.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            ``token_id`` (str), ``level`` (int32), ``x``, ``y``, ``z`` (float64), ``token_type``
            (str), ``weight`` (float64), ``flags`` (int32), ``timestamp`` (datetime64[us, UTC]).

        Raises
        ------
        InvalidQueryError
            An inverted box, NaN, an unknown level or column; nothing was sent.
        ResultTooLarge
            More rows than `max_rows`; it tells how many.

        Examples
        --------
        >>> head = await ang.tokens.find_in_region((-15, -350, -70), (15, -300, 70))
        >>> head.columns.tolist()[:5]
        ['token_id', 'level', 'x', 'y', 'z']
        """
        where = TokenFilter(token_type, flags, min_weight)
        box = Box.of(min_coords, max_coords, level)
        query = regions.region(box, where, columns, limit)
        return await self._reader.frame(query, cache, max_rows)

    async def find_nearest(
        self,
        point: ArrayLike,
        k: int = 10,
        level: Level = 0,
        *,
        max_distance: float | None = None,
        columns: Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Find the `k` tokens nearest to a point; ties go by id.

        Parameters
        ----------
        point : array_like of shape (3,)
            Finite, at most 1e37 in size.
        k : int
            How many; all, if the store holds fewer.
        level : int or str
        max_distance : float, optional
            Leave out what is further away than this.
        columns, token_type, flags, min_weight
            As in `find_in_region`.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            The columns of `find_in_region` and ``distance`` (float64, Euclidean, in the units of
            the level), by distance, then id.

        Raises
        ------
        InvalidQueryError
            A point that is not three finite numbers, `k` below 1, a negative distance.

        Examples
        --------
        >>> near = await ang.tokens.find_nearest((0, 0, 0), k=3)
        >>> len(near), near.distance.is_monotonic_increasing
        (3, True)
        """
        where = TokenFilter(token_type, flags, min_weight)
        query = regions.nearest(point, k, level, where, max_distance, columns)
        return await self._reader.frame(query, cache, None)

    async def find_within(
        self,
        point: ArrayLike,
        radius: float,
        level: Level = 0,
        *,
        columns: Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        limit: int | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Find the tokens in a closed sphere: ``distance <= radius``.

        Parameters
        ----------
        point : array_like of shape (3,)
        radius : float
            At least 0, in the units of the level.
        level : int or str
        columns, token_type, flags, min_weight, limit
            As in `find_in_region`.
        max_rows : int or None, optional
            How many rows the answer may have, None for any number; by default as the client was
            opened.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            The columns of `find_in_region` and ``distance``, by distance, then id.

        Raises
        ------
        InvalidQueryError
            A point that is not three finite numbers, a negative radius.
        ResultTooLarge
            More rows than `max_rows`; it tells how many.

        Examples
        --------
        >>> near = await ang.tokens.find_within((0, 0, 0), 20.0)
        >>> bool((near.distance <= 20.0).all())
        True
        """
        where = TokenFilter(token_type, flags, min_weight)
        query = regions.within_radius(point, radius, level, where, columns, limit)
        return await self._reader.frame(query, cache, max_rows)

    async def get(
        self,
        ids: Ids,
        *,
        columns: Sequence[str] | None = None,
        missing: str = "raise",
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Get whole tokens by id, a row per id asked, in that order.

        Parameters
        ----------
        ids : id or sequence of ids
            Text, `uuid.UUID`, or an array, Series or Index of either.
        columns : sequence of str, optional
            Also on request: ``metadata`` (dicts or None), ``binary_data`` (64 bytes or None).
        missing : {"raise", "skip"}
            What to do about ids that name no token.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            ``token_id, token_type, weight, flags, timestamp`` and ``coords`` (float64 arrays of
            shape (8, 3), NaN where the token is undefined on the level).

        Raises
        ------
        NotFoundError
            Some ids name no token; its `missing` holds them.
        InvalidQueryError
            A value that is no id.

        Examples
        --------
        >>> near = await ang.tokens.find_nearest((0, 0, 0), k=2)
        >>> (await ang.tokens.get(near.token_id)).coords[0].shape
        (8, 3)
        """
        if missing not in ("raise", "skip"):
            raise InvalidQueryError(f"missing must be 'raise' or 'skip', not {missing!r}")
        asked = canonical_ids(ids)
        answer = await self._reader.frame(by_id.by_id(asked, columns), cache, None)
        found = answer.pop(by_id.FOUND)
        if found.all():
            return answer
        if missing == "raise":
            lost = np.flatnonzero(~found.to_numpy())
            raise NotFoundError.of("token", [asked[place] for place in lost])
        return answer[found].reset_index(drop=True)

    async def count_in_region(
        self,
        min_coords: ArrayLike,
        max_coords: ArrayLike,
        level: Level = 0,
        *,
        token_type: str | Sequence[str] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        cache: CacheMode | None = None,
    ) -> int:
        """Count the tokens in a closed box.

        Parameters
        ----------
        min_coords, max_coords, level, token_type, flags, min_weight
            As in `find_in_region`.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        int

        Examples
        --------
        >>> await ang.tokens.count_in_region((0, 0, 0), (0, 0, 0))
        0
        """
        where = TokenFilter(token_type, flags, min_weight)
        box = Box.of(min_coords, max_coords, level)
        return int((await self._reader.frame(regions.count(box, where), cache))["count"][0])

    async def density(
        self,
        min_coords: ArrayLike,
        max_coords: ArrayLike,
        bins: int | Sequence[int] = (16, 16, 16),
        level: Level = 0,
        *,
        token_type: str | Sequence[str] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Count the tokens in each cell of a grid over a box, as `numpy.histogramdd` does.

        Parameters
        ----------
        min_coords, max_coords : array_like of shape (3,)
            Finite.
        bins : int or three ints
            Cells on each axis.
        level, token_type, flags, min_weight
            As in `find_in_region`.
        cache : {"strict", "ttl", "off"}, optional
            How the answer may be one that was read before; by default as the client was opened.

        Returns
        -------
        pandas.DataFrame
            ``x``, ``y``, ``z`` (float64, the centre of a cell) and ``count`` (int64) of the cells
            that hold any token.

        Examples
        --------
        >>> cells = await ang.tokens.density((-40, -400, -80), (40, 500, 80), bins=(1, 1, 1))
        >>> cells.x.tolist(), cells.y.tolist(), cells.z.tolist()
        ([0.0], [50.0], [0.0])
        """
        where = TokenFilter(token_type, flags, min_weight)
        box = Box.of(min_coords, max_coords, level)
        query, edges = regions.density(box, bins, where)
        cells = await self._reader.frame(query, cache, None)
        for axis, edge in zip("xyz", edges, strict=True):
            centres = edge[:-1] + (edge[1:] - edge[:-1]) / 2
            cells[axis] = centres[cells[axis].to_numpy()]
        return cells

    def iter_region(
        self,
        min_coords: ArrayLike,
        max_coords: ArrayLike,
        level: Level = 0,
        *,
        chunk_rows: int = 100_000,
        columns: Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
    ) -> AsyncGenerator[pd.DataFrame, None]:
        """Iterate over a region of any size in frames, while the server sends it.

        Parameters
        ----------
        min_coords, max_coords, level, columns, token_type, flags, min_weight
            As in `find_in_region`.
        chunk_rows : int
            Rows in each frame but the last.

        Returns
        -------
        iterator of pandas.DataFrame
            Frames as `find_in_region` gives them; together one answer, of one moment.  An empty
            region gives none.  Leaving the iteration early stops the query on the server.

        Examples
        --------
        >>> box = ((-40, -400, -80), (40, 500, 80))
        >>> sum([len(part) async for part in ang.tokens.iter_region(*box, chunk_rows=5000)])
        14171
        """
        where = TokenFilter(token_type, flags, min_weight)
        box = Box.of(min_coords, max_coords, level)
        rows = positive(chunk_rows, "chunk_rows")
        return self._reader.frames(regions.region(box, where, columns), rows)

    async def to_dask(
        self,
        min_coords: ArrayLike,
        max_coords: ArrayLike,
        level: Level = 0,
        *,
        npartitions: int | None = None,
        rows_per_partition: int | None = None,
        columns: Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        consistent: bool = False,
        url: str | None = None,
    ) -> DaskFrame:
        """Give a region as a Dask frame, whose partitions Dask's workers read from the database.

        One query finds where to cut, so that no token is in two partitions or in none, and their
        sizes differ by one at most.  The rest is read when the frame is computed, and only the
        columns that the computation needs.

        Parameters
        ----------
        min_coords, max_coords, level, columns, token_type, flags, min_weight
            As in `find_in_region`.
        npartitions, rows_per_partition : int
            One of the two: how many partitions, or of how many rows each; fewer partitions if
            there are fewer rows, and at least one.
        consistent : bool
            True: computing raises ConsistencyError if the store changes after this call.  False:
            each partition is of the moment when it is read, so a token that moves meanwhile may be
            in two of them, or in none.
        url : str, optional
            Where the workers read: a replica, say.  By default where this client does;
            ``"environment"``: where the environment of each worker says.

        Returns
        -------
        dask.dataframe.DataFrame
            The columns and dtypes of `find_in_region`; each partition has an index of its own from
            0, and in ``attrs["ngdata"]["version"]`` the version that it was read by.

        Raises
        ------
        InvalidQueryError
            As in `find_in_region`, or not one of `npartitions` and `rows_per_partition`.
        ConfigError
            Dask is not installed (``pip install 'ngdata[dask]'``), or `consistent` is asked for
            where the versions of the store cannot be read.

        Notes
        -----
        A URL travels to the workers with its password, in the bytes of the tasks alone.

        Examples
        --------
        >>> box = ((-40, -400, -80), (40, 500, 80))
        >>> region = await ang.tokens.to_dask(*box, npartitions=4)
        >>> region.npartitions, len(region)
        (4, 14171)
        """
        where = TokenFilter(token_type, flags, min_weight)
        box = Box.of(min_coords, max_coords, level)
        split = region_split(box, where, columns, PartCount(npartitions, rows_per_partition))
        return await dask_frame(self._reader, self._database, split, "tokens", consistent, url)

    async def to_geoparquet(
        self,
        path: str | os.PathLike[str],
        min_coords: ArrayLike | None = None,
        max_coords: ArrayLike | None = None,
        level: Level = 0,
        *,
        chunk_rows: int = 100_000,
        columns: Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
    ) -> int:
        """Write a region to a GeoParquet file, while the server sends it.

        Parameters
        ----------
        path : path
            A file of this name is replaced when all is written, and not before.
        min_coords, max_coords : array_like of 3 numbers, optional
            As in `find_in_region`; left out, it ends nowhere on that side.
        level, columns, token_type, flags, min_weight
            As in `find_in_region`.
        chunk_rows : int
            Rows in each row group of the file but the last.

        Returns
        -------
        int
            How many rows were written, beside the columns with ``geometry``: 3D points as WKB,
            without a reference system.

        Raises
        ------
        InvalidQueryError
            As in `find_in_region`, or there can be no such file.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "head.parquet"
        >>> await ang.tokens.to_geoparquet(file, (-15, -300, 20), (15, -290, 70))
        372
        """
        where = TokenFilter(token_type, flags, min_weight)
        low = (-math.inf,) * 3 if min_coords is None else min_coords
        high = (math.inf,) * 3 if max_coords is None else max_coords
        box = Box.of(low, high, level)
        rows = positive(chunk_rows, "chunk_rows", 10_000_000)
        kept = [column.name for column in regions.region(box, where, columns).columns]
        query = regions.region(box, where, geoparquet.columns_to_read(kept))
        return await geoparquet.write(self._reader, query, kept, rows, path)

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
        token_id: Id | None = None,
    ) -> str:
        """Create one token.

        Parameters
        ----------
        coords : array_like of shape (8, 3), or mapping of level to (x, y, z)
            NaN, or a level that is not named, is undefined.
        token_type : str
        weight : float
        flags : int
            0 to 2**31 - 1.
        timestamp : datetime or int, optional
            With a time zone, or milliseconds since the epoch; now, if not given.
        metadata : mapping, optional
        binary_data : bytes, optional
            The token's 64-byte record; carried, not read.
        token_id : id, optional
            A new one is made if none is given.

        Returns
        -------
        str
            The id.

        Raises
        ------
        InvalidQueryError
            A value that cannot be; nothing was sent.
        IntegrityError
            The id is there already.

        Examples
        --------
        >>> made = await ang.tokens.create({0: (1e6, 0, 0), "temporal": (1, 2, 3)})
        >>> await ang.tokens.delete(made)
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
        return (await self._write(store.RELATION, lambda: store.one_row(coords, values)))[0]

    async def bulk_create(
        self,
        frame: Frame,
        *,
        level: Level = 0,
        coords: ArrayLike | None = None,
        initial: bool = False,
        progress: bool | None = None,
    ) -> pd.Series[str]:
        """Create a token per row: all of them, or none.

        Parameters
        ----------
        frame : pandas.DataFrame, Arrow or Polars table, or mapping of columns
            ``x, y, z``, unless `coords` is given; optional ``token_id, token_type, weight, flags,
            timestamp, metadata, binary_data``.  NaN, NaT or None there means not given.
        level : int or str
            The level of ``x, y, z``.
        coords : array_like of shape (n, 8, 3), optional
            All levels at once, NaN where undefined.
        initial : bool
            The store is empty: build its spatial indexes after the load, which is quicker.  Only
            the owner of the tables may; others' writes of tokens, and reads of regions, wait.
        progress : bool, optional
            Show a bar: always, never, or by default if it takes longer than two seconds.

        Returns
        -------
        pandas.Series
            The ids (str), in order, on the frame's index.

        Raises
        ------
        InvalidQueryError
            A bad value or column, with its row; nothing was sent.  Or the load was to be the
            initial one, and there are tokens.
        IntegrityError
            An id that stands twice or is there already; nothing was written.
        ConfigError
            An initial load by another user than the owner.

        Examples
        --------
        >>> made = await ang.tokens.bulk_create({"x": [1e6, 1e6], "y": [0, 1], "z": [0, 0]})
        >>> await ang.tokens.delete(made)
        2
        """
        ids = await self._write(
            store.RELATION,
            lambda: store.rows(frame, level, coords),
            progress,
            store.rows_at_once,
            *([indexed_afterwards] if initial else []),
        )
        return as_series(ids, "token_id", frame)

    async def update(
        self,
        ids: Ids,
        *,
        coords: ArrayLike | Mapping[Level, ArrayLike | None] | None = None,
        token_type: str | EllipsisType | None = ...,
        weight: float | EllipsisType | None = ...,
        flags: int | EllipsisType | None = ...,
        timestamp: Time | EllipsisType | None = ...,
        metadata: Mapping[str, Any] | EllipsisType | None = ...,
        binary_data: bytes | EllipsisType | None = ...,
    ) -> int:
        """Change tokens; what is not named stays.

        Parameters
        ----------
        ids : id or sequence of ids
        coords : mapping of level to (x, y, z), or array_like of shape (8, 3), optional
            A mapping changes the levels that it names (None makes one undefined), an array all.
        token_type, weight, flags, timestamp, metadata, binary_data : optional
            As in `create`; None sets back to what a new token has, ``...`` leaves as it is.

        Returns
        -------
        int
            How many tokens were changed.

        Raises
        ------
        NotFoundError
            Some ids name no token; nothing was changed.
        InvalidQueryError
            A value that cannot be, or nothing to change.

        Examples
        --------
        >>> near = await ang.tokens.find_nearest((0, 0, 0), k=2)
        >>> await ang.tokens.update(near.token_id, weight=1.0)
        2
        """
        wanted = unique_ids(ids)
        attributes = {
            "token_type": token_type,
            "weight": weight,
            "flags": flags,
            "timestamp": timestamp,
            "metadata": metadata,
            "binary_data": binary_data,
        }
        given = {name: value for name, value in attributes.items() if value is not ...}
        changed = store.changes(coords, given)
        async with self._transaction() as connection:
            return await update_tokens(connection, wanted, changed)

    async def delete(self, ids: Ids) -> int:
        """Delete tokens and their connections; their events stay, without a token.

        Parameters
        ----------
        ids : id or sequence of ids

        Returns
        -------
        int
            How many there were; ids that name no token count nothing.

        Examples
        --------
        >>> await ang.tokens.delete("00000000-0000-4000-8000-000000000000")
        0
        """
        wanted = unique_ids(ids)
        async with self._transaction() as connection:
            return await delete_tokens(connection, wanted)
