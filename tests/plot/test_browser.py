"""Each picture in a real browser: all of it is in sight, and nothing lies on anything else."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ngdata import Box, HalfSpace, Sphere, plot
from scripts.browser import browser

# About that of a cell in a notebook that shares its window.
WIDTH = 720
XYZ = ["x", "y", "z"]


@pytest.fixture(scope="module")
def chromium():
    with browser(WIDTH) as opened:
        yield opened


# Where the corners of the axes and all points come to lie, from -1 to 1, by the matrices that
# plotly draws with.
PROJECTED = """
() => {
    const place = document.getElementById("figure");
    const scene = place._fullLayout.scene._scene;
    const {view, projection, model} = scene.glplot.cameraParams;
    const times = (m, v) => [0, 1, 2, 3].map(r => [0, 1, 2, 3].reduce((s, c) => s + m[4 * c + r] * v[c], 0));
    const at = point => {
        const scaled = point.map((value, axis) => value * scene.dataScale[axis]);
        const [x, y, , w] = times(projection, times(view, times(model, [...scaled, 1])));
        return [x / w, y / w];
    };
    const axes = ["xaxis", "yaxis", "zaxis"].map(name => scene.fullSceneLayout[name].range);
    const corners = [0, 1, 2, 3, 4, 5, 6, 7].map(n => at(axes.map((ends, axis) => ends[(n >> axis) & 1])));
    const points = place._fullData.flatMap(t => Array.from(t.x, (x, n) => at([x, t.y[n], t.z[n]])));
    return [...corners, ...points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y))];
}
"""

# The boxes of all texts, of the legend and of the bars: left, top, right, bottom.
BOXES = """
() => {
    const box = element => {
        const {left, top, right, bottom} = element.getBoundingClientRect();
        return [left, top, right, bottom];
    };
    const all = selector => Array.from(document.querySelectorAll("#figure " + selector), box);
    return {
        texts: all("svg.main-svg text").filter(([l, t, r, b]) => r > l && b > t),
        legend: all("g.legend > rect.bg"),
        bar: all("g.colorbar"),
        title: all("g.g-gtitle"),
    };
}
"""


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def overlap(one, other):
    return (
        min(one[2], other[2]) - max(one[0], other[0]) > 1
        and min(one[3], other[3]) - max(one[1], other[1]) > 1
    )


def check(chromium, figure, is_spatial=True):
    """Draw a figure, and check that all of it is in sight; return its pixels."""
    image = pixels(chromium.draw(figure))
    assert chromium.errors == []
    assert image.shape[:2] == (figure.layout.height, WIDTH)
    boxes = chromium.page.evaluate(BOXES)
    for left, top, right, bottom in boxes["texts"]:
        # A pixel of a letter's box may be beyond, but no letter.
        assert left >= -1
        assert top >= -1
        assert right <= WIDTH + 1
        assert bottom <= image.shape[0] + 1
    for one, other in (("legend", "bar"), ("title", "legend"), ("title", "bar")):
        assert not any(overlap(a, b) for a in boxes[one] for b in boxes[other]), (one, other)
    if is_spatial:
        places = np.abs(chromium.page.evaluate(PROJECTED))
        assert len(places) > 8
        assert places.max() < 0.97
    # Nothing is cut at the edges of the figure.
    edges = (image[-3:], image[:, :3], image[:, -3:])
    assert all((edge > 250).all() for edge in edges)
    return image


def share_of(image, color):
    """Return which share of the pixels has a colour, to a few steps."""
    wanted = [int(color[n : n + 2], 16) for n in (1, 3, 5)]
    return (np.abs(image - wanted).max(axis=2) < 40).mean()


def test_the_whole_worm_is_seen(chromium, worm):
    figure = plot.points(worm, color="token_type", regions={"head": Sphere((0, -300, 40), 40)})
    image = check(chromium, figure)
    for trace in figure.data[:2]:
        assert share_of(image, trace.marker.color) > 0.001
    # From head to tail: most of the width that the legend leaves.
    is_blue = np.abs(image - [0x3B, 0x82, 0xD6]).max(axis=2) < 40
    columns = np.flatnonzero(is_blue.any(axis=0)[:580])
    assert np.ptp(columns) > 300


def test_many_points_with_a_bar_and_a_legend(chromium):
    points = pd.DataFrame(np.random.default_rng(0).normal(size=(300_000, 3)), columns=XYZ)
    value = points.x.where(points.index % 9 > 0)
    figure = plot.points(points.assign(value=value), color="value", sample=5000)
    assert figure.layout.title.text == "5,000 of 300,000 points"
    check(chromium, figure)


@pytest.mark.parametrize("offset", [0, 1e9])
def test_a_graph(chromium, circuit, offset):
    tokens = circuit.tokens.assign(x=circuit.tokens.x + offset)
    figure = plot.graph(tokens, circuit.connections, color="diameter")
    image = check(chromium, figure)
    for trace in figure.data:
        if trace.mode == "lines":
            assert share_of(image, trace.line.color) > 0.0001


def test_a_dark_page_shows_through(chromium, circuit):
    figure = plot.graph(circuit, color="neuron", hover="cell_type", line_color="connection_type")
    image = pixels(chromium.draw(figure, "#111111"))
    assert (image[:3] < 60).all()
    for trace in figure.data:
        color = trace.line.color if trace.mode == "lines" else trace.marker.color
        assert share_of(image, color) > 0.0001


def test_a_density(chromium, worm):
    cells = worm[XYZ].apply(lambda axis: (axis // 25) * 25).value_counts().reset_index()
    check(chromium, plot.density(cells))


def test_a_path(chromium, trajectory):
    figure = plot.path(trajectory)
    image = check(chromium, figure)
    for trace in figure.data[1:]:
        assert share_of(image, trace.marker.color) > 0.00005


def test_rewards(chromium, trajectory):
    second = "00000000-0000-4000-8000-000000000002"
    other = trajectory.assign(trajectory_id=second, reward=-trajectory.reward)
    figure = plot.rewards(pd.concat([trajectory, other]))
    image = check(chromium, figure, is_spatial=False)
    assert share_of(image, "#3b82d6") > 0.001


def test_outlines(chromium):
    shapes = {
        "a name that is much too long for a legend beside a picture": Sphere((0, 0, 0), 2),
        "cut": HalfSpace((1, 1, 1), 1) & Box((-2, -2, -2), (2, 2, 2)),
    }
    check(chromium, plot.outline(shapes))


def test_an_empty_figure_says_so(chromium, worm):
    chromium.draw(plot.points(worm.head(0)))
    assert "there is nothing to draw" in chromium.page.inner_text("#figure")
