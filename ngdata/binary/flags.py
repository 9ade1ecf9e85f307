"""The names of the bits of `flags` in each kind of record; unnamed bits are kept too."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from ngdata._arguments.numbers import as_integer
from ngdata._arguments.shown import shown
from ngdata._arguments.texts import checked_word
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
"""The system's bits, 0 to 7, and the user's, 12 to 15; bits 8 to 11 are the entity type."""

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
"""All eight bits; `bidirectional` is also a column of the store."""

EVENT_FLAGS: Final = MappingProxyType(
    _bits("urgent", "trajectory", "error", "persist", "fully_appraised")
)
"""Bits 0 to 4; the others have no meaning yet, and are kept."""

_ENTITY_BITS: Final = 0x0F00
_ENTITY_SHIFT: Final = 8

_KINDS: Final[dict[Kind, tuple[int, Any]]] = {
    "tokens": (16, TOKEN_FLAGS),
    "connections": (8, CONNECTION_FLAGS),
    "events": (16, EVENT_FLAGS),
}


def flag_names(flags: int, kind: Kind = "tokens") -> list[str]:
    """Return the names of the bits that are set in the flags of a record.

    Parameters
    ----------
    flags : int
    kind : {"tokens", "connections", "events"}

    Returns
    -------
    list of str
        By bit; an entity type in a token's flags is ``entity_5``, a bit without a meaning is
        ``unknown_7``.

    Raises
    ------
    InvalidQueryError
        Bits that a record does not have, or an unknown kind.

    Examples
    --------
    >>> from ngdata.binary import flag_names
    >>> flag_names(0x1503)
    ['active', 'persistent', 'entity_5', 'user_1']
    >>> flag_names(0x41, "events")
    ['urgent', 'unknown_6']
    """
    kind = checked_word(kind, tuple(_KINDS), "kind")
    width, named = _KINDS[kind]
    value = as_integer(flags)
    if value is None:
        raise InvalidQueryError(f"flags must be an integer, not {shown(flags)}")
    if not 0 <= value < 1 << width:
        raise InvalidQueryError(
            f"flags is {shown(value)}; the flags of {kind} are bits 0 to {width - 1}, "
            f"at most {(1 << width) - 1:#x}"
        )
    by_bit = {bit: name for name, bit in named.items()}
    names = []
    for index in range(width):
        bit = 1 << index
        if kind == "tokens" and bit & _ENTITY_BITS:
            if index == _ENTITY_SHIFT and value & _ENTITY_BITS:
                names.append(f"entity_{entity_types(value)}")
        elif value & bit:
            names.append(by_bit.get(bit, f"unknown_{index}"))
    return names


def entity_types(flags: Any) -> Any:
    """Return the entity type, 0 to 15, in the flags of one token or many; 0 means unknown."""
    return (flags & _ENTITY_BITS) >> _ENTITY_SHIFT
