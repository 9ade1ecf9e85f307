"""Ids as arguments; properties/test_round_trip.py tests the kinds of arrays and frames."""

import re
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngdata._arguments.ids import canonical_id, canonical_ids, unique_ids
from ngdata._store.columns import new_ids
from ngdata.errors import InvalidQueryError


@settings(deadline=None, derandomize=True, database=None)
@given(st.uuids())
def test_every_notation_of_a_uuid(value):
    for written in (
        value,
        str(value),
        value.hex,
        value.urn,
        f"{{{value}}}",
        str(value).upper(),
        value.hex.upper(),
    ):
        assert canonical_id(written) == str(value)


@settings(deadline=None, derandomize=True, database=None)
@given(st.text("0123456789abcdefABCDEFx-{}urn:_+ \n\u0663", min_size=30, max_size=47))
def test_other_text_is_rejected(text):
    groups = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}"
    legal = rf"(?i:(urn:uuid:)?(({groups})|\{{({groups})\}}))"
    if re.fullmatch(legal, text):
        assert canonical_id(text) == str(uuid.UUID(text))
    else:
        with pytest.raises(InvalidQueryError, match=re.escape(repr(text))):
            canonical_id(text)


def test_order_and_repeats():
    a, b = (str(uuid.UUID(int=n)) for n in (2, 1))
    assert canonical_ids([a, b, a]) == [a, b, a]
    assert unique_ids([a, b.upper(), a, uuid.UUID(b)]) == [a, b]
    assert canonical_ids([]) == []


def test_the_error_names_the_position():
    good = str(uuid.uuid4())
    for bad in (None, "", 5, good[:-1]):
        with pytest.raises(InvalidQueryError, match=r"wanted\[2\] must be a UUID"):
            canonical_ids([good, good, bad], "wanted")


def test_new_ids_are_random_and_of_version_4():
    ids = new_ids(2000).to_pylist()
    assert len(set(ids)) == 2000
    assert all(str(uuid.UUID(value)) == value for value in ids)
    assert {(uuid.UUID(value).version, uuid.UUID(value).variant) for value in ids} == {
        (4, uuid.RFC_4122)
    }
    assert new_ids(0).to_pylist() == []
