"""Ids of records as UUIDs, permanently the same, and back.

A token's id is 32 bits, an episode's 64: both fit into a UUID of version 8 (RFC 9562 section 5.8),
whose layout the application defines.  It begins with the bytes of ``ngdata``; then come the version,
the kind (0: a token, 1: an episode) in 4 bits, 6 zero bits, and around the variant the number in 64
bits.  So the last eight digits of a token's id are the record's id, in hexadecimal::

    6e676461-7461-8000-8000-0000deadbeef      token record 0xdeadbeef

An event's 128 bits are a UUID already; a connection has no id, so it gets one derived from its ends,
type, time and position in the file (version 5).
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike

from ngdata._arguments.ids import Ids, canonical_ids, id_text
from ngdata._arguments.shown import guarded, shown
from ngdata._query.boxes import unmasked
from ngdata._store.value_types import Integer, Uuid, first_true
from ngdata.errors import InvalidQueryError

__all__ = [
    "as_text",
    "connection_ids",
    "episode_ids",
    "episodes",
    "from_text",
    "is_token_id",
    "low_32",
    "record_ids",
    "token_ids",
    "token_numbers",
]

_STR: Final = pd.StringDtype("pyarrow", na_value=np.nan)

_APPLICATION: Final = int.from_bytes(b"ngdata", "big")
_TOKEN: Final = 0
_EPISODE: Final = 1
_LOW_BITS: Final = 62  # bits of the number after the variant

# Never changed: the namespace of the uuid5 ids of connections.
_CONNECTIONS: Final = uuid.UUID("0f7ad9c4-5b0e-5f0c-9a57-3c1f6d2e8b11")


def token_ids(numbers: ArrayLike) -> pd.Series[str]:
    """Return the token ids of token records, from the 32-bit ids in them.

    Parameters
    ----------
    numbers : array_like of int
        0 to 2**32 - 1.

    Returns
    -------
    pandas.Series
        UUIDs (str), on the index of a Series; the same number always has the same id.

    Raises
    ------
    InvalidQueryError
        A number that is not a 32-bit id.

    Examples
    --------
    >>> from ngdata.binary import token_ids
    >>> token_ids([0xDEADBEEF])[0]
    '6e676461-7461-8000-8000-0000deadbeef'
    """
    checked = _checked_numbers(numbers, "numbers")
    if checked.null_count:
        raise InvalidQueryError("numbers must be ids of token records, and one is missing")
    ids = as_text(_uuid_bytes(_TOKEN, checked.to_numpy().astype(np.uint64)))
    return ids.set_axis(numbers.index) if isinstance(numbers, pd.Series) else ids


@guarded
def _checked_numbers(numbers: Any, name: str) -> pa.Array:
    array = np.atleast_1d(np.asarray(unmasked(numbers)))
    if array.ndim != 1:
        raise InvalidQueryError(f"{name} must be one row of integers, not {shown(numbers)}")
    return Integer(0, 2**32 - 1).check_column(pd.Series(array), name)


def record_ids(ids: Ids) -> np.ndarray:
    """Return the 32-bit ids of token records, from the ids that `token_ids` returns for them.

    Parameters
    ----------
    ids : id or sequence of ids

    Returns
    -------
    numpy.ndarray
        uint32, in order.

    Raises
    ------
    InvalidQueryError
        An id that is not the id of a record; its row is named.

    Examples
    --------
    >>> from ngdata.binary import record_ids
    >>> record_ids("6e676461-7461-8000-8000-0000000000ff").tolist()
    [255]
    """
    return token_numbers(pd.Series(canonical_ids(ids), dtype=_STR), "ids")


def token_numbers(values: pd.Series[Any], name: str) -> np.ndarray:
    """Return the 32-bit ids in a column of token ids."""
    raw = from_text(values, name)
    row = first_true(~is_token_id(raw))
    if row is not None:
        raise InvalidQueryError(
            f"{name} in row {row} is {values.iloc[row]}, which is not the id of a token record; "
            "number the tokens with 32 bits each, and use the ids of ngdata.binary.token_ids"
        )
    return low_32(raw)


def is_token_id(raw: np.ndarray) -> np.ndarray:
    """Return, for UUIDs of 16 bytes, whether each is an id of `token_ids`."""
    prefix = _uuid_bytes(_TOKEN, np.zeros(1, np.uint64))[0, :12]
    return np.asarray((raw[:, :12] == prefix).all(axis=1))


def low_32(raw: np.ndarray) -> np.ndarray:
    """Return the last 32 bits of UUIDs of 16 bytes; of a token's, that is the record's id."""
    return np.ascontiguousarray(raw[:, 12:]).view(">u4")[:, 0].astype(np.uint32)


def episode_ids(numbers: np.ndarray) -> pd.Series[str]:
    """Return the trajectory ids of episodes of 64 bits."""
    return as_text(_uuid_bytes(_EPISODE, numbers))


def episodes(values: pd.Series[Any], name: str) -> np.ndarray:
    """Return the episodes, from the ids that `episode_ids` returns for them."""
    raw = from_text(values, name)
    halves = raw.view(">u8").astype(np.uint64)
    numbers: np.ndarray = (halves[:, 0] & 0x3) << _LOW_BITS | halves[:, 1] & ((1 << _LOW_BITS) - 1)
    row = first_true((_uuid_bytes(_EPISODE, numbers) != raw).any(axis=1))
    if row is not None:
        raise InvalidQueryError(
            f"{name} in row {row} is {values.iloc[row]}, which is not the id of an episode"
        )
    return numbers


def _uuid_bytes(kind: int, numbers: np.ndarray) -> np.ndarray:
    halves = np.empty((len(numbers), 2), np.uint64)
    halves[:, 0] = _APPLICATION << 16 | 0x8000 | kind << 8
    halves[:, 0] |= numbers >> np.uint64(_LOW_BITS)
    halves[:, 1] = numbers & np.uint64((1 << _LOW_BITS) - 1) | np.uint64(1 << 63)
    return halves.astype(">u8").view(np.uint8).reshape(-1, 16)


def connection_ids(records: np.ndarray, numbers: np.ndarray) -> pd.Series[str]:
    """Return an id for each connection, from its constant fields and its position in the file.

    So a file that is loaded a second time is refused, and parallel connections are not.
    """
    names = np.zeros(
        len(records),
        [("source", "<u4"), ("target", "<u4"), ("type", "u1"), ("created", "<u4"), ("n", "<u8")],
    )
    for name in ("source", "target", "type", "created"):
        names[name] = records[name]
    names["n"] = numbers
    size, content = names.dtype.itemsize, names.tobytes()
    start = hashlib.sha1(_CONNECTIONS.bytes, usedforsecurity=False)
    digests = bytearray()
    for offset in range(0, len(content), size):
        digest = start.copy()
        digest.update(content[offset : offset + size])
        digests += digest.digest()[:16]
    raw = np.frombuffer(digests, np.uint8).reshape(-1, 16)
    raw[:, 6] = raw[:, 6] & 0x0F | 0x50
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    return as_text(raw)


_DASHES: Final = [8, 13, 18, 23]
_DIGITS: Final = np.setdiff1d(np.arange(36), _DASHES)
# The value of each digit by its character; 255 for all others.
_VALUES: Final = np.full(256, 255, np.uint8)
_VALUES[np.frombuffer(b"0123456789abcdef", np.uint8)] = range(16)


def as_text(raw: np.ndarray) -> pd.Series[str]:
    """Return UUIDs of 16 bytes as canonical text, converted at once."""
    return pd.Series(id_text(raw).to_pandas(types_mapper=lambda _: _STR))


def from_text(values: pd.Series[Any], name: str) -> np.ndarray:
    """Return a column of ids as an array of 16 bytes each."""
    if isinstance(values.dtype, pd.StringDtype):
        raw = _as_bytes(pa.array(values, pa.large_string(), from_pandas=True), 8)
        if raw is not None:
            return raw
    # Other ids are checked one by one; the error for a bad one names its row.
    raw = _as_bytes(Uuid().check_column(values, name, required=True), 4)
    assert raw is not None
    return raw


def _as_bytes(texts: pa.Array | pa.ChunkedArray, offset_bytes: int) -> np.ndarray | None:
    """Return the bytes of UUIDs in canonical text, converted at once; None if some are not canonical."""
    array = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    count = len(array)
    if array.null_count or not count:
        return None if count else np.empty((0, 16), np.uint8)
    _, offsets, data = array.buffers()
    starts = np.frombuffer(offsets, f"i{offset_bytes}")[array.offset : array.offset + count + 1]
    if (np.diff(starts) != 36).any():
        return None
    text = np.frombuffer(data, np.uint8)[starts[0] : starts[-1]].reshape(count, 36)
    values = _VALUES[text[:, _DIGITS]]
    if (text[:, _DASHES] != ord("-")).any() or (values > 15).any():
        return None
    return np.ascontiguousarray(values[:, ::2] << 4 | values[:, 1::2])
