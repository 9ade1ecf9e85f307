"""What a read asks for that the store may not have at all: the possible causes of an empty answer."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeAlias

from ngdata._query.filters import TokenFilter
from ngdata._query.places import Place

__all__ = ["Asked", "Rows"]

Rows: TypeAlias = Literal["tokens", "connections", "events", "trajectories"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a read asks for.

    Attributes
    ----------
    rows : str
        What the rows of the answer are.
    types : sequence of str or None
        The `connection_type` or `event_type` of the rows, checked.
    start, end : datetime or None
        A half-open window of the events' times.
    level : int or None
        The level on which tokens are looked for; None: wherever they are.
    place : Place or None
        Where tokens are looked for on that level.
    token_types : sequence of str or None
    metadata : str or None
        What the tokens' metadata contain, as JSON text.
    """

    rows: Rows
    types: Sequence[str] | None = None
    start: dt.datetime | None = None
    end: dt.datetime | None = None
    level: int | None = None
    place: Place | None = None
    token_types: Sequence[str] | None = None
    metadata: str | None = None

    @classmethod
    def tokens(cls, level: int | None, place: Place | None, where: TokenFilter) -> Self:
        """Return what a read of tokens asks for."""
        return cls("tokens", level=level, place=place).of_tokens(where)

    def of_tokens(self, where: TokenFilter) -> Self:
        """Return the same with tokens that pass a filter."""
        # Plain since they were checked.
        token_types: Any = where.token_type
        metadata: Any = where.where
        return replace(self, token_types=token_types, metadata=metadata)

    def within(self, place: Place | None) -> Self:
        """Return the same with tokens in a place."""
        return self if place is None else replace(self, level=place.level, place=place)
