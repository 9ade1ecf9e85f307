"""Dicts as JSON text that PostgreSQL's `jsonb` returns unchanged."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import numpy as np

__all__ = ["json_text"]

# An escaped NUL: an odd number of backslashes before u0000.
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

# A string, which is skipped, or a float that repr writes with an exponent.
_LARGE: Final = re.compile(r'"(?:[^"\\]|\\.)*"|-?[0-9.]+e\+[0-9]+')


def json_text(value: Mapping[Any, Any]) -> str:
    """Write a dict as JSON; NumPy's numbers and arrays in it become numbers and lists.

    Raises
    ------
    ValueError
        The dict holds what JSON or `jsonb` cannot: NaN, NUL, half a surrogate pair, other types.

    Examples
    --------
    >>> from ngdata._arguments.json_text import json_text
    >>> json_text({"large": 1e23})
    '{"large": 100000000000000000000000.0}'
    """
    try:
        text = _ENCODER.encode(dict(value))
        text.encode()
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if "u0000" in text and _NUL.search(text):
        raise ValueError("text must not contain NUL")
    return _LARGE.sub(_positional, text) if "e+" in text else text


def _positional(match: re.Match[str]) -> str:
    # jsonb reads 1e+23 as an integer, which differs from the float.
    text = match[0]
    return text if text[0] == '"' else f"{Decimal(text):f}.0"


def _plain(value: object) -> object:
    if isinstance(value, np.longdouble):
        return float(value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON serializable")


# Made once: json.dumps makes a new encoder for each call.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain)
