"""The results as pictures for docs/performance.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from benchmarks.measure import Timings

__all__ = ["bars", "large_bars"]


def _axes(height: float) -> tuple[Any, Any]:
    figure, axes = plt.subplots(figsize=(8, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _colour(way: str) -> str:
    return (
        "tab:grey" if way.startswith("floor") else "tab:blue" if "ngdata" in way else "tab:orange"
    )


def bars(rows: int, timings: Timings, path: Path) -> None:
    """Draw the time of each method for one region, on a logarithmic scale."""
    ways = list(timings.seconds)
    figure, axes = _axes(0.35 * len(ways) + 1)
    values = [timings.median(way) for way in ways]
    drawn = axes.barh(ways, values, color=[_colour(way) for way in ways])
    axes.bar_label(drawn, [f" {value:.3g}" for value in values])
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel(f"ms for {rows:,} rows, to what one goes on to work with")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def large_bars(results: dict[int, tuple[int, Timings]], path: Path) -> None:
    """Draw each method's time as a multiple of the one-stream floor, by the size of the answer."""
    sizes = [rows for rows, _ in results.values()]
    ways = list(next(iter(results.values()))[1].seconds)
    figure, axes = _axes(3.6)
    width = 0.8 / len(ways)
    colours = ("tab:grey", "lightgrey", "lightskyblue", "tab:blue")
    for place, (way, colour) in enumerate(zip(ways, colours, strict=True)):
        values = [timings.ratio(way, ways[0]) for _, timings in results.values()]
        at = [n + (place - (len(ways) - 1) / 2) * width for n in range(len(sizes))]
        axes.bar_label(
            axes.bar(at, values, width, label=way, color=colour),
            [f"{value:.2f}" for value in values],
            fontsize=8,
        )
    axes.set_xticks(range(len(sizes)), [f"{rows:,} rows" for rows in sizes])
    axes.set_ylabel("times the floor")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)
