"""Integers as ids: what counts as one, and the bytes of its UUID, in the layout of `ngdata.ids`."""

from __future__ import annotations

import functools
import hashlib
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from ngdata._arguments.ids import bounded
from ngdata._arguments.numbers import as_integer, is_number
from ngdata._arguments.shown import guarded, shown
from ngdata.errors import InvalidQueryError

__all__ = [
    "MAX_NUMBER",
    "as_numbers",
    "float_to_name",
    "integer_column",
    "is_missing",
    "not_a_number",
    "not_an_id",
    "numbers_of_uuids",
    "uuid_bytes",
    "whole_number",
]

MAX_NUMBER: Final = 2**64 - 1

_FLOAT_HINT: Final = (
    "; floats hold integers exactly only up to 2**53, so read the ids as integers (in pandas int64, or "
    "Int64 where some are missing)"
)

_LOW_BITS: Final = 62  # bits of the number after the variant
_LOW_MASK: Final = np.uint64((1 << _LOW_BITS) - 1)
_VERSION: Final = np.uint64(8 << 12)
_VARIANT: Final = np.uint64(1 << 63)


@functools.lru_cache(maxsize=256)
def _first_half(space: str) -> np.uint64:
    """Return the first 8 bytes of the ids of a space, for numbers below 2**62."""
    digest = hashlib.blake2b(space.encode(), digest_size=6).digest()
    return np.uint64(int.from_bytes(digest, "big") << 16) | _VERSION


def uuid_bytes(numbers: np.ndarray, space: str) -> np.ndarray:
    """Return the UUIDs of numbers, 16 bytes each.

    Parameters
    ----------
    numbers : array of uint64
    space : str
    """
    halves = np.empty((len(numbers), 2), ">u8")
    halves[:, 0] = _first_half(space) | numbers >> np.uint64(_LOW_BITS)
    halves[:, 1] = numbers & _LOW_MASK | _VARIANT
    return halves.view(np.uint8)


def numbers_of_uuids(raw: np.ndarray, space: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers (uint64) of UUIDs of 16 bytes, and whether each is a number of the space."""
    halves = np.ascontiguousarray(raw).reshape(-1).view(">u8").reshape(-1, 2)
    first, second = halves[:, 0].astype(np.uint64), halves[:, 1].astype(np.uint64)
    high_bits = first ^ _first_half(space)
    are_numbers = (high_bits <= 3) & (second >> np.uint64(_LOW_BITS) == 2)
    return high_bits << np.uint64(_LOW_BITS) | second & _LOW_MASK, are_numbers


def not_a_number(text: str, space: str) -> str:
    """Return the words of an error for a UUID that is not a number of a space."""
    value = uuid.UUID(text)
    # All numbers of a space have the same first half, but for the two highest bits of the number.
    is_like_one = value.version == 8 and value.bytes[6] == 0x80 and value.bytes[7] <= 3
    hint = ", but perhaps of another id space" if is_like_one else ""
    return f"{text}, which is not an integer of the id space {shown(space)}{hint}"


def whole_number(value: Any) -> int | None:
    """Return an integer that can be an id as an int; None for anything else."""
    number = as_integer(value)
    return number if number is not None and 0 <= number <= MAX_NUMBER else None


@guarded
def as_numbers(values: Any, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a column of integers as uint64, and which of them are missing (None: none is).

    Raises
    ------
    InvalidQueryError
        The first value that is not an integer from 0 to 2**64 - 1, with its position.
    """
    column = integer_column(values)
    if column is not None:
        return column
    if isinstance(values, pd.DataFrame | str | bytes) or not isinstance(values, Iterable):
        raise InvalidQueryError(
            f"{name} must be an integer or a sequence of integers, not {shown(values)}"
        )
    position = float_to_name(values)
    if position is not None:
        raise not_an_id(list(values)[position], name, f"[{position}]", "an integer")
    items: Any = values.to_pylist() if hasattr(values, "to_pylist") else values
    if isinstance(items, Iterator):
        items = bounded(items, name)
    numbers: list[int] = []
    missing: list[bool] = []
    for position, item in enumerate(items):
        missing.append(is_missing(item))
        number = 0 if missing[-1] else whole_number(item)
        if number is None:
            raise not_an_id(item, name, f"[{position}]", "an integer")
        numbers.append(number)
    are_missing = np.array(missing, np.bool_)
    return np.array(numbers, np.uint64), are_missing if are_missing.any() else None


def integer_column(values: Any) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Return a column of an integer type as uint64, and which of its values are missing.

    Return None for columns of other types, and for a column with an integer that cannot be an id.
    """
    are_missing: np.ndarray | None = None
    if isinstance(values, range):
        # At once: one of more numbers than fit into memory must fail early.
        values = np.arange(values.start, values.stop, values.step)
    if isinstance(values, list) and values and set(map(type, values)) == {int}:
        try:
            return np.array(values, np.uint64), None
        except OverflowError:
            return None
    if isinstance(values, pa.Array | pa.ChunkedArray) or (
        hasattr(values, "__arrow_c_stream__") and not isinstance(values, pd.Series | pd.DataFrame)
    ):
        column = pa.chunked_array(values) if not isinstance(values, pa.Array) else values
        if not pa.types.is_integer(column.type):
            return None
        are_missing = np.asarray(column.is_null())
        values = np.asarray(column.fill_null(0))
    elif isinstance(values, pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        if not pd.api.types.is_integer_dtype(values.dtype):
            return None
        if isinstance(values.dtype, pd.api.extensions.ExtensionDtype):
            are_missing = np.asarray(values.isna())
            numpy_dtype: Any = getattr(values.dtype, "numpy_dtype", None)
            values = values.to_numpy(dtype=numpy_dtype, na_value=0)
        else:
            values = np.asarray(values)
    elif isinstance(values, np.ma.MaskedArray):
        are_missing, values = np.ma.getmaskarray(values), values.filled(0)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iu" or values.ndim != 1:
        return None
    if values.dtype.kind == "i" and values.size and values.min() < 0:
        return None
    has_missing = are_missing is not None and are_missing.any()
    return values.astype(np.uint64, copy=False), are_missing if has_missing else None


def is_missing(value: Any) -> bool:
    """Return whether a value in a column stands for no integer: None, NaN, NA or NaT."""
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    return isinstance(value, float) and value != value


def float_to_name(values: Any) -> int | None:
    """Return the position of the float in a column of floats that an error should name.

    It is the first that is not an integer exactly, or else the first that is not missing.  Return
    None for other columns, and for one in which all are missing.
    """
    dtype: Any = getattr(values, "dtype", None)
    if dtype is None or not pd.api.types.is_float_dtype(dtype) or np.ndim(values) != 1:
        return None
    floats = pd.Series(values).to_numpy(np.float64, na_value=np.nan)
    with np.errstate(invalid="ignore"):
        are_inexact = (np.abs(floats) > 2**53) | (floats % 1 > 0)
    for candidates in (are_inexact, ~np.isnan(floats)):
        if candidates.any():
            return int(candidates.argmax())
    return None


def not_an_id(value: Any, name: str, place: str, wanted: str) -> InvalidQueryError:
    """Return the error for a value that is not `wanted`: an integer, or that or something else."""
    hint = _FLOAT_HINT if is_number(value) and as_integer(value) is None else ""
    if (
        isinstance(value, str)
        and value.isdecimal()
        and len(value) <= 20
        and int(value) <= MAX_NUMBER
    ):
        hint = "; pass the integer itself, not its text"
    return InvalidQueryError(
        f"{name}{place} must be {wanted} from 0 to 2**64 - 1, not {shown(value)}{hint}"
    )
