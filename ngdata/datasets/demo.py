"""What `ngdata demo` shows: the sample, loaded and read as frames; all that it prints it has read.

A second run finds what the first one wrote, and shows the same.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import uuid
from typing import Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from ngdata._client.sync.client import Client
from ngdata._client.sync.connect import connect
from ngdata.datasets import load_celegans
from ngdata.errors import IntegrityError

__all__ = ["run"]

Point: TypeAlias = NDArray[np.float64]

_NEURON: Final = "neuron"
# Half the sides of the box, in micrometres.
_AROUND: Final = (8.0, 2.0, 8.0)
_STEPS: Final = 6
# As much of an id as tells it from others on a screen.
_SHORT_ID: Final = 8

_console = Console(highlight=False, markup=False)


def run() -> None:
    """Load the sample into the configured store, or the embedded one, and print frames of it.

    Examples
    --------
    >>> from ngdata.datasets.demo import run
    >>> run()  # doctest: +ELLIPSIS
    <Client of ..., open>
    ...
    """
    with connect() as ng:
        _console.print(repr(ng), soft_wrap=True)
        neurons = load_celegans(ng).set_index("token_id")
        _say(
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
        _say(
            f"tokens.find_in_region: neurons in a box {around}",
            _region(ng, point - _AROUND, point + _AROUND, neurons),
        )
        _say(
            f"tokens.find_nearest: the neurons nearest to ({', '.join(f'{p:g}' for p in point)})",
            _nearest(ng, point, neurons),
        )
        neighborhood = _neighborhood(ng, start, neurons)
        _say(
            f"graph.get_neighbors: the first of {len(neighborhood)} neurons after {name}, by their "
            "number of chemical synapses",
            neighborhood.head(8),
        )
        walk = _recorded_walk(ng, start, neurons)
        _say(
            f"experience.get_events: a signal that leaves {name} by its strongest synapse",
            walk[["sequence_number", "timestamp", "neuron", "action", "state_after", "reward"]],
        )


def _say(title: str, frame: pd.DataFrame) -> None:
    _console.print()
    _console.print(title, style="bold", soft_wrap=True)
    shown = frame.copy()
    for column in shown.columns[shown.columns.str.endswith("_id")]:
        shown[column] = shown[column].str[:_SHORT_ID]
    if "timestamp" in shown:
        shown["timestamp"] = shown.timestamp.dt.strftime("%H:%M:%S.%f")
    text = shown.to_string(index=False, float_format=lambda value: f"{value:g}", max_colwidth=32)
    _console.print(text, soft_wrap=True)


def _named(rows: pd.DataFrame, neurons: pd.DataFrame, token: str = "token_id") -> pd.DataFrame:
    return rows.join(neurons[["neuron", "cell_type"]], on=token)


def _region(ng: Client, least: Point, most: Point, neurons: pd.DataFrame) -> pd.DataFrame:
    found = ng.tokens.find_in_region(least, most, token_type=_NEURON)
    columns = ["token_id", "neuron", "x", "y", "z", "cell_type"]
    return _named(found, neurons).sort_values(["y", "x"])[columns]


def _nearest(ng: Client, point: Point, neurons: pd.DataFrame) -> pd.DataFrame:
    found = ng.tokens.find_nearest(point, k=5, token_type=_NEURON)
    return _named(found, neurons)[["token_id", "neuron", "x", "y", "z", "distance"]]


def _neighborhood(ng: Client, start: str, neurons: pd.DataFrame) -> pd.DataFrame:
    found = ng.graph.get_neighbors(start, connection_type="chemical")
    named = _named(found, neurons, "neighbor_id").sort_values(
        ["weight", "neuron"], ascending=[False, True]
    )
    return named[["neighbor_id", "neuron", "connection_type", "weight", "cell_type"]]


def _recorded_walk(ng: Client, start: str, neurons: pd.DataFrame) -> pd.DataFrame:
    """Read the events of the walk, recorded first if they are not there."""
    trajectory = uuid.uuid5(uuid.UUID(start), "ngdata demo")
    events = ng.experience.get_events(trajectory_id=trajectory)
    if events.empty:
        # Another demo at the same moment records the same events; theirs do as well.
        with contextlib.suppress(IntegrityError):
            ng.experience.bulk_create(_walk(ng, start, neurons, trajectory))
        events = ng.experience.get_events(trajectory_id=trajectory)
    return _named(events, neurons)


def _walk(ng: Client, start: str, neurons: pd.DataFrame, trajectory: uuid.UUID) -> pd.DataFrame:
    """Follow the strongest chemical synapse to a neuron that was not visited yet, step by step."""
    began = dt.datetime.now(dt.UTC)
    events, visited = [], [start]
    for step in range(_STEPS):
        here = visited[-1]
        ways = ng.graph.get_neighbors(here, connection_type="chemical")
        known = ways.neighbor_id.isin(neurons.index) & ~ways.neighbor_id.isin(visited)
        if not known.any():
            break
        place = ways.weight.where(known, -np.inf).to_numpy().argmax()
        there, weight = ways.neighbor_id.iloc[place], ways.weight.iloc[place]
        events.append(
            {
                "event_id": uuid.uuid5(trajectory, str(step)),
                "event_type": "signal",
                "timestamp": began + dt.timedelta(milliseconds=step),
                "token_id": here,
                "state_before": {"at": neurons.neuron[here]},
                "state_after": {"at": neurons.neuron[there]},
                "action": {"synapses": int(weight)},
                # The share of this neuron's synapses that go this way.
                "reward": round(weight / ways.weight.sum(), 3),
                "trajectory_id": trajectory,
                "sequence_number": step,
            }
        )
        visited.append(there)
    return pd.DataFrame(events)
