"""Events on their way in: frames to rows of `experience.experience_events`."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from ngdata.store import columns as column
from ngdata.store.incoming import Frame, incoming

__all__ = ["RELATION", "rows"]

RELATION: Final = "experience.experience_events"

_REQUIRED: Final = ("event_type", "timestamp")
_OPTIONAL: Final = (
    "event_id",
    "token_id",
    "state_before",
    "state_after",
    "action",
    "reward",
    "priority",
    "trajectory_id",
    "sequence_number",
    "metadata",
)


def rows(frame: Frame) -> pa.Table:
    """Check a frame of events.

    Raises
    ------
    InvalidQueryError, IntegrityError
        The first bad value, with its row.
    """
    taken = incoming(frame, _REQUIRED, _OPTIONAL)
    columns: dict[str, Any] = {"id": column.keys(taken, "event_id")}
    for name in taken.columns:
        values = taken[name]
        match name:
            case "event_type":
                columns[name] = column.texts(values, name, None)
            case "timestamp":
                columns[name] = column.times(values, name, None)
            case "token_id" | "trajectory_id":
                columns[name] = column.ids(values, name, optional=True)
            case "reward":
                columns[name] = pa.array(column.floats(values, name, 0.0))
            case "priority":
                columns[name] = pa.array(column.floats(values, name), from_pandas=True)
            case "sequence_number":
                columns[name] = column.integers(values, name, None, -(2**63), 2**63 - 1)
            case "state_before" | "state_after" | "action" | "metadata":
                columns[name] = column.dicts(values, name)
    return pa.table(columns)
