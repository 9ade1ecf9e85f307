"""The ids of tokens: UUIDs, or integers of a named space, as a client is set up."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from ngdata._arguments import ids
from ngdata._arguments.ids import Id, Ids, id_text, uuid_text
from ngdata._arguments.integer_ids import MAX_NUMBER, uuid_bytes
from ngdata._arguments.numbers import as_integer, is_number
from ngdata._arguments.shown import guarded, shown
from ngdata.errors import InvalidQueryError

__all__ = ["UUIDS", "IdSpace", "TokenId", "TokenIds"]

TokenId: TypeAlias = Id | int
TokenIds: TypeAlias = "Ids | int"


@dataclass(frozen=True)
class IdSpace:
    """How token ids go in and come out.

    Integers go in in any case: they are the UUIDs that `ngdata.ids.from_integers` returns for them.

    Attributes
    ----------
    name : str
        The space of the integers.
    as_integers : bool
        Whether ids come out as integers of this space; as UUIDs by default.
    """

    name: str = ""
    as_integers: bool = False

    def canonical_id(self, value: Any, name: str = "id", place: str = "") -> str:
        """Return one token id as canonical text.

        Parameters
        ----------
        value : str, uuid.UUID or int
        name, place : str
            The argument's name, and the value's place in it (``" in row 3"``), for the error.

        Raises
        ------
        InvalidQueryError
            The value is neither a UUID nor an integer from 0 to 2**64 - 1.

        Examples
        --------
        >>> from ngdata._arguments.id_space import IdSpace
        >>> IdSpace().canonical_id(255)
        'ddd9c407-67f9-8000-8000-0000000000ff'
        """
        return _canonical_id(value, name, place, self.name)

    def canonical_ids(self, values: Any, name: str = "ids") -> list[str]:
        """Return one token id or several as a list of canonical text, in order, with repeats."""
        return _canonical_ids(values, name, self)

    def unique_ids(self, values: Any, name: str = "ids") -> list[str]:
        """Return the token ids as canonical text in first-seen order, without repeats."""
        return list(dict.fromkeys(self.canonical_ids(values, name)))


UUIDS: Final = IdSpace()
"""What a client without settings for ids has."""


@guarded
def _canonical_id(value: Any, name: str, place: str, space: str) -> str:
    text = uuid_text(value)
    if text is not None:
        return text
    number = as_integer(value)
    if number is not None and 0 <= number <= MAX_NUMBER:
        raw = uuid_bytes(np.array([number], np.uint64), space)
        return str(uuid.UUID(bytes=raw.tobytes()))
    hint = ""
    if number is None and is_number(value):
        hint = "; floats hold integers exactly only up to 2**53, so read the ids as integers"
    raise InvalidQueryError(
        f"{name}{place} must be a UUID, or an integer from 0 to 2**64 - 1, not {shown(value)}{hint}"
    )


@guarded
def _canonical_ids(values: Any, name: str, space: IdSpace) -> list[str]:
    if as_integer(values) is not None or is_number(values):
        return [space.canonical_id(values, name)]
    numbers = _numbers(values)
    if numbers is not None:
        texts: list[str] = id_text(uuid_bytes(numbers, space.name)).to_pylist()
        return texts
    return ids.canonical_ids(values, name, space.canonical_id)


def _numbers(values: Any) -> np.ndarray | None:
    """Return a column of integers as uint64; None for anything else, also with a negative one."""
    if isinstance(values, pd.Series | pd.Index) and pd.api.types.is_integer_dtype(values.dtype):
        if values.hasnans:
            return None
        values = values.to_numpy(values.dtype.type if isinstance(values.dtype, np.dtype) else None)
        values = np.asarray(values)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iu" or values.ndim != 1:
        return None
    if values.dtype.kind == "i" and values.size and values.min() < 0:
        return None
    return values.astype(np.uint64)
