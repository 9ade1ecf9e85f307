"""Regions as values: what they refuse, how they read, what they fold to, and what they hold."""

import copy
import math
import pickle

import numpy as np
import pandas as pd
import pytest

import ngdata
from ngdata import EVERYWHERE, NOWHERE, Box, HalfSpace, Hull, Mesh, OrientedBox, Region, Sphere
from ngdata.errors import InvalidQueryError

UNIT = Box((0, 0, 0), (1, 1, 1))
CORNERS = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
TETRAHEDRON = [(0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2)]
SHAPES = {
    "box": UNIT,
    "sphere": Sphere((0, 0, 0), 1),
    "half-space": HalfSpace((1, 2, 3), 0.5),
    "oriented box": OrientedBox((0, 0, 0), np.eye(3), (1, 2, 3)),
    "hull": Hull(CORNERS),
    "mesh": Mesh(CORNERS, TETRAHEDRON),
}


@pytest.mark.parametrize("region", SHAPES.values(), ids=SHAPES)
def test_a_region_never_changes(region):
    for name in ("level", "center", "anything"):
        with pytest.raises(AttributeError, match=f"never changes.*{name}"):
            setattr(region, name, 1)
        with pytest.raises(AttributeError, match=f"never changes; {name}"):
            delattr(region, name)
    for array in (getattr(region, "points", None), getattr(region, "vertices", None)):
        if array is not None:
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0
            with pytest.raises(ValueError, match="cannot set WRITEABLE"):
                array.flags.writeable = True


@pytest.mark.parametrize("region", [*SHAPES.values(), UNIT | SHAPES["sphere"], ~UNIT, NOWHERE])
def test_a_region_is_neither_true_nor_false(region):
    with pytest.raises(TypeError, match="combine regions by"):
        bool(region)


@pytest.mark.parametrize("stranger", [1.0, None, "Box", ((0, 0, 0), (1, 1, 1))])
def test_strangers_are_no_operands(stranger):
    for operation in ("__or__", "__and__", "__sub__", "__xor__", "__eq__"):
        assert getattr(UNIT, operation)(stranger) is NotImplemented
    with pytest.raises(TypeError):
        UNIT | stranger
    assert stranger != UNIT


def test_what_folds():
    inner, apart = Box((0.5, 0.5, 0.5), (2, 2, 2)), Box((3, 3, 3), (4, 4, 4))
    ball = SHAPES["sphere"]
    assert UNIT & inner == Box((0.5, 0.5, 0.5), (1, 1, 1))
    assert UNIT & apart == NOWHERE == ~EVERYWHERE
    assert ball & EVERYWHERE == ball | NOWHERE == ball
    assert ball | EVERYWHERE == ~NOWHERE == EVERYWHERE
    assert ball & NOWHERE == NOWHERE
    assert ~UNIT | ~inner == ~(UNIT & inner)
    # A level's own condition is that the token is defined there, so nothing is left out.
    assert ball & EVERYWHERE.on("motor") != ball
    assert ball.on("motor") & EVERYWHERE.on("motor") == ball.on(2)
    assert ball.on("motor") & NOWHERE != NOWHERE
    assert (UNIT & inner.on(1)) & apart == NOWHERE & inner.on(1)
    assert Box((-0.0, 0, 0), (1, 1, 1)) == UNIT
    assert hash(Sphere((-0.0, 0, 0), 1)) == hash(ball)
    assert Sphere((0, 0, 0), 1e-9) != Sphere((0, 0, 0), 2e-9)
    assert repr(UNIT - ball.on("motor")) == (
        "Box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)) & ~Sphere((0.0, 0.0, 0.0), 1.0).on('motor')"
    )


def test_levels_bind_once():
    bound = (UNIT | SHAPES["sphere"].on("motor")).on("social")
    assert bound == UNIT.on(5) | SHAPES["sphere"].on(2)
    assert bound.on("abstract") == bound
    assert ~~bound == bound
    with pytest.raises(InvalidQueryError, match="level must be"):
        UNIT.on("nowhere")


def test_boundaries():
    """Shapes are closed; a difference keeps the first one's boundary and loses the second one's."""
    inner = Box((0, 0, 0), (0.5, 0.5, 0.5))
    assert (1, 1, 1) in UNIT
    assert (1, 1, math.nextafter(1, 2)) not in UNIT
    assert (0.5, 0.5, 0.5) not in UNIT - inner
    assert (1, 0, 0) in UNIT - inner
    assert (2, 2, 2) in Sphere((2, 2, 2), 0)
    for bad in ((math.nan, 0, 0), (math.inf, 0, 0)):
        assert bad not in EVERYWHERE
        assert bad not in ~UNIT
        assert bad not in ~HalfSpace((1, 0, 0), 0)


def test_points_in_every_form():
    frame = pd.DataFrame({"z": [0.5, 2], "x": [0.5, 0.5], "y": [0.5, 0.5], "weight": [1, 2]})
    assert UNIT.contains(frame).tolist() == [True, False]
    assert UNIT.contains(np.zeros((2, 5, 3))).shape == (2, 5)
    assert UNIT.contains(np.empty((0, 3))).shape == (0,)
    assert UNIT.contains((0.5, 0.5, 0.5)).shape == ()
    masked = np.ma.array([[0.5] * 3, [0.5] * 3], mask=[[False] * 3, [True, False, False]])
    assert UNIT.contains(masked).tolist() == [True, False]
    coords = np.full((2, 8, 3), np.nan)
    coords[0, 0], coords[0, 2], coords[1, 0] = 0.5, 9.0, 0.5
    both = UNIT & ~Sphere((0, 0, 0), 1).on("motor")
    # The second token is undefined on the motor level: in nothing there, and in no complement.
    assert both.contains(coords).tolist() == [True, False]
    assert both.contains(coords, level=3).tolist() == [False, False]
    assert coords[0] in both


@pytest.mark.parametrize(
    ("points", "problem"),
    [
        (np.zeros((2, 2)), r"of shape \(..., 3\), not of shape \(2, 2\)"),
        (5, r"not of shape \(\)"),
        ("abc", "must be an array of real numbers"),
        (np.ones((2, 3)) * 1j, "must be an array of real numbers"),
        ([(10**400, 0, 0)], "must be an array of real numbers"),
        (pd.DataFrame({"x": [1], "y": [2]}), "must have the columns x, y and z"),
    ],
)
def test_points_of_no_form(points, problem):
    with pytest.raises(InvalidQueryError, match=problem):
        UNIT.contains(points)
    with pytest.raises(InvalidQueryError):
        points in UNIT  # noqa: B015


def test_in_takes_one_point():
    with pytest.raises(InvalidQueryError, match=r"use .contains\(points\)"):
        [(0, 0, 0), (1, 1, 1)] in UNIT  # noqa: B015
    with pytest.raises(InvalidQueryError, match="coordinates on all levels"):
        (0, 0, 0) in UNIT.on("motor")  # noqa: B015


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Box((1, 0, 0), (0, 1, 1)), "x runs from 1.0 to 0.0; are the two swapped"),
        (lambda: Box((math.nan, 0, 0), (0, 1, 1)), "must not contain NaN"),
        (lambda: Box((0, 0), (0, 1, 1)), "must be three numbers"),
        (lambda: Sphere((0, 0, 0), -1), "radius must be a number of at least 0, not -1"),
        (lambda: Sphere((0, 0, 0), math.nan), "radius must be a number"),
        (lambda: Sphere((0, 0, math.inf), 1), "center must be finite"),
        (lambda: Sphere((0, 0, 0), "1"), "radius must be a number"),
        (lambda: HalfSpace((0, 0, 0), 1), "normal must be three finite numbers that are not all 0"),
        (lambda: HalfSpace((1, 0, math.inf), 1), "normal must be three finite numbers"),
        (lambda: HalfSpace((1, 0, 0), math.inf), "offset must be a finite number"),
        (
            lambda: OrientedBox((0, 0, 0), np.ones((3, 3)), (1, 1, 1)),
            "unit vectors at right angles",
        ),
        (
            lambda: OrientedBox((0, 0, 0), np.eye(2), (1, 1, 1)),
            "three rows of three finite numbers",
        ),
        (lambda: OrientedBox((0, 0, 0), np.eye(3), (1, -1, 1)), "half_sizes must be finite and at"),
        (lambda: Hull(CORNERS[:3]), "at least four different ones, not 3"),
        (lambda: Hull([*CORNERS[:3], *CORNERS[:3]]), "at least four different ones, not 3"),
        (lambda: Hull([(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)]), "degenerate.*OrientedBox"),
        (lambda: Hull([(0, 0, n) for n in range(9)]), "points are degenerate"),
        (lambda: Hull([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, math.nan, 1)]), "row 3 is"),
        (lambda: Hull(np.zeros((4, 2))), r"an array of shape \(n, 3\)"),
        (lambda: Mesh(CORNERS, TETRAHEDRON[:3]), "4 to 1,000,000 triangles, not 3"),
        (
            lambda: Mesh([*CORNERS, (5, 5, 5)], [*TETRAHEDRON[:3], (0, 3, 4)]),
            "not watertight.*Hull",
        ),
        (lambda: Mesh(CORNERS, [*TETRAHEDRON, (0, 1, 2)]), "more than two, such as that from"),
        (lambda: Mesh(CORNERS, [*TETRAHEDRON[:3], (0, 3, 4)]), "from 0 to 3, but face 3"),
        (lambda: Mesh(CORNERS, np.array(TETRAHEDRON) + 0.5), "must be an integer array"),
        (lambda: Mesh(CORNERS, [(0, 1, 2, 3)] * 4), "split faces of more corners"),
        (lambda: Mesh(CORNERS, [(0, 0, 1)] * 4), "encloses nothing"),
        (lambda: Mesh.load("/nowhere.obj"), "cannot be read as a mesh"),
        (lambda: Region.from_dict({"type": "Boxx"}), "did you mean 'Box'"),
        (lambda: Region.from_dict({"type": "Box"}), "must have the keys min_coords, max_coords"),
        (lambda: Region.from_dict({"type": "union", "of": []}), "a list of at least one region"),
        (lambda: Region.from_dict({"type": []}), "must be one of Box, "),
        (
            lambda: Region.from_dict({"type": "union", "of": [], "x": 1}),
            "must have the keys type and of",
        ),
        (lambda: Hull(np.ones((5, 3)) * 1j), r"an array of shape \(n, 3\)"),
        (lambda: Mesh(CORNERS, np.full((4, 3), 2**63, np.uint64)), "from 0 to 3, but face 0"),
        (lambda: Region.from_dict(5), "must be what Region.to_dict returns"),
        (lambda: UNIT.moved((1, 2)), "by must be three numbers"),
    ],
)
def test_what_is_no_region(make, problem):
    with pytest.raises(InvalidQueryError, match=problem):
        make()


def test_data_deeper_than_the_stack():
    data = UNIT.to_dict()
    for _ in range(5000):
        data = {"type": "complement", "of": data}
    with pytest.raises(InvalidQueryError, match="of at most 100 levels"):
        Region.from_dict(data)


def test_regions_that_are_too_deep_or_too_large():
    """What can be made can also be written, read again and drawn."""
    deep = UNIT
    with pytest.raises(InvalidQueryError, match="50 levels of unions"):
        for number in range(200):
            ball = Sphere((number, 0, 0), 1)
            deep = deep | ball if number % 2 else deep & ball
    assert deep._depth == 50
    assert pickle.loads(pickle.dumps(deep)) == copy.deepcopy(deep) == eval(repr(deep)) == deep
    assert deep._repr_html_().startswith("<div>")
    large = UNIT
    with pytest.raises(InvalidQueryError, match=r"each \^ writes both of its operands twice"):
        for number in range(20):
            large ^= Sphere((number, 0, 0), 1)
    many = NOWHERE
    for number in range(300):
        many |= Sphere((number, 0, 0), 1)
    assert many.contains([(150.5, 0, 0), (150.5, 1, 0)]).tolist() == [True, False]


def test_offsets_next_to_nothing():
    assert (0, 0, 0) not in HalfSpace((1e300, 0, 0), -1e-100)
    assert (0, 0, 0) in HalfSpace((1e300, 0, 0), 1e-100)


def test_a_mesh_is_equal_to_itself_in_any_order():
    shuffled = Mesh(
        CORNERS[::-1], [tuple(3 - v for v in face[1:] + face[:1]) for face in TETRAHEDRON[::-1]]
    )
    assert shuffled == SHAPES["mesh"]
    soup = np.array(CORNERS, float)[np.array(TETRAHEDRON)].reshape(-1, 3)
    assert Mesh(soup, np.arange(12).reshape(4, 3)) == SHAPES["mesh"]


def test_a_hull_holds_its_own_points():
    random = np.random.default_rng(3)
    for scale in (1e-30, 1.0, 1e30):
        points = random.normal(size=(500, 3)) * scale + scale
        assert Hull(points).contains(points).all()


def test_bounds():
    assert (UNIT & Sphere((1, 1, 1), 0.25)).bounds.min_coords == pytest.approx((0.75,) * 3)
    assert (UNIT | Box((5, 5, 5), (6, 7, 8))).bounds == Box((0, 0, 0), (6, 7, 8))
    assert (~UNIT).bounds == EVERYWHERE
    assert (UNIT & Sphere((9, 9, 9), 1)).bounds == NOWHERE
    assert UNIT.on("motor").bounds == UNIT.on("motor")
    assert (UNIT & Sphere((0, 0, 0), 1).on("motor")).bounds == UNIT
    half = HalfSpace((0, 2, 0), 3).bounds
    assert half.max_coords[1] == pytest.approx(1.5)
    assert half.min_coords == (-math.inf,) * 3


def test_the_page_of_a_region():
    html = (UNIT - Sphere((0, 0, 0), 0.5))._repr_html_()
    assert html.count("<svg") == 3
    assert "&amp; ~Sphere" in html
    assert "<svg" not in EVERYWHERE._repr_html_()
    assert (~UNIT)._repr_html_().count("<svg") == 3


def test_the_public_path():
    for name in ngdata.regions.__all__:
        value = getattr(ngdata, name)
        assert getattr(ngdata.regions, name) is value
        if isinstance(value, type):
            assert value.__module__ == "ngdata.regions"
