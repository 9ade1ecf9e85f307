"""Ids as arguments (text, UUID objects, arrays of either), and as canonical text."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ngdata._arguments.shown import guarded, shown
from ngdata.errors import InvalidQueryError

__all__ = [
    "Id",
    "Ids",
    "bounded",
    "canonical_id",
    "canonical_ids",
    "id_bytes",
    "id_text",
    "is_id",
    "unique_ids",
    "uuid_text",
]

Id: TypeAlias = str | uuid.UUID
Ids: TypeAlias = "Id | Iterable[Id] | pd.Series[Any] | pd.Index[Any] | np.ndarray[Any, Any]"

CANONICAL: Final = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_canonical = re.compile(CANONICAL)

# uuid.UUID also accepts 0x..., underscores, and digits of other scripts.
_accepted = re.compile(
    r"(?:urn:uuid:)?(?P<open>\{)?[0-9a-f]{8}(?P<dash>-?)(?:[0-9a-f]{4}(?P=dash)){3}[0-9a-f]{12}"
    r"(?(open)\})",
    re.IGNORECASE | re.ASCII,
)

# The four hexadecimal digits of each pair of bytes, indexed by the pair as a 16-bit number.
_FOUR_DIGITS: Final = np.frombuffer(
    np.arange(1 << 16, dtype=np.uint16).tobytes().hex().encode(), np.uint32
)
# The number of ids whose text is read at once.
_AT_ONCE: Final = 8192
# The most ids of an iterator, which may be without end.
_MAX_UNSIZED: Final = 1_000_000

# The most ids that are checked one by one in less time than all at once.
_FEW: Final = 10

_TEXT: Final = np.dtype(
    {
        "names": [*"abcdefgh", *"1234"],
        "formats": ["u4"] * 8 + ["u1"] * 4,
        "offsets": [0, 4, 9, 14, 19, 24, 28, 32, 8, 13, 18, 23],
        "itemsize": 36,
    }
)


@guarded
def is_id(value: Any, name: str = "id") -> bool:
    """Return whether a value is an id; `name` is the argument's."""
    return isinstance(value, uuid.UUID) or (
        isinstance(value, str) and _accepted.fullmatch(value) is not None
    )


@guarded
def canonical_id(value: Any, name: str = "id", place: str = "") -> str:
    """Return one id as 36 lower-case characters.

    Parameters
    ----------
    value : str or uuid.UUID
    name, place : str
        The argument's name, and the value's place in it (``" in row 3"``), for the error.

    Raises
    ------
    InvalidQueryError
        If the value is not a UUID.

    Examples
    --------
    >>> from ngdata._arguments.ids import canonical_id
    >>> canonical_id("0000000000000000000000000000000A")
    '00000000-0000-0000-0000-00000000000a'
    """
    text = uuid_text(value)
    if text is None:
        raise InvalidQueryError(
            f"{name}{place} must be a UUID, as text or uuid.UUID, not {shown(value)}"
        )
    return text


def uuid_text(value: Any) -> str | None:
    """Return a UUID, or text that is one, as canonical text; None for anything else."""
    if type(value) is uuid.UUID:
        return str(value)
    # The methods of a subclass of UUID or str may do anything, so text is made of it first.
    text = str(value) if isinstance(value, uuid.UUID) else value
    if isinstance(text, str):
        text = str.__str__(text)
        if len(text) == 36 and _canonical.match(text):
            return text
        if _accepted.fullmatch(text):
            return str(uuid.UUID(text.lower()))
    return None


@guarded
def canonical_ids(
    values: Any,
    name: str = "ids",
    canonical: Callable[[Any, str, str], str] = canonical_id,
) -> list[str]:
    """Return one id or several as a list of canonical text, in order, with repeats.

    Parameters
    ----------
    values : str, uuid.UUID, or an iterable, array, Series or Index of either
    name : str
        The argument's name, for the error.
    canonical : callable
        Checks one id that is not canonical text; `canonical_id` by default.

    Raises
    ------
    InvalidQueryError
        If a value is not a UUID; the error names its position.

    Examples
    --------
    >>> from ngdata._arguments.ids import canonical_ids
    >>> canonical_ids("00000000-0000-0000-0000-00000000000A")
    ['00000000-0000-0000-0000-00000000000a']
    """
    if isinstance(values, str | uuid.UUID):
        return [canonical(values, name, "")]
    if isinstance(values, pd.DataFrame) or hasattr(values, "column_names"):
        raise InvalidQueryError(
            f"{name} is a whole table; pass the column that holds the ids, such as frame['token_id']"
        )
    if not isinstance(values, Iterable) or isinstance(values, bytes):
        raise InvalidQueryError(f"{name} must be an id or a sequence of ids, not {shown(values)}")
    items = _as_list(values, name)
    if isinstance(items, list) and len(items) > _FEW and isinstance(items[0], str):
        # Text is checked all at once; each id is checked alone only if some are not canonical.
        try:
            match = pc.match_substring_regex(pa.array(items, pa.string()), CANONICAL)
            if pc.all(match, skip_nulls=False).as_py():
                return [str.__str__(item) for item in items]
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError, TypeError):
            pass
    return [canonical(item, name, f"[{position}]") for position, item in enumerate(items)]


def _as_list(values: Iterable[Any], name: str) -> Iterable[Any]:
    """Return a list of the ids; what may be without end, such as a generator, as an iterator."""
    if isinstance(values, np.ndarray):
        return list(np.atleast_1d(values).tolist())
    if isinstance(values, Iterator | range):
        return bounded(values, name)
    # Iterating over an Arrow array yields scalars, not text.
    return list(getattr(values, "to_pylist", values.__iter__)())


def bounded(values: Iterable[Any], name: str) -> Iterator[Any]:
    """Iterate over values whose number is not known; raise where it cannot be meant."""
    for position, value in enumerate(values):
        if position >= _MAX_UNSIZED:
            raise InvalidQueryError(
                f"{name} has no length and goes on after {_MAX_UNSIZED:,} values; pass a list or an "
                "array"
            )
        yield value


def unique_ids(values: object, name: str = "ids") -> list[str]:
    """Return the ids in first-seen order, without repeats.

    Examples
    --------
    >>> from ngdata._arguments.ids import unique_ids
    >>> len(unique_ids(["00000000-0000-0000-0000-00000000000a"] * 2))
    1
    """
    return list(dict.fromkeys(canonical_ids(values, name)))


def id_text(raw: np.ndarray, kind: pa.DataType | None = None) -> pa.Array:
    """Return ids of 16 bytes each as canonical text, written at once in memory that Arrow owns.

    Parameters
    ----------
    raw : array of uint8
        16 bytes each.
    kind : pyarrow.DataType, optional
        ``string``, or ``large_string`` (the default), whose length is unlimited.

    Examples
    --------
    >>> from ngdata._arguments.ids import id_text
    >>> id_text(np.arange(16, dtype=np.uint8)).to_pylist()
    ['00010203-0405-0607-0809-0a0b0c0d0e0f']
    """
    pairs = np.ascontiguousarray(raw).reshape(-1).view(np.uint16).reshape(-1, 8)
    count = len(pairs)
    buffer = pa.allocate_buffer(36 * count)
    text = np.frombuffer(buffer, _TEXT)
    for dash in "1234":
        text[dash] = ord("-")
    for position, digits in enumerate("abcdefgh"):
        text[digits] = _FOUR_DIGITS[pairs[:, position]]
    kind = pa.large_string() if kind is None else kind
    width = np.int32 if kind == pa.string() else np.int64
    offsets = pa.allocate_buffer(width().itemsize * (count + 1))
    np.frombuffer(offsets, width)[:] = np.arange(0, 36 * (count + 1), 36, dtype=width)
    return pa.Array.from_buffers(kind, count, [None, offsets, buffer])


def id_bytes(texts: pa.Array | pa.ChunkedArray) -> np.ndarray | None:
    """Return the 16 bytes of ids in canonical text, converted at once; None if some are not canonical.

    Parameters
    ----------
    texts : pyarrow.Array or pyarrow.ChunkedArray
        Of type ``string`` or ``large_string``.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from ngdata._arguments.ids import id_bytes
    >>> id_bytes(pa.array(["00010203-0405-0607-0809-0a0b0c0d0e0f"])).tolist()[0][:4]
    [0, 1, 2, 3]
    """
    array = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    count = len(array)
    if array.null_count or not count:
        return None if count else np.empty((0, 16), np.uint8)
    _, offsets, data = array.buffers()
    width = np.int32 if array.type == pa.string() else np.int64
    starts = np.frombuffer(offsets, width)[array.offset : array.offset + count + 1]
    if starts[-1] - starts[0] != 36 * count or (np.diff(starts) != 36).any():
        return None
    text = np.frombuffer(data, np.uint8)[starts[0] : starts[-1]].view(_TEXT)
    for dash in "1234":
        if (text[dash] != ord("-")).any():
            return None
    pairs = np.empty((count, 8), np.uint16)
    # In parts that fit into the processor's cache.
    for first in range(0, count, _AT_ONCE):
        part = text[first : first + _AT_ONCE]
        digits = np.stack([part[four] for four in "abcdefgh"], axis=1)
        values, are_digits = _values_of_digits(digits)
        if not are_digits:
            return None
        pairs[first : first + _AT_ONCE] = values
    return pairs.view(np.uint8)


def _values_of_digits(digits: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the values of four hexadecimal digits each, and whether all are digits in lower case.

    The four bytes of an element are computed with at once.  A digit's low four bits are its value,
    or, for a letter, which has bit 6, its value less 9.
    """
    values = (digits & 0x0F0F0F0F) + (digits >> 6 & 0x01010101) * 9
    are_letters = (values + 0x06060606) >> 4 & 0x01010101
    # Only a digit has a value below 16, and is written as that value is.
    is_wrong = values + 0x30303030 + are_letters * 39 ^ digits | values & 0x10101010
    values = (values << 4 | values >> 8) & 0x00FF00FF
    return (values | values >> 8).astype(np.uint16), not is_wrong.any()
