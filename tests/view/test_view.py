"""The view that a notebook gets: its widget, its messages, its box, its end; without a browser."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import zlib

import msgpack
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from ngdata import Box, Sphere
from ngdata._client.view import canvas as drawing
from ngdata._client.view import explorer as exploring
from ngdata._client.view.canvas import MAX_MESSAGE, point_objects
from ngdata.errors import InvalidQueryError
from tests.view.conftest import COUNT, ORIGIN

CUBE = Box(ORIGIN + 10, ORIGIN + 40)


def until(condition) -> None:
    while not condition():
        time.sleep(0.02)


@pytest.fixture
def view(client, monkeypatch):
    monkeypatch.setattr(exploring, "FIRST", 200)
    monkeypatch.setattr(exploring, "_DEBOUNCE", 0.01)
    opened = client.view(color="token_type", points=500, connections=True)
    yield opened
    opened.close()


@pytest.fixture
def stage(view):
    assert view.widget is not None
    return view._stage


def objects_of(stage):
    """Return what the browser is sent of each object."""
    messages = [stage.canvas.messages[number] for number in stage.canvas.object_ids]
    return [msgpack.unpackb(zlib.decompress(message))["objects"][0] for message in messages]


def array_of(value):
    return np.frombuffer(value["data"], value["dtype"]).reshape(value["shape"])


def sent_by(stage, monkeypatch):
    sent = []
    monkeypatch.setattr(
        stage.canvas, "send", lambda content, buffers=None: sent.append((content, buffers))
    )
    return sent


def test_the_browser_asks_for_objects_and_gets_all_points(stage, view, cube, monkeypatch):
    sent = sent_by(stage, monkeypatch)
    points = next(each for each in objects_of(stage) if each["type"] == "Points")
    stage.canvas._handle_custom_msg({"msg_type": "fetch_objects", "ids": [points["id"], 1]}, [])
    assert [content["msg_type"] for content, _ in sent[:1]] == ["objects_state"]
    positions = array_of(points["positions"]).astype(np.float64)
    true = view._explorer.reference.restore(positions)
    distances = (
        np.abs(true[:, None] - cube[["x", "y", "z"]].to_numpy()[None]).max(axis=2).min(axis=1)
    )
    # In float32, after an origin near them was subtracted; without, they would be off by 0.06.
    assert distances.max() < 1e-4
    assert len(array_of(points["colors"])) == len(positions)


def test_the_state_of_the_widgets_holds_no_data(stage, view):
    until(lambda: view._explorer.lines is not None)
    size = sum(
        len(json.dumps(widget.get_state(), default=repr))
        for widget in (stage.root, stage.canvas, *stage.controls.widgets)
    )
    assert size < 50_000


def test_objects_are_replaced_and_forgotten(stage, view, monkeypatch):
    until(lambda: view._explorer.lines is not None and view._explorer.total is not None)
    before = set(stage.canvas.messages)
    sent = sent_by(stage, monkeypatch)
    stage._look()
    until(lambda: view.shown.drawn == 500 and not before >= set(stage.canvas.messages))
    until(lambda: set(stage.canvas.object_ids) == set(stage.canvas.messages))
    until(lambda: any(content["msg_type"] == "object_patch" for content, _ in sent))
    kinds = [content["msg_type"] for content, _ in sent]
    # What is new is sent before what is old is freed.
    assert kinds.index("objects_state") < kinds.index("object_patch")
    points = [each for each in objects_of(stage) if each["type"] == "Points"]
    assert sum(len(array_of(each["positions"])) for each in points) == view.shown.drawn == 500


def test_many_points_are_split_into_small_messages():
    count = 600_000
    points = np.random.default_rng(0).random((count, 3))
    objects = list(point_objects(points, np.arange(count, dtype=np.uint32)))
    assert len(objects) == 3
    for each in objects:
        packed = zlib.compress(msgpack.packb(each.get_binary()), 1)
        assert len(packed) <= MAX_MESSAGE
    positions = np.concatenate([each.positions for each in objects])
    np.testing.assert_array_equal(positions, points.astype(np.float32))
    assert drawing.MAX_MESSAGE == 8_000_000


def test_a_box_that_is_set_is_drawn_and_comes_back(stage, view, client, cube):
    assert view.box is None
    view.box = CUBE
    assert view.box == CUBE
    ends = np.array([slider.value for slider in stage.controls.sliders]).T
    np.testing.assert_array_equal(ends, [CUBE.min_coords, CUBE.max_coords])
    box = objects_of(stage)[-1]
    assert box["type"] == "Lines"
    corners = view._explorer.reference.restore(array_of(box["vertices"]).astype(np.float64))
    np.testing.assert_allclose(corners.min(axis=0), CUBE.min_coords, atol=1e-3)
    np.testing.assert_allclose(corners.max(axis=0), CUBE.max_coords, atol=1e-3)
    count = client.tokens.count_in_region(view.box)
    assert count == CUBE.contains(cube[["x", "y", "z"]]).sum()
    view.box = None
    assert view.box is None
    assert all(each["id"] != box["id"] for each in objects_of(stage))


def test_a_box_by_the_sliders_keeps_the_ends_that_were_not_moved(stage, view):
    view.box = CUBE
    x = stage.controls.sliders[0]
    # The browser sends back what it was sent, rounded to steps.
    x.value = (x.value[0] + x.step / 3, x.value[1])
    assert view.box == CUBE
    x.value = (ORIGIN[0] + 20, x.value[1])
    assert view.box == Box((ORIGIN[0] + 20, *CUBE.min_coords[1:]), CUBE.max_coords)
    stage.controls._switch.value = False
    assert view.box is None
    stage.controls._switch.value = True
    assert view.box.min_coords[0] == x.value[0]


def test_few_tokens_are_drawn_around_a_resting_box(stage, view):
    until(lambda: view._explorer.total is not None)
    view.box = CUBE
    until(lambda: stage._resting_box == CUBE)
    with stage._lock:  # until they are drawn
        points = next(each for each in objects_of(stage) if each["type"] == "Points")
    true = view._explorer.reference.restore(array_of(points["positions"]).astype(np.float64))
    outside = (~Box(ORIGIN + 9.99, ORIGIN + 40.01).contains(true)).sum()
    assert 0 < outside <= len(view._explorer.whole.points) / 20


def test_open_sides_end_where_the_picture_does(stage, view):
    half = Box((-np.inf, ORIGIN[1] + 10, 0), (ORIGIN[0] + 20, np.inf, 50))
    view.box = half
    assert view.box == half
    assert stage.controls.sliders[0].value[0] == stage.controls.sliders[0].min


@pytest.mark.parametrize("box", [Sphere((0, 0, 0), 1), 5, ((0, 0, 0), (1, 1, 1)), CUBE.on("motor")])
def test_what_is_no_box_of_the_level_is_refused(view, box):
    with pytest.raises(InvalidQueryError, match="box must be"):
        view.box = box
    assert view.box is None


def test_on_another_level_a_box_is_bound_to_it(ng):
    ng.tokens.bulk_create({"x": [0.0, 1.0], "y": [0.0, 1.0], "z": [0.0, 1.0]}, level="motor")
    view = ng.view(level="motor")
    view.box = Box((0, 0, 0), (0.5, 0.5, 0.5))
    assert view.box == Box((0, 0, 0), (0.5, 0.5, 0.5)).on("motor")
    assert ng.tokens.count_in_region(view.box, level="motor") == 1
    view.close()


def test_the_output_has_a_picture_and_a_text(view):
    until(lambda: view.shown.total is not None)
    until(lambda: view._explorer.lines is not None)
    bundle = view._repr_mimebundle_()
    png = base64.b64decode(bundle["image/png"])
    assert png.startswith(b"\x89PNG")
    assert len(png) < 100_000
    assert bundle["text/plain"] == repr(view)
    assert "application/vnd.jupyter.widget-view+json" in bundle
    text = f"{COUNT:,} tokens (a sample), {COUNT - 1:,} connections, physical level, µm"
    assert text in repr(view)


def test_a_closed_client_is_said_in_the_picture(stage, view, client):
    client.close()
    assert "the client is closed" in stage._caption.value
    assert "the client is closed" in stage._output.outputs[0]["text"]
    stage._look()
    assert "open" not in repr(view)


def test_a_closed_view_is_removed(view, client):
    assert view.widget is not None
    stage = view._stage
    view.close()
    view.close()
    assert view.widget is None
    assert stage.canvas.comm is None
    assert "closed" in repr(view)
    assert "application/vnd.jupyter.widget-view+json" not in view._repr_mimebundle_()
    until(lambda: client.pool_status()["read"]["in_use"] == 0)


def test_a_notebook_that_a_program_runs_stays_small(cube_url):
    """nbclient saves the state of all widgets in the file."""
    notebook = nbformat.v4.new_notebook()
    cell = (
        f"import ngdata\nng = ngdata.connect({cube_url!r})\n"
        "view = ng.view(color='token_type', connections=True)\nview"
    )
    notebook.cells = [nbformat.v4.new_code_cell(cell)]
    before = len(nbformat.writes(notebook))
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    assert notebook.cells[0].outputs[0].data["image/png"]
    assert "widgets" in notebook.metadata
    assert len(nbformat.writes(notebook)) - before < 200_000


def test_without_k3d_the_error_names_the_extra(cube_url):
    program = f"""
import sys; sys.modules["k3d"] = None
import ngdata
with ngdata.connect({cube_url!r}) as ng:
    try:
        ng.view()
    except ngdata.errors.ConfigError as error:
        print(error)
    print(ng.pool_status()["read"]["in_use"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert "pip install 'ngdata[view]'" in done.stdout, done
    assert done.stdout.endswith("0\n")
