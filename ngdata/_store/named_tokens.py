"""The tokens that a column of a caller's frame names, and the frame with columns of these tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from ngdata._arguments.id_space import IdSpace
from ngdata._arguments.shown import own_error, shown
from ngdata._arguments.suggestions import did_you_mean
from ngdata._arguments.texts import as_text
from ngdata._store.input_frames import Frame, check_single_names, to_dataframe
from ngdata.errors import InvalidQueryError

__all__ = ["NamedTokens"]


@dataclass(frozen=True, eq=False)
class NamedTokens:
    """A frame, and the ids in one of its columns.

    Attributes
    ----------
    frame : pandas.DataFrame
        The caller's own.
    ids : list of str
        Each id, once as the caller writes it.
    places : array of int
        The place of each row's id in `ids`, or their number where the id is missing.
    """

    frame: pd.DataFrame
    ids: list[str]
    places: np.ndarray[Any, Any]

    @classmethod
    def of(cls, frame: Frame, on: str, id_space: IdSpace) -> Self:
        """Check a frame and the ids in its column `on`."""
        name = as_text(on, "on")
        try:
            # A frame of the caller's own class stays one.
            rows = frame if isinstance(frame, pd.DataFrame) else to_dataframe(frame)
            places, values = pd.factorize(_column(rows, name))
        except Exception as error:  # values without a hash; methods of a subclass
            raise own_error(error) or InvalidQueryError(
                f"the column {shown(name)} of the frame cannot be read as ids: {shown(error)}"
            ) from None
        try:
            ids = id_space.canonical_ids(pd.Series(values), name)
        except InvalidQueryError:
            # Again, one by one: the error must name a row of the frame.
            for place, value in enumerate(values):
                id_space.canonical_id(value, name, f" in row {int((places == place).argmax())}")
            raise
        return cls(rows, ids, np.where(places < 0, len(ids), places))

    def new_names(self, columns: Sequence[str], prefix: str) -> list[str]:
        """Return the names of new columns; raise if the frame has one of them."""
        names = [as_text(prefix, "prefix") + column for column in columns]
        conflicts = [name for name in names if name in self.frame.columns]
        if conflicts:
            raise InvalidQueryError(
                f"the frame already has the column {shown(conflicts[0])}; pass prefix= for the names of "
                'the new columns, such as prefix="token_", or drop the old one'
            )
        return names

    def with_columns(self, tokens: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
        """Return a copy of the frame with further columns.

        Parameters
        ----------
        tokens : pandas.DataFrame
            A row for each of `ids`, and a last one for missing ids.
        names : sequence of str
            The names of its columns in the new frame.
        """
        frame = self.frame.copy()
        rows = tokens.take(self.places)
        for name, column in zip(names, rows.columns, strict=True):
            frame[name] = rows[column].array
        frame.attrs |= tokens.attrs
        return frame


def _column(frame: pd.DataFrame, name: str) -> pd.Series[Any] | pd.Index[Any]:
    """Return the column of this name, or the level of the index."""
    check_single_names(frame)
    # A label may be anything; only text can be equal to the name.
    labels = [label for label in frame.columns if isinstance(label, str)]
    if labels.count(name) > 1:
        raise InvalidQueryError(f"the frame has two columns of the name {shown(name)}")
    if name in labels:
        column: pd.Series[Any] = frame[name]
        return column
    if list(frame.index.names).count(name) == 1:
        return frame.index.get_level_values(name)
    raise InvalidQueryError(
        f"the frame has no column {shown(name)}; pass on= with the name of the column that holds ids "
        f"of tokens{did_you_mean(name, labels)}"
    )
