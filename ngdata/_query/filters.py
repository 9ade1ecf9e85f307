"""The filters that token reads share, and the other conditions that are checked the same way."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ngdata._arguments.numbers import as_float, as_list
from ngdata._query import literals as sql
from ngdata.errors import InvalidQueryError

__all__ = [
    "TokenFilter",
    "any_of",
    "clause",
    "row_limit",
    "smallest_weight",
]


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """Which tokens are wanted, beside where they are.

    Attributes
    ----------
    token_type : str or sequence of str or None
        The type, or any of several.
    flags : int or None
        Keep tokens that have all of these bits.
    min_weight : float or None
        Keep tokens of at least this weight.
    """

    token_type: str | Sequence[str] | None = None
    flags: int | None = None
    min_weight: float | None = None

    def __post_init__(self) -> None:
        # A filter is looked at more than once, and later: neither an iterator nor the caller's own
        # list would do.
        if self.token_type is not None and not isinstance(self.token_type, str):
            listed = as_list(self.token_type)
            object.__setattr__(self, "token_type", self.token_type if listed is None else listed)

    def types(self) -> frozenset[str] | None:
        """Give the types that are kept; None if all are."""
        if self.token_type is None:
            return None
        return frozenset([self.token_type] if isinstance(self.token_type, str) else self.token_type)

    def conditions(self) -> list[str]:
        """Give the SQL conditions; columns have the same names in every token relation."""
        found = any_of("token_type", self.token_type)
        if self.flags is not None:
            if (
                not isinstance(self.flags, numbers.Integral)
                or isinstance(self.flags, bool)
                or not 0 <= self.flags < 2**31
            ):
                raise InvalidQueryError(
                    f"flags must be an integer from 0 to 2**31 - 1, not {self.flags!r}"
                )
            bits = sql.integer(int(self.flags))
            found.append(f"flags::int8 & {bits} = {bits}")
        return found + smallest_weight(self.min_weight)


def any_of(column: str, wanted: str | Iterable[str] | None) -> list[str]:
    """Give the condition that a text column is the one wanted, or one of several."""
    if wanted is None:
        return []
    values = [wanted] if isinstance(wanted, str) else as_list(wanted)
    if values is None or not all(isinstance(value, str) for value in values):
        name = column.rpartition(".")[2]
        raise InvalidQueryError(f"{name} must be text or a sequence of texts, not {wanted!r}")
    if len(values) == 1:
        return [f"{column} = {sql.text(values[0])}"]
    return [f"{column} = ANY ({sql.text_array(values)})"]


def smallest_weight(min_weight: float | None, column: str = "weight") -> list[str]:
    """Give the condition that a weight is at least this."""
    if min_weight is None:
        return []
    least = as_float(min_weight)
    if least is None:
        raise InvalidQueryError(f"min_weight must be a number, not {min_weight!r}")
    return [f"{column} >= {sql.float8(least)}"]


def row_limit(limit: int | None) -> str:
    """Give the LIMIT clause, or nothing."""
    if limit is None:
        return ""
    if not isinstance(limit, numbers.Integral) or isinstance(limit, bool) or limit < 0:
        raise InvalidQueryError(f"limit must be None or an integer of at least 0, not {limit!r}")
    # PostgreSQL takes no larger one, and no answer is longer.
    return f" LIMIT {sql.integer(min(int(limit), 2**63 - 1))}"


def clause(conditions: Sequence[str]) -> str:
    """Give a WHERE clause of these conditions, or nothing."""
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""
