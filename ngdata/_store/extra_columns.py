"""Columns of a frame that the table does not have, as keys of its metadata."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ngdata._arguments.shown import shown
from ngdata._arguments.times import is_missing
from ngdata._query.model import METADATA_KEY
from ngdata._store.row_names import row_name
from ngdata.errors import InvalidQueryError

__all__ = ["into_metadata"]


def into_metadata(frame: pd.DataFrame, names: Sequence[Any]) -> pd.DataFrame:
    """Return the frame with these columns moved into the dicts of its column `metadata`.

    A missing value has no key.  Times, dates and durations become text in ISO 8601, and UUIDs text;
    other values stay as they are, for the check of metadata to convert or to refuse.

    Raises
    ------
    InvalidQueryError
        A column without a name that can be a key, or a key that the row's metadata have already.

    Examples
    --------
    >>> import pandas as pd
    >>> from ngdata._store.extra_columns import into_metadata
    >>> frame = pd.DataFrame({"x": [1.0, 2.0], "kind": ["a", None]})
    >>> into_metadata(frame, ["kind"]).metadata.tolist()
    [{'kind': 'a'}, None]
    """
    dicts: list[Any] = [None] * len(frame)
    if "metadata" in frame:
        for row, value in enumerate(frame["metadata"].tolist()):
            # Anything but a dict is refused later, by the check of the column.
            dicts[row] = dict(value) if isinstance(value, Mapping) else value
    for name in names:
        key = _key(name)
        column = frame[name]
        for row, value in enumerate(column.tolist()):
            if is_missing(value):
                continue
            if is_missing(dicts[row]):
                dicts[row] = {}
            if not isinstance(dicts[row], dict):
                continue
            if key in dicts[row]:
                raise InvalidQueryError(
                    f"metadata in {row_name(row)} has the key {shown(key)} already, and the frame a column "
                    "of that name; drop or rename one of them"
                )
            dicts[row][key] = _json_value(value)
    metadata = pd.Series(dicts, index=frame.index, dtype=object)
    return frame.drop(columns=list(names)).assign(metadata=metadata)


def _key(name: Any) -> str:
    if not isinstance(name, str):
        raise InvalidQueryError(
            f"the column {shown(name)} must have text as its name to become a key of metadata; "
            "rename it"
        )
    return str.__str__(name).removeprefix(METADATA_KEY)


def _json_value(value: Any) -> Any:
    if isinstance(value, np.datetime64 | np.timedelta64):
        value = pd.Timestamp(value) if isinstance(value, np.datetime64) else pd.Timedelta(value)
    if isinstance(value, pd.Timedelta):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return pd.Timedelta(value).isoformat()
    if isinstance(value, dt.date | dt.time):  # datetimes and Timestamps too
        return value.isoformat()
    if isinstance(value, uuid.UUID | pd.Period | pd.Interval):
        return str(value)
    return value
