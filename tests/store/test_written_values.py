"""Values through the server: what is written is what pandas holds, and what is refused leaves nothing."""

import math
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ngdata._arguments.texts import STR
from ngdata.errors import InvalidQueryError

MOMENTS = pd.Series(
    pd.to_datetime(
        [
            "2024-02-29 12:00:00.123456789",
            "1969-12-31 23:59:59.9999999",
            "2200-01-01",
            "1700-01-01",
        ],
        utc=True,
        format="ISO8601",
    )
)
NUMBERS = [1, 2, 3, 4]
IDS = [str(uuid.UUID(int=n, version=4)) for n in NUMBERS]
JSON = [{"a": np.arange(2), "b": [np.float32(0.5), None]}, {}, None, {"é": {"x": [{"y": True}]}}]
ARROW = pd.ArrowDtype(pa.timestamp("ns", "Europe/Paris"))

FRAMES = {
    "numpy": pd.DataFrame({"timestamp": MOMENTS, "sequence_number": NUMBERS, "event_type": "é'\\"}),
    "nullable": pd.DataFrame(
        {
            "timestamp": MOMENTS.dt.tz_convert("Asia/Tokyo"),
            "sequence_number": pd.array([1, None, 3, 4], "UInt8"),
            "event_type": pd.array(["a"] * 4, "string"),
            "reward": pd.array([0.1, 0.2, None, 4], "Float32"),
        }
    ),
    "arrow": pd.DataFrame(
        {
            "timestamp": MOMENTS.astype(ARROW),
            "sequence_number": pd.array([1, None, 3, 4], "int16[pyarrow]"),
            "event_type": pd.array(["a", "b"] * 2, pd.ArrowDtype(pa.large_string())),
            "reward": pd.array(
                list(map(Decimal, ["0.1", "0.2", "3", "4"])), pd.ArrowDtype(pa.decimal128(5, 2))
            ),
        }
    ),
    "category": pd.DataFrame(
        {
            "timestamp": MOMENTS.astype("category"),
            "sequence_number": pd.Categorical([4, 3, 2, None]),
            "event_type": pd.Categorical(["b", "a", "b", "a"]),
            "priority": pd.arrays.SparseArray([0.0, 1.5, 0.0, 0.0]),
        }
    ),
    "object": pd.DataFrame(
        {
            "timestamp": MOMENTS.astype(object),
            "sequence_number": pd.Series([1, pd.NA, 3.0, np.int8(4)], dtype=object),
            "event_type": pd.Series([np.str_("a"), "b", "c", "d"], dtype=object),
            "reward": pd.Series([Decimal("0.5"), 1, np.float16(2), None], dtype=object),
        }
    ),
    "big-endian": pd.DataFrame(
        {
            "timestamp": MOMENTS,
            "sequence_number": np.array(NUMBERS, ">i2"),
            "event_type": np.array(["a", "b", "c", "d"]),
            "reward": np.array(NUMBERS, ">f4")[::-1],
        }
    ),
    "index": pd.DataFrame({"event_type": ["a"] * 4}).set_index(
        pd.MultiIndex.from_arrays([MOMENTS, NUMBERS], names=["timestamp", "sequence_number"])
    ),
}


def pandas_answer(frame):
    """Return the rows as pandas converts them to the dtypes of a read."""
    frame = frame.reset_index() if frame.index.names[0] else frame
    expected = pd.DataFrame(index=range(len(frame)))
    expected["timestamp"] = (
        frame.timestamp.astype("datetime64[ns, UTC]").dt.floor("us").dt.as_unit("us")
    )
    expected["sequence_number"] = frame.sequence_number.astype(object).astype("Int64")
    expected["event_type"] = frame.event_type.astype(object).astype(STR)
    for name, default in (("reward", 0.0), ("priority", math.nan)):
        values = frame[name] if name in frame else pd.Series([None] * len(frame))
        expected[name] = (
            pd.to_numeric(values.astype(object)).astype("Float64").fillna(default).astype("float64")
        )
    return expected


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_of_pandas_own_types(ng, kind):
    frame = FRAMES[kind]
    ids = ng.experience.bulk_create(frame.assign(event_id=IDS, state_after=JSON))
    assert ids.tolist() == IDS
    pd.testing.assert_index_equal(ids.index, frame.index)
    events = ng.experience.get_events().set_index("event_id").loc[IDS].reset_index(drop=True)
    expected = pandas_answer(frame)
    pd.testing.assert_frame_equal(events[expected.columns.tolist()], expected)
    assert events.state_after.tolist() == [
        {"a": [0, 1], "b": [0.5, None]},
        {},
        None,
        {"é": {"x": [{"y": True}]}},
    ]


class Raising:
    """An object whose methods raise."""

    __len__ = __eq__ = __float__ = __repr__ = __hash__ = lambda *_: 1 / 0


BAD = {
    "sNaN": ("weight", Decimal("sNaN")),
    "set": ("weight", {1}),
    "raising": ("weight", Raising()),
    "frame": ("token_type", pd.DataFrame({"a": [1]})),
    "NaN in JSON": ("metadata", {"a": math.nan}),
    "key": ("metadata", {1: 1, "1": 2}),
    "time": ("metadata", {"t": np.datetime64(1, "ns")}),
    "raising JSON": ("metadata", {"a": Raising()}),
    "naive": ("timestamp", pd.Timestamp(0)),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_refused_leaves_nothing(ng, kind):
    name, value = BAD[kind]
    column = np.empty(3, dtype=object)
    column[1] = value
    frame = pd.DataFrame({"x": [1.0] * 3, "y": 0.0, "z": 0.0, name: column})
    with pytest.raises(InvalidQueryError, match=f"{name} in row 1 ") as caught:
        ng.tokens.bulk_create(frame)
    assert len(str(caught.value)) <= 500
    with pytest.raises(InvalidQueryError, match=rf"^{name} "):
        ng.tokens.create({0: (1, 2, 3)}, **{name: value})
    assert ng.tokens.count_in_region((-9, -9, -9), (9, 9, 9)) == 0
    token = ng.tokens.create({0: (1, 2, 3)}, metadata={"kept": 1})
    with pytest.raises(InvalidQueryError, match=rf"^{name} "):
        ng.tokens.update(token, **{name: value})
    assert ng.tokens.get(token, columns=["metadata"]).metadata.tolist() == [{"kept": 1}]
    with pytest.raises(InvalidQueryError, match=r"^m"):
        ng.experience.start_trajectory(metadata={"a": value} if name != "metadata" else value)
    assert len(ng.experience.list_trajectories()) == 0


@pytest.mark.parametrize("unit", ["seconds", "microseconds", "nanoseconds"])
def test_a_column_of_another_unit_is_refused(ng, unit):
    per_second = {"seconds": 1, "microseconds": 10**6, "nanoseconds": 10**9}[unit]
    times = [1_700_000_000 * per_second, 1_800_000_000 * per_second]
    events = {"event_type": "a", "timestamp": times}
    tokens = {"x": [0, 1], "y": [0, 1], "z": [0, 1], "timestamp": times}
    for write, frame in ((ng.experience.bulk_create, events), (ng.tokens.bulk_create, tokens)):
        with pytest.raises(InvalidQueryError, match=f"timestamp .*millisecond.* like {unit}"):
            write(frame)
    with pytest.raises(InvalidQueryError, match=f"timestamp .*millisecond.* like {unit}"):
        ng.experience.create_event("a", timestamp=times[0])
    assert len(ng.experience.get_events()) == 0
    letter = {"seconds": "s", "microseconds": "us", "nanoseconds": "ns"}[unit]
    ng.experience.bulk_create(events | {"timestamp": pd.to_datetime(times, unit=letter, utc=True)})
    assert ng.experience.get_events().timestamp.dt.year.tolist() == [2023, 2027]
