"""JupyterLab as a newcomer has it: started by README's command, notebooks with pictures, Tab and Shift-Tab."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Error, Locator

from scripts.lab import PATIENCE, Notebook
from tests.conftest import ROOT

# Under load, a browser without a graphics card is slow.
pytestmark = pytest.mark.timeout(900)

FIGURE = "application/vnd.plotly.v1+json"
PICTURE = ".js-plotly-plot canvas"
ERROR = "[data-mime-type='application/vnd.jupyter.error']"
README = (ROOT / "README.md").read_text()


def opened(lab, path: Path) -> Notebook:
    """Open a copy of a notebook, as it was saved."""
    copy = lab._root / path.name
    shutil.copy(path, copy)
    page = lab._browser.new_page(viewport={"width": 1200, "height": 1000})
    return Notebook(page, lab._address, copy)


def coloured(element) -> int:
    """Return how many pixels of an element are neither white nor grey."""
    image = np.asarray(Image.open(io.BytesIO(element.screenshot())).convert("RGB")).astype(int)
    return int((image.max(axis=2) - image.min(axis=2) > 60).sum())


def wait_for_picture(notebook: Notebook, number: int, what: str) -> None:
    """Wait until a cell shows a picture with colours in it, in full."""
    cell = notebook.cell(number)
    notebook.scroll_to(cell)
    picture = cell.locator(PICTURE).first
    picture.wait_for()
    output = cell.locator(".jp-Cell-outputArea")
    notebook.scroll_to(output)
    notebook.until(lambda: coloured(output) > 300, what)
    place, room = picture.bounding_box(), output.bounding_box()
    assert place["x"] >= room["x"]
    assert place["x"] + place["width"] <= room["x"] + room["width"] + 1


@pytest.mark.parametrize("name", ["01_quickstart", "02_graph"])
def test_a_notebook_shows_its_pictures_when_opened_and_when_run(lab, database_url, name):
    path = ROOT / "notebooks" / f"{name}.ipynb"
    saved = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    pictures = [
        number
        for number, cell in enumerate(saved, 1)
        if any(FIGURE in output.get("data", {}) for output in cell.outputs)
    ]
    notebook = opened(lab, path)
    for number in pictures:
        wait_for_picture(notebook, number, f"{name} cell {number} as saved")
    for number in range(1, len(saved) + 1):
        notebook.run(number)
        assert notebook.cell(number).locator(ERROR).count() == 0, notebook.output(number)
        if number in pictures:
            wait_for_picture(notebook, number, f"{name} cell {number} as run")
    contents = notebook.saved()
    assert "widgets" not in contents["metadata"]
    assert notebook.path.stat().st_size < 2 * path.stat().st_size


def test_tab_offers_what_a_client_has(lab, database_url):
    notebook = lab.open("completion", "import ngdata\nng = ngdata.connect()", "ng.", "ng.tokens.")
    notebook.run(1)
    for number, expected in ((2, {"tokens", "graph", "experience", "pin"}), (3, {"find_nearest"})):
        names = offered(notebook, number, expected)
        assert not [name for name in names if name.startswith("_")]
        notebook.page.keyboard.press("Escape")


def ask(notebook: Notebook, number: int, keys: str, answer: Locator) -> None:
    """Press keys at the end of a cell until an answer is seen: JupyterLab drops one that is late."""
    deadline = time.monotonic() + PATIENCE
    while not answer.is_visible():
        assert time.monotonic() < deadline, notebook.page.inner_text(".jp-Notebook")
        notebook.cell(number).locator(".cm-content").click()
        notebook.page.keyboard.press("Control+End")
        notebook.page.keyboard.press(keys)
        with contextlib.suppress(Error):
            answer.wait_for(timeout=20_000)


def offered(notebook: Notebook, number: int, expected: set[str]) -> set[str]:
    """Press Tab at the end of a cell, and return the names that are offered, the expected ones too."""
    items = notebook.page.locator(".jp-Completer:not(.lm-mod-hidden) .jp-Completer-item")
    ask(notebook, number, "Tab", items.first)
    names: set[str] = set()

    def are_offered() -> bool:
        # A long list is drawn piece by piece.
        texts = items.locator(".jp-Completer-match").all_inner_texts()
        names.update(re.match(r"\w+", text)[0] for text in texts)
        return expected <= names

    notebook.until(are_offered, f"{expected} among {names}")
    return names


def test_shift_tab_shows_the_docstring(lab, database_url):
    notebook = lab.open(
        "docstring", "import ngdata\nng = ngdata.connect()", "ng.tokens.find_nearest("
    )
    notebook.run(1)
    tooltip = notebook.page.locator(".jp-Tooltip")
    ask(notebook, 2, "Shift+Tab", tooltip)
    notebook.until(lambda: "Parameters" in tooltip.inner_text(), "the docstring")
    text = tooltip.inner_text()
    assert "find_nearest" in text
    assert "max_distance: 'float | None' = None" in text
    assert re.search(r"^>>> .*is_monotonic_increasing", text, re.M)


def test_the_command_of_the_readme_starts_jupyterlab(browser, tmp_path):
    (command,) = re.findall(r"^\.venv/bin/(jupyter lab .*)$", README, re.M)
    log = tmp_path / "browser.log"
    program = tmp_path / "browser"
    program.write_text(f'#!/bin/sh\necho "$1" >{log}.new && mv {log}.new {log}\n')
    program.chmod(0o755)
    own = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    directories = {f"JUPYTER_{name}": str(tmp_path / name) for name in own}
    with (tmp_path / "log").open("w") as output:
        server = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {Path(sys.executable).parent}/{command}"],
            # No screen, but a browser that says what it would show.
            env=os.environ | directories | {"BROWSER": str(program)},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not log.exists():
            alive = server.poll() is None and time.monotonic() < deadline
            assert alive, (tmp_path / "log").read_text()
            time.sleep(0.1)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(log.read_text().strip())
        page.wait_for_url("http://*/lab**", timeout=PATIENCE * 1000)
        listed = page.locator(".jp-DirListing-content")
        listed.get_by_text("01_quickstart.ipynb").wait_for(timeout=PATIENCE * 1000)
        assert listed.get_by_text("05_history.ipynb").count() == 1
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(PATIENCE)
