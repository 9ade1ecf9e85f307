"""Draw docs/images/worm.png, the picture of README.md: the sample in 3D, seen from the side.

    python scripts/readme_picture.py

Lines are the shapes of the neurons, points their cell bodies, and arcs the chemical connections of one
command neuron.  Needs matplotlib, and no server.
"""

from __future__ import annotations

import io
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image

from ngdata.datasets.sample import read_sample

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection

__all__ = ["draw", "main"]

PICTURE: Final = Path(__file__).resolve().parent.parent / "docs" / "images" / "worm.png"
HUB: Final = "AVAL"
COLORS: Final = {"sensory": "#5ec8f2", "inter": "#b18cf2", "motor": "#f7a35c"}
ARCS: Final = "#ffffff"
BACKGROUND: Final = "#10141f"

# Seen from the side and slightly from above: how far x and z move a point to the right and up.
_RIGHT: Final = np.array([0.35, 1.0, 0.0])
_UP: Final = np.array([0.55, 0.0, 1.0])


def _kind(cell_type: str) -> str:
    words = cell_type.lower()
    return "motor" if "motor" in words else "inter" if "interneuron" in words else "sensory"


def _projected(places: pd.DataFrame) -> np.ndarray:
    points = places[["x", "y", "z"]].to_numpy()
    return np.column_stack([points @ _RIGHT, points @ _UP])


def _lines(axes: Any, ends: np.ndarray, colors: Any, widths: Any, alpha: float) -> None:
    axes.add_collection(
        LineCollection(list(ends), colors=colors, linewidths=widths, alpha=alpha, capstyle="round")
    )


def _arcs(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return a parabola over each pair of points, the higher the further they are apart."""
    way = np.linspace(0, 1, 40)[None, :, None]
    curves = starts[:, None] * (1 - way) + ends[:, None] * way
    length = np.abs(ends - starts)[:, :1]
    curves[..., 1] += 4 * way[..., 0] * (1 - way[..., 0]) * 0.16 * length
    return curves


def draw(path: Path) -> None:
    """Draw the picture into a file."""
    sample = read_sample()
    neurons = sample.neurons.set_index("neuron")
    kind = neurons.cell_type.map(_kind)
    tokens = sample.tokens.set_index("token_id")
    place = pd.DataFrame(_projected(tokens), tokens.index)

    figure = plt.figure(figsize=(16, 5), facecolor=BACKGROUND)
    axes = figure.add_axes((0, 0, 1, 1), facecolor=BACKGROUND)
    axes.set_axis_off()
    axes.set_aspect("equal")

    shapes = sample.connections[sample.connections.connection_type == "parent"]
    of_neuron = tokens.metadata.map(itemgetter("neuron"))[shapes.target_id]
    ends = np.stack([place.loc[shapes.source_id], place.loc[shapes.target_id]], axis=1)
    _lines(axes, ends, of_neuron.map(kind).map(COLORS).to_numpy(), 0.7, 0.55)

    bodies = place.loc[neurons.token_id].to_numpy()
    area = 8 + 5 * neurons.diameter.to_numpy() ** 1.5
    colors = kind.map(COLORS).to_numpy()
    x, y = bodies.T
    axes.scatter(x, y, s=area * 3.5, c=colors, alpha=0.12, linewidths=0)
    axes.scatter(x, y, s=area, c=colors, alpha=0.95, linewidths=0, zorder=3)

    synapses = sample.connections[
        (sample.connections.source_id == neurons.token_id[HUB])
        & (sample.connections.connection_type == "chemical")
    ]
    curves = _arcs(
        place.loc[synapses.source_id].to_numpy(), place.loc[synapses.target_id].to_numpy()
    )
    _lines(axes, curves, ARCS, 0.4 + synapses.weight.to_numpy() / 12, 0.5)

    legend = {
        "sensory neurons": COLORS["sensory"],
        "interneurons": COLORS["inter"],
        "motor neurons": COLORS["motor"],
        f"chemical connections of {HUB}": ARCS,
    }
    for line, (label, color) in enumerate(legend.items()):
        height = 0.25 - 0.06 * line
        axes.text(0.03, height, label, color=color, size=14, transform=axes.transAxes)

    low, high = place.min().to_numpy(), np.maximum(place.max().to_numpy(), curves.max((0, 1)))
    axes.set_xlim(low[0] - 12, high[0] + 12)
    axes.set_ylim(low[1] - 12, high[1] + 12)
    axes.plot(high[0] - np.array([112, 12]), np.full(2, low[1] + 1), color=ARCS, alpha=0.6)
    axes.text(high[0] - 62, low[1] + 5, "100 µm", color=ARCS, alpha=0.8, size=13, ha="center")
    figure.savefig(file := io.BytesIO(), dpi=90, facecolor=BACKGROUND)
    plt.close(figure)
    # A palette makes the file a third as large.
    Image.open(file).convert("RGB").quantize(96).save(path, optimize=True)


def main() -> None:
    """Draw the picture."""
    PICTURE.parent.mkdir(exist_ok=True)
    draw(PICTURE)


if __name__ == "__main__":
    main()
