"""Colours of all pictures, on white and on dark pages: categories, numbers, and what has neither."""

from __future__ import annotations

from typing import Final

__all__ = ["BOX", "GREY", "LINES", "PALETTE", "SCALE", "TEXT", "packed"]

# All of a lightness that white and black pages both show.
PALETTE: Final = (
    "#3b82d6", "#e8762b", "#2ca05a", "#d64550", "#8e6bc9",
    "#a0705a", "#d667b0", "#8a9a2f", "#1ba3b8", "#c79a1e",
)  # fmt: skip

GREY: Final = "#8c8c8c"

SCALE: Final = ("#5b4fd0", "#2f7fd0", "#1fa39a", "#6bb74e", "#d6ac1e")
"""From few to many, along the hues of viridis, without its darkest and lightest ends."""

# As far from white as from the black of dark pages, which show through.
TEXT: Final = "#7a7a7a"
LINES: Final = "#b4b4b4"
BOX: Final = "#d64550"


def packed(color: str) -> int:
    """Return a colour as one integer, 0xRRGGBB.

    Examples
    --------
    >>> from ngdata._arguments.palette import packed
    >>> hex(packed("#3b82d6"))
    '0x3b82d6'
    """
    return int(color.removeprefix("#"), 16)
