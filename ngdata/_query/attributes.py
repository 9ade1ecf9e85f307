"""The attributes of tokens that only `tokens.tokens` has, for reads of the spatial index: metadata above all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ngdata._query.filters import TokenFilter
from ngdata._query.model import Column, Kind, is_metadata_key
from ngdata._query.places import SPATIAL_INDEX, Place

__all__ = ["ATTRIBUTES", "TOKENS", "IndexRows"]

TOKENS: Final = "tokens.tokens"

ATTRIBUTES: Final = {
    Column("metadata", Kind.JSON): "metadata::text",
    Column("binary_data", Kind.BYTES): "binary_data",
    Column("created_at", Kind.TIME): "created_at",
    Column("updated_at", Kind.TIME): "updated_at",
}
"""The columns, each with its SQL expression."""

_NAMES: Final = frozenset(column.name for column in ATTRIBUTES)

# None of these names is a column of the index, so that no other expression needs a prefix.
_JOIN: Final = (
    " LEFT JOIN (SELECT id AS attributes_id, metadata, binary_data, created_at,"
    f" updated_at FROM {TOKENS}) AS attributes ON attributes_id = token_id"
)


@dataclass(frozen=True, slots=True)
class IndexRows:
    """The rows of the spatial index that a read selects from, with attributes if it needs them.

    Attributes
    ----------
    tokens : TokenFilter
    has_attributes : bool
    """

    tokens: TokenFilter
    has_attributes: bool

    @classmethod
    def of(cls, tokens: TokenFilter, columns: Iterable[Column] = ()) -> IndexRows:
        """Return the rows for a filter and the columns of an answer."""
        return cls(
            tokens,
            tokens.where is not None
            or any(column.name in _NAMES or is_metadata_key(column.name) for column in columns),
        )

    @property
    def sql(self) -> str:
        """The FROM item."""
        return SPATIAL_INDEX + (_JOIN if self.has_attributes else "")

    def beside(self, rows: str) -> str:
        """Write the FROM item of rows of the index that a subquery selects by the filter."""
        is_joined = self.tokens.where is None and self.has_attributes
        return f"({rows}) AS spatial_index{_JOIN if is_joined else ''}"

    def sampled(self, percent: float) -> str:
        """Write the FROM item of a sample of about this share of the index' pages."""
        sample = f"{SPATIAL_INDEX} TABLESAMPLE SYSTEM ({percent!r})"
        return sample + (_JOIN if self.has_attributes else "")

    @property
    def relations(self) -> tuple[str, ...]:
        """The tables that a read depends on."""
        return (SPATIAL_INDEX, TOKENS) if self.has_attributes else (SPATIAL_INDEX,)

    def conditions(self, place: Place | None = None) -> list[str]:
        """Write the SQL conditions of the filter, and those of a place."""
        inside = [] if place is None else place.conditions(is_joined=self.has_attributes)
        return inside + self.tokens.conditions()

    def conditions_on(self, level: int, place: Place | None = None) -> list[str]:
        """Write those of a level, and of a place on it if there is one."""
        if place is not None:
            return self.conditions(place)
        return [f"level = {level}", *self.conditions()]
