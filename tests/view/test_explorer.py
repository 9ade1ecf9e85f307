"""Samples of what is in sight: which are read, when, and what they hold; without a browser."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

import ngdata
from ngdata import Box, Sphere
from ngdata._client.view import explorer as exploring
from ngdata._client.view.camera import Camera
from ngdata._query import summaries
from ngdata._query.filters import TokenFilter
from ngdata.errors import InvalidQueryError, NGDataError
from tests.conftest import run
from tests.view.conftest import COUNT, ORIGIN, until

BUDGET = 500


def camera_at(explorer, zoom: float, towards=(0.0, 0.0, 0.0)) -> Camera:
    """Return a camera so many times nearer to a point beside the middle."""
    middle = (explorer.low + explorer.high) / 2 + towards
    seen = explorer.camera
    return Camera(middle + (seen.position - seen.target) * zoom, middle, seen.up)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(exploring, "_DEBOUNCE", 0.01)
    monkeypatch.setattr(exploring, "FIRST", 200)


def exploring_by(url, work, **options):
    """Run async work on the explorer of a view, and return its result."""

    async def explore():
        async with await ngdata.connect_async(url) as ang:
            view = await ang.view(points=BUDGET, **options)
            try:
                return await work(view._explorer, ang)
            finally:
                view.close()

    return run(explore())


def true_points(explorer, layer):
    return explorer.reference.restore(layer.points)


def as_set(points):
    return {tuple(point) for point in np.round(np.asarray(points), 6)}


def test_the_first_sample_is_there_at_once_and_the_rest_is_counted(cube_url, cube, quick):
    async def work(explorer, ang):
        assert len(explorer.whole.points) == 200
        await until(lambda: explorer.total is not None)
        assert explorer.shown == (200, COUNT)
        assert explorer.unit == "µm"
        assert as_set(true_points(explorer, explorer.whole)) <= as_set(cube[["x", "y", "z"]])

    exploring_by(cube_url, work)


def test_a_nearer_camera_reads_a_finer_sample_that_holds_the_coarse_one(cube_url, quick):
    async def work(explorer, ang):
        await until(lambda: explorer.total is not None)
        explorer.look(explorer.camera.numbers)
        await until(lambda: explorer.near is not None)
        assert explorer.near.sight.is_whole
        assert as_set(explorer.whole.points) <= as_set(explorer.near.points)
        assert explorer.shown == (BUDGET, COUNT)
        for zoom in (0.4, 0.05):
            before = explorer.near
            explorer.look(camera_at(explorer, zoom).numbers)
            await until(lambda before=before: explorer.near is not before)
            near = explorer.near
            coarse = explorer.whole.points[near.sight.contains(explorer.whole.points)]
            assert as_set(coarse) <= as_set(near.points)
            assert near.sight.contains(near.points).all()
        region = near.sight.region(explorer.reference)
        there = await ang.tokens.find_in_region(region)
        assert near.is_complete == (len(there) < BUDGET)
        assert as_set(true_points(explorer, near)) <= as_set(there[["x", "y", "z"]])
        assert near.is_complete
        assert len(there) == len(near.points)
        assert explorer.shown.drawn == len(as_set(near.points) | as_set(explorer.whole.points))

    exploring_by(cube_url, work)


def test_small_moves_need_no_read_and_complete_parts_none_at_all(cube_url, quick):
    async def work(explorer, ang):
        explorer.look(camera_at(explorer, 0.05).numbers)
        await until(lambda: explorer.near is not None)
        small = camera_at(explorer, 0.05, (0.1, 0.1, 0.1)).sight(explorer.low, explorer.high, 1.0)
        nearer = camera_at(explorer, 0.02).sight(explorer.low, explorer.high, 1.0)
        elsewhere = camera_at(explorer, 0.05, (40, 0, 0)).sight(explorer.low, explorer.high, 1.0)
        assert explorer.near.is_complete
        assert not explorer.needs(small)
        assert not explorer.needs(nearer)
        assert explorer.needs(elsewhere)

    exploring_by(cube_url, work)


def test_a_read_of_what_is_not_looked_at_any_more_is_cancelled(cube_url, quick, monkeypatch):
    started, cancelled = [], []

    async def work(explorer, ang):
        await until(lambda: explorer.total is not None)
        points = explorer.source.__class__.points

        async def slow(source, n, sight, expected=None):
            started.append(sight)
            try:
                if len(started) == 1:
                    await asyncio.sleep(3600)
                return await points(source, n, sight, expected)
            except asyncio.CancelledError:
                cancelled.append(sight)
                raise

        monkeypatch.setattr(explorer.source.__class__, "points", slow)
        explorer.look(camera_at(explorer, 0.2).numbers)
        await until(lambda: started)
        # The same once more changes nothing; another place does.
        explorer.look(camera_at(explorer, 0.2, (0.1, 0, 0)).numbers)
        await asyncio.sleep(0.05)
        assert not cancelled
        explorer.look(camera_at(explorer, 0.2, (40, 0, 0)).numbers)
        await until(lambda: explorer.near is not None)
        assert cancelled == started[:1]
        assert len(started) == 2

    exploring_by(cube_url, work)


def test_moves_without_a_rest_read_once(cube_url, quick, monkeypatch):
    monkeypatch.setattr(exploring, "_DEBOUNCE", 0.2)
    reads = []

    async def work(explorer, ang):
        await until(lambda: explorer.total is not None)
        points = explorer.source.__class__.points

        async def counted(source, *args):
            reads.append(args)
            return await points(source, *args)

        monkeypatch.setattr(explorer.source.__class__, "points", counted)
        for step in range(10):
            explorer.look(camera_at(explorer, 0.9**step, (step, 0, 0)).numbers)
        await until(lambda: explorer.near is not None)
        assert len(reads) == 1

    exploring_by(cube_url, work)


def test_connections_are_lines_between_true_places(cube_url, cube, quick):
    async def work(explorer, ang):
        await until(lambda: explorer.lines is not None)
        ends = explorer.reference.restore(explorer.lines.ends)
        points = cube[["x", "y", "z"]].to_numpy()
        expected = {tuple(np.round(pair, 6).ravel()) for pair in itertools.pairwise(points)}
        assert {tuple(np.round(line, 6).ravel()) for line in ends} == expected
        explorer.look(camera_at(explorer, 0.2).numbers)
        await until(lambda: explorer.near_lines is not None)
        sight = explorer.near.sight
        both = explorer.near_lines.ends
        assert (sight.contains(both[:, 0]) | sight.contains(both[:, 1])).all()

    exploring_by(cube_url, work, connections="next")


def test_regions_filters_and_levels(cube_url, cube, quick):
    sphere = Sphere(ORIGIN + 50, 30)

    async def work(explorer, ang):
        await until(lambda: explorer.total is not None)
        inside = sphere.contains(cube[["x", "y", "z"]]) & (cube.token_type == "a")
        assert explorer.total == inside.sum()
        explorer.look(camera_at(explorer, 0.5).numbers)
        await until(lambda: explorer.near is not None or explorer.whole.is_complete)
        layer = explorer.near or explorer.whole
        assert sphere.contains(true_points(explorer, layer)).all()

    exploring_by(cube_url, work, region=sphere, token_type="a", color="weight")


def test_a_failed_read_is_part_of_the_picture(cube_url, quick, monkeypatch):
    async def work(explorer, ang):
        changes = []
        explorer.on_change(lambda: changes.append(explorer.problem))

        async def fail(*args):
            raise NGDataError("the disk is on fire")

        await until(lambda: explorer.total is not None)
        monkeypatch.setattr(explorer.source.__class__, "points", fail)
        explorer.look(camera_at(explorer, 0.2).numbers)
        await until(lambda: "the disk is on fire" in changes)
        monkeypatch.undo()
        explorer.look(camera_at(explorer, 0.2).numbers)
        await until(lambda: explorer.near is not None)
        assert explorer.problem is None

    exploring_by(cube_url, work)


def test_an_empty_region_has_a_picture_too(cube_url):
    async def work(explorer, ang):
        assert explorer.shown == (0, 0)
        assert explorer.whole.is_complete
        explorer.look(explorer.camera.numbers)

    with pytest.warns(ngdata.errors.EmptyResultWarning):
        exploring_by(cube_url, work, region=Box((0, 0, 0), (1, 1, 1)))


@pytest.mark.parametrize(
    "options",
    [
        {"points": 0},
        {"points": 10_000_000},
        {"color": "colour"},
        {"color": 5},
        {"level": 9},
        {"connections": 3.5},
        {"region": "everything"},
    ],
)
def test_wrong_arguments_are_refused(client, options):
    with pytest.raises(InvalidQueryError):
        client.view(**options)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.05])
def test_draws_lie_in_larger_ones(client, share):
    def drawn(n, share):
        query = summaries.draw(n, 0, None, TokenFilter(), ["token_id"], share)
        return client._loop.run(client._wrapped._reader.frame(query, "off", None)).token_id.tolist()

    every = drawn(COUNT, 1.0)
    assert len(set(every)) == COUNT
    some = drawn(COUNT, share)
    assert some == every[: len(some)]
    assert abs(len(some) - share * COUNT) < 6 * np.sqrt(COUNT * share * (1 - share)) + 1
    assert drawn(20, share) == every[:20]
