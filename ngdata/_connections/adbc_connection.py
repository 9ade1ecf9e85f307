"""A connection of ADBC's driver for PostgreSQL, by the driver's own calls.

ADBC's DB-API layer would do the same, but its import also loads Polars, where that is installed, and
PyArrow's data sets, which take longer than connecting and are not used here.
"""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Any, Self

import adbc_driver_manager
import adbc_driver_postgresql
import pyarrow as pa
from adbc_driver_manager import _reader

__all__ = ["AdbcConnection", "AdbcCursor"]


class _ClosedAtEnd:
    """Closed where its `with` statement ends."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AdbcConnection(_ClosedAtEnd):
    """A connection that commits each statement; closing it closes its cursors first.

    Parameters
    ----------
    uri : str
        In libpq's format.
    """

    def __init__(self, uri: str) -> None:
        self._cursors: set[AdbcCursor] = set()
        self._database = adbc_driver_postgresql.connect(uri)
        try:
            self._connection = adbc_driver_manager.AdbcConnection(self._database)
        except BaseException:
            self._database.close()
            raise

    def cursor(self) -> AdbcCursor:
        """Return a new cursor."""
        return AdbcCursor(self._connection, self._cursors)

    def cancel(self) -> None:
        """Cancel the statement that the server runs now; other threads may call this."""
        self._connection.cancel()

    def close(self) -> None:
        """Close the connection; closing again does nothing."""
        for cursor in list(self._cursors):
            with contextlib.suppress(adbc_driver_manager.Error):
                cursor.close()
        self._connection.close()
        self._database.close()


class AdbcCursor(_ClosedAtEnd):
    """Statements run one after the other, and the rows of the last one.

    Parameters
    ----------
    connection : adbc_driver_manager.AdbcConnection
    open_cursors : set of AdbcCursor
        The cursor is in it until it is closed.
    """

    def __init__(
        self, connection: adbc_driver_manager.AdbcConnection, open_cursors: set[AdbcCursor]
    ) -> None:
        self._statement = adbc_driver_manager.AdbcStatement(connection)
        self._reader: Any = None
        self._open_cursors = open_cursors
        open_cursors.add(self)

    def set_options(self, options: dict[str, str]) -> None:
        """Set options of the driver for the following statements."""
        self._statement.set_options(**options)

    def execute(self, statement: str) -> None:
        """Send a statement; its rows come from `reader`."""
        self._close_reader()
        self._statement.set_sql_query(statement)
        rows, _ = self._statement.execute_query()
        # PyArrow's own reader turns each error of the server while rows stream into an OSError
        # without its SQLSTATE (apache/arrow-adbc#1523).
        self._reader = _reader.AdbcRecordBatchReader._import_from_c(rows.address)

    def prepare(self, statement: str) -> int:
        """Let the server check one statement without running it; return the number of parameters."""
        self._close_reader()
        self._statement.set_sql_query(statement)
        self._statement.prepare()
        # Only now does the driver send it.
        schema = self._statement.get_parameter_schema()
        return len(pa.Schema._import_from_c(schema.address))

    def execute_script(self, script: str) -> None:
        """Run statements that return no rows."""
        self._close_reader()
        self._statement.set_sql_query(script)
        self._statement.execute_update()

    @property
    def reader(self) -> Any:
        """A `pyarrow.RecordBatchReader` of the rows, as the server sends them."""
        return self._reader

    def row(self) -> tuple[Any, ...] | None:
        """Read all rows, and return the first; None if there is none."""
        rows: pa.Table = self._reader.read_all()
        return tuple(column[0].as_py() for column in rows.columns) if rows.num_rows else None

    def close(self) -> None:
        """Stop reading, and free the statement; closing again does nothing."""
        if self in self._open_cursors:
            self._open_cursors.remove(self)
            self._close_reader()
            self._statement.close()

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
