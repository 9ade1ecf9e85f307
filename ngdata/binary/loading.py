"""Load files of binary records into a store: of any size in bounded memory, all or nothing.

A file is read, checked and written part by part, in one transaction; `ngdata.binary` interprets the
records.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, NamedTuple, TypeAlias, get_args

import asyncpg
import numpy as np
import pandas as pd
import pyarrow as pa

from ngdata._arguments.numbers import as_flag
from ngdata._arguments.shown import is_instance, shown
from ngdata._arguments.texts import as_path, checked_word
from ngdata._client.async_client import AsyncClient
from ngdata._client.sync.client import Client
from ngdata._connections.threads import in_daemon_thread
from ngdata._store import experience, graph, tokens
from ngdata._store.copy import copy_into
from ngdata._store.progress import progress_bar
from ngdata._store.value_types import first_true
from ngdata.binary.connections import connection_rows, decode_connections
from ngdata.binary.coordinates import Dialect, check_dialect
from ngdata.binary.events import decode_events, event_rows
from ngdata.binary.flags import Kind
from ngdata.binary.record_layout import (
    CONNECTION,
    EVENT,
    TOKEN,
    check_records,
    storable,
    truncation_error,
)
from ngdata.binary.tokens import decode_tokens, has_conflicting_type, token_rows
from ngdata.errors import IntegrityError, InvalidQueryError

__all__ = ["Loaded", "load_records", "load_records_async"]

OnBad: TypeAlias = Literal["raise", "skip"]

# Large enough for the order within the index to pay off, small enough to show progress.
_PART_RECORDS: Final = 25_000


@dataclass
class Loaded:
    """The result of loading a file.

    Attributes
    ----------
    path : str
    kind : str
    written : int
        How many records are in the store now.
    skipped : int
        How many records were skipped, because the store cannot hold them.
    first_skipped : int or None
        The number of the first of them; the file's first record is 0.
    contradicted : int
        How many tokens have another entity type in their flags than in their id, which has
        precedence.
    first_contradicted : int or None
    """

    path: str
    kind: str
    written: int = 0
    skipped: int = 0
    first_skipped: int | None = None
    contradicted: int = 0
    first_contradicted: int | None = None

    def __str__(self) -> str:
        parts = [f"{self.path}: {self.written:,} {self.kind} written"]
        if self.skipped:
            parts.append(
                f"{self.skipped:,} skipped, with numbers or a time that cannot be stored; the "
                f"first is record {self.first_skipped}"
            )
        if self.contradicted:
            parts.append(
                f"{self.contradicted:,} have another entity type in their flags than in their id, "
                f"which has precedence; the first is record {self.first_contradicted}"
            )
        return "\n".join(parts)


class _Format(NamedTuple):
    layout: np.dtype[Any]
    relation: str
    rows: Callable[[np.ndarray, np.ndarray, Dialect], pa.Table]


class _Part(NamedTuple):
    rows: pa.Table
    numbers: np.ndarray
    records_read: int


def load_records(
    ng: Client,
    path: str | os.PathLike[str],
    kind: Kind = "tokens",
    *,
    dialect: Dialect = "python",
    on_bad: OnBad = "raise",
    initial: bool = False,
    progress: bool | None = None,
) -> Loaded:
    """Write a file of binary records into the store: all of it, or nothing.

    A token gets the id that `ngdata.binary.token_ids` returns for its record, so that connections
    find their tokens; load tokens first.  A file that is loaded a second time is refused, because
    its ids already exist.

    Parameters
    ----------
    ng : Client
    path : str or path
        Records end to end; of any size, and pipes too.
    kind : {"tokens", "connections", "events"}
    dialect : {"python", "rust"}
        The writer of the tokens; see `ngdata.binary.decode_tokens`.
    on_bad : {"raise", "skip"}
        What to do with records that the store cannot hold: NaN or infinite numbers, a time
        beyond the year 9999.
    initial : bool
        Load tokens into an empty store, as in `client.tokens.bulk_create`.
    progress : bool, optional
        Show a bar: always, never, or by default if it takes longer than two seconds.

    Returns
    -------
    Loaded
        How many records were written, skipped and contradictory.

    Raises
    ------
    InvalidQueryError
        A file that cannot be read or is truncated, or a bad record, with its number; nothing was
        written.
    IntegrityError
        An id that already exists, or an end that names no token; nothing was written.

    Examples
    --------
    >>> import tempfile
    >>> from ngdata.binary import encode_tokens
    >>> from ngdata.binary.loading import load_records
    >>> points = np.full((1, 8, 3), np.nan)
    >>> points[0, 7] = 0.5, 1, 1.5
    >>> records = encode_tokens({"local_id": [7]}, points)
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     records.tofile(file.name)
    ...     load_records(ng, file.name).written
    1
    """
    if not is_instance(ng, Client, "ng"):
        raise InvalidQueryError(
            f"load_records needs the client that ngdata.connect() returns, not {shown(ng)}; with an async "
            "client, await load_records_async(ang, ...)"
        )
    return ng._loop.run(
        load_records_async(
            ng._wrapped,
            path,
            kind,
            dialect=dialect,
            on_bad=on_bad,
            initial=initial,
            progress=progress,
        )
    )


async def load_records_async(
    ang: AsyncClient,
    path: str | os.PathLike[str],
    kind: Kind = "tokens",
    *,
    dialect: Dialect = "python",
    on_bad: OnBad = "raise",
    initial: bool = False,
    progress: bool | None = None,
) -> Loaded:
    """Write a file of binary records through an async client, as `load_records` does.

    Parameters
    ----------
    ang : AsyncClient
    path, kind, dialect, on_bad, initial, progress
        As in `load_records`.

    Returns
    -------
    Loaded

    Raises
    ------
    InvalidQueryError, IntegrityError
        As in `load_records`; nothing was written.

    Examples
    --------
    >>> import asyncio, tempfile
    >>> from ngdata.binary import encode_tokens
    >>> from ngdata.binary.loading import load_records_async
    >>> async def load(path):
    ...     async with await ngdata.connect_async() as ang:
    ...         return await load_records_async(ang, path)
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     encode_tokens({"local_id": [8]}, np.full((1, 8, 3), np.nan)).tofile(file.name)
    ...     asyncio.run(load(file.name)).written
    1
    """
    if not is_instance(ang, AsyncClient, "ang"):
        raise InvalidQueryError(
            f"load_records_async needs the client that ngdata.connect_async() returns, not {shown(ang)}; "
            "with a sync client, call load_records(ng, ...)"
        )
    kind = checked_word(kind, tuple(_FORMATS), "kind")
    on_bad = checked_word(on_bad, get_args(OnBad), "on_bad")
    progress = as_flag(progress, "progress", optional=True)
    initial = bool(as_flag(initial, "initial"))
    if initial and kind != "tokens":
        raise InvalidQueryError(f"initial=True is for tokens, not for {kind}; leave it out")
    dialect = check_dialect(dialect)
    record_format = _FORMATS[kind]
    report = Loaded(as_path(path, "path"), kind)
    file = await in_daemon_thread(lambda: _open(report.path))
    try:
        total = _count(file, record_format.layout, report.path)
        with progress_bar(total, "records", f"loading {Path(report.path).name}", progress) as bar:
            parts = _parts(file, record_format, report, dialect, on_bad)
            async with ang.tokens._loading(initial, progress) as connection:
                await _write(connection, ang._database.where, record_format, parts, report, bar)
    finally:
        # Closing waits for a read in progress, which a pipe may block forever.
        threading.Thread(target=file.close, name="ngdata-close", daemon=True).start()
    return report


async def _write(
    connection: asyncpg.Connection[Any],
    where: str,
    record_format: _Format,
    parts: Iterator[_Part],
    report: Loaded,
    bar: Any,
) -> None:
    while (part := await in_daemon_thread(lambda: next(parts, None))) is not None:
        if part.rows.num_rows:
            await copy_into(
                connection,
                record_format.relation,
                part.rows,
                where=where,
                progress=False,
                label=lambda row, part=part: f"record {part.numbers[row]}",  # type: ignore[misc]
            )
        report.written += part.rows.num_rows
        bar.update(part.records_read)


def _open(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except (OSError, ValueError) as error:  # the latter for NUL in the path
        raise InvalidQueryError(
            f"{path[:200]} cannot be read: {getattr(error, 'strerror', None) or shown(error)}"
        ) from None


def _count(file: BinaryIO, layout: np.dtype[Any], path: str) -> int | None:
    """Return the number of records, or raise before anything is sent if the file is truncated."""
    if not file.seekable():
        return None
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size % layout.itemsize:
        raise truncation_error(path, size, layout)
    return size // layout.itemsize


def _parts(
    file: BinaryIO, record_format: _Format, report: Loaded, dialect: Dialect, on_bad: OnBad
) -> Iterator[_Part]:
    layout = record_format.layout
    size, first = layout.itemsize, 0
    while data := _read(file, _PART_RECORDS * size, report.path):
        if len(data) % size:
            raise truncation_error(report.path, first * size + len(data), layout)
        records = np.frombuffer(data, layout)
        numbers = np.arange(first, first + len(records))
        first += len(records)
        valid = storable(records)
        if on_bad == "raise":
            check_records(records, numbers)
        elif not valid.all():
            if report.first_skipped is None:
                report.first_skipped = int(numbers[valid.argmin()])
            report.skipped += int((~valid).sum())
            records, numbers = records[valid], numbers[valid]
        if layout == TOKEN:
            _check_tokens(records, numbers, report)
        yield _Part(record_format.rows(records, numbers, dialect), numbers, len(valid))


def _read(file: BinaryIO, size: int, path: str) -> bytes:
    try:
        return file.read(size)
    except OSError as error:
        raise InvalidQueryError(f"{path} cannot be read: {error.strerror}") from None


def _check_tokens(records: np.ndarray, numbers: np.ndarray, report: Loaded) -> None:
    conflicting = has_conflicting_type(records)
    if conflicting.any():
        if report.first_contradicted is None:
            report.first_contradicted = int(numbers[conflicting.argmax()])
        report.contradicted += int(conflicting.sum())
    _check_unique(pd.Series(records["id"], index=numbers), "id")


def _check_unique(values: pd.Series[Any], name: str) -> None:
    row = first_true(values.duplicated().to_numpy())
    if row is not None:
        value = values.iloc[row]
        first, second = values.index[values == value][:2]
        raise IntegrityError(
            f"{name} {value} appears in records {first} and {second}; nothing was written"
        )


def _token_rows(records: np.ndarray, numbers: np.ndarray, dialect: Dialect) -> pa.Table:
    frame, coords = token_rows(decode_tokens(records, dialect=dialect))
    return tokens.check_frame(frame, 0, coords)


def _connection_rows(records: np.ndarray, numbers: np.ndarray, dialect: Dialect) -> pa.Table:
    return graph.check_frame(connection_rows(decode_connections(records), numbers))


def _event_rows(records: np.ndarray, numbers: np.ndarray, dialect: Dialect) -> pa.Table:
    frame = event_rows(decode_events(records))
    _check_unique(pd.Series(frame.event_id.array, index=numbers), "id")
    return experience.check_frame(frame)


_FORMATS: Final[dict[Kind, _Format]] = {
    "tokens": _Format(TOKEN, tokens.RELATION, _token_rows),
    "connections": _Format(CONNECTION, graph.RELATION, _connection_rows),
    "events": _Format(EVENT, experience.RELATION, _event_rows),
}
