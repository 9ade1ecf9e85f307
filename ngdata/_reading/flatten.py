"""Dicts in columns to columns of their own: ``state_before`` becomes ``state_before.x`` and so on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ngdata.errors import InvalidQueryError

__all__ = ["flattened"]


def flattened(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Replace columns of dicts by a column for each key that any of them has.

    Parameters
    ----------
    frame : pandas.DataFrame
    names : sequence of str
        Its columns of dicts; the new ones stand behind the others, in this order, then by name.

    Returns
    -------
    pandas.DataFrame
        A dict within a dict is flattened too (``state_before.arm.angle``), a list stays one.  The
        dtype of a new column is what pandas makes of its values; missing ones are NaN.  What is no
        dict (another program may have written it) stays in a column of the old name.

    Raises
    ------
    InvalidQueryError
        Two keys of one dict would be one column, as ``{"a": {"b": 1}, "a.b": 2}``.

    Examples
    --------
    >>> import pandas as pd
    >>> from ngdata._reading.flatten import flattened
    >>> frame = pd.DataFrame({"n": [1, 2], "state": [{"x": 0.5, "at": {"y": 1}}, None]})
    >>> flattened(frame, ["state"])
       n  state.at.y  state.x
    0  1         1.0      0.5
    1  2         NaN      NaN
    """
    made: dict[str, pd.Series[Any]] = {}
    for name in names:
        values: dict[str, list[Any]] = {}
        for row, cell in enumerate(frame[name]):
            found: dict[str, Any] = {}
            if isinstance(cell, Mapping):
                _collect(cell, name, found)
            elif cell is not None:
                found[name] = cell
            for key, value in found.items():
                values.setdefault(key, [None] * len(frame))[row] = value
        made |= {key: _column(values[key], frame.index) for key in sorted(values)}
    kept = frame.drop(columns=list(names))
    whole = pd.concat([kept, pd.DataFrame(made, index=frame.index)], axis="columns")
    whole.attrs = frame.attrs
    return whole


def _collect(cell: Mapping[str, Any], path: str, found: dict[str, Any]) -> None:
    for key, value in cell.items():
        here = f"{path}.{key}"
        if isinstance(value, Mapping) and value:
            _collect(value, here, found)
        elif here in found:
            raise InvalidQueryError(
                f"two keys of one dict would both be the column {here!r}; read it without "
                "flatten=True"
            )
        else:
            found[here] = value


def _column(values: list[Any], index: pd.Index[Any]) -> pd.Series[Any]:
    if any(isinstance(value, list | Mapping) for value in values):
        cells = np.empty(len(values), dtype=object)
        for place, value in enumerate(values):
            cells[place] = value
        return pd.Series(cells, index=index)
    return pd.Series(values, index=index)
