"""Writes of connections: frames, checked, as rows of `graph.connections`."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from ngdata._arguments.id_space import UUIDS, IdSpace
from ngdata._store.fields import CONNECTIONS
from ngdata._store.input_frames import Frame, as_dataframe

__all__ = ["RELATION", "ROWS_PER_COPY", "check_frame"]

RELATION: Final = CONNECTIONS.relation

# What one COPY writes in about two seconds.
ROWS_PER_COPY: Final = 100_000


def check_frame(frame: Frame, ids: IdSpace = UUIDS) -> pa.Table:
    """Return a frame of connections as rows of the table.

    Raises
    ------
    InvalidQueryError, IntegrityError
        The first bad value, with its row.
    """
    connections = as_dataframe(frame, CONNECTIONS.required, CONNECTIONS.optional)
    return pa.table(CONNECTIONS.check_frame(connections, ids))
