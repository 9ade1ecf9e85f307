"""Columns of a frame as plain arrays, and errors that name the column that is missing or wrong."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import numpy as np
import pandas as pd

from ngdata._arguments.levels import LEVELS, Level, level_index
from ngdata._arguments.shown import guarded, own_error, shown
from ngdata._arguments.suggestions import did_you_mean
from ngdata._store.input_frames import Frame, check_single_names, to_dataframe, with_points
from ngdata.errors import InvalidQueryError

__all__ = [
    "AXES",
    "checked_frame",
    "column",
    "column_names",
    "fitting",
    "fitting_text",
    "has_columns",
    "level_of",
    "numbered",
    "numbers",
    "places",
    "reads_column",
    "sequence",
    "unit_of",
]

P = ParamSpec("P")
T = TypeVar("T")

AXES: Final = ("x", "y", "z")

# What `frame.ng.plot` and errors say of each picture.
_NEEDS: Final = {
    "points": "x, y, z, or coords",
    "density": "x, y, z, count",
    "path": "x, y, z, and timestamp, step or sequence_number",
    "rewards": "timestamp and reward, or timestamp and total_reward, or start_time and total_reward",
}

# Names of columns that an error lists.
_MAX_NAMES: Final = 12

_NUMBERS: Final = frozenset(
    ("boolean", "decimal", "empty", "floating", "integer", "integer-na", "mixed-integer-float")
)


def checked_frame(frame: Frame) -> pd.DataFrame:
    """Return a frame of any library as a DataFrame; named levels of its index become columns.

    The caller's frame is not changed, and nothing of it is copied without need.

    Raises
    ------
    InvalidQueryError
        It is not a frame, or its columns have several levels of names.
    """
    checked = to_dataframe(with_points(frame))
    check_single_names(checked)
    names = [name for name in checked.index.names if isinstance(name, str)]
    missing = [name for name in dict.fromkeys(names) if name not in checked.columns]
    if not missing or len(names) != len(set(names)):
        return checked
    # Not reset_index, which refuses frames in which another name appears twice.
    levels = {name: checked.index.get_level_values(name) for name in missing}
    attrs = checked.attrs
    checked = pd.concat([pd.DataFrame(levels, index=checked.index), checked], axis=1)
    checked.attrs = attrs
    return checked


def has_columns(frame: pd.DataFrame, names: Iterable[str]) -> bool:
    """Return whether a frame has all of these columns."""
    return all(name in frame.columns for name in names)


def fitting(frame: pd.DataFrame) -> str | None:
    """Return the name of the picture that fits the columns of a frame; None if none does.

    Examples
    --------
    >>> from ngdata.plot.frames import fitting
    >>> fitting(pd.DataFrame(columns=["x", "y", "z", "count"]))
    'density'
    """
    has_time = any(name in frame.columns for name in ("timestamp", "step", "sequence_number"))
    is_events = any(name in frame.columns for name in ("event_id", "trajectory_id"))
    if has_columns(frame, AXES):
        if has_columns(frame, ["count"]) and "token_id" not in frame.columns:
            return "density"
        if has_time and (is_events or "token_id" not in frame.columns):
            return "path"
        return "points"
    if "coords" in frame.columns:
        return "points"
    is_rewards = (
        ("timestamp", "reward"),
        ("timestamp", "total_reward"),
        ("start_time", "total_reward"),
    )
    return "rewards" if any(has_columns(frame, names) for names in is_rewards) else None


def fitting_text(frame: pd.DataFrame, wanted: str) -> str:
    """Return the end of an error about a frame that a picture does not fit."""
    other = fitting(frame)
    if other is not None and other != wanted:
        return f"{_own_columns(frame)}; ngdata.plot.{other} fits them"
    needs = "; ".join(f"{name} needs {columns}" for name, columns in _NEEDS.items())
    return f"{_own_columns(frame)}; {needs}"


def _own_columns(frame: pd.DataFrame) -> str:
    names = [str(name)[:100] for name in frame.columns]
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return f"it has {', '.join(names[:_MAX_NAMES]) or 'no columns'}{more}"


def column(frame: pd.DataFrame, name: Any, argument: str) -> pd.Series[Any]:
    """Return the column of a frame that an argument names.

    Raises
    ------
    InvalidQueryError
        No column has this name, or several have.
    """
    if not _is_among(name, "name", frame):
        raise InvalidQueryError(
            f"{argument} must be a column of the frame, not {shown(name)}: "
            f"{_own_columns(frame)}{did_you_mean(name, map(str, frame.columns))}"
        )
    values = frame[name]
    if isinstance(values, pd.DataFrame):
        raise InvalidQueryError(
            f"the frame has {values.shape[1]} columns of the name {shown(name)}; keep one, for "
            "instance frame.loc[:, ~frame.columns.duplicated()]"
        )
    only: pd.Series[Any] = values
    return only


@guarded
def _is_among(value: Any, name: str, frame: pd.DataFrame) -> bool:
    try:
        return pd.api.types.is_hashable(value) and value in frame.columns
    except TypeError:
        return False


@guarded
def column_names(names: Any, name: str) -> list[Any]:
    """Return an argument that is a column's name or several, as a list."""
    if names is None:
        return []
    if isinstance(names, str) or not isinstance(names, Sequence | pd.Index | np.ndarray | set):
        return [names]
    return list(names)


def reads_column(
    read: Callable[Concatenate[pd.Series[Any], P], T],
) -> Callable[Concatenate[pd.Series[Any], P], T]:
    """Return a function of a column that reports what the column's values raise, with its name."""

    @functools.wraps(read)
    def reporting(values: pd.Series[Any], *args: P.args, **options: P.kwargs) -> T:
        try:
            return read(values, *args, **options)
        except Exception as error:
            if (own := own_error(error)) is not None:
                raise own from None
            raise InvalidQueryError(
                f"the column {shown(values.name)} cannot be read: {shown(error)}"
            ) from None

    return reporting  # type: ignore[return-value]  # it is called by position alone


@reads_column
def numbers(values: pd.Series[Any]) -> np.ndarray:
    """Return a column of numbers as float64, NaN where it has none.

    Raises
    ------
    InvalidQueryError
        It holds something else.
    """
    dtype = values.dtype
    if pd.api.types.is_bool_dtype(dtype) or (
        pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype)
    ):
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if dtype.kind == "O" and kind in _NUMBERS:
        missing = values.isna().to_numpy()
        pairs = zip(values.to_numpy(), missing, strict=True)
        return np.array([np.nan if is_missing else float(v) for v, is_missing in pairs])
    present = values[values.notna().to_numpy()]
    example = f", such as {shown(present.iloc[0])}" if len(present) else ""
    raise InvalidQueryError(
        f"the column {shown(values.name)} must hold numbers, not {kind}{example}; convert it, for "
        "instance by pandas.to_numeric"
    )


def places(frame: pd.DataFrame, picture: str, level: Level | None = None) -> np.ndarray:
    """Return the points of a frame as float64, of shape (n, 3), NaN where there are none.

    Parameters
    ----------
    frame : pandas.DataFrame
        With columns x, y, z, or with ``coords`` as `Tokens.get` returns them.
    picture : str
        What they are for, as the error names it.
    level : int or str, optional
        The level of ``coords``; by default 0, and x, y, z if the frame has them.

    Raises
    ------
    InvalidQueryError
        It has neither, or not on this level.
    """
    number = None if level is None else level_index(level)
    has_points = has_columns(frame, AXES)
    if "coords" in frame.columns and (number is not None or not has_points):
        return _of_coords(column(frame, "coords", "coords"), number or 0)
    if not has_points:
        missing = ", ".join(name for name in AXES if name not in frame.columns)
        raise InvalidQueryError(
            f"ngdata.plot.{picture} needs the columns x, y, z, and the frame lacks {missing}: "
            f"{fitting_text(frame, picture)}"
        )
    own = level_of(frame)
    if number is not None and own not in (None, number):
        raise InvalidQueryError(
            f"level is {shown(level)}, but x, y, z of this frame are of level {own}; read them on "
            "that level, or pass a frame with coords, as tokens.get returns it"
        )
    with np.errstate(all="ignore"):
        return np.stack([numbers(column(frame, axis, axis)) for axis in AXES], axis=1)


def _of_coords(values: pd.Series[Any], level: int) -> np.ndarray:
    points = np.full((len(values), 3), np.nan)
    for row, coords in enumerate(values.to_numpy()):
        if coords is None or (isinstance(coords, float) and coords != coords):
            continue
        try:
            # As lists of lists too, in which files and JSON hold them.
            array = np.array([list(place) for place in coords], np.float64)
        except (TypeError, ValueError):
            array = np.empty(0)
        if array.shape != (len(LEVELS), 3):
            raise InvalidQueryError(
                f"coords in row {row} must be an array of shape (8, 3), as tokens.get returns it, not "
                f"{shown(coords)}"
            )
        points[row] = array[level]
    return points


def numbered(count: int, noun: str) -> str:
    """Return a number of things as text.

    Examples
    --------
    >>> from ngdata.plot.frames import numbered
    >>> numbered(1, "token"), numbered(2_103_004, "token")
    ('1 token', '2,103,004 tokens')
    """
    plural = f"{noun.removesuffix('y')}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def sequence(frame: pd.DataFrame) -> np.ndarray:
    """Return what orders rows of one time: their numbers, missing ones last."""
    if not has_columns(frame, ["sequence_number"]):
        return np.zeros(len(frame))
    own = numbers(column(frame, "sequence_number", "sequence_number"))
    return np.where(np.isnan(own), np.inf, own)


def level_of(frame: pd.DataFrame) -> int | None:
    """Return the level of a frame's x, y, z; None if it is not known, or there are several."""
    own = _attrs(frame).get("level")
    if isinstance(own, int) and 0 <= own < len(LEVELS):
        return own
    if "level" in frame.columns and len(frame):
        values = frame["level"]
        if isinstance(values, pd.Series) and pd.api.types.is_integer_dtype(values.dtype):
            first = values.iloc[0]
            if first is not pd.NA and 0 <= first < len(LEVELS) and (values == first).all():
                return int(first)
    return None


def unit_of(frame: pd.DataFrame, level: int | None = None) -> str | None:
    """Return the unit of a frame's coordinates, if it is known, on that level if one is named."""
    attrs = _attrs(frame)
    unit = attrs.get("unit")
    is_known = isinstance(unit, str) and level in (None, attrs.get("level"))
    return str(unit)[:100] if is_known else None


def _attrs(frame: pd.DataFrame) -> dict[Any, Any]:
    attrs = frame.attrs.get("ngdata")
    return attrs if isinstance(attrs, dict) else {}
