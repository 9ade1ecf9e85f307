"""The eight coordinate spaces of a token, by index and by name."""

from __future__ import annotations

import numbers
from typing import Final, TypeAlias

from ngdata._arguments.suggestions import did_you_mean
from ngdata.errors import InvalidQueryError

__all__ = ["LEVELS", "Level", "level_index"]

LEVELS: Final = (
    "physical",
    "sensory",
    "motor",
    "emotional",
    "cognitive",
    "social",
    "temporal",
    "abstract",
)

Level: TypeAlias = int | str


def level_index(level: Level) -> int:
    """Give the index of a level that was named or numbered.

    Parameters
    ----------
    level : int or str
        0 to 7, or a name out of `LEVELS`.

    Returns
    -------
    int

    Raises
    ------
    InvalidQueryError
        For anything else.

    Examples
    --------
    >>> from ngdata._arguments.levels import level_index
    >>> level_index("temporal")
    6
    """
    if isinstance(level, str):
        if level.lower() in LEVELS:
            return LEVELS.index(level.lower())
        hint = did_you_mean(level.lower(), LEVELS)
        raise InvalidQueryError(f"level {level!r} is none of {', '.join(LEVELS)}{hint}")
    if isinstance(level, numbers.Integral) and not isinstance(level, bool) and 0 <= level < 8:
        return int(level)
    raise InvalidQueryError(
        f"level must be an integer from 0 to 7 or one of {', '.join(LEVELS)}, not {level!r}"
    )
