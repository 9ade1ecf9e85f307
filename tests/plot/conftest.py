"""Frames to draw, which need no server: the sample's, and a reader of figures' JSON."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pandas as pd
import pytest

from ngdata._client.subgraph import Subgraph
from ngdata.datasets.sample import read_sample

ATTRS = {"level": 0, "unit": "µm"}


def as_frame(frame):
    frame = frame.reset_index(drop=True)
    frame.attrs["ngdata"] = dict(ATTRS)
    return frame


@pytest.fixture(scope="session")
def worm():
    """Return the 14,171 tokens of the sample, as a read of all of them returns them."""
    return as_frame(read_sample().tokens.drop(columns="metadata", errors="ignore"))


@pytest.fixture(scope="session")
def neurons():
    return as_frame(read_sample().neurons)


@pytest.fixture(scope="session")
def circuit(neurons):
    """Return 40 neurons and what connects them, some of it in both directions."""
    tokens = neurons.head(40)
    links = read_sample().connections
    links = links[links.source_id.isin(tokens.token_id) & links.target_id.isin(tokens.token_id)]
    links = links.reset_index(drop=True)
    return Subgraph(tokens, links.assign(bidirectional=np.arange(len(links)) % 3 == 0))


@pytest.fixture(scope="session")
def trajectory(neurons):
    """Return a walk from head to tail, in another order than that of time."""
    steps = neurons.sort_values("y").reset_index(drop=True)
    start = pd.Timestamp("2026-01-01", tz="UTC")
    steps = steps.assign(
        event_id=[f"event {n}" for n in range(len(steps))],
        timestamp=start + pd.to_timedelta(np.arange(len(steps)), unit="s"),
        reward=np.sin(np.arange(len(steps)) / 9),
        trajectory_id="00000000-0000-4000-8000-000000000001",
        sequence_number=np.arange(len(steps)),
    )
    return as_frame(steps.sample(frac=1, random_state=1))


def decoded(value):
    """Return what plotly wrote as base64 as arrays, and all else as it is."""
    if isinstance(value, dict):
        if set(value) >= {"bdata", "dtype"}:
            array = np.frombuffer(base64.b64decode(value["bdata"]), value["dtype"])
            return (
                array.reshape([int(n) for n in value["shape"].split(",")])
                if "shape" in value
                else array
            )
        return {name: decoded(item) for name, item in value.items()}
    return [decoded(item) for item in value] if isinstance(value, list) else value


def as_json(figure):
    """Return a figure as a browser gets it."""
    return decoded(json.loads(figure.to_json()))


def traces(figure, **options):
    """Return the traces of a figure's JSON with these values."""
    drawn = as_json(figure)["data"]
    return [trace for trace in drawn if all(trace.get(n) == v for n, v in options.items())]


def points_of(trace):
    return np.stack([np.asarray(trace[axis], float) for axis in "xyz"], axis=1)


def all_points(figure, mode="markers"):
    return np.concatenate(
        [points_of(trace) for trace in traces(figure, mode=mode)] or [np.empty((0, 3))]
    )


def as_set(points):
    return sorted(map(tuple, np.asarray(points, float).tolist()))


def hovers(trace):
    """Return what the mouse shows of each point of a trace, by name."""
    lines = trace["hovertemplate"].removesuffix("<extra></extra>").split("<br>")
    rows = []
    for n in range(len(trace["x"])):
        row = {}
        for line in lines:
            name, _, text = line.partition(": ")
            field = re.fullmatch(r"%\{(\w+)(?:\[(\d+)\])?(?::[^}]*)?\}(.*)", text)
            if field is not None:
                value = trace[field[1]][n]
                text = str(value if field[2] is None else value[int(field[2])]) + field[3]
            row[name] = text
        rows.append(row)
    return rows
