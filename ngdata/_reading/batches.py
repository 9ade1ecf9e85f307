"""Batches of searches: by one statement on the server, or in a tree of all tokens that matter, here.

Both ways return the same rows, bit for bit; the costs in `ngdata._reading.batch_costs` decide.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ngdata._arguments.id_space import IdSpace
from ngdata._arguments.optional_imports import import_optional
from ngdata._connections.threads import in_daemon_thread
from ngdata._query.batches import ORIGIN, PairSearch, Search
from ngdata._query.filters import TokenFilter
from ngdata._query.model import Column, Kind, Query, Region
from ngdata._query.tokens import by_id
from ngdata._reading.answer import Answer
from ngdata._reading.batch_costs import (
    FEW_POINTS,
    FEW_ROWS,
    MOST_ROWS_PROBED,
    MOST_TOKENS,
    Batch,
    milliseconds_here,
    milliseconds_of_server,
)
from ngdata._reading.derived import Derived
from ngdata._reading.reader import CacheMode, MaxRows, Reader, described
from ngdata._reading.region_sizes import LevelSize
from ngdata._reading.trees import TokenTree
from ngdata._reading.units import level_and_unit
from ngdata.errors import ConfigError, ResultTooLarge

__all__ = ["HERE", "SERVER", "read_batch", "read_pairs"]

SERVER: Final = "server"
HERE: Final = "client tree"

Source: TypeAlias = tuple[Answer, str]

# The points of a batch that are tried out for the number of rows of each.
_PROBED: Final = 3

# Tests set it to one of the two ways, for all batches.
forced_way: str | None = None

# The trees of answers that are kept in memory, each as long as its answer.
_trees: Final = Derived(TokenTree)


async def read_batch(
    reader: Reader, search: Search, cache: CacheMode | None, max_rows: MaxRows
) -> pd.DataFrame:
    """Read the answer to a search, with the positions of its points in the first column.

    Its ``attrs["ngdata"]["way"]`` say how it was made.
    """
    started = time.perf_counter()
    reader.check_size(0, max_rows)
    tokens = await _unless_foreign(_tokens_of_batch(reader, search, cache))
    if tokens is None:
        return await _from_server(reader, search.query, cache, max_rows)
    answer, source = tokens
    prepared = await in_daemon_thread(lambda: _Prepared.of(search, answer, reader.ids))
    if prepared.absent:
        # Undefined on this level, or not in the store at all, which is an error.
        await reader.frame(by_id(prepared.absent, ["token_id"]), cache, None)
    fits = functools.partial(_check_size, reader, max_rows)
    result = await in_daemon_thread(lambda: prepared.answer(fits))
    return await _frame(reader, search, result, source, started)


async def read_pairs(
    reader: Reader, search: PairSearch, cache: CacheMode | None, max_rows: MaxRows
) -> pd.DataFrame:
    """Read the answer to a search of pairs; its ``attrs["ngdata"]["way"]`` say how it was made."""
    started = time.perf_counter()
    reader.check_size(0, max_rows)
    tokens = await _unless_foreign(_tokens_of_pairs(reader, search, cache))
    if tokens is None:
        return await _from_server(reader, search.query, cache, max_rows)
    answer, source = tokens
    fits = functools.partial(_check_size, reader, max_rows)
    result = await in_daemon_thread(lambda: _pairs(search, answer, fits))
    return await _frame(reader, search, result, source, started)


async def _unless_foreign(tokens: Awaitable[Source | None]) -> Source | None:
    """Return tokens, or None if one of them has no id of the client's space.

    The answer may not have that token: the server, which sends only the answer, decides.
    """
    try:
        return await tokens
    except ConfigError:
        return None


async def _from_server(
    reader: Reader, query: Query, cache: CacheMode | None, max_rows: MaxRows
) -> pd.DataFrame:
    frame = await reader.frame(query, cache, max_rows)
    frame.attrs["ngdata"]["way"] = SERVER
    return frame


async def _frame(
    reader: Reader, search: Search | PairSearch, result: Answer, source: str, started: float
) -> pd.DataFrame:
    """Return the frame of an answer that was made here."""
    await reader.warn_if_empty(result, search.asked)
    frame = await in_daemon_thread(result.frame)
    place = level_and_unit(search.candidates, result.unit, reader.pin)
    described(frame, source, result.version or None, started, place)
    frame.attrs["ngdata"]["way"] = HERE
    return frame


def _check_size(reader: Reader, max_rows: MaxRows, most: int, count: Callable[[], int]) -> None:
    """Raise if an answer will be too large; its rows are counted only if they may be too many."""
    try:
        reader.check_size(most, max_rows)
    except ResultTooLarge:
        reader.check_size(count(), max_rows)


# --- the way -----------------------------------------------------------------------------------------


async def _tokens_of_batch(
    reader: Reader, search: Search, cache: CacheMode | None
) -> Source | None:
    """Return the tokens to search in, with where they came from; None if the server should search."""
    points = len(search.origins)
    if not points or search.has_attributes or forced_way == SERVER:
        return None
    query = search.candidates
    if forced_way == HERE:
        return await reader.answer(query, cache)
    is_small = points <= FEW_POINTS and points * (search.k or 1) <= FEW_ROWS
    if is_small or not await _has_scipy():
        return None
    assert query.region is not None
    region = Region(query.region.place, search.where)
    probe = None if search.radii is None else search.probe(_PROBED, MOST_ROWS_PROBED)
    size = await reader.level_size(region, is_whole=search.is_of_whole_level, probe=probe)
    per_point = float(search.k or 0)
    if size.probed:
        rows, probed = size.probed
        in_sphere = rows / max(probed, 1)
        per_point = in_sphere if search.k is None else min(in_sphere, per_point)
    batch = Batch(points, per_point, len(query.columns), search.k is None)
    read = size.level_rows if search.filters_here else size.region_rows
    return await _tokens(reader, query, batch, size, read, cache)


async def _tokens_of_pairs(
    reader: Reader, search: PairSearch, cache: CacheMode | None
) -> Source | None:
    if forced_way == SERVER:
        return None
    if forced_way == HERE:
        return await reader.answer(search.candidates, cache)
    if not await _has_scipy():
        return None
    size = await reader.level_size(search.region, is_whole=search.is_of_whole_level)
    read = size.region_rows * (2 if search.is_ordered else 1)
    batch = Batch(int(size.region_rows), 1.0, len(search.candidates.columns), True)
    return await _tokens(reader, search.candidates, batch, size, read, cache)


async def _tokens(
    reader: Reader,
    query: Query,
    batch: Batch,
    size: LevelSize,
    read: float,
    cache: CacheMode | None,
) -> Source | None:
    server = milliseconds_of_server(batch, size)
    if milliseconds_here(batch, read, is_read=True, is_built=True) >= server:
        return None
    if read <= MOST_TOKENS and milliseconds_here(batch, read) < server:
        return await reader.answer(query, cache)
    # Too dear to read; but perhaps they were read before.
    kept = await reader.kept_answer(query, cache)
    if kept is None:
        return None
    tokens, is_built = kept.table.num_rows, kept in _trees
    if milliseconds_here(batch, tokens, is_read=True, is_built=is_built) >= server:
        return None
    return kept, "memory"


async def _has_scipy() -> bool:
    if sys.modules.get("scipy.spatial") is not None:
        return True
    if find_spec("scipy") is None:
        return False
    try:
        await in_daemon_thread(
            lambda: import_optional("scipy.spatial", "a search by a k-d tree", "graph")
        )
    except ConfigError:
        return False
    return True


# --- the search --------------------------------------------------------------------------------------

Fits: TypeAlias = Callable[[int, Callable[[], int]], None]
"""Raises if an answer will be too large: called with a bound of its rows, and what counts them."""


class _Prepared:
    """A search in tokens that are in memory.

    Attributes
    ----------
    absent : list of str
        Ids of the batch that are not on the level.
    """

    def __init__(
        self,
        search: Search,
        answer: Answer,
        tree: TokenTree,
        points: np.ndarray[Any, Any],
    ) -> None:
        self._search = search
        self._answer = answer
        self._tree = tree
        self._points = points
        # The positions in the batch of these points; None: they are all of them.
        self._positions: np.ndarray[Any, Any] | None = None
        self._own: np.ndarray[Any, Any] | None = None
        self._radii = search.radii
        self.absent: list[str] = []

    @classmethod
    def of(cls, search: Search, answer: Answer, id_space: IdSpace) -> _Prepared:
        """Build the tree, unless it is kept, and look up the places of ids."""
        table = answer.table
        if search.filters_here:
            passes = _passes(search.where, table)
            tree = TokenTree(table.filter(pa.array(passes)))
        else:
            tree = _trees.of(answer)
        ids = search.origins.ids
        if ids is None:
            assert search.origins.coordinates is not None
            return cls(search, answer, tree, search.origins.coordinates)
        rows = _rows_of(ids, table["token_id"], id_space)
        positions = np.flatnonzero(rows >= 0)
        places = np.column_stack([table[axis].to_numpy()[rows[positions]] for axis in "xyz"])
        prepared = cls(search, answer, tree, places)
        prepared._positions = positions
        prepared.absent = list(dict.fromkeys(ids[row] for row in np.flatnonzero(rows < 0).tolist()))
        if isinstance(search.radii, np.ndarray):
            prepared._radii = search.radii[positions]
        if search.excludes_self:
            own = rows[positions]
            if search.filters_here:
                own = np.where(passes, np.cumsum(passes) - 1, -1)[own]
            prepared._own = own
        return prepared

    def answer(self, fits: Fits) -> Answer:
        """Search, and return the answer with the columns of the server's."""
        tree, points, itself, radii = self._tree, self._points, self._own, self._radii
        if self._search.k is None:
            most = tree.most_within(points, radii)
            fits(int(most.sum()), lambda: tree.count_within(points, radii, itself))
            found = tree.within(points, radii, itself, most)
        else:
            k = self._search.k
            fits(
                len(points) * min(k, len(tree)),
                lambda: tree.count_nearest(points, k, radii, itself),
            )
            found = tree.nearest(points, k, radii, itself)
        positions = found.points if self._positions is None else self._positions[found.points]
        computed = {ORIGIN.name: positions.astype(np.int64), "distance": found.distances}
        # The answer says in which form ids go out.
        own = {column.name: column for column in self._answer.columns}
        columns = tuple(own.get(column.name, column) for column in self._search.columns)
        rows = pa.array(found.tokens)
        values = [
            pa.array(computed[column.name])
            if column.name in computed
            else tree.table[column.name].take(rows)
            for column in columns
        ]
        table = pa.table(values, [column.name for column in columns])
        answer = self._answer
        return Answer(table, columns, answer.version, answer.read_at, answer.unit)


def _pairs(search: PairSearch, answer: Answer, fits: Fits) -> Answer:
    """Return the answer with the columns of the server's."""
    table, radius = answer.table, search.radius
    if search.is_ordered:
        is_other = table["is_other"]
        tree, other = (
            TokenTree(table.filter(pc.invert(is_other))),
            TokenTree(table.filter(is_other)),
        )
        same = _rows_of_values(tree.table["token_id"], other.table["token_id"])
        fits(
            tree.most_pairs(radius, other),
            lambda: tree.count_pairs(radius, other, same),
        )
        found = tree.pairs_with(other, radius, same)
    else:
        tree = other = _trees.of(answer)
        fits(
            tree.most_pairs(radius),
            lambda: tree.count_pairs(radius),
        )
        found = tree.pairs(radius)
    values = [
        tree.table["token_id"].take(pa.array(found.points)),
        other.table["token_id"].take(pa.array(found.tokens)),
        pa.array(found.distances),
    ]
    form = next(column.kind for column in answer.columns if column.name == "token_id")
    columns = (
        Column("token_id", form),
        Column("other_id", form),
        Column("distance", Kind.FLOAT),
    )
    pairs = pa.table(values, [column.name for column in columns])
    return Answer(pairs, columns, answer.version, answer.read_at, answer.unit)


def _passes(where: TokenFilter, table: pa.Table) -> np.ndarray[Any, Any]:
    """Return which tokens pass a filter on what the spatial index has."""
    masks = [np.ones(table.num_rows, bool)]
    types = where.types()
    if types is not None:
        known = pa.array(sorted(types), pa.string())
        masks.append(pc.is_in(table["token_type"], value_set=known).to_numpy())
    if where.flags is not None:
        flags = table["flags"].to_numpy().astype(np.int64)
        masks.append((flags & where.flags) == where.flags)
    if where.min_weight is not None:
        masks.append(table["weight"].to_numpy() >= where.min_weight)
    return functools.reduce(np.logical_and, masks)


def _rows_of(ids: Any, column: pa.ChunkedArray, id_space: IdSpace) -> np.ndarray[Any, Any]:
    """Return the row of each id, canonical text; -1 for those that no row has."""
    if not pa.types.is_integer(column.type):
        return _rows_of_values(pa.array(ids, pa.string()), column)
    numbers = [value if type(value) is int else None for value in id_space.outgoing(ids)]
    return _rows_of_values(pa.array(numbers, pa.uint64()), column)


def _rows_of_values(values: Any, column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    rows = pc.index_in(values, value_set=column.combine_chunks(), skip_nulls=True)
    filled = rows.fill_null(-1).to_numpy()
    return np.asarray(filled, np.intp)
