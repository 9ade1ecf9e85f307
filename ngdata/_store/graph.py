"""Connections on their way in: frames to rows of `graph.connections`."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from ngdata._store import columns as column
from ngdata._store.input_frames import Frame, incoming

__all__ = ["RELATION", "ROWS_AT_ONCE", "rows"]

RELATION: Final = "graph.connections"

# What one COPY writes in some two seconds.
ROWS_AT_ONCE: Final = 100_000

_REQUIRED: Final = ("source_id", "target_id")
_OPTIONAL: Final = (
    "connection_id",
    "connection_type",
    "weight",
    "decay_rate",
    "bidirectional",
    "metadata",
)


def rows(frame: Frame) -> pa.Table:
    """Check a frame of connections.

    Raises
    ------
    InvalidQueryError, IntegrityError
        The first bad value, with its row.
    """
    taken = incoming(frame, _REQUIRED, _OPTIONAL)
    columns: dict[str, Any] = {"id": column.keys(taken, "connection_id")}
    for name in taken.columns:
        values = taken[name]
        match name:
            case "source_id" | "target_id":
                columns[name] = column.ids(values, name)
            case "connection_type":
                columns[name] = column.texts(values, name, "generic")
            case "weight":
                columns[name] = pa.array(column.floats(values, name, 1.0))
            case "decay_rate":
                columns[name] = pa.array(column.floats(values, name), from_pandas=True)
            case "bidirectional":
                columns[name] = column.booleans(values, name, default=False)
            case "metadata":
                columns[name] = column.dicts(values, name)
    return pa.table(columns)
