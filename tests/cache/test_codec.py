"""Bytes from Redis are either a complete answer that ngdata wrote, or refused."""

import hmac
import json
import os
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngdata._arguments.checked_bytes import FormatError
from ngdata._query.model import Column, Kind
from ngdata._reading.answer import Answer
from ngdata._reading.cache import codec
from ngdata._reading.cache.codec import decode, encode

KEY, SECRET, MAX_BYTES = "ngdata:1:0006:abc:question:version", b"secret", 1 << 20
SAMPLES = {
    Kind.TEXT: [pa.array(["a", None, "ü\U0001f9e0", ""])],
    Kind.TOKEN_ID: [pa.array(["a", None])],
    Kind.OPTIONAL_TOKEN_ID: [pa.array(["a", None])],
    Kind.TOKEN_NUMBER: [pa.array([0, 2**64 - 1], pa.uint64())],
    Kind.OPTIONAL_TOKEN_NUMBER: [pa.array([None, 2**64 - 1], pa.uint64())],
    Kind.FLOAT: [pa.array([0.1, None, float("inf"), -0.0])],
    Kind.INTEGER: [pa.array([1, -2, 3], kind) for kind in (pa.int16(), pa.int32(), pa.int64())],
    Kind.OPTIONAL_INTEGER: [pa.array([1, None], pa.int32()), pa.array([None, 2**60], pa.int64())],
    Kind.BOOLEAN: [pa.array([True, False])],
    Kind.TIME: [pa.array([0, None, -(2**50)], pa.timestamp("us", "UTC"))],
    Kind.JSON: [pa.array(['{"a": 1}', None])],
    Kind.BYTES: [pa.array([b"\0" * 64, None, b""])],
    Kind.COORDS: [pa.array([[0.5] * 24, [None] * 24, None], pa.list_(pa.float64()))],
}


def answer_of(kind, array):
    return Answer(pa.table({"c": array}), (Column("c", kind),), "v1", 1.5)


ONE = answer_of(Kind.FLOAT, pa.array([1.0, 2.0]))
GOOD = encode(KEY, ONE, SECRET)


def read(value, key=KEY, columns=ONE.columns, secret=SECRET, max_bytes=MAX_BYTES):
    return decode(key, value, columns, secret, max_bytes)


def test_every_kind_has_samples():
    assert set(SAMPLES) == set(Kind)


@pytest.mark.parametrize(("kind", "array"), [(k, a) for k, some in SAMPLES.items() for a in some])
@pytest.mark.parametrize("rows", ["some", "none"])
def test_every_kind_is_decoded_as_it_was_encoded(kind, array, rows):
    original = answer_of(kind, array if rows == "some" else array.slice(0, 0))
    decoded = read(encode(KEY, original, SECRET), columns=original.columns)
    assert decoded.table.equals(original.table)
    assert (decoded.version, decoded.read_at) == ("v1", 1.5)
    pd.testing.assert_frame_equal(decoded.frame(), original.frame(), check_exact=True)


def test_every_prefix_is_refused():
    for length in range(len(GOOD)):
        with pytest.raises(FormatError):
            read(GOOD[:length])


def test_every_flipped_bit_is_refused():
    for place in range(len(GOOD)):
        for bit in range(8):
            altered = bytearray(GOOD)
            altered[place] ^= 1 << bit
            with pytest.raises(FormatError):
                read(bytes(altered))


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(value):
    for data in (value, GOOD[:7] + value, GOOD + value if value else b""):
        with pytest.raises(FormatError):
            read(data)


@pytest.mark.parametrize(
    "value", [None, 5, 1.0, True, "text", [GOOD], {b"a": GOOD}, bytearray(GOOD)]
)
def test_a_value_that_is_not_a_byte_string_is_refused(value):
    with pytest.raises(FormatError):
        read(value)


class Bomb:
    exploded = False

    def __reduce__(self):
        return setattr, (Bomb, "exploded", True)


def test_pickles_are_never_loaded():
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(FormatError):
            read(pickle.dumps(Bomb(), protocol))
    assert not Bomb.exploded
    assert "pickle" not in Path(codec.__file__).read_text()


# ------------------------------------------------------ a correct checksum over wrong contents


def forged(body=None, **changes):
    """Return a value sealed with the secret, after a change of its head and perhaps its body."""
    start = 7 + 32
    (length,) = struct.unpack_from("<I", GOOD, start)
    head = json.loads(GOOD[start + 4 : start + 4 + length])
    for name, value in changes.items():
        head.pop(name) if value is ... else head.update({name: value})
    text = json.dumps(head).encode()
    rest = struct.pack("<I", len(text)) + text
    rest += GOOD[start + 4 + length :] if body is None else body
    return GOOD[:7] + hmac.digest(SECRET, rest, "sha256") + rest


def test_a_forged_value_without_changes_is_decoded():
    assert read(forged()).table.equals(ONE.table)


@pytest.mark.parametrize(
    "changes",
    [
        *({name: ...} for name in ("key", "version", "made", "rows", "size")),
        {"key": KEY + "x"},
        {"key": None},
        {"version": 7},
        {"made": "now"},
        {"rows": 1},
        {"rows": 3},
        {"rows": -1},
        {"rows": 2.0},
        {"rows": True},
        {"size": -1},
        {"size": 0},
        {"size": 2**62},
        {"size": MAX_BYTES + 1},
        {"size": 10**400},
        {"compression": "lz4"},
        {"compression": "zstd"},
        {"compression": 1},
    ],
)
def test_a_wrong_head_is_refused(changes):
    with pytest.raises(FormatError):
        read(forged(**changes))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 60_000, b"{}" + b" " * (1 << 16)])
def test_a_head_that_is_not_valid_json_is_refused(text):
    rest = struct.pack("<I", len(text)) + text
    with pytest.raises(FormatError):
        read(GOOD[:7] + hmac.digest(SECRET, rest, "sha256") + rest)


def stream(table, **options):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, **options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"d": [1.0, 2.0]}),
        pa.table({"c": [1, 2]}),
        pa.table({"c": pa.array([1.0, 2.0], pa.float32())}),
        pa.table({"c": [1.0, 2.0], "d": [1.0, 2.0]}),
        pa.table({}),
        pa.table({"c": pa.array(["1", "2"]).dictionary_encode()}),
        pa.table({"c": [1.0]}),
        pa.table({"c": pa.array([[1.0], [2.0]])}),
    ],
)
def test_a_table_of_another_schema_is_refused(table):
    body = stream(table)
    with pytest.raises(FormatError):
        read(forged(body, size=len(body)))


@pytest.mark.parametrize("argument", ["key", "columns", "secret"])
def test_an_answer_to_another_question_or_database_is_refused(argument):
    other = {
        "key": KEY.replace("question", "another"),
        "columns": (Column("c", Kind.INTEGER),),
        "secret": b"another",
    }
    with pytest.raises(FormatError):
        read(GOOD, **{argument: other[argument]})


@given(st.data())
@settings(max_examples=300)
def test_a_damaged_stream_under_a_correct_checksum_never_passes(data):
    """It is a table of this schema and this number of rows, or FormatError; never another error."""
    body = bytearray(stream(ONE.table))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    try:
        answer = read(forged(bytes(body), size=len(body)))
    except FormatError:
        return
    assert answer.table.num_rows == 2
    assert answer.table.schema.names == ["c"]
    assert answer.table.schema.types == [pa.float64()]


def test_no_memory_is_allocated_for_a_size_that_a_value_only_claims():
    """The head claims a gigabyte, and so does the head of the compressed stream."""
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    for changes in ({"size": 1 << 30}, {"size": 1 << 30, "compression": "lz4"}):
        with pytest.raises(FormatError):
            read(forged(**changes))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    zeros = pa.compress(b"\0" * (1 << 24), "lz4", asbytes=True)
    with pytest.raises(FormatError):
        read(forged(zeros, size=1 << 19, compression="lz4"))
    assert pa.total_allocated_bytes() <= before + (1 << 20)


def test_an_answer_is_compressed_only_if_that_pays():
    def size(values):
        answer = answer_of(Kind.FLOAT, pa.array(values))
        value = encode(KEY, answer, SECRET)
        assert read(value, columns=answer.columns).table.equals(answer.table)
        return len(value), b'"compression": "lz4"' in value

    length, is_compressed = size(np.zeros(100_000))
    assert is_compressed
    assert length < 100_000
    noise = np.random.default_rng(1).normal(size=100_000)
    length, is_compressed = size(noise)
    assert not is_compressed
    assert length < 801_000
    assert not size(np.zeros(100))[1]


def test_a_table_above_the_limit_is_refused():
    large = answer_of(Kind.FLOAT, pa.array(np.zeros(10_000)))
    with pytest.raises(FormatError):
        read(encode(KEY, large, SECRET), columns=large.columns, max_bytes=1000)


def test_another_secret_changes_the_value():
    assert encode(KEY, ONE, os.urandom(8)) != GOOD
