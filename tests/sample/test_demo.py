"""`ngdata demo`: all it shows is read from the store, it can be run again, and it ends with a picture."""

import contextlib
import io
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import ngdata
from ngdata.datasets import demo, demo_picture, load_celegans
from ngdata.errors import ConfigError
from scripts.browser import chromium

# Under load, a browser without a graphics card is slow.
pytestmark = pytest.mark.timeout(900)

# Milliseconds: only a hang is longer.
PATIENCE = 240_000

WINDOW = {"width": 1000, "height": 700}
TIME = re.compile(r"^    [\d.]+ s$", re.M)


@pytest.fixture(autouse=True)
def directory(monkeypatch, tmp_path):
    """A current directory for the picture, on a machine without a screen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CI", "true")
    return tmp_path


def output() -> str:
    """Run the demo; return what it prints, without the times."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        demo.run()
    return TIME.sub("", stream.getvalue())


def section(text: str, title: str) -> list[list[str]]:
    """Return the rows, as words, of the frame below a title."""
    (body,) = re.findall(rf"^{title}.*\n.*\n((?:.+\n)+)", text, re.MULTILINE)
    return [line.split() for line in body.splitlines()]


@pytest.fixture
def store(monkeypatch, database_url):
    monkeypatch.setenv("NGDATA_DATABASE_URL", database_url)
    with ngdata.connect() as client:
        yield client


def test_it_shows_the_contents_of_the_store(store):
    text = output()
    neurons = load_celegans(store)
    edges = store.graph.connections(neurons.token_id, neurons.token_id)
    counted = edges.connection_type.value_counts()
    for kind, count, _ in section(text, "The nervous system"):
        assert int(count) == counted.pop(kind)
    assert counted.empty

    busiest = (edges.source_id.value_counts() + edges.target_id.value_counts()).idxmax()
    start = neurons[neurons.token_id == busiest].iloc[0]
    nearest = section(text, "tokens.find_nearest")
    assert len(nearest) == 5
    assert nearest[0][1] == start.neuron
    region = section(text, "tokens.find_in_region")
    assert {row[1] for row in region} < set(neurons.neuron)
    assert start.neuron in {row[1] for row in region}
    weights = [float(row[3]) for row in section(text, "graph.get_neighbors")]
    assert weights == sorted(weights, reverse=True)
    assert len(section(text, "experience.get_events")) == len(store.experience.get_events()) > 3


def test_a_second_run_shows_the_same_and_adds_nothing(store):
    first = output()
    events = store.experience.get_events()
    assert output() == first
    assert store.experience.get_events().equals(events)


def test_its_output_follows_the_store(store):
    before = output()
    ids = load_celegans(store).token_id
    store.graph.create_connection(ids[0], ids[1], "chemical", 1000.0)
    after = output()
    assert before != after
    assert "21589" in after
    assert "20589" in before


def test_it_fits_a_screen(store):
    wide = [line for line in output().splitlines() if len(line) > 100]
    # The address of the store, and the path of the picture.
    assert all(line.startswith(("<Client of ", "Open this file ")) for line in wide)


def test_it_says_what_it_does_before_it_does_it_and_how_long_it_took(store):
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        demo.run()
    lines = stream.getvalue().splitlines()
    steps = [n for n, line in enumerate(lines) if line.endswith(" ...")]
    assert [lines[n].split()[0] for n in steps] == ["Connecting", "Loading", "Drawing"]
    assert all(TIME.fullmatch(lines[n + 1]) for n in steps)


def test_a_new_store_hears_no_warning(store, recwarn):
    output()
    assert [str(warning.message) for warning in recwarn] == []


def test_it_ends_with_a_picture_that_needs_nothing_else(store, directory):
    path = directory / "ngdata-demo.html"
    assert output().splitlines()[-1] == f"Open this file in a browser, where the worm turns: {path}"
    with chromium() as started:
        page = started.new_page(viewport=WINDOW)
        page.set_default_timeout(PATIENCE)
        requests, errors = [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_function(f"({IS_DRAWN})()")
        first = page.evaluate(CAMERA)
        page.wait_for_function(f"before => ({CAMERA})() !== before", arg=first)
        drawn = page.evaluate(POINTS)
        page.mouse.click(500, 350)
        page.wait_for_timeout(500)
        touched = page.evaluate(CAMERA)
        page.wait_for_timeout(500)
        assert page.evaluate(CAMERA) == touched
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "blob:", "data:"))] == []
    stored = store.tokens.find_in_region(ngdata.EVERYWHERE, columns=["x", "y", "z"])
    drawn = np.array(sorted(map(tuple, drawn)))
    np.testing.assert_allclose(drawn, np.array(sorted(map(tuple, stored.to_numpy()))), rtol=1e-6)


PLOT = 'document.querySelector(".js-plotly-plot")'
IS_DRAWN = f"() => Boolean({PLOT}?._fullLayout?.scene?._scene?.glplot)"
CAMERA = f"() => JSON.stringify({PLOT}._fullLayout.scene._scene.getCamera())"
POINTS = f"() => {PLOT}._fullData.flatMap(t => Array.from(t.x, (x, n) => [x, t.y[n], t.z[n]]))"


def test_the_whole_worm_is_in_sight_while_it_turns(store, directory):
    output()
    with chromium() as started:
        page = started.new_page(viewport=WINDOW)
        page.set_default_timeout(PATIENCE)
        page.goto((directory / "ngdata-demo.html").as_uri())
        page.wait_for_function(f"({IS_DRAWN})()")
        for angle in range(0, 360, 45):
            places = np.abs(page.evaluate(PROJECTED, angle / 180 * np.pi))
            assert len(places) == 14171
            assert places.max() < 0.97


# Where the points come to lie, from -1 to 1, once the camera went around the long axis by an angle.
PROJECTED = """
async angle => {
    const figure = document.querySelector(".js-plotly-plot");
    dispatchEvent(new Event("pointerdown"));
    await new Promise(resolve => setTimeout(resolve, 100));
    window.start ??= structuredClone(figure._fullLayout.scene.camera);
    const roll = v => ({
        x: v.x * Math.cos(angle) + v.z * Math.sin(angle), y: v.y, z: v.z * Math.cos(angle) - v.x * Math.sin(angle),
    });
    await Plotly.relayout(figure, {"scene.camera": {...start, eye: roll(start.eye), up: roll(start.up)}});
    const frame = () => new Promise(resolve => requestAnimationFrame(resolve));
    await frame(); await frame(); await frame();
    const scene = figure._fullLayout.scene._scene;
    const {view, projection, model} = scene.glplot.cameraParams;
    const times = (m, v) => [0, 1, 2, 3].map(r => [0, 1, 2, 3].reduce((s, c) => s + m[4 * c + r] * v[c], 0));
    return figure._fullData.flatMap(t => Array.from(t.x, (x, n) => {
        const scaled = [x, t.y[n], t.z[n]].map((value, axis) => value * scene.dataScale[axis]);
        const [a, b, , w] = times(projection, times(view, times(model, [...scaled, 1])));
        return [a / w, b / w];
    }));
}
"""


def program(directory: Path, *arguments: str, **environment: str):
    return subprocess.run(
        [Path(sys.executable).with_name("ngdata"), "demo", *arguments],
        env={name: v for name, v in os.environ.items() if name != "CI"} | environment,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def test_it_opens_a_browser_only_where_there_is_a_screen(store, directory):
    log = directory / "opened"
    browser = directory / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >>{log}\n')
    browser.chmod(0o755)
    screen = {"DISPLAY": ":77", "BROWSER": str(browser)}
    for other in ({"CI": "true"}, {"DISPLAY": "", "WAYLAND_DISPLAY": ""}):
        result = program(directory, **screen | other)
        assert result.returncode == 0, result.stderr
        if sys.platform != "darwin":
            assert "Open this file in a browser" in result.stdout
            assert not log.exists()
    result = program(directory, "--picture", "my worm.html", **screen)
    assert (
        f"The worm is in your browser, and turns; its file: {directory}/my worm.html"
        in result.stdout
    )
    assert log.read_text() == f"{(directory / 'my worm.html').as_uri()}\n"


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ""}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"DISPLAY": ":0", "CI": "1"}, "linux", False),
        ({}, "darwin", True),
        ({"SSH_CONNECTION": "a 1 b 2"}, "darwin", False),
    ],
)
def test_what_a_screen_is(environment, platform, expected):
    assert demo_picture.has_screen(environment, platform) is expected


def test_a_picture_that_cannot_be_written(store, directory):
    with pytest.raises(ConfigError, match=r"nowhere/worm\.html: No such .*--picture FILE"):
        demo.run(directory / "nowhere" / "worm.html")


def test_without_plotly_it_says_what_to_install(store, directory, monkeypatch):
    # A finder before all others that finds no plotly, as where it is not installed.
    class Missing:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name.partition(".")[0] == "plotly":
                raise ModuleNotFoundError(name)

    for name in [name for name in sys.modules if name.partition(".")[0] == "plotly"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing, *sys.meta_path])
    assert output().splitlines()[-1].endswith("pip install 'ngdata[plot]'")
    assert not list(directory.iterdir())


def test_concurrent_demos(store):
    errors = []

    def run() -> None:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                demo.run()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.experience.get_events().event_id.is_unique
