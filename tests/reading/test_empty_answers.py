"""Warnings of empty answers: what they say, where they point, and what they cost."""

from __future__ import annotations

import asyncio
import inspect
import re
import warnings

import numpy as np
import pandas as pd
import pytest

import ngdata
from ngdata._reading import reader as readers
from ngdata.errors import EmptyResultWarning
from tests.conftest import run

BOX = ((0, 0, 0), (3, 3, 3))
FAR = ((50, 50, 50), (60, 60, 60))
MOMENT = 1_700_000_000_000
EXTENT = r"the region lies outside the extent of level 'physical', which is x 0 to 9, y 0 to 9, z 0 to 9 nm"
TYPE = "no token of level 'physical' has token_type 'nuron'; did you mean 'neuron'?"
SPAN = re.escape(
    "all events, which are from 2023-11-14T22:13:20+00:00 to 2023-11-14T22:13:21+00:00"
)
EDGE = "no connection has connection_type 'chemcal'; did you mean 'chemical'?"
EVENT = "no event has event_type 'stp', 'x'; did you mean 'step'?"

WARNED = {
    "type": (lambda ng: ng.tokens.find_in_region(*BOX, token_type="nuron"), [TYPE]),
    "types": (
        lambda ng: ng.tokens.find_in_region(*FAR, token_type=["neuron", "q"]),
        ["no token of level 'physical' has token_type 'q'; there is 'neuron'", EXTENT],
    ),
    "box": (lambda ng: ng.tokens.find_in_region((9.1, 0, 0), (10, 9, 9)), [EXTENT]),
    "sphere": (lambda ng: ng.tokens.find_within((12, 9, 9), 2.9), [EXTENT]),
    "nearest": (lambda ng: ng.tokens.find_nearest((0, 0, -2), max_distance=1), [EXTENT]),
    "density": (lambda ng: ng.tokens.density(*FAR, 2), [EXTENT]),
    "groups": (lambda ng: ng.tokens.aggregate("token_type", token_type="nuron"), [TYPE]),
    "groups in a region": (lambda ng: ng.tokens.aggregate("token_type", within=FAR), [EXTENT]),
    "sample": (lambda ng: ng.tokens.sample(3, within=FAR), [EXTENT]),
    "level": (
        lambda ng: ng.tokens.find_nearest((0, 0, 0), level="motor"),
        ["no token has level 'motor'; there are tokens on physical"],
    ),
    "metadata": (
        lambda ng: ng.tokens.find_within((0, 0, 0), 9, where={"kind": "x"}),
        ['no token has metadata that contain {"kind": "x"}'],
    ),
    "find": (
        lambda ng: ng.tokens.find(token_type="nuron", where={"kind": "a"}),
        ["no token has token_type 'nuron'; did you mean 'neuron'?"],
    ),
    "connections": (lambda ng: ng.graph.connections(connection_type="chemcal"), [EDGE]),
    "connections in a region": (lambda ng: ng.graph.connections(within=FAR), [EXTENT]),
    "neighbors": (
        lambda ng: ng.graph.get_neighbors(ng.ids[0], connection_type=iter(["chemcal"])),
        [EDGE],
    ),
    "events": (lambda ng: ng.experience.get_events(event_type=["stp", "x"]), [EVENT]),
    "window": (lambda ng: ng.experience.get_events(0, 1), [f"the window lies before {SPAN}"]),
    "around": (
        lambda ng: ng.experience.events_around(MOMENT + 9000, 5),
        [f"the window lies after {SPAN}"],
    ),
    "trajectories": (
        lambda ng: ng.experience.list_trajectories(event_type=["stp", "x"]),
        [EVENT],
    ),
    "no trajectories": (
        lambda ng: ng.experience.list_trajectories(),
        ["the store holds no trajectories"],
    ),
    "rewards": (
        lambda ng: ng.experience.resample_rewards(1, MOMENT + 5000),
        [f"the window lies after {SPAN}"],
    ),
    "counts": (
        lambda ng: ng.experience.count_events(1, start=MOMENT + 5000),
        [f"the window lies after {SPAN}"],
    ),
    "activity": (
        lambda ng: ng.experience.activity_in_region(*BOX, token_type="nuron"),
        [TYPE],
    ),
}
SILENT = {
    "a gap": lambda ng: ng.tokens.find_within((4.5, 4.5, 4.5), 0.1),
    "the corner": lambda ng: ng.tokens.find_within((12, 9, 8.5), 3.01),
    "a filter": lambda ng: ng.tokens.find_in_region(*BOX, min_weight=5.0),
    "one group": lambda ng: ng.tokens.aggregate(None, within=FAR),
    "no sample wanted": lambda ng: ng.tokens.sample(0, within=FAR),
    "no rows wanted": lambda ng: ng.tokens.find_in_region(*FAR, limit=0),
    "a lone token": lambda ng: ng.graph.get_neighbors(ng.ids[5]),
    "a quiet time": lambda ng: ng.experience.get_events(MOMENT + 1, MOMENT + 2),
    "a count": lambda ng: ng.tokens.count_in_region(*FAR),
}


@pytest.fixture(scope="module")
def store(new_migrated_database):
    with new_migrated_database() as url, ngdata.connect(url, redis_url=None) as ng:
        steps = np.arange(10.0)
        points = pd.DataFrame({"x": steps, "y": steps, "z": steps, "token_type": "neuron"})
        points["metadata"] = [{"kind": "a"}] * 10
        ng.ids = ng.tokens.bulk_create(points, progress=False)
        ng.set_level("physical", unit="nm")
        ng.graph.create_connection(*ng.ids[:2], connection_type="chemical")
        for number in range(2):
            ng.experience.create_event("step", MOMENT + 1000 * number, token_id=ng.ids[number])
        yield url, ng


@pytest.fixture(autouse=True)
def seen():
    """The warnings of the test."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield seen


@pytest.fixture(autouse=True)
def _quick_server(monkeypatch):
    """Else a slow machine would not look again."""
    monkeypatch.setattr(readers, "_QUICK_LOOK", 60)
    monkeypatch.setattr(readers, "_LOOK_TIMEOUT", 60)


def check(seen, expected):
    assert len(seen) == len(expected), [str(each.message) for each in seen]
    for each, text in zip(seen, expected, strict=True):
        pattern = text if "2023" in text else re.escape(text)
        assert re.fullmatch(f"the answer is empty: {pattern}", str(each.message))
        assert (each.category, each.filename) == (EmptyResultWarning, __file__)


@pytest.mark.parametrize("name", WARNED)
def test_why_an_answer_is_empty(store, seen, name):
    _, ng = store
    read, expected = WARNED[name]
    for mode in ("off", "strict", "strict"):
        with ng_mode(ng, mode):
            assert read(ng).empty
        check(seen, expected)
        assert {each.lineno for each in seen} <= set(lines_of(read))
        seen.clear()


def ng_mode(ng, mode):
    patch = pytest.MonkeyPatch()
    patch.setattr(ng._wrapped._reader, "_mode", mode)

    class Patched:
        def __enter__(self):
            return ng

        def __exit__(self, *_):
            patch.undo()

    return Patched()


def lines_of(function):
    lines, first = inspect.getsourcelines(function)
    return range(first, first + len(lines))


@pytest.mark.parametrize("name", SILENT)
def test_what_is_not_warned_of(store, seen, name):
    _, ng = store
    SILENT[name](ng)
    assert not seen


def test_an_empty_store_says_so_once(ng, seen):
    for read, noun in (
        (lambda: ng.tokens.find_in_region(*BOX, token_type="a"), "tokens"),
        (lambda: ng.tokens.find(where={"kind": "a"}), "tokens"),
        (lambda: ng.graph.connections(connection_type="a", within=BOX), "connections"),
        (lambda: ng.experience.get_recent_events(), "events"),
    ):
        read()
        check(seen, [f"the store holds no {noun}"])
        seen.clear()


def test_the_callers_line_in_async_code_and_of_an_iteration(store, seen):
    url, ng = store

    async def read():
        async with await ngdata.connect_async(url) as ang:
            await ang.tokens.find_in_region(*BOX, token_type="nuron")
            return [each async for each in ang.tokens.iter_region(*BOX, token_type="nuron")]

    assert run(read()) == []
    check(seen, [TYPE, TYPE])
    assert all(each.lineno in lines_of(read) for each in seen)
    seen.clear()
    assert not list(ng.tokens.iter_region(*BOX, token_type="nuron"))
    check(seen, [TYPE])


def test_a_full_answer_and_a_known_empty_one_are_not_looked_at(store, monkeypatch):
    _, ng = store
    looks, causes = [], readers.causes

    def counted(*arguments):
        looks.append(arguments)
        return causes(*arguments)

    monkeypatch.setattr(readers, "causes", counted)
    assert len(ng.tokens.find_in_region(*BOX)) == 4
    assert not looks
    for _ in range(3):
        ng.tokens.find_in_region(*FAR, token_type="another")
    assert len(looks) == 1


@pytest.mark.parametrize("error", [RuntimeError("no"), None])
def test_a_look_that_fails_or_hangs_fails_no_read(store, seen, monkeypatch, error):
    _, ng = store

    async def causes(*_):
        if error is not None:
            raise error
        await asyncio.Event().wait()

    monkeypatch.setattr(readers, "causes", causes)
    monkeypatch.setattr(readers, "_LOOK_TIMEOUT", 0.01)
    assert ng.tokens.find_in_region(*FAR, cache="off").empty
    assert not seen


def test_a_slow_look_is_not_repeated_at_once(store, seen, monkeypatch):
    _, ng = store
    monkeypatch.setattr(readers, "_QUICK_LOOK", 0)
    monkeypatch.setattr(readers, "_PAUSE_PER_LOOK", 1e6)
    try:
        for _ in range(3):
            ng.tokens.find_in_region(*FAR, cache="off")
    finally:
        ng._wrapped._reader._next_look = 0.0
    check(seen, [EXTENT])


def test_a_warning_may_be_an_error(store):
    _, ng = store
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(EmptyResultWarning, match="outside"):
            ng.tokens.find_in_region(*FAR)
    assert len(ng.tokens.find_in_region(*BOX)) == 4
