"""What was written since an answer was read, as the log in the database has it.

The log has a row for each statement that wrote something.  An answer's snapshot tells which of these
it does not see: those of transactions that were open then, or had not begun.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np
import pyarrow as pa

from ngdata._connections.arrow_session import ArrowSession, joined
from ngdata._query import literals as sql
from ngdata._query.attributes import TOKENS
from ngdata._query.edges import CONNECTIONS
from ngdata._query.events import EVENTS
from ngdata._query.footprints import Footprint
from ngdata._query.model import Query
from ngdata._query.places import SPATIAL_INDEX, Place
from ngdata._reading.answer import Answer
from ngdata.regions.algebra import EVERYWHERE
from ngdata.regions.corners import Corners
from ngdata.regions.shapes import Sphere

__all__ = ["LOG", "Boxes", "Changes", "Seen", "TransactionSnapshot", "changes_sql"]

LOG: Final = ("tokens.changes", "tokens.changes_edge")
"""The tables of the log."""

# More statements take longer to compare than an answer to read.
_MAX_STATEMENTS: Final = 5000

_MAX_IDS: Final = 100_000

# Of these relations, the log tells what was touched; of others, only that something was.
_TOLD_APART: Final = (TOKENS, CONNECTIONS, EVENTS)


@dataclass(frozen=True, slots=True)
class TransactionSnapshot:
    """Which transactions a snapshot sees: those below `end`, but the `open` ones."""

    end: int
    open: tuple[int, ...]

    @classmethod
    def of(cls, text: str | None) -> Self | None:
        """Return what the server writes as a text; None if it is none."""
        parts = ("" if text is None else text).split(":")
        if len(parts) != 3:
            return None
        _, end, are_open = parts
        try:
            return cls(int(end), tuple(int(each) for each in are_open.split(",") if each))
        except ValueError:
            return None

    def sees(self, transaction: int) -> bool:
        """Return whether it sees what a transaction wrote."""
        return transaction < self.end and transaction not in self.open

    def is_covered(self, complete_from: int, pruned: TransactionSnapshot) -> bool:
        """Return whether a log has all that this snapshot does not see.

        What begins at `complete_from` is there; earlier transactions are if they were still open at
        the last pruning.
        """
        return complete_from <= self.end and not any(
            each < complete_from and pruned.sees(each) for each in self.open
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """What one row of `changes_sql` says.

    Attributes
    ----------
    version : str or None
        The text that the statement for the version returns.
    edge : str or None
        From where the log is complete, and the snapshot of the last pruning.
    in_doubt : bool
        Whether the spatial index may have tokens elsewhere than the log says.
    statements : int
        How many statements were logged since; not all are counted.
    is_everything : bool
        Whether one of them may have touched anything.
    tokens, connections, events : bool
        Whether one of them touched rows of these.
    """

    version: str | None
    edge: str | None
    in_doubt: bool
    statements: int
    is_everything: bool
    tokens: bool
    connections: bool
    events: bool

    def is_known(self, since: TransactionSnapshot, relations: Sequence[str]) -> bool:
        """Return whether the log tells all that was touched, and soon enough."""
        if self.edge is None or (self.in_doubt and SPATIAL_INDEX in relations):
            return False
        complete_from, _, text = self.edge.partition(" ")
        pruned = TransactionSnapshot.of(text)
        return (
            pruned is not None
            and since.is_covered(int(complete_from), pruned)
            and self.statements <= _MAX_STATEMENTS
            and not self.is_everything
        )


def changes_sql(since: TransactionSnapshot, relations: Sequence[str], version: str) -> str:
    """Write the statement of `Seen`; `version` is the one for the version."""
    told = sql.text_array(_TOLD_APART)
    everything = (
        f"relation <> ALL ({told}) OR CASE relation WHEN {sql.text(TOKENS)} THEN x IS NULL"
        f" WHEN {sql.text(CONNECTIONS)} THEN ids IS NULL ELSE first_time IS NULL END"
    )
    touched = ", ".join(
        f"coalesce(bool_or(relation = {sql.text(relation)}), false)" for relation in _TOLD_APART
    )
    edge = (
        "SELECT CASE WHEN count(*) FILTER (WHERE NOT is_doubt) = 1 THEN concat_ws(' ',"
        " max(complete_from) FILTER (WHERE NOT is_doubt), max(snapshot) FILTER (WHERE NOT is_doubt))"
        " END AS edge, coalesce(bool_or(is_doubt), false) AS in_doubt FROM tokens.changes_edge"
    )
    return (
        f"SELECT ({version}), edge, in_doubt, statements, is_everything, tokens, connections, events"
        f" FROM ({edge}) AS e, (SELECT count(*) AS statements,"
        f" coalesce(bool_or({everything}), false) AS is_everything, {touched}"
        f" FROM ({_unseen(since, relations)} LIMIT {_MAX_STATEMENTS + 1}) AS u)"
        " AS u (statements, is_everything, tokens, connections, events)"
    )


def _unseen(since: TransactionSnapshot, relations: Sequence[str]) -> str:
    """Write the rows of the log of these relations that a snapshot does not see."""
    watched = {*relations, *((TOKENS,) if SPATIAL_INDEX in relations else ())}
    are_open = ", ".join(map(str, since.open))
    opened = f" OR xid = ANY ('{{{are_open}}}'::bigint[])" if since.open else ""
    return (
        f"SELECT * FROM tokens.changes WHERE (xid >= {since.end}{opened})"
        f" AND relation = ANY ({sql.text_array(sorted(watched))})"
    )


class Boxes(NamedTuple):
    """Where tokens were written.

    Attributes
    ----------
    corners : array of shape (n, 6)
        Of each box the low and the high one; a point is a box without extent.
    ids : list of str or None
        Of each point the token that was or is there; None for a box around many.
    """

    corners: np.ndarray
    ids: list[str | None]


@dataclass(frozen=True, slots=True)
class Changes:
    """What was logged since an answer was read, looked at in the transaction of `session`.

    Attributes
    ----------
    session : ArrowSession
    seen : Seen
    since : TransactionSnapshot
        That of the answer.
    query : Query
    answer : Answer
    """

    session: ArrowSession
    seen: Seen
    since: TransactionSnapshot
    query: Query
    answer: Answer

    def touch_elsewhere(self) -> bool:
        """Return whether anything but the places of tokens touches the answer."""
        footprint = self.query.footprint
        return (
            (self.seen.tokens and self._touch_tokens(footprint))
            or (self.seen.connections and self._touch_connections(footprint))
            or (self.seen.events and self._touch_events(footprint))
        )

    def _touch_tokens(self, footprint: Footprint) -> bool:
        if footprint.token_ids is not None:
            return self._touch_ids(TOKENS, footprint.token_ids, footprint.tokens_in)
        return self.place() is None

    def _touch_connections(self, footprint: Footprint) -> bool:
        if footprint.ends is None:
            return True
        return self._touch_ids(CONNECTIONS, footprint.ends, footprint.ends_in)

    def _touch_ids(self, relation: str, ids: Collection[str], column: str | None) -> bool:
        if column is not None and self.query.id_space is not None:
            return True
        rows = self._rows(
            f"SELECT DISTINCT i.id::text AS id FROM ({_unseen(self.since, [relation])}) AS c"
            f" LEFT JOIN LATERAL unnest(c.ids) AS i (id) ON true LIMIT {_MAX_IDS + 1}"
        )
        touched = set(rows["id"].to_pylist())
        if len(touched) > _MAX_IDS or None in touched or not touched.isdisjoint(ids):
            return True
        return column is not None and not touched.isdisjoint(self.answer.table[column].to_pylist())

    def _touch_events(self, footprint: Footprint) -> bool:
        if footprint.times is None:
            return True
        start, end = footprint.times
        conditions = [
            *([] if start is None else [f"last_time >= {sql.timestamptz(start)}"]),
            *([] if end is None else [f"first_time < {sql.timestamptz(end)}"]),
        ]
        if footprint.event_tokens is not None:
            conditions.append(f"(ids && {sql.uuid_array(footprint.event_tokens)}) IS NOT FALSE")
        where = "".join(f" AND {condition}" for condition in conditions)
        (is_touched,) = self.session.row(f"SELECT EXISTS ({_unseen(self.since, [EVENTS])}{where})")
        return bool(is_touched)

    def place(self) -> tuple[int, Corners | None] | None:
        """Return the level and the box outside of which no token changes the answer.

        Return None if it is not known where they do.
        """
        footprint = self.query.footprint
        if footprint.place is not None:
            return footprint.place.level, footprint.place.corners
        nearest, table = footprint.nearest, self.answer.table
        if nearest is None:
            return None
        place = Place(EVERYWHERE, nearest.level)
        if table.num_rows == nearest.k and "distance" in table.column_names:
            place = Place(Sphere(nearest.point, table["distance"][-1].as_py()), nearest.level)
        return place.level, place.corners

    def boxes(self, most: int) -> Boxes:
        """Return the touched boxes where the answer is, at most `most` and one more."""
        place = self.place()
        level, around = (0, None) if place is None else place
        if around is None or not self.seen.tokens:
            return Boxes(np.empty((0, 6)), [])
        low, high = _rounded_outwards(around)
        column = level + 1
        slices = ", ".join(f"c.{axis}[:][{column}:{column}]" for axis in "xyz")
        inside = " AND ".join(
            f"p.{axis} BETWEEN {sql.float8(a)} AND {sql.float8(b)}"
            for axis, a, b in zip("xyz", low, high, strict=True)
        )
        ends = ", ".join(f"c.{axis}[{end}][{column}]" for end in (1, 2) for axis in "xyz")
        meets = " AND ".join(
            f"c.{axis}[1][{column}] <= {sql.float8(b)} AND c.{axis}[2][{column}] >= {sql.float8(a)}"
            for axis, a, b in zip("xyz", low, high, strict=True)
        )
        unseen = _unseen(self.since, [TOKENS])
        table = self._rows(
            "SELECT DISTINCT * FROM (SELECT p.x, p.y, p.z, p.x AS x2, p.y AS y2, p.z AS z2,"
            f" p.id::text AS id FROM ({unseen}) AS c"
            f" CROSS JOIN LATERAL unnest({slices}, c.ids) AS p (x, y, z, id)"
            f" WHERE NOT c.is_extent AND {inside}"
            f" UNION ALL SELECT {ends}, NULL FROM ({unseen}) AS c WHERE c.is_extent AND {meets}) AS b"
            f" LIMIT {most + 1}"
        )
        corners = np.column_stack([column.to_numpy() for column in table.columns[:6]])
        return Boxes(corners, table["id"].to_pylist())

    def _rows(self, statement: str) -> pa.Table:
        return joined(self.session.batches(statement, copy=False))


def _rounded_outwards(corners: Corners) -> tuple[list[float], list[float]]:
    """Return the corners in float32, as wide as the spatial index finds them."""
    with np.errstate(over="ignore"):
        low, high = (np.array(corner).astype(np.float32) for corner in corners)
        low, high = np.nextafter(low, np.float32(-np.inf)), np.nextafter(high, np.float32(np.inf))
    return low.astype(float).tolist(), high.astype(float).tolist()
