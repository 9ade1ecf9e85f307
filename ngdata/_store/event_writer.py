"""Writes recorded events in batches: in order, each of them once, whatever ends in the middle."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import asyncpg
import pandas as pd
import pyarrow as pa

from ngdata._arguments.id_space import UUIDS, IdSpace
from ngdata._arguments.texts import STR
from ngdata._connections.database import Database
from ngdata._store.copy import copy_batch
from ngdata._store.fields import EVENTS, TOKENS
from ngdata._store.integrity import refused_id
from ngdata._store.value_types import JsonObject
from ngdata.errors import ConfigError, IntegrityError, InvalidQueryError, NGDataError

__all__ = ["EventRow", "EventWriter", "Refusal", "events_frame"]

EventRow: TypeAlias = dict[str, Any]
"""A checked event, by the table's column names."""

_IS_WRITTEN: Final = f"SELECT EXISTS (SELECT FROM {EVENTS.relation} WHERE id = $1::uuid)"

# Which of a batch's ids the server refuses, by the SQLSTATE of its error: the column, what callers name
# it, and the query.  Where rows are hidden by a policy, a token that is not seen may exist; an event of a
# child table does not refuse its id.
_ALL_REFUSED: Final = {
    "23503": (
        "token_id",
        "token_id",
        f"""
        SELECT id FROM unnest($1::uuid[]) AS wanted (id)
        WHERE NOT row_security_active('{TOKENS.relation}')
        AND NOT EXISTS (SELECT FROM {TOKENS.relation} AS token WHERE token.id = wanted.id)
        """,
    ),
    "23505": (
        "id",
        EVENTS.key,
        f"""
        SELECT id FROM {EVENTS.relation}
        WHERE id = ANY($1::uuid[]) AND tableoid = '{EVENTS.relation}'::regclass
        """,
    ),
}

# The column whose value the server refused, by the SQLSTATE of its error.
_REFUSED_COLUMN: Final = {"23503": "token_id", "23505": "id", "23000": "trajectory_id"}


Numbered: TypeAlias = tuple[int, EventRow]
"""An event, after its number in the order of the calls."""


@dataclass
class Refusal:
    """Events that are not written, and why."""

    error: NGDataError
    events: list[Numbered]


@dataclass
class _Batch:
    """Events for one transaction.

    Attributes
    ----------
    events : list
    is_in_doubt : bool
        Whether COMMIT may have been sent without an answer.  Then all of them are in the store, or
        none is: the first one's id tells.
    """

    events: list[Numbered]
    is_in_doubt: bool = False

    def rows(self) -> list[EventRow]:
        """Return the events without their numbers."""
        return [row for _, row in self.events]


class _Undo(Exception):  # noqa: N818 - not an error: it rolls a transaction back
    pass


class EventWriter:
    """Batches of events, to be written in their order.

    A batch leaves it only once it is written or refused.  So after any error or cancellation of
    `write`, the next call continues where that one stopped.

    Parameters
    ----------
    database : Database

    Attributes
    ----------
    written : int
        How many events were written.
    refused : deque of Refusal
        Events that the database does not accept; the others of their batch were written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batches: deque[_Batch] = deque()
        self._added = 0
        self.written = 0
        self.refused: deque[Refusal] = deque()

    def __len__(self) -> int:
        # A list, because another thread may ask during a write.
        return sum(len(batch.events) for batch in list(self._batches))

    def add(self, rows: list[EventRow]) -> None:
        """Add events behind the others."""
        self._batches.append(_Batch(list(enumerate(rows, self._added))))
        self._added += len(rows)

    def give_up(self) -> tuple[list[Numbered], int]:
        """Forget all batches; return their events, and how many of them may be written."""
        batches = list(self._batches)
        self._batches.clear()
        in_doubt = sum(len(batch.events) for batch in batches if batch.is_in_doubt)
        return [event for batch in batches for event in batch.events], in_doubt

    async def check(self) -> None:
        """Raise what each write would raise: for a user without the right, or a read-only server."""
        with contextlib.suppress(_Undo):
            async with self._database.transaction() as connection:
                await self._copy_rows(connection, [])
                raise _Undo

    async def write(self) -> None:
        """Write all batches, except for the events that the database refuses.

        Raises
        ------
        NGDataError
            What does not depend on a single event: the server is away, or the user may not write.
        """
        while self._batches:
            batch = self._batches[0]
            try:
                if not await self._is_written(batch):
                    await self._copy(batch)
            except (IntegrityError, InvalidQueryError) as error:
                # The server may have committed after the check.  By now it has: its COPY waited for
                # the transaction with the same ids.
                if not await self._is_written(batch):
                    if refused := await self._all_refused(batch, error):
                        self._set_aside(batch, refused)
                    else:
                        self._divide(batch, error)
                    continue
            self.written += len(batch.events)
            self._batches.popleft()

    async def _copy(self, batch: _Batch) -> None:
        async with self._database.transaction() as connection:
            await self._copy_rows(connection, batch.rows())
            connection.rows_written = len(batch.events)
            batch.is_in_doubt = True

    async def _copy_rows(
        self, connection: asyncpg.Connection[Any], rows: Sequence[EventRow]
    ) -> None:
        await copy_batch(
            connection,
            EVENTS.relation,
            EVENTS.table(rows),
            where=self._database.where,
            key=EVENTS.key,
        )

    async def _is_written(self, batch: _Batch) -> bool:
        if not batch.is_in_doubt:
            return False
        async with self._database.transaction() as connection:
            return bool(await connection.fetchval(_IS_WRITTEN, batch.rows()[0]["id"]))

    async def _all_refused(self, batch: _Batch, error: NGDataError) -> list[Refusal]:
        """Return what the server refuses for the same reason: an error names only the first."""
        if len(batch.events) < 2 or error.sqlstate not in _ALL_REFUSED:
            return []
        column, name, query = _ALL_REFUSED[error.sqlstate]
        ids = {row[column] for row in batch.rows() if row[column]}
        refused: set[str] = set()
        # A user who may write events need not be allowed to read.
        with contextlib.suppress(ConfigError):
            async with self._database.transaction() as connection:
                refused = {str(row[0]) for row in await connection.fetch(query, [*ids])}
        return [
            Refusal(refused_id(name, value, error.sqlstate), [event])
            for event in batch.events
            if (value := event[1][column]) in refused
        ]

    def _set_aside(self, batch: _Batch, refusals: list[Refusal]) -> None:
        """Go on without the refused events of the first batch."""
        self._batches.popleft()
        self.refused.extend(refusals)
        numbers = {number for refusal in refusals for number, _ in refusal.events}
        if part := [event for event in batch.events if event[0] not in numbers]:
            self._batches.appendleft(_Batch(part))

    def _divide(self, batch: _Batch, error: NGDataError) -> None:
        """Set aside the events that an error names; if it names none, halve the batch."""
        events = batch.events
        if refused := _named(error, events) if len(events) > 1 else events:
            self._set_aside(batch, [Refusal(error, refused)])
        else:
            middle = len(events) // 2
            self._batches.popleft()
            self._batches.extendleft([_Batch(events[middle:]), _Batch(events[:middle])])


def _named(error: NGDataError, events: list[Numbered]) -> list[Numbered]:
    """Return the events that have the value which an error names."""
    column = _REFUSED_COLUMN.get(error.sqlstate or "")
    if column is None:
        return []
    text = str(error)
    refused = [event for event in events if event[1][column] and event[1][column] in text]
    # Of two events with one id, the first may be the one to keep.
    return refused[-1:] if column == "id" else refused


def events_frame(rows: Sequence[EventRow], ids: IdSpace = UUIDS) -> pd.DataFrame:
    """Return checked events as a frame that `bulk_create` writes."""
    table = EVENTS.table(rows)
    dtypes = {pa.int64(): pd.Int64Dtype(), pa.string(): STR}
    # Column by column: of a whole table, Arrow's own threads convert it, and wait for Python for ever if
    # the program exits meanwhile.
    frame = pd.DataFrame(
        {name: table[name].to_pandas(types_mapper=dtypes.get) for name in table.column_names}
    )
    for field in EVENTS.fields:
        if isinstance(field.type, JsonObject):
            texts = frame[field.name]
            values = [json.loads(text) if isinstance(text, str) else None for text in texts]
            frame[field.name] = pd.Series(values, dtype=object)
    with contextlib.suppress(ConfigError):  # a UUID that is not an integer stays one
        frame["token_id"] = ids.column(frame["token_id"], optional=True)
    return frame.rename(columns={"id": EVENTS.key})
