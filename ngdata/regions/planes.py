"""Linear forms in float64, ``(a * x + b * y) + c * z``: the one order in which they are evaluated.

The server evaluates the same form in the same order, and PostgreSQL raises an error where a product
underflows.  So coefficients are scaled by a power of two, which is exact and changes no comparison,
until none but 0 is below 1: then no product is smaller than the coordinate that it is made of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from ngdata._arguments.points import Point
from ngdata._arguments.shown import shown
from ngdata.errors import InvalidQueryError

__all__ = ["linear", "linear_range", "scale_rows", "scaled"]

# A coefficient this much smaller than the largest decides nothing that rounding does not.
_NEGLIGIBLE: Final = 1e-200


def scaled(coefficients: Point, bound: float, name: str) -> tuple[Point, float]:
    """Return coefficients and the bound that their form is compared with, scaled alike."""
    row = np.array([coefficients])
    if not np.isfinite(row).all() or not row.any():
        raise InvalidQueryError(
            f"{name} must be three finite numbers that are not all 0, not {shown(coefficients)}"
        )
    exponents = _exponents(row)
    a, b, c = _scaled(row, exponents)[0].tolist()
    with np.errstate(over="ignore", under="ignore"):
        scaled_bound = float(np.ldexp(bound, exponents[0]))
    if bound and not scaled_bound:
        # Next to nothing, but not nothing.
        scaled_bound = math.copysign(5e-324, bound)
    return (a, b, c), scaled_bound


def scale_rows(rows: np.ndarray) -> np.ndarray:
    """Return rows of coefficients scaled, each by its own power of two; rows of zeros stay."""
    return _scaled(rows, _exponents(rows))


def _is_negligible(rows: np.ndarray) -> np.ndarray:
    sizes = np.abs(rows)
    return np.asarray(sizes < _NEGLIGIBLE * sizes.max(axis=1, keepdims=True))


def _exponents(rows: np.ndarray) -> np.ndarray:
    """Return the power of two of each row that makes its least coefficient but 0 at least 1."""
    sizes = np.where((rows == 0) | _is_negligible(rows), np.inf, np.abs(rows))
    least = sizes.min(axis=1)
    return np.where(np.isfinite(least), 1 - np.frexp(least)[1], 0)


def _scaled(rows: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    kept = np.where(_is_negligible(rows), 0.0, rows)
    return np.asarray(np.ldexp(kept, exponents[:, None]) + 0.0)


def linear(coefficients: Sequence[Any], x: Any, y: Any, z: Any) -> Any:
    """Return ``(a * x + b * y) + c * z``, of numbers or arrays.

    A term with the coefficient 0 is left out, as in SQL.
    """
    terms = [c * v for c, v in zip(coefficients, (x, y, z), strict=True) if np.any(c)]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def linear_range(
    coefficients: Sequence[float], low: np.ndarray, high: np.ndarray
) -> tuple[Any, Any]:
    """Return the least and the largest value of a form, as `linear` rounds it, in each of n boxes.

    Rounding is monotone, so both are values at corners.
    """
    least = [high[:, i] if c < 0 else low[:, i] for i, c in enumerate(coefficients)]
    most = [low[:, i] if c < 0 else high[:, i] for i, c in enumerate(coefficients)]
    return linear(coefficients, *least), linear(coefficients, *most)
