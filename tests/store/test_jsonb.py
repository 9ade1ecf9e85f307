"""JSON text that jsonb stores and returns unchanged."""

import datetime as dt
import json
import math
import re
import sys
import tracemalloc
from collections import OrderedDict
from decimal import Decimal
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngdata._arguments.json_text import JsonError, json_text
from ngdata._store.value_types import JsonObject
from ngdata.errors import InvalidQueryError

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@settings(deadline=None, derandomize=True, database=None)
@given(st.dictionaries(TEXTS, st.floats(allow_nan=False, allow_infinity=False) | TEXTS))
def test_floats_stay_floats(value):
    text = json_text(value)
    parsed = json.loads(text)
    assert parsed == value
    assert {k: type(v) for k, v in parsed.items()} == {k: type(v) for k, v in value.items()}
    # jsonb would turn a number with an exponent and without a fraction into an integer.
    outside = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    assert "e+" not in outside


@pytest.mark.parametrize("text", ["1e+23", 'a"1e+23', "\\", '\\"', '\\\\" 1e+23 "'])
def test_text_that_resembles_a_number_is_unchanged(text):
    assert json.loads(json_text({text: [text, 1e23]})) == {text: [text, 1e23]}


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "u0000"])
def test_text_that_resembles_an_escaped_nul(text):
    assert json.loads(json_text({"a": text})) == {"a": text}


class Broken(dict):
    """A dict whose methods raise."""

    def items(self):
        raise RuntimeError("x" * 5000)


class Unprintable:
    """An object whose class cannot be read, nor be printed."""

    @property
    def __class__(self):
        raise RuntimeError("x" * 5000)

    def __repr__(self):
        raise RuntimeError("x" * 5000)


def nested(depth, kind):
    value = 0
    for _ in range(depth - 1):
        value = {"a": value} if kind is dict else kind([value])
    return {"a": value}


def cyclic():
    value = {}
    value["a"] = [value]
    return value


FIRST = "['a']"
BAD = (
    [
        ({"a": math.nan}, FIRST, "is NaN, .* write None, the JSON null"),
        ({"a": np.float32("nan")}, FIRST, "is NaN"),
        ({"a": -math.inf}, FIRST, "is -inf, .* write None"),
        ({"a": [1, {"b": np.array([0, 1, np.nan])}]}, "['a'][1]['b'][2]", "is NaN"),
        ({"a": np.array([None, math.inf], dtype=object)}, "['a'][1]", "is inf"),
        ({"a": "\0"}, FIRST, "holds NUL"),
        ({"a": "\\\0"}, FIRST, "holds NUL"),
        ({"\0": 1}, "", "has the key '.x00', which holds NUL"),
        ({"a": {"\ud800": 1}}, FIRST, "has the key .*half a surrogate pair"),
        ({"a": "\ud800"}, FIRST, "half a surrogate pair"),
        ({"a": {1}}, FIRST, "is of type set, .* write a list"),
        ({"a": frozenset()}, FIRST, "is of type frozenset"),
        ({"a": b"b"}, FIRST, "is of type bytes, .* write text"),
        ({"a": np.bytes_(b"b")}, FIRST, "is of type bytes_"),
        ({"a": 1j}, FIRST, "is of type complex"),
        ({"a": np.complex64(1)}, FIRST, "is of type complex64"),
        ({"a": Decimal(1)}, FIRST, "is of type Decimal, .* write float"),
        ({"a": Decimal("sNaN")}, FIRST, "is of type Decimal"),
        ({"a": pd.NA}, FIRST, "is of type NAType, .* write None"),
        ({"a": pd.NaT}, FIRST, "is of type NaTType, .* write None"),
        ({"a": pd.Timestamp(0, tz="UTC")}, FIRST, "is of type Timestamp, .* write text"),
        ({"a": dt.date(2020, 1, 1)}, FIRST, "is of type date, .* write text"),
        ({"a": pd.Timedelta(1)}, FIRST, "is of type Timedelta, .* a number"),
        ({"a": pd.Series([1])}, FIRST, "is of type Series, .*tolist"),
        ({"a": pd.DataFrame({"b": [1]})}, FIRST, "is of type DataFrame, .*records"),
        ({"a": np.void(b"b")}, FIRST, "is of type void"),
        ({"a": np.zeros(1, [("t", "M8[ns]")])}, FIRST, "is of type ndarray of"),
        ({"a": MappingProxyType({})}, FIRST, "is of type mappingproxy, .* write dicts"),
        ({"a": (i for i in "b")}, FIRST, "is of type generator"),
        ({"a": Unprintable()}, "", "cannot be read .RuntimeError."),
        ({"a": Broken(b=1)}, "", "cannot be read .RuntimeError."),
        ({1: 1, "1": 2}, "", "has the key 1 of type int, but keys must be text; write str.key."),
        ({True: 1}, "", "has the key True of type bool"),
        ({"a": {None: 1}}, FIRST, "has the key None"),
        ({"a": [0, {1.5: 1}]}, "['a'][1]", "has the key 1.5 of type float"),
        ({"a": np.array([{np.int64(1): 1}])}, "['a'][0]", "has the key np.int64.1."),
        ({(1,): 1}, "", "has the key .1,. of type tuple"),
        ({Unprintable: 1}, "", "has the key .* of type type"),
        ({"a": 10**5000}, FIRST, "too many digits"),
        ({"a": [-(10**5000)]}, "['a'][0]", "too many digits"),
        (nested(501, dict), None, None),
        (nested(502, dict), "", "deeper than 500 levels"),
        (nested(502, list), "", "deeper than 500 levels"),
        (nested(502, tuple), "", "deeper than 500 levels"),
        (nested(100_000, dict), "", "deeper than 500 levels"),
        (cyclic(), "", "contains itself"),
    ]
    + [
        ({"a": kind(1, unit)}, FIRST, f"is of type {kind.__name__}, .* write text")
        for kind in (np.datetime64, np.timedelta64)
        for unit in ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"]
    ]
    + [
        ({"a": np.array([value], f"{kind}8[{unit}]")}, FIRST, "is of type ndarray of")
        for kind in "Mm"
        for unit in ["D", "s", "us", "ns"]
        for value in (1, "NaT")
    ]
)


@pytest.mark.parametrize(("value", "place", "problem"), BAD, ids=range(len(BAD)))
def test_what_jsonb_cannot_hold(value, place, problem):
    if place is None:
        assert json_text(value)
        return
    with pytest.raises(JsonError, match=problem) as caught:
        json_text(value)
    assert caught.value.place == place
    assert len(str(caught.value)) <= 500
    with pytest.raises(
        InvalidQueryError, match="m in row 3 cannot be written as JSON: m"
    ) as caught:
        JsonObject().check(value, "m", 3)
    assert len(str(caught.value)) <= 500


def test_long_keys_are_cut():
    value = math.nan
    for _ in range(100):
        value = {"k" * 1000: value}
    with pytest.raises(JsonError, match="is NaN") as caught:
        json_text(value)
    assert caught.value.place.endswith("[...]")
    assert len(str(caught.value)) <= 700


def test_an_integer_that_numeric_cannot_hold():
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        largest = 10**131_072 - 1
        assert json_text({"a": largest, "b": "9" * 140_000})
        with pytest.raises(JsonError, match="too many digits"):
            json_text({"a": [largest + 1]})
    finally:
        sys.set_int_max_str_digits(limit)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.arange(3), [0, 1, 2]),
        (np.array([[1.5, 2.0]], ">f4"), [[1.5, 2.0]]),
        (np.array([True]), [True]),
        (np.array(["a"]), ["a"]),
        (np.array([{"b": np.int8(1)}, None], dtype=object), [{"b": 1}, None]),
        (np.array(7), 7),
        (np.float16(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        ((1, 2), [1, 2]),
        (OrderedDict(b=1), {"b": 1}),
        ({np.str_("b"): None}, {"b": None}),
        ("\U0001f600", "\U0001f600"),
    ],
    ids=range(14),
)
def test_what_becomes_json(value, plain):
    assert json.loads(json_text({"a": value})) == {"a": plain}


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=2)
SCALARS |= (
    st.datetimes()
    | st.decimals()
    | st.sampled_from(
        [
            np.datetime64("NaT", "s"),
            np.timedelta64(1, "ns"),
            np.float32(0.5),
            np.array([1, 2]),
            pd.NA,
            {1},
        ]
    )
)
KEYS = TEXTS | st.integers() | st.none() | st.booleans() | st.floats()
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def is_json(value):
    """Return whether JSON has a value: the rules once more, in the plainest form."""
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(is_json, value.values()))
    if isinstance(value, list):
        return all(map(is_json, value))
    if isinstance(value, float | np.float32):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | int | str | np.ndarray)


@given(st.dictionaries(KEYS, TREES, max_size=3))
def test_the_rules_hold_for_any_tree(value):
    if not is_json(value):
        with pytest.raises(JsonError):
            json_text(value)
        return
    expected = json.loads(json.dumps(value, default=lambda item: item.tolist()))
    assert json.loads(json_text(value)) == expected


def test_long_text_takes_little_memory():
    value = {"text": "x" * 1_000_000, "escaped": '"\\' * 100_000, "large": 1e23}
    tracemalloc.start()
    text = json_text(value)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert json.loads(text) == value
    assert peak < 20_000_000
