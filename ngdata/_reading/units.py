"""The unit of a level, read beside the version in the same statement.

So a unit is as up to date as the rows that it describes, and costs no round trip.
"""

from __future__ import annotations

from typing import Any

from ngdata._query import literals as sql
from ngdata._query.model import LEVELS, Query

__all__ = ["level_and_unit", "split_unit", "with_unit"]


def with_unit(version: str | None, level: int) -> str:
    """Return the statement of a text: that of the version, if any, and the unit after a line break."""
    unit = f"(SELECT unit FROM {LEVELS} WHERE level = {sql.integer(level)})"
    first = "''" if version is None else f"coalesce(({version}), '')"
    return f"SELECT {first} || coalesce(chr(10) || {unit}, '')"


def split_unit(text: str | None) -> tuple[str | None, str | None]:
    r"""Return the version's text, and the unit, from the text of `with_unit`.

    Examples
    --------
    >>> from ngdata._reading.units import split_unit
    >>> split_unit("version\nµm"), split_unit("version"), split_unit("\nmm")
    (('version', 'µm'), ('version', None), (None, 'mm'))
    """
    version, _, unit = (text or "").partition("\n")
    return version or None, unit or None


def level_and_unit(query: Query, unit: str | None) -> dict[str, Any]:
    """Return what ``attrs["ngdata"]`` of a frame says about the level that its query is of."""
    return {} if query.level is None else {"level": query.level, "unit": unit}
