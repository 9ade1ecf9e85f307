"""The unit of a level, read beside the version in the same statement.

So a unit is as up to date as the rows that it describes, and costs no round trip.
"""

from __future__ import annotations

from typing import Any

from ngdata._query import literals as sql
from ngdata._query.model import LEVELS, Query
from ngdata._query.moments import as_of_sql
from ngdata._query.pin import Pin

__all__ = ["level_and_unit", "split_unit", "with_unit"]


def with_unit(version: str | None, level: int, pin: Pin | None) -> str:
    """Return the statement of a text: that of the version, if any, and the unit after a line break."""
    unit = f"(SELECT unit FROM {LEVELS} WHERE level = {sql.integer(level)})"
    if pin is not None:
        unit = as_of_sql(unit, pin)
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


def level_and_unit(query: Query, unit: str | None, pin: Pin | None) -> dict[str, Any]:
    """Return what ``attrs["ngdata"]`` of a frame says about its query: the level, and the moment."""
    place = {} if query.level is None else {"level": query.level, "unit": unit}
    return place if pin is None else {**place, "pin": pin.to_attrs()}
