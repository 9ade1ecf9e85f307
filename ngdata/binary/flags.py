"""What the bits of `flags` are called, in each kind of record; all bits are kept, named or not."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from ngdata.errors import InvalidQueryError

__all__ = ["CONNECTION_FLAGS", "EVENT_FLAGS", "TOKEN_FLAGS", "Kind", "entity_types", "flag_names"]

Kind: TypeAlias = Literal["tokens", "connections", "events"]


def _bits(*names: str, first: int = 0) -> dict[str, int]:
    return {name: 1 << bit for bit, name in enumerate(names, first)}


TOKEN_FLAGS: Final = MappingProxyType(
    _bits(
        "active",
        "persistent",
        "mutable",
        "synchronized",
        "compressed",
        "encrypted",
        "dirty",
        "locked",
    )
    | _bits("user_1", "user_2", "user_3", "user_4", first=12)
)
"""The system's bits, 0 to 7, and the user's, 12 to 15; in 8 to 11 stands an entity type."""

CONNECTION_FLAGS: Final = MappingProxyType(
    _bits(
        "active",
        "bidirectional",
        "persistent",
        "mutable",
        "reinforced",
        "decaying",
        "user_1",
        "user_2",
    )
)
"""All eight bits; `bidirectional` is the one that the store knows too."""

EVENT_FLAGS: Final = MappingProxyType(
    _bits("urgent", "trajectory", "error", "persist", "fully_appraised")
)
"""Bits 0 to 4; the others have no meaning yet, and are kept."""

_ENTITY_BITS: Final = 0x0F00
_ENTITY_SHIFT: Final = 8

_KINDS: Final = {
    "tokens": (16, TOKEN_FLAGS),
    "connections": (8, CONNECTION_FLAGS),
    "events": (16, EVENT_FLAGS),
}


def flag_names(flags: int, kind: Kind = "tokens") -> list[str]:
    """Name the bits that are set in the flags of a record.

    Parameters
    ----------
    flags : int
    kind : {"tokens", "connections", "events"}

    Returns
    -------
    list of str
        By bit; an entity type in a token's flags is named ``entity_5``, a bit that has no meaning
        is ``unknown_7``.

    Raises
    ------
    InvalidQueryError
        Bits that a record has no place for, or an unknown kind.

    Examples
    --------
    >>> from ngdata.binary import flag_names
    >>> flag_names(0x1503)
    ['active', 'persistent', 'entity_5', 'user_1']
    >>> flag_names(0x41, "events")
    ['urgent', 'unknown_6']
    """
    if kind not in _KINDS:
        raise InvalidQueryError(f"kind must be one of {', '.join(_KINDS)}, not {kind!r}")
    width, named = _KINDS[kind]
    value = int(flags)
    if not 0 <= value < 1 << width:
        raise InvalidQueryError(
            f"flags is {value:#x}; the flags of {kind} are bits 0 to {width - 1}, "
            f"at most {(1 << width) - 1:#x}"
        )
    by_bit = {bit: name for name, bit in named.items()}
    found = []
    for place in range(width):
        bit = 1 << place
        if kind == "tokens" and bit & _ENTITY_BITS:
            if place == _ENTITY_SHIFT and value & _ENTITY_BITS:
                found.append(f"entity_{entity_types(value)}")
        elif value & bit:
            found.append(by_bit.get(bit, f"unknown_{place}"))
    return found


def entity_types(flags: Any) -> Any:
    """Take the entity type, 0 to 15, out of the flags of one token or many; 0 says nothing."""
    return (flags & _ENTITY_BITS) >> _ENTITY_SHIFT
