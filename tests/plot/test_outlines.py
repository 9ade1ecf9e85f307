"""Regions as lines: each point of a line is on the surface that it stands for."""

import itertools

import numpy as np
import pandas as pd
import pytest

import ngdata
from ngdata import EVERYWHERE, NOWHERE, Box, HalfSpace, Hull, Mesh, OrientedBox, Sphere, plot
from tests.plot.conftest import all_points, as_set, points_of, traces

TURNED = OrientedBox((3, 0, 0), [(0.6, 0.8, 0), (-0.8, 0.6, 0), (0, 0, 1)], (1, 2, 3))
CORNERS = np.array(list(np.ndindex(2, 2, 2)), float)
CUBE = Hull(CORNERS)
OCTAHEDRON = Mesh(
    np.concatenate([np.eye(3), -np.eye(3)]),
    [(a, b, c) for a in (0, 3) for b in (1, 4) for c in (2, 5)],
)


def on_lines(figure, steps=7):
    """Return points along all lines."""
    points = []
    for trace in traces(figure, mode="lines"):
        ends = points_of(trace)
        for a, b in itertools.pairwise(ends):
            if np.isfinite([a, b]).all():
                points += [a + share * (b - a) for share in np.linspace(0, 1, steps)]
    return np.array(points)


def is_on_surface(region, points, width):
    """Return whether some but not all points around each one are inside."""
    around = points[:, None, :] + width * np.array(
        [(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)]
    )
    inside = region.contains(around)
    return inside.any(axis=1) & ~inside.all(axis=1)


@pytest.mark.parametrize(
    "region",
    [Box((0, 1, 2), (3, 4, 5)), Sphere((1, 2, 3), 4), TURNED, CUBE, OCTAHEDRON],
    ids=lambda r: type(r).__name__,
)
def test_lines_lie_on_the_surface(region):
    figure = plot.outline(region)
    points = on_lines(figure)
    # The sides of a circle's polygon are 0.2% of its radius below it.
    assert is_on_surface(region, points, 0.02).all()
    low, high = points.min(axis=0), points.max(axis=0)
    np.testing.assert_allclose(
        [low, high], [region.bounds.min_coords, region.bounds.max_coords], atol=0.02
    )


def test_flat_faces_have_no_inner_edges():
    (trace,) = traces(plot.outline(CUBE))
    assert np.isnan(points_of(trace)).any(axis=1).sum() == 11
    assert as_set(np.unique(points_of(trace)[~np.isnan(trace["x"])], axis=0)) == as_set(CORNERS)
    (trace,) = traces(plot.outline(OCTAHEDRON))
    assert np.isnan(trace["x"]).sum() == 11


def test_a_half_space_is_drawn_inside_the_data():
    grid = pd.DataFrame(CORNERS * 10, columns=list("xyz"))
    region = HalfSpace((1, 1, 0), 8)
    figure = plot.points(grid, regions=region)
    points = on_lines(figure)
    assert region.contains(points - 1e-9).all()
    assert is_on_surface(region, points, 0.1).any()
    assert (points >= -0.51).all()
    assert (points <= 10.51).all()
    assert len(all_points(figure)) == 8


@pytest.mark.parametrize(
    "region",
    [
        HalfSpace((0, 0, 2), 10),
        HalfSpace((1, -3, 0.5), -1e6),
        Box((0, -np.inf, -np.inf), (1, np.inf, np.inf)),
        EVERYWHERE,
        Sphere((0, 0, 0), np.inf),
        ~Sphere((0, 0, 0), 2),
        Sphere((0, 0, 0), 0),
        Box((1, 1, 1), (1, 1, 1)),
        Box((0, 0, 0), (1e300, 1e300, 1e300)),
        Sphere((1e30, 0, 0), 1e29),
    ],
    ids=str,
)
def test_any_region_alone_has_lines(region):
    figure = plot.outline(region)
    assert len(on_lines(figure))


def test_what_a_region_excludes_is_dotted():
    region = Sphere((0, 0, 0), 2) - Box((-1, -1, -1), (1, 1, 1))
    ball, box = traces(plot.outline({"shell": region}))
    assert (ball["line"]["dash"], box["line"]["dash"]) == ("solid", "dot")
    assert ball["legendgroup"] == box["legendgroup"]
    assert (ball["showlegend"], box["showlegend"]) == (True, False)
    assert as_set(np.unique(points_of(box)[~np.isnan(box["x"])], axis=0)) == as_set(CORNERS * 2 - 1)


def test_regions_have_names_and_colours():
    ball = Sphere((0, 0, 0), 1)
    figure = plot.outline([ball, ball.moved((3, 0, 0)), CUBE | ball, EVERYWHERE])
    assert [t["name"] for t in traces(figure)] == ["Sphere", "Sphere 2", "Union", "everywhere"]
    assert len({t["line"]["color"] for t in traces(figure)}) == 4
    assert figure.layout.title.text == "4 regions"


def test_nowhere_is_empty():
    figure = plot.outline(NOWHERE)
    assert "nothing to draw; nowhere has no surface in sight" in figure.layout.annotations[0].text


def test_parts_on_other_levels_are_left_out_and_counted(worm):
    region = Sphere((0, 0, 0), 50) & Box((0, 0, 0), (1, 1, 1)).on("motor")
    figure = plot.points(worm.head(100), regions={"both": region})
    (drawn,) = traces(figure, mode="lines")
    assert np.nanmax(np.abs(points_of(drawn))) == 50
    note = "1 of 2 shapes of both, on other levels, is not drawn"
    assert figure.layout.title.subtitle.text == note
    assert len(traces(plot.outline(region))) == 1


def test_a_mesh_of_many_faces_is_a_surface():
    n = 40
    theta, phi = np.meshgrid(
        np.linspace(0, np.pi, n)[1:-1], np.arange(2 * n) * np.pi / n, indexing="ij"
    )
    points = np.stack(
        [np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1
    )
    points *= 1 + 0.1 * np.sin(5 * phi)[..., None]
    rows, columns = theta.shape
    at = np.arange(rows * columns).reshape(rows, columns)
    faces = []
    for r in range(rows - 1):
        for c in range(columns):
            a, b, d, e = (
                at[r, c],
                at[r + 1, c],
                at[r, (c + 1) % columns],
                at[r + 1, (c + 1) % columns],
            )
            faces += [(a, b, d), (b, e, d)]
    top, bottom = rows * columns, rows * columns + 1
    faces += [(top, at[0, c], at[0, (c + 1) % columns]) for c in range(columns)]
    faces += [(bottom, at[-1, (c + 1) % columns], at[-1, c]) for c in range(columns)]
    mesh = Mesh(np.concatenate([points.reshape(-1, 3), [(0, 0, 1), (0, 0, -1)]]), faces)
    (surface,) = traces(plot.outline({"blob": mesh}), type="mesh3d")
    np.testing.assert_array_equal(points_of(surface), mesh.vertices)
    np.testing.assert_array_equal(np.stack([surface[i] for i in "ijk"], axis=1), mesh.faces)
    assert surface["showlegend"]


def test_points_takes_regions_alone():
    region = Sphere((0, 0, 0), 1)
    assert plot.points(region).to_json() == plot.outline(region).to_json()
    assert plot.points(None, regions=[region]).to_json() == plot.outline([region]).to_json()
    assert isinstance(region, ngdata.Region)
