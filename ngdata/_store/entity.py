"""What the entities have in common: each value is checked when it is set, before anything is sent.

The tables themselves are in `ngdata._store.models`; what only the database can check, such as an end
that is no token, stays with it.
"""

from __future__ import annotations

import json
import numbers
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
from sqlalchemy.orm import validates

from ngdata._arguments.ids import canonical_id
from ngdata._arguments.json_text import json_text
from ngdata._arguments.numbers import as_float
from ngdata._arguments.times import as_utc, is_missing
from ngdata._query.space import MAX_COORDINATE
from ngdata.errors import InvalidQueryError

__all__ = ["Entity"]


def _refuse(name: str, value: object, wanted: str) -> InvalidQueryError:
    return InvalidQueryError(f"{name} must be {wanted}, not {value!r}")


def _id(value: object, name: str) -> uuid.UUID:
    return uuid.UUID(canonical_id(value, name))


def _coordinates(value: Any, name: str) -> list[float | None]:
    levels = None if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    if levels is None or len(levels) != 8:
        raise _refuse(name, value, "eight numbers, one for each level, with None where undefined")
    return [None if is_missing(level) else _coordinate(level, name) for level in levels]


def _coordinate(value: Any, name: str) -> float:
    found = as_float(value)
    if found is None or abs(found) > MAX_COORDINATE:
        raise _refuse(
            f"each of {name}", value, f"a number of at most {MAX_COORDINATE:g} in size, or None"
        )
    return found


def _number(value: Any, name: str) -> float:
    found = as_float(value)
    if found is None or abs(found) == float("inf"):
        raise _refuse(name, value, "a finite number")
    return found


def _whole(least: int, most: int) -> Callable[[Any, str], int]:
    def check(value: Any, name: str) -> int:
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool | np.bool_)
        if not whole or not least <= value <= most:
            raise _refuse(name, value, f"an integer from {least} to {most}")
        return int(value)

    return check


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _refuse(name, value, "text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _refuse(name, value, "valid Unicode") from None
    if "\0" in value:
        raise _refuse(name, value, "text without NUL")
    return value


def _truth(value: Any, name: str) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise _refuse(name, value, "True or False")
    return bool(value)


def _record(value: Any, name: str) -> bytes:
    record = bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""
    if len(record) != 64:
        raise _refuse(name, value, "64 bytes")
    return record


def _json(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _refuse(name, value, "a dict")
    try:
        plain: dict[str, Any] = json.loads(json_text(value))
    except ValueError as error:
        raise InvalidQueryError(f"{name} cannot be written as JSON ({error}): {value!r}") from None
    return plain


_CHECKS: Final[dict[str, Callable[[Any, str], Any]]] = {
    **dict.fromkeys(("id", "source_id", "target_id", "token_id", "trajectory_id"), _id),
    **dict.fromkeys(("coord_x", "coord_y", "coord_z"), _coordinates),
    **dict.fromkeys(("weight", "decay_rate", "reward", "priority"), _number),
    **dict.fromkeys(("token_type", "connection_type", "event_type"), _text),
    **dict.fromkeys(("metadata_", "state_before", "state_after", "action"), _json),
    "flags": _whole(0, 2**31 - 1),
    "sequence_number": _whole(-(2**63), 2**63 - 1),
    "timestamp": as_utc,
    "bidirectional": _truth,
    "binary_data": _record,
}


class _Metadata:
    """`metadata` is the row's own on an entity, and SQLAlchemy's on the class, which needs it."""

    def __get__(self, entity: Any, owner: Any) -> Any:
        return owner.registry.metadata if entity is None else entity.metadata_

    def __set__(self, entity: Any, value: Mapping[str, Any] | None) -> None:
        entity.metadata_ = value


class Entity:
    """A row as an object, whose attributes take what ngdata takes elsewhere.

    Ids are text or `uuid.UUID`; times have a zone, or are integer milliseconds since the epoch;
    None is "not given".
    """

    metadata: Any = _Metadata()

    @validates(*_CHECKS)
    def _checked(self, name: str, value: Any) -> Any:
        return None if value is None else _CHECKS[name](value, name.rstrip("_"))

    def __repr__(self) -> str:
        # An attribute that is not loaded would need the database.
        return f"<{type(self).__name__} {self.__dict__.get('id', 'without id')}>"
