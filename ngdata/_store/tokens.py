"""Tokens on their way in: frames and arguments to rows of `tokens.tokens`."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import asyncpg
import numpy as np
import pandas as pd
import pyarrow as pa

from ngdata._arguments.levels import LEVELS, level_index
from ngdata._arguments.numbers import is_number
from ngdata._query.space import MAX_COORDINATE, as_point, unmasked
from ngdata._store import columns as column
from ngdata._store.input_frames import Frame, incoming
from ngdata._store.input_frames import one_row as of_one_row
from ngdata.errors import InvalidQueryError, NotFoundError

__all__ = [
    "RECORD_BYTES",
    "RELATION",
    "Change",
    "as_coords",
    "changes",
    "delete_tokens",
    "one_row",
    "rows",
    "rows_at_once",
    "update_tokens",
]

RELATION: Final = "tokens.tokens"
RECORD_BYTES: Final = 64

# Each COPY is sorted for itself: a quarter of it takes a sixth longer, and reads touch more pages.
_WRITTEN_AT_ONCE: Final = 450_000

_MOST_FLAGS: Final = 2**31 - 1

_POINT: Final = ("x", "y", "z")
_OPTIONAL: Final = (
    "token_id",
    "token_type",
    "weight",
    "flags",
    "timestamp",
    "metadata",
    "binary_data",
)

_SQL_TYPES: Final = {
    "token_type": "text",
    "weight": "float8",
    "flags": "int4",
    "timestamp": "timestamptz",
    "metadata": "text::jsonb",
    "binary_data": "text::bytea",
}


class Change(NamedTuple):
    """A column, or an element of an array in it, the type of what is bound, and that value."""

    target: str
    sql_type: str
    value: Any


def rows(frame: Frame, level: Any, coords: Any) -> pa.Table:
    """Check a frame of tokens; their points are its columns x, y, z or the array `coords`.

    Raises
    ------
    InvalidQueryError, IntegrityError
        The first bad value, with its row.
    """
    if coords is None:
        taken = incoming(frame, _POINT, _OPTIONAL)
        points = np.full((len(taken), 8, 3), np.nan)
        points[:, level_index(level)] = np.column_stack(
            [_axis(taken[axis], axis) for axis in _POINT]
        )
    else:
        taken = incoming(frame, (), _OPTIONAL)
        if taken.shape == (0, 0) and not isinstance(frame, pd.DataFrame):
            # Without columns, and without an index, the coordinates say how many there are.
            taken = pd.DataFrame(index=range(np.shape(coords)[0] if np.ndim(coords) else 0))
        points = as_coords(coords, len(taken))
    return _table(taken, points)


def one_row(coords: Any, values: dict[str, Any]) -> pa.Table:
    """Check one token; `coords` is 8x3, or ``{level: (x, y, z)}``."""
    return _table(of_one_row(values), as_points(coords))


def changes(coords: Any, attributes: dict[str, Any]) -> list[Change]:
    """Check what an update names; a level by itself leaves the others alone."""
    single = of_one_row(attributes)
    table = pa.table({name: _attribute(name, single[name]) for name in attributes})
    checked = table.to_pylist()[0] if attributes else {}
    found = [Change(f'"{name}"', _SQL_TYPES[name], value) for name, value in checked.items()]
    if coords is not None:
        points = as_points(coords)[0]
        named = map(level_index, coords) if isinstance(coords, Mapping) else range(8)
        found += [
            Change(f"coord_{axis}[{level + 1}]", "float8", None if np.isnan(value) else value)
            for level in named
            for axis, value in zip(_POINT, points[level].tolist(), strict=True)
        ]
    if not found:
        raise InvalidQueryError(
            "update names nothing to change; give coords=, token_type=, weight=, flags=, "
            "timestamp=, metadata= or binary_data="
        )
    return found


def as_points(coords: Any) -> np.ndarray:
    """Check the coordinates of one token, as an array of shape (1, 8, 3)."""
    if isinstance(coords, Mapping):
        return _by_level(coords)
    points = _numeric(coords)
    if points.shape != (8, 3):
        raise InvalidQueryError(
            "coords must be {level: (x, y, z)}, for instance {0: (1.0, 2.0, 3.0)}, or an array of "
            f"shape (8, 3), levels and axes, with NaN where undefined; not {column.shown(coords)}"
        )
    return as_coords(points[np.newaxis], 1)


def rows_at_once(rows: pa.Table) -> int:
    """Tell how many tokens one COPY may take: what the server writes in some four seconds.

    Each level of a token is a row of the spatial index.
    """
    places = rows["coord_x"].combine_chunks().flatten().to_numpy()
    written = rows.num_rows + int(np.count_nonzero(~np.isnan(places)))
    at_once: int = _WRITTEN_AT_ONCE * rows.num_rows // max(written, 1)
    return at_once


def _axis(values: pd.Series[Any], name: str) -> np.ndarray:
    taken = column.floats(values, name)
    bad = ~(np.abs(taken) <= MAX_COORDINATE)
    if bad.any():
        row = int(bad.argmax())
        column.refuse(
            name, row, values.iloc[row], f"a number of at most {MAX_COORDINATE:g} in size"
        )
    return taken


def as_coords(coords: Any, count: int) -> np.ndarray:
    """Check an (n, 8, 3) array: each level of a token wholly NaN, or wholly in bounds."""
    points = _numeric(coords)
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


def _numeric(coords: Any) -> np.ndarray:
    # asarray first: to convert at once would make numbers of text, truth values and dates.
    bad: object = coords
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        array: np.ndarray[Any, Any] = np.asarray(unmasked(coords))
        values = array.flat if array.dtype.kind not in "iuf" else ()
        strange = [value for value in values if value is not None and not is_number(value)]
        if not strange:
            with np.errstate(over="ignore"):
                return np.array(array, dtype=np.float64)
        bad = strange[0]
    raise InvalidQueryError(
        "coords must be numbers, 8 levels of (x, y, z) for each token, with NaN where undefined, "
        f"not {column.shown(bad)}"
    )


def _by_level(coords: Mapping[Any, Any]) -> np.ndarray:
    points = np.full((1, 8, 3), np.nan)
    seen: set[int] = set()
    for level, point in coords.items():
        index = level_index(level)
        if index in seen:
            raise InvalidQueryError(f"coords names the level {LEVELS[index]} twice")
        seen.add(index)
        if point is not None:
            points[0, index] = as_point(point, f"coords[{level!r}]")
    return points


def _table(taken: pd.DataFrame, points: np.ndarray) -> pa.Table:
    columns: dict[str, Any] = {"id": column.keys(taken, "token_id")}
    for axis, name in enumerate(("coord_x", "coord_y", "coord_z")):
        columns[name] = pa.FixedSizeListArray.from_arrays(points[:, :, axis].ravel(), len(LEVELS))
    for name in taken.columns:
        if name not in (*_POINT, "token_id"):
            columns[name] = _attribute(str(name), taken[name])
    return pa.table(columns)


def _attribute(name: str, values: pd.Series[Any]) -> pa.Array:
    match name:
        case "token_type":
            return column.texts(values, name, "default")
        case "weight":
            return pa.array(column.floats(values, name, 1.0))
        case "flags":
            return column.integers(values, name, 0, 0, _MOST_FLAGS)
        case "timestamp":
            return column.times(values, name, dt.datetime.now(dt.UTC))
        case "metadata":
            return column.dicts(values, name)
        case "binary_data":
            return column.blobs(values, name, RECORD_BYTES)
    raise InvalidQueryError(f"a token has no attribute {name!r}")


async def update_tokens(
    connection: asyncpg.Connection[Any], ids: Sequence[str], changes: Sequence[Change]
) -> int:
    """Make the same changes to each token, or raise `NotFoundError`."""
    assignments = ", ".join(
        f"{change.target} = ${place}::{change.sql_type}"
        for place, change in enumerate(changes, start=2)
    )
    changed = await connection.fetch(
        f"UPDATE tokens.tokens SET {assignments} WHERE id = ANY ($1::uuid[]) RETURNING id::text",
        ids,
        *(change.value for change in changes),
    )
    there = {row["id"] for row in changed}
    missing = [one for one in ids if one not in there]
    if missing:
        raise NotFoundError.of("token", missing)
    return len(changed)


async def delete_tokens(connection: asyncpg.Connection[Any], ids: Sequence[str]) -> int:
    """Delete the tokens that are there; the schema's foreign keys see to the rest."""
    status: str = await connection.execute(
        "DELETE FROM tokens.tokens WHERE id = ANY ($1::uuid[])", ids
    )
    return int(status.rpartition(" ")[2])
