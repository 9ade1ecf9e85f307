"""An answer of the database, as it was received, and the frames made of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import pandas as pd
import pyarrow as pa

from ngdata._query.model import MISSING_ID, Column
from ngdata._reading import clock
from ngdata._reading.frames import is_shareable, to_frame, to_shared_frame

__all__ = ["Answer", "Content"]

# What an answer takes besides its table's bytes, measured: 34 KB for a region of 30 rows with ten columns.
_OVERHEAD_BYTES = 4 << 10
_COLUMN_OVERHEAD_BYTES = 3 << 10


class Content:
    """What answers with the same rows have in common."""


@dataclass(frozen=True, eq=False)
class Answer:
    """The rows that answer a query, and the version of the relations they were read from.

    Attributes
    ----------
    table : pyarrow.Table
    columns : tuple of Column
    version : str
        Empty if it was not read.
    read_at : float
        When the read began, by `ngdata._reading.clock`.
    unit : str or None
        The unit of the query's level, as the same snapshot shows it.
    snapshot : str or None
        The server's text of the snapshot that it was read in; None if it was not read.
    content : Content
        The same object means the same rows.
    """

    table: pa.Table
    columns: tuple[Column, ...]
    version: str = ""
    read_at: float = field(default_factory=clock.now)
    unit: str | None = None
    snapshot: str | None = None
    content: Content = field(default_factory=Content)

    def confirmed(self, version: str, snapshot: str | None, read_at: float) -> Answer:
        """Return the answer at another version, at which its rows are the same."""
        confirmed = replace(self, version=version, snapshot=snapshot, read_at=read_at)
        # What was made of the rows stays.
        for name in ("nbytes", "missing_ids", "_rows", "_shared_frame"):
            if name in self.__dict__:
                confirmed.__dict__[name] = self.__dict__[name]
        return confirmed

    @cached_property
    def nbytes(self) -> int:
        """The memory that the answer takes, with that of its query and of its shared frame."""
        overhead = _OVERHEAD_BYTES + _COLUMN_OVERHEAD_BYTES * len(self.columns)
        return int(self.table.get_total_buffer_size()) + overhead

    @property
    def is_shareable(self) -> bool:
        """Whether frames are made without copying, in next to no time however large they are."""
        return all(is_shareable(column.kind) for column in self.columns)

    @cached_property
    def missing_ids(self) -> list[str]:
        """The caller's ids that are not in the store, if the answer names them."""
        if MISSING_ID not in self.columns:
            return []
        ids: list[str] = self.table[MISSING_ID.name].drop_null().to_pylist()
        return ids

    @cached_property
    def _rows(self) -> tuple[pa.Table, tuple[Column, ...]]:
        """The table and the columns that frames are made of."""
        if MISSING_ID not in self.columns:
            return self.table, self.columns
        columns = tuple(column for column in self.columns if column != MISSING_ID)
        return self.table.select([column.name for column in columns]), columns

    @cached_property
    def _shared_frame(self) -> pd.DataFrame | None:
        """A frame over the answer's own memory, which is read-only."""
        return to_shared_frame(*self._rows) if self.is_shareable else None

    def frame(self) -> pd.DataFrame:
        """Return a frame that the caller owns, without missing ids.

        pandas copies a column before it is written to.
        """
        if self._shared_frame is not None:
            return self._shared_frame.copy(deep=False)
        return to_frame(*self._rows)
