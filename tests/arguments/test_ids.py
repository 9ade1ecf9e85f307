"""Ids as they come in; the forms themselves are in properties/test_round_trip.py."""

import re
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngdata._arguments.ids import canonical_id, canonical_ids, unique_ids
from ngdata._store.fields import new_ids
from ngdata.errors import InvalidQueryError


@settings(deadline=None, derandomize=True, database=None)
@given(st.uuids())
def test_every_way_to_write_one_uuid(one):
    for written in (
        one,
        str(one),
        one.hex,
        one.urn,
        f"{{{one}}}",
        str(one).upper(),
        one.hex.upper(),
    ):
        assert canonical_id(written) == str(one)


@settings(deadline=None, derandomize=True, database=None)
@given(st.text("0123456789abcdefABCDEFx-{}urn:_+ \n\u0663", min_size=30, max_size=47))
def test_nothing_else_is_taken(text):
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


def test_the_place_of_the_bad_one_is_named():
    good = str(uuid.uuid4())
    for bad in (None, "", 5, good[:-1]):
        with pytest.raises(InvalidQueryError, match=r"wanted\[2\] is"):
            canonical_ids([good, good, bad], "wanted")


def test_new_ids_are_random_and_of_version_4():
    made = new_ids(2000).to_pylist()
    assert len(set(made)) == 2000
    assert all(str(uuid.UUID(one)) == one for one in made)
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant) for one in made} == {
        (4, uuid.RFC_4122)
    }
    assert new_ids(0).to_pylist() == []
