"""The tasks of a Dask frame: each reads one partition, over its own process's connections.

Nothing is cached between tasks; Dask's `persist` keeps what should be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ngdata._arguments.id_space import IdSpace
from ngdata._connections.background_loop import background_loop
from ngdata._query.model import Query
from ngdata._query.partitions import Rows, with_json_as_text
from ngdata._query.pin import Pin
from ngdata._reading.cache.versions import seen_by, version_sql
from ngdata._reading.dask_frames.access import Access
from ngdata._reading.dask_frames.connections import acquire_reader
from ngdata._reading.frames import to_frame
from ngdata._reading.reader import Reader
from ngdata._reading.units import level_and_unit
from ngdata.errors import ConsistencyError

__all__ = ["Partition", "PartitionReader", "read_with_version"]


@dataclass(frozen=True, slots=True, repr=False)
class Partition:
    """One partition: its rows, its number, counted from 0, and the number of all partitions."""

    rows: Rows
    number: int
    count: int

    def __repr__(self) -> str:
        return f"<partition {self.number} of {self.count}>"


@dataclass(frozen=True, repr=False)
class PartitionReader:
    """Reads partitions; Dask calls it.

    Attributes
    ----------
    access : Access
    call_id : str
        Distinguishes the frames of different calls of `to_dask`: otherwise Dask would return the
        results that it keeps of an earlier one.
    version : str or None
        The store's version when the frame was planned; None if it cannot be known.
    consistent : bool
        Whether every partition must have that version.
    default_column : str
        The column to read if Dask needs none.
    ids : IdSpace
        How token ids go out, whatever the settings of the worker.
    pin : Pin or None
        The moment of all partitions, which then need no version.
    """

    access: Access
    call_id: str
    version: str | None
    consistent: bool
    default_column: str
    ids: IdSpace
    pin: Pin | None

    def __dask_tokenize__(self) -> str:
        """Return the name of the call; Dask would pickle the whole reader to make one."""
        return self.call_id

    def __call__(self, partition: Partition, columns: Sequence[str]) -> pd.DataFrame:
        """Read these columns of a partition.

        Raises
        ------
        ConsistencyError
            The store was written to after the frame was planned.
        """
        # Rows without any column cannot be sent, so one column is read to count them.
        query = with_json_as_text(partition.rows.query(list(columns) or [self.default_column]))
        with acquire_reader(self.access, self.ids, self.pin) as reader:
            frame, version = background_loop().run(
                read_with_version(reader, query, self.version is not None)
            )
        place = frame.attrs.get("ngdata", {})
        if self.consistent and version != self.version:
            raise ConsistencyError(
                "the store was written to after to_dask was called and before partition "
                f"{partition.number} of {partition.count} was read (version {self.version}, now "
                f"{version}); call to_dask again, or with consistent=False if partitions may be of "
                "different times"
            )
        # Equal for partitions of the same version, so that pandas keeps it when it joins them.
        frame.attrs["ngdata"] = {"source": "database", "version": version, **place}
        return frame[list(columns)]

    def __repr__(self) -> str:
        return f"<PartitionReader with {self.access}>"


async def read_with_version(
    reader: Reader, query: Query, with_version: bool
) -> tuple[pd.DataFrame, str | None]:
    """Read an answer and, if `with_version`, the version that its snapshot sees."""
    if not with_version:
        answer, _ = await reader.answer(query, "off")
        frame = to_frame(answer.table, answer.columns)
        frame.attrs["ngdata"] = level_and_unit(query, answer.unit, reader.pin)
        return frame, None
    frame, text = await reader.frame_and_version(query, version_sql(query.relations))
    return frame, seen_by(text).version
