"""The points of a batch as a caller passes them: coordinates, a frame, or ids of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ngdata._arguments.id_space import IdSpace, TokenIds
from ngdata._arguments.numbers import is_number
from ngdata._arguments.points import unmasked, within_limits
from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.texts import STR, plain_text
from ngdata._query.batches import Origins
from ngdata._store.input_frames import Frame, to_dataframe, with_points
from ngdata.errors import InvalidQueryError

__all__ = ["BatchPoints", "Points"]

Points: TypeAlias = "ArrayLike | Frame | TokenIds"
"""An (n, 3) array, a frame with the columns x, y and z, or ids of tokens."""

_FORMS = "an (n, 3) array, a frame with the columns x, y and z, or ids of tokens"


@dataclass(frozen=True, eq=False)
class BatchPoints:
    """The points of a batch, checked.

    Attributes
    ----------
    origins : Origins
    labels : pandas.Index or None
        The index of the frame that they were passed as; None: they have positions, or ids.
    id_space : IdSpace
        How ids go out.
    """

    origins: Origins
    labels: pd.Index[Any] | None
    id_space: IdSpace

    @classmethod
    def of(cls, points: Any, id_space: IdSpace) -> Self:
        """Check the points of a batch."""
        origins, labels = _checked(points, "points", id_space)
        return cls(origins, labels, id_space)

    def label(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a frame with labels or ids in place of the positions in its first column."""
        positions = frame.iloc[:, 0].to_numpy()
        values: Any = None
        if self.labels is not None:
            labels = self.labels.take(positions)
            values = labels.to_numpy() if isinstance(labels, pd.MultiIndex) else labels.array
        elif self.origins.ids is not None:
            ids: pd.Series[Any] = pd.Series(self.origins.ids, dtype=STR)
            values = self.id_space.column(ids).take(positions).array
        if values is not None:
            frame.isetitem(0, values)
        return frame


@guarded
def _checked(points: Any, name: str, id_space: IdSpace) -> tuple[Origins, pd.Index[Any] | None]:
    frame = _as_frame(points, name)
    if frame is not None:
        return Origins(_coordinates_of_frame(frame, name)), frame.index
    if isinstance(points, pd.Series) and len(points) and _has_three(points.iloc[0]):
        raise _not_points(name, points)
    array = _as_coordinates(points, name)
    if array is not None:
        return Origins(within_limits(np.ascontiguousarray(array), name)), None
    return Origins(ids=id_space.canonical_ids(points, name)), None


def _as_frame(points: Any, name: str) -> pd.DataFrame | None:
    """Return a frame of any library, or a mapping of columns, as a DataFrame; None for anything else."""
    is_table = isinstance(points, pd.DataFrame | Mapping) or (
        not isinstance(points, pd.Series | np.ndarray | list | tuple | str)
        and hasattr(points, "__arrow_c_stream__")
        and (hasattr(points, "column_names") or hasattr(points, "columns"))
    )
    if not is_table:
        return None
    try:
        return to_dataframe(with_points(points))
    except InvalidQueryError as error:
        raise InvalidQueryError(f"{name} cannot be read as a frame: {error}") from None


def _coordinates_of_frame(frame: pd.DataFrame, name: str) -> np.ndarray[Any, Any]:
    labels = [plain_text(label) for label in frame.columns]
    for axis in "xyz":
        if labels.count(axis) != 1:
            lack = "has none" if axis not in labels else "has several"
            ids = "; to pass ids of tokens, pass the column, such as frame['token_id']"
            raise InvalidQueryError(
                f"{name} as a frame must have the columns 'x', 'y' and 'z', once each and in any order, "
                f"but {lack} of the name {axis!r}: {shown(list(frame.columns))}{ids}"
            )
    columns = []
    for axis in "xyz":
        column = frame.iloc[:, labels.index(axis)]
        is_nullable = isinstance(column.dtype, pd.api.extensions.ExtensionDtype)
        options: Any = {"dtype": object, "na_value": np.nan} if is_nullable else {}
        values = _floats(column.to_numpy(**options))
        if values is None:
            raise InvalidQueryError(
                f"the column {axis} of {name} must be numbers, not {shown(column.dtype)}"
            )
        columns.append(values)
    return within_limits(np.column_stack(columns), name)


def _as_coordinates(points: Any, name: str) -> np.ndarray[Any, Any] | None:
    """Return an array of shape (n, 3); None if the points are ids."""
    if isinstance(points, np.ndarray):
        if points.ndim < 2 and (points.ndim != 1 or points.dtype.kind != "f"):
            # Empty, it has no dtype that a caller chose.
            return np.empty((0, 3)) if points.shape == (0,) else None
        array = _floats(unmasked(points))
        shape = points.shape
    elif isinstance(points, list | tuple):
        if not len(points):
            return np.empty((0, 3))
        first = points[0]
        if not isinstance(first, list | tuple | np.ndarray | pd.Series):
            if all(type(value) is float for value in points[:4]):
                raise _not_points(name, points)
            return None
        if not all(_has_three(point) for point in points):
            raise _not_points(name, points)
        try:
            array = _floats(np.asarray([unmasked(point) for point in points]))
        except ValueError:
            array = None
        shape = (0,) if array is None else array.shape
    else:
        return None
    if array is None or len(shape) != 2 or shape[1] != 3:
        if shape[:1] == (0,) and array is not None:
            return np.empty((0, 3))
        raise _not_points(name, points)
    return array


def _has_three(point: Any) -> bool:
    return isinstance(point, list | tuple | np.ndarray | pd.Series) and len(point) == 3


def _not_points(name: str, points: Any) -> InvalidQueryError:
    shape = f", of the shape {points.shape}" if isinstance(points, np.ndarray) else ""
    return InvalidQueryError(
        f"{name} must be {_FORMS}, not {shown(points)}{shape}; one point is [(x, y, z)]"
    )


def _floats(values: Any) -> np.ndarray[Any, Any] | None:
    """Return numbers as float64; None if some are not numbers."""
    if values.dtype.kind == "O":
        if not all(map(is_number, values.reshape(-1).tolist())):
            return None
    elif values.dtype.kind not in "iuf":
        return None
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
