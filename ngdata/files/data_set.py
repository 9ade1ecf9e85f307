"""Data sets of `Tokens.to_geoparquet` and `Experience.to_parquet`, read without a server.

The bounds of each row group say which may hold rows of an answer; only these are read, and the exact
formula decides about their rows.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ngdata._arguments.cards import Card
from ngdata._arguments.levels import LEVELS, Level, level_index
from ngdata._arguments.points import Coordinates
from ngdata._arguments.shown import own_error, shown
from ngdata._arguments.texts import as_path
from ngdata._arguments.times import Time
from ngdata._connections.driver_errors import shortage
from ngdata._query.events import EventFilter
from ngdata._query.filters import TokenFilter
from ngdata._query.model import Column, Kind, choose
from ngdata._query.places import Place
from ngdata._reading.atomic_directory import PART, part_name
from ngdata._reading.data_sets import METADATA
from ngdata._reading.frames import to_frame
from ngdata._reading.reader import described
from ngdata.errors import InvalidQueryError
from ngdata.regions.algebra import Region

__all__ = ["DataSet", "open_dataset"]

DataSetKind: TypeAlias = Literal["tokens", "events"]

_AXES: Final = ("x", "y", "z")
_NOTES: Final = frozenset(
    {"data_set", "kind", "level", "unit", "pin", "columns", "number", "is_last"}
)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class _File:
    """A file of a data set, with the bounds of each of its row groups.

    Attributes
    ----------
    low, high : array of shape (row groups, axes)
        Of tokens the corners of the box around the points, of events the first and the last time
        in microseconds since the epoch.
    rows : array of shape (row groups,)
    """

    path: Path
    notes: dict[str, Any]
    low: np.ndarray
    high: np.ndarray
    rows: np.ndarray


class DataSet:
    """A directory of files of tokens or events, from `open_dataset`.

    Attributes
    ----------
    path : str
    kind : {"tokens", "events"}
    rows : int
    row_groups : int
        How many parts there are that can be read, or left out, one by one.
    level : int or None
        The level of the tokens' points.
    unit : str or None
        The unit of the level.
    columns : list of str

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from ngdata.files import open_dataset
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "worm"
    >>> ng.tokens.to_geoparquet(folder, partitions=2, chunk_rows=500)
    14171
    >>> open_dataset(folder)
    <DataSet of 14,171 tokens on level 0 (physical) in 2 files, 30 row groups>
    """

    __module__ = "ngdata.files"

    def __init__(self, path: str, files: Sequence[_File]) -> None:
        notes = files[0].notes
        self.path = path
        self.kind: DataSetKind = notes["kind"]
        self.level: int | None = notes["level"]
        self.unit: str | None = next((f.notes["unit"] for f in files if f.notes["unit"]), None)
        self._pin = notes["pin"]
        self._id = notes["data_set"]
        self._files = files
        self._columns = {Column(n, Kind[kind]): n for n, kind in notes["columns"].items()}
        self.columns = list(notes["columns"])
        self.rows = int(sum(f.rows.sum() for f in files))
        self.row_groups = sum(len(f.rows) for f in files)

    def __repr__(self) -> str:
        return f"<{self._summary()}>"

    def _summary(self) -> str:
        level = "" if self.level is None else f" on level {self.level} ({LEVELS[self.level]})"
        return (
            f"DataSet of {self.rows:,} {self.kind}{level} in {len(self._files)} files, "
            f"{self.row_groups:,} row groups"
        )

    def _card(self) -> Card:
        return Card(self._summary(), rows=[("path", self.path), ("unit", str(self.unit))])

    def __len__(self) -> int:
        return self.rows

    def find_in_region(
        self,
        min_coords: Coordinates | Region,
        max_coords: Coordinates | None = None,
        level: Level | None = None,
        *,
        columns: Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
    ) -> pd.DataFrame:
        """Return the tokens in a region, exactly those that `Tokens.find_in_region` returned at the time.

        Parameters
        ----------
        min_coords, max_coords, token_type, flags, min_weight
            As in `Tokens.find_in_region`.  The filters need their columns in the files.
        level : int or str, optional
            The data set's level, which is the default; others are not in it.
        columns : sequence of str, optional
            Columns of the data set; all by default.

        Returns
        -------
        pandas.DataFrame
            In the order of the files; with the dtypes of `Tokens.find_in_region`.
            ``attrs["ngdata"]`` has the level and its unit, and how many ``row_groups`` were read.

        Raises
        ------
        InvalidQueryError
            An invalid value, a level or a column that the data set does not have, a data set of
            events, or a file that is damaged or has been replaced.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> from ngdata import Sphere
        >>> from ngdata.files import open_dataset
        >>> folder = pathlib.Path(tempfile.mkdtemp()) / "worm"
        >>> ng.tokens.to_geoparquet(folder, partitions=2, chunk_rows=500)
        14171
        >>> near = open_dataset(folder).find_in_region(Sphere((0, -250, 40), 20))
        >>> len(near), near.attrs["ngdata"]["row_groups"]
        (1019, 15)
        """
        started = time.perf_counter()
        place = self._place(min_coords, max_coords, level)
        tokens = TokenFilter(token_type, None, flags, min_weight)
        chosen = list(choose(self._columns, columns))
        tables, groups = [], 0
        for file, numbers, within in self._near(place):
            groups += len(numbers)
            tables += self._rows(file, numbers, within, place, tokens, chosen)
        return self._frame(tables, chosen, groups, started)

    def count_in_region(
        self,
        min_coords: Coordinates | Region,
        max_coords: Coordinates | None = None,
        level: Level | None = None,
        *,
        token_type: str | Sequence[str] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
    ) -> int:
        """Return how many tokens are in a region.

        Parameters
        ----------
        min_coords, max_coords, level, token_type, flags, min_weight
            As in `find_in_region`.

        Returns
        -------
        int

        Raises
        ------
        InvalidQueryError
            As in `find_in_region`.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> from ngdata.files import open_dataset
        >>> folder = pathlib.Path(tempfile.mkdtemp()) / "worm"
        >>> ng.tokens.to_geoparquet(folder, partitions=2)
        14171
        >>> open_dataset(folder).count_in_region((-15, -300, 20), (15, -290, 70))
        372
        """
        place = self._place(min_coords, max_coords, level)
        tokens = TokenFilter(token_type, None, flags, min_weight)
        count = 0
        for file, numbers, within in self._near(place):
            if tokens == TokenFilter():
                # Row groups that are wholly inside need not be read.
                count += int(file.rows[numbers[within]].sum())
                numbers, within = numbers[~within], within[~within]
            count += sum(map(len, self._rows(file, numbers, within, place, tokens, [])))
        return count

    def iter_region(
        self,
        min_coords: Coordinates | Region,
        max_coords: Coordinates | None = None,
        level: Level | None = None,
        *,
        columns: Sequence[str] | None = None,
        token_type: str | Sequence[str] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
    ) -> Iterator[pd.DataFrame]:
        """Return the tokens in a region in frames, one for each row group that has any.

        Parameters
        ----------
        min_coords, max_coords, level, columns, token_type, flags, min_weight
            As in `find_in_region`.

        Returns
        -------
        iterator of pandas.DataFrame
            Only one row group is in memory.

        Raises
        ------
        InvalidQueryError
            As in `find_in_region`.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> from ngdata.files import open_dataset
        >>> folder = pathlib.Path(tempfile.mkdtemp()) / "worm"
        >>> ng.tokens.to_geoparquet(folder, partitions=2, chunk_rows=500)
        14171
        >>> box = (-15, -300, 20), (15, -290, 70)
        >>> sum(map(len, open_dataset(folder).iter_region(*box)))
        372
        """
        place = self._place(min_coords, max_coords, level)
        tokens = TokenFilter(token_type, None, flags, min_weight)
        chosen = list(choose(self._columns, columns))
        return self._frames(place, tokens, chosen)

    def _frames(
        self, place: Place, tokens: TokenFilter, chosen: list[Column]
    ) -> Iterator[pd.DataFrame]:
        for file, numbers, within in self._near(place):
            for number in range(len(numbers)):
                started, one = time.perf_counter(), slice(number, number + 1)
                tables = self._rows(file, numbers[one], within[one], place, tokens, chosen)
                if any(map(len, tables)):
                    yield self._frame(tables, chosen, 1, started)

    def get_events(
        self,
        start: Time | None = None,
        end: Time | None = None,
        *,
        columns: Sequence[str] | None = None,
        event_type: str | Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Return the events of a time window: ``start <= t < end``.

        Parameters
        ----------
        start, end, event_type
            As in `Experience.get_events`.
        columns : sequence of str, optional
            Columns of the data set; all by default.

        Returns
        -------
        pandas.DataFrame
            In the order, and with the dtypes, of `Experience.get_events`.

        Raises
        ------
        InvalidQueryError
            An invalid value, a column that the data set does not have, a data set of tokens, or a file
            that is damaged or has been replaced.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> from ngdata.files import open_dataset
        >>> folder = pathlib.Path(tempfile.mkdtemp()) / "events"
        >>> noon = 1_700_000_200_000
        >>> times = [noon + 1000 * step for step in range(6)]
        >>> ids = ng.experience.bulk_create({"event_type": "step", "timestamp": times})
        >>> ng.experience.to_parquet(folder, noon, noon + 6000, partitions=3)
        6
        >>> len(open_dataset(folder).get_events(noon + 2000, noon + 4000))
        2
        """
        started = time.perf_counter()
        self._check_kind("events", "find_in_region")
        where = EventFilter(start, end, event_type)
        chosen = list(choose(self._columns, columns))
        # Plain since the filter was made.
        first: Any = where.start
        last: Any = where.end
        low = None if first is None else (first - _EPOCH) // dt.timedelta(microseconds=1)
        high = None if last is None else (last - _EPOCH) // dt.timedelta(microseconds=1)
        tables, groups = [], 0
        for file in self._files:
            is_near = np.ones(len(file.rows), bool)
            if low is not None:
                is_near &= file.high[:, 0] >= low
            if high is not None:
                is_near &= file.low[:, 0] < high
            numbers = np.flatnonzero(is_near)
            groups += len(numbers)
            needed = {"timestamp"} | ({"event_type"} if where.event_type is not None else set())
            table = self._read(file, numbers, chosen, needed)
            times = table["timestamp"].cast(pa.int64())
            mask = np.ones(len(table), bool)
            if low is not None:
                mask &= times.to_numpy() >= low
            if high is not None:
                mask &= times.to_numpy() < high
            if where.event_type is not None:
                mask &= _is_any(table["event_type"], where.event_type)
            tables.append(table.filter(pa.array(mask)))
        return self._frame(tables, chosen, groups, started)

    # --- which row groups, and which of their rows -------------------------------------------------

    def _check_kind(self, kind: DataSetKind, other: str) -> None:
        if self.kind != kind:
            raise InvalidQueryError(f"this data set holds {self.kind}, not {kind}; use {other}")

    def _place(self, region: Any, max_coords: Any, level: Level | None) -> Place:
        self._check_kind("tokens", "get_events")
        assert self.level is not None
        own = LEVELS[self.level]
        if level is not None and level_index(level) != self.level:
            raise InvalidQueryError(
                f"level must be {own}, the level of this data set, not {LEVELS[level_index(level)]}; write "
                "another data set with that level"
            )
        place = Place.of(region, max_coords, self.level)
        others = sorted(LEVELS[number] for number in place.region._levels if number is not None)
        if others:
            raise InvalidQueryError(
                f"a part of the region is on the level {others[0]}, and this data set has only {own}; "
                "read the region from the store"
            )
        return place

    def _near(self, place: Place) -> Iterator[tuple[_File, np.ndarray, np.ndarray]]:
        """Yield each file with the numbers of the row groups that may have tokens of a place.

        The last of the three says which of them are wholly inside.
        """
        boxes = place.region._corners(place.level)
        for file in self._files:
            is_near = np.zeros(len(file.rows), bool)
            for low, high in boxes:
                # Rounded outwards, as the server's index does: a box of a region is near its boundary.
                least, most = _outwards(low, -np.inf), _outwards(high, np.inf)
                is_near |= (file.high >= least).all(axis=1) & (file.low <= most).all(axis=1)
            numbers = np.flatnonzero(is_near)
            cells = (file.low[numbers], file.high[numbers])
            with np.errstate(all="ignore"):
                is_inside, is_outside = place.region._classify(cells, place.level)
            if (~is_outside).any():
                yield file, numbers[~is_outside], is_inside[~is_outside]

    def _rows(
        self,
        file: _File,
        numbers: np.ndarray,
        within: np.ndarray,
        place: Place,
        tokens: TokenFilter,
        chosen: Sequence[Column],
    ) -> list[pa.Table]:
        """Return the rows of some row groups that are in a place and pass a filter."""
        filtered = {
            "token_type": tokens.token_type,
            "flags": tokens.flags,
            "weight": tokens.min_weight,
        }
        needed = {name for name, value in filtered.items() if value is not None}
        if not len(numbers):
            return []
        table = self._read(file, numbers, chosen, needed | set(_AXES))
        mask = np.repeat(within, file.rows[numbers])
        unknown = ~mask
        points = np.column_stack([table[axis].to_numpy()[unknown] for axis in _AXES])
        mask[unknown] = place.region.contains(points)
        # Plain since the filter was made.
        types: Any = tokens.token_type
        if types is not None:
            mask &= _is_any(table["token_type"], types)
        if tokens.flags is not None:
            mask &= (table["flags"].to_numpy() & tokens.flags) == tokens.flags
        if tokens.min_weight is not None:
            mask &= table["weight"].to_numpy() >= tokens.min_weight
        return [table.filter(pa.array(mask))]

    def _read(
        self, file: _File, groups: np.ndarray, chosen: Sequence[Column], needed: set[str]
    ) -> pa.Table:
        missing = needed - set(self.columns)
        if missing:
            raise InvalidQueryError(
                f"the filter needs the column {', '.join(sorted(missing))}, which this data set does not "
                f"have; it has {', '.join(self.columns)}"
            )
        names = list(dict.fromkeys([*(column.name for column in chosen), *sorted(needed)]))
        with _reading(file.path) as (reader, notes):
            if notes.get("data_set") != self._id or reader.num_row_groups != len(file.rows):
                raise InvalidQueryError(
                    f"{str(file.path)!r} was replaced since the data set was opened; open it again"
                )
            return reader.read_row_groups(groups.tolist(), columns=names)

    def _frame(
        self, tables: list[pa.Table], chosen: list[Column], groups: int, started: float
    ) -> pd.DataFrame:
        names = [column.name for column in chosen]
        kept = [table.select(names) for table in tables]
        if not kept:
            with _reading(self._files[0].path) as (reader, _):
                kept = [reader.schema_arrow.empty_table().select(names)]
        frame = to_frame(pa.concat_tables(kept), chosen)
        place: dict[str, Any] = {"row_groups": groups}
        if self.level is not None:
            place |= {"level": self.level, "unit": self.unit}
        if self._pin is not None:
            place["pin"] = self._pin
        return described(frame, "files", None, started, place)


def _is_any(values: pa.ChunkedArray, texts: Sequence[str]) -> np.ndarray:
    mask: np.ndarray = pc.is_in(values, value_set=pa.array(texts, pa.string())).to_numpy()
    return mask


def _outwards(point: Sequence[float], end: float) -> np.ndarray:
    """Return a corner rounded to float32 and on, towards an end, as float64."""
    with np.errstate(over="ignore"):
        rounded = np.asarray(point, np.float64).astype(np.float32)
    return np.nextafter(rounded, np.float32(end)).astype(np.float64)


def open_dataset(path: str | os.PathLike[str]) -> DataSet:
    """Open a directory that `Tokens.to_geoparquet` or `Experience.to_parquet` wrote.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    DataSet
        Only the ends of the files, which hold the bounds of their row groups, were read.

    Raises
    ------
    InvalidQueryError
        The directory does not exist, has files that are not of one data set, lacks one of them, or
        has a damaged one.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from ngdata.files import open_dataset
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "worm"
    >>> ng.tokens.to_geoparquet(folder, partitions=2)
    14171
    >>> open_dataset(folder).columns[:5]
    ['token_id', 'level', 'x', 'y', 'z']
    """
    name = as_path(path, "path")
    try:
        entries = sorted(entry for entry in os.listdir(name) if PART.fullmatch(entry))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or shown(error)
        raise InvalidQueryError(
            f"path must name the directory of a data set, but {shown(name)} cannot be read: {reason}"
        ) from None
    if not entries:
        raise InvalidQueryError(
            f"path must name the directory of a data set, but {shown(name)} has no file named "
            f"{part_name(0)}; write one with ng.tokens.to_geoparquet(path, partitions=...)"
        )
    files = [_open(Path(name) / entry) for entry in entries]
    ids = {file.notes["data_set"] for file in files}
    if len(ids) > 1:
        raise InvalidQueryError(
            f"the files in {shown(name)} are of {len(ids)} data sets; keep each in a directory of its own"
        )
    numbers = [file.notes["number"] for file in files]
    if numbers != list(range(len(files))) or not files[-1].notes["is_last"]:
        lacking = next((n for n in range(len(files)) if n not in numbers), len(files))
        raise InvalidQueryError(
            f"the data set in {shown(name)} is not complete: it lacks {part_name(lacking)}; copy all of its "
            "files, or write it again"
        )
    return DataSet(name, files)


@contextmanager
def _reading(path: Path) -> Iterator[tuple[pq.ParquetFile, dict[str, Any]]]:
    """Open a file of a data set, and yield it with what its metadata say."""
    try:
        with pq.ParquetFile(path) as reader:
            notes = json.loads((reader.metadata.metadata or {}).get(METADATA, b"{}"))
            yield reader, notes if isinstance(notes, dict) else {}
    except (OSError, pa.ArrowException, ValueError) as error:
        if isinstance(error, OSError) and (lack := shortage(error, f"{str(path)!r} was not read")):
            raise lack from None
        raise own_error(error) or InvalidQueryError(
            f"{str(path)!r} cannot be read: {getattr(error, 'strerror', None) or shown(error)}; copy it "
            "again, or write the data set again"
        ) from None


def _open(path: Path) -> _File:
    with _reading(path) as (reader, notes):
        if not notes.keys() >= _NOTES:
            raise InvalidQueryError(
                f"{str(path)!r} is not of a data set that ngdata wrote; read it with pandas.read_parquet"
            )
        groups = [reader.metadata.row_group(n) for n in range(reader.num_row_groups)]
        names = _AXES if notes["kind"] == "tokens" else ("timestamp",)
        places = [reader.schema_arrow.names.index(name) for name in names]
        bounds = np.array(
            [[_bounds(group.column(place)) for place in places] for group in groups]
        ).reshape(len(groups), len(names), 2)
        rows = np.array([group.num_rows for group in groups], np.int64)
        return _File(path, notes, bounds[..., 0], bounds[..., 1], rows)


def _bounds(column: pq.ColumnChunkMetaData) -> tuple[Any, Any]:
    """Return the least and the greatest value; of times, microseconds since the epoch."""
    statistics = column.statistics
    if statistics is None or not statistics.has_min_max:
        raise ValueError("it lacks the bounds of a row group")
    return statistics.min_raw, statistics.max_raw
