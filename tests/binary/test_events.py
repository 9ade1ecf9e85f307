"""128-byte event records: compared with bytes packed by hand, in both directions, and stored."""

import struct
import uuid

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngdata.binary import EVENT, decode_events, encode_events, event_rows
from ngdata.errors import InvalidQueryError

ID = 0x0123_4567_89AB_CDEF_0011_2233_4455_6677
STATE = [0.5, -1.0, 2.0, 0.0, 4.0, 0.25, -8.0, 1.5]
ACTION = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
REWARDS = [0.5, -0.25, 2.0, 1.0]
GOLDEN = (
    ID.to_bytes(16, "little")
    + struct.pack("<QQIHH", 1_700_000_000_123_457, 2**64 - 2, 3, 0x0201, 0xFFE1)
    + struct.pack("<8f8f4fII", *STATE, *ACTION, *REWARDS, 0xDEADBEEF, 42)
)
LAST = 253_402_300_799_999_999


def test_a_record_is_128_bytes():
    assert len(GOLDEN) == EVENT.itemsize == 128


def test_fields_of_a_record_packed_by_hand():
    event = decode_events(GOLDEN).iloc[0]
    assert event.event_id == str(uuid.UUID(int=ID)) == "01234567-89ab-cdef-0011-223344556677"
    assert event.timestamp == pd.Timestamp("2023-11-14 22:13:20.123457", tz="UTC")
    assert event.trajectory_id == "ddd9c407-67f9-8003-bfff-fffffffffffe"
    assert (event.step, event.type, event["flags"]) == (3, 0x0201, 0xFFE1)
    assert (event.state.tolist(), event.action.tolist()) == (STATE, ACTION)
    assert event[["homeostasis", "curiosity", "efficiency", "goal"]].tolist() == REWARDS
    assert event.reward == 3.25
    assert (event.version_hash, event.sequence) == (0xDEADBEEF, 42)


def test_the_record_packed_by_hand_is_written():
    assert encode_events(decode_events(GOLDEN)).tobytes() == GOLDEN


FLOATS = st.lists(
    st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=20, max_size=20
)
RECORD = st.builds(
    lambda raw, micros, floats: (
        raw[:16] + struct.pack("<Q", micros) + raw[24:40] + struct.pack("<20f", *floats) + raw[120:]
    ),
    st.binary(min_size=128, max_size=128),
    st.integers(0, LAST),
    FLOATS,
)


@given(st.lists(RECORD, max_size=5))
def test_every_record_is_read_and_written_back_bit_by_bit(records):
    data = b"".join(records)
    frame = decode_events(data)
    assert len(frame) == len(records)
    assert encode_events(frame).tobytes() == data


@given(st.lists(RECORD, min_size=1, max_size=5))
def test_ids_and_rewards_equal_those_computed_by_python(records):
    frame = decode_events(b"".join(records))
    for event, record in zip(frame.itertuples(), records, strict=True):
        assert event.event_id == str(uuid.UUID(int=int.from_bytes(record[:16], "little")))
        first, second, third, fourth = struct.unpack("<4f", record[104:120])
        assert event.reward == first + second + third + fourth
        assert event.timestamp.asm8.view("i8") == struct.unpack("<Q", record[16:24])[0]


def test_missing_columns_are_zero():
    event_id = uuid.UUID(int=ID)
    record = encode_events({"event_id": [event_id], "timestamp": [1_000]})
    assert record.tobytes() == GOLDEN[:16] + struct.pack("<Q", 1_000_000) + bytes(104)


@pytest.mark.parametrize("field", ["state", "action", "goal", "curiosity"])
def test_nan_is_refused_with_its_record(field):
    records = np.zeros(4, EVENT)
    records[field][2] = np.nan
    with pytest.raises(InvalidQueryError, match=rf"event record 2 .*{field} is \[?nan"):
        decode_events(records)


def test_a_time_after_the_year_9999_is_refused_with_its_record():
    records = np.zeros(2, EVENT)
    records["timestamp"] = LAST, LAST + 1
    assert decode_events(records[:1]).timestamp[0].year == 9999
    with pytest.raises(InvalidQueryError, match=f"event record 1 .* timestamp is {LAST + 1} micro"):
        decode_events(records)


def test_the_error_for_truncated_data_counts_the_records():
    with pytest.raises(
        InvalidQueryError, match="300 bytes are 2 complete event records of 128 bytes"
    ):
        decode_events(bytes(300))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("timestamp", -1, "timestamp in row 1 must be from 1970"),
        ("type", 2**16, "type in row 1 must be an integer from 0 to 65535"),
        ("flags", 2**16, "flags in row 1 is 0x10000: .* no place for bit 16"),
        ("step", -1, "step in row 1"),
        ("state", [1, 2], "state in row 1 must be 8 finite numbers"),
        ("action", [np.nan] * 8, "action in row 1 must be 8 finite numbers"),
        ("goal", np.inf, "goal in row 1 must be finite"),
        ("reward", 1.0, "reward in row 1 is 1, but homeostasis.* make 0"),
        (
            "trajectory_id",
            str(uuid.UUID(int=1)),
            "trajectory_id in row 1 is .* not the id of an episode",
        ),
        ("event_id", "nothing", r"event_id in row 1 must be a UUID, .* not 'nothing'"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_row(column, value, message):
    frame = decode_events(np.zeros(2, EVENT)).astype({"timestamp": object})
    frame = frame[["event_id", "timestamp", *{column} - {"event_id", "timestamp"}]]
    frame[column] = pd.Series([frame[column][0], value], dtype=object)
    with pytest.raises(InvalidQueryError, match=message):
        encode_events(frame)


def test_an_episode_is_a_trajectory_of_the_store(ng):
    records = np.zeros(5, EVENT)
    records["id"][:, 0] = range(5)
    records["timestamp"] = [10, 11, 12, 13, 14]
    records["episode"] = [1, 1, 2, 1, 2]
    records["step"] = [0, 1, 0, 2, 1]
    records["state"][:, 0] = 0.1
    for weight, name in enumerate(("homeostasis", "curiosity", "efficiency", "goal"), 1):
        records[name] = weight * np.arange(5)
    frame = decode_events(records)
    ng.experience.bulk_create(event_rows(frame))

    first = ng.experience.get_events(trajectory_id=frame.trajectory_id[0])
    assert first.event_id.tolist() == frame.event_id[[0, 1, 3]].tolist()
    assert first.sequence_number.tolist() == [0, 1, 2]
    assert first.reward.tolist() == [0, 10, 30]
    assert (first.timestamp.to_numpy() == frame.timestamp[[0, 1, 3]].to_numpy()).all()
    assert first.event_type.unique().tolist() == ["type_0"]
    assert first.state_before[0] == {"values": [float(np.float32(0.1)), *[0.0] * 7]}
    assert first.action[0] == {"values": [0.0] * 8}
    assert len(ng.experience.get_events(trajectory_id=frame.trajectory_id[2])) == 2


def test_fields_without_a_column_are_in_the_metadata():
    rows = event_rows(decode_events(GOLDEN))
    assert rows.metadata[0] == {
        "flags": 0xFFE1,
        "homeostasis": 0.5,
        "curiosity": -0.25,
        "efficiency": 2.0,
        "goal": 1.0,
        "version_hash": 0xDEADBEEF,
        "sequence": 42,
    }


def test_no_records_are_a_frame_with_the_same_columns():
    empty, full = decode_events(b""), decode_events(GOLDEN)
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert len(encode_events(empty)) == len(event_rows(empty)) == 0
