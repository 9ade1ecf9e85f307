"""JSON text that jsonb gives back as it was."""

import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngdata._arguments.json_text import json_text

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@settings(deadline=None, derandomize=True, database=None)
@given(st.dictionaries(TEXTS, st.floats(allow_nan=False, allow_infinity=False) | TEXTS))
def test_floats_stay_floats(value):
    text = json_text(value)
    found = json.loads(text)
    assert found == value
    assert {k: type(v) for k, v in found.items()} == {k: type(v) for k, v in value.items()}
    # What jsonb would make an integer of: a number with an exponent that leaves no fraction.
    outside = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    assert "e+" not in outside


@pytest.mark.parametrize("text", ["1e+23", 'a"1e+23', "\\", '\\"', '\\\\" 1e+23 "'])
def test_text_is_no_number(text):
    assert json.loads(json_text({text: [text, 1e23]})) == {text: [text, 1e23]}


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "u0000"])
def test_what_only_looks_like_nul(text):
    assert json.loads(json_text({"a": text})) == {"a": text}


BAD = [
    ({"a": math.nan}, "Out of range float"),
    ({"a": math.inf}, "Out of range float"),
    ({"a": "\0"}, "NUL"),
    ({"a": "\\\0"}, "NUL"),
    ({"\0": 1}, "NUL"),
    ({"a": "\ud800"}, "surrogates"),
    ({"a": {1}}, "set is not JSON serializable"),
    ({"a": b"b"}, "bytes is not JSON serializable"),
    ({"a": 1j}, "complex is not JSON serializable"),
    ({(1,): 1}, "keys must be str"),
    ({"a": 10**5000}, "4300 digits"),
]


@pytest.mark.parametrize(("value", "match"), BAD, ids=range(len(BAD)))
def test_what_jsonb_cannot_hold(value, match):
    with pytest.raises(ValueError, match=match):
        json_text(value)
