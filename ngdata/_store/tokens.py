"""Writes of tokens: frames and arguments, checked, as rows of `tokens.tokens`; updates; deletes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from ngdata._arguments.id_space import UUIDS, IdSpace
from ngdata._arguments.levels import LEVELS, level_index
from ngdata._arguments.numbers import is_number
from ngdata._arguments.shown import guarded, shown
from ngdata._connections.write_connection import WriteConnection
from ngdata._query.boxes import MAX_COORDINATE, as_point, unmasked
from ngdata._store.fields import TOKENS
from ngdata._store.input_frames import Frame, as_dataframe
from ngdata._store.value_types import Number, first_true, invalid_value
from ngdata.errors import InvalidQueryError, NotFoundError

__all__ = [
    "RELATION",
    "Change",
    "check_coords",
    "check_frame",
    "check_row",
    "check_update",
    "delete_tokens",
    "rows_per_copy",
    "update_tokens",
]

RELATION: Final = TOKENS.relation

# Each COPY is sorted by itself: a quarter of this takes a sixth longer, and reads touch more pages.
_ROWS_WRITTEN_PER_COPY: Final = 450_000

_AXES: Final = ("x", "y", "z")

# Of text: asyncpg would ask each new connection what an array of uuid is, which takes 9 ms.
_THESE: Final = "id = ANY ($1::text[]::uuid[])"


class Change(NamedTuple):
    """One assignment of an UPDATE: a column or an element of its array, its SQL type, its value."""

    target: str
    sql_type: str
    value: Any


def check_frame(frame: Frame, level: Any, coords: Any, ids: IdSpace = UUIDS) -> pa.Table:
    """Return a frame of tokens as rows of the table.

    The points are the frame's columns x, y, z, on `level`, or the array `coords`.

    Raises
    ------
    InvalidQueryError, IntegrityError
        The first bad value, with its row.
    """
    if coords is None:
        tokens = as_dataframe(frame, (*_AXES, *TOKENS.required), TOKENS.optional)
        points = np.full((len(tokens), 8, 3), np.nan)
        points[:, level_index(level)] = np.column_stack(
            [_check_axis(tokens[axis], axis) for axis in _AXES]
        )
    else:
        tokens = as_dataframe(frame, TOKENS.required, TOKENS.optional)
        if tokens.shape == (0, 0) and not isinstance(frame, pd.DataFrame):
            # A frame without columns and without an index has as many rows as the coordinates.
            coords = _as_floats(coords)
            tokens = pd.DataFrame(index=range(len(coords) if coords.ndim else 0))
        points = check_coords(coords, len(tokens))
    columns = TOKENS.check_frame(tokens, ids)
    for index, axis in enumerate(_AXES):
        columns[f"coord_{axis}"] = pa.FixedSizeListArray.from_arrays(
            points[:, :, index].ravel(), len(LEVELS)
        )
    return pa.table(columns)


def check_row(coords: Any, values: Mapping[str, Any], ids: IdSpace = UUIDS) -> dict[str, Any]:
    """Return the arguments of one token as a row; `coords` is 8x3, or ``{level: (x, y, z)}``.

    Raises
    ------
    InvalidQueryError
        The first bad value.
    """
    row = TOKENS.check_row(values, ids)
    points = _check_single_coords(coords)[0].T.tolist()
    for axis, numbers in zip(_AXES, points, strict=True):
        row[f"coord_{axis}"] = [None if number != number else number for number in numbers]
    return row


def check_update(coords: Any, attributes: Mapping[str, Any]) -> list[Change]:
    """Return the assignments of an update; a mapping of levels changes only those.

    Raises
    ------
    InvalidQueryError
        The first bad value, or nothing to change.
    """
    changes = []
    for name, value in attributes.items():
        value_type = TOKENS[name].type
        changes.append(
            Change(f'"{name}"', value_type.sql, value_type.bound(TOKENS[name].check(value)))
        )
    if coords is not None:
        points = _check_single_coords(coords)[0]
        levels = map(level_index, coords) if isinstance(coords, Mapping) else range(8)
        changes += [
            Change(f"coord_{axis}[{level + 1}]", "float8", None if np.isnan(value) else value)
            for level in levels
            for axis, value in zip(_AXES, points[level].tolist(), strict=True)
        ]
    if not changes:
        raise InvalidQueryError(
            "update names nothing to change; give coords=, token_type=, weight=, flags=, "
            "timestamp=, metadata= or binary_data="
        )
    return changes


def rows_per_copy(rows: pa.Table) -> int:
    """Return how many of the tokens one COPY should write: what takes the server about four seconds.

    Each level on which a token is defined is a row of the spatial index.
    """
    coordinates = rows["coord_x"].combine_chunks().flatten().to_numpy()
    written = rows.num_rows + int(np.count_nonzero(~np.isnan(coordinates)))
    count: int = _ROWS_WRITTEN_PER_COPY * rows.num_rows // max(written, 1)
    return count


def _check_axis(values: pd.Series[Any], name: str) -> np.ndarray:
    numbers = Number().to_numpy(values, name)
    row = first_true(~(np.abs(numbers) <= MAX_COORDINATE))
    if row is not None:
        requirement = f"a number of at most {MAX_COORDINATE:g} in size"
        raise invalid_value(name, row, values.iloc[row], requirement)
    return numbers


def check_coords(coords: Any, count: int) -> np.ndarray:
    """Return coordinates as an (n, 8, 3) array; each level of a token is all NaN, or all in bounds.

    Raises
    ------
    InvalidQueryError
        Another shape, or the first bad level of a token.
    """
    points = _as_floats(coords)
    if points.shape != (count, 8, 3):
        raise InvalidQueryError(
            f"coords must have the shape ({count}, 8, 3): tokens, levels, axes; "
            f"this has {points.shape}"
        )
    # Axis by axis: a reduction over three values is slow.
    sizes = [np.abs(points[:, :, axis]) for axis in range(3)]
    undefined = [np.isnan(size) for size in sizes]
    bad = (undefined[0] != undefined[1]) | (undefined[0] != undefined[2])
    for size in sizes:
        bad |= size > MAX_COORDINATE
    if bad.any():
        row, level = np.unravel_index(int(bad.argmax()), bad.shape)
        raise InvalidQueryError(
            f"coords[{row}, {level}] ({LEVELS[int(level)]}) is {points[row, level].tolist()}: a "
            f"level is three finite numbers of at most {MAX_COORDINATE:g} in size, or NaN on all three axes"
        )
    return points


@guarded
def _check_single_coords(coords: Any, name: str = "coords") -> np.ndarray:
    """Return the coordinates of one token as an array of shape (1, 8, 3)."""
    if isinstance(coords, Mapping):
        return _from_levels(coords)
    points = _as_floats(coords)
    if points.shape != (8, 3):
        raise InvalidQueryError(
            f"{name} must be {{level: (x, y, z)}}, for instance {{0: (1.0, 2.0, 3.0)}}, or an array "
            f"of shape (8, 3), levels and axes, with NaN where undefined; not {shown(coords)}"
        )
    return check_coords(points[np.newaxis], 1)


@guarded
def _as_floats(coords: Any, name: str = "coords") -> np.ndarray:
    # np.asarray without a dtype first: a direct conversion would turn text, bools and dates to floats.
    bad: object = coords
    with contextlib.suppress(Exception):  # methods of the caller's objects may raise anything
        array: np.ndarray[Any, Any] = np.asarray(unmasked(coords))
        values = array.flat if array.dtype.kind not in "iuf" else ()
        others = [value for value in values if value is not None and not is_number(value)]
        if not others:
            with np.errstate(over="ignore"):
                return np.array(array, dtype=np.float64)
        bad = others[0]
    raise InvalidQueryError(
        f"{name} must be numbers, 8 levels of (x, y, z) for each token, with NaN where undefined, "
        f"not {shown(bad)}"
    )


def _from_levels(coords: Mapping[Any, Any]) -> np.ndarray:
    points = np.full((1, 8, 3), np.nan)
    levels: set[int] = set()
    for level, point in coords.items():
        index = level_index(level)
        if index in levels:
            raise InvalidQueryError(f"coords names the level {LEVELS[index]} twice")
        levels.add(index)
        if point is not None:
            points[0, index] = as_point(point, f"coords[{shown(level)}]")
    return points


async def update_tokens(
    connection: WriteConnection, ids: Sequence[str], changes: Sequence[Change]
) -> int:
    """Make the same changes to each token and return their number, or raise `NotFoundError`."""
    assignments = ", ".join(
        f"{change.target} = ${parameter}::{change.sql_type}"
        for parameter, change in enumerate(changes, start=2)
    )
    text = f"UPDATE {RELATION} SET {assignments} WHERE {_THESE} RETURNING id::text"
    statement = await connection.prepare(text, name=_name(ids))
    rows = await statement.fetch(ids, *(change.value for change in changes))
    updated = {row["id"] for row in rows}
    missing = [token_id for token_id in ids if token_id not in updated]
    if missing:
        raise NotFoundError.of("token", missing)
    return len(rows)


async def delete_tokens(connection: WriteConnection, ids: Sequence[str]) -> int:
    """Delete tokens and return how many there were; the schema's foreign keys do the rest."""
    text = f"DELETE FROM {RELATION} WHERE {_THESE}"
    statement = await connection.prepare(text, name=_name(ids))
    await statement.fetch(ids)
    status: Any = statement.get_statusmsg()
    return int(status.rpartition(" ")[2])


def _name(ids: Sequence[str]) -> str | None:
    """Return the name for a statement of these ids: that of one id is kept, longer lists are planned."""
    return None if len(ids) == 1 else ""
