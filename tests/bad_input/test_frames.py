"""Invalid rows: the error names column, row and value, and nothing is written."""

import datetime as dt
import math
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ngdata._arguments.texts import STR
from ngdata.errors import IntegrityError, InvalidQueryError, NotFoundError

MISSING = "00000000-0000-4000-8000-00000000dead"
ZERO, ONE = (0, 0, 0), (1, 1, 1)
POINTS = {"x": [0.0, 1.0, 2.0], "y": [0.0, 1.0, 2.0], "z": [0.0, 1.0, 2.0]}
NAIVE = dt.datetime(2024, 1, 1)


def refused(match):
    return pytest.raises(InvalidQueryError, match=match)


JSON = "metadata in row 1 cannot be written as JSON"
KEY_A = rf"{JSON}: metadata\['a'\]"


BAD_TOKENS = [
    ("x", math.nan, "x in row 1 must be a number of at most 1e[+]37 in size, not nan"),
    ("y", None, "y in row 1 must be a number of at most 1e[+]37"),
    ("z", 1.1e37, "z in row 1 must be a number of at most 1e[+]37"),
    ("x", math.inf, "x in row 1 must be finite, not inf"),
    ("x", "1.5", "x in row 1 must be a number, not '1.5'"),
    ("x", True, "x in row 1 must be a number, not True"),
    ("x", 1j, "x in row 1 must be a number, not 1j"),
    ("x", 10**400, "x in row 1 must be finite, not 1000"),
    ("x", [1.0], r"x in row 1 must be a number, not \[1.0\]"),
    ("weight", "heavy", "weight in row 1 must be a number, not 'heavy'"),
    ("weight", math.inf, "weight in row 1 must be finite"),
    ("weight", False, "weight in row 1 must be a number, not False"),
    ("weight", NAIVE, "weight in row 1 must be a number"),
    ("weight", np.complex128(1), "weight in row 1 must be a number"),
    ("weight", np.array([1.0]), "weight in row 1 must be a number"),
    ("weight", np.timedelta64(1, "s"), "weight in row 1 must be a number"),
    ("flags", -1, "flags in row 1 must be an integer from 0 to 2147483647, not -1"),
    ("flags", 2**31, "flags in row 1 .* not 2147483648"),
    ("flags", 10**5000, "flags in row 1 .* not a int too large to show"),
    ("flags", 1.5, "flags in row 1 .* not 1.5"),
    ("flags", True, "flags in row 1 .* not True"),
    ("flags", "1", "flags in row 1 .* not '1'"),
    ("flags", math.inf, "flags in row 1 .* not inf"),
    ("flags", Decimal(1), "flags in row 1 .* not Decimal"),
    ("token_type", 5, "token_type in row 1 must be text, not 5"),
    ("token_type", b"a", "token_type in row 1 must be text, not b'a'"),
    ("token_type", "a\0", "token_type in row 1 must be valid Unicode without NUL"),
    ("token_type", "\udc80", "token_type in row 1 must be valid Unicode without NUL"),
    ("token_id", "x", "token_id in row 1 must be a UUID, or an integer from 0 to .*, not 'x'"),
    ("token_id", -5, "token_id in row 1 must be a UUID, or an integer from 0 to .*, not -5"),
    ("metadata", [1], r"metadata in row 1 must be a dict, not \[1\]"),
    ("metadata", "{}", "metadata in row 1 must be a dict, not '{}'"),
    ("metadata", 5, "metadata in row 1 must be a dict, not 5"),
    ("metadata", {"a": math.nan}, f"{KEY_A} is NaN, .* write None, the JSON null"),
    ("metadata", {"a": [np.array([math.inf])]}, rf"{KEY_A}\[0\]\[0\] is inf"),
    ("metadata", {"a": "\0"}, f"{KEY_A} is .* holds NUL"),
    ("metadata", {"\0": 1}, f"{JSON}: metadata has the key .* holds NUL"),
    ("metadata", {"a": "\\\0"}, f"{KEY_A} is .* holds NUL"),
    ("metadata", {"a": "\ud800"}, f"{KEY_A} is .* half a surrogate pair"),
    ("metadata", {"a": {1}}, f"{KEY_A} is of type set, .* write a list"),
    ("metadata", {"a": NAIVE}, f"{KEY_A} is of type datetime, .* write text"),
    ("metadata", {(1, 2): 3}, f"{JSON}: metadata has the key .1, 2. of type tuple, .*str.key"),
    ("metadata", {1: 0, "1": 0}, f"{JSON}: metadata has the key 1 of type int"),
    ("metadata", {"a": np.datetime64("NaT", "s")}, f"{KEY_A} is of type datetime64"),
    ("metadata", {"a": np.timedelta64(5, "ns")}, f"{KEY_A} is of type timedelta64"),
    ("metadata", {"a": pd.NA}, f"{KEY_A} is of type NAType, .* write None"),
    ("metadata", {"a": 10**5000}, f"{KEY_A} is an integer of too many digits"),
    ("binary_data", b"x" * 63, "binary_data in row 1 must be 64 bytes"),
    ("binary_data", "x" * 64, "binary_data in row 1 must be 64 bytes"),
    ("binary_data", b"", "binary_data in row 1 must be 64 bytes"),
]


@pytest.mark.parametrize(("name", "value", "match"), BAD_TOKENS, ids=range(len(BAD_TOKENS)))
def test_columns_of_tokens(ng, ids, name, value, match):
    good = {"metadata": {}, "token_type": "a", "binary_data": None, "token_id": None}.get(name, 1)
    frame = pd.DataFrame(POINTS, index=[5, 6, 7])
    column = pd.Series([good, None, good], index=frame.index, dtype=object)
    column.iat[1] = value
    frame[name] = column
    with refused(match):
        ng.tokens.bulk_create(frame)
    if name in "xyz":
        return
    alone = match.replace(" in row 1", "")
    with refused(alone):
        ng.tokens.create({0: ONE}, **{name: value})
    if name != "token_id":
        with refused(alone):
            ng.tokens.update(ids[0], **{name: value})


def test_json_nested_too_deeply(ng, ids):
    deep = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with refused("metadata cannot be written as JSON: metadata is nested deeper than 500 levels"):
        ng.tokens.create({}, metadata=deep)


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        (POINTS | {"wieght": [1, 1, 1]}, "unknown column 'wieght'.*did you mean 'weight'"),
        (
            POINTS | {"colour": [0, 0, 0], "wieght": [1, 1, 1], 0: [0, 0, 0]},
            "unknown columns 'colour', 'wieght', 0; the columns to write are x, y, z, token_id.*"
            "did you mean 'weight'.*extra=\"metadata\"",
        ),
        (POINTS | {"level": [0, 0, 8]}, "level in row 2 must be"),
        (POINTS | {"level": [0, "motor", "moter"]}, "level in row 2 .*motor"),
        ({"x": [1]}, "the frame lacks the columns y, z"),
        ({"x": [1], "y": [1, 2], "z": [1]}, "the columns do not form a frame"),
        (
            {"x": 1, "y": 1, "z": 1},
            r"write a list for at least one of them, such as \{'x': \[value\]\}",
        ),
        ({"x": np.zeros((2, 2)), "y": [1, 2], "z": [1, 2]}, "the columns do not form a frame"),
        (pd.DataFrame([[1, 2, 3, 4]], columns=[*"xyzx"]), "two columns of one name: 'x'"),
        (
            pd.DataFrame([[1, 2, 3]]),
            "the frame lacks the columns x, y, z; it has 0, 1, 2; rename what is meant",
        ),
        (pd.Series([1.0], name="x"), "not Series"),
        (pa.array([1.0]), "DoubleArray|cannot be read as a frame"),
        ([(0, 0, 0)], "not list"),
        (None, "not NoneType"),
        ("frame", "not str"),
    ],
)
def test_frames_of_tokens(ng, ids, frame, match):
    with refused(match):
        ng.tokens.bulk_create(frame)


def coords(**changes):
    result = np.full((2, 8, 3), np.nan)
    result[:, 0] = 1
    for place, value in changes.items():
        result[tuple(map(int, place[1:]))] = value
    return result


@pytest.mark.parametrize(
    ("coords", "match"),
    [
        (coords()[:1], r"shape \(2, 8, 3\): tokens, levels, axes; this has \(1, 8, 3\)"),
        (coords()[0], r"this has \(8, 3\)"),
        (np.zeros((2, 3, 8)), r"this has \(2, 3, 8\)"),
        (np.zeros((2, 3)), r"this has \(2, 3\)"),
        (5, r"this has \(\)"),
        (coords(_150=1.0), r"coords\[1, 5\] \(social\) is \[1.0, nan, nan\]: .*NaN on all three"),
        (coords(_002=math.nan), r"coords\[0, 0\] \(physical\) is \[1.0, 1.0, nan\]"),
        (coords(_102=math.inf), r"coords\[1, 0\] \(physical\) is .*at most 1e[+]37"),
        (coords(_102=-1.1e37), r"coords\[1, 0\] .*at most 1e[+]37"),
        (coords().astype(str), "coords must be numbers.* not '1.0'"),
        (coords().astype(complex), "coords must be numbers"),
        (np.ones((2, 8, 3), bool), "coords must be numbers.* not True"),
        (np.ones((2, 8, 3), "M8[s]"), "coords must be numbers"),
        ([[[10**400] * 3] * 8] * 2, "coords must be numbers"),
        ([[[1, 2, 3]] * 8, [[1, 2]] * 8], "coords must be numbers"),
        ("abc", "coords must be numbers"),
    ],
)
def test_arrays_of_coords(ng, ids, coords, match):
    with refused(match):
        ng.tokens.bulk_create({"weight": [1.0, 2.0]}, coords=coords)


@pytest.mark.parametrize(
    ("coords", "match"),
    [
        ({8: ONE}, "level must be an integer from 0 to 7"),
        ({"phys": ONE}, "did you mean 'physical'"),
        ({0: ONE, "physical": ONE}, "coords names the level physical twice"),
        ({0: (1, 2)}, r"coords\[0\] must be three numbers"),
        ({"motor": (1, 2, math.nan)}, r"coords\['motor'\] must not contain NaN"),
        ({0: (1, 2, math.inf)}, r"coords\[0\] must be finite"),
        ({0: "abc"}, r"coords\[0\] must be three numbers"),
        ([1, 2, "3"], "coords must be numbers"),
        ((1, 2, 3), r"for instance \{0: \(1.0, 2.0, 3.0\)\}, .* not \(1, 2, 3\)"),
        (np.zeros((1, 8, 3)), r"or an array of shape \(8, 3\)"),
    ],
)
def test_coords_of_one_token(ng, ids, coords, match):
    with refused(match):
        ng.tokens.create(coords)
    with refused(match):
        ng.tokens.update(ids[0], coords=coords)


def test_coords_together_with_points(ng, ids):
    with refused("unknown columns 'x', 'y', 'z'; the columns to write are token_id"):
        ng.tokens.bulk_create(POINTS, coords=np.zeros((3, 8, 3)))


@pytest.mark.parametrize("level", [8, "nowhere", None, True])
def test_the_level_of_a_frame(ng, ids, level):
    with refused("level"):
        ng.tokens.bulk_create(POINTS, level=level)


def test_an_id_twice_in_a_frame(ng, ids):
    again = uuid.uuid4()
    frame = POINTS | {"token_id": [str(again), None, str(again).upper()]}
    with pytest.raises(IntegrityError, match=f"token_id {again} appears in rows 0 and 2; nothing"):
        ng.tokens.bulk_create(frame)
    edges = {"source_id": ids, "target_id": ids, "connection_id": [again, again, uuid.uuid4()]}
    with pytest.raises(IntegrityError, match=f"connection_id {again} appears in rows 0 and 1"):
        ng.graph.bulk_create(edges)
    events = {"event_type": ["a"] * 2, "timestamp": [0, 0], "event_id": [again.hex, again.urn]}
    with pytest.raises(IntegrityError, match=f"event_id {again} appears in rows 0 and 1"):
        ng.experience.bulk_create(events)


def test_an_existing_id(ng, ids):
    frame = POINTS | {"token_id": [None, None, ids[1]]}
    with pytest.raises(IntegrityError, match=f"token_id {ids[1]} in row 2 already exists; nothing"):
        ng.tokens.bulk_create(frame)
    with pytest.raises(IntegrityError, match=f"^token_id {ids[1]} already exists; nothing"):
        ng.tokens.create({}, token_id=ids[1])
    [edge] = ng.graph.connections().connection_id
    with pytest.raises(IntegrityError, match=f"^connection_id {edge} already exists"):
        ng.graph.create_connection(ids[0], ids[1], connection_id=edge)
    [event] = ng.experience.get_events().event_id
    with pytest.raises(IntegrityError, match=f"^event_id {event} already exists"):
        ng.experience.create_event("seen", event_id=event)


def test_dangling_ends(ng, ids):
    with pytest.raises(
        IntegrityError, match=f"target_id {MISSING} in row 1 names no token; nothing"
    ):
        ng.graph.bulk_create({"source_id": ids, "target_id": [ids[0], MISSING, ids[1]]})
    with pytest.raises(IntegrityError, match=f"^source_id {MISSING} names no token"):
        ng.graph.create_connection(MISSING, ids[0])
    with pytest.raises(IntegrityError, match=f"token_id {MISSING} in row 1 names no token"):
        ng.experience.bulk_create(
            {"event_type": ["a"] * 2, "timestamp": [0, 0], "token_id": [ids[0], MISSING]}
        )


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("source_id", None, "source_id in row 1 must be given, not None"),
        ("target_id", math.nan, "target_id in row 1 must be given, not nan"),
        (
            "target_id",
            "x",
            "target_id in row 1 must be a UUID, or an integer from 0 to .*, not 'x'",
        ),
        ("weight", "1", "weight in row 1 must be a number"),
        ("weight", math.inf, "weight in row 1 must be finite"),
        ("decay_rate", -math.inf, "decay_rate in row 1 must be finite"),
        ("bidirectional", 1, "bidirectional in row 1 must be True or False, not 1"),
        ("bidirectional", "yes", "bidirectional in row 1 must be True or False, not 'yes'"),
        ("connection_type", 1, "connection_type in row 1 must be text, not 1"),
        ("metadata", [], r"metadata in row 1 must be a dict, not \[\]"),
        ("kind", "a", "unknown column 'kind'; the columns"),
    ],
)
def test_columns_of_connections(ng, ids, name, value, match):
    frame = pd.DataFrame({"source_id": ids, "target_id": ids})
    column = frame[name] if name in frame else pd.Series([None] * 3, dtype=object)
    column = column.astype(object)
    column[1] = value
    frame[name] = column
    with refused(match):
        ng.graph.bulk_create(frame)


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("event_type", None, "event_type in row 1 must be given"),
        ("event_type", 1, "event_type in row 1 must be text, not 1"),
        ("timestamp", None, "timestamp in row 1 must be given"),
        ("token_id", "x", "token_id in row 1 must be a UUID, or an integer from 0 to .*, not 'x'"),
        ("trajectory_id", 5, "trajectory_id in row 1 must be a UUID, as text or uuid.UUID, not 5"),
        ("reward", math.inf, "reward in row 1 must be finite"),
        ("reward", "1", "reward in row 1 must be a number"),
        ("priority", math.inf, "priority in row 1 must be finite"),
        ("sequence_number", 2**63, "sequence_number in row 1 must be an integer from -9223"),
        ("sequence_number", 0.5, "sequence_number in row 1 must be an integer"),
        ("sequence_number", True, "sequence_number in row 1 must be an integer"),
        ("state_before", "s", "state_before in row 1 must be a dict, not 's'"),
        ("state_after", {"a": math.nan}, "state_after in row 1 cannot be written as JSON"),
        ("action", ["go"], r"action in row 1 must be a dict, not \['go'\]"),
        ("agent", "me", "unknown column 'agent'; the columns"),
    ],
)
def test_columns_of_events(ng, ids, name, value, match):
    frame = pd.DataFrame({"event_type": ["a", "b", "c"], "timestamp": [0, 1, 2]})
    column = frame[name] if name in frame else pd.Series([None] * 3, dtype=object)
    column = column.astype(object)
    column[1] = value
    frame[name] = column
    with refused(match):
        ng.experience.bulk_create(frame)


def test_nan_for_a_single_value(ng, ids):
    """Unlike in a column, where NaN means the default."""
    before = ng.graph.connections(), ng.experience.get_events()
    with refused("weight must be a number, not nan; leave it out for its default"):
        ng.graph.create_connection(ids[0], ids[1], weight=math.nan)
    with refused("weight must be a number, not nan"):
        ng.tokens.create({0: (1, 2, 3)}, weight=np.float64("nan"))
    with refused("reward must be a number, not nan"):
        ng.experience.create_event("seen", reward=math.nan)
    pd.testing.assert_frame_equal(ng.graph.connections(), before[0])
    pd.testing.assert_frame_equal(ng.experience.get_events(), before[1])


def test_updates_without_changes_or_of_missing_ids(ng, ids):
    with refused("update names nothing to change; give at least one of coords="):
        ng.tokens.update(ids)
    with refused("update names nothing to change"):
        ng.tokens.update(ids, coords={})
    with pytest.raises(NotFoundError):
        ng.tokens.update([*ids, MISSING], weight=5, coords={0: (9, 9, 9)})
    assert ng.tokens.get(ids).weight.tolist() == [1, 1, 1]
    assert ng.tokens.find_nearest((9, 9, 9), 1).x.tolist() == [2]


def test_frames_without_rows(ng, ids):
    empty = pd.DataFrame(POINTS)[:0]
    for column, name in (
        (ng.tokens.bulk_create({"x": [], "y": [], "z": []}), "token_id"),
        (ng.tokens.bulk_create(empty), "token_id"),
        (ng.tokens.bulk_create(pd.DataFrame(), coords=np.zeros((0, 8, 3))), "token_id"),
        (ng.tokens.bulk_create(pa.table(empty)), "token_id"),
        (ng.graph.bulk_create({"source_id": [], "target_id": []}), "connection_id"),
        (ng.experience.bulk_create({"event_type": [], "timestamp": []}), "event_id"),
    ):
        assert (len(column), column.dtype, column.name) == (0, STR, name)
    assert ng.tokens.get([]).empty
    assert ng.tokens.update([], weight=5) == ng.tokens.delete([]) == 0
    assert ng.graph.get_neighbors([]).empty
    assert ng.graph.get_degree([]).empty
    assert ng.experience.get_events(token_ids=[]).empty
    assert ng.tokens.find_in_region(ZERO, ONE, token_type=[]).empty
