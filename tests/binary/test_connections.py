"""32-byte connection records: compared with bytes packed by hand, in both directions, and stored."""

import struct

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngdata.binary import (
    CONNECTION,
    TOKEN,
    connection_rows,
    decode_connections,
    decode_tokens,
    encode_connections,
    token_ids,
    token_rows,
)
from ngdata.errors import InvalidQueryError

GOLDEN = struct.pack(
    "<IIBBBBIffII",
    7,
    0x3500_0009,
    81,
    128,
    0x41,
    0x03,
    12,
    -0.5,
    1.25,
    1_700_000_000,
    4_294_967_295,
)


def test_a_record_is_32_bytes():
    assert len(GOLDEN) == CONNECTION.itemsize == 32


def test_fields_of_a_record_packed_by_hand():
    expected = pd.DataFrame(
        {
            "source_id": token_ids([7]),
            "target_id": token_ids([0x3500_0009]),
            "type": np.array([81], np.int32),
            "rigidity": np.array([128], np.int32),
            "active_levels": np.array([0x41], np.int32),
            "flags": np.array([3], np.int32),
            "activation_count": np.array([12], np.int64),
            "pull_strength": [-0.5],
            "preferred_distance": [1.25],
            "created": pd.to_datetime([1_700_000_000], unit="s", utc=True).as_unit("us"),
            "last_activation": pd.to_datetime([2**32 - 1], unit="s", utc=True).as_unit("us"),
        }
    )
    pd.testing.assert_frame_equal(decode_connections(GOLDEN), expected)


def test_the_record_packed_by_hand_is_written():
    assert encode_connections(decode_connections(GOLDEN)).tobytes() == GOLDEN


FLOAT = st.floats(width=32, allow_nan=False, allow_infinity=False)
RECORD = st.builds(
    lambda raw, pull, distance: raw[:16] + struct.pack("<ff", pull, distance) + raw[24:],
    st.binary(min_size=32, max_size=32),
    FLOAT,
    FLOAT,
)


@given(st.lists(RECORD, max_size=6))
def test_every_record_is_read_and_written_back_bit_by_bit(records):
    data = b"".join(records)
    frame = decode_connections(data)
    assert len(frame) == len(records)
    assert encode_connections(frame).tobytes() == data


def test_missing_columns_are_zero():
    record = encode_connections({"source_id": token_ids([1]), "target_id": token_ids([2])})
    assert record.tobytes() == struct.pack("<II", 1, 2) + bytes(24)


@pytest.mark.parametrize("field", ["pull_strength", "preferred_distance"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_refused_with_its_record(field, value):
    records = np.zeros(3, CONNECTION)
    records[field][2] = value
    with pytest.raises(InvalidQueryError, match=f"connection record 2 .*{field} is {value}"):
        decode_connections(records)


def test_the_error_for_truncated_data_counts_the_records():
    with pytest.raises(InvalidQueryError, match="33 bytes are 1 complete connection records of 32"):
        decode_connections(bytes(33))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("type", 256, "type in row 1 must be an integer from 0 to 255"),
        ("flags", 0x100, "flags in row 1 is 0x100: .* no place for bit 8"),
        ("activation_count", 2**32, "activation_count in row 1"),
        ("pull_strength", -1e39, "pull_strength in row 1 must be at most"),
        ("created", -1, "created in row 1 must be from 1970"),
        (
            "source_id",
            "00000000-0000-4000-8000-00000000000a",
            "source_id in row 1 is .* not the id",
        ),
        ("source_id", "nothing", r"source_id in row 1 must be a UUID, .* not 'nothing'"),
        ("weight", 1, "unknown column 'weight'"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_row(column, value, message):
    ends = token_ids([1, 2]).tolist()
    columns = {"source_id": list(ends), "target_id": ends}
    columns[column] = [columns.get(column, [0])[0], value]
    with pytest.raises(InvalidQueryError, match=message):
        encode_connections(columns)


def test_connections_find_their_tokens_in_the_store(ng):
    tokens = np.zeros(2, TOKEN)
    tokens["id"] = 7, 0x3500_0009
    frame, coords = token_rows(decode_tokens(tokens))
    ng.tokens.bulk_create(frame, coords=coords)
    ids = ng.graph.bulk_create(connection_rows(decode_connections(GOLDEN * 2)))
    assert ids.is_unique

    edges = ng.graph.connections()
    assert edges.source_id.tolist() == token_ids([7, 7]).tolist()
    assert edges.target_id.tolist() == token_ids([0x3500_0009] * 2).tolist()
    assert edges.connection_type.tolist() == ["type_81"] * 2
    assert edges.weight.tolist() == [-0.5, -0.5]
    assert edges.bidirectional.all()


def test_fields_without_a_column_are_in_the_metadata():
    (metadata,) = connection_rows(decode_connections(GOLDEN)).metadata
    assert metadata == {
        "rigidity": 128,
        "active_levels": 0x41,
        "flags": 3,
        "activation_count": 12,
        "preferred_distance": 1.25,
        "created": 1_700_000_000,
        "last_activation": 4_294_967_295,
    }


def test_an_id_depends_on_the_connection_and_its_position():
    records = np.frombuffer(GOLDEN * 4, CONNECTION).copy()
    records["activation_count"] = range(4)
    records["type"][3] = 82
    first, again = (connection_rows(decode_connections(records)) for _ in range(2))
    assert first.connection_id.tolist() == again.connection_id.tolist()
    assert first.connection_id.is_unique
    moved = connection_rows(decode_connections(records[1:]), np.arange(1, 4))
    assert moved.connection_id.tolist() == first.connection_id.tolist()[1:]
    other = connection_rows(decode_connections(records[1:]))
    assert other.connection_id[2] not in set(first.connection_id)


def test_no_records_are_a_frame_with_the_same_columns():
    empty, full = decode_connections(b""), decode_connections(GOLDEN)
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert len(encode_connections(empty)) == len(connection_rows(empty)) == 0
