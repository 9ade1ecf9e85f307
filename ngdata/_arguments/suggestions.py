"""Suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean"]

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
    if not isinstance(name, str) or len(name) > _MAX_LENGTH:
        return ""
    matches = difflib.get_close_matches(str.__str__(name), list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
