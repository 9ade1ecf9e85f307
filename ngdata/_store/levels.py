"""Writes of levels: their units and descriptions, in `tokens.levels`."""

from __future__ import annotations

from collections.abc import Mapping
from types import EllipsisType
from typing import Final

from ngdata._arguments.shown import shown
from ngdata._arguments.texts import as_text
from ngdata._connections.write_connection import WriteConnection
from ngdata.errors import InvalidQueryError, NotFoundError

__all__ = ["check_changes", "update_level"]

_MAX_UNIT_LENGTH: Final = 100


def check_changes(
    unit: str | EllipsisType | None, description: str | EllipsisType | None
) -> dict[str, str | None]:
    """Return the columns to change with their values: None where the text is to be removed.

    Raises
    ------
    InvalidQueryError
        There is nothing to change, or a value is not text.
    """
    changes: dict[str, str | None] = {}
    for name, value in (("unit", unit), ("description", description)):
        if value is None or value is ...:
            continue
        text = as_text(value, name)
        if name == "unit" and not (text.isprintable() and len(text) <= _MAX_UNIT_LENGTH):
            raise InvalidQueryError(
                f"unit must be printable text of at most {_MAX_UNIT_LENGTH} characters, such as 'mm', "
                f"not {shown(text)}"
            )
        changes[name] = text or None
    if not changes:
        raise InvalidQueryError(
            "set_level needs a unit or a description; an empty text removes the present one"
        )
    return changes


async def update_level(
    connection: WriteConnection, level: int, changes: Mapping[str, str | None]
) -> None:
    """Change a level's unit, description or both."""
    assignments = ", ".join(
        f"{name} = ${parameter}::text" for parameter, name in enumerate(changes, start=2)
    )
    statement = f"UPDATE tokens.levels SET {assignments} WHERE level = $1::int4 RETURNING level"
    if not await connection.fetch(statement, level, *changes.values()):
        raise NotFoundError.of("level", [str(level)])
