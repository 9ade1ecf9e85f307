"""Integers as UUIDs, and back: the layout of `ngdata.ids`, for whole arrays of 16 bytes."""

from __future__ import annotations

import functools
import hashlib
from typing import Final

import numpy as np

__all__ = ["MAX_NUMBER", "numbers_of_uuids", "uuid_bytes"]

MAX_NUMBER: Final = 2**64 - 1

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
