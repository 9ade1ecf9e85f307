"""Files of rows, CSV and Parquet, part by part, in the columns of a table.

A part holds some thousand rows, whatever the size of the file.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import os
import stat
import threading
import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from ngdata._arguments.shown import own_error, shown
from ngdata._arguments.suggestions import did_you_mean
from ngdata._arguments.texts import columns_text, is_text_type
from ngdata._connections.driver_errors import shortage
from ngdata._store.value_types import JsonObject, ValueType
from ngdata.errors import InvalidQueryError
from ngdata.files.frames import UNNAMED_INDEX
from ngdata.files.text_columns import TextTypes, json_column, typed_column

__all__ = ["Part", "RowFile", "check_required", "open_rows", "table_columns"]

# Large enough for the order within the index to pay off, small enough to show progress.
_PART_ROWS: Final = 25_000

# What is read at once.  A row must fit into it.
_BLOCK_BYTES: Final = 2 * 2**20

_FIELD_LIMIT: Final = threading.Lock()

_DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}

# What reading a file raises that is damaged, or that the system does not let read.
_READ_ERRORS: Final = (OSError, EOFError, zlib.error)


class Part(NamedTuple):
    """Some rows of a file.

    Attributes
    ----------
    columns : dict
        The columns by the names that the table has for them, as the file holds them.
    rows : int
        How many rows they have.
    first : int
        The number of the first row in the file, from 0.
    progress : int
        How much of the file was read since the part before, in the unit of the file.
    """

    columns: dict[str, Any]
    rows: int
    first: int
    progress: int


@dataclass
class RowFile(ABC):
    """A file of rows.

    Attributes
    ----------
    path : str
    names : list of str
        The file's columns, by the file's names.
    total : int
        How much there is to read, in `unit`.
    unit : str
    noun : str
        What errors call a row.
    """

    path: str
    names: list[str]
    total: int
    unit: str
    noun: str

    @abstractmethod
    def parts(self, columns: Mapping[str, str], types: Mapping[str, ValueType]) -> Iterator[Part]:
        """Yield the rows in order.

        Parameters
        ----------
        columns : mapping of str to str
            The name in the table of each column of the file.
        types : mapping of str to ValueType
            The type of each column of the table; others are extra columns.
        """

    @abstractmethod
    def typed(self, part: Part, types: Mapping[str, ValueType]) -> dict[str, Any]:
        """Return the columns of a part, from `parts`, as a frame has them.

        Raises
        ------
        InvalidQueryError
            A value that cannot be read, with its row.
        """

    def number(self, row: int) -> int:
        """Return the number by which errors name a row."""
        return row


def open_rows(path: str) -> RowFile:
    """Return a file of rows, by the end of its name.

    Raises
    ------
    InvalidQueryError
        The file cannot be read, or two of its columns have one name.
    """
    name = path.lower()
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InvalidQueryError(f"{path[:200]} cannot be read: it is not a regular file")
    except (OSError, ValueError) as error:
        raise own_error(error) or _unreadable(path, error) from None
    if name.endswith(".parquet"):
        file: RowFile = ParquetFile.open(path)
    elif os.path.splitext(name.removesuffix(".gz"))[1] in _DELIMITERS:
        file = CsvFile.open(path)
    else:
        raise InvalidQueryError(
            f"{path[:200]} must end with .csv, .tsv, .csv.gz, .tsv.gz or .parquet, which says what it is"
        )
    repeated = {name for name in file.names if file.names.count(name) > 1}
    if repeated:
        raise InvalidQueryError(
            f"{path[:200]} has two columns named {shown(min(repeated))}; rename or remove one of them"
        )
    return file


class CsvFile(RowFile):
    """A file of text, one row a line, the columns separated by commas or tabs."""

    @classmethod
    def open(cls, path: str) -> CsvFile:
        """Return the file, whose first line names the columns."""
        file = cls(path, [], os.path.getsize(path), "B", "line")
        _, names = next(file._lines(), (0, []))
        if not names:
            raise InvalidQueryError(f"{path[:200]} is empty; its first line must name the columns")
        file.names = names
        return file

    @property
    def delimiter(self) -> str:
        """What separates two columns."""
        return _DELIMITERS[os.path.splitext(self.path.lower().removesuffix(".gz"))[1]]

    def parts(self, columns: Mapping[str, str], types: Mapping[str, ValueType]) -> Iterator[Part]:
        """Yield the rows in order, without lines that are empty."""
        extra = [name for name in columns.values() if name not in types]
        self.extra_types = TextTypes(extra)
        if extra:
            # Only the whole file shows what its extra columns are.
            for batch, progress in self._batches():
                self.extra_types.see(_renamed(batch, columns))
                yield Part({}, 0, 0, progress // 2)
        first = 0
        for batch, progress in self._batches():
            progress = progress // 2 if extra else progress
            yield Part(_renamed(batch, columns), batch.num_rows, first, progress)
            first += batch.num_rows

    def typed(self, part: Part, types: Mapping[str, ValueType]) -> dict[str, Any]:
        """Return the columns of a part; text in place of values that their type does not have."""
        return {
            name: typed_column(text, types[name], name)
            if name in types
            else self.extra_types.typed(text, name)
            for name, text in part.columns.items()
        }

    def number(self, row: int) -> int:
        """Return the line in which a row begins; the file's first line is 1."""
        try:
            for number, (line, _) in enumerate(self._lines(), -1):
                if number == row:
                    return line
        except InvalidQueryError:
            pass  # Another error than the one that is reported.
        return row + 2

    def _batches(self) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Yield the rows as text, and how many bytes of the file were read for them."""
        with open(self.path, "rb") as file:
            stream = _Stream(_decompressed(file, self.path), file)
            try:
                reader = pa_csv.open_csv(
                    stream,
                    # One thread, which keeps the rows in order and the memory bounded.
                    pa_csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
                    pa_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
                    pa_csv.ConvertOptions(
                        column_types=dict.fromkeys(self.names, pa.string()),
                        null_values=[""],
                        strings_can_be_null=True,
                    ),
                )
                for block in reader:
                    starts = range(0, block.num_rows, _PART_ROWS)
                    progress = stream.advance()
                    for start in starts:
                        yield block.slice(start, _PART_ROWS), progress // len(starts)
            except (*_READ_ERRORS, pa.ArrowInvalid) as error:
                raise self._error(error) from None
        if stream.quotes % 2:
            # Arrow takes a value without its second quotation mark to the end of the file.
            for _ in self._lines():
                pass

    def _error(self, error: Exception) -> Exception:
        if own := own_error(error):
            return own
        if isinstance(error, pa.ArrowInvalid):
            for line, cells in self._lines():
                if len(cells) != len(self.names):
                    mark = "tab" if self.delimiter == "\t" else "comma"
                    advice = (
                        f"write quotation marks around a value with a {mark}"
                        if len(cells) > len(self.names)
                        else f"a value that is missing needs its {mark} too"
                    )
                    return InvalidQueryError(
                        f"{self.path[:200]} has {len(self.names)} columns, but line {line} has "
                        f"{len(cells)}; {advice}"
                    )
            if "straddling" in str(error):
                return InvalidQueryError(
                    f"{self.path[:200]} has a row of more than {_BLOCK_BYTES:,} bytes; shorten it"
                )
        return _unreadable(self.path, error)

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the lines that are not empty: the number of the first line of each, and its cells.

        Slower than `_batches`, but exact: for the first line, and for errors.
        """
        with open(self.path, "rb") as file:
            text = io.TextIOWrapper(_decompressed(file, self.path), "utf-8-sig", newline="")
            lines = csv.reader(text, delimiter=self.delimiter, strict=True)
            before = 0
            try:
                while (cells := _next_cells(lines)) is not None:
                    if cells:
                        yield before + 1, cells
                    before = lines.line_num
            except UnicodeDecodeError:
                raise self._not_utf8() from None
            except csv.Error as error:
                raise InvalidQueryError(
                    f"{self.path[:200]} has a value in line {before + 1} that is not CSV ({error}); a quotation "
                    "mark in a value must be doubled, and the value end with one"
                ) from None
            except _READ_ERRORS as error:
                raise _unreadable(self.path, error) from None

    def _not_utf8(self) -> Exception:
        with open(self.path, "rb") as file:
            lines = enumerate(_decompressed(file, self.path), 1)
            number, line = next((n, line) for n, line in lines if not _is_utf8(line))
        is_utf16 = number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return InvalidQueryError(
            f"{self.path[:200]} is not UTF-8 in line {number}; save it as UTF-8, or convert it: "
            f"iconv -f {'UTF-16' if is_utf16 else 'LATIN1'} -t UTF-8 OLD > NEW"
        )


def _next_cells(lines: Iterator[list[str]]) -> list[str] | None:
    """Return the cells of a reader's next line, None at the end; a value may be as long as a block.

    The limit of the module csv is one for the whole process, and shorter.
    """
    with _FIELD_LIMIT:
        before = csv.field_size_limit(max(_BLOCK_BYTES, csv.field_size_limit()))
        try:
            return next(lines, None)
        finally:
            csv.field_size_limit(before)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Stream(io.RawIOBase):
    """The text of a file, with what Arrow does not say: the progress, and how many quotation marks there are.

    Parameters
    ----------
    text : binary stream
    file : binary file
        The file behind it, which may be compressed.
    """

    def __init__(self, text: Any, file: BinaryIO) -> None:
        self._text = text
        self._file = file
        self._position = 0
        # Arrow reads ahead, a block at a time.
        self._ends: deque[int] = deque()
        self.quotes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        data: bytes = self._text.read(size)
        self.quotes += data.count(b'"')
        self._ends.append(self._file.tell())
        return data

    def advance(self) -> int:
        """Return how many bytes of the file the next block took."""
        before = self._position
        self._position = self._ends.popleft() if self._ends else before
        return self._position - before


@dataclass
class ParquetFile(RowFile):
    """A Parquet file.

    Attributes
    ----------
    ranges : dict of str to range
        The columns that pandas keeps as the two ends of a range: an index of consecutive integers.
    """

    ranges: dict[str, range]

    @classmethod
    def open(cls, path: str) -> ParquetFile:
        """Return the file; columns without a name, which held an index of pandas, are left out."""
        with cls._reader(path) as file:
            names = [n for n in file.schema_arrow.names if not n.startswith(UNNAMED_INDEX)]
            rows = file.metadata.num_rows
            ranges = _named_ranges(file.schema_arrow, rows)
            return cls(path, names + list(ranges), rows, "rows", "row", ranges)

    def parts(self, columns: Mapping[str, str], types: Mapping[str, ValueType]) -> Iterator[Part]:
        """Yield the rows in order."""
        first = 0
        with self._reader(self.path) as file:
            stored = [name for name in self.names if name not in self.ranges]
            batches = file.iter_batches(_PART_ROWS, columns=stored, use_threads=False)
            try:
                for batch in batches:
                    for name, numbers in self.ranges.items():
                        part = numbers[first : first + batch.num_rows]
                        column = pa.array(np.arange(part.start, part.stop, part.step))
                        batch = batch.append_column(name, column)
                    yield Part(_renamed(batch, columns), batch.num_rows, first, batch.num_rows)
                    first += batch.num_rows
            except (OSError, pa.ArrowException) as error:
                raise own_error(error) or _unreadable(self.path, error) from None

    def typed(self, part: Part, types: Mapping[str, ValueType]) -> dict[str, Any]:
        """Return the columns of a part; those of dicts may be JSON text."""
        return {
            name: json_column(values, name)
            if isinstance(types.get(name), JsonObject) and is_text_type(values.type)
            else values
            for name, values in part.columns.items()
        }

    @staticmethod
    def _reader(path: str) -> Any:
        try:
            # Not all of a column at once, but as its rows are read.
            return pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(path, error) from None


def _named_ranges(schema: pa.Schema, rows: int) -> dict[str, range]:
    """Return the named indexes that pandas wrote as ranges, in the metadata of the file alone."""
    ranges = {}
    try:
        for index in (schema.pandas_metadata or {}).get("index_columns", ()):
            if isinstance(index, dict) and index["kind"] == "range" and type(index["name"]) is str:
                numbers = range(index["start"], index["stop"], index["step"])
                is_int64 = max(abs(numbers.start), abs(numbers.stop)) < 2**63
                if is_int64 and len(numbers) == rows and index["name"] not in schema.names:
                    ranges[index["name"]] = numbers
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        pass  # Metadata that pandas did not write.
    return ranges


def table_columns(
    file: RowFile,
    columns: Mapping[str, str],
    known: Sequence[str],
) -> dict[str, str]:
    """Return the name in the table of each column of a file that has a name.

    Parameters
    ----------
    file : RowFile
    columns : mapping of str to str
        The file's name for a column of the table; one that is not named has the same name in both.
    known : sequence of str
        The columns of the table.

    Raises
    ------
    InvalidQueryError
        A name that the table or the file does not have, or a column with two names.
    """
    for name, theirs in columns.items():
        if name not in known:
            raise InvalidQueryError(
                f"columns maps {shown(name)}, which is not a column to write; those are "
                f"{', '.join(known)}{did_you_mean(name, known)}"
            )
        if theirs not in file.names:
            raise InvalidQueryError(
                f"columns maps {name} to {shown(theirs)}, but {file.path[:200]} has the columns "
                f"{_listed(file.names)}{did_you_mean(theirs, file.names)}"
            )
        if name in file.names and theirs != name and name not in columns.values():
            raise InvalidQueryError(
                f"columns maps {name} to {shown(theirs)}, but {file.path[:200]} has a column {name} too; "
                "rename or remove it"
            )
    names = {theirs: name for name, theirs in columns.items()}
    if len(names) < len(columns):
        theirs = next(t for t in columns.values() if list(columns.values()).count(t) > 1)
        raise InvalidQueryError(
            f"columns maps two names to {shown(theirs)}; a column of the file has one"
        )
    # A column without a name is an index that pandas wrote.
    return {theirs: names.get(theirs, theirs) for theirs in file.names if theirs}


def check_required(file: RowFile, columns: Mapping[str, str], required: Iterable[str]) -> None:
    """Raise if a file lacks a column; the error says how to name another one."""
    missing = [name for name in required if name not in columns.values()]
    if missing:
        name = missing[0]
        separators = [mark for mark in ";\t|," if len(file.names) == 1 and mark in file.names[0]]
        advice = (
            f"the columns seem to be separated by {separators[0]!r}; save it with commas, or as .tsv with tabs"
            if separators
            else f"if it has another name there, say so: --map {name}=NAME, or columns={{{name!r}: NAME}}"
        )
        raise InvalidQueryError(
            f"{file.path[:200]} lacks the {columns_text(missing)}; "
            f"it has {_listed(file.names)}; {advice}"
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(shown(name)[1:-1] for name in names[:20]) + more


def _renamed(batch: pa.RecordBatch, columns: Mapping[str, str]) -> dict[str, pa.Array]:
    return {columns[name]: batch.column(name) for name in batch.schema.names if name in columns}


def _decompressed(file: BinaryIO, path: str) -> Any:
    return gzip.GzipFile(fileobj=file) if path.lower().endswith(".gz") else file


def _unreadable(path: str, error: Exception) -> Exception:
    if isinstance(error, OSError) and (lack := shortage(error, f"{path[:200]} was not read")):
        return lack
    reason = getattr(error, "strerror", None) or shown(str(error))
    return InvalidQueryError(f"{path[:200]} cannot be read: {reason}")
