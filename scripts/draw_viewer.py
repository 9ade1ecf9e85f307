"""Draws the picture of docs/howto/viewer.md: the sample in the viewer, in JupyterLab in a real browser.

Run it as ``python -m scripts.draw_viewer``, after ``scripts/install-system-packages --for-tests``.  The
notebook runs on servers of its own, which stop at the end.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Final

from PIL import Image

from benchmarks.store import server
from scripts.browser import chromium
from scripts.lab import Lab, jupyterlab

__all__ = ["main"]

ROOT: Final = Path(__file__).resolve().parent.parent
PICTURE: Final = ROOT / "docs" / "images" / "viewer.png"

_CELL: Final = """import ngdata
from ngdata.datasets import load_celegans

ng = ngdata.connect({url!r})
neurons = load_celegans(ng)
ng.set_level("physical", unit="µm")
view = ng.view(color="token_type", connections=True)
view.box = ngdata.Box((-30, -350, -70), (30, -250, 70))
view"""
_COLORS: Final = 160


def main() -> None:
    """Draw the picture anew."""
    with (
        server() as addresses,
        tempfile.TemporaryDirectory() as home,
        jupyterlab(Path(home)) as running,
        chromium() as browser,
    ):
        cell = _CELL.format(url=addresses.database_url)
        notebook = Lab(*running, browser).open("viewer", cell)
        notebook.run(1)
        notebook.page.locator(".k3d-plot canvas").first.wait_for()
        notebook.until(lambda: "connections" in notebook.output(1), "the connections")
        # The tokens around the box, and the axes, are drawn a moment later.
        notebook.page.wait_for_timeout(5000)
        shown = notebook.cell(1).locator(".jp-Cell-outputArea").screenshot()
    image = Image.open(io.BytesIO(shown)).convert("RGB")
    image.quantize(_COLORS).save(PICTURE, optimize=True)
    print(PICTURE.relative_to(ROOT), image.size, PICTURE.stat().st_size)


if __name__ == "__main__":
    main()
