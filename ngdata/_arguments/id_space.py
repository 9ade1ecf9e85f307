"""The ids of tokens: UUIDs, or integers of a named space, as a client is set up."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from ngdata._arguments import ids
from ngdata._arguments.ids import Id, Ids, bounded, id_bytes, id_text, uuid_text
from ngdata._arguments.integer_ids import (
    float_to_name,
    integer_column,
    not_a_number,
    not_an_id,
    numbers_of_uuids,
    uuid_bytes,
    whole_number,
)
from ngdata._arguments.numbers import is_number
from ngdata._arguments.shown import guarded, shown
from ngdata.errors import ConfigError, IntegrityError, NGDataError, NotFoundError

__all__ = ["UUIDS", "IdSpace", "TokenId", "TokenIds", "foreign_id"]

TokenId: TypeAlias = Id | int
TokenIds: TypeAlias = "Ids | int"

E = TypeVar("E", bound=NGDataError)

# How errors of writes name the id of a token: `refused_id` of `ngdata._store.integrity`.
_NAMED_TOKEN: Final = re.compile(r"\b((?:token|source|target)_id )([0-9a-f-]{36})\b")


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

    def new_ids(self, count: int) -> pa.Array:
        """Return the ids of random integers of 63 bits, which a signed column can hold too."""
        numbers = np.frombuffer(os.urandom(8 * count), np.uint64) >> np.uint64(1)
        return id_text(uuid_bytes(numbers, self.name))

    def is_own(self, text: str) -> bool:
        """Return whether an id, canonical text, can go out: in a client of integers, one of them."""
        return not self.as_integers or type(self.outgoing([text])[0]) is int

    def outgoing(self, ids: Iterable[str]) -> list[Any]:
        """Return token ids, canonical text, in the form in which they go out.

        An id that is not an integer of the space stays text.

        Examples
        --------
        >>> from ngdata._arguments.id_space import IdSpace
        >>> space = IdSpace("flywire", as_integers=True)
        >>> space.outgoing(space.canonical_ids([5, 2**64 - 1]))
        [5, 18446744073709551615]
        """
        texts = list(ids)
        raw = id_bytes(pa.array(texts, pa.string())) if self.as_integers else None
        if raw is None:
            return texts
        numbers, are_numbers = numbers_of_uuids(raw, self.name)
        rows = zip(texts, numbers.tolist(), are_numbers.tolist(), strict=True)
        return [number if is_number else text for text, number, is_number in rows]

    def column(self, texts: pd.Series[Any], *, optional: bool = False) -> pd.Series[Any]:
        """Return a column of token ids, canonical text, in the form in which it goes out.

        Parameters
        ----------
        texts : pandas.Series
        optional : bool
            Whether ids may be missing, for the dtype ``UInt64`` instead of ``uint64``.

        Raises
        ------
        ConfigError
            An id that is not an integer of the space.

        Examples
        --------
        >>> from ngdata._arguments.id_space import IdSpace
        >>> space = IdSpace(as_integers=True)
        >>> space.column(pd.Series(space.canonical_ids([7, 8]))).tolist()
        [7, 8]
        """
        if not self.as_integers:
            return texts
        are_missing = texts.isna().to_numpy(np.bool_)
        raw = id_bytes(pa.array(texts[~are_missing], pa.string()))
        assert raw is not None
        numbers, are_numbers = numbers_of_uuids(raw, self.name)
        if not are_numbers.all():
            bad = texts[~are_missing].iloc[int(are_numbers.argmin())]
            raise foreign_id(bad, self.name)
        rows = np.zeros(len(texts), np.uint64)
        rows[~are_missing] = numbers
        values: Any = pd.arrays.IntegerArray(rows, are_missing) if optional else rows
        return pd.Series(values, index=texts.index, name=texts.name)

    def renamed(self, error: E) -> E:
        """Return an error about ids of the store, in which token ids are what goes out.

        To a client of UUIDs, it also names the integer of the first missing id.

        Examples
        --------
        >>> from ngdata._arguments.id_space import IdSpace
        >>> from ngdata.errors import NotFoundError
        >>> space = IdSpace(as_integers=True)
        >>> space.renamed(NotFoundError.of("token", space.canonical_ids(7))).missing
        (7,)
        """
        if isinstance(error, NotFoundError):
            if error.noun == "token" and not self.as_integers:
                self._add_integer(error)
            elif error.noun == "token":
                missing = self.outgoing(map(str, error.missing))
                error.args = NotFoundError.of("token", missing).args
                error.missing = tuple(missing)
        elif self.as_integers and error.args:
            text = _NAMED_TOKEN.sub(
                lambda match: f"{match[1]}{self.outgoing([match[2]])[0]}", str(error.args[0])
            )
            error.args = (text, *error.args[1:])
        return error

    def _add_integer(self, error: NotFoundError) -> None:
        """Add the integer of the first missing id, if it is of one: the caller may have passed that."""
        first = IdSpace(self.name, as_integers=True).outgoing(map(str, error.missing[:1]))
        if first and type(first[0]) is int:
            error.args = (
                f"{error}; the first is the integer {first[0]} of the id space {shown(self.name)}, "
                "the id_space of connect",
            )

    @contextmanager
    def renaming(self) -> Iterator[None]:
        """Let errors of a block name token ids as they go out."""
        try:
            yield
        except (NotFoundError, IntegrityError) as error:
            self.renamed(error)
            raise


UUIDS: Final = IdSpace()
"""What a client without settings for ids has."""


def foreign_id(text: str, space: str) -> ConfigError:
    """Return the error for a token in an answer whose id is not an integer of the client's space."""
    return ConfigError(
        f"the answer has the token {not_a_number(text, space)}; read it with a client of "
        'ids="uuid", the default of connect'
    )


@guarded
def _canonical_id(value: Any, name: str, place: str, space: str) -> str:
    text = uuid_text(value)
    if text is not None:
        return text
    number = whole_number(value)
    if number is not None:
        raw = uuid_bytes(np.array([number], np.uint64), space)
        return str(uuid.UUID(bytes=raw.tobytes()))
    raise not_an_id(value, name, place, "a UUID, or an integer")


@guarded
def _canonical_ids(values: Any, name: str, space: IdSpace) -> list[str]:
    if is_number(values):
        return [space.canonical_id(values, name)]
    position = float_to_name(values)
    if position is not None:
        space.canonical_id(list(values)[position], name, f"[{position}]")  # raises
    if isinstance(values, Iterator):
        values = list(bounded(values, name))
    numbers, are_missing = integer_column(values) or (None, None)
    if numbers is None or are_missing is not None:
        return ids.canonical_ids(values, name, space.canonical_id)
    texts: list[str] = id_text(uuid_bytes(numbers, space.name)).to_pylist()
    return texts
