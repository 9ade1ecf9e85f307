"""The keys of groups as pandas groups: rows with a missing key are left out, and keys are in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ngdata._arguments.shown import is_instance
from ngdata._query import literals as sql
from ngdata._query.model import Column, Kind, choose, is_metadata_key

__all__ = ["Keys", "by_code_points", "with_group"]


@dataclass(frozen=True, slots=True)
class Keys:
    """Columns to group by.

    Attributes
    ----------
    expressions : dict of Column to str
        Each with the SQL expression that makes the groups; an id is a uuid, and is sent as text.
    """

    expressions: dict[Column, str]

    @classmethod
    def of(
        cls,
        by: str | Sequence[str] | None,
        available: dict[Column, str],
        metadata: str,
        name: str = "by",
    ) -> Self:
        """Check an argument that names one column, several or none; ``metadata.KEY`` is one too."""
        if by is None:
            return cls({})
        names: Any = [by] if is_instance(by, str, name) else by
        chosen = choose(available, names, metadata=metadata, name=name)
        return cls(
            {
                column: by_code_points(expression)
                if column.kind is Kind.TEXT and not _is_id(column)
                else expression
                for column, expression in chosen.items()
            }
        )

    def select(self) -> list[str]:
        """Write the items of the SELECT list."""
        return [
            f"{expression}{'::text' if _is_id(column) else ''} AS {sql.identifier(column.name)}"
            for column, expression in self.expressions.items()
        ]

    def conditions(self) -> list[str]:
        """Write the conditions that no key is missing; only ids and metadata can be."""
        return [
            f"{expression} IS NOT NULL"
            for column, expression in self.expressions.items()
            if _is_id(column) or is_metadata_key(column.name)
        ]

    def clauses(self, first: Iterable[str] = (), last: Iterable[str] = ()) -> str:
        """Write GROUP BY and ORDER BY, with further keys before or after; empty without keys."""
        terms = ", ".join([*first, *self.expressions.values(), *last])
        return f" GROUP BY {terms} ORDER BY {terms}" if terms else ""


def with_group(rows: str, expression: str, name: str, alias: str, *, are_few: bool = True) -> str:
    """Write the FROM item of rows with another column to group by, which is an expression of theirs.

    OFFSET keeps the subquery apart: the planner would expect the expression to have as many values as
    the columns in it, points or times, and sort all rows, which takes two to four times as long as to
    count those of a few thousand groups.  With a bare 0, which is cast when the query is planned, the
    server would not use several processes.  If the groups are not few, sorting is the better plan.
    """
    apart = f" OFFSET {sql.integer(0)}" if are_few else ""
    return f"(SELECT *, {expression} AS {name} FROM {rows}{apart}) AS {alias}"


def by_code_points(text: str) -> str:
    """Write text that is compared by code points, as Python does, whatever the database's locale."""
    return f'({text}) COLLATE "C"'


def _is_id(column: Column) -> bool:
    return column.name.endswith("_id") and not is_metadata_key(column.name)
