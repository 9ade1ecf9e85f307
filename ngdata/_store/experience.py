"""Writes of events, and the start and end of trajectories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import asyncpg
import pyarrow as pa

from ngdata._arguments.ids import Id
from ngdata._store.fields import EVENTS, TRAJECTORIES
from ngdata._store.input_frames import Frame, as_dataframe
from ngdata.errors import IntegrityError, NotFoundError

__all__ = [
    "RELATION",
    "TRAJECTORY_RELATION",
    "check_frame",
    "check_row",
    "check_trajectory",
    "end_trajectory",
]

RELATION: Final = EVENTS.relation
TRAJECTORY_RELATION: Final = TRAJECTORIES.relation


def check_frame(frame: Frame) -> pa.Table:
    """Return a frame of events as rows of the table.

    Raises
    ------
    InvalidQueryError, IntegrityError
        The first bad value, with its row.
    """
    events = as_dataframe(frame, EVENTS.required, EVENTS.optional)
    return pa.table(EVENTS.check_frame(events))


def check_row(values: Mapping[str, Any]) -> pa.Table:
    """Return the arguments of one event as a row of the table.

    Raises
    ------
    InvalidQueryError
        The first bad value.
    """
    return EVENTS.table([EVENTS.check_row(values)])


def check_trajectory(trajectory_id: Id | None, metadata: Mapping[str, Any] | None) -> pa.Table:
    """Return the arguments of a new trajectory as a row of the table.

    Raises
    ------
    InvalidQueryError
        The bad value.
    """
    values = {"trajectory_id": trajectory_id, "metadata": metadata}
    return TRAJECTORIES.table([TRAJECTORIES.check_row(values)])


async def end_trajectory(connection: asyncpg.Connection[Any], trajectory_id: str) -> None:
    """End a trajectory, or raise `NotFoundError` or `IntegrityError`."""
    while True:
        ended = await connection.fetchval(
            f"UPDATE {TRAJECTORY_RELATION} SET ended_at = clock_timestamp()"
            " WHERE id = $1::uuid AND ended_at IS NULL RETURNING id",
            trajectory_id,
        )
        if ended is not None:
            return
        row = await connection.fetchrow(
            f"SELECT ended_at FROM {TRAJECTORY_RELATION} WHERE id = $1::uuid", trajectory_id
        )
        if row is None:
            raise NotFoundError.of("trajectory", [trajectory_id])
        # If it has not ended, another writer started it in the meantime.
        if row["ended_at"] is not None:
            break
    raise IntegrityError(
        f"trajectory {trajectory_id} has ended already, at {row['ended_at']}; start another with "
        "start_trajectory"
    )
