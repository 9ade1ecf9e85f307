"""What a misspelt name may have meant, as errors say it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(given: object, offered: Iterable[str]) -> str:
    """Give the end of an error that names the nearest of what is offered; nothing if none is near.

    Examples
    --------
    >>> from ngdata._arguments.suggestions import did_you_mean
    >>> did_you_mean("wieght", ["x", "weight"])
    "; did you mean 'weight'?"
    """
    near = difflib.get_close_matches(str(given), list(offered), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
