"""Suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest"]

# A longer name cannot be a misspelt one, and comparing it is slow.
_MAX_LENGTH = 100


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return the end of an error, naming the known name closest to `name`; empty if none is close.

    Examples
    --------
    >>> from ngdata._arguments.suggestions import did_you_mean
    >>> did_you_mean("wieght", ["x", "weight"])
    "; did you mean 'weight'?"
    """
    match = nearest(name, known)
    return "" if match is None else f"; did you mean {match!r}?"


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Return the known name closest to `name`; None if none is close.

    Examples
    --------
    >>> from ngdata._arguments.suggestions import nearest
    >>> nearest("wieght", ["x", "weight"])
    'weight'
    """
    if not isinstance(name, str) or len(name) > _MAX_LENGTH:
        return None
    return next(iter(difflib.get_close_matches(str.__str__(name), list(known), n=1)), None)
