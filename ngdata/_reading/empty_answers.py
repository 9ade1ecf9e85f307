"""Why an answer is empty: a second look at the store, which only an empty answer pays for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from ngdata._arguments.levels import LEVELS
from ngdata._arguments.shown import MAX_SHOWN, shown
from ngdata._arguments.suggestions import did_you_mean
from ngdata._query import overview
from ngdata._query.asked import Asked
from ngdata._query.model import Query
from ngdata._query.places import Place

__all__ = ["causes"]

Row: TypeAlias = "dict[str, Any]"
Read: TypeAlias = Callable[[Query], Awaitable[list[Row]]]

# Further ones are not named in a message.
_MAX_NAMED = 5


async def causes(asked: Asked, read: Read) -> list[str]:
    """Return why the store has no such rows, as far as a look at types, extents and times shows it.

    Parameters
    ----------
    asked : Asked
    read : async function
        Reads a query, and returns its rows.
    """
    reasons: list[str] = []
    if asked.rows != "tokens":
        rows = await read(_overview(asked))
        if not rows:
            return [f"the store holds no {asked.rows}"]
        reasons = _type_reasons(asked, rows) + _window_reasons(asked, rows)
    elif asked.level is None and not await read(overview.first("tokens")):
        return ["the store holds no tokens"]
    if asked.level is None and asked.token_types:
        types = [row["token_type"] for row in await read(overview.token_types())]
        reasons += _missing_types("token_type", asked.token_types, types, "token")
    if asked.level is not None:
        levels = await read(overview.levels(asked.level))
        if levels:
            reasons += _token_reasons(asked, levels[0])
        else:
            names = [LEVELS[row["level"]] for row in await read(overview.levels_in_use())]
            if not names and asked.rows == "tokens":
                return ["the store holds no tokens"]
            reasons.append(
                f"no token has level {LEVELS[asked.level]!r}"
                + (f"; there are tokens on {_listed(names)}" if names else "")
            )
    if asked.metadata is not None and not await read(overview.tokens_with(asked.metadata)):
        reasons.append(f"no token has metadata that contain {asked.metadata[:MAX_SHOWN]}")
    return reasons


def _overview(asked: Asked) -> Query:
    """Return the cheapest query whose rows show what is needed; without rows, there are none."""
    if asked.rows == "connections":
        return overview.connections() if asked.types else overview.first(asked.rows)
    if asked.rows == "events":
        return overview.events() if asked.types else overview.event_times()
    return overview.first(asked.rows)


def _type_reasons(asked: Asked, rows: list[Row]) -> list[str]:
    if not asked.types:
        return []
    noun = asked.rows.removesuffix("s")
    return _missing_types(f"{noun}_type", asked.types, [row[f"{noun}_type"] for row in rows], noun)


def _missing_types(
    argument: str, types: Sequence[str], known: Sequence[str], rows: str
) -> list[str]:
    missing = [each for each in types if each not in known]
    if not missing:
        return []
    hints = [hint for each in missing if (hint := did_you_mean(each, known))]
    # Without a similar name, the ones there are may help, if they are few.
    hint = hints[0] if hints else f"; there is {_listed(map(repr, known))}"
    return [f"no {rows} has {argument} {_listed(map(shown, missing))}{hint}"]


def _window_reasons(asked: Asked, rows: list[Row]) -> list[str]:
    if asked.rows != "events" or (asked.start is None and asked.end is None):
        return []
    first = min(row["first_time"] for row in rows)
    last = max(row["last_time"] for row in rows)
    is_after = asked.start is not None and asked.start > last
    if not is_after and (asked.end is None or asked.end > first):
        return []
    side = "after" if is_after else "before"
    return [
        f"the window lies {side} all events, which are from {first.isoformat()} to {last.isoformat()}"
    ]


def _token_reasons(asked: Asked, row: Row) -> list[str]:
    reasons = []
    level = repr(LEVELS[row["level"]])
    if asked.token_types:
        kind = f"token of level {level}"
        reasons += _missing_types("token_type", asked.token_types, list(row["token_types"]), kind)
    extent = [(row[f"{axis}_min"], row[f"{axis}_max"]) for axis in "xyz"]
    if asked.place is not None and _is_outside(asked.place, extent):
        unit = "" if row["unit"] is None else f" {row['unit']}"
        sides = ", ".join(
            f"{axis} {low:g} to {high:g}" for axis, (low, high) in zip("xyz", extent, strict=True)
        )
        reasons.append(
            f"the region lies outside the extent of level {level}, which is {sides}{unit}"
        )
    return reasons


def _is_outside(place: Place, extent: list[tuple[float, float]]) -> bool:
    """Return whether a region surely holds no point of an extent."""
    low, high = np.array(extent, dtype=np.float64).T
    _, is_outside = place.region._classify((low[None], high[None]), place.level)
    return bool(is_outside[0])


def _listed(names: Iterable[str]) -> str:
    several = list(names)
    more = f" and {len(several) - _MAX_NAMED} more" if len(several) > _MAX_NAMED else ""
    return ", ".join(several[:_MAX_NAMED]) + more
