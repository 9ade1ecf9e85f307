"""`client.tokens`: reads of tokens as frames, by region and distance."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import pandas as pd

from ngdata._arguments.levels import Level
from ngdata._arguments.numbers import as_flag, positive
from ngdata._arguments.points import Coordinates
from ngdata._client.token_batches import AsyncTokenBatches
from ngdata._query import regions
from ngdata._query.filters import TokenFilter
from ngdata._query.partitions import PartCount, region_split, with_json_as_text
from ngdata._query.places import Place
from ngdata._reading import data_sets, geoparquet
from ngdata._reading.dask_frames import DaskFrame, dask_frame
from ngdata._reading.reader import CacheMode, MaxRows
from ngdata.errors import InvalidQueryError
from ngdata.regions.algebra import EVERYWHERE, Region

__all__ = ["AsyncTokens"]


class AsyncTokens(AsyncTokenBatches):
    """Tokens: points (in the sample, neurons or segments of them) in up to eight 3D spaces each."""

    async def find_in_region(
        self,
        min_coords: Coordinates | Region,
        max_coords: Coordinates | None = None,
        level: Level = 0,
        *,
        columns: Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        limit: int | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return the tokens in a region, or in a closed box: ``min <= p <= max`` on all three axes.

        Parameters
        ----------
        min_coords, max_coords : array_like of shape (3,), or one Region
            Corners (x, y, z) in the units of the level; an infinite coordinate leaves that side open.
            A Series, a mapping or a one-row frame with the labels x, y and z may have any order, as
            ``frame[["x", "y", "z"]].min()`` has.  Or a value of `ngdata.regions` alone, such as
            ``Sphere(center, radius) & Hull(points)``.
        level : int or str
            0 to 7, or a name such as ``"physical"``; that of the rows, and of the parts of a region
            that are bound to none.
        columns : sequence of str, optional
            The columns of the answer, in order; all listed below by default.  On request also
            ``metadata`` (dicts or None), ``metadata.KEY`` (the text of one value, as in `find`),
            ``binary_data``, ``created_at`` and ``updated_at``.
        token_type : str or sequence of str, optional
            Keep this type, or any of these.
        where : mapping, optional
            Keep tokens whose metadata contain these keys with these values, as in `find`.
        flags : int, optional
            Keep tokens that have all of these bits.
        min_weight : float, optional
            Keep tokens of at least this weight.
        limit : int, optional
            Return only the first rows by id; by default the answer is complete and unordered.
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            ``token_id`` (str), ``level`` (int32), ``x``, ``y``, ``z`` (float64), ``token_type``
            (str), ``weight`` (float64), ``flags`` (int32), ``timestamp`` (datetime64[us, UTC]).

        Raises
        ------
        InvalidQueryError
            Inverted corners, NaN, an unknown level or column; nothing was sent.
        ResultTooLarge
            The answer has more rows than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> head = await ang.tokens.find_in_region((-15, -350, -70), (15, -300, 70))
        >>> head.columns.tolist()[:5]
        ['token_id', 'level', 'x', 'y', 'z']
        >>> from ngdata import Box, Sphere
        >>> shell = Sphere((0, -320, 0), 30.0) - Sphere((0, -320, 0), 20.0)
        >>> len(await ang.tokens.find_in_region(shell)) < len(head)
        True
        """
        tokens = TokenFilter(token_type, where, flags, min_weight)
        place = Place.of(min_coords, max_coords, level)
        query = regions.region(place, tokens, columns, limit)
        return await self._reader.frame(query, cache, max_rows)

    async def find_nearest(
        self,
        point: Coordinates,
        k: int = 10,
        level: Level = 0,
        *,
        max_distance: float | None = None,
        columns: Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return the `k` tokens nearest to a point; ties are broken by id.

        Parameters
        ----------
        point : array_like of shape (3,)
            Finite coordinates of at most 1e37 in absolute value; with labels as in `find_in_region`.
        k : int
            The number of tokens; all, if the store has fewer.
        level : int or str
        max_distance : float, optional
            Leave out tokens further away than this.
        columns, token_type, where, flags, min_weight
            As in `find_in_region`.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

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
        tokens = TokenFilter(token_type, where, flags, min_weight)
        query = regions.nearest(point, k, level, tokens, max_distance, columns)
        return await self._reader.frame(query, cache, None)

    async def find_within(
        self,
        point: Coordinates,
        radius: float,
        level: Level = 0,
        *,
        columns: Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        limit: int | None = None,
        max_rows: MaxRows = ...,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Return the tokens in a closed sphere: ``distance <= radius``.

        Parameters
        ----------
        point : array_like of shape (3,)
        radius : float
            At least 0, in the units of the level.
        level : int or str
        columns, token_type, where, flags, min_weight, limit
            As in `find_in_region`.
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            The columns of `find_in_region` and ``distance``, by distance, then id.

        Raises
        ------
        InvalidQueryError
            A point that is not three finite numbers, a negative radius.
        ResultTooLarge
            The answer has more rows than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> near = await ang.tokens.find_within((0, 0, 0), 20.0)
        >>> bool((near.distance <= 20.0).all())
        True
        """
        tokens = TokenFilter(token_type, where, flags, min_weight)
        query = regions.within_radius(point, radius, level, tokens, columns, limit)
        return await self._reader.frame(query, cache, max_rows)

    async def count_in_region(
        self,
        min_coords: Coordinates | Region,
        max_coords: Coordinates | None = None,
        level: Level = 0,
        *,
        token_type: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        cache: CacheMode | None = None,
    ) -> int:
        """Return the number of tokens in a region, or in a closed box.

        Parameters
        ----------
        min_coords, max_coords, level, token_type, where, flags, min_weight
            As in `find_in_region`.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        int

        Examples
        --------
        >>> await ang.tokens.count_in_region((0, 0, 0), (0, 0, 0))
        0
        """
        tokens = TokenFilter(token_type, where, flags, min_weight)
        place = Place.of(min_coords, max_coords, level)
        answer, _ = await self._reader.answer(regions.count(place, tokens), cache)
        return int(answer.table[0][0].as_py())

    async def density(
        self,
        min_coords: Coordinates | Region,
        max_coords: Coordinates | None = None,
        bins: int | Sequence[int] = (16, 16, 16),
        level: Level = 0,
        *,
        token_type: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        cache: CacheMode | None = None,
    ) -> pd.DataFrame:
        """Count the tokens in each cell of a grid over a region, as `numpy.histogramdd` does.

        Parameters
        ----------
        min_coords, max_coords : array_like of shape (3,), or one Region
            Finite; the grid of a region is that over its bounds.
        bins : int or three ints
            The number of cells on each axis.
        level, token_type, where, flags, min_weight
            As in `find_in_region`.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            ``x``, ``y``, ``z`` (float64, the centre of a cell) and ``count`` (int64), for the
            cells that hold a token.

        Examples
        --------
        >>> cells = await ang.tokens.density((-40, -400, -80), (40, 500, 80), bins=(1, 1, 1))
        >>> cells.x.tolist(), cells.y.tolist(), cells.z.tolist()
        ([0.0], [50.0], [0.0])
        """
        tokens = TokenFilter(token_type, where, flags, min_weight)
        place = Place.of(min_coords, max_coords, level)
        query, edges = regions.density(place, bins, tokens)
        cells = await self._reader.frame(query, cache, None)
        for axis, edge in zip("xyz", edges, strict=True):
            centres = edge[:-1] + (edge[1:] - edge[:-1]) / 2
            cells[axis] = centres[cells[axis].to_numpy()]
        return cells

    def iter_region(
        self,
        min_coords: Coordinates | Region,
        max_coords: Coordinates | None = None,
        level: Level = 0,
        *,
        chunk_rows: int = 100_000,
        columns: Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
    ) -> AsyncGenerator[pd.DataFrame, None]:
        """Iterate over a region of any size, in frames that are made while the server sends rows.

        Parameters
        ----------
        min_coords, max_coords, level, columns, token_type, where, flags, min_weight
            As in `find_in_region`.
        chunk_rows : int
            The number of rows in each frame but the last.

        Returns
        -------
        iterator of pandas.DataFrame
            Frames as returned by `find_in_region`, all read in one transaction; none for an empty
            region.  Leaving the iteration early cancels the query on the server.

        Examples
        --------
        >>> box = ((-40, -400, -80), (40, 500, 80))
        >>> sum([len(part) async for part in ang.tokens.iter_region(*box, chunk_rows=5000)])
        14171
        """
        tokens = TokenFilter(token_type, where, flags, min_weight)
        place = Place.of(min_coords, max_coords, level)
        rows = positive(chunk_rows, "chunk_rows")
        return self._reader.frames(regions.region(place, tokens, columns), rows)

    def iter_all(
        self,
        level: Level = 0,
        *,
        chunk_rows: int = 100_000,
        columns: Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
    ) -> AsyncGenerator[pd.DataFrame, None]:
        """Iterate over all tokens that have a point on a level, as `iter_region` does over a region.

        Parameters
        ----------
        level : int or str
        chunk_rows, columns, token_type, where, flags, min_weight
            As in `iter_region`.

        Returns
        -------
        iterator of pandas.DataFrame
            As of `iter_region`; none for an empty level.

        Examples
        --------
        >>> sum([len(part) async for part in ang.tokens.iter_all(columns=["x"], chunk_rows=5000)])
        14171
        """
        return self.iter_region(
            EVERYWHERE,
            None,
            level,
            chunk_rows=chunk_rows,
            columns=columns,
            token_type=token_type,
            where=where,
            flags=flags,
            min_weight=min_weight,
        )

    async def to_dask(
        self,
        min_coords: Coordinates | Region,
        max_coords: Coordinates | None = None,
        level: Level = 0,
        *,
        npartitions: int | None = None,
        rows_per_partition: int | None = None,
        columns: Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        consistent: bool = False,
        url: str | None = None,
    ) -> DaskFrame:
        """Return a region as a Dask frame, whose partitions Dask's workers read from the database.

        One query finds the bounds of the partitions, so that each token is in exactly one of them
        and their sizes differ by at most one row.  The rows are read when the frame is computed,
        and only the columns that the computation needs.

        Parameters
        ----------
        min_coords, max_coords, level, columns, token_type, where, flags, min_weight
            As in `find_in_region`.
        npartitions, rows_per_partition : int
            Pass one of the two: the number of partitions, or of rows in each.  There are fewer
            partitions if there are fewer rows, and at least one.
        consistent : bool
            If True, computing raises ConsistencyError if the store changes after this call.  If
            False, each partition shows the store at the time of its own read, so a token that moves
            between two reads may be in two partitions, or in none.
        url : str, optional
            The database that the workers read, such as a replica; by default this client's.  With
            ``"environment"``, each worker takes it from its own environment.

        Returns
        -------
        dask.dataframe.DataFrame
            The columns and dtypes of `find_in_region`, with ``metadata`` as JSON text; each
            partition has its own index from 0, and in ``attrs["ngdata"]["version"]`` the version of the store that it shows.

        Raises
        ------
        InvalidQueryError
            As in `find_in_region`, or not exactly one of `npartitions` and `rows_per_partition`.
        ConfigError
            Dask is not installed (``pip install 'ngdata[dask]'``), or `consistent` is set and the
            versions of the store cannot be read.

        Notes
        -----
        A URL is sent to the workers with its password, only inside the pickled tasks.

        Examples
        --------
        >>> box = ((-40, -400, -80), (40, 500, 80))
        >>> region = await ang.tokens.to_dask(*box, npartitions=4)
        >>> region.npartitions, len(region)
        (4, 14171)
        """
        tokens = TokenFilter(token_type, where, flags, min_weight)
        place = Place.of(min_coords, max_coords, level)
        split = region_split(place, tokens, columns, PartCount(npartitions, rows_per_partition))
        return await dask_frame(self._reader, self._database, split, "tokens", consistent, url)

    async def to_geoparquet(
        self,
        path: str | os.PathLike[str],
        min_coords: Coordinates | Region | None = None,
        max_coords: Coordinates | None = None,
        level: Level = 0,
        *,
        partitions: int | None = None,
        chunk_rows: int | None = None,
        overwrite: bool = False,
        columns: Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
    ) -> int:
        """Write a region to a GeoParquet file, or a directory of them, while the server sends it.

        With `partitions`, the files are a data set in Morton order: neighbors in space are neighbors
        in the files, and the bounds of x, y and z of each row group let Dask, DuckDB, Polars and
        `ngdata.files.open_dataset` read only what a region needs.

        Parameters
        ----------
        path : path
            A file; an existing one is replaced only after all rows are written.  With `partitions`,
            a directory, which must not exist or be empty, unless `overwrite` is set.
        min_coords, max_coords : array_like of 3 numbers, or one Region, optional
            As in `find_in_region`; unbounded by default.
        level, columns, token_type, where, flags, min_weight
            As in `find_in_region`.  With `partitions`, `columns` must have x, y and z.
        partitions : int, optional
            The number of files of a data set, of about equal sizes; there are fewer if there are fewer
            rows.
        chunk_rows : int, optional
            The number of rows in each row group but the last of a file: 100,000 by default, and with
            `partitions` at most 10,000.
        overwrite : bool
            Whether the directory may be one of an earlier data set, which is replaced at the end.

        Returns
        -------
        int
            The number of rows written.  The files have the columns, with ``metadata`` as JSON text,
            and ``geometry``: 3D points as WKB, without a coordinate reference system.

        Raises
        ------
        InvalidQueryError
            As in `find_in_region`, or the file cannot be written; or the directory has files.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> await ang.tokens.to_geoparquet(folder / "head.parquet", (-15, -300, 20), (15, -290, 70))
        372
        >>> await ang.tokens.to_geoparquet(folder / "worm", partitions=4, chunk_rows=1000)
        14171
        >>> sorted(file.name for file in (folder / "worm").iterdir())[-1]
        'part-00003.parquet'
        """
        tokens = TokenFilter(token_type, where, flags, min_weight)
        low, high = min_coords, max_coords
        if not isinstance(low, Region):
            low = EVERYWHERE.min_coords if low is None else low
            high = EVERYWHERE.max_coords if high is None else high
        place = Place.of(low, high, level)
        may_replace = bool(as_flag(overwrite, "overwrite"))
        if partitions is not None:
            return await data_sets.write_tokens(
                self._reader,
                place,
                tokens,
                columns,
                path,
                partitions=partitions,
                chunk_rows=chunk_rows,
                overwrite=may_replace,
            )
        if may_replace:
            raise InvalidQueryError(
                "overwrite is for the directory of a data set, with partitions=; a file is always replaced"
            )
        rows = positive(100_000 if chunk_rows is None else chunk_rows, "chunk_rows", 10_000_000)
        names = [column.name for column in regions.region(place, tokens, columns).columns]
        query = regions.region(place, tokens, geoparquet.columns_to_read(names))
        return await geoparquet.write(self._reader, with_json_as_text(query), names, rows, path)
