"""What a camera sees: compared with projected points, and convex."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngdata._client.view.camera import FIELD_OF_VIEW, Camera
from ngdata._client.view.reference import Reference

LOW, HIGH = np.zeros(3), np.array([10.0, 20.0, 5.0])

coordinates = st.floats(-60, 60, allow_nan=False)
places = st.tuples(coordinates, coordinates, coordinates).map(np.array)


def projected(camera, points):
    """Return where points are on a picture from -1 to 1, vertically, and how far they are."""
    forward = (camera.target - camera.position) / np.linalg.norm(camera.target - camera.position)
    right = np.cross(forward, camera.up)
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    offsets = points - camera.position
    depth = offsets @ forward
    slope = math.tan(math.radians(FIELD_OF_VIEW / 2))
    with np.errstate(all="ignore"):
        return offsets @ right / depth / slope, offsets @ up / depth / slope, depth


@given(places, places)
def test_all_that_is_on_the_picture_is_in_sight(position, target):
    camera = Camera.of([*position, *target, 0, 0, 1])
    if camera is None or camera.distance < 1e-3:
        return
    points = np.random.default_rng(0).random((500, 3)) * (HIGH - LOW) + LOW
    x, y, depth = projected(camera, points)
    distance = np.linalg.norm(target - position)
    on_picture = (abs(y) <= 1) & (abs(x) <= 2.2) & (depth > 0) & (depth <= 2 * distance)
    clear = (
        (abs(abs(y) - 1) > 1e-6) & (abs(abs(x) - 2.2) > 1e-6) & (abs(depth - 2 * distance) > 1e-6)
    )
    sight = camera.sight(LOW, HIGH, margin=1.0)
    if sight is None:
        assert not on_picture[clear].any()
        return
    np.testing.assert_array_equal(sight.contains(points)[clear], on_picture[clear])
    wider = camera.sight(LOW, HIGH)
    assert wider.covers(sight)
    assert ((sight.low >= LOW) & (sight.high <= HIGH)).all()


@given(places, places)
def test_the_region_of_what_is_in_sight_holds_it_in_true_coordinates(position, target):
    camera = Camera.of([*position, *target, 0, 0, 1])
    is_near = camera is None or camera.distance < 1e-3
    sight = None if is_near else camera.sight(LOW, HIGH)
    if sight is None:
        return
    reference = Reference(np.array([1e6, -2e6, 0.0]), 0.01)
    points = np.random.default_rng(0).random((500, 3)) * (HIGH - LOW) + LOW
    inside = sight.region(reference).contains(reference.restore(points))
    # The same but for points on the border, to the digits that are left far from the origin.
    borders = np.abs(points @ sight.normals.T - sight.offsets).min(axis=1)
    ends = np.minimum(np.abs(points - sight.low), np.abs(points - sight.high)).min(axis=1)
    clear = np.minimum(borders, ends) > 1e-4
    np.testing.assert_array_equal(inside[clear], sight.contains(points)[clear])


def test_a_camera_around_a_box_sees_all_of_it():
    for high in (HIGH, np.array([1.0, 1e-3, 1e-3]), np.array([1e-3, 1e-3, 50.0])):
        camera = Camera.around(LOW, high)
        corners = np.array(list(itertools.product(*zip(LOW, high, strict=True))))
        x, y, depth = projected(camera, corners)
        assert (depth > 0).all()
        assert np.abs([x, y]).max() < 1
        assert camera.sight(LOW, high, margin=1.0).is_whole
        assert Camera.of(camera.numbers).numbers == camera.numbers


@pytest.mark.parametrize(
    "numbers",
    [
        [],
        [1] * 9,
        [0, 0, 1, 0, 0, 0, 0, 0, 1],
        [np.nan] * 9,
        ["x"] * 9,
        [0, 0, 0, 1, 1, 1, 0, 0, np.inf],
    ],
)
def test_numbers_that_are_no_camera(numbers):
    assert Camera.of(numbers) is None


@given(st.lists(st.floats(-1e37, 1e37), min_size=3, max_size=3), st.floats(0, 1e30))
def test_references_keep_what_float32_needs(corner, side):
    low = np.array(corner)
    high = low + side
    reference = Reference.of(low, high)
    scene = reference.apply(np.array([low, high]))
    length = float((high - low).max())
    assert np.isfinite(scene.astype(np.float32)).all()
    np.testing.assert_allclose(
        reference.restore(scene),
        [low, high],
        rtol=1e-12,
        atol=1e-12 * float(np.abs([low, high]).max()),
    )
    if length > 1e-9 * np.abs([low, high]).max() and length > 1e-290:
        # In float32, a ten-thousandth of the side is still seen.
        error = np.abs(scene.astype(np.float32) - scene).max()
        assert error <= 1e-4 * np.abs(scene[1] - scene[0]).max()


def test_axes_say_what_their_numbers_are():
    plain = Reference.of(np.zeros(3), np.full(3, 10.0))
    assert [plain.axis_title(0, "µm"), plain.axis_title(2, None)] == ["x (µm)", "z"]
    small = Reference(np.array([0.0, -3.0, 0.0]), 1e-9)
    assert small.axis_title(0, "m") == "x / 1e-09 (m)"
    assert small.axis_title(1, "m") == "(y + 3) / 1e-09 (m)"
