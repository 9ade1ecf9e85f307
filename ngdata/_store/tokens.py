"""Writes of tokens: frames and arguments, checked, as rows of `tokens.tokens` and as changes of them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from ngdata._arguments.id_space import UUIDS, IdSpace
from ngdata._arguments.levels import LEVELS, level_index
from ngdata._arguments.numbers import is_number
from ngdata._arguments.points import MAX_COORDINATE, as_point, unmasked
from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.texts import columns_text
from ngdata._query.places import Place
from ngdata._store.array_text import ARRAY_ELEMENT, array_element
from ngdata._store.changes import Assignment, FrameChanges, assignments, frame_changes
from ngdata._store.fields import TOKENS
from ngdata._store.input_frames import Extra, Frame, as_dataframe, to_dataframe, with_points
from ngdata._store.row_names import row_name
from ngdata._store.value_types import Integer, Number, first_true, invalid_value
from ngdata.errors import IntegrityError, InvalidQueryError

__all__ = [
    "MERGED_LEVELS",
    "RELATION",
    "check_changes",
    "check_coords",
    "check_frame",
    "check_row",
    "check_update",
    "rows_per_copy",
    "within_place",
]

RELATION: Final = TOKENS.relation

# Each COPY is sorted by itself: a quarter of this takes a sixth longer, and reads touch more pages.
_ROWS_WRITTEN_PER_COPY: Final = 450_000

_AXES: Final = ("x", "y", "z")

# What reads of tokens return beside the columns that can be written.
_READ_ONLY: Final = frozenset({"distance", "depth", "created_at", "updated_at"})

# How rows of a frame with one point each are assigned: to the elements of their level.
_POINT_TYPES: Final = {axis: Number() for axis in _AXES} | {"level": Integer(0, 7, "int4")}
_POINT_TARGETS: Final = {axis: f"coord_{axis}[s.level + 1]" for axis in _AXES} | {"level": None}


def check_frame(
    frame: Frame, level: Any, coords: Any, ids: IdSpace = UUIDS, extra: Extra | None = None
) -> pa.Table:
    """Return a frame of tokens as rows of the table.

    The points are the frame's columns x, y, z, on `level` or the level of their row, or its column
    `coords`, or the array `coords`.

    Raises
    ------
    InvalidQueryError, IntegrityError
        The first bad value, with its row.
    """
    given_level = level_index(level)
    if coords is not None:
        tokens = as_dataframe(
            frame, TOKENS.required, TOKENS.optional, _READ_ONLY | {"level"}, extra
        )
        if tokens.shape == (0, 0) and not isinstance(frame, pd.DataFrame):
            # A frame without columns and without an index has as many rows as the coordinates.
            coords = _as_floats(coords)
            tokens = pd.DataFrame(index=range(len(coords) if coords.ndim else 0))
        coordinates = _coordinate_columns(check_coords(coords, len(tokens)))
    else:
        frame = to_dataframe(with_points(frame))
        if "coords" in frame.columns:
            optional = (*TOKENS.optional, "coords")
            ignored = _READ_ONLY | {"level"}
            tokens = as_dataframe(frame, TOKENS.required, optional, ignored, extra)
            coordinates = _coordinate_columns(_check_coords_column(tokens["coords"]))
        else:
            optional = (*TOKENS.optional, "level")
            required = (*_AXES, *TOKENS.required)
            tokens = as_dataframe(frame, required, optional, _READ_ONLY, extra)
            point = {axis: _check_axis(tokens[axis], axis) for axis in _AXES}
            levels = _levels_of_rows(tokens, given_level)
            coordinates = {
                f"coord_{axis}": array_element(levels, values) for axis, values in point.items()
            }
    try:
        columns = TOKENS.check_frame(tokens, ids)
    except IntegrityError as error:
        if "level" not in tokens:
            raise
        raise IntegrityError(
            f"{error}; a token with places on several levels is one row, with a column coords of "
            "arrays of shape (8, 3)"
        ) from None
    return pa.table(columns | coordinates)


# Of an existing token, the levels that a frame does not have stay as they are.
MERGED_LEVELS: Final = {
    f"coord_{axis}": "ARRAY["
    + ", ".join(
        f"coalesce(excluded.coord_{axis}[{n}], t.coord_{axis}[{n}])"
        for n in range(1, len(LEVELS) + 1)
    )
    + "]"
    for axis in _AXES
}
"""What the coordinates of an existing token become, as `write_rows` takes it."""


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


def check_update(coords: Any, attributes: Mapping[str, Any]) -> list[Assignment]:
    """Return the assignments of an update; a mapping of levels changes only those.

    Raises
    ------
    InvalidQueryError
        The first bad value.
    """
    changes = assignments(TOKENS, attributes)
    if coords is not None:
        points = _check_single_coords(coords)[0]
        levels = map(level_index, coords) if isinstance(coords, Mapping) else range(8)
        changes += [
            _coordinate(axis, level, value)
            for level in levels
            for axis, value in zip(_AXES, points[level].tolist(), strict=True)
        ]
    return changes


def _coordinate(axis: str, level: int, value: float) -> Assignment:
    name = f"coord_{axis}"
    return Assignment(name, "float8", None if np.isnan(value) else value, f"{name}[{level + 1}]")


def check_changes(frame: Frame, level: Any, ids: IdSpace = UUIDS) -> FrameChanges:
    """Return the changes of a frame, with points on `level` or its own, or with all coordinates.

    Raises
    ------
    InvalidQueryError, IntegrityError
        The first bad value, with its row.
    """
    attributes = [name for name in TOKENS.optional if name != TOKENS.key]
    optional = (*attributes, *_AXES, "level", "coords")
    tokens = as_dataframe(with_points(frame), (TOKENS.key,), optional, _READ_ONLY)
    columns = TOKENS.check_changes(tokens, ids)
    given_level = level_index(level)
    axes = [axis for axis in _AXES if axis in tokens]
    if "coords" in tokens:
        if axes:
            raise InvalidQueryError(
                f"the frame has both coords and {', '.join(axes)}; drop one of them"
            )
        columns |= _coordinate_columns(_check_coords_column(tokens["coords"]))
    elif axes:
        if len(axes) < len(_AXES):
            lacking = columns_text([axis for axis in _AXES if axis not in axes])
            raise InvalidQueryError(
                f"the frame lacks the {lacking}; a point has x, y and z, so give all three, "
                f"or drop {', '.join(axes)}"
            )
        columns |= {axis: pa.array(_check_axis(tokens[axis], axis)) for axis in _AXES}
        columns["level"] = pa.array(_levels_of_rows(tokens, given_level))
    return frame_changes(TOKENS, columns, _POINT_TYPES, _POINT_TARGETS)


def within_place(place: Place) -> str:
    """Write the condition that a token is in a region, for statements on `tokens.tokens`."""
    # An array: the planner expects one row in any region, and would search it once for each token.
    return f"id = ANY (ARRAY({place.token_ids()}))"


def _levels_of_rows(tokens: pd.DataFrame, level: int) -> np.ndarray:
    """Return the index of each row's level: that of its column, or the one for all."""
    if "level" not in tokens:
        return np.full(len(tokens), level)
    column = tokens["level"]
    indexes: np.ndarray
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu":
        indexes = Integer(0, 7).check_column(column, "level", required=True).to_numpy()
    else:
        values = enumerate(column.tolist())
        indexes = np.fromiter(
            (level_index(value, f"level in {row_name(row)}") for row, value in values),
            np.int64,
            len(column),
        )
    # 0 is the default, so it need not be meant.
    row = first_true(indexes != level) if level else None
    if row is not None:
        raise InvalidQueryError(
            f"level is {LEVELS[level]}, but the frame's column level has {LEVELS[indexes[row]]} in "
            f"{row_name(row)}; leave out one of them"
        )
    return indexes


def _check_coords_column(values: pd.Series[Any]) -> np.ndarray:
    """Return a column of arrays of shape (8, 3) as one array."""
    rows = values.tolist()
    if not all(type(row) is np.ndarray and row.dtype == np.float64 for row in rows):
        rows = [_as_floats(row, f"coords in {row_name(number)}") for number, row in enumerate(rows)]
    for number, row in enumerate(rows):
        if row.shape != (8, 3):
            raise InvalidQueryError(
                f"coords in {row_name(number)} must have the shape (8, 3): levels, axes; this has {row.shape}"
            )
    return check_coords(np.array(rows, np.float64).reshape(-1, 8, 3), len(rows))


def _coordinate_columns(points: np.ndarray) -> dict[str, pa.Array]:
    return {
        f"coord_{axis}": pa.FixedSizeListArray.from_arrays(points[:, :, index].ravel(), len(LEVELS))
        for index, axis in enumerate(_AXES)
    }


def rows_per_copy(rows: pa.Table) -> int:
    """Return how many of the tokens one COPY should write: what takes the server about four seconds.

    Each level on which a token is defined is a row of the spatial index.
    """
    places = rows.num_rows
    if rows["coord_x"].type != ARRAY_ELEMENT:
        coordinates = rows["coord_x"].combine_chunks().flatten().to_numpy()
        places = int(np.count_nonzero(~np.isnan(coordinates)))
    written = rows.num_rows + places
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
