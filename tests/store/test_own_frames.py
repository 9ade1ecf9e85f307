"""Frames of one's own, and those that reads return, written: rows, metadata, conflicts, counts."""

import datetime as dt
import uuid

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngdata import ids
from ngdata._store import experience, graph, tokens
from ngdata._store.extra_columns import into_metadata
from ngdata.errors import IntegrityError, InvalidQueryError

EVERYTHING = ((-1e9,) * 3, (1e9,) * 3)
FILES = settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def filled(ng):
    """A store of five tokens on two levels, connections and events."""
    coords = np.full((5, 8, 3), np.nan)
    coords[:, 0] = np.arange(15).reshape(5, 3)
    coords[:3, 2] = 0.1
    token_ids = ng.tokens.bulk_create(
        {
            "token_id": [1, 2, 3, 4, 5],
            "token_type": list("aabbb"),
            "flags": [0, 1, 2, 3, 2**31 - 1],
            "metadata": [{"n": 1, "deep": {"k": [1, None]}}, None, {}, None, {"n": 2**63}],
            "timestamp": [dt.datetime(2026, 1, day, tzinfo=dt.UTC) for day in range(1, 6)],
            "binary_data": [bytes(64), None, None, None, bytes(range(64))],
        },
        coords=coords,
    )
    ng.graph.bulk_create(
        {"source_id": [1, 2, 3], "target_id": [2, 3, 3], "bidirectional": [True, False, True]}
    )
    ng.experience.bulk_create(
        {
            "event_type": list("xyy"),
            "timestamp": [0, 1, 1],
            "token_id": [1, None, 2],
            "state_after": [{"s": 1}, None, {}],
            "trajectory_id": [str(uuid.UUID(int=7))] * 3,
            "sequence_number": [None, 3, 2],
        }
    )
    return token_ids


# --- frames that reads return ----------------------------------------------------------------------


def rows_of(ng):
    tokens_, edges = ng.sql("TABLE tokens.tokens"), ng.sql("TABLE graph.connections")
    events = ng.sql("SELECT * FROM experience.experience_events")
    frames = [tokens_, edges, events.drop(columns="entry_number")]
    return [
        f.drop(columns=["created_at", "updated_at"], errors="ignore")
        .sort_values("id", ignore_index=True)
        .astype(object)
        .astype(str)
        for f in frames
    ]


def test_whole_frames_out_go_in_again(ng, filled):
    """What is read, deleted and written again is the same store."""
    before = rows_of(ng)
    whole = [
        *["token_id", "token_type", "weight", "flags", "timestamp", "coords", "metadata"],
        "binary_data",
    ]
    columns = ng.graph.connections(columns=["created_at", "decay_rate", "metadata"]).columns
    read = (
        ng.tokens.get(filled, columns=[*whole, "created_at", "updated_at", "metadata.n"]),
        ng.graph.connections(columns=[*ng.graph.connections().columns, *columns]),
        ng.experience.get_events(
            columns=[*ng.experience.get_events().columns, "metadata", "created_at"]
        ),
    )
    ng.tokens.delete(filled)
    ng.experience.delete_events(start=0)
    ng.tokens.bulk_create(read[0])
    ng.graph.bulk_create(read[1])
    ng.experience.bulk_create(read[2])
    for old, new in zip(before, rows_of(ng), strict=True):
        pd.testing.assert_frame_equal(old, new)


@pytest.mark.parametrize(
    "read",
    [
        lambda ng: ng.tokens.find_in_region(*EVERYTHING, "motor"),
        lambda ng: ng.tokens.find_nearest((0, 0, 0), 3, "motor"),
        lambda ng: ng.tokens.find_within((0, 0, 0), 9, "motor"),
        lambda ng: next(ng.tokens.iter_region(*EVERYTHING, "motor")),
        lambda ng: ng.tokens.find_in_region(*EVERYTHING, "motor").set_index("token_id"),
    ],
)
def test_regions_go_back_to_their_own_level(ng, filled, read):
    """The level of a row is in its column, whatever the argument `level` is by default."""
    frame = read(ng)
    ng.tokens.delete(filled)
    written = ng.tokens.bulk_create(frame)
    assert sorted(written) == sorted(ids.from_integers([1, 2, 3]))
    assert ng.tokens.count_in_region(*EVERYTHING, "physical") == 0
    order = ng.tokens.find_in_region(*EVERYTHING, "motor").set_index("token_id").loc[written]
    for axis in "xyz":
        assert order[axis].tolist() == frame[axis].tolist()


def test_events_of_a_trajectory_go_in_again(ng, filled):
    run = ng.experience.get_trajectory(uuid.UUID(int=7))
    around = ng.experience.events_around(1, before="1h", after="1h")
    for frame in (run, around):
        ng.experience.delete_events(start=0)
        assert ng.experience.bulk_create(frame).tolist() == frame.event_id.tolist()
    # Equal times without sequence numbers keep the order of the frame.
    equal = {"event_type": "e", "timestamp": [5] * 9, "reward": range(9)}
    ng.experience.bulk_create(equal | {"trajectory_id": [str(uuid.UUID(int=8))] * 9})
    assert ng.experience.get_trajectory(uuid.UUID(int=8)).reward.tolist() == list(range(9))


def test_a_level_for_each_row():
    frame = pd.DataFrame(
        {"x": [1.0, 2], "y": [0.0, 0], "z": [0.0, 0], "level": ["motor", "social"]}
    )
    rows = tokens.check_frame(frame, 0, None)
    elements = [{"index": 2, "value": 1.0}, {"index": 5, "value": 2.0}]
    assert rows["coord_x"].to_pylist() == elements
    same = str(uuid.uuid4())
    with pytest.raises(IntegrityError, match=r"rows 0 and 1.*is one row, with a column coords"):
        tokens.check_frame(frame.assign(token_id=same), 0, None)
    with pytest.raises(InvalidQueryError, match="lacks the column z; is it 'z_nm'"):
        tokens.check_frame(frame.rename(columns={"z": "z_nm"}), 0, None)
    with pytest.raises(InvalidQueryError, match="lacks the column source_id; did you mean 'sorce"):
        graph.check_frame({"sorce_id": [same], "target_id": [same]})


# --- extra columns ---------------------------------------------------------------------------------


def test_extra_columns_become_metadata():
    frame = pd.DataFrame(
        {
            "x": [1.0, 2, 3],
            "y": 0.0,
            "z": 0.0,
            "kind": ["a", None, "c"],
            "count": pd.array([1, None, 2**53 + 1], "Int64"),
            "share": [0.5, np.nan, 1.0],
            "seen": pd.to_datetime(["2026-01-01", None, "2026-01-02"]).tz_localize("Europe/Berlin"),
            "day": [dt.date(2026, 1, 1), None, dt.date(2026, 1, 2)],
            "took": pd.to_timedelta([1, None, 90], "s"),
            "group": pd.Categorical(["p", None, "q"]),
            "list": [[1, 2], None, []],
            "metadata": [{"own": 1}, None, None],
        }
    )
    written = tokens.check_frame(frame, 0, None, extra="metadata")
    rows = [eval(text or "None", {"null": None}) for text in written["metadata"].to_pylist()]
    assert rows[1] is None
    assert rows[0] == {
        "own": 1,
        "kind": "a",
        "count": 1,
        "share": 0.5,
        "seen": "2026-01-01T00:00:00+01:00",
        "day": "2026-01-01",
        "took": "P0DT0H0M1S",
        "group": "p",
        "list": [1, 2],
    }
    assert rows[2]["count"] == 2**53 + 1
    for check in (graph.check_frame, experience.check_frame):
        kinds = {"source_id": [1], "target_id": [2], "event_type": ["a"], "timestamp": [0]}
        known = graph if check is graph.check_frame else experience
        names = ("source_id", "target_id") if known is graph else ("event_type", "timestamp")
        row = {name: kinds[name] for name in names} | {"note": ["n"]}
        assert check(row, extra="metadata")["metadata"].to_pylist() == ['{"note": "n"}']
        with pytest.raises(InvalidQueryError, match=r"unknown column 'note'.*extra=.metadata"):
            check(row, extra="refuse")


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({5: [1]}, "the column 5 must have text as its name"),
        ({"k": [1], "metadata": [{"k": 2}]}, "row 0 has the key 'k' already"),
        ({"k": [{1: 2}]}, r"metadata\['k'\] has the key 1"),
        ({"k": [float("inf")]}, "metadata in row 0 cannot be written as JSON"),
        ({"k": [object()]}, "metadata in row 0 cannot be written as JSON"),
        ({"k": [1], "metadata": [5]}, "metadata in row 0 must be a dict"),
    ],
)
def test_bad_extra_columns(columns, match):
    with pytest.raises(InvalidQueryError, match=match):
        tokens.check_frame(
            {"x": [1.0], "y": [1.0], "z": [1.0]} | columns, 0, None, extra="metadata"
        )


def test_keys_that_reads_return_as_columns():
    """With the metadata themselves they are left out; without, they are keys again."""
    frame = pd.DataFrame({"x": [1.0], "metadata.kind": ["a"], "metadata": [{"kind": "a", "n": 1}]})
    frame = frame.assign(y=0.0, z=0.0)
    assert tokens.check_frame(frame, 0, None)["metadata"].to_pylist() == ['{"kind": "a", "n": 1}']
    alone = into_metadata(frame.drop(columns="metadata"), ["metadata.kind"])
    assert alone.metadata.tolist() == [{"kind": "a"}]


# --- rows that exist -------------------------------------------------------------------------------


@FILES
@given(data=st.data())
def test_conflicts_equal_a_copy_of_the_table(ng, data):
    """Any sequence of bulk writes leaves the rows that a dict in Python would hold."""
    ng.tokens.delete(token_type=["a", "b", "default"])
    copy: dict[int, dict] = {}
    for _ in range(3):
        numbers = data.draw(st.lists(st.integers(0, 6), unique=True, max_size=6))
        mode = data.draw(st.sampled_from(["skip", "update", "error"]))
        level = data.draw(st.sampled_from([0, 3]))
        frame = pd.DataFrame({"token_id": pd.Series(numbers, dtype="uint64")})
        frame["x"] = [data.draw(st.floats(-9, 9)) for _ in numbers]
        frame["y"] = frame["z"] = 0.0
        if data.draw(st.booleans()):
            frame["token_type"] = [data.draw(st.sampled_from("ab")) for _ in numbers]
        existing = copy.keys() & set(numbers)
        if mode == "error" and existing:
            with pytest.raises(IntegrityError, match="already exists"):
                ng.tokens.bulk_create(frame, level=level)
            continue
        counts = ng.tokens.bulk_create(frame, level=level, on_conflict=mode).attrs["ngdata"]
        changed = len(existing) if mode == "update" else 0
        assert counts == {
            "created": len(numbers) - len(existing),
            "updated": changed,
            "skipped": len(existing) - changed,
        }
        for row in frame.to_dict("records"):
            number = row["token_id"]
            if number in existing and mode == "skip":
                continue
            token = copy.setdefault(number, {"token_type": "default"})
            token[level] = row["x"]
            token["token_type"] = row.get("token_type", token["token_type"])
    stored = ng.tokens.find(columns=["token_id", "token_type", "coords"])
    actual = {
        number: {"token_type": kind}
        | {level: x for level, x in enumerate(coords[:, 0]) if not np.isnan(x)}
        for number, kind, coords in zip(
            ids.to_integers(stored.token_id), stored.token_type, stored.coords, strict=True
        )
    }
    assert actual == copy
    for level in (0, 3):  # the spatial index too
        region = ng.tokens.find_in_region(*EVERYTHING, level)
        xs = dict(zip(ids.to_integers(region.token_id), region.x, strict=True))
        assert xs == {n: token[level] for n, token in copy.items() if level in token}


def test_conflicts_of_connections_and_events(ng, filled):
    edges = ng.graph.connections().assign(weight=7.0)
    new = pd.concat([edges, edges.head(1).assign(connection_id=str(uuid.uuid4()))])
    columns = ["connection_id", "source_id", "target_id", "weight"]
    written = ng.graph.bulk_create(new[columns], on_conflict="update")
    assert written.attrs["ngdata"] == {"created": 1, "updated": 3, "skipped": 0}
    after = ng.graph.connections()
    assert after.weight.tolist() == [7.0] * 4
    # A column that the frame does not have stays.
    assert after.set_index("connection_id").loc[edges.connection_id].bidirectional.tolist() == (
        edges.bidirectional.tolist()
    )
    events = ng.experience.get_events().assign(reward=5.0)
    counts = ng.experience.bulk_create(events, on_conflict="update").attrs["ngdata"]
    assert counts == {"created": 0, "updated": 3, "skipped": 0}
    assert ng.experience.list_trajectories().total_reward.tolist() == [15.0]
    assert ng.experience.bulk_create(events, on_conflict="skip").attrs["ngdata"]["skipped"] == 3


@pytest.mark.parametrize("mode", ["skip", "update"])
def test_a_row_that_cannot_be_written_leaves_nothing_behind(ng, filled, mode):
    before = rows_of(ng)
    bad = {"source_id": [1, 1], "target_id": [2, 99], "weight": [3.0, 4.0]}
    with pytest.raises(IntegrityError, match=r"target_id .* in row 1 names no token"):
        ng.graph.bulk_create(bad, on_conflict=mode)
    ng.experience.end_trajectory(uuid.UUID(int=7))
    late = {"event_type": "x", "timestamp": [9], "trajectory_id": [str(uuid.UUID(int=7))]}
    with pytest.raises(IntegrityError, match="ended"):
        ng.experience.bulk_create(late, on_conflict=mode)
    for old, new in zip(before, rows_of(ng), strict=True):
        pd.testing.assert_frame_equal(old, new)


def test_modes_are_checked(ng):
    point = {"x": [0.0], "y": [0.0], "z": [0.0]}
    with pytest.raises(InvalidQueryError, match=r"on_conflict must be 'error', 'skip' or 'update'"):
        ng.tokens.bulk_create(point, on_conflict="replace")
    with pytest.raises(InvalidQueryError, match=r"extra must be 'refuse' or 'metadata'"):
        ng.graph.bulk_create(point, extra="keep")
    with pytest.raises(InvalidQueryError, match=r"initial .* on_conflict must be 'error'"):
        ng.tokens.bulk_create(point, initial=True, on_conflict="skip")
