"""Arrays as PostgreSQL's text: of one element as of all eight, and every float as it is."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from ngdata._arguments.points import MAX_COORDINATE
from ngdata._store.array_text import array_element, array_text
from ngdata._store.tokens import check_frame

NUMBERS = st.floats(-MAX_COORDINATE, MAX_COORDINATE)
ELEMENTS = st.lists(st.tuples(st.integers(0, 7), NUMBERS), min_size=1, max_size=20)


def parsed(text: str) -> list[float | None]:
    return json.loads("[" + text.strip("{}").replace("NULL", "null") + "]")


@given(ELEMENTS, st.integers(0, 19))
def test_one_element_is_as_eight(elements, first):
    indexes, values = map(np.array, zip(*elements, strict=True))
    lists = np.full((len(elements), 8), np.nan)
    lists[np.arange(len(elements)), indexes] = values
    one = array_text(array_element(indexes, values.astype(float)).slice(first))
    eight = array_text(pa.FixedSizeListArray.from_arrays(lists.ravel(), 8).slice(first))
    assert one.to_pylist() == eight.to_pylist()
    for text, (index, value) in zip(one.to_pylist(), elements[first:], strict=True):
        expected = [None] * 8
        expected[index] = float(value)
        # As text, so that -0.0 is not 0.0.
        assert list(map(repr, map(_float, parsed(text)))) == list(map(repr, expected))


def _float(value):
    return None if value is None else float(value)


def test_other_columns_stay():
    column = pa.array(["{", None])
    assert array_text(column) is column


def test_tokens_with_one_place_take_little_memory():
    frame = pd.DataFrame(np.zeros((10_000, 3)), columns=list("xyz")).assign(weight=1.0)
    alone = check_frame(frame, 3, None)
    eight = check_frame(frame.iloc[:, 3:], 0, np.zeros((10_000, 8, 3)))
    # The id takes 44 bytes, the weight 8; all coordinates take 192.
    assert alone.nbytes / 10_000 < 85
    assert eight.nbytes / 10_000 > 240
