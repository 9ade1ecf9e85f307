"""The compact columns of the server are converted bit for bit, in every selection of columns."""

from __future__ import annotations

import struct
import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ngdata._connections.arrow_session import joined
from ngdata._query.filters import TokenFilter
from ngdata._query.model import Column, Form, Kind, Query, Sent
from ngdata._query.places import Place
from ngdata._query.regions import region
from ngdata._reading.wire_format import unpack_batch

WHOLE = ((-np.inf,) * 3, (np.inf,) * 3)


def query(*sent):
    columns = tuple(Column(f"c{n}", Kind.TEXT) for n in range(len(sent)))
    return Query("SELECT", columns, (), sent=sent)


def one_column(array, form, value=0):
    batch = pa.RecordBatch.from_arrays([array], ["sent"])
    return unpack_batch(batch, query(Sent(form, 0, value))).column(0)


def test_ids():
    ids = [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), *(uuid.uuid4() for _ in range(500))]
    plain = pa.array([i.bytes for i in ids], pa.binary(16))
    extension = pa.ExtensionArray.from_storage(pa.uuid(), plain)
    for array in (plain, extension):
        column = one_column(array, Form.UUID)
        column.validate(full=True)
        assert column.to_pylist() == [str(i) for i in ids]
        assert one_column(array[7:20], Form.UUID).to_pylist() == [str(i) for i in ids[7:20]]
        assert one_column(array[:0], Form.UUID).to_pylist() == []


@pytest.mark.parametrize("order", ["<", ">"])
def test_points(order):
    values = np.random.default_rng(0).random((200, 3)).tolist()
    values += [[-0.0, 5e-324, 1e37], [np.nextafter(1, 2), -1e-300, 0.1]]
    mark = b"\1" if order == "<" else b"\0"
    sent = [mark + struct.pack(f"{order}I3d", 0x80000001, *point) for point in values]
    array = pa.array(sent, pa.binary())
    for axis in range(3):
        column = one_column(array, Form.POINT, axis).to_numpy()
        assert column.tobytes() == np.array(values)[:, axis].tobytes()
        part = one_column(array[3:9], Form.POINT, axis).to_numpy()
        assert part.tobytes() == np.array(values)[3:9, axis].tobytes()
    assert len(one_column(array[:0], Form.POINT)) == 0


def test_constants():
    column = one_column(pa.array([1, 2, 3]), Form.CONSTANT, 7)
    assert column.type == pa.int32()
    assert column.to_pylist() == [7, 7, 7]


def test_unknown_formats_are_refused():
    with pytest.raises(TypeError, match="16 bytes"):
        one_column(pa.array(["a"]), Form.UUID)
    with pytest.raises(TypeError, match="NULL"):
        one_column(pa.array([b"0" * 16, None], pa.binary(16)), Form.UUID)
    with pytest.raises(TypeError, match="29 bytes"):
        one_column(pa.array([b"\1" * 21], pa.binary()), Form.POINT)


def test_batches_are_joined_in_one_piece():
    batches = [pa.RecordBatch.from_pydict({"a": [n], "b": [str(n)]}) for n in range(5)]
    table = joined(batches)
    assert batches == []
    assert table.to_pydict() == {"a": [0, 1, 2, 3, 4], "b": list("01234")}
    assert all(column.num_chunks == 1 for column in table.columns)


COLUMNS = ["token_id", "level", "x", "y", "z", "token_type", "weight", "flags", "timestamp"]


@pytest.mark.parametrize(
    "columns",
    [
        None,
        COLUMNS[::-1],
        ["level"],
        ["x"],
        ["token_id"],
        ["z", "x"],
        ["x", "z"],
        ["y", "level"],
        ["level", "y"],
        ["token_id", "level"],
        ["level", "token_id", "z", "weight", "y"],
    ],
)
def test_every_selection_of_columns(celegans, columns):
    """Read from the database and from the cache: several selections send the same SQL."""
    whole = celegans.tokens.find_in_region(*WHOLE, cache="off").sort_values("token_id")
    names = COLUMNS if columns is None else columns
    for cache in ("off", "strict", "strict", "ttl"):
        frame = celegans.tokens.find_in_region(*WHOLE, columns=columns, cache=cache)
        assert frame.columns.tolist() == names
        assert frame.dtypes.equals(whole[names].dtypes)
        expected = whole[names].sort_values(names, ignore_index=True)
        pd.testing.assert_frame_equal(frame.sort_values(names, ignore_index=True), expected)
    nearest = celegans.tokens.find_nearest((0, 0, 0), 3, columns=[*names, "distance"])
    assert nearest.columns.tolist() == [*names, "distance"]
    assert len(nearest) == 3


def test_the_query_requests_compact_columns():
    query = region(Place.of((0, 0, 0), (1, 1, 1), 3), TokenFilter())
    assert query.sql.startswith('SELECT token_id AS "token_id", geom::bytea AS "x y z", ')
    assert Sent(Form.CONSTANT, value=3) in query.sent
