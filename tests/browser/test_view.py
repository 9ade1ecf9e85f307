"""`view` in JupyterLab: points on the screen, finer samples where one looks, boxes, a small file."""

from __future__ import annotations

import ast
import base64
import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

# Under load, a browser without a graphics card is slow.
pytestmark = pytest.mark.timeout(900)

COUNT = 30_000
MOST_BYTES = 8_000_000
MOST_GROWTH = 200_000

OPEN = """
import ngdata
ng = ngdata.connect(URL)
view = ng.view(color="token_type", points=25_000)
view
"""
SHOWN = "print(*view.shown, view.box)"
SET_BOX = "view.box = ngdata.Box((10.125, 20.25, 30.5), (60, 70, 80))"
BUSY = "import time\nfor _ in range(600): time.sleep(0.1)"


@pytest.fixture(scope="module")
def store(new_migrated_database):
    """A store of a cube of tokens."""
    import ngdata

    random = np.random.default_rng(0)
    points = random.random((COUNT, 3)) * 100
    types = np.array(["neuron", "muscle", "sensor"])[random.integers(3, size=COUNT)]
    frame = pd.DataFrame(points, columns=list("xyz")).assign(token_type=types)
    with new_migrated_database() as url:
        with ngdata.connect(url) as client:
            client.tokens.bulk_create(frame, initial=True)
        yield url


def coloured(canvas) -> int:
    """Return how many pixels of a canvas are neither white nor grey."""
    image = imread(io.BytesIO(canvas.screenshot()))[..., :3]
    return int((image.max(axis=2) - image.min(axis=2) > 0.25).sum())


def test_view(lab, store):
    notebook = lab.open(
        "view", f"URL = {store!r}" + OPEN, SHOWN, SET_BOX, SHOWN, BUSY, "ng.close()"
    )
    size = notebook.path.stat().st_size
    notebook.run(1)
    canvas = notebook.page.locator(".k3d-plot canvas").first
    canvas.wait_for()
    notebook.until(lambda: coloured(canvas) > 5000, "points on the screen")

    # All of it is in sight: the finer sample is one of all.
    caption = f"25,000 of {COUNT:,} tokens (a sample), physical level"
    notebook.until(lambda: caption in notebook.output(1), "the finer sample")
    assert f"25000 {COUNT} None" in notebook.run(2)

    # Nearer, all tokens in sight are read, while a cell runs.
    notebook.run(5, wait=False)
    notebook.scroll_to(canvas)
    place = canvas.bounding_box()
    notebook.page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    for _ in range(10):
        notebook.page.mouse.wheel(0, -300)
        notebook.page.wait_for_timeout(60)
    notebook.until(lambda: caption not in notebook.output(1), "a nearer look")
    assert "[*]" in notebook.cell(5).locator(".jp-InputPrompt").inner_text()
    notebook.interrupt()

    # A box that is set is drawn; one that is drawn comes back.
    notebook.run(3)
    slider = notebook.cell(1).locator(".noUi-handle-lower").first
    notebook.until(slider.is_visible, "sliders")
    assert "Box((10.125, 20.25, 30.5), (60.0, 70.0, 80.0))" in notebook.run(4)
    notebook.scroll_to(slider)
    slider.focus()
    notebook.page.keyboard.press("ArrowRight")
    notebook.until(lambda: "Box((10.125," not in notebook.output(1), "the moved slider")
    _, _, box = notebook.run(4).partition("Box(")
    low, high = ast.literal_eval(f"({box}")
    assert 10.125 < low[0] < 11
    assert low[1:] == (20.25, 30.5)
    assert high == (60.0, 70.0, 80.0)

    notebook.run(6)
    notebook.until(lambda: "the client is closed" in notebook.output(1), "the closed client")

    saved = notebook.saved()
    assert notebook.path.stat().st_size - size < MOST_GROWTH
    assert "widgets" not in saved["metadata"]
    [shown] = saved["cells"][0]["outputs"]
    assert "tokens" in "".join(shown["data"]["text/plain"])
    assert base64.b64decode(shown["data"]["image/png"]).startswith(b"\x89PNG")
    assert max(notebook.messages) < MOST_BYTES
    # JupyterLab alone: no further port, and nothing from elsewhere.
    assert len(notebook.origins) == 1, notebook.origins
    assert not [error for error in notebook.errors if "K3D" in error or "widget" in error.lower()]
