"""What a batch of searches costs on the server, and by a tree here: decides how it is answered.

The milliseconds are those that `python -m benchmarks.batches` measures on the machine that
docs/performance.md names.  Only their relation matters: a wrong estimate makes a read slower, never
wrong.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from ngdata._reading.region_sizes import LevelSize

__all__ = [
    "FEW_POINTS",
    "FEW_ROWS",
    "MOST_ROWS_PROBED",
    "MOST_TOKENS",
    "Batch",
    "milliseconds_here",
    "milliseconds_of_server",
]

FEW_POINTS: Final = 64
FEW_ROWS: Final = 1_000
"""The most points, and rows if their number is known, that the server answers whatever the level's
size: to ask for it would not pay."""

MOST_TOKENS: Final = 20_000_000
"""The most tokens that are read into one tree, whatever it saves."""

MOST_ROWS_PROBED: Final = 1_000
"""The most rows of a point that are counted to estimate those of all points."""

# On the server, by the logarithm of the number of tokens on the level: a search from one point, each
# token that it passes on the way, and each row of the answer.
_TOKENS: Final = (3.0, 4.0, 5.0, 6.0)
_POINT: Final = (0.04, 0.075, 0.24, 1.55)
_PASSED: Final = (0.004, 0.005, 0.005, 0.016)
_ROW: Final = 0.0015

# Here: what any answer costs more than the server's, then each token that is read, its place in the
# tree, each point that is looked up in it, each row.
_START: Final = 6.0
_READ: Final = 0.00075
_READ_LEAST: Final = 0.00045
_BUILD: Final = 0.0003
_NEAREST: Final = 0.004
_SPHERE: Final = 0.009
_ROW_HERE: Final = 0.0006


class Batch(NamedTuple):
    """The size of a batch.

    Attributes
    ----------
    points : int
    rows_per_point : float
        As far as it is known.
    columns : int
        Of the read of all tokens.
    is_of_spheres : bool
        Whether it is for all tokens within a radius, and not for the nearest.
    """

    points: int
    rows_per_point: float
    columns: int
    is_of_spheres: bool = False


def milliseconds_of_server(batch: Batch, size: LevelSize) -> float:
    """Return about what the server takes."""
    tokens = max(1.0, size.level_rows)
    at = math.log10(tokens)
    # To find one token that passes a filter, the index passes others.
    share = max(size.region_rows, 1.0) / tokens
    passed = min(batch.rows_per_point / min(share, 1.0), tokens)
    point = float(np.interp(at, _TOKENS, _POINT)) + passed * float(np.interp(at, _TOKENS, _PASSED))
    return batch.points * (point + batch.rows_per_point * _ROW)


def milliseconds_here(
    batch: Batch, tokens: float, *, is_read: bool = False, is_built: bool = False
) -> float:
    """Return about what a tree here takes, of tokens that may be read and in a tree already."""
    read = 0.0 if is_read else _READ_LEAST if batch.columns <= 4 else _READ
    build = 0.0 if is_built else _BUILD
    lookup = _SPHERE if batch.is_of_spheres else _NEAREST
    point = lookup + batch.rows_per_point * _ROW_HERE
    return _START + tokens * (read + build) + batch.points * point
