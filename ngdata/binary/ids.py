"""Ids of records as UUIDs, permanently the same, and back.

The id of a token record, 32 bits, and the number of an episode, 64 bits, are the UUIDs of these
integers, see `ngdata.ids`.  So the last eight digits of a token's id are the record's id::

    ddd9c407-67f9-8000-8000-0000deadbeef      token record 0xdeadbeef

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

from ngdata._arguments.id_space import UUIDS, TokenIds
from ngdata._arguments.ids import id_bytes, id_text
from ngdata._arguments.integer_ids import numbers_of_uuids
from ngdata._arguments.points import unmasked
from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.texts import STR, text_column
from ngdata._store.value_types import Integer, TokenUuid, Uuid, first_true
from ngdata.errors import InvalidQueryError
from ngdata.ids import from_integers

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
    'ddd9c407-67f9-8000-8000-0000deadbeef'
    """
    checked = _checked_numbers(numbers, "numbers")
    if checked.null_count:
        raise InvalidQueryError("numbers must be ids of token records, and one is missing")
    ids: pd.Series[str] = from_integers(checked.to_numpy())
    return ids.set_axis(numbers.index) if isinstance(numbers, pd.Series) else ids


@guarded
def _checked_numbers(numbers: Any, name: str) -> pa.Array:
    array = np.atleast_1d(np.asarray(unmasked(numbers)))
    if array.ndim != 1:
        raise InvalidQueryError(f"{name} must be one row of integers, not {shown(numbers)}")
    return Integer(0, 2**32 - 1).check_column(pd.Series(array), name)


def record_ids(ids: TokenIds) -> np.ndarray:
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
    >>> record_ids("ddd9c407-67f9-8000-8000-0000000000ff").tolist()
    [255]
    """
    return token_numbers(pd.Series(UUIDS.canonical_ids(ids), dtype=STR), "ids")


def token_numbers(values: pd.Series[Any], name: str) -> np.ndarray:
    """Return the 32-bit ids in a column of token ids."""
    raw = from_text(values, name, TokenUuid())
    row = first_true(~is_token_id(raw))
    if row is not None:
        raise InvalidQueryError(
            f"{name} in row {row} is {values.iloc[row]}, which is not the id of a token record; "
            "number the tokens with 32 bits each, and use the ids of ngdata.binary.token_ids"
        )
    return low_32(raw)


def is_token_id(raw: np.ndarray) -> np.ndarray:
    """Return, for UUIDs of 16 bytes, whether each is an id of `token_ids`."""
    numbers, are_numbers = numbers_of_uuids(raw, "")
    return np.asarray(are_numbers & (numbers < 2**32))


def low_32(raw: np.ndarray) -> np.ndarray:
    """Return the last 32 bits of UUIDs of 16 bytes; of a token's, that is the record's id."""
    return np.ascontiguousarray(raw[:, 12:]).view(">u4")[:, 0].astype(np.uint32)


def episode_ids(numbers: np.ndarray) -> pd.Series[str]:
    """Return the trajectory ids of episodes of 64 bits."""
    return from_integers(numbers)


def episodes(values: pd.Series[Any], name: str) -> np.ndarray:
    """Return the episodes, from the ids that `episode_ids` returns for them."""
    numbers, are_numbers = numbers_of_uuids(from_text(values, name), "")
    row = first_true(~are_numbers)
    if row is not None:
        raise InvalidQueryError(
            f"{name} in row {row} is {values.iloc[row]}, which is not the id of an episode"
        )
    return numbers


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


def as_text(raw: np.ndarray) -> pd.Series[str]:
    """Return UUIDs of 16 bytes as canonical text, converted at once."""
    return text_column(id_text(raw))


def from_text(values: pd.Series[Any], name: str, value_type: Uuid | None = None) -> np.ndarray:
    """Return a column of ids, of UUIDs by default, as an array of 16 bytes each."""
    if isinstance(values.dtype, pd.StringDtype):
        raw = id_bytes(pa.array(values, pa.large_string(), from_pandas=True))
        if raw is not None:
            return raw
    # Other ids are checked one by one; the error for a bad one names its row.
    checked = (value_type or Uuid()).check_column(values, name, required=True)
    raw = id_bytes(checked)
    assert raw is not None
    return raw
