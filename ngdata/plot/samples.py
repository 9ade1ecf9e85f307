"""Which rows of a large frame are drawn: the same ones whenever and wherever they are drawn."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from ngdata._arguments.ids import id_bytes
from ngdata._arguments.integer_ids import integer_column, uuid_bytes
from ngdata._arguments.numbers import positive
from ngdata._arguments.texts import is_text_type, with_text_dtype

__all__ = ["SAMPLE", "sampled"]

SAMPLE: Final = 50_000
"""The most points that are drawn unless the caller says otherwise."""

# That of tokens.sample, as it is hashed there.
_SEED: Final = (0).to_bytes(8, "big", signed=True)


def sampled(ids: pd.Series[Any] | None, rows: np.ndarray, most: int | None) -> np.ndarray:
    """Return at most that many of some rows, in their order: those with the least hashes.

    Of token ids, the hash is that of `Tokens.sample` with seed 0, so that a picture of a region and
    ``tokens.sample(n, within=region)`` show the same tokens, and a smaller sample lies in a larger one.
    Rows without ids are hashed by their position.

    Parameters
    ----------
    ids : pandas.Series or None
        The ids of all rows of the frame.
    rows : array of int
        The positions to draw from.
    most : int or None
        None for all of them.

    Examples
    --------
    >>> from ngdata.plot.samples import sampled
    >>> rows = np.arange(1000)
    >>> few, more = sampled(None, rows, 10), sampled(None, rows, 20)
    >>> len(few), bool(np.isin(few, more).all())
    (10, True)
    """
    if most is None or len(rows) <= positive(most, "sample"):
        return rows
    hashes = _by_position(rows) if ids is None else _by_id(ids.iloc[rows])
    # Equal hashes, such as those of one id, in the order of the frame.
    return np.sort(rows[np.lexsort((rows, hashes))[:most]])


def _by_id(ids: pd.Series[Any]) -> np.ndarray:
    """Return the first 8 bytes of each id's hash, as numbers."""
    digests = b"".join(hashlib.sha256(_SEED + key).digest()[:8] for key in _keys(ids))
    return np.frombuffer(digests, ">u8")


def _keys(ids: pd.Series[Any]) -> list[bytes]:
    numbers = integer_column(ids)
    if numbers is not None and numbers[1] is None:
        return _rows(uuid_bytes(numbers[0], ""))
    ids = with_text_dtype(ids)
    if isinstance(ids.dtype, pd.StringDtype):
        text = pa.array(ids, from_pandas=True)
        raw = id_bytes(text) if is_text_type(text.type) else None
        if raw is not None:
            return _rows(raw)
    return [str(value).encode("utf-8", "surrogatepass") for value in ids]


def _rows(raw: np.ndarray) -> list[bytes]:
    data = np.ascontiguousarray(raw).tobytes()
    return [data[start : start + 16] for start in range(0, len(data), 16)]


def _by_position(rows: np.ndarray) -> np.ndarray:
    """Return SplitMix64 of each position, which is the same in all versions of NumPy."""
    with np.errstate(over="ignore"):
        bits = (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits ^ (bits >> np.uint64(31)))
