"""Dicts as JSON text that PostgreSQL's `jsonb` returns unchanged.

The encoder refuses most of what JSON does not have, at the speed of C.  The dicts are walked in
Python only for what it accepts silently, and, once it failed, to find the place of the failure.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pandas as pd

from ngdata._arguments.shown import own_error

__all__ = ["JsonError", "json_text"]

_MAX_DEPTH: Final = 500
_MAX_SUBSCRIPTS: Final = 8
_MAX_DIGITS: Final = 131_072
"""What PostgreSQL's numeric holds before the decimal point."""

# An escaped NUL: an odd number of backslashes before u0000.
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

# A string, which is skipped, or a float that repr writes with an exponent.  The possessive ++ and *+
# keep nothing to go back to: that would take a hundred bytes for each character.
_LARGE: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|-?[0-9.]+e\+[0-9]+')

# A string, which is skipped, or the digits of a number.
_DIGITS: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|[0-9]+')

# Bools, integers, floats, text and objects: the arrays whose items may become JSON.
_ARRAY_KINDS: Final = "biufOUT"


class JsonError(ValueError):
    """A dict cannot be written as JSON.

    Attributes
    ----------
    place : str
        Where in the dict, as subscripts: ``['a'][2]``; empty for the dict itself.
    problem : str
        What is there, and what to do about it.
    """

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"a dict cannot be written as JSON: {place or 'it'} {problem}")
        self.place = place
        self.problem = problem


def json_text(value: Mapping[Any, Any]) -> str:
    """Write a dict as JSON; NumPy's numbers and arrays in it become numbers and lists.

    Raises
    ------
    JsonError
        The dict holds what JSON or `jsonb` cannot: keys that are not text, NaN, times, sets, NUL,
        half a surrogate pair.

    Examples
    --------
    >>> from ngdata._arguments.json_text import json_text
    >>> json_text({"large": 1e23})
    '{"large": 100000000000000000000000.0}'
    """
    try:
        plain = dict(value)
        text = _ENCODER.encode(plain)
        # The encoder writes the keys 1, 1.5, True and None as text, and this does not.
        "".join(plain)
        if text.count("{") > 1:
            _join_keys(plain.values())
        text.encode()
        if "u0000" in text and _NUL.search(text):
            raise ValueError("NUL")
        if text.count("{") + text.count("[") > _MAX_DEPTH:
            _measure(plain)
        if len(text) > _MAX_DIGITS and any(_is_huge(match[0]) for match in _DIGITS.finditer(text)):
            raise ValueError("digits")
    except Exception as error:  # subclasses of dict and of NumPy's arrays may raise anything
        raise own_error(error) or _error(value, error) from None
    return _LARGE.sub(_positional, text) if "e+" in text else text


def _positional(match: re.Match[str]) -> str:
    # jsonb reads 1e+23 as an integer, which differs from the float.
    text = match[0]
    return text if text[0] == '"' else f"{Decimal(text):f}.0"


def _is_huge(text: str) -> bool:
    return text[0] != '"' and len(text) > _MAX_DIGITS


def _plain(value: object) -> object:
    """Return a scalar or an array of NumPy as Python's values."""
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in _ARRAY_KINDS:
        return float(value) if isinstance(value, np.longdouble) else value.tolist()
    raise TypeError(type(value).__name__)


# Made once: json.dumps makes a new encoder for each call.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain)


def _join_keys(values: Any) -> None:
    """Raise TypeError if a dict somewhere in these values has a key that is not text."""
    unread = [values]
    while unread:
        for value in unread.pop():
            if isinstance(value, dict):
                "".join(value)
                unread.append(value.values())
            elif isinstance(value, list | tuple):
                unread.append(value)
            elif isinstance(value, np.ndarray) and value.dtype.kind == "O":
                unread.append(value.flat)


def _measure(value: dict[Any, Any]) -> None:
    """Raise RecursionError for a dict that is nested too deeply for its readers."""
    level: list[Any] = [value]
    for _ in range(_MAX_DEPTH + 1):
        nested = []
        for outer in level:
            for item in outer.values() if isinstance(outer, dict) else outer:
                plain = item.tolist() if isinstance(item, np.ndarray) else item
                if isinstance(plain, dict | list | tuple):
                    nested.append(plain)
        if not nested:
            return
        level = nested
    raise RecursionError


# --- the place of a failure --------------------------------------------------------------------------


def _error(value: Mapping[Any, Any], error: Exception) -> JsonError:
    """Return the error that names the first bad place, or says what the encoder raised."""
    try:
        bad = _first_bad(dict(value), "", 0)
    except Exception as failure:
        error, bad = failure, None
    if bad is not None:
        return bad
    if isinstance(error, RecursionError):
        return _too_deep()
    return JsonError("", f"cannot be read ({type(error).__name__[:100]}); write a plain dict")


def _too_deep() -> JsonError:
    problem = f"is nested deeper than {_MAX_DEPTH} levels, or contains itself"
    return JsonError("", f"{problem}; write a flatter dict")


def _first_bad(value: object, place: str, depth: int) -> JsonError | None:
    """Return the error of the first bad value, None if there is none."""
    if depth > _MAX_DEPTH:
        return _too_deep()
    problem = _problem(value)
    if problem is not None:
        return JsonError(place, problem)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, dict | list | tuple):
        return None
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if not isinstance(key, str) and isinstance(value, dict):
            kind = type(key).__name__[:100]
            return JsonError(
                place,
                f"has the key {_cut(key)} of type {kind}, but keys must be text; write str(key)",
            )
        problem = _text_problem(key) if isinstance(key, str) else None
        if problem is not None:
            return JsonError(place, f"has the key {_cut(key)}, which {problem}")
        inner = f"{place}[{_cut(key)}]" if depth < _MAX_SUBSCRIPTS else place
        if depth == _MAX_SUBSCRIPTS:
            inner += "[...]"
        bad = _first_bad(item, inner, depth + 1)
        if bad is not None:
            return bad
    return None


def _cut(key: object) -> str:
    try:
        # Half a surrogate pair cannot be printed.
        text = repr(key).encode("utf-8", "backslashreplace").decode()
    except Exception:
        return f"<{type(key).__name__[:40]}>"
    return text if len(text) <= 50 else text[:47] + "..."


_INSTEAD: Final[tuple[tuple[tuple[type, ...], str], ...]] = (
    ((type(pd.NA), type(pd.NaT)), "None, the JSON null"),
    (
        (dt.timedelta, np.timedelta64, pd.offsets.BaseOffset, pd.Period, pd.Interval),
        "text, str(value), or a number",
    ),
    ((dt.date, dt.time, np.datetime64), "text, str(value)"),
    ((set, frozenset), "a list, sorted(value)"),
    ((bytes, bytearray, memoryview), "text, value.hex() or value.decode()"),
    ((Decimal,), "float(value) or str(value)"),
    ((complex, np.complexfloating), "a list, [value.real, value.imag]"),
    ((pd.DataFrame,), 'a list of dicts, value.to_dict("records")'),
    ((pd.Series, pd.Index, pd.api.extensions.ExtensionArray), "a list, value.tolist()"),
    ((np.ndarray,), "a list of text, value.astype(str).tolist()"),
)
"""What to write in place of values of these types; the first match counts."""


def _problem(value: object) -> str | None:
    """Return what is wrong with a value, its items aside; None if JSON has it."""
    if value is None or isinstance(value, bool | np.bool_ | dict | list | tuple):
        return None
    if isinstance(value, str):
        problem = _text_problem(value)
        return None if problem is None else f"is {_cut(value)}, which {problem}"
    if isinstance(value, float | np.floating) and not np.isfinite(value):
        number = "NaN" if np.isnan(value) else repr(float(value))
        return f"is {number}, which JSON does not have; write None, the JSON null, instead"
    if isinstance(value, int):
        return _integer_problem(value)
    if isinstance(value, float) or (
        isinstance(value, np.generic | np.ndarray) and value.dtype.kind in _ARRAY_KINDS
    ):
        return None
    kind = type(value).__name__[:100]
    if isinstance(value, np.ndarray):
        kind = f"ndarray of {str(value.dtype)[:100]}"
    default = "dicts, lists, text, numbers, True, False and None"
    instead = next((form for types, form in _INSTEAD if isinstance(value, types)), default)
    return f"is of type {kind}, which JSON does not have; write {instead}"


def _text_problem(text: str) -> str | None:
    if "\0" in text:
        return "holds NUL, which PostgreSQL's jsonb does not have; leave it out"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half a surrogate pair, which UTF-8 does not have; leave it out"
    return None


def _integer_problem(value: int) -> str | None:
    try:
        digits = len(int.__repr__(value).lstrip("-"))
    except ValueError:  # Python's own bound, usually 4,300 digits
        digits = _MAX_DIGITS + 1
    if digits <= _MAX_DIGITS:
        return None
    return "is an integer of too many digits; write text, or a float"
