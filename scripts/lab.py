"""JupyterLab in a real browser, without a window: for the tests, and for the pictures of the pages.

The browser is the system's Chromium, driven by playwright.  JupyterLab has settings of its own, and
listens on this machine only.  Nothing is downloaded by either.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Error, Locator, Page

__all__ = ["PATIENCE", "Lab", "Notebook", "jupyterlab"]

# Seconds: only a hang is longer.
PATIENCE: Final = 240

# Seconds after which keys without effect are pressed again.
_UNHEARD: Final = 20

_DIRECTORIES: Final = {
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "runtime",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    "IPYTHONDIR": "ipython",
}
_OPTIONS: Final = [
    "--no-browser",
    "--allow-root",
    "--ServerApp.token=",
    "--ServerApp.password=",
    "--ServerApp.disable_check_xsrf=True",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
]


class Notebook:
    """A notebook that is open in JupyterLab.

    Attributes
    ----------
    page : Page
    path : Path
        Its file.
    messages : list of int
        The sizes of the messages that the browser has received, in bytes.
    errors : list of str
        What the browser's console has reported.
    origins : set of str
        The hosts and ports that the page has asked for anything.
    """

    def __init__(self, page: Page, address: str, path: Path) -> None:
        self.page, self.path = page, path
        self.messages: list[int] = []
        self.errors: list[str] = []
        self.origins: set[str] = set()
        page.set_default_timeout(PATIENCE * 1000)
        # Where JupyterLab learns late which kernels there are, it asks, over the cells.
        question = page.locator(".jp-Dialog", has_text="Select Kernel")
        page.add_locator_handler(question, lambda asked: asked.locator(".jp-mod-accept").click())
        page.on("websocket", self._opened)
        page.on("request", lambda request: self._asked(request.url))
        page.on("console", self._reported)
        page.goto(f"{address}/lab/workspaces/{path.stem}/tree/{path.name}")
        self.wait_until_idle()

    def _opened(self, socket: Any) -> None:
        self._asked(socket.url)
        socket.on("framereceived", self._received)

    def _asked(self, url: str) -> None:
        if not url.startswith(("data:", "blob:")):
            self.origins.add(urllib.parse.urlsplit(url).netloc)

    def _received(self, frame: Any) -> None:
        self.messages.append(len(frame))

    def _reported(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def wait_until_idle(self) -> None:
        """Wait until the kernel runs nothing."""
        indicator = ".jp-Notebook-ExecutionIndicator[data-status=idle]"
        self.page.wait_for_selector(indicator)

    def cell(self, number: int) -> Locator:
        """Return a cell; the first one is 1."""
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(number - 1)

    def run(self, number: int, *, wait: bool = True) -> str:
        """Run a cell, and return the text of its output when it ends."""
        cell = self.cell(number)
        prompt = cell.locator(".jp-InputPrompt")
        prompt.click()
        before = prompt.inner_text()
        self.page.keyboard.press("Control+Enter")
        # While it starts, JupyterLab may not hear the keys.
        pressed, deadline = time.monotonic(), time.monotonic() + PATIENCE
        while (text := prompt.inner_text()) == before or (wait and "*" in text):
            assert time.monotonic() < deadline, cell.inner_text()
            if text == before and time.monotonic() > pressed + _UNHEARD:
                prompt.click()
                self.page.keyboard.press("Control+Enter")
                pressed = time.monotonic()
            self.page.wait_for_timeout(50)
        return self.output(number) if wait else ""

    def output(self, number: int) -> str:
        """Return the text of a cell's output."""
        return str(self.cell(number).locator(".jp-Cell-outputArea").inner_text())

    def interrupt(self) -> None:
        """Interrupt the cell that runs."""
        self.page.locator(
            "[data-command='notebook:interrupt-kernel'], [title^='Interrupt']"
        ).first.click()
        self.wait_until_idle()

    def until(self, condition: Any, what: str) -> None:
        """Wait for a condition, in the browser's own loop."""
        deadline = time.monotonic() + PATIENCE
        while not _holds(condition):
            assert time.monotonic() < deadline, f"{what}: {self.page.inner_text('.jp-Notebook')}"
            self.page.wait_for_timeout(100)
        if os.environ.get("SHOTS"):
            self.page.screenshot(path=f"{os.environ['SHOTS']}/{what.replace(' ', '_')}.png")

    def scroll_to(self, element: Locator) -> None:
        """Scroll an element into view."""

        def is_there() -> bool:
            element.scroll_into_view_if_needed()
            return True

        self.until(is_there, "an element in view")

    def saved(self) -> dict[str, Any]:
        """Save the notebook, and return the file."""
        before = self.path.stat().st_mtime_ns
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("Control+s")
        self.until(lambda: self.path.stat().st_mtime_ns > before and self._contents(), "save")
        return self._contents()

    def _contents(self) -> dict[str, Any]:
        """Return what its file holds; nothing while it is being written."""
        try:
            return dict(json.loads(self.path.read_text()))
        except json.JSONDecodeError:
            return {}


def _holds(condition: Any) -> bool:
    """Return whether a condition holds; not yet, while JupyterLab draws its element anew."""
    try:
        return bool(condition())
    except Error as error:
        if "not attached to the DOM" not in str(error):
            raise
        return False


class Lab:
    """A running JupyterLab, and a browser."""

    def __init__(self, address: str, root: Path, browser: Browser) -> None:
        self._address, self._root, self._browser = address, root, browser

    def open(self, name: str, *cells: str) -> Notebook:
        """Open a new notebook with these cells in a page of its own; no cell has run."""
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        contents = {
            "cells": [
                {
                    "cell_type": "code",
                    "id": f"cell-{number}",
                    "metadata": {},
                    "source": cell,
                    "outputs": [],
                    "execution_count": None,
                }
                for number, cell in enumerate(cells, 1)
            ],
            "metadata": {"kernelspec": kernel},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        path = self._root / f"{name}.ipynb"
        path.write_text(json.dumps(contents))
        page = self._browser.new_page(viewport={"width": 1200, "height": 1000})
        return Notebook(page, self._address, path)


@contextmanager
def jupyterlab(home: Path) -> Iterator[tuple[str, Path]]:
    """Run JupyterLab with its files in a directory; yield its address, and the folder of notebooks."""
    root = home / "notebooks"
    root.mkdir()
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    # Else it asks, over the cells, whether it may.
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    directories = {name: str(home / directory) for name, directory in _DIRECTORIES.items()}
    command = [sys.executable, "-m", "jupyterlab", f"--port={port}", f"--ServerApp.root_dir={root}"]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, *_OPTIONS],
            env=os.environ | directories,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(address):
            alive = server.poll() is None and time.monotonic() < deadline
            assert alive, (home / "log").read_text()
            time.sleep(0.1)
        yield address, root
    finally:
        server.terminate()
        server.wait(PATIENCE)


def _answers(address: str) -> bool:
    """Return whether the server answers."""
    try:
        with urllib.request.urlopen(f"{address}/api/status", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False
