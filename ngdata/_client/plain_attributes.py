"""Rows of frames as attributes of a graph that every file format of networkx can hold.

These are text, integers, finite floats and bools, under names that GML, GraphML, GEXF and JSON all
accept; what is missing is left out.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

import numpy as np
import pandas as pd

from ngdata._arguments.levels import LEVELS

__all__ = ["plain_rows"]

_NOT_IN_NAMES: Final = re.compile(r"[^0-9A-Za-z_]")

# What GEXF and GML mean by these names is not an attribute.
_RESERVED: Final = frozenset(
    ("id", "key", "label", "type", "pid", "start", "end", "viz", "parents", "slices", "spells")
)

# Characters that XML 1.0 does not have.
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the attributes of each row.

    A column of coordinates becomes a column per level and axis (``x_physical``), times are ISO 8601
    text, lengths of time are seconds, dicts and lists are JSON text, bytes are hexadecimal.

    Examples
    --------
    >>> from ngdata._client.plain_attributes import plain_rows
    >>> plain_rows(pd.DataFrame({"weight": [1.5, None], "metadata.n": ["a", "b"]}))
    [{'weight': 1.5, 'metadata_n': 'a'}, {'metadata_n': 'b'}]
    """
    columns: dict[str, list[Any]] = {}
    for name, column in frame.items():
        if name == "coords":
            columns |= _coordinates(column)
        else:
            columns[_plain_name(str(name), columns)] = [_plain(value) for value in column]
    rows = zip(*columns.values(), strict=True) if columns else ((),) * len(frame)
    return [
        {name: value for name, value in zip(columns, row, strict=True) if value is not None}
        for row in rows
    ]


def _plain_name(name: str, used: dict[str, Any]) -> str:
    plain = _NOT_IN_NAMES.sub("_", name)
    if not plain[:1].isalpha():
        plain = f"a{plain}"
    while plain in _RESERVED or plain in used:
        plain += "_"
    return plain


def _coordinates(column: pd.Series[Any]) -> dict[str, list[Any]]:
    undefined = np.full((len(LEVELS), 3), np.nan)
    points = [undefined if point is None else point for point in column]
    return {
        f"{axis}_{level}": [_plain(point[index, place]) for point in points]
        for index, level in enumerate(LEVELS)
        for place, axis in enumerate("xyz")
    }


def _plain(value: Any) -> str | int | float | bool | None:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if isinstance(value, pd.Timedelta):
        return value.total_seconds()
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, bytes):
        value = value.hex()
    return _NOT_IN_XML.sub("\ufffd", str(value))
