"""Data sets: directories of Parquet files in an order, whose statistics let readers skip most of them.

Tokens are in Morton order, events in the order of time.  The files are those that `geoparquet` writes.
Each says in its metadata, under the key ``ngdata``, which data set it is of, its number and whether it
is the last, so that a reader notices if one is missing.
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from ngdata._arguments.numbers import positive
from ngdata._query import events, morton, regions
from ngdata._query.events import EventFilter
from ngdata._query.filters import TokenFilter
from ngdata._query.model import Query
from ngdata._query.partitions import with_json_as_text
from ngdata._query.places import Place
from ngdata._reading.atomic_directory import AtomicDirectory, part_name, target_directory
from ngdata._reading.atomic_file import AtomicFile
from ngdata._reading.geoparquet import RegionFile, RowsFile, columns_to_read, write_frames
from ngdata._reading.reader import Reader
from ngdata.errors import InvalidQueryError

__all__ = ["METADATA", "write_events", "write_tokens"]

METADATA: Final = b"ngdata"
"""The key of the metadata of each file."""

_MAX_PARTITIONS: Final = 10_000
_ROWS_PER_GROUP: Final = 10_000
_MAX_ROWS_PER_GROUP: Final = 10_000_000


@dataclass(frozen=True)
class _Cut:
    """How many rows a row group has, how many row groups a file, and how many files there are at most.

    The last file has what is left, which is more if the store grew since the rows were counted.
    """

    rows: int
    groups: int
    files: int

    @classmethod
    def of(cls, rows: int, partitions: Any, chunk_rows: Any) -> _Cut:
        """Cut this number of rows into files."""
        files = positive(partitions, "partitions", _MAX_PARTITIONS)
        most = _ROWS_PER_GROUP
        if chunk_rows is not None:
            most = positive(chunk_rows, "chunk_rows", _MAX_ROWS_PER_GROUP)
        rows_per_file = max(1, math.ceil(rows / files))
        groups = math.ceil(rows_per_file / most)
        return cls(math.ceil(rows_per_file / groups), groups, files)


async def write_tokens(
    reader: Reader,
    place: Place,
    tokens: TokenFilter,
    columns: Sequence[str] | None,
    path: str | os.PathLike[str],
    *,
    partitions: int,
    chunk_rows: int | None,
    overwrite: bool,
) -> int:
    """Write a region as a data set in Morton order; return the number of rows.

    One statement reads where the tokens are and their number, another all rows: these are of one
    moment, and what was written between the two is in the files too.
    """
    whole = regions.region(place, tokens, columns)
    names = [column.name for column in whole.columns]
    missing = set(columns_to_read([])) - set(names)
    if missing:
        raise InvalidQueryError(
            f"columns must have x, y and z if partitions is given, by which readers find a region; it "
            f"lacks {', '.join(sorted(missing))}"
        )
    cut = _Cut.of(0, partitions, chunk_rows)
    target = target_directory(path, overwrite=overwrite)
    [row] = (await reader.frame(morton.extent(place, tokens), "off")).to_numpy().tolist()
    query = regions.region(place, tokens, names, order=morton.order(morton.Box.around(row[1:])))
    cut = _Cut.of(int(row[0]), partitions, chunk_rows)
    files = _DataSet(
        AtomicDirectory(target, overwrite=overwrite), RegionFile, reader, query, "tokens", cut
    )
    await write_frames(reader, with_json_as_text(query), cut.rows, files, str(path))
    return files.rows


async def write_events(
    reader: Reader,
    where: EventFilter,
    columns: Sequence[str] | None,
    path: str | os.PathLike[str],
    *,
    partitions: int,
    chunk_rows: int | None,
    overwrite: bool,
) -> int:
    """Write the events of a time window as a data set in the order of time; return their number."""
    query = events.window(where, None, columns)
    if "timestamp" not in [column.name for column in query.columns]:
        raise InvalidQueryError("columns must have timestamp, by which readers find a time window")
    cut = _Cut.of(0, partitions, chunk_rows)
    target = target_directory(path, overwrite=overwrite)
    count = await reader.frame(events.count(where), "off")
    cut = _Cut.of(int(count["count"][0]), partitions, chunk_rows)
    files = _DataSet(
        AtomicDirectory(target, overwrite=overwrite), RowsFile, reader, query, "events", cut
    )
    await write_frames(reader, with_json_as_text(query), cut.rows, files, str(path))
    return files.rows


class _DataSet:
    """A directory of files that is written frame by frame, each a row group.

    Attributes
    ----------
    rows : int
        How many rows were written.
    """

    def __init__(
        self,
        directory: AtomicDirectory,
        make_file: Callable[..., RowsFile],
        reader: Reader,
        query: Query,
        kind: str,
        cut: _Cut,
    ) -> None:
        self._directory = directory
        self._make_file = make_file
        own = query.within(reader.ids)
        self._columns = with_json_as_text(own).columns
        self._cut = cut
        self._notes: dict[str, Any] = {
            "data_set": str(uuid.uuid4()),
            "kind": kind,
            "level": query.level,
            "unit": None,
            "pin": None if reader.pin is None else reader.pin.to_attrs(),
            "columns": {column.name: column.kind.name for column in own.columns},
        }
        self._file: RowsFile | None = None
        self._number = 0
        self._groups = 0
        self.rows = 0

    def open(self) -> None:
        """Make the directory, and its first file."""
        self._directory.make()
        self._open_file()

    def _open_file(self) -> None:
        path = self._directory.temporary / part_name(self._number)
        self._file = self._make_file(AtomicFile(path), self._columns)
        self._file.open()
        self._groups = 0

    def add(self, frame: pd.DataFrame) -> None:
        """Write a frame to the file, or to the next one if it is full."""
        if self._groups == self._cut.groups and self._number + 1 < self._cut.files:
            self._close_file(is_last=False)
            self._number += 1
            self._open_file()
        assert self._file is not None
        self._file.add(frame)
        self._notes["unit"] = frame.attrs.get("ngdata", {}).get("unit")
        self._groups += 1
        self.rows += len(frame)

    def _close_file(self, *, is_last: bool) -> None:
        assert self._file is not None
        notes = {**self._notes, "number": self._number, "is_last": is_last}
        self._file.notes[METADATA.decode()] = json.dumps(notes)
        self._file.finish()

    def finish(self) -> None:
        """Let the directory appear under its name."""
        self._close_file(is_last=True)
        self._directory.finish()

    def discard(self) -> None:
        """Remove the directory unless it is finished."""
        if self._file is not None:
            self._file.discard()
        self._directory.discard()
