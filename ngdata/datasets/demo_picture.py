"""The picture at the end of `ngdata demo`: the worm as one HTML file, which turns until it is touched."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd

from ngdata._client.sync.client import Client
from ngdata.datasets.sample import read_sample

__all__ = ["FILE", "can_draw", "has_screen", "show", "write"]

FILE: Final = "ngdata-demo.html"

_KINDS: Final = {"motor": "motor neurons", "interneuron": "interneurons"}
_OTHER_KINDS: Final = "sensory neurons, and others"
_COLUMNS: Final = ["token_id", "coords", "token_type", "metadata.neuron", "metadata.diameter"]
_BACKGROUND: Final = "#10141f"
_UNIT: Final = "µm"
_TITLE: Final = "The nervous system of C. elegans: 302 neurons, from head (left) to tail"

# The camera goes around the long axis, so that the whole worm stays in sight, once in 20 seconds.
_TURN: Final = """
const figure = document.getElementById("{plot_id}");
const start = structuredClone(figure._fullLayout.scene.camera);
const roll = (v, a) => ({
    x: v.x * Math.cos(a) + v.z * Math.sin(a), y: v.y, z: v.z * Math.cos(a) - v.x * Math.sin(a),
});
let turns = !matchMedia("(prefers-reduced-motion: reduce)").matches;
for (const touch of ["pointerdown", "wheel", "keydown"])
    addEventListener(touch, () => { turns = false; }, {capture: true, passive: true});
const began = performance.now();
const turn = async () => {
    if (!turns) return;
    const angle = (performance.now() - began) / 20000 * 2 * Math.PI;
    const camera = {...start, eye: roll(start.eye, angle), up: roll({x: 0, y: 0, z: 1}, angle)};
    await Plotly.relayout(figure, {"scene.camera": camera});
    setTimeout(() => requestAnimationFrame(turn), 30);
};
requestAnimationFrame(turn);
"""


def can_draw() -> bool:
    """Return whether plotly can be imported."""
    try:
        import_module("plotly")
    except ImportError:
        return False
    return True


def write(ng: Client, neurons: pd.DataFrame, path: Path) -> None:
    """Read the worm from the store, and write its picture.

    Parameters
    ----------
    ng : Client
    neurons : pandas.DataFrame
        As `load_celegans` returns them.
    path : Path
        A file, which is replaced.  It needs no network, as it has a copy of plotly.js.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from ngdata.datasets import demo_picture, load_celegans
    >>> with TemporaryDirectory() as folder:
    ...     demo_picture.write(ng, load_celegans(ng), Path(folder) / "worm.html")
    ...     (Path(folder) / "worm.html").read_text("utf-8").count("<html>")
    1
    """
    worm = ng.tokens.get(read_sample().tokens.token_id, columns=_COLUMNS)
    worm.attrs["ngdata"] = {**worm.attrs["ngdata"], "level": 0, "unit": _UNIT}
    worm = worm.rename(columns={"metadata.neuron": "neuron"})
    types = neurons.set_index("neuron").cell_type
    worm["cell type"] = worm.neuron.map(types)
    words = worm["cell type"].str.lower()
    worm["kind"] = np.select(
        [words.str.contains(word) for word in _KINDS], list(_KINDS.values()), _OTHER_KINDS
    )
    # Areas: a neuron is drawn larger than its segments, as in the body.
    worm["area"] = worm["metadata.diameter"].astype(float) ** 2
    figure = cast(Any, worm.sort_values("kind")).ng.plot.points(
        color="kind", size="area", hover=["neuron", "cell type"]
    )
    how = "drag to turn, scroll to zoom; the mouse names what it points at"
    legend = {"x": 0.99, "xanchor": "right", "y": 0.99, "yanchor": "top"}
    figure.update_layout(
        title={"text": _TITLE, "subtitle": {"text": f"{figure.layout.title.text}; {how}"}},
        height=None,
        paper_bgcolor=_BACKGROUND,
        font_color="#c8ccd4",
        title_subtitle_font_color="#c8ccd4",
        legend=legend,
    )
    figure.write_html(
        path,
        include_plotlyjs=True,
        default_height="100vh",
        post_script=_PAGE + _TURN,
        config={"displaylogo": False, "responsive": True},
    )


_PAGE: Final = f"""
document.title = "ngdata: the worm";
document.body.style.cssText = "margin: 0; overflow: hidden; background: {_BACKGROUND}";
"""


def has_screen(environment: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Return whether somebody would see a browser: not on CI, and not on a machine elsewhere.

    Examples
    --------
    >>> from ngdata.datasets.demo_picture import has_screen
    >>> has_screen({"DISPLAY": ":0"}, "linux"), has_screen({"DISPLAY": ":0", "CI": "true"}, "linux")
    (True, False)
    """
    if environment.get("CI"):
        return False
    if platform == "darwin":
        return "SSH_CONNECTION" not in environment
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def show(path: Path) -> bool:
    """Open a picture in the browser if there is a screen; return whether one was started."""
    return has_screen(os.environ) and webbrowser.open(path.as_uri())
