"""Load files of rows, CSV or Parquet, into a store: of any size in bounded memory, all or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import pyarrow as pa

from ngdata._arguments.id_space import IdSpace
from ngdata._arguments.levels import Level, level_index
from ngdata._arguments.numbers import as_flag
from ngdata._arguments.shown import guarded, is_instance, shown
from ngdata._arguments.texts import as_path, checked_word
from ngdata._client.async_client import AsyncClient
from ngdata._client.sync.client import Client
from ngdata._connections.threads import in_daemon_thread
from ngdata._store import experience, graph, tokens
from ngdata._store.conflicts import Counts, OnConflict, write_rows
from ngdata._store.fields import CONNECTIONS, EVENTS, TOKENS, FieldTable
from ngdata._store.input_frames import Extra
from ngdata._store.progress import progress_bar, redrawn
from ngdata._store.row_names import rows_named
from ngdata._store.value_types import Integer, Number, ValueType
from ngdata.errors import IntegrityError, InvalidQueryError
from ngdata.files.parts import Part, RowFile, check_required, open_rows, table_columns

__all__ = ["Kind", "LoadedFile", "load", "load_async"]

Kind: TypeAlias = Literal["tokens", "connections", "events"]


@dataclass
class LoadedFile:
    """The result of loading a file.

    Attributes
    ----------
    path : str
    kind : str
    created, updated, skipped : int
        How many rows are new, changed an existing one, or were left out because their id exists.
    """

    path: str
    kind: str
    created: int = 0
    updated: int = 0
    skipped: int = 0

    def add(self, counts: Counts) -> None:
        """Add the counts of a part of the file."""
        self.created += counts.created
        self.updated += counts.updated
        self.skipped += counts.skipped

    def __str__(self) -> str:
        counts = [f"{self.created:,} {self.kind} created"]
        counts += [f"{self.updated:,} updated"] if self.updated else []
        counts += [f"{self.skipped:,} skipped"] if self.skipped else []
        return f"{self.path}: {', '.join(counts)}"


class _Format(NamedTuple):
    """How rows of one kind are written.

    Attributes
    ----------
    table : FieldTable
    check : function
        Returns a frame as rows of the table: of the frame, the level, the ids and `extra`.
    columns : mapping of str to ValueType
        The columns of a frame beside the table's fields.
    targets : mapping of str to str
        As `write_rows` takes it.
    """

    table: FieldTable
    check: Callable[[Mapping[str, Any], Level, IdSpace, Extra], pa.Table]
    columns: Mapping[str, ValueType]
    targets: Mapping[str, str]

    @property
    def types(self) -> dict[str, ValueType]:
        """The types of all columns that a file may have."""
        fields = {field.name: field.type for field in self.table.fields if field.in_frames}
        return {self.table.key: self.table.key_type} | fields | dict(self.columns)

    def required(self, names: Mapping[str, str]) -> tuple[str, ...]:
        """Return the columns that a file with these columns must have."""
        points = () if "coords" in names.values() else tuple(a for a in "xyz" if a in self.columns)
        return points + self.table.required


_POINT: Final = dict.fromkeys("xyz", Number()) | {"level": Integer(0, 7)}

_FORMATS: Final[dict[Kind, _Format]] = {
    "tokens": _Format(
        TOKENS,
        lambda columns, level, ids, extra: tokens.check_frame(columns, level, None, ids, extra),
        _POINT,
        tokens.MERGED_LEVELS,
    ),
    "connections": _Format(
        CONNECTIONS, lambda columns, _, ids, extra: graph.check_frame(columns, ids, extra), {}, {}
    ),
    "events": _Format(
        EVENTS, lambda columns, _, ids, extra: experience.check_frame(columns, ids, extra), {}, {}
    ),
}


def load(
    ng: Client,
    path: str | os.PathLike[str],
    kind: Kind = "tokens",
    *,
    columns: Mapping[str, str] | None = None,
    level: Level | None = None,
    extra: Extra = "refuse",
    on_conflict: OnConflict = "error",
    initial: bool = False,
    progress: bool | None = None,
) -> LoadedFile:
    """Write a CSV or Parquet file of tokens, connections or events: all of it, or nothing.

    The file is read part by part, and written in one transaction.  ``ngdata load`` is the same from
    the shell.

    In CSV, the first line names the columns (one without a name is left out), and an empty value is
    missing (in columns that are not text, NA, NaN and null too).  Ids are UUIDs or integers, times
    ISO 8601 with a time zone or integers of milliseconds since the epoch, and dicts JSON.

    Parameters
    ----------
    ng : Client
        Integers are ids of its ``id_space``.
    path : str or path
        A file in UTF-8 that ends with ``.csv``, ``.tsv``, ``.csv.gz`` or ``.tsv.gz``, or one that ends
        with ``.parquet``.
    kind : {"tokens", "connections", "events"}
        What the rows are.  The columns are those of `tokens.bulk_create`, `graph.bulk_create` or
        `experience.bulk_create`.
    columns : mapping of str to str, optional
        Columns that have another name in the file: ``{"x": "X", "token_id": "root_id"}``.
    level : int or str, optional
        The level of the tokens' ``x, y, z``; 0 by default.  A column ``level`` has precedence.
    extra : {"refuse", "metadata"}
        Whether columns that are not known are an error, or become keys of ``metadata``.  In CSV,
        such a column is of integers, numbers or truth values if all of its values are.
    on_conflict : {"error", "skip", "update"}
        What happens to a row whose id exists.
    initial : bool
        Load tokens into an empty store, and build its spatial indexes after the load, as in
        `tokens.bulk_create`.
    progress : bool, optional
        Show a bar: always, never, or by default if it takes longer than two seconds.

    Returns
    -------
    LoadedFile
        How many rows were created, updated and skipped.

    Raises
    ------
    InvalidQueryError
        A file that cannot be read, a column that is missing or unknown, or the first bad value, with
        its line (of a Parquet file its row, from 0); nothing was written.
    IntegrityError
        An id that already exists, or an end that names no token, with its line; nothing was written.

    Examples
    --------
    >>> import tempfile
    >>> from ngdata.files import load
    >>> cells = pd.DataFrame({"root_id": [72057594037928384], "x": 9e5, "y": 0.5, "z": 1.0})
    >>> with tempfile.NamedTemporaryFile(suffix=".csv") as file:
    ...     cells.to_csv(file.name, index=False)
    ...     load(ng, file.name, columns={"token_id": "root_id"}).created
    1
    >>> ng.tokens.delete(72057594037928384)
    1
    """
    if not is_instance(ng, Client, "ng"):
        raise InvalidQueryError(
            f"load needs the client that ngdata.connect() returns, not {shown(ng)}; with an async client, "
            "await load_async(ang, ...)"
        )
    return ng._loop.run(
        load_async(
            ng._wrapped,
            path,
            kind,
            columns=columns,
            level=level,
            extra=extra,
            on_conflict=on_conflict,
            initial=initial,
            progress=progress,
        )
    )


async def load_async(
    ang: AsyncClient,
    path: str | os.PathLike[str],
    kind: Kind = "tokens",
    *,
    columns: Mapping[str, str] | None = None,
    level: Level | None = None,
    extra: Extra = "refuse",
    on_conflict: OnConflict = "error",
    initial: bool = False,
    progress: bool | None = None,
) -> LoadedFile:
    """Write a file of rows through an async client, as `load` does.

    Parameters
    ----------
    ang : AsyncClient
    path, kind, columns, level, extra, on_conflict, initial, progress
        As in `load`.

    Returns
    -------
    LoadedFile

    Raises
    ------
    InvalidQueryError, IntegrityError
        As in `load`; nothing was written.

    Examples
    --------
    >>> import asyncio, tempfile
    >>> from ngdata.files import load_async
    >>> async def load_cells(path):
    ...     async with await ngdata.connect_async() as ang:
    ...         return await load_async(ang, path)
    >>> cells = pd.DataFrame({"token_id": [72057594037928385], "x": 9e5, "y": 0.5, "z": 1.0})
    >>> with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
    ...     cells.to_parquet(file.name)
    ...     asyncio.run(load_cells(file.name)).created
    1
    >>> ng.tokens.delete(72057594037928385)
    1
    """
    if not is_instance(ang, AsyncClient, "ang"):
        raise InvalidQueryError(
            f"load_async needs the client that ngdata.connect_async() returns, not {shown(ang)}; with a sync "
            "client, call load(ng, ...)"
        )
    kind = checked_word(kind, tuple(_FORMATS), "kind")
    if level is not None and kind != "tokens":
        raise InvalidQueryError(f"level is for tokens, not for {kind}; leave it out")
    level = 0 if level is None else level_index(level)
    extra = checked_word(extra, get_args(Extra), "extra")
    on_conflict = checked_word(on_conflict, get_args(OnConflict), "on_conflict")
    progress = as_flag(progress, "progress", optional=True)
    is_initial = bool(as_flag(initial, "initial"))
    if is_initial and kind != "tokens":
        raise InvalidQueryError(f"initial=True is for tokens, not for {kind}; leave it out")
    if is_initial and on_conflict != "error":
        raise InvalidQueryError(
            f"initial loads an empty store, so on_conflict must be 'error', not {shown(on_conflict)}"
        )
    theirs = _names(columns, "columns")
    report = LoadedFile(as_path(path, "path"), kind)
    row_format = _FORMATS[kind]
    ids = ang.tokens._ids
    file = await in_daemon_thread(lambda: open_rows(report.path))
    names = table_columns(file, theirs, tuple(row_format.types))
    check_required(file, names, row_format.required(names))

    def checked(part: Part) -> pa.Table:
        with _located(file, names, part, ids):
            return row_format.check(file.typed(part, row_format.types), level, ids, extra)

    parts = file.parts(names, row_format.types)
    name = os.path.basename(report.path)
    with progress_bar(file.total, file.unit, f"loading {name}", progress) as bar, redrawn(bar):

        async def next_part() -> Part | None:
            while part := await in_daemon_thread(lambda: next(parts, None)):
                if part.rows:
                    return part
                bar.update(part.progress)
            return None

        # Before the transaction: it may take a first pass over the file.
        part = await next_part()
        async with ang.tokens._loading(is_initial, progress) as connection:
            while part is not None:
                rows = await in_daemon_thread(partial(checked, part))
                with _located(file, names, part, ids):
                    counts = await write_rows(
                        connection,
                        row_format.table,
                        rows,
                        on_conflict,
                        where=ang._database.where,
                        progress=False,
                        rows_per_part=None,
                        targets=row_format.targets,
                        is_part=True,
                    )
                report.add(counts)
                bar.update(part.progress)
                part = await next_part()
    return report


@contextmanager
def _located(file: RowFile, names: Mapping[str, str], part: Part, ids: IdSpace) -> Iterator[None]:
    """Let errors about rows of a block name file, line, column and id as the file has them."""
    # Whatever ids the client returns, the file may have integers.
    numbers = IdSpace(ids.name, as_integers=True)
    try:
        with rows_named(file.noun, lambda row: file.number(part.first + row)), numbers.renaming():
            yield
    except (InvalidQueryError, IntegrityError) as error:
        text = str(error)
        place = file.path[:200]
        for theirs, name in names.items():
            if theirs != name and text.startswith(f"{name} "):
                place += f", column {shown(theirs)}"
        error.args = (f"{place}: {text}", *error.args[1:])
        raise


@guarded
def _names(columns: Any, name: str) -> dict[str, str]:
    if columns is None:
        return {}
    if not isinstance(columns, Mapping) or not all(
        isinstance(text, str) for pair in columns.items() for text in pair
    ):
        raise InvalidQueryError(
            f'{name} must be a mapping of names, such as {{"x": "X"}}, not {shown(columns)}'
        )
    return {str(ours): str(theirs) for ours, theirs in columns.items()}
