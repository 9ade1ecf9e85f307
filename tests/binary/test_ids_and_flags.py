"""Ids of records as UUIDs and back; bits of flags by name."""

import uuid

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngdata import binary
from ngdata._arguments.texts import STR
from ngdata.binary import (
    CONNECTION_FLAGS,
    EVENT_FLAGS,
    TOKEN_FLAGS,
    flag_names,
    record_ids,
    token_ids,
)
from ngdata.binary.ids import as_text, episode_ids, episodes, from_text
from ngdata.errors import InvalidQueryError
from ngdata.ids import to_integers


@given(st.lists(st.integers(0, 2**32 - 1), max_size=20))
def test_a_token_id_is_one_uuid_and_back(numbers):
    ids = token_ids(numbers) if numbers else token_ids(np.empty(0, np.uint32))
    assert record_ids(ids).tolist() == numbers
    for number, text in zip(numbers, ids, strict=True):
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant) == (8, uuid.RFC_4122)
        assert text == f"ddd9c407-67f9-8000-8000-0000{number:08x}"


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_an_episode_is_one_uuid_and_back(numbers):
    ids = episode_ids(np.array(numbers, np.uint64))
    assert episodes(ids, "trajectory_id").tolist() == numbers
    assert ids.nunique() == len(set(numbers))
    assert all(uuid.UUID(text).version == 8 for text in ids)
    assert to_integers(ids).tolist() == numbers


@given(st.lists(st.uuids(), max_size=10))
def test_uuids_are_read_and_written_like_python_does(values):
    raw = np.frombuffer(b"".join(v.bytes for v in values), np.uint8).reshape(-1, 16)
    assert as_text(raw).tolist() == [str(v) for v in values]
    text = pd.Series([str(v) for v in values], dtype=STR)
    for form in (text, text.str.upper(), pd.Series(values, dtype=object)):
        assert np.array_equal(from_text(form, "ids"), raw)


def test_a_slice_of_ids_is_read_from_its_own_start():
    ids = token_ids(range(10))
    assert record_ids(ids[3:7]).tolist() == [3, 4, 5, 6]


def test_ids_of_a_column_can_be_assigned_to_its_frame():
    frame = pd.DataFrame({"number": [3, 4, 5]}, index=[7, 8, 9]).iloc[1:]
    frame["token_id"] = token_ids(frame.number)
    assert record_ids(frame.token_id).tolist() == [4, 5]
    assert record_ids({uuid.UUID(frame.token_id[9])}).tolist() == [5]


@pytest.mark.parametrize(
    "text",
    [
        "00000000-0000-4000-8000-00000000000a",
        "ddd9c407-67f9-8001-8000-00000000000a",
        "6e676461-7461-8100-8000-00000000000a",
        "ddd9c407-67f9-8000-8000-00010000000a",
    ],
)
def test_an_id_that_is_not_of_a_record_is_refused(text):
    with pytest.raises(InvalidQueryError, match=f"ids in row 1 is {text}"):
        record_ids([token_ids(1)[0], text])


@pytest.mark.parametrize("text", ["", "x" * 36, "ddd9c407-67f9-8000-8000-0000000000g0"])
def test_invalid_text_is_refused_with_its_row(text):
    with pytest.raises(InvalidQueryError, match="ids in row 1"):
        from_text(pd.Series([token_ids(1)[0], text], dtype=STR), "ids")


@pytest.mark.parametrize("numbers", [[-1], [2**32], [1.5], ["1"], [True], [np.nan]])
def test_an_invalid_number_is_refused(numbers):
    with pytest.raises(InvalidQueryError, match="numbers"):
        token_ids(numbers)


def test_flags_have_the_names_of_their_kind():
    assert flag_names(0) == []
    assert flag_names(0xFFFF) == [
        "active",
        "persistent",
        "mutable",
        "synchronized",
        "compressed",
        "encrypted",
        "dirty",
        "locked",
        "entity_15",
        "user_1",
        "user_2",
        "user_3",
        "user_4",
    ]
    assert flag_names(np.uint16(0x0300)) == ["entity_3"]
    assert flag_names(3, "connections") == ["active", "bidirectional"]
    assert flag_names(0x8011, "events") == ["urgent", "fully_appraised", "unknown_15"]


@pytest.mark.parametrize(
    ("kind", "flags"),
    [("tokens", TOKEN_FLAGS), ("connections", CONNECTION_FLAGS), ("events", EVENT_FLAGS)],
)
def test_each_name_is_a_bit(kind, flags):
    for name, bit in flags.items():
        assert flag_names(bit, kind) == [name]


@pytest.mark.parametrize(
    ("flags", "kind"), [(-1, "tokens"), (1 << 16, "events"), (256, "connections")]
)
def test_bits_that_a_record_does_not_have_are_refused(flags, kind):
    with pytest.raises(InvalidQueryError, match=f"the flags of {kind} are bits 0 to"):
        flag_names(flags, kind)


def test_an_unknown_kind_is_refused():
    with pytest.raises(InvalidQueryError, match="kind must be 'tokens', 'connections' or 'events'"):
        flag_names(1, "dreams")


def test_exported_names():
    assert sorted(binary.__all__) == sorted(set(binary.__all__))
    assert all(hasattr(binary, name) for name in binary.__all__)
