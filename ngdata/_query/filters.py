"""Conditions in SQL: the filters of token reads, and others on types, weights and the row limit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ngdata._arguments.json_text import JsonError, json_text
from ngdata._arguments.numbers import as_float, as_integer
from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.texts import as_texts
from ngdata._query import literals as sql
from ngdata.errors import InvalidQueryError

__all__ = ["TokenFilter", "any_of", "at_least", "checked_limit", "row_limit", "where_clause"]


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """A filter on tokens, by anything but their place.

    It is made of what a caller passes, and holds plain Python values: it is read more than once, and
    compared with other filters, long after the call that made it.

    Attributes
    ----------
    token_type : str or sequence of str or None
        The type, or any of several; a tuple once it is checked.
    where : mapping or None
        Keep tokens whose metadata contain this, as JSON; canonical JSON text once it is checked.
    flags : int or None
        Keep tokens that have all of these bits.
    min_weight : float or None
        Keep tokens of at least this weight.
    """

    token_type: str | Sequence[str] | None = None
    where: Mapping[str, Any] | str | None = None
    flags: int | None = None
    min_weight: float | None = None

    def __post_init__(self) -> None:
        if self.token_type is not None:
            object.__setattr__(self, "token_type", as_texts(self.token_type, "token_type"))
        if self.where is not None:
            object.__setattr__(self, "where", _contained_json(self.where, "where"))
        if self.flags is not None:
            flags = as_integer(self.flags)
            if flags is None or not 0 <= flags < 2**31:
                raise InvalidQueryError(
                    f"flags must be an integer from 0 to 2**31 - 1, not {shown(self.flags)}"
                )
            object.__setattr__(self, "flags", flags)
        object.__setattr__(self, "min_weight", _bound(self.min_weight))

    def types(self) -> frozenset[str] | None:
        """Return the types that pass; None if all do."""
        return None if self.token_type is None else frozenset(self.token_type)

    def conditions(self) -> list[str]:
        """Write the SQL conditions; all relations of tokens have the same column names.

        Only `tokens.tokens` has ``metadata``: `ngdata._query.attributes` joins it to the others.
        """
        conditions = any_of("token_type", self.token_type)
        if isinstance(self.where, str):
            conditions.append(f"metadata @> {sql.jsonb(self.where)}")
        if self.flags is not None:
            bits = sql.integer(self.flags)
            conditions.append(f"flags::int8 & {bits} = {bits}")
        return conditions + at_least("weight", self.min_weight)


@guarded
def _contained_json(value: Any, name: str) -> str:
    """Return a mapping as JSON text, in which equal mappings are equal."""
    text = "{}"
    if isinstance(value, Mapping):
        try:
            text = json_text(value)
        except JsonError as error:
            raise InvalidQueryError(f"{name}{error.place} {error.problem}") from None
    if text == "{}":
        raise InvalidQueryError(
            f"{name} must be a mapping of keys of metadata to values, with at least one key, such as "
            f'{{"cell_type": "AVA"}}, not {shown(value)}'
        )
    return json.dumps(json.loads(text), ensure_ascii=False, sort_keys=True)


def any_of(column: str, value: str | Iterable[str] | None) -> list[str]:
    """Write the condition that a text column has this value, or one of several."""
    if value is None:
        return []
    values = as_texts(value, column.rpartition(".")[2])
    if len(values) == 1:
        return [f"{column} = {sql.text(values[0])}"]
    return [f"{column} = ANY ({sql.text_array(values)})"]


def at_least(column: str, min_weight: float | None) -> list[str]:
    """Write the condition that a weight is at least `min_weight`."""
    bound = _bound(min_weight)
    return [] if bound is None else [f"{column} >= {sql.float8(bound)}"]


def _bound(min_weight: float | None) -> float | None:
    bound = as_float(min_weight)
    if bound is None and min_weight is not None:
        raise InvalidQueryError(f"min_weight must be a number, not {shown(min_weight)}")
    return bound


def checked_limit(limit: int | None) -> int | None:
    """Return a limit of rows, checked; None means no limit."""
    if limit is None:
        return None
    count = as_integer(limit)
    if count is None or count < 0:
        raise InvalidQueryError(
            f"limit must be None or an integer of at least 0, not {shown(limit)}"
        )
    # PostgreSQL accepts no larger limit, and no answer is longer.
    return min(count, 2**63 - 1)


def row_limit(limit: int | None) -> str:
    """Write a LIMIT clause; empty without a limit."""
    count = checked_limit(limit)
    return "" if count is None else f" LIMIT {sql.integer(count)}"


def where_clause(conditions: Sequence[str]) -> str:
    """Write a WHERE clause; empty without conditions."""
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""
