"""Numbers and sequences as arguments: what counts as one, and within which bounds."""

from __future__ import annotations

import math
import numbers
from decimal import Decimal
from typing import Any

import numpy as np

from ngdata.errors import InvalidQueryError

__all__ = ["as_float", "as_list", "is_number", "positive"]


def as_float(value: object) -> float | None:
    """Give a number as float64, or None for what is none: text, a truth value, NaN, 10**400."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (OverflowError, TypeError):
        return None
    return None if math.isnan(found) else found


def is_number(value: object) -> bool:
    """Tell whether a value is a number: decimals and fractions are, text and truth values not."""
    number = isinstance(value, numbers.Real | Decimal)
    return number and not isinstance(value, bool | np.timedelta64)


def positive(value: int, name: str, most: int = 2**31 - 1) -> int:
    """Check a count that must be at least one."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or not 1 <= value <= most:
        raise InvalidQueryError(f"{name} must be an integer from 1 to {most}, not {value!r}")
    return int(value)


def as_list(values: Any) -> list[Any] | None:
    try:
        return list(values)
    except TypeError:
        return None
