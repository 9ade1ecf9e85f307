"""Events counted by time step and group, against pandas."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ngdata
from ngdata._arguments.texts import STR
from ngdata.errors import InvalidQueryError, ResultTooLarge
from tests.experience.test_against_pandas import (
    BOXES,
    KINDS,
    STEPS,
    WINDOWS,
    in_box,
    in_window,
)

KEYS = ["event_type", "token_id", "trajectory_id", "metadata.note"]


@pytest.fixture(scope="module")
def noted(events):
    """Return the events with the text of a value of their metadata."""
    notes = [str(each["note"]) if each else None for each in events.metadata]
    return events.assign(**{"metadata.note": pd.Series(notes, dtype=STR, index=events.index)})


def counted(events, step, keys):
    """Count events as pandas does, without the steps that have none."""
    groups = [pd.Grouper(key="timestamp", freq=step, origin="epoch"), *keys]
    counts = events.groupby(groups, sort=True).size().rename("count").reset_index()
    return counts[counts["count"] > 0].reset_index(drop=True)


@settings(max_examples=60)
@given(
    every=STEPS,
    keys=st.lists(st.sampled_from(KEYS), unique=True, max_size=3),
    window=WINDOWS,
    event_type=KINDS,
    run=st.none() | st.integers(0, 3),
    box=st.none() | BOXES,
    level=st.sampled_from([0, 4]),
)
@example("1min", ["token_id"], (None, None), None, None, None, 0)
@example("7D", [], (None, None), None, None, None, 0)
def test_counts_are_those_of_pandas(
    store, tokens, noted, every, keys, window, event_type, run, box, level
):
    selected = in_window(noted, window, event_type)
    trajectory = None if run is None else f"00000000-0000-4000-8000-00000000000{run}"
    if run is not None:
        selected = selected[selected.trajectory_id == trajectory]
    if box is not None:
        selected = selected[selected.token_id.isin(in_box(tokens, box, level).token_id)]
    result = store.experience.count_events(
        every,
        keys or None,
        within=None if box is None else (*box, level),
        start=window[0],
        end=window[1],
        event_type=event_type,
        trajectory_id=trajectory,
    )
    step = pd.Timedelta(every) if every not in ("h", "D") else pd.Timedelta(1, every)
    assert result.columns.tolist() == ["timestamp", *keys, "count"]
    pd.testing.assert_frame_equal(result, counted(selected, step, keys))


def test_integer_ids(new_migrated_database):
    numbers = [2**64 - 1, 7, 2**63]
    with (
        new_migrated_database() as url,
        ngdata.connect(url, redis_url=None, ids="integer", id_space="flywire") as ng,
    ):
        places = np.zeros(3)
        ng.tokens.bulk_create({"token_id": numbers, "x": places, "y": places, "z": places})
        ng.experience.bulk_create(
            {
                "event_type": "seen",
                "timestamp": [0, 1, 2, 999, 1000, 5],
                "token_id": pd.array([*numbers, 7, 7, None], "UInt64"),
            }
        )
        counts = ng.experience.count_events("1s", "token_id")
        assert counts.dtypes.astype(str).tolist() == ["datetime64[us, UTC]", "uint64", "int64"]
        assert counts.token_id.tolist() == [7, 2**63, 2**64 - 1, 7]
        assert counts["count"].tolist() == [2, 1, 1, 1]
        some = ng.experience.count_events("1s", "token_id", token_ids=[7], end=1000)
        assert some[["token_id", "count"]].values.tolist() == [[7, 2]]


def test_frames_without_rows_and_too_many(store, noted):
    for every, tz in (("D", "Asia/Kolkata"), ("h", None), ("90s", "Asia/Kolkata")):
        full = store.experience.count_events(every, KEYS, tz=tz)
        empty = store.experience.count_events(every, KEYS, start=0, end=0, tz=tz)
        assert len(empty) == 0
        assert empty.dtypes.equals(full.dtypes)
        assert str(empty.timestamp.dtype) == f"datetime64[us, {tz or 'UTC'}]"
    rows = len(store.experience.count_events("1min", "token_id"))
    with pytest.raises(ResultTooLarge, match=f"has {rows} rows, and max_rows is 9"):
        store.experience.count_events("1min", "token_id", max_rows=9)


def test_only_the_counts_are_sent(store, noted):
    plan = store.explain(store.experience.count_events, "D", ["event_type"], tz="Europe/Berlin")
    assert "GROUP BY" in plan.sql
    assert "Aggregate" in plan.text
    assert "event_id" not in plan.sql


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": "month"}, "every must be"),
        ({"every": "ME"}, "every must have steps of equal length"),
        ({"every": 0}, "every must be"),
        ({"every": None}, "every must be"),
        ({"by": "event_typ"}, "unknown column 'event_typ' in by.*did you mean 'event_type'"),
        (
            {"by": "reward"},
            r"the columns here are event_type, token_id, trajectory_id, metadata.KEY",
        ),
        ({"by": ["token_id"] * 2}, "by must be a sequence of different column names"),
        ({"by": 5}, "by must be a sequence"),
        ({"tz": "Berlin"}, "tz must be the name of a time zone"),
        ({"start": 2, "end": 1}, "start must not be after end"),
        ({"within": "box"}, "within must be"),
        ({"token_ids": "x"}, "token_ids must be"),
        ({"cache": "of"}, "cache must be"),
    ],
)
def test_bad_arguments(store, arguments, message):
    with pytest.raises(InvalidQueryError, match=message):
        store.experience.count_events(**{"every": "D", **arguments})
