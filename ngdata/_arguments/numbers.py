"""Numbers and sequences as arguments: what counts as a number, and which bounds it must keep."""

from __future__ import annotations

import math
import numbers
from decimal import Decimal
from typing import Any

import numpy as np

from ngdata.errors import InvalidQueryError

__all__ = ["as_float", "as_integer", "as_list", "is_number", "non_negative", "positive"]


def as_float(value: object) -> float | None:
    """Return a number as float64; None for anything else: text, a bool, NaN, 10**400."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (OverflowError, TypeError):
        return None
    return None if math.isnan(number) else number


def as_integer(value: object) -> int | None:
    """Return an integer of Python or NumPy as an int; None for anything else: 1.0, a bool."""
    # NumPy registers its time differences as integers.
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, np.timedelta64)
    return int(value) if is_integer and not isinstance(value, bool) else None  # type: ignore[call-overload]


def is_number(value: object) -> bool:
    """Return whether a value is a number: decimals and fractions are, text and bools are not."""
    number = isinstance(value, numbers.Real | Decimal)
    return number and not isinstance(value, bool | np.timedelta64)


def positive(value: int, name: str, maximum: int = 2**31 - 1) -> int:
    """Check an integer that must be at least one."""
    integer = as_integer(value)
    if integer is None or not 1 <= integer <= maximum:
        raise InvalidQueryError(f"{name} must be an integer from 1 to {maximum}, not {value!r}")
    return integer


def non_negative(value: float, name: str, hint: str = "") -> float:
    """Check a number that must be at least zero; `hint` ends the error."""
    number = as_float(value)
    if number is None or number < 0:
        raise InvalidQueryError(f"{name} must be a number of at least 0, not {value!r}{hint}")
    return number


def as_list(values: Any) -> list[Any] | None:
    """Return an iterable as a list; None for anything else."""
    try:
        return list(values)
    except TypeError:
        return None
