"""What an answer depends on: the places, tokens and times whose changes may change it.

Nothing else can: a read whose answer depends on more leaves it unknown, and then any change counts.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, TypeAlias

from ngdata._arguments.points import Point
from ngdata._query.places import Place

__all__ = ["ANYTHING", "Footprint", "Nearest", "Span"]

Span: TypeAlias = "tuple[dt.datetime | None, dt.datetime | None]"
"""A half-open window of times; None for no end."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """The `k` nearest tokens on a level, whose answer has their distances.

    Until the answer is full, any token of the level may be one of them.
    """

    point: Point
    k: int
    level: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """What may change an answer; None in a field: not known.

    A changed token counts if it is in `place` or `nearest`, before or after, or among `token_ids`;
    if none of these is known, each counts.

    Attributes
    ----------
    place : Place or None
        Where the tokens of the answer are.
    nearest : Nearest or None
    token_ids : collection of str or None
    tokens_in : str or None
        A column of the answer that names further tokens.
    ends : collection of str or None
        A changed connection counts if one of its ends is among these.
    ends_in : str or None
        A column of the answer that names further ends.
    times : Span or None
        A changed event counts if it is in this window, and its token among `event_tokens`.
    event_tokens : collection of str or None
    """

    place: Place | None = None
    nearest: Nearest | None = None
    token_ids: Collection[str] | None = None
    tokens_in: str | None = None
    ends: Collection[str] | None = None
    ends_in: str | None = None
    times: Span | None = None
    event_tokens: Collection[str] | None = None


ANYTHING: Final = Footprint()
"""What is known of an answer that may depend on anything in its tables."""
