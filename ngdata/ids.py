"""Integers as token ids: the UUIDs that they are in the store, and back.

A store's ids are UUIDs.  An integer goes in wherever a token's id does, and stands for the UUID that
`from_integers` returns for it; ``connect(ids="integer")`` also returns integers.  An *id space* has a
name: one integer is different tokens in different spaces, so that two data sets can be in one store.

The layout is that of UUID version 8 (RFC 9562 section 5.8), and never changes.  From the first bit:

===== ======================================================================
48    BLAKE2b, with a digest of 6 bytes, of the space's name in UTF-8
4     the version, 8
10    zero
2     bits 63 and 62 of the integer
2     the variant, binary 10
62    bits 61 to 0 of the integer
===== ======================================================================

So ids of one space sort as their integers do, and those below 2**60 are readable in hexadecimal:

>>> from ngdata.ids import from_integers
>>> from_integers(0)
'ddd9c407-67f9-8000-8000-000000000000'
>>> from_integers(0xDEADBEEF)
'ddd9c407-67f9-8000-8000-0000deadbeef'
>>> from_integers(2**64 - 1)
'ddd9c407-67f9-8003-bfff-ffffffffffff'
>>> from_integers(720575940631797753, space="flywire")
'63abc6a5-9621-8000-8a00-00000f0d1ff9'
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias, overload

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ngdata._arguments.id_space import IdSpace
from ngdata._arguments.ids import Id, Ids, canonical_id, canonical_ids, id_bytes, id_text, uuid_text
from ngdata._arguments.integer_ids import (
    as_numbers,
    is_missing,
    not_a_number,
    not_an_id,
    numbers_of_uuids,
    uuid_bytes,
    whole_number,
)
from ngdata._arguments.numbers import is_number
from ngdata._arguments.shown import guarded
from ngdata._arguments.texts import as_text, text_column
from ngdata.errors import InvalidQueryError

__all__ = ["from_integers", "to_integers"]

Integers: TypeAlias = "Iterable[int | None] | pd.Series[Any] | pd.Index[Any] | np.ndarray[Any, Any]"


@overload
def from_integers(values: int, space: str = "") -> str: ...
@overload
def from_integers(values: Integers, space: str = "") -> pd.Series[str]: ...
def from_integers(values: Any, space: str = "") -> str | pd.Series[str]:
    """Return the ids of integers.

    Parameters
    ----------
    values : int, or sequence of int
        0 to 2**64 - 1: of Python, NumPy or Arrow, a Series or Index of any integer dtype.
    space : str
        The name of the id space.

    Returns
    -------
    str or pandas.Series
        The id of one integer; of several a Series of ids (str), on the index of a Series.  It is
        missing where an integer is.

    Raises
    ------
    InvalidQueryError
        A float, a bool, or an integer out of range; the error names it and its position.

    Examples
    --------
    >>> from ngdata.ids import from_integers
    >>> from_integers([7, None]).tolist()
    ['ddd9c407-67f9-8000-8000-000000000007', nan]
    """
    return _ids_of_integers(values, "values", as_text(space, "space"))


@guarded
def _ids_of_integers(values: Any, name: str, space: str) -> str | pd.Series[str]:
    if is_number(values):
        if whole_number(values) is None:
            raise not_an_id(values, "values", "", "an integer")
        return IdSpace(space).canonical_id(values)
    numbers, missing = as_numbers(values, name)
    texts = id_text(uuid_bytes(numbers, space))
    if missing is not None:
        texts = pc.if_else(pa.array(missing), pa.scalar(None, texts.type), texts)
    return _on_index(text_column(texts), values)


@overload
def to_integers(ids: Id, space: str = "") -> int: ...  # type: ignore[overload-overlap]  # text is one id, although it is iterable
@overload
def to_integers(ids: Ids, space: str = "") -> pd.Series[int]: ...
def to_integers(ids: Any, space: str = "") -> int | pd.Series[int]:
    """Return the integers of ids that `from_integers` returns.

    Parameters
    ----------
    ids : id or sequence of ids
    space : str
        The name of the id space.

    Returns
    -------
    int or pandas.Series
        The integer of one id; of several a Series of ``uint64``, or of ``UInt64`` if any is missing,
        on the index of a Series.

    Raises
    ------
    InvalidQueryError
        An id that is not an integer of this space; the error names it and its position.

    Examples
    --------
    >>> from ngdata.ids import from_integers, to_integers
    >>> to_integers(from_integers([5, 2**64 - 1])).tolist()
    [5, 18446744073709551615]
    """
    return _integers_of_ids(ids, "ids", as_text(space, "space"))


@guarded
def _integers_of_ids(ids: Any, name: str, space: str) -> int | pd.Series[int]:
    single = uuid_text(ids)
    raw, are_missing = _uuids([single] if single is not None else ids, name)
    numbers, are_numbers = numbers_of_uuids(raw, space)
    if not are_numbers.all():
        row = int(are_numbers.argmin())
        position = row if are_missing is None else int(np.flatnonzero(~are_missing)[row])
        place = "" if single is not None else f"[{position}]"
        (text,) = id_text(raw[row]).to_pylist()
        raise InvalidQueryError(
            f"{name}{place} is {not_a_number(text, space)}; only from_integers makes its ids"
        )
    if single is not None:
        return int(numbers[0])
    if are_missing is None:
        return _on_index(pd.Series(numbers), ids)
    rows = np.zeros(len(are_missing), np.uint64)
    rows[~are_missing] = numbers
    return _on_index(pd.Series(pd.arrays.IntegerArray(rows, are_missing)), ids)


@guarded
def _uuids(ids: Any, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the 16 bytes of each id that is not missing, and which are missing (None: none is)."""
    if isinstance(ids, pd.Series | pd.Index) and isinstance(ids.dtype, pd.StringDtype):
        column = pa.array(ids, pa.large_string(), from_pandas=True)
        are_missing = np.asarray(column.is_null())
        raw = id_bytes(column.drop_null() if column.null_count else column)
        if raw is not None:
            return raw, are_missing if column.null_count else None
    if isinstance(ids, pd.DataFrame | str | bytes) or not isinstance(ids, Iterable):
        canonical_ids(ids, name)  # raises
    texts: list[str] = []
    missing: list[bool] = []
    # One by one, as an iterator may be without end.
    for position, item in enumerate(ids.to_pylist() if hasattr(ids, "to_pylist") else ids):
        missing.append(is_missing(item))
        if not missing[-1]:
            texts.append(canonical_id(item, name, f"[{position}]"))
    raw = id_bytes(pa.array(texts, pa.large_string()))
    assert raw is not None
    are_missing = np.array(missing, np.bool_)
    return raw, are_missing if are_missing.any() else None


def _on_index(result: pd.Series[Any], values: Any) -> pd.Series[Any]:
    """Return the result under the name of a Series or Index, and on the index of a Series."""
    if isinstance(values, pd.Series):
        result = result.set_axis(values.index)
    if isinstance(values, pd.Series | pd.Index):
        result.name = values.name
    return result
