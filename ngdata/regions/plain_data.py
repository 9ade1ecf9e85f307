"""Regions from plain data, as JSON holds them: what `Region.to_dict` writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.suggestions import did_you_mean
from ngdata.errors import InvalidQueryError

__all__ = ["COMPLEMENT", "region_from"]

T = TypeVar("T")

Maker: TypeAlias = "tuple[Callable[..., T], tuple[str, ...]]"
"""The constructor of a shape, and the names of its arguments."""

COMPLEMENT: Final = "complement"

# Deeper data would exhaust the interpreter's stack.
_MAX_DEPTH: Final = 100


@guarded
def region_from(
    data: Any,
    name: str,
    shapes: Mapping[str, Maker[T]],
    compounds: Mapping[str, Callable[[list[T]], T]],
    depth: int = 0,
) -> T:
    """Return the region that plain data describe.

    Parameters
    ----------
    data : mapping
    name : str
        What errors call it.
    shapes, compounds
        The constructor of each type; a compound's takes its parts.
    depth : int
        How many mappings it is in.
    """
    if not isinstance(data, Mapping) or depth > _MAX_DEPTH:
        raise InvalidQueryError(
            f"{name} must be what Region.to_dict returns, a mapping of at most {_MAX_DEPTH} levels, "
            f"not {shown(data)}"
        )
    kind: Any = data.get("type")
    if isinstance(kind, str) and kind in compounds:
        if set(data) != {"type", "of"}:
            raise InvalidQueryError(
                f"{name} of type {kind} must have the keys type and of, not {shown([*data])}"
            )
        parts = [data.get("of")] if kind == COMPLEMENT else data.get("of")
        if not isinstance(parts, Sequence) or isinstance(parts, str) or not parts:
            raise InvalidQueryError(
                f"{name}['of'] must be a list of at least one region, not {shown(parts)}"
            )
        return compounds[kind](
            [
                region_from(part, f"{name}['of'][{number}]", shapes, compounds, depth + 1)
                for number, part in enumerate(parts)
            ]
        )
    if not isinstance(kind, str) or kind not in shapes:
        known = [*shapes, *compounds]
        hint = did_you_mean(kind, known) if isinstance(kind, str) else ""
        raise InvalidQueryError(
            f"{name}['type'] must be one of {', '.join(known)}, not {shown(kind)}{hint}"
        )
    make, names = shapes[kind]
    keys = set(data) - {"type", "level"}
    if keys != set(names):
        raise InvalidQueryError(
            f"{name} of type {kind} must have the keys {', '.join(names)} (and perhaps level), not "
            f"{shown([key for key in data if key != 'type'])}"
        )
    shape: Any = make(*(_with_infinity(data[key], key) for key in names))
    region: T = shape if data.get("level") is None else shape.on(data["level"])
    return region


def _with_infinity(value: Any, key: str) -> Any:
    """Return an argument with the infinity that None stands for in JSON."""
    if key == "radius" and value is None:
        return math.inf
    if key in ("min_coords", "max_coords") and isinstance(value, Sequence):
        return [(-math.inf if key == "min_coords" else math.inf) if v is None else v for v in value]
    return value
