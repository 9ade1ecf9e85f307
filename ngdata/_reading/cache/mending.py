"""A region's answer with some boxes read anew: rows in them are replaced, and all others stay.

A token that was not written has its row.  One that was written has its old and its new place in the
boxes: so what the answer has there is removed, and what the store has there is added.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ngdata._connections.arrow_session import ArrowSession, joined
from ngdata._query import literals as sql
from ngdata._query.model import Query
from ngdata._query.places import SPATIAL_INDEX
from ngdata._query.regions import region as region_query
from ngdata._reading.answer import Answer
from ngdata._reading.cache.change_log import Boxes
from ngdata._reading.wire_format import plain_batch

__all__ = ["boxes_query", "can_be_mended", "ids_query", "max_boxes", "mended", "rows_in_boxes"]

_FEW_BOXES: Final = 64
_ROWS_PER_BOX: Final = 100
_MAX_EXTENTS: Final = 16

# So many are compared with all rows in less time than they are hashed.
_FEW_VALUES: Final = 24

_FEW_ROWS: Final = 64
_LARGE_SHARE: Final = 0.3


def can_be_mended(query: Query, answer: Answer) -> bool:
    """Return whether the answer holds a region completely, with the places of its tokens."""
    return query.region is not None and {"x", "y", "z"} <= set(answer.table.column_names)


def max_boxes(answer: Answer) -> int:
    """Return how many boxes can be read anew in less time than the answer takes."""
    return _FEW_BOXES + int(answer.table.num_rows) // _ROWS_PER_BOX


def rows_in_boxes(table: pa.Table, boxes: np.ndarray) -> np.ndarray | None:
    """Return the positions of the rows in any of the boxes, ascending; None if they are too many.

    Parameters
    ----------
    table : pyarrow.Table
        With columns x, y, z.
    boxes : array of shape (n, 6)
        Low and high corners; many may be points, few others.
    """
    are_points = (boxes[:, :3] == boxes[:, 3:]).all(axis=1)
    extents = boxes[~are_points]
    if len(extents) > _MAX_EXTENTS:
        return None
    axes = [table[axis].to_numpy() for axis in "xyz"]
    positions = [_rows_at(axes, boxes[are_points, :3])]
    for extent in extents:
        is_inside = functools.reduce(
            np.logical_and,
            [(values >= extent[n]) & (values <= extent[n + 3]) for n, values in enumerate(axes)],
        )
        positions.append(np.flatnonzero(is_inside))
    rows = np.unique(np.concatenate(positions))
    return rows if len(rows) <= max(_FEW_ROWS, _LARGE_SHARE * table.num_rows) else None


def _rows_at(axes: list[np.ndarray], points: np.ndarray) -> np.ndarray:
    """Return the positions of the rows at any of the points."""
    # Without negative zeros, which are the same place and another hash.
    points = points + 0.0
    if not len(points):
        return np.arange(0)
    rows = np.arange(len(axes[0]))
    for axis, values in enumerate(axes):
        searched = np.unique(points[:, axis])
        rows = rows[_is_any(values if axis == 0 else values[rows], searched)]
    known = set(map(tuple, points.tolist()))
    near = zip(*((values[rows] + 0.0).tolist() for values in axes), strict=True)
    return rows[[place in known for place in near]] if len(rows) else rows


def _is_any(values: np.ndarray, searched: np.ndarray) -> np.ndarray:
    if len(searched) > _FEW_VALUES:
        matches = pc.is_in(pa.array(values + 0.0), value_set=pa.array(searched))
        return np.asarray(matches.to_numpy(zero_copy_only=False))
    is_any = np.zeros(len(values), bool)
    for value in searched:
        is_any |= values == value
    return is_any


def ids_query(query: Query, ids: Iterable[str]) -> Query:
    """Return the read of those of some tokens that are in a region."""
    return _part(query, f"spatial_index.token_id = ANY ({sql.uuid_array(ids)})")


def boxes_query(query: Query, boxes: np.ndarray) -> Query:
    """Return the read of the tokens of a region that are in any of the boxes."""
    assert query.region is not None
    names = ("x1", "y1", "z1", "x2", "y2", "z2")
    corners = ", ".join(sql.float8_array(column) for column in boxes.T)
    exact = " AND ".join(
        f"ST_{axis.upper()}(n.geom) BETWEEN b.{axis}1 AND b.{axis}2" for axis in "xyz"
    )
    # A token in several boxes is one row; each box is looked up in the index.
    return _part(
        query,
        "spatial_index.token_id = ANY (ARRAY(SELECT near.token_id"
        f" FROM unnest({corners}) AS b ({', '.join(names)}) CROSS JOIN LATERAL ("
        f"SELECT n.token_id FROM {SPATIAL_INDEX} AS n WHERE n.level = {query.region.place.level} AND n.geom"
        " &&& ST_MakeLine(ST_MakePoint(b.x1, b.y1, b.z1), ST_MakePoint(b.x2, b.y2, b.z2))"
        f" AND {exact} OFFSET 0) AS near))",
    )


def _part(query: Query, condition: str) -> Query:
    assert query.region is not None
    place, where = query.region.place, query.region.where
    part = region_query(place, where, [column.name for column in query.columns], None, [condition])
    return replace(part, columns=query.columns, id_space=query.id_space)


def mended(
    session: ArrowSession, query: Query, table: pa.Table, boxes: Boxes
) -> tuple[pa.Table, int] | None:
    """Return the table with the boxes read anew, and how many rows were read.

    Return None if that is too much: then all of the answer is better read again.
    """
    removed = rows_in_boxes(table, boxes.corners)
    if removed is None:
        return None
    ids = _ids_at(query, table, removed, boxes)
    part = boxes_query(query, boxes.corners) if ids is None else ids_query(query, ids)
    batches = session.batches(
        part.plain_sql or part.sql,
        unpack=functools.partial(plain_batch, query=part),
        copy=False,
    )
    added = joined(batches).cast(table.schema)
    return _replaced(table, removed, added), added.num_rows


def _ids_at(query: Query, table: pa.Table, removed: np.ndarray, boxes: Boxes) -> list[str] | None:
    """Return the ids of all tokens that can be at the points, written or not; None if not known."""
    written = [each for each in boxes.ids if each is not None]
    if len(written) < len(boxes.ids):
        return None
    others: list[str] = []
    if len(removed):
        if query.id_space is not None or "token_id" not in table.column_names:
            return None
        others = table["token_id"].take(pa.array(removed)).to_pylist()
    return list(dict.fromkeys([*written, *others]))


def _replaced(table: pa.Table, removed: np.ndarray, added: pa.Table) -> pa.Table:
    """Return a table without some rows, at ascending positions, and with others, in one piece."""
    starts = [0, *(removed + 1).tolist()]
    ends = [*removed.tolist(), table.num_rows]
    parts = [(start, end - start) for start, end in zip(starts, ends, strict=True) if end > start]
    arrays = []
    for column, more in zip(table.columns, added.columns, strict=True):
        kept = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        arrays.append(pa.concat_arrays([*(kept.slice(*part) for part in parts), *more.chunks]))
    return pa.Table.from_arrays(arrays, schema=table.schema)
