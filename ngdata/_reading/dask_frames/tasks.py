"""What a Dask task does: read one partition, over this process's own connection.

Nothing is remembered from one task to the next; what is to be kept, Dask persists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ngdata._connections.background_loop import background_loop
from ngdata._query.model import Query
from ngdata._query.partitions import Rows
from ngdata._reading.cache.versions import tracked_version_sql, version_of
from ngdata._reading.dask_frames.access import Access
from ngdata._reading.dask_frames.connections import lent_reader
from ngdata._reading.frames import to_frame
from ngdata._reading.reader import Reader
from ngdata.errors import ConsistencyError

__all__ = ["Part", "PartitionReader", "read_with_version"]


@dataclass(frozen=True, slots=True, repr=False)
class Part:
    """One partition: which rows, and which it is, counted from 0, of how many."""

    rows: Rows
    number: int
    of: int

    def __repr__(self) -> str:
        return f"<partition {self.number} of {self.of}>"


@dataclass(frozen=True, repr=False)
class PartitionReader:
    """Reads partitions; Dask calls it.

    Attributes
    ----------
    access : Access
    call : str
        What tells the frames of one `to_dask` from those of another: else Dask would give what it
        has kept of an earlier one.
    version : str or None
        The one that the store had when the frame was made; None where nothing can tell.
    consistent : bool
        Whether every partition must have that version.
    first : str
        A column that there is.
    """

    access: Access
    call: str
    version: str | None
    consistent: bool
    first: str

    def __dask_tokenize__(self) -> str:
        """Name the call; else Dask would pickle all of it to make a name."""
        return self.call

    def __call__(self, part: Part, columns: Sequence[str]) -> pd.DataFrame:
        """Read the columns that are needed of a partition.

        Raises
        ------
        ConsistencyError
            The store was written to since the frame was made.
        """
        # Rows without columns cannot be sent; the first one stands for them.
        query = part.rows.query(list(columns) or [self.first])
        with lent_reader(self.access) as reader:
            frame, version = background_loop().run(
                read_with_version(reader, query, self.version is not None)
            )
        if self.consistent and version != self.version:
            raise ConsistencyError(
                f"the store was written to after to_dask was called, and before partition "
                f"{part.number} of {part.of} was read (version {self.version}, now {version}); call "
                "to_dask again, or with consistent=False if partitions may be of different moments"
            )
        # The same for partitions of the same version, so that pandas keeps it where it joins them.
        frame.attrs["ngdata"] = {"source": "database", "version": version}
        return frame[list(columns)]

    def __repr__(self) -> str:
        return f"<PartitionReader with {self.access}>"


async def read_with_version(
    reader: Reader, query: Query, versioned: bool
) -> tuple[pd.DataFrame, str | None]:
    """Read an answer and the version that it is true by, in one snapshot."""
    if not versioned:
        answer, _ = await reader.answer(query, "off")
        return to_frame(answer.table, query.columns), None
    frame, nonces = await reader.frame_and_nonces(query, tracked_version_sql(*query.relations))
    return frame, version_of(nonces)
