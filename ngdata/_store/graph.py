"""Writes of connections: frames, checked, as rows of `graph.connections` and as changes of them."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from ngdata._arguments.id_space import UUIDS, IdSpace
from ngdata._store.changes import FrameChanges, frame_changes
from ngdata._store.fields import CONNECTIONS
from ngdata._store.input_frames import Extra, Frame, as_dataframe

__all__ = ["RELATION", "ROWS_PER_COPY", "check_changes", "check_frame"]

RELATION: Final = CONNECTIONS.relation

# What one COPY writes in about two seconds.
ROWS_PER_COPY: Final = 100_000

# What reads of connections return beside the columns that can be written, and what those of neighbors
# return beside the columns that can be changed.
_READ_ONLY: Final = frozenset({"created_at"})
_READ_ONLY_OF_NEIGHBORS: Final = _READ_ONLY | {"token_id", "neighbor_id", "direction", "depth"}


def check_frame(frame: Frame, ids: IdSpace = UUIDS, extra: Extra | None = None) -> pa.Table:
    """Return a frame of connections as rows of the table.

    Raises
    ------
    InvalidQueryError, IntegrityError
        The first bad value, with its row.
    """
    connections = as_dataframe(frame, CONNECTIONS.required, CONNECTIONS.optional, _READ_ONLY, extra)
    return pa.table(CONNECTIONS.check_frame(connections, ids))


def check_changes(frame: Frame, ids: IdSpace = UUIDS) -> FrameChanges:
    """Return the changes of a frame of connections.

    Raises
    ------
    InvalidQueryError, IntegrityError
        The first bad value, with its row.
    """
    others = (name for name in CONNECTIONS.optional if name != CONNECTIONS.key)
    optional = (*CONNECTIONS.required, *others)
    connections = as_dataframe(frame, (CONNECTIONS.key,), optional, _READ_ONLY_OF_NEIGHBORS)
    return frame_changes(CONNECTIONS, CONNECTIONS.check_changes(connections, ids))
