"""Shortest paths and their lengths in a graph that is in memory.

A path between two tokens is the one that the server's function `graph.shortest_path` returns: the
same search from both ends, round by round, with the same choice among equals.  So a caller cannot
see which of the two found it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from ngdata._arguments.id_space import UUIDS, IdSpace
from ngdata._arguments.ids import id_text
from ngdata._arguments.texts import STR
from ngdata._query.paths import BACKWARDS
from ngdata.errors import InvalidQueryError

__all__ = ["ConnectedTokens"]

# As in the function `graph.shortest_path`: the least number of labels that a round expands, and the
# part of the queue that it expands if that is more.
_MIN_EXPANDED: Final = 64
_EXPANDED_PART: Final = 4

_ID_BYTES: Final = 16


class _Path(NamedTuple):
    """The tokens of a path, and the connection of each step, as numbers."""

    tokens: list[int]
    connections: list[int]


class _Arcs(NamedTuple):
    """The arcs of a graph by the token that they leave: those of token t are `first[t]:first[t + 1]`.

    Views of memory: an element of one becomes an integer in half the time that NumPy needs.
    """

    first: memoryview
    ends: memoryview
    connections: memoryview
    weights: memoryview


class ConnectedTokens:
    """Tokens and the connections among them, numbered from 0.

    Parameters
    ----------
    rows : pyarrow.Table
        The answer to the query `ngdata._query.paths.arcs`.
    """

    def __init__(self, rows: pa.Table) -> None:
        rows = rows.combine_chunks()
        self._rows = rows
        ends = pa.chunked_array([*rows["source_id"].chunks, *rows["target_id"].chunks], pa.binary())
        numbered = ends.combine_chunks().dictionary_encode()
        numbers = numbered.indices.to_numpy()
        self._sources, self._targets = np.split(numbers, 2)
        self._token_ids = _bytes_of(numbered.dictionary)
        self._connection_ids = _bytes_of(rows["connection_id"])
        self._arcs: dict[str, _Arcs] = {}

    def _number(self, token_id: str) -> int | None:
        """Return the number of a token; None if it has no connections."""
        halves = np.frombuffer(self._token_ids, np.uint64).reshape(-1, 2)
        wanted = np.frombuffer(_id_bytes(token_id), np.uint64)
        places = np.flatnonzero((halves == wanted).all(axis=1))
        return int(places[0]) if len(places) else None

    def _arcs_of(self, direction: str) -> _Arcs:
        """Return the arcs that can be followed in a direction; a bidirectional connection is two."""
        if direction not in self._arcs:
            near, far = self._sources, self._targets
            if direction == "incoming":
                near, far = far, near
            is_two_way = self._rows["bidirectional"].to_numpy() | (direction == "both")
            back = np.flatnonzero(is_two_way & (near != far))
            connections = np.concatenate([np.arange(len(near)), back]).astype(np.int32)
            near, far = np.concatenate([near, far[back]]), np.concatenate([far, near[back]])
            order = np.argsort(near, kind="stable")
            count = len(self._token_ids) // _ID_BYTES
            first = np.concatenate([[0], np.cumsum(np.bincount(near, minlength=count))])
            weights = self._rows["weight"].to_numpy()[connections[order]]
            self._arcs[direction] = _Arcs(
                first.data, far[order].data, connections[order].data, weights.data
            )
        return self._arcs[direction]

    def _token_id(self, token: int) -> bytes:
        return self._token_ids[_ID_BYTES * token : _ID_BYTES * (token + 1)]

    def _connection_id(self, connection: int) -> bytes:
        return self._connection_ids[_ID_BYTES * connection : _ID_BYTES * (connection + 1)]

    def _frame(self, path: _Path, ids: IdSpace) -> pd.DataFrame:
        rows = self._rows.select(["connection_id", "connection_type", "weight"])
        rows = rows.take(pa.array(path.connections, pa.int64()))
        tokens = _text(self._raw_token_ids[path.tokens].tobytes())
        dtype: Any = STR
        return pd.DataFrame(
            {
                "step": np.arange(1, len(path.tokens), dtype=np.int32),
                "source_id": ids.column(tokens[:-1]),
                "target_id": ids.column(tokens[1:].reset_index(drop=True)),
                "connection_id": _text(_bytes_of(rows["connection_id"])),
                "connection_type": dtype.__from_arrow__(rows["connection_type"]),
                "weight": rows["weight"].to_numpy(),
            }
        )

    @property
    def _raw_token_ids(self) -> np.ndarray[Any, Any]:
        return np.frombuffer(self._token_ids, np.uint8).reshape(-1, _ID_BYTES)

    # --- paths ----------------------------------------------------------------------------------------

    def shortest_path(
        self,
        source: str,
        target: str,
        direction: str,
        weighted: bool,
        max_depth: int | None,
        ids: IdSpace = UUIDS,
    ) -> pd.DataFrame | None:
        """Return the path between two different tokens, as the server returns it; None without one."""
        ends = self._number(source), self._number(target)
        if ends[0] is None or ends[1] is None:
            return None
        limit = math.inf if max_depth is None else max_depth
        path = self._by_steps(ends[0], ends[1], direction, limit)
        if path is not None and weighted:
            path = self._by_weight(ends[0], ends[1], direction, max_depth, path)
        return None if path is None else self._frame(path, ids)

    def _sides(self, direction: str) -> tuple[_Arcs, _Arcs]:
        """Return the arcs to follow from the source, and from the target."""
        return self._arcs_of(direction), self._arcs_of(BACKWARDS[direction])

    def _by_steps(self, source: int, target: int, direction: str, max_depth: float) -> _Path | None:
        """Return a path of the fewest steps: the smaller frontier goes on until the two sides meet.

        Of several ways to a token, the first is along the connection of the least id, and of several
        tokens at which the sides meet, it is that of the least id.
        """
        sides = self._sides(direction)
        # For each token, the one it was reached from, and the connection.
        reached: tuple[dict[int, tuple[int, int]], ...] = ({source: (-1, -1)}, {target: (-1, -1)})
        frontiers = [[source], [target]]
        depth = 0
        while frontiers[0] and frontiers[1] and depth < max_depth:
            depth += 1
            side = 0 if len(frontiers[0]) <= len(frontiers[1]) else 1
            first, ends, connections, _ = sides[side]
            known, others = reached[side], reached[1 - side]
            fresh: dict[int, tuple[int, int]] = {}
            for near in frontiers[side]:
                for place in range(first[near], first[near + 1]):
                    far = ends[place]
                    if far in known:
                        continue
                    connection = connections[place]
                    if far in fresh and not self._is_before(connection, fresh[far][1]):
                        continue
                    fresh[far] = near, connection
            known.update(fresh)
            frontiers[side] = list(fresh)
            meetings = [token for token in fresh if token in others]
            if meetings:
                meeting = min(meetings, key=self._token_id)
                return _joined(_way(reached[0], meeting), _way(reached[1], meeting))
        return None

    def _is_before(self, connection: int, other: int) -> bool:
        return self._connection_id(connection) < self._connection_id(other)

    def _by_weight(
        self, source: int, target: int, direction: str, max_depth: int | None, shortest: _Path
    ) -> _Path:
        """Return the path of the least weight; at first, the best one known is that of fewest steps."""
        weights = self._rows["weight"].to_numpy()
        best = 0.0
        for connection in shortest.connections:
            best += float(weights[connection])
        sides = [_Side(arcs) for arcs in self._sides(direction)]
        sides[0].add(source, -1, -1, 0.0, 0)
        sides[1].add(target, -1, -1, 0.0, 0)
        met: list[int] | None = None
        while (
            sides[0].queue and sides[1].queue and sides[0].least_cost + sides[1].least_cost < best
        ):
            this = 0 if len(sides[0].queue) <= len(sides[1].queue) else 1
            side, other = sides[this], sides[1 - this]
            expanded = max(_MIN_EXPANDED, len(side.queue) // _EXPANDED_PART)
            fresh = self._expanded(side, side.queue[:expanded], max_depth, best)
            rest, known = side.queue[expanded:], len(side.tokens)
            for (far, steps), (cost, origin, connection) in fresh:
                label = len(side.tokens)
                side.add(far, origin, connection, cost, steps)
                for place in other.labels.get(far, ()):
                    total = cost + other.costs[place]
                    is_short = max_depth is None or steps + other.steps[place] <= max_depth
                    # The labels are in the order in which the server takes the first of equals.
                    if total < best and is_short:
                        best, met = total, [label, place]
                        if this:
                            met.reverse()
            costs, other_cost = side.costs, other.least_cost
            side.queue = sorted(
                (
                    label
                    for label in (*rest, *range(known, len(side.tokens)))
                    if costs[label] + other_cost < best
                ),
                key=costs.__getitem__,
            )
        if met is None:
            return shortest
        return _joined(sides[0].way(met[0]), sides[1].way(met[1]))

    def _expanded(
        self, side: _Side, labels: list[int], max_depth: int | None, best: float
    ) -> list[tuple[tuple[int, int], tuple[float, int, int]]]:
        """Return the labels that follow some: token and steps, and cost, origin and connection.

        For each token and number of steps it is the cheapest one, if no other makes it redundant; in the
        order of token ids and steps.
        """
        first, ends, connections, weights = side.arcs
        reached: dict[tuple[int, int], tuple[float, int, int]] = {}
        for label in labels:
            near, near_cost = side.tokens[label], side.costs[label]
            steps = 0 if max_depth is None else side.steps[label] + 1
            if max_depth is not None and steps > max_depth:
                continue
            for place in range(first[near], first[near + 1]):
                cost = near_cost + weights[place]
                if not cost < best:
                    continue
                key, connection = (ends[place], steps), connections[place]
                known = reached.get(key)
                if known is not None and cost >= known[0]:
                    if cost > known[0]:
                        continue
                    ways = ((connection, label), (known[2], known[1]))
                    this, other = ((self._connection_id(via), origin) for via, origin in ways)
                    if this > other:
                        continue
                reached[key] = cost, label, connection
        fresh = [item for item in reached.items() if not side.has_better(*item[0], item[1][0])]
        if len(fresh) > 1:
            fresh.sort(key=lambda item: (self._token_id(item[0][0]), item[0][1]))
        return fresh

    # --- lengths --------------------------------------------------------------------------------------

    def lengths(
        self,
        source: str,
        targets: Iterable[str] | None,
        direction: str,
        weighted: bool,
        max_depth: int | None,
    ) -> pd.DataFrame:
        """Return the tokens that are reached, canonical text, and the lengths of the paths there."""
        start = self._number(source)
        wanted = None if targets is None else {*targets}
        arcs = self._arcs_of(direction)
        reached: dict[int, Any]
        if start is None:
            reached = {}
        elif not weighted:
            reached = _steps(arcs, start, max_depth)
        elif max_depth is None:
            reached = _costs(arcs, start)
        else:
            reached = _costs_within(arcs, start, max_depth)
        tokens = np.fromiter(reached, np.int64, len(reached))
        ids, lengths = self._raw_token_ids[tokens].tobytes(), [*reached.values()]
        if start is None:
            ids, lengths = _id_bytes(source), [0]
        dtype = np.float64 if weighted else np.int64
        frame = pd.DataFrame({"token_id": _text(ids), "length": np.array(lengths, dtype)})
        if wanted is not None:
            frame = frame[frame.token_id.isin(wanted)]
        return frame.sort_values(["length", "token_id"], ignore_index=True)


@dataclass
class _Side:
    """One side of the search by weight: its labels, in their order, and its queue.

    A label is a token, the cost and the steps of a path to it, and the label that it was reached
    from, with the connection.  Labels that a cheaper one of the same token follows do no harm.
    """

    arcs: _Arcs
    tokens: list[int] = field(default_factory=list)
    origins: list[int] = field(default_factory=list)
    connections: list[int] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    labels: dict[int, list[int]] = field(default_factory=dict)
    queue: list[int] = field(default_factory=lambda: [0])

    def add(self, token: int, origin: int, connection: int, cost: float, steps: int) -> None:
        """Add a label."""
        self.labels.setdefault(token, []).append(len(self.tokens))
        self.tokens.append(token)
        self.origins.append(origin)
        self.connections.append(connection)
        self.costs.append(cost)
        self.steps.append(steps)

    def has_better(self, token: int, steps: int, cost: float) -> bool:
        """Return whether a label of a token is neither more expensive nor longer."""
        for label in self.labels.get(token, ()):
            if self.costs[label] <= cost and self.steps[label] <= steps:
                return True
        return False

    @property
    def least_cost(self) -> float:
        return self.costs[self.queue[0]]

    def way(self, label: int) -> tuple[list[int], list[int]]:
        """Return the tokens and connections from a label back to the first one."""
        tokens, connections = [self.tokens[label]], []
        while self.origins[label] >= 0:
            connections.append(self.connections[label])
            label = self.origins[label]
            tokens.append(self.tokens[label])
        return tokens, connections


def _joined(ahead: tuple[list[int], list[int]], behind: tuple[list[int], list[int]]) -> _Path:
    """Return the path that two ways from where the sides meet back to both ends make."""
    return _Path([*ahead[0][::-1], *behind[0][1:]], [*ahead[1][::-1], *behind[1]])


def _way(reached: dict[int, tuple[int, int]], token: int) -> tuple[list[int], list[int]]:
    """Return the tokens and connections from a token back to the first one."""
    tokens, connections = [token], []
    while (step := reached[token])[0] >= 0:
        token, connection = step
        tokens.append(token)
        connections.append(connection)
    return tokens, connections


def _steps(arcs: _Arcs, start: int, max_depth: int | None) -> dict[int, int]:
    """Return the least number of steps to each token that is reached."""
    steps, frontier, depth = {start: 0}, [start], 0
    while frontier and (max_depth is None or depth < max_depth):
        depth += 1
        fresh = []
        for near in frontier:
            for far in arcs.ends[arcs.first[near] : arcs.first[near + 1]]:
                if far not in steps:
                    steps[far] = depth
                    fresh.append(far)
        frontier = fresh
    return steps


def _beyond_float64() -> InvalidQueryError:
    return InvalidQueryError(
        "weighted=True adds up weights, and those of a path exceed the largest float64, 1.8e308; "
        "choose connections by connection_type=, or write smaller weights"
    )


def _costs(arcs: _Arcs, start: int) -> dict[int, float]:
    """Return the least sum of weights to each token that is reached, added from the start on."""
    first, ends, _, weights = arcs
    best, done = {start: 0.0}, {}
    queue = [(0.0, start)]
    while queue:
        cost, near = heapq.heappop(queue)
        if near in done:
            continue
        done[near] = cost
        for place in range(first[near], first[near + 1]):
            far, total = ends[place], cost + weights[place]
            if total < best.get(far, math.inf):
                best[far] = total
                heapq.heappush(queue, (total, far))
            elif total == math.inf:
                raise _beyond_float64()
    return done


def _costs_within(arcs: _Arcs, start: int, max_depth: int) -> dict[int, float]:
    """Return the least sum of weights to each token over paths of at most `max_depth` steps."""
    first, ends, _, weights = arcs
    best, frontier = {start: 0.0}, {start: 0.0}
    for _ in range(max_depth):
        fresh: dict[int, float] = {}
        for near, cost in frontier.items():
            for place in range(first[near], first[near + 1]):
                far, total = ends[place], cost + weights[place]
                if total < fresh.get(far, best.get(far, math.inf)):
                    fresh[far] = total
                elif total == math.inf:
                    raise _beyond_float64()
        if not fresh:
            break
        best.update(fresh)
        frontier = fresh
    return best


def _id_bytes(token_id: str) -> bytes:
    return bytes.fromhex(token_id.replace("-", ""))


def _bytes_of(ids: Any) -> bytes:
    """Return ids of 16 bytes each, a column of Arrow, one after the other."""
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    fixed = ids.cast(pa.binary(_ID_BYTES))
    raw: bytes = fixed.buffers()[1].to_pybytes() if len(fixed) else b""
    return raw[_ID_BYTES * fixed.offset :][: _ID_BYTES * len(fixed)]


def _text(raw: bytes) -> pd.Series[Any]:
    """Return ids of 16 bytes each as canonical text."""
    dtype: Any = STR
    return pd.Series(dtype.__from_arrow__(id_text(np.frombuffer(raw, np.uint8), pa.string())))
