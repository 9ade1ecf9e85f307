"""Figures of plotly on the site, drawn by a copy of plotly.js that is on the site too.

Jupyter keeps a figure as JSON.  MyST-NB shows none of that kind, and the HTML that plotly itself
writes for Sphinx needs another host.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any, ClassVar

import myst_nb.core.render
import plotly
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.fileutil import copy_asset_file

MIME_TYPE = "application/vnd.plotly.v1+json"
SCRIPT = "plotly.min.js"
_ATTRIBUTE = "data-figure"


class PlotlyFigures:
    """The renderer of MyST-NB for figures: an element with the figure as JSON, for `figures.js`."""

    mime_priority_overrides: ClassVar = [("html", MIME_TYPE, 1)]

    @staticmethod
    def handle_mime(renderer: Any, data: Any, inline: bool) -> list[nodes.Element] | None:
        """Return the element of a figure; None for other kinds of output."""
        if data.mime_type != MIME_TYPE or inline:
            return None
        figure = {key: data.content.get(key) for key in ("data", "layout")}
        text = html.escape(json.dumps(figure, separators=(",", ":")), quote=True)
        height = (figure["layout"] or {}).get("height", 450)
        source = f'<div class="figure" style="height: {height}px" {_ATTRIBUTE}="{text}"></div>'
        return [nodes.raw(text=source, format="html", classes=["output", "plotly"])]


def _add_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    if doctree is not None and any(
        _ATTRIBUTE in raw.astext() for raw in doctree.findall(nodes.raw)
    ):
        app.add_js_file(SCRIPT)
        app.add_js_file("figures.js")


def _copy_script(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        source = Path(plotly.__file__).parent / "package_data" / SCRIPT
        copy_asset_file(source, Path(app.outdir) / "_static")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    # MyST-NB finds renderers by entry points of installed packages only.
    myst_nb.core.render.load_mime_renders = lambda: [PlotlyFigures]
    app.connect("html-page-context", _add_scripts)
    app.connect("build-finished", _copy_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
