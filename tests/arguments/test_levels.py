"""Levels by index and by name."""

import numpy as np
import pytest

from ngdata._arguments.levels import LEVELS, level_index
from ngdata.errors import InvalidQueryError


def test_names_and_order():
    assert LEVELS == (
        "physical",
        "sensory",
        "motor",
        "emotional",
        "cognitive",
        "social",
        "temporal",
        "abstract",
    )


@pytest.mark.parametrize("index", range(8))
def test_by_index_and_by_name(index):
    for level in (index, np.int64(index), np.uint8(index), LEVELS[index], LEVELS[index].upper()):
        result = level_index(level)
        assert result == index
        assert type(result) is int


@pytest.mark.parametrize(
    "level", [-1, 8, 1.0, True, None, "", "0", "physica l", b"motor", [0], 10**30]
)
def test_other_values_are_rejected(level):
    with pytest.raises(InvalidQueryError, match=r"level .*physical, sensory"):
        level_index(level)


def test_the_closest_name_is_suggested():
    with pytest.raises(InvalidQueryError, match="did you mean 'emotional'"):
        level_index("emotinal")
