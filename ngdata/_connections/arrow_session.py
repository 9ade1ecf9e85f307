"""One ADBC connection: its statements, by COPY into Arrow, and the transactions around them.

All calls block.  An `ArrowConnection` makes them on the one thread that owns the session.

ADBC asks the server for the columns of an answer and then for its rows, and both requests must
reach the same server connection: behind a pooler, each read is a transaction.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import adbc_driver_manager as adbc
import pyarrow as pa

from ngdata._config.driver_arguments import without_options
from ngdata._connections.adbc_connection import AdbcConnection, AdbcCursor
from ngdata._connections.libpq import connect_libpq
from ngdata._connections.session_settings import SET_LOCAL, SET_SESSION, WATCHED_SESSION
from ngdata.errors import ConfigError

__all__ = [
    "ArrowSession",
    "Snapshot",
    "TextBeside",
    "TooManyRows",
    "Unpack",
    "VersionedTable",
    "joined",
]

# Batches so small that the server can go on sending while one of them is unpacked.
_COPY: Final = {"adbc.postgresql.batch_size_hint_bytes": str(1 << 20)}
_NO_COPY: Final = {"adbc.postgresql.use_copy": "false"}

Unpack: TypeAlias = Callable[[pa.RecordBatch], pa.RecordBatch]
"""A function from a batch as the server sends it to a batch of the answer."""


@dataclass(frozen=True)
class Snapshot:
    """A read-only transaction whose statements all see the same state of some relations.

    Attributes
    ----------
    relations : sequence of str
        Locked before the snapshot is taken, against TRUNCATE alone: a snapshot older than a
        TRUNCATE would see the old version and no rows.
    exported : str, optional
        The id of another transaction's exported snapshot; this transaction then sees the same.
    settings : sequence of str
        SET LOCAL statements; they apply to the locking too.
    """

    relations: Sequence[str]
    exported: str | None = None
    settings: Sequence[str] = ()

    @property
    def begin(self) -> str:
        """The statements that begin the transaction."""
        # Tokens are locked first, in the order in which TRUNCATE follows the references to them.
        relations = ", ".join(sorted(self.relations, reverse=True))
        statements = [
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            *self.settings,
            f"LOCK TABLE {relations} IN ACCESS SHARE MODE",
        ]
        if self.exported is not None:
            statements.append(f"SET TRANSACTION SNAPSHOT '{self.exported}'")
        return "; ".join(statements)


class VersionedTable(NamedTuple):
    """An answer in one piece and, if they were read too, version and unit in the same snapshot."""

    table: pa.Table
    version: str | None = None
    unit: str | None = None


class TooManyRows(Exception):  # noqa: N818 - the reader turns it into an error for the caller
    """The answer has more rows than allowed; the rest was not read.

    Attributes
    ----------
    max_rows : int
        The number of rows allowed.
    rows : int
        The number of rows read.
    """

    def __init__(self, max_rows: int, rows: int) -> None:
        super().__init__(f"{rows} rows were read, and max_rows is {max_rows}")
        self.max_rows = max_rows
        self.rows = rows


class TextBeside:
    """A text that one statement returns with the rows of another: in one snapshot, in one round trip.

    As an unpack function, it removes the text from each batch.

    Parameters
    ----------
    query : str
        A statement that returns the text.
    unpack : callable, optional
        Applied to each batch without the text.

    Attributes
    ----------
    text : str or None
        None until a row has arrived.
    """

    def __init__(self, query: str, unpack: Unpack | None = None) -> None:
        self._query = query
        self._unpack = unpack
        self.text: str | None = None

    def statement(self, rows: str) -> str:
        """Return the statement that returns both."""
        # The server evaluates a sub-select that depends on no row once.
        return f"SELECT ({self._query}), answer.* FROM ({rows}) AS answer"

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch.num_rows:
            self.text = batch.column(0)[0].as_py()
        batch = pa.RecordBatch.from_arrays(batch.columns[1:], batch.schema.names[1:])
        return batch if self._unpack is None else self._unpack(batch)


class ArrowSession:
    """A connection to the server, opened by its first statement and used by one thread.

    Parameters
    ----------
    uri : str
        In libpq's format.
    behind_pooler : bool
        Whether a pooler may run each transaction on another server connection.
    """

    def __init__(self, uri: str, behind_pooler: bool) -> None:
        self._uri = uri
        self._behind_pooler = behind_pooler
        self._connection: AdbcConnection | None = None
        self._in_transaction = False

    def begin(self, snapshot: Snapshot | None = None) -> None:
        """Begin a transaction; without a snapshot, only behind a pooler.

        Elsewhere, a statement outside a snapshot is a transaction of its own.
        """
        if snapshot is not None or self._behind_pooler:
            self._in_transaction = True
            begin = "BEGIN READ ONLY" if snapshot is None else snapshot.begin
            # At the end, because it takes the snapshot.
            self.execute(f"{begin}; {SET_LOCAL}" if self._behind_pooler else begin)

    def commit(self) -> None:
        """End the transaction, if one was begun."""
        if self._in_transaction:
            self.execute("COMMIT")
            self._in_transaction = False

    @contextmanager
    def transaction(self, snapshot: Snapshot | None = None) -> Iterator[None]:
        """Begin before the body and commit after it; roll back if the body raises."""
        try:
            self.begin(snapshot)
            yield
        except BaseException:
            # The connection is closed after an error, but the server may notice that late.
            if self._in_transaction and self._connection is not None:
                with contextlib.suppress(adbc.Error):
                    self.execute("ROLLBACK")
            raise
        self.commit()

    @contextmanager
    def read_only(self, prepared: str | None = None) -> Iterator[None]:
        """Run the body, statements of the caller's own, in a transaction that may only read.

        It is rolled back, so that no setting outlasts it; what a rollback leaves is released too.

        Parameters
        ----------
        prepared : str, optional
            The name of the statement that the body prepares.
        """
        release = "ROLLBACK; SELECT pg_catalog.pg_advisory_unlock_all()"
        if prepared is not None:
            release += f"; DEALLOCATE {prepared}"
        begin = "BEGIN READ ONLY"
        self.execute(f"{begin}; {SET_LOCAL}" if self._behind_pooler else begin)
        try:
            yield
        except BaseException:
            with contextlib.suppress(adbc.Error):
                self.execute(release)
            raise
        self.execute(release)

    def run(self, statement: str) -> None:
        """Run one statement that returns no rows; the server refuses several."""
        with self.query(statement, copy=False) as cursor:
            cursor.reader.read_all()

    def prepare(self, statement: str) -> int:
        """Let the server check one statement without running it; return the number of parameters."""
        with self._open().cursor() as cursor:
            return cursor.prepare(statement)

    def read(
        self,
        statement: str,
        *,
        version: str | None = None,
        snapshot: Snapshot | None = None,
        max_rows: int | None = None,
        unpack: Unpack | None = None,
        copy: bool = True,
    ) -> VersionedTable:
        """Read a whole answer, in a transaction of its own.

        Parameters
        ----------
        statement : str
        version : str, optional
            A statement that returns one text, read before the answer in the same snapshot; without
            a snapshot, in the statement of the answer itself.
        snapshot : Snapshot, optional
            The transaction to read in.
        max_rows : int, optional
            How many rows the answer may have.
        unpack : callable, optional
            Applied to each batch as it arrives.
        copy : bool
            Read by COPY, which is faster for many rows and takes two more round trips.

        Raises
        ------
        TooManyRows
            The answer has more than `max_rows` rows.
        """
        with self.transaction(snapshot):
            if version is not None and snapshot is None:
                beside = TextBeside(version, unpack)
                batches = self.batches(
                    beside.statement(statement), max_rows=max_rows, unpack=beside, copy=copy
                )
                text = beside.text if sum(map(len, batches)) else self.row(version)[0]
            else:
                text = None if version is None else self.row(version)[0]
                batches = self.batches(statement, max_rows=max_rows, unpack=unpack, copy=copy)
        # In one piece, or NumPy would copy each column of a frame.
        return VersionedTable(joined(batches), text)

    def read_few(
        self,
        statement: str,
        most: int,
        *,
        version: str | None = None,
        snapshot: Snapshot | None = None,
        max_rows: int | None = None,
        unpack: Unpack | None = None,
    ) -> VersionedTable | None:
        """Read an answer of few rows, with its version in the same statement.

        Return None if it has more rows than `most`; the other parameters are those of `read`.
        """
        beside = None if version is None else TextBeside(version, unpack)
        rows_and_text = (
            f"SELECT * FROM ({statement}) AS answer"
            if beside is None
            else beside.statement(statement)
        )
        with self.transaction(snapshot):
            batches = self.batches(
                f"{rows_and_text} LIMIT {most + 1}", unpack=beside or unpack, copy=False
            )
            rows = sum(batch.num_rows for batch in batches)
            if rows > most:
                return None
            if max_rows is not None and rows > max_rows:
                raise TooManyRows(max_rows, rows)
            text = None if beside is None else beside.text
            if version is not None and not rows:
                (text,) = self.row(version)
        return VersionedTable(joined(batches), text)

    def batches(
        self,
        statement: str,
        *,
        max_rows: int | None = None,
        unpack: Unpack | None = None,
        copy: bool = True,
    ) -> list[pa.RecordBatch]:
        """Read the batches of an answer: at least one, without rows if there are none."""
        batches = []
        rows = 0
        with self.query(statement, copy=copy) as cursor:
            reader = cursor.reader
            for batch in reader:
                try:
                    if batch.num_rows:
                        batches.append(batch if unpack is None else unpack(batch))
                        rows += batch.num_rows
                    if max_rows is not None and rows > max_rows:
                        raise TooManyRows(max_rows, rows)
                except BaseException:
                    # Otherwise, closing the cursor would read the rest.
                    self.cancel()
                    raise
            if not batches:
                # `from_pylist` does not have the server's own types.
                empty = pa.RecordBatch.from_arrays(
                    [pa.nulls(0, field.type) for field in reader.schema], schema=reader.schema
                )
                batches.append(empty if unpack is None else unpack(empty))
        return batches

    def row(self, statement: str) -> tuple[Any, ...]:
        """Read one small row."""
        with self.query(statement, copy=False) as cursor:
            row = cursor.row()
            assert row is not None
            return row

    def expected_rows(self, statement: str) -> float:
        """Return how many rows the server's planner expects of a statement."""
        (plan,) = self.row(f"EXPLAIN (FORMAT JSON) {statement}")
        return float(json.loads(plan)[0]["Plan"]["Plan Rows"])

    def query(self, statement: str, *, copy: bool = True) -> AdbcCursor:
        """Send a statement; the caller reads its rows and closes the cursor."""
        cursor = self._open().cursor()
        try:
            cursor.set_options(_COPY if copy else _NO_COPY)
            cursor.execute(statement)
        except BaseException:
            cursor.close()
            raise
        return cursor

    def execute(self, script: str) -> None:
        """Run statements that return no rows."""
        with self._open().cursor() as cursor:
            cursor.execute_script(script)

    def _open(self) -> AdbcConnection:
        if self._connection is None:
            uri = without_options(self._uri) if self._behind_pooler else self._uri
            connection = connect_libpq(uri)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _prepare(self, connection: AdbcConnection) -> None:
        """Set the settings of a new connection; behind a pooler, each transaction does."""
        with connection.cursor() as cursor:
            if self._behind_pooler:
                cursor.execute_script("BEGIN READ ONLY")
                cursor.execute("SELECT 1::pg_catalog.int4")
                row = cursor.row()
                cursor.execute_script("COMMIT")
                if row != (1,):
                    raise ConfigError(
                        "the pooler's connection to the server has settings of another client, under "
                        "which no types can be read (quote_all_identifiers); let the pooler reset "
                        "its connections"
                    )
                return
            try:
                cursor.execute_script(WATCHED_SESSION)
            except adbc.Error:
                # The server's system does not let it check its clients.
                cursor.execute_script(SET_SESSION)

    def cancel(self) -> None:
        """Cancel the statement that the server runs now; other threads may call this."""
        if self._connection is not None:
            self._connection.cancel()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()


def joined(batches: list[pa.RecordBatch]) -> pa.Table:
    """Join batches, at least one, into a table with one chunk per column.

    Each column of the batches is freed once it is copied, and the list is emptied: otherwise the
    answer would for a moment take twice its memory.
    """
    schema = batches[0].schema
    columns = [[batch.column(index) for batch in batches] for index in range(len(schema))]
    batches.clear()
    arrays = []
    for index in range(len(columns)):
        chunks, columns[index] = columns[index], []
        arrays.append(chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks))
    return pa.Table.from_arrays(arrays, schema=schema)
