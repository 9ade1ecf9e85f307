"""Numbers, truth values and sequences as arguments: what counts as one, and its bounds.

What leaves this module is of exactly one of Python's own types.  NumPy compares a Python float with
a float32 in float32, and a subclass of int or float may compare in any way; so nothing behind this
module compares what a caller passed.
"""

from __future__ import annotations

import math
import numbers
from decimal import Decimal
from typing import Any

import numpy as np

from ngdata._arguments.shown import guarded, shown
from ngdata.errors import InvalidQueryError

__all__ = [
    "as_flag",
    "as_float",
    "as_integer",
    "as_list",
    "is_number",
    "non_negative",
    "number_text",
    "positive",
    "whole",
]


def is_number(value: object) -> bool:
    """Return whether a value is a real number: decimals and fractions are, text and bools are not."""
    if type(value) is float or type(value) is int:
        return True  # without the search through abstract classes
    # NumPy registers its time differences as integers.
    return isinstance(value, numbers.Real | Decimal) and not isinstance(
        value, bool | np.timedelta64
    )


def as_float(value: object) -> float | None:
    """Return a number as float64; None for anything else: text, a bool, NaN, 10**400.

    Examples
    --------
    >>> import numpy as np
    >>> from ngdata._arguments.numbers import as_float
    >>> as_float(np.float32(0.1)), as_float("0.1")
    (0.10000000149011612, None)
    """
    try:
        # float() of a subclass of float returns a float itself.
        number = float(value) if is_number(value) else math.nan  # type: ignore[arg-type]
    except Exception:  # a signaling NaN, or whatever the number's own method raises
        return None
    return None if math.isnan(number) else number


def as_integer(value: object) -> int | None:
    """Return an integer of Python or NumPy as an int; None for anything else: 1.0, a bool."""
    try:
        is_integer = is_number(value) and isinstance(value, numbers.Integral)
        return int(value) if is_integer else None  # type: ignore[call-overload]
    except Exception:  # as above
        return None


def whole(value: object, name: str, minimum: int, maximum: int, maximum_text: str = "") -> int:
    """Check an integer that must be within bounds; `maximum_text` writes the upper one shortly."""
    integer = as_integer(value)
    if integer is None or not minimum <= integer <= maximum:
        raise InvalidQueryError(
            f"{name} must be an integer from {minimum} to {maximum_text or maximum}, not "
            f"{shown(value)}"
        )
    return integer


def positive(value: object, name: str, maximum: int = 2**31 - 1) -> int:
    """Check an integer that must be at least one."""
    return whole(value, name, 1, maximum)


def non_negative(value: object, name: str, hint: str = "") -> float:
    """Check a number that must be at least zero; `hint` ends the error."""
    number = as_float(value)
    if number is None or number < 0:
        raise InvalidQueryError(f"{name} must be a number of at least 0, not {shown(value)}{hint}")
    return number


@guarded
def as_flag(value: Any, name: str, *, optional: bool = False) -> bool | None:
    """Check an argument that must be True or False, of Python or NumPy; not 0 and 1.

    Parameters
    ----------
    value : object
    name : str
    optional : bool
        Whether it may be None too.

    Examples
    --------
    >>> from ngdata._arguments.numbers import as_flag
    >>> as_flag(1, "weighted")
    Traceback (most recent call last):
    ngdata.errors.InvalidQueryError: weighted must be True or False, not 1
    """
    if optional and value is None:
        return None
    if not isinstance(value, bool | np.bool_):
        words = "True, False or None" if optional else "True or False"
        raise InvalidQueryError(f"{name} must be {words}, not {shown(value)}")
    return bool(value)


def as_list(values: Any) -> list[Any] | None:
    """Return an iterable as a list; None for anything else."""
    try:
        return list(values)
    except TypeError:
        return None


def number_text(value: float, digits: int = 15) -> str:
    """Return a float in the fewest digits that tell it from others, up to that many.

    Examples
    --------
    >>> from ngdata._arguments.numbers import number_text
    >>> number_text(0.1 + 0.2), number_text(1e30), number_text(100000.0)
    ('0.3', '1e+30', '100000')
    """
    return f"{value:.{digits}g}"
