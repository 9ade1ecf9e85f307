"""Draws the pictures of docs/gallery.md: the figures of its programs, in a real browser, as small PNGs.

Run it as ``python -m scripts.draw_gallery``, after ``scripts/install-system-packages --for-tests``.  The
programs run on servers of their own, which stop at the end.
"""

from __future__ import annotations

import io
import runpy
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.store import server
from scripts.browser import browser

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES, PICTURES = ROOT / "docs" / "examples", ROOT / "docs" / "pictures"

# As wide as a page shows them; the palette of a figure is small.
_WIDTH = 760
_COLORS = 160


def figures() -> dict[str, Any]:
    """Run the programs, and return their figures by the name of the picture."""
    drawn: dict[str, Any] = runpy.run_path(str(EXAMPLES / "pictures.py"))["figures"]
    episodes = runpy.run_path(str(EXAMPLES / "cart_pole.py"))["best"]
    return {**drawn, "episode": episodes.ng.plot()}


def main() -> None:
    """Draw all pictures anew."""
    PICTURES.mkdir(exist_ok=True)
    with server():
        drawn = figures()
    with browser(_WIDTH) as chromium:
        for name, figure in drawn.items():
            image = Image.open(io.BytesIO(chromium.draw(figure, "transparent")))
            path = PICTURES / f"{name}.png"
            image.quantize(_COLORS, Image.Quantize.FASTOCTREE).save(path, optimize=True)
            print(path.relative_to(ROOT), path.stat().st_size)


if __name__ == "__main__":
    main()
