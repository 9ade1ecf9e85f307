"""Dicts in columns to a column for each of their keys: ``state_before.x`` and so on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ngdata._arguments.texts import with_text_dtype
from ngdata._reading.frames import objects
from ngdata.errors import InvalidQueryError

__all__ = ["flatten_dicts"]


def flatten_dicts(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Replace columns of dicts by one column for each key that any of the dicts has.

    Parameters
    ----------
    frame : pandas.DataFrame
    names : sequence of str
        The columns of dicts.  The new columns follow all others: in the order of `names`, then by
        their own names.

    Returns
    -------
    pandas.DataFrame
        A dict within a dict is flattened too (``state_before.arm.angle``); a list stays a list.
        The dtype of a new column is inferred by pandas from its values; missing ones are NaN.  A
        value that is not a dict (another program may have written it) stays in a column of the old
        name.

    Raises
    ------
    InvalidQueryError
        Two keys of one dict would become the same column, as in ``{"a": {"b": 1}, "a.b": 2}``.

    Examples
    --------
    >>> import pandas as pd
    >>> from ngdata._reading.flatten import flatten_dicts
    >>> frame = pd.DataFrame({"n": [1, 2], "state": [{"x": 0.5, "at": {"y": 1}}, None]})
    >>> flatten_dicts(frame, ["state"])
       n  state.at.y  state.x
    0  1         1.0      0.5
    1  2         NaN      NaN
    """
    flat: dict[str, pd.Series[Any]] = {}
    for name in names:
        values: dict[str, list[Any]] = {}
        for row, cell in enumerate(frame[name]):
            leaves: dict[str, Any] = {}
            if isinstance(cell, Mapping):
                _collect_leaves(cell, name, leaves)
            elif cell is not None:
                leaves[name] = cell
            for path, value in leaves.items():
                values.setdefault(path, [None] * len(frame))[row] = value
        flat |= {path: _series(values[path], frame.index) for path in sorted(values)}
    others = frame.drop(columns=list(names))
    result = pd.concat([others, pd.DataFrame(flat, index=frame.index)], axis="columns")
    result.attrs = frame.attrs
    return result


def _collect_leaves(cell: Mapping[str, Any], prefix: str, leaves: dict[str, Any]) -> None:
    for key, value in cell.items():
        path = f"{prefix}.{key}"
        if isinstance(value, Mapping) and value:
            _collect_leaves(value, path, leaves)
        elif path in leaves:
            raise InvalidQueryError(
                f"two keys of one dict would both be the column {path!r}; read it without "
                "flatten=True"
            )
        else:
            leaves[path] = value


def _series(values: list[Any], index: pd.Index[Any]) -> pd.Series[Any]:
    if any(isinstance(value, list | Mapping) for value in values):
        return pd.Series(objects(values), index=index)
    # pandas 2 leaves text as objects.
    return with_text_dtype(pd.Series(values, index=index))
