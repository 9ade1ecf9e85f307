"""64-byte token records: compared with bytes packed by hand, in both directions and dialects."""

import struct

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ngdata._arguments.levels import LEVELS
from ngdata.binary import TOKEN, as_records, decode_tokens, encode_tokens, token_ids, token_rows
from ngdata.errors import InvalidQueryError

NAN = (np.nan,) * 3
NOWHERE = np.full((1, 8, 3), np.nan)

# Packed field by field from the format's description: independent of our dtype.
POINTS = [
    (150, -200, 32767),
    (10_000, -1, 0),
    (1_000, 2_000, -32768),
    (127, 127, 127),
    (127, 127, 126),
    (127, 127, 127),
    (100, -100, 2_500),
    (0, 0, 0),
]
GOLDEN = struct.pack(
    "<24hIHfBBI", *sum(POINTS, ()), 0x3500_0007, 0x1583, 0.75, 250, 51, 1_700_000_000
)


def golden(dialect="python"):
    return decode_tokens(GOLDEN, dialect=dialect).iloc[0]


def test_a_record_is_64_bytes():
    assert len(GOLDEN) == TOKEN.itemsize == 64


def test_fields_of_a_record_packed_by_hand():
    token = golden()
    assert token.token_id == "ddd9c407-67f9-8000-8000-000035000007"
    assert (token.local_id, token.entity_type, token.domain) == (7, 5, 3)
    assert (token["flags"], token.weight) == (0x1583, 0.75)
    assert token.timestamp == pd.Timestamp("2023-11-14 22:13:20", tz="UTC")
    assert (token.field_radius, token.field_strength) == (2.5, 0.2)
    assert token.binary_data == GOLDEN


def test_each_level_has_its_scale_and_127_is_undefined():
    assert np.array_equal(
        golden().coords,
        [
            (1.5, -2.0, 327.67),
            (1.0, -0.0001, 0),
            (1, 2, -32.768),
            NAN,
            (0.0127, 0.0127, 0.0126),
            NAN,
            (1, -1, 2.5),
            (0, 0, 0),
        ],
        equal_nan=True,
    )


def test_the_rust_dialect_has_no_mark_and_another_temporal_z():
    coords = golden("rust").coords
    assert coords[3].tolist() == [0.0127] * 3
    assert coords[5].tolist() == [0.0127] * 3
    assert coords[6].tolist() == [1, -1, 25]
    assert coords[7].tolist() == [0, 0, 0]
    assert not np.isnan(coords).any()


@pytest.mark.parametrize("dialect", ["python", "rust"])
def test_the_record_packed_by_hand_is_written(dialect):
    assert (
        encode_tokens(decode_tokens(GOLDEN, dialect=dialect), dialect=dialect).tobytes() == GOLDEN
    )


RECORD = st.builds(
    lambda raw, weight: raw[:54] + struct.pack("<f", weight) + raw[58:],
    st.binary(min_size=64, max_size=64),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@given(st.lists(RECORD, max_size=6), st.sampled_from(["python", "rust"]))
@example([b"\x7f\x00" * 24 + bytes(16)], "python")
@example([b"\x00\x80" * 24 + b"\xff" * 6 + b"\x00\x00\x00\x80" + b"\xff" * 6], "python")
@example([b"\xff\x7f" * 24 + bytes(16)], "rust")
def test_every_record_is_read_and_written_back_bit_by_bit(records, dialect):
    data = b"".join(records)
    frame = decode_tokens(data, dialect=dialect)
    assert len(frame) == len(records)
    assert frame.binary_data.tolist() == records
    # With binary_data, without it, and with the coordinates as an argument.
    assert encode_tokens(frame, dialect=dialect).tobytes() == data
    bare = frame.drop(columns=["binary_data", "coords"])
    coords = np.stack(frame.coords) if records else np.empty((0, 8, 3))
    assert encode_tokens(bare, coords, dialect=dialect).tobytes() == data
    by_id = bare.drop(columns=["local_id", "entity_type", "domain"])
    assert encode_tokens(by_id, coords, dialect=dialect).tobytes() == data


SCALES = np.array([[100, 100, 100], [1e4] * 3, [1e3] * 3, [1e4] * 3, [1e4] * 3, [1e4] * 3])
SCALES = np.vstack([SCALES, [[100, 100, 1000], [1e4] * 3]])


@given(
    st.lists(
        st.none()
        | st.tuples(*[st.floats(-32768, 32767)] * 3).filter(lambda p: set(map(round, p)) != {127}),
        min_size=8,
        max_size=8,
    )
)
def test_a_coordinate_comes_back_within_half_a_step(levels):
    points = np.array([NAN if level is None else level for level in levels]) / SCALES
    back = decode_tokens(encode_tokens({"local_id": [1]}, points[None])).coords[0]
    assert np.array_equal(np.isnan(back), np.isnan(points))
    assert (np.abs(back - points) * SCALES <= 0.5 + 1e-9)[~np.isnan(points)].all()


def test_undefined_levels_are_marks_or_zeros():
    assert set(encode_tokens({"local_id": [1]}, NOWHERE)["coordinates"].flat) == {127}
    rust = encode_tokens({"local_id": [1]}, NOWHERE, dialect="rust")
    assert set(rust["coordinates"].flat) == {0}
    assert (decode_tokens(rust, dialect="rust").coords[0] == 0).all()


def test_missing_columns_have_defaults():
    frame = pd.DataFrame({"local_id": [9, 9], "weight": [np.nan, 2]})
    records = encode_tokens(frame, np.repeat(NOWHERE, 2, axis=0))
    assert records["weight"].tolist() == [1, 2]
    for name in ("flags", "field_radius", "field_strength", "timestamp"):
        assert records[name].tolist() == [0, 0]
    assert records["id"].tolist() == [9, 9]


def test_a_time_is_rounded_down_to_the_second():
    stamps = pd.to_datetime(["2023-11-14 22:13:20.999999+00:00", "2106-02-07 06:28:15.5+00:00"])
    frame = pd.DataFrame({"local_id": [1, 2], "timestamp": stamps})
    records = encode_tokens(frame, np.repeat(NOWHERE, 2, axis=0))
    assert records["timestamp"].tolist() == [1_700_000_000, 2**32 - 1]


def test_no_records_are_a_frame_with_the_same_columns():
    empty, full = decode_tokens(b""), decode_tokens(GOLDEN)
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert len(encode_tokens(empty)) == 0


def test_records_are_accepted_in_every_form():
    data = GOLDEN * 3
    expected = decode_tokens(data)
    array = as_records(data, TOKEN)
    strided = np.zeros(6, TOKEN)
    strided[::2] = array
    for form in (
        bytearray(data),
        memoryview(data),
        array,
        strided[::2],
        np.frombuffer(data, np.uint8),
        [GOLDEN] * 3,
        expected.binary_data,
    ):
        pd.testing.assert_frame_equal(decode_tokens(form), expected)


@pytest.mark.parametrize("table", [pl.DataFrame, dict])
def test_other_frames_are_accepted(table):
    frame = table({"local_id": [7], "entity_type": [5], "weight": [0.5]})
    record = encode_tokens(frame, NOWHERE)[0]
    assert (record["id"], record["weight"]) == (0x0500_0007, 0.5)


def test_a_stored_token_overrides_its_binary_data(ng):
    frame, coords = token_rows(decode_tokens(GOLDEN))
    ids = ng.tokens.bulk_create(frame, coords=coords)
    ng.tokens.update(ids, weight=0.25, coords={0: (1, 2, 3)})
    columns = ["token_id", "token_type", "weight", "flags", "timestamp", "coords", "binary_data"]
    record = encode_tokens(ng.tokens.get(ids, columns=columns))[0]
    assert record["coordinates"][0].tolist() == [100, 200, 300]
    assert (record["weight"], record["field_radius"], record["field_strength"]) == (0.25, 250, 51)
    assert (record["id"], record["timestamp"]) == (0x3500_0007, 1_700_000_000)
    assert record["coordinates"][1:].tolist() == [list(point) for point in POINTS[1:]]


def test_a_token_with_an_id_of_its_own_keeps_its_record_id():
    frame = decode_tokens(GOLDEN)[["token_id", "coords", "binary_data"]]
    frame["token_id"] = "00000000-0000-4000-8000-00000000000a"
    assert encode_tokens(frame).tobytes() == GOLDEN
    frame["binary_data"] = None
    assert encode_tokens(frame)["id"].tolist() == [0]


def test_the_type_is_from_the_id_then_from_the_flags():
    records = np.zeros(4, TOKEN)
    records["id"] = 0, 0x0200_0001, 2, 0x0200_0003
    records["flags"] = 0, 0, 0x0F00, 0x0300
    rows, _ = token_rows(decode_tokens(records))
    assert rows.token_type.tolist() == ["default", "entity_2", "entity_15", "entity_2"]
    assert rows["flags"].tolist() == [0, 0, 0x0F00, 0x0300]


@pytest.mark.parametrize("weight", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_refused_with_its_record(weight):
    records = np.zeros(5, TOKEN)
    records["weight"][3] = weight
    with pytest.raises(InvalidQueryError, match=rf"token record 3 .*weight is {weight}"):
        decode_tokens(records)
    assert np.array_equal(as_records(records.tobytes(), TOKEN)["weight"], records["weight"], True)


@pytest.mark.parametrize(
    ("size", "whole", "rest"), [(63, 0, 63), (65, 1, 1), (2**16 + 40, 1024, 40)]
)
def test_the_error_for_truncated_data_counts_the_records(size, whole, rest):
    with pytest.raises(InvalidQueryError) as caught:
        decode_tokens(bytes(size))
    message = str(caught.value)
    assert (
        f"{size:,} bytes are {whole:,} complete token records of 64 bytes and {rest} bytes"
        in message
    )
    assert f"Truncate it to {whole * 64:,} bytes" in message


@pytest.mark.parametrize("data", ["text", 5, None, pd.DataFrame()])
def test_other_data_than_records_is_refused(data):
    with pytest.raises(InvalidQueryError, match="records must be bytes"):
        decode_tokens(data)


@pytest.mark.parametrize("item", [None, b"short", "x" * 64, 3])
def test_an_item_of_another_size_is_named(item):
    with pytest.raises(InvalidQueryError, match="item 1 must be a token record of 64 bytes"):
        decode_tokens([GOLDEN, item])


def at(level, point, rows=2):
    points = np.full((rows, 8, 3), np.nan)
    points[rows - 1, level] = point
    return points


@pytest.mark.parametrize(
    ("level", "axis", "value", "minimum", "maximum"),
    [
        (0, 0, 327.68, "-327.68", "327.67"),
        (1, 1, -3.3, "-3.2768", "3.2767"),
        (2, 2, 40, "-32.768", "32.767"),
        (6, 0, 330, "-327.68", "327.67"),
        (6, 2, 33, "-32.768", "32.767"),
        (7, 0, np.inf, "-3.2768", "3.2767"),
    ],
)
def test_a_coordinate_beyond_its_level_is_refused(level, axis, value, minimum, maximum):
    point = [0.0, 0, 0]
    point[axis] = value
    with pytest.raises(InvalidQueryError) as caught:
        encode_tokens({"local_id": [1, 2]}, at(level, point))
    message = str(caught.value)
    assert message.startswith(
        f"coords[1, {level}, {axis}] ({LEVELS[level]} {'xyz'[axis]}) is {value}"
    )
    assert message.endswith(f"a record holds {minimum} to {maximum} there")


def test_the_rust_dialect_holds_more_of_the_temporal_z():
    records = encode_tokens({"local_id": [1, 2]}, at(6, (0, 0, 327.67)), dialect="rust")
    assert records["coordinates"][1, 6].tolist() == [0, 0, 32767]


def test_a_point_that_would_read_back_as_undefined_is_refused():
    points = at(3, (0.0127, 0.01272, 0.01268))
    with pytest.raises(
        InvalidQueryError, match=r"coords\[1, 3\] \(emotional\).*undefined.*0\.0001"
    ):
        encode_tokens({"local_id": [1, 2]}, points)
    assert (
        encode_tokens({"local_id": [1, 2]}, points, dialect="rust")["coordinates"][1, 3, 0] == 127
    )


def test_a_level_that_is_half_defined_is_refused():
    points = at(2, (1, np.nan, 2))
    with pytest.raises(InvalidQueryError, match=r"coords\[1, 2\] \(motor\)"):
        encode_tokens({"local_id": [1, 2]}, points)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("local_id", 2**24, "local_id in row 1 must be an integer from 0 to 16777215"),
        ("entity_type", 16, "entity_type in row 1 must be an integer from 0 to 15"),
        ("domain", -1, "domain in row 1"),
        ("flags", 0x30000, "flags in row 1 is 0x30000: .* no place for bit 16, 17; .* 0xffff"),
        ("weight", 1e39, "weight in row 1 must be at most 3.40282e"),
        ("weight", np.inf, "weight in row 1 must be finite"),
        ("field_radius", 2.56, "field_radius in row 1 must be 0 to 2.55, not 2.56"),
        ("field_strength", -0.1, "field_strength in row 1 must be 0 to 1, not -0.1"),
        ("timestamp", -1, "timestamp in row 1 must be from 1970"),
        ("timestamp", 2**32 * 1000, "timestamp in row 1 must be from 1970.* to 2106-02-07"),
        (
            "token_id",
            "ddd9c407-67f9-8000-8000-0000000000ff",
            "token_id in row 1 is that of .* 0xff",
        ),
        ("colour", 1, "unknown column 'colour'"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_row(column, value, message):
    columns = {"local_id": [5, 5], "token_id": token_ids([5, 5]).tolist(), column: [0, value]}
    if column == "token_id":
        columns["token_id"][0] = token_ids(5)[0]
    if column in ("local_id", "entity_type", "domain"):
        del columns["token_id"]
    with pytest.raises(InvalidQueryError, match=message):
        encode_tokens(columns, np.repeat(NOWHERE, 2, axis=0))


def test_ids_and_points_are_required():
    with pytest.raises(InvalidQueryError, match="lacks ids; give the column token_id or local_id"):
        encode_tokens({"weight": [1.0]}, NOWHERE)
    with pytest.raises(InvalidQueryError, match="lacks the column local_id"):
        encode_tokens({"domain": [1]}, NOWHERE)
    with pytest.raises(InvalidQueryError, match="lacks the column coords"):
        encode_tokens({"local_id": [1]})
    with pytest.raises(InvalidQueryError, match="is not the id of a token record"):
        encode_tokens({"token_id": ["00000000-0000-4000-8000-00000000000a"]}, NOWHERE)
    with pytest.raises(InvalidQueryError, match=r"coords must have the shape \(1, 8, 3\)"):
        encode_tokens({"local_id": [1]}, np.zeros((1, 3)))


@pytest.mark.parametrize("work", [decode_tokens, encode_tokens])
def test_an_unknown_dialect_is_refused(work):
    data = GOLDEN if work is decode_tokens else decode_tokens(GOLDEN)
    with pytest.raises(InvalidQueryError, match="dialect must be 'python' or 'rust', not 'go'"):
        work(data, dialect="go")
