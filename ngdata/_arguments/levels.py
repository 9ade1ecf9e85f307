"""The eight levels, a token's coordinate spaces, by index and by name."""

from __future__ import annotations

from typing import Final, TypeAlias

from ngdata._arguments.numbers import as_integer
from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.suggestions import did_you_mean
from ngdata._arguments.texts import plain_text
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


@guarded
def level_index(level: Level, name: str = "level") -> int:
    """Return the index of a level.

    Parameters
    ----------
    level : int or str
        0 to 7, or a name from `LEVELS`.
    name : str
        The argument's name, for the error.

    Returns
    -------
    int

    Raises
    ------
    InvalidQueryError
        For any other value.

    Examples
    --------
    >>> from ngdata._arguments.levels import level_index
    >>> level_index("temporal")
    6
    """
    text = plain_text(level)
    if text is not None:
        if text.lower() in LEVELS:
            return LEVELS.index(text.lower())
        hint = did_you_mean(text.lower(), LEVELS)
    else:
        index = as_integer(level)
        if index is not None and 0 <= index < len(LEVELS):
            return index
        hint = ""
    raise InvalidQueryError(
        f"{name} must be an integer from 0 to 7 or one of {', '.join(LEVELS)}, not {shown(level)}{hint}"
    )
