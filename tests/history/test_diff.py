"""Differences between two moments, compared with those of two copies in pandas."""

import numpy as np
import pandas as pd
import pytest

import ngdata
from ngdata._arguments.texts import STR
from tests.history.conftest import same
from tests.history.writers import Writers

REGION = ngdata.Box((2, 2, 2), (7, 7, 7))
PLACES = [f"{axis}_{when}" for when in ("before", "after") for axis in "xyz"]


def copied(client, pin, table):
    frame = client.sql(f"SELECT * FROM copy_{pin.number}.{table}")
    return frame.set_index("id").sort_index()


def different(a, b, columns):
    """Return whether two rows differ, both missing being equal."""
    return any(repr(a[name]) != repr(b[name]) for name in columns)


def expected_of_tokens(client, first, second):
    """Return what changed, row by row, in plain Python."""
    before, after = (copied(client, pin, "tokens") for pin in (first, second))
    attributes = ["token_type", "weight", "flags", "timestamp", "metadata", "binary_data"]
    rows = []
    for token in sorted({*before.index, *after.index}):
        old = before.loc[token] if token in before.index else None
        new = after.loc[token] if token in after.index else None
        changed = old is not None and new is not None and different(old, new, attributes)
        levels = 0
        for level in range(8):
            places = [place(row, level) for row in (old, new)]
            levels += places != [None, None]
            if places == [None, None] or (places[0] == places[1] and not changed):
                continue
            kind = "changed"
            if places[0] is None:
                kind = "added"
            elif places[1] is None:
                kind = "removed"
            elif places[0] != places[1]:
                kind = "moved"
            rows.append(
                [token, level, kind, *(places[0] or [np.nan] * 3), *(places[1] or [np.nan] * 3)]
            )
        if not levels and (old is None or new is None or changed):
            kind = "added" if old is None else "removed" if new is None else "changed"
            rows.append([token, pd.NA, kind, *[np.nan] * 6])
    frame = pd.DataFrame(rows, columns=["token_id", "level", "change", *PLACES])
    return frame.astype(
        {"token_id": STR, "level": "Int64", "change": STR} | dict.fromkeys(PLACES, "float64")
    )


def place(row, level):
    if row is None or pd.isna(row.coord_x[level]):
        return None
    return [row.coord_x[level], row.coord_y[level], row.coord_z[level]]


def expected_of_rows(client, first, second, table, columns):
    before, after = (copied(client, pin, table) for pin in (first, second))
    changes = {}
    for row in {*before.index, *after.index}:
        if row not in before.index:
            changes[row] = "added"
        elif row not in after.index:
            changes[row] = "removed"
        elif different(before.loc[row], after.loc[row], columns):
            changes[row] = "changed"
    return dict(sorted(changes.items()))


def test_differences_are_those_of_the_copies(migrated_database, copies_of):
    with ngdata.connect(migrated_database) as client:
        copies = copies_of(client, migrated_database)
        with Writers(migrated_database, 4, seed=5) as writers:
            for _ in range(3):
                writers.wait(40)
                copies.pin()
        assert not writers.errors
        last = copies.pin()
        for number, first in enumerate(copies.pins):
            for second in copies.pins[number:]:
                expected = expected_of_tokens(client, first, second)
                answer = client.diff(first, second)
                same(answer, expected)
                compare_reverse(client, first, second, expected)
                compare_region(client, first, second, expected)
                compare_others(client, first, second)
            same(client.diff(first), expected_of_tokens(client, first, last))
            same(client.as_of(last).diff(first), client.diff(first))


def compare_reverse(client, first, second, expected):
    answer = client.diff(second, first)
    swapped = {"added": "removed", "removed": "added", "moved": "moved", "changed": "changed"}
    back = expected.assign(change=expected.change.map(swapped).astype(STR))
    names = {f"{axis}_before": f"{axis}_after" for axis in "xyz"}
    back = back.rename(columns=names | {after: before for before, after in names.items()})
    same(answer, back[expected.columns])


def compare_region(client, first, second, expected):
    inside = np.zeros(len(expected), bool)
    for when in ("before", "after"):
        points = expected[[f"{axis}_{when}" for axis in "xyz"]].to_numpy()
        inside |= REGION.contains(points)
    for level in (0, 2):
        answer = client.diff(first, second, within=(REGION, level))
        same(answer, expected[inside & (expected.level == level)].reset_index(drop=True))


def compare_others(client, first, second):
    edges = ["source_id", "target_id", "connection_type", "weight", "bidirectional", "metadata"]
    answer = client.diff(first, second, of="connections")
    expected = expected_of_rows(client, first, second, "connections", edges)
    assert dict(zip(answer.connection_id, answer.change, strict=True)) == expected
    events = ["event_type", "timestamp", "token_id", "reward", "trajectory_id", "metadata"]
    answer = client.diff(first, second, of="events")
    expected = expected_of_rows(client, first, second, "experience_events", events)
    assert dict(zip(answer.event_id, answer.change, strict=True)) == expected


@pytest.fixture
def changed(ng):
    """A pin, and two tokens, a connection and an event that changed since."""
    inside, outside, far = ng.tokens.bulk_create(
        pd.DataFrame({"x": [5.0, 1.0, 9.0], "y": 5.0, "z": 5.0})
    )
    edge = ng.graph.create_connection(inside, outside, weight=1.0)
    event = ng.experience.create_event("seen", token_id=inside, reward=1.0)
    ng.pin("then")
    ng.graph.update(edge, weight=2.0)
    ng.experience.update_event(event, reward=2.0)
    ng.tokens.update(far, weight=3.0)
    return inside, outside, edge, event


def test_connections_and_events_that_changed(ng, changed):
    inside, outside, edge, event = changed
    row = ng.diff("then", of="connections").iloc[0].to_dict()
    assert row == {
        "connection_id": edge,
        "change": "changed",
        "source_id": inside,
        "target_id": outside,
        "connection_type": "generic",
        "weight_before": 1.0,
        "weight_after": 2.0,
    }
    frame = ng.diff("then", of="events", within=REGION)
    assert frame[["event_id", "change", "reward_before", "reward_after"]].values.tolist() == [
        [event, "changed", 1.0, 2.0]
    ]
    # One end is outside.
    assert ng.diff("then", of="connections", within=REGION).empty
    # The token that was changed is.
    assert ng.diff("then", within=REGION).empty
    assert ng.diff("then").change.tolist() == ["changed"]


def test_what_was_undone_is_no_difference(ng, changed):
    *_, edge, event = changed
    ng.graph.update(edge, weight=1.0)
    ng.experience.update_event(event, reward=1.0)
    ng.tokens.update(ng.diff("then").token_id, weight=1.0)
    for rows in ("tokens", "connections", "events"):
        frame = ng.diff("then", of=rows)
        assert frame.empty
        same(frame, ng.diff("then", "then", of=rows))


def test_a_difference_says_its_moments(ng, changed):
    attrs = ng.diff("then").attrs["ngdata"]
    assert (attrs["before"]["label"], attrs["after"]) == ("then", None)
    ng.pin("now")
    assert ng.diff("then", "now").attrs["ngdata"]["after"]["label"] == "now"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"of": "snapshots"}, "of must be 'tokens', 'connections' or 'events'"),
        ({"of": None}, "of must be"),
        ({"within": 3}, "within must be"),
        ({"within": (REGION, 9)}, "level"),
    ],
)
def test_arguments_that_are_refused(ng, changed, options, message):
    with pytest.raises(ngdata.errors.InvalidQueryError, match=message):
        ng.diff("then", **options)
