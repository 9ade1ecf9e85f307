"""JupyterLab and a browser: both are started once, and each test has a notebook of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from scripts.browser import chromium
from scripts.lab import Lab, jupyterlab


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium.

    Once per file: while it runs, playwright has an event loop in this thread, in which tests of other
    files could not start their own.
    """
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def server_of_notebooks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """JupyterLab on this machine only: its address, and its notebooks."""
    with jupyterlab(tmp_path_factory.mktemp("jupyter")) as running:
        yield running


@pytest.fixture
def lab(server_of_notebooks: tuple[str, Path], browser: Browser) -> Lab:
    """JupyterLab in the browser."""
    return Lab(*server_of_notebooks, browser)
