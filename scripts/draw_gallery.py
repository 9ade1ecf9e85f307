"""Draws the pictures of docs/gallery.md: the figures of its programs, in a real browser, as small PNGs.

Run it as ``python -m scripts.draw_gallery``, after ``scripts/install-system-packages --for-tests``.  The
programs run on servers of their own, which stop at the end.
"""

from __future__ import annotations

import io
import runpy
import sys
from pathlib import Path
from typing import Any, Final

import pandas as pd
from PIL import Image

from benchmarks.store import server
from scripts.browser import browser

__all__ = ["EXPRESSIONS", "figures", "main"]

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES, PICTURES = ROOT / "docs" / "examples", ROOT / "docs" / "pictures"

# As wide as a page shows them; the palette of a figure is small.
_WIDTH = 760
_COLORS = 160


# What the page shows below each picture: an expression in the variables that a program leaves.
EXPRESSIONS: Final = {
    "neuron": 'pd.concat([nodes.assign(token_type="node"), synapses]).ng.plot(color="token_type")',
    "novel": 'people.assign(token_id=ids).ng.plot.graph(pd.DataFrame(links), hover="name")',
    "flights": "events.ng.plot()",
    "point_cloud": 'core.ng.plot(color="z")',
    "cart_pole": "best.ng.plot()",
    "cells": 'fixed.ng.plot(color="token_type")',
}


def figures() -> dict[str, Any]:
    """Run the programs, and return their figures by the name of the picture."""
    drawn: dict[str, Any] = runpy.run_path(str(EXAMPLES / "pictures.py"))["figures"]
    for name, expression in EXPRESSIONS.items():
        variables = runpy.run_path(str(EXAMPLES / f"{name}.py"))
        # Only of the expressions above.
        drawn[name] = eval(expression, {"pd": pd} | variables)
    return drawn


def main() -> None:
    """Draw all pictures anew."""
    PICTURES.mkdir(exist_ok=True)
    # The cloud's number of points: a picture shows a part of them anyway.
    sys.argv[1:] = ["100000"]
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
