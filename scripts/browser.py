"""A real browser without a window, and figures of plotly in it: for the tests, and for the pictures of the pages.

Chromium draws WebGL in software.  `scripts/install-system-packages --for-tests` installs it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import playwright.sync_api
from playwright.sync_api import Page, sync_playwright
from plotly.offline import get_plotlyjs

__all__ = ["Browser", "browser", "chromium"]

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ON_MACOS = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"

# As root it has no sandbox; without a graphics card it draws by software.
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)

# Resolves once the figure is drawn, and the frame after it: WebGL's own frame may come later.
_DRAW = """
async ([figure, background]) => {
    document.body.style.background = background;
    const place = document.getElementById("figure");
    Plotly.purge(place);
    await Plotly.newPlot(place, figure.data, figure.layout, {displayModeBar: false});
    const frame = () => new Promise(resolve => requestAnimationFrame(resolve));
    await frame(); await frame(); await frame();
}
"""


class Browser:
    """A page that draws one figure after another.

    Attributes
    ----------
    page : playwright.sync_api.Page
    errors : list of str
        What the page reported as errors.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.set_content("<!doctype html><body style='margin: 0'><div id='figure'></div></body>")
        page.add_script_tag(content=get_plotlyjs())

    def draw(self, figure: Any, background: str = "white") -> bytes:
        """Return a figure as a PNG, in its own height and the page's width."""
        self.page.evaluate(_DRAW, [json.loads(figure.to_json()), background])
        is_clear = background == "transparent"
        return self.page.locator("#figure").screenshot(omit_background=is_clear)


@contextmanager
def chromium() -> Iterator[playwright.sync_api.Browser]:
    """Start Chromium."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None and os.path.exists(_ON_MACOS):
        program = _ON_MACOS
    assert program, "install Chromium: scripts/install-system-packages --for-tests"
    with sync_playwright() as manager:
        started = manager.chromium.launch(executable_path=program, args=[*_ARGUMENTS])
        try:
            yield started
        finally:
            started.close()


@contextmanager
def browser(width: int = 900) -> Iterator[Browser]:
    """Open a browser for figures of this width, in pixels."""
    with chromium() as started:
        yield Browser(started.new_page(viewport={"width": width, "height": 700}))
