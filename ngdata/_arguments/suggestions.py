"""Arguments that must be one of a few words, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from ngdata.errors import InvalidQueryError

__all__ = ["checked_word", "did_you_mean"]


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return the end of an error, naming the known name closest to `name`; empty if none is close.

    Examples
    --------
    >>> from ngdata._arguments.suggestions import did_you_mean
    >>> did_you_mean("wieght", ["x", "weight"])
    "; did you mean 'weight'?"
    """
    matches = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def checked_word(value: Any, allowed: Sequence[str], name: str) -> str:
    """Check an argument that must be one of at least two words.

    Parameters
    ----------
    value : object
    allowed : sequence of str
    name : str
        The argument's name, for the error.

    Examples
    --------
    >>> from ngdata._arguments.suggestions import checked_word
    >>> checked_word("any", ("both", "any"), "ends")
    'any'
    """
    if isinstance(value, str) and value in allowed:
        return value
    words = ", ".join(map(repr, allowed[:-1]))
    raise InvalidQueryError(
        f"{name} must be {words} or {allowed[-1]!r}, not {value!r}{did_you_mean(value, allowed)}"
    )
