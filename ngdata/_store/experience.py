"""Events on their way in, and trajectories that begin and end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import asyncpg
import pyarrow as pa

from ngdata._arguments.ids import Id
from ngdata._store import columns as column
from ngdata._store.input_frames import Frame, incoming, one_row
from ngdata.errors import IntegrityError, NotFoundError

__all__ = ["RELATION", "TRAJECTORIES", "end", "rows", "trajectory"]

RELATION: Final = "experience.experience_events"
TRAJECTORIES: Final = "experience.experience_trajectories"

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


def trajectory(trajectory_id: Id | None, metadata: Mapping[str, Any] | None) -> pa.Table:
    """Check a trajectory that is to begin.

    Raises
    ------
    InvalidQueryError
        The bad value.
    """
    given = one_row({"trajectory_id": trajectory_id, "metadata": metadata})
    return pa.table(
        {
            "id": column.keys(given, "trajectory_id"),
            "metadata": column.dicts(given["metadata"], "metadata"),
        }
    )


async def end(connection: asyncpg.Connection[Any], trajectory_id: str) -> None:
    """End a trajectory, or raise `NotFoundError` or `IntegrityError`."""
    while True:
        ended = await connection.fetchval(
            f"UPDATE {TRAJECTORIES} SET ended_at = clock_timestamp()"
            " WHERE id = $1::uuid AND ended_at IS NULL RETURNING id",
            trajectory_id,
        )
        if ended is not None:
            return
        row = await connection.fetchrow(
            f"SELECT ended_at FROM {TRAJECTORIES} WHERE id = $1::uuid", trajectory_id
        )
        if row is None:
            raise NotFoundError.of("trajectory", [trajectory_id])
        # Else another writer began it in between.
        if row["ended_at"] is not None:
            break
    raise IntegrityError(
        f"trajectory {trajectory_id} has ended already, at {row['ended_at']}; begin another with "
        "start_trajectory"
    )
