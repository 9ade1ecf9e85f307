"""An answer of an earlier version, brought up to date: confirmed if no write touched it, or mended.

All is read in one transaction and snapshot: the version now, what was written since the answer was
read, and the rows that replace others.  The way to do without is always a read of the whole answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from ngdata._connections.arrow_session import ArrowSession, Snapshot
from ngdata._query.model import FEW_ROWS, Query
from ngdata._reading import clock
from ngdata._reading.answer import Answer
from ngdata._reading.cache.change_log import LOG, Changes, Seen, TransactionSnapshot, changes_sql
from ngdata._reading.cache.mending import can_be_mended, max_boxes, mended
from ngdata._reading.cache.versions import Last, same_structure, seen_since, version_since_sql

__all__ = ["UpToDate", "bring_up_to_date", "is_read_quickly", "may_outlive"]

# The log has an index, which the planner would not use while it has no statistics of the log.
_SETTINGS: Final = ("SET LOCAL jit = off", "SET LOCAL enable_seqscan = off")


@dataclass(frozen=True, slots=True)
class UpToDate:
    """An answer that is up to date again.

    Attributes
    ----------
    answer : Answer
    how : str
        Whether no write touched it, or some of its rows were read anew.
    rows : int
        The number of rows read anew.
    last : Last or None
        The snapshot that was read in, and its version.
    """

    answer: Answer
    how: Literal["outlived", "mended"]
    rows: int
    last: Last | None


def is_read_quickly(query: Query, answer: Answer) -> bool:
    """Return whether the database answers in no more time than the log takes to read."""
    return query.is_lookup or (query.region is not None and answer.table.num_rows < FEW_ROWS)


def may_outlive(query: Query, answer: Answer, version: str) -> bool:
    """Return whether an answer may be right at a version that is not its own, and is worth a look."""
    return (
        answer.snapshot is not None
        and same_structure(answer.version, version)
        and not is_read_quickly(query, answer)
    )


def bring_up_to_date(
    session: ArrowSession, query: Query, answer: Answer, identity: str
) -> UpToDate | None:
    """Return an answer as it is now; None if it is not known, or better read again.

    Parameters
    ----------
    session : ArrowSession
    query : Query
    answer : Answer
        Its answer at an earlier version.
    identity : str
        That of the reader who the answer was read by.
    """
    since = TransactionSnapshot.of(answer.snapshot)
    if since is None:
        return None
    read_at = clock.now()
    relations = query.relations
    with session.transaction(Snapshot((*relations, *LOG), settings=_SETTINGS)):
        row = session.row(changes_sql(since, relations, version_since_sql(relations, None)))
        seen = Seen(*row)
        now, last = seen_since(seen.version, None)
        if (
            now.identity != identity
            or now.version is None
            or last is None
            or not same_structure(answer.version, now.version)
            or not seen.is_known(since, relations)
        ):
            return None
        changes = Changes(session, seen, since, query, answer)
        if changes.touch_elsewhere():
            return None
        is_mendable = can_be_mended(query, answer)
        most = max_boxes(answer) if is_mendable else 0
        boxes = changes.boxes(most)
        if not boxes.ids:
            confirmed = answer.confirmed(now.version, last.snapshot, read_at)
            return UpToDate(confirmed, "outlived", 0, last)
        if not is_mendable or len(boxes.ids) > most:
            return None
        result = mended(session, query, answer.table, boxes)
    if result is None:
        return None
    table, rows = result
    new = Answer(table, answer.columns, now.version, read_at, answer.unit, last.snapshot)
    return UpToDate(new, "mended", rows, last)
