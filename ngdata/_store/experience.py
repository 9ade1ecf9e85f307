"""Writes of events, and the start and end of trajectories."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from ngdata._arguments.id_space import UUIDS, IdSpace
from ngdata._connections.write_connection import WriteConnection
from ngdata._query import trajectories
from ngdata._query.model import Kind, select_list
from ngdata._store.fields import EVENTS, TRAJECTORIES
from ngdata._store.input_frames import Extra, Frame, as_dataframe
from ngdata.errors import IntegrityError, NotFoundError

__all__ = [
    "RELATION",
    "TRAJECTORY_RELATION",
    "check_frame",
    "end_trajectory",
]

RELATION: Final = EVENTS.relation
TRAJECTORY_RELATION: Final = TRAJECTORIES.relation

# What reads of events return beside the columns that can be written.
_READ_ONLY: Final = frozenset({"cumulative_reward", "offset", "created_at"})


def check_frame(frame: Frame, ids: IdSpace = UUIDS, extra: Extra | None = None) -> pa.Table:
    """Return a frame of events as rows of the table.

    Raises
    ------
    InvalidQueryError, IntegrityError
        The first bad value, with its row.
    """
    events = as_dataframe(frame, EVENTS.required, EVENTS.optional, _READ_ONLY, extra)
    return pa.table(EVENTS.check_frame(events, ids))


# How each kind of column is returned by a write, and its type in Arrow.  Casts keep the prepared
# statement valid if a column's type changes.  Times are microseconds, because asyncpg cannot read
# years after 9999, which other programs may write.
_RETURNED: Final = {
    Kind.TEXT: ("{}", pa.string()),
    Kind.JSON: ("{}", pa.string()),
    Kind.INTEGER: ("{}::int8", pa.int64()),
    Kind.FLOAT: ("{}::float8", pa.float64()),
    Kind.TIME: ("(extract(epoch FROM {}) * 1000000)::int8", pa.timestamp("us", tz="UTC")),
}

_ENDED: Final = {
    column: _RETURNED[column.kind][0].format(expression)
    for column, expression in trajectories.COLUMNS.items()
}

_END: Final = (
    f"UPDATE {TRAJECTORY_RELATION} AS t SET ended_at = clock_timestamp()"
    f" WHERE t.id = $1::text::uuid AND t.ended_at IS NULL RETURNING {select_list(_ENDED)}"
)


async def end_trajectory(connection: WriteConnection, trajectory_id: str) -> pa.Table:
    """End a trajectory, or raise `NotFoundError` or `IntegrityError`.

    Returns
    -------
    pyarrow.Table
        Its row, with the columns of a list of trajectories.
    """
    while True:
        statement = await connection.prepare(_END)
        ended = await statement.fetchrow(trajectory_id)
        if ended is not None:
            types = {column.name: _RETURNED[column.kind][1] for column in _ENDED}
            return pa.table({name: pa.array([ended[name]], types[name]) for name in types})
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
