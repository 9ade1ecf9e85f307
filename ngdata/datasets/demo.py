"""The output of `ngdata demo`: the sample, loaded and then read from the store as frames, and a picture.

Each step says what it does before it does it, and then how long it took.  A second run finds the data
of the first, and prints the same but for the times.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from ngdata import _local
from ngdata._client.sync.client import Client
from ngdata._client.sync.connect import connect
from ngdata._config.settings import load_settings
from ngdata.datasets import demo_picture, load_celegans
from ngdata.errors import ConfigError, IntegrityError

__all__ = ["run"]

Point: TypeAlias = NDArray[np.float64]

_NEURON: Final = "neuron"
# Half the sides of the box, in micrometres.
_HALF_BOX: Final = (8.0, 2.0, 8.0)
_STEPS: Final = 6
# Enough of an id to distinguish it from others on a screen.
_SHORT_ID: Final = 8

_EXISTING_EVENTS: Final = (
    "SELECT id FROM experience.experience_events WHERE trajectory_id = $1::uuid LIMIT 1"
)

_console = Console(highlight=False, markup=False)


def run(picture: Path | None = None, *, show: bool = True) -> None:
    """Load the sample into the configured store, or the embedded one, print frames, and draw it.

    Parameters
    ----------
    picture : Path, optional
        The HTML file of the picture, by default ``ngdata-demo.html`` in the current directory.
    show : bool
        Open it in the browser if there is a screen.

    Raises
    ------
    ConfigError
        The file cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from ngdata.datasets.demo import run
    >>> with TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
    ...     run(Path(folder) / "worm.html", show=False)
    Connecting ...
    """
    with contextlib.ExitStack() as stack:
        ng = stack.enter_context(_connected())
        _say(repr(ng))
        with _step("Loading the nervous system of a worm, once: 14,171 tokens, 19,373 connections"):
            neurons = load_celegans(ng)
        _show_frames(ng, neurons.set_index("token_id"))
        _say("")
        _draw(ng, neurons, Path(demo_picture.FILE) if picture is None else picture, show)


def _say(text: str) -> None:
    _console.print(text, soft_wrap=True)


@contextlib.contextmanager
def _step(what: str) -> Iterator[None]:
    """Say what the body does, and then how long it took."""
    _say(f"{what} ...")
    start = time.monotonic()
    yield
    _say(f"    {time.monotonic() - start:.1f} s")


def _connected() -> Client:
    if load_settings().database_url is not None:
        how = "Connecting to the server that the settings name"
    elif _local.status().running:
        how = "Connecting to your private PostgreSQL and Redis, which run already"
    else:
        how = "Starting a private PostgreSQL and Redis: 10 seconds the first time, later 2"
    with _step(how):
        if load_settings().database_url is None:
            # Else `connect` says, after two seconds, what is said here.
            _local.up()
        return connect()


def _draw(ng: Client, neurons: pd.DataFrame, path: Path, show: bool) -> None:
    """Draw the worm, and show it."""
    if not demo_picture.can_draw():
        _say("For a picture of the worm, run this, and the demo again: pip install 'ngdata[plot]'")
        return
    path = path.absolute()
    with _step("Drawing the worm"):
        try:
            demo_picture.write(ng, neurons, path)
        except OSError as error:
            raise ConfigError(
                f"the picture cannot be written to {path}: {error.strerror}; name another file: "
                "ngdata demo --picture FILE"
            ) from None
    if show and demo_picture.show(path):
        _say(f"The worm is in your browser, and turns; its file: {path}")
    else:
        _say(f"Open this file in a browser, where the worm turns: {path}")


def _show_frames(ng: Client, neurons: pd.DataFrame) -> None:
    """Print what reads of each kind return."""
    _say("")
    _say("Read from the store as frames; a token is a neuron, and ids are cut to 8 characters.")
    _show(
        "The nervous system of C. elegans, connections by type",
        ng.graph.connections(neurons.index, neurons.index)
        .groupby("connection_type", as_index=False)
        .agg(connections=("weight", "size"), synapses=("weight", "sum")),
    )
    degrees = ng.graph.get_degree(neurons.index)
    start = degrees.token_id.iloc[degrees.total_degree.to_numpy().argmax()]
    name = neurons.neuron[start]
    point = neurons.loc[start, ["x", "y", "z"]].to_numpy(np.float64)
    around = f"around {name}, the one with the most connections"
    _show(
        f"tokens.find_in_region: neurons in a box {around}",
        _region(ng, point - _HALF_BOX, point + _HALF_BOX, neurons),
    )
    _show(
        f"tokens.find_nearest: the neurons nearest to ({', '.join(f'{p:g}' for p in point)})",
        _nearest(ng, point, neurons),
    )
    neighborhood = _neighborhood(ng, start, neurons)
    _show(
        f"graph.get_neighbors: the first of {len(neighborhood)} neurons after {name}, by their "
        "number of chemical synapses",
        neighborhood.head(8),
    )
    walk = _recorded_walk(ng, start, neurons)
    _show(
        f"experience.get_events: a signal from {name} by the strongest connections; reward: their share",
        walk[["sequence_number", "timestamp", "neuron", "action", "state_after", "reward"]],
    )


def _show(title: str, frame: pd.DataFrame) -> None:
    _console.print()
    _console.print(title, style="bold", soft_wrap=True)
    shown = frame.copy()
    for column in shown.columns[shown.columns.str.endswith("_id")]:
        shown[column] = shown[column].str[:_SHORT_ID]
    if "timestamp" in shown:
        shown["timestamp"] = shown.timestamp.dt.strftime("%H:%M:%S.%f")
    text = shown.to_string(index=False, float_format=lambda value: f"{value:g}", max_colwidth=32)
    _console.print(text, soft_wrap=True)


def _with_names(rows: pd.DataFrame, neurons: pd.DataFrame, token: str = "token_id") -> pd.DataFrame:
    return rows.join(neurons[["neuron", "cell_type"]], on=token)


def _region(ng: Client, low: Point, high: Point, neurons: pd.DataFrame) -> pd.DataFrame:
    tokens = ng.tokens.find_in_region(low, high, token_type=_NEURON)
    columns = ["token_id", "neuron", "x", "y", "z", "cell_type"]
    return _with_names(tokens, neurons).sort_values(["y", "x"])[columns]


def _nearest(ng: Client, point: Point, neurons: pd.DataFrame) -> pd.DataFrame:
    tokens = ng.tokens.find_nearest(point, k=5, token_type=_NEURON)
    return _with_names(tokens, neurons)[["token_id", "neuron", "x", "y", "z", "distance"]]


def _neighborhood(ng: Client, start: str, neurons: pd.DataFrame) -> pd.DataFrame:
    neighbors = ng.graph.get_neighbors(start, connection_type="chemical")
    neighbors = _with_names(neighbors, neurons, "neighbor_id").sort_values(
        ["weight", "neuron"], ascending=[False, True]
    )
    return neighbors[["neighbor_id", "neuron", "connection_type", "weight", "cell_type"]]


def _recorded_walk(ng: Client, start: str, neurons: pd.DataFrame) -> pd.DataFrame:
    """Return the events of the walk, after recording them if they are missing."""
    trajectory = uuid.uuid5(uuid.UUID(start), "ngdata demo")
    # Not by `get_events`, which warns that a new store holds none.
    if ng.sql(_EXISTING_EVENTS, [trajectory]).empty:
        # A concurrent demo records the same events, which serve as well.
        with contextlib.suppress(IntegrityError):
            ng.experience.bulk_create(_walk(ng, start, neurons, trajectory))
    return _with_names(ng.experience.get_events(trajectory_id=trajectory), neurons)


def _walk(ng: Client, start: str, neurons: pd.DataFrame, trajectory: uuid.UUID) -> pd.DataFrame:
    """Return the events of a walk along the strongest chemical synapses to unvisited neurons."""
    start_time = dt.datetime.now(dt.UTC)
    events, visited = [], [start]
    for step in range(_STEPS):
        neuron = visited[-1]
        neighbors = ng.graph.get_neighbors(neuron, connection_type="chemical")
        ids = neighbors.neighbor_id
        unvisited = ids.isin(neurons.index) & ~ids.isin(visited)
        if not unvisited.any():
            break
        strongest = neighbors.weight.where(unvisited, -np.inf).to_numpy().argmax()
        target, weight = ids.iloc[strongest], neighbors.weight.iloc[strongest]
        events.append(
            {
                "event_id": uuid.uuid5(trajectory, str(step)),
                "event_type": "signal",
                "timestamp": start_time + dt.timedelta(milliseconds=step),
                "token_id": neuron,
                "state_before": {"at": neurons.neuron[neuron]},
                "state_after": {"at": neurons.neuron[target]},
                "action": {"synapses": int(weight)},
                # The share of this neuron's synapses that lead to the target.
                "reward": round(weight / neighbors.weight.sum(), 3),
                "trajectory_id": trajectory,
                "sequence_number": step,
            }
        )
        visited.append(target)
    return pd.DataFrame(events)
