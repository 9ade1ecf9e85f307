"""Conditions in SQL: the filters of token reads, and others on types, weights and the row limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ngdata._arguments.numbers import as_float, as_integer, as_list
from ngdata._query import literals as sql
from ngdata.errors import InvalidQueryError

__all__ = ["TokenFilter", "any_of", "at_least", "row_limit", "where_clause"]


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """A filter on tokens, by anything but their place.

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
        # A copy: a filter is read more than once, and after the call that made it, so neither an
        # iterator nor a list that the caller may change will do.
        if self.token_type is not None and not isinstance(self.token_type, str):
            values = as_list(self.token_type)
            object.__setattr__(self, "token_type", self.token_type if values is None else values)

    def types(self) -> frozenset[str] | None:
        """Return the types that pass; None if all do."""
        if self.token_type is None:
            return None
        return frozenset([self.token_type] if isinstance(self.token_type, str) else self.token_type)

    def conditions(self) -> list[str]:
        """Write the SQL conditions; all relations of tokens have the same column names."""
        conditions = any_of("token_type", self.token_type)
        if self.flags is not None:
            flags = as_integer(self.flags)
            if flags is None or not 0 <= flags < 2**31:
                raise InvalidQueryError(
                    f"flags must be an integer from 0 to 2**31 - 1, not {self.flags!r}"
                )
            bits = sql.integer(flags)
            conditions.append(f"flags::int8 & {bits} = {bits}")
        return conditions + at_least("weight", self.min_weight)


def any_of(column: str, value: str | Iterable[str] | None) -> list[str]:
    """Write the condition that a text column has this value, or one of several."""
    if value is None:
        return []
    values = [value] if isinstance(value, str) else as_list(value)
    if values is None or not all(isinstance(text, str) for text in values):
        name = column.rpartition(".")[2]
        raise InvalidQueryError(f"{name} must be text or a sequence of texts, not {value!r}")
    if len(values) == 1:
        return [f"{column} = {sql.text(values[0])}"]
    return [f"{column} = ANY ({sql.text_array(values)})"]


def at_least(column: str, min_weight: float | None) -> list[str]:
    """Write the condition that a weight is at least `min_weight`."""
    if min_weight is None:
        return []
    bound = as_float(min_weight)
    if bound is None:
        raise InvalidQueryError(f"min_weight must be a number, not {min_weight!r}")
    return [f"{column} >= {sql.float8(bound)}"]


def row_limit(limit: int | None) -> str:
    """Write a LIMIT clause; empty without a limit."""
    if limit is None:
        return ""
    count = as_integer(limit)
    if count is None or count < 0:
        raise InvalidQueryError(f"limit must be None or an integer of at least 0, not {limit!r}")
    # PostgreSQL accepts no larger limit, and no answer is longer.
    return f" LIMIT {sql.integer(min(count, 2**63 - 1))}"


def where_clause(conditions: Sequence[str]) -> str:
    """Write a WHERE clause; empty without conditions."""
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""
