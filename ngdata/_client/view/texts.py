"""What is written around the picture: the caption, the legend, and the text that stands for it."""

from __future__ import annotations

import html
from typing import Final

from ngdata._arguments.levels import LEVELS
from ngdata._arguments.palette import SCALE
from ngdata._client.view.coloring import Bar, Coloring
from ngdata._client.view.explorer import Explorer
from ngdata._client.view.reference import Reference

__all__ = ["axis_titles", "caption", "caption_html", "legend_html"]

# Characters that mean something in TeX, which the axes' titles are.
_TEX: Final = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "%": r"\%", "#": r"\#",
    "&": r"\&", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
}  # fmt: skip

_MAX_TEXT: Final = 60


def caption(explorer: Explorer) -> str:
    """Return how many tokens of how many the picture shows, and of which level.

    Returns
    -------
    str
        Such as ``20,000 of 10,000,000 tokens (a sample), physical level, µm``.
    """
    drawn, total = explorer.shown
    if total is None:
        parts = [f"{drawn:,} tokens (a sample; counting all)"]
    elif drawn < total:
        parts = [f"{drawn:,} of {total:,} tokens (a sample)"]
    else:
        parts = [f"{drawn:,} {'token' if drawn == 1 else 'tokens'}"]
    if explorer.source.has_lines and explorer.lines is not None:
        count = len(explorer.lines.ends)
        noun = "connection" if count == 1 else "connections"
        parts.append(f"{count:,} {noun}{'' if explorer.lines.is_complete else ' (a sample)'}")
    parts.append(f"{LEVELS[explorer.source.level]} level")
    if explorer.unit:
        parts.append(explorer.unit)
    return ", ".join(parts)


def caption_html(explorer: Explorer) -> str:
    """Return the caption as HTML, with what a reader should know now."""
    notes = []
    if explorer.is_reading:
        notes.append("reading what is in sight …")
    if explorer.problem is not None:
        notes.append(explorer.problem)
    note = "".join(f"<br><i>{html.escape(text)}</i>" for text in notes)
    return f'<span style="line-height: 1.4">{html.escape(caption(explorer))}{note}</span>'


def legend_html(coloring: Coloring) -> str:
    """Return the legend of categories, or the colour bar, as HTML; empty for one colour."""
    if not coloring.title:
        return ""
    lines = [f"<b>{html.escape(_brief(coloring.title))}</b>"]
    if isinstance(coloring, Bar):
        low, high = map(html.escape, coloring.ends)
        lines.append(
            f'<span style="display: inline-block; width: 14em">{low}<span style="float: right">{high}'
            f'</span><br><span style="display: block; height: 0.9em; background: linear-gradient(to '
            f'right, {", ".join(SCALE)})"></span></span>'
        )
    lines += [
        f'<span style="color: {color}">&#9679;</span>&nbsp;{html.escape(_brief(text))}'
        for color, text in coloring.entries
    ]
    return '<span style="line-height: 1.6">' + " &ensp; ".join(lines) + "</span>"


def axis_titles(reference: Reference, unit: str | None) -> list[str]:
    """Return the titles of the axes as TeX, which shows the unit as it is written.

    K3D centers them where the middle tick has its label.  So those of x and y are two lines lower, and
    that of z, whose ticks are above each other, lies beside it.
    """
    titles = []
    for axis in range(3):
        text = "".join(_TEX.get(c, c) for c in _brief(reference.axis_title(axis, unit)))
        titles.append(f"\\text{{{text}}}")
    x, y, z = titles
    below = [f"\\begin{{matrix}} \\\\ \\\\ {title} \\end{{matrix}}" for title in (x, y)]
    return [*below, f"\\phantom{{{z}}}\\kern{{3em}}{z}"]


def _brief(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"
