"""An answer of the database, as it came, and the frames that are made of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd
import pyarrow as pa

from ngdata._query.model import Column
from ngdata._reading.frames import is_shareable, to_frame, to_shared_frame

__all__ = ["Answer"]

# What an answer takes in memory beside its table, about.
_OVERHEAD = 512


@dataclass(frozen=True, eq=False)
class Answer:
    """What a query was answered, and by which version that is true.

    Attributes
    ----------
    table : pyarrow.Table
    columns : tuple of Column
    version : str
        Empty where nobody asked for it.
    made : float
        When its read began, in seconds since the epoch.
    """

    table: pa.Table
    columns: tuple[Column, ...]
    version: str = ""
    made: float = field(default_factory=time.time)

    @cached_property
    def nbytes(self) -> int:
        """How much memory it holds."""
        return int(self.table.nbytes) + _OVERHEAD

    @property
    def is_quick(self) -> bool:
        """Whether a frame takes next to no time, however large it is: nothing is copied."""
        return all(is_shareable(column.kind) for column in self.columns)

    @cached_property
    def _shared(self) -> pd.DataFrame | None:
        """A frame over the answer's own memory, which nobody can write to."""
        if not self.is_quick:
            return None  # objects would be shared as they are
        try:
            return to_shared_frame(self.table, self.columns)
        except AttributeError:
            return None  # a pandas with other inner parts: each frame is then made anew

    def frame(self) -> pd.DataFrame:
        """Make a frame that is the caller's own: pandas copies what of it is written to."""
        if self._shared is not None:
            return self._shared.copy(deep=False)
        return to_frame(self.table, self.columns)
