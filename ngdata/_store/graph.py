"""Writes of connections: frames, checked, as rows of `graph.connections` and as changes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from ngdata._arguments.id_space import UUIDS, IdSpace
from ngdata._query import literals as sql
from ngdata._query.filters import any_of
from ngdata._store.changes import FrameChanges, frame_changes
from ngdata._store.fields import CONNECTIONS
from ngdata._store.input_frames import Extra, Frame, as_dataframe

__all__ = ["RELATION", "ROWS_PER_COPY", "check_changes", "check_frame", "conditions"]

RELATION: Final = CONNECTIONS.relation

# What one COPY writes in about two seconds.
ROWS_PER_COPY: Final = 100_000

# What reads of connections return beside the columns that can be written.
_READ_ONLY: Final = frozenset({"created_at"})

# What frames of connections and of neighbors have beside the columns that can be changed.
_DERIVED: Final = frozenset({"token_id", "neighbor_id", "direction", "depth", "created_at"})


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
    connections = as_dataframe(frame, (CONNECTIONS.key,), optional, _DERIVED)
    return frame_changes(CONNECTIONS, CONNECTIONS.check_changes(connections, ids))


def conditions(
    source: Sequence[str] | None,
    target: Sequence[str] | None,
    connection_type: str | Sequence[str] | None,
) -> list[str]:
    """Write the conditions of connections between any of these tokens, of any of these types."""
    ends = {"source_id": source, "target_id": target}
    return any_of("connection_type", connection_type) + [
        f"{column} = ANY ({sql.uuid_array(ids)})" for column, ids in ends.items() if ids is not None
    ]
