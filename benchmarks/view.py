"""The viewer: its first picture and nearer looks beside their queries, its messages, and what a notebook keeps.

python -m benchmarks.view --tokens 1000000

Ten million tokens (``--tokens 10000000``) take a quarter of an hour to load.  The client's part is
what is left of the time of `client.view` after its first query, and then the widget with its first
message, as the browser is sent it.  The notebook is run by nbclient, which saves the state of all widgets.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, Final
from unittest.mock import patch

import nbformat
import numpy as np
import pandas as pd
from nbclient import NotebookClient

import ngdata
from benchmarks import store
from ngdata._client.view.camera import Camera
from ngdata._client.view.source import Source
from ngdata._client.view.view import View

__all__ = ["main", "measured", "notebook_growth", "table"]

_ZOOMS: Final = (0.5, 0.2, 0.05)


class _Clock:
    """Notes the seconds of each read of points."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._points = Source.points

    async def points(self, source: Source, *args: Any) -> tuple[pd.DataFrame, bool]:
        """Read, and note the time."""
        began = time.perf_counter()
        answer = await self._points(source, *args)
        self.seconds.append(time.perf_counter() - began)
        return answer


def measured(url: str, turns: int) -> dict[str, dict[str, float]]:
    """Measure on a filled store; return the medians by picture: seconds, and bytes of messages."""
    clock = _Clock()

    async def timed(source: Source, *args: Any) -> tuple[pd.DataFrame, bool]:
        return await clock.points(source, *args)

    rows: dict[str, list[dict[str, float]]] = {}
    with patch.object(Source, "points", timed), ngdata.connect(url, cache="off") as ng:
        # Imports happen once, and are not counted as part of a picture.
        ng.view(points=1).close()
        for _ in range(turns):
            began = time.perf_counter()
            view = ng.view(color="token_type")
            _ = view.widget
            _note(rows, "first picture", view, clock, time.perf_counter() - began)
            for zoom in _ZOOMS:
                began = time.perf_counter()
                if _look(view, zoom):
                    took = time.perf_counter() - began
                    _note(rows, f"{1 / zoom:.0f} times nearer", view, clock, took)
            view.close()
    return {
        name: {key: statistics.median(row[key] for row in each) for key in each[0]}
        for name, each in rows.items()
    }


def _look(view: View, zoom: float) -> bool:
    """Bring the camera nearer, and wait for the finer sample; return whether one was read."""
    explorer = view._explorer
    whole = explorer.camera
    middle = (explorer.low + explorer.high) / 2
    camera = Camera(middle + (whole.position - whole.target) * zoom, middle, whole.up)
    _until(lambda: explorer.total is not None)
    sight = camera.sight(explorer.low, explorer.high, margin=1.0)
    if sight is None or not explorer.needs(sight):
        return False
    before = explorer.near
    explorer.look(np.array(camera.numbers))
    _until(lambda: explorer.near is not before)
    _until(lambda: len(_points(view)) > 0)
    return True


def _note(
    rows: dict[str, list[dict[str, float]]], name: str, view: View, clock: _Clock, took: float
) -> None:
    row = {
        "points": view.shown.drawn,
        "query": clock.seconds[-1],
        "rest": took - clock.seconds[-1],
        "bytes": max(map(len, _points(view)), default=0),
    }
    rows.setdefault(name, []).append(row)


def _points(view: View) -> list[bytes]:
    messages: list[bytes] = list(view._stage.canvas.messages.values())
    return messages


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.005)


def notebook_growth(url: str) -> int:
    """Return by how many bytes a notebook grows that shows a view of up to a million points."""
    notebook = nbformat.v4.new_notebook()
    lines = (
        "import ngdata, time",
        f"ng = ngdata.connect({url!r})",
        "view = ng.view(color='token_type', points=1_000_000)",
        "view.widget",
        "view._stage._look()",
        "while view.shown.drawn < min(view.shown.total or 1_000_000, 1_000_000):",
        "    time.sleep(0.1)",
        "view",
    )
    notebook.cells = [nbformat.v4.new_code_cell("\n".join(lines))]
    before = len(nbformat.writes(notebook))
    NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
    assert "widgets" in notebook.metadata
    return len(nbformat.writes(notebook)) - before


def table(results: dict[str, dict[str, float]]) -> str:
    """Return the results as Markdown; what is left of a nearer look has 0.3 s of waiting for rest."""
    lines = [
        "| picture | tokens drawn | query ms | all else ms | largest message kB |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {row['points']:,.0f} | {row['query'] * 1000:.0f} | {row['rest'] * 1000:.0f}"
        f" | {row['bytes'] / 1000:.0f} |"
        for name, row in results.items()
    ]
    return "\n".join(lines)


def main(tokens: int = 1_000_000, home: str | None = None, turns: int = 3) -> str:
    """Fill a store, measure, print the table and return it."""
    with store.server(home) as addresses:
        url = store.filled(addresses.database_url, tokens, 0, 0)
        text = table(measured(url, turns))
        text += f"\n\na notebook with a view grows by {notebook_growth(url) / 1000:.0f} kB"
    print(text)
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--home", help="keep the filled store here between runs")
    arguments = parser.parse_args()
    main(arguments.tokens, arguments.home)
