"""Conditions and columns as SQL."""

import numpy as np
import pytest

from ngdata._arguments.numbers import as_float
from ngdata._query import filters
from ngdata._query.filters import TokenFilter
from ngdata._query.model import Column, Kind, choose


def test_no_filter_writes_no_condition():
    assert TokenFilter().conditions() == []
    assert filters.where_clause([]) == filters.row_limit(None) == ""


def test_each_filter():
    assert TokenFilter("it's", {"b": "'\\", "a": [1]}, 6, 0.1).conditions() == [
        "token_type = 'it''s'::text",
        """metadata @> E'{"a": [1], "b": "''\\\\\\\\"}'::jsonb""",
        "flags::int8 & '6'::int8 = '6'::int8",
        "weight >= '0.1'::float8",
    ]
    assert filters.where_clause(["a", "b"]) == " WHERE a AND b"


def test_any_of_several_values():
    assert filters.any_of("c.kind", ["a"]) == ["c.kind = 'a'::text"]
    assert filters.any_of("c.kind", iter(["a", "b"])) == [
        "c.kind = ANY (ARRAY['a'::text, 'b'::text]::text[])"
    ]
    assert filters.any_of("c.kind", []) == ["c.kind = ANY (ARRAY[]::text[])"]


def test_errors_name_a_column_without_its_table():
    with pytest.raises(ValueError, match=r"^connection_type must be text"):
        filters.any_of("c.connection_type", 5)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1.0), (np.float32(0.5), 0.5), (-np.inf, -np.inf), (2**53 + 1, 2.0**53)],
)
def test_as_float(value, expected):
    assert as_float(value) == expected


@pytest.mark.parametrize(
    "value", [True, np.True_, "1", None, np.nan, 10**400, 1j, [1], np.timedelta64(1, "s")]
)
def test_values_that_are_not_floats(value):
    assert as_float(value) is None


def test_limits_beyond_int8():
    assert filters.row_limit(10**30) == " LIMIT '9223372036854775807'::int8"
    assert filters.row_limit(0) == " LIMIT '0'::int8"


def test_columns_in_the_order_of_names():
    a, b = Column("a", Kind.TEXT), Column("b", Kind.FLOAT)
    offered = {a: "t.a", b: "t.b"}
    assert choose(offered, None) == offered
    assert choose(offered, None, ("b",)) == {b: "t.b"}
    assert list(choose(offered, np.array(["b", "a"])).items()) == [(b, "t.b"), (a, "t.a")]
