"""`ngdata.datasets`: the sample is loaded as published, and repeated loads add nothing."""

import subprocess
import sys
import threading
import warnings
import zipfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ngdata
from ngdata.datasets import load_celegans, load_celegans_async
from ngdata.errors import InvalidQueryError
from tests.conftest import with_texts

ROOT = Path(__file__).parents[2]
FILES = files("ngdata.datasets") / "celegans"
EVERYWHERE = ([-np.inf] * 3, [np.inf] * 3)


def published(name: str) -> pd.DataFrame:
    return with_texts(pd.read_csv(str(FILES / name)))


def contents(ng: ngdata.Client) -> tuple[pd.DataFrame, pd.DataFrame]:
    tokens = ng.tokens.find_in_region(*EVERYWHERE).sort_values("token_id", ignore_index=True)
    edges = ng.graph.connections().sort_values("connection_id", ignore_index=True)
    return tokens, edges


def assert_same(one: tuple[pd.DataFrame, ...], other: tuple[pd.DataFrame, ...]) -> None:
    for a, b in zip(one, other, strict=True):
        pd.testing.assert_frame_equal(a, b)


def test_neurons_are_as_published(celegans):
    neurons = load_celegans(celegans)
    loaded = neurons.drop(columns="token_id")[published("neurons.csv").columns]
    pd.testing.assert_frame_equal(loaded, published("neurons.csv"))
    whole = celegans.tokens.get(neurons.token_id, columns=["token_type", "coords", "metadata"])
    assert (whole.token_type == "neuron").all()
    assert np.array_equal(np.stack(whole.coords)[:, 0], neurons[["x", "y", "z"]])
    assert np.isnan(np.stack(whole.coords)[:, 1:]).all()
    keys = ["neuron", "cell_type", "classification", "diameter"]
    assert whole.metadata.tolist() == neurons[keys].to_dict("records")


def test_segments_are_as_published(celegans):
    segments = published("segments.csv.gz")
    tokens = celegans.tokens.find_in_region(*EVERYWHERE, token_type="segment")
    whole = celegans.tokens.get(tokens.token_id, columns=["token_id", "metadata"])
    metadata = with_texts(pd.DataFrame(whole.metadata.tolist()))
    points = pd.concat([metadata, tokens[["x", "y", "z"]]], axis=1)
    points = points.sort_values(["neuron", "segment"], ignore_index=True)
    expected = segments.sort_values(["neuron", "segment"], ignore_index=True)
    pd.testing.assert_frame_equal(
        points[expected.columns.drop("parent_segment")], expected.drop(columns="parent_segment")
    )

    place = metadata.assign(token_id=whole.token_id).set_index("token_id")
    links = celegans.graph.connections(connection_type="parent")
    assert (place.neuron[links.source_id].array == place.neuron[links.target_id].array).all()
    parents = set(
        zip(
            place.neuron[links.source_id],
            place.segment[links.source_id],
            place.segment[links.target_id],
            strict=True,
        )
    )
    children = segments.dropna(subset="parent_segment")
    assert parents == set(
        zip(children.neuron, children.segment, children.parent_segment, strict=True)
    )
    assert len(links) == len(children) == len(segments) - 302


def test_connections_are_as_published(celegans):
    name = load_celegans(celegans).set_index("token_id").neuron
    edges = celegans.graph.connections(connection_type=["chemical", "electrical"])
    assert not edges.bidirectional.any()
    loaded = pd.DataFrame(
        {
            "source": edges.source_id.map(name),
            "target": edges.target_id.map(name),
            "connection_type": edges.connection_type,
            "weight": edges.weight.astype(int),
        }
    )
    columns = loaded.columns.tolist()
    pd.testing.assert_frame_equal(
        loaded.sort_values(columns, ignore_index=True),
        published("connections.csv").sort_values(columns, ignore_index=True),
        check_dtype=False,
    )


def test_second_load_writes_nothing(ng):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = load_celegans(ng)
    before = contents(ng)
    pd.testing.assert_frame_equal(load_celegans(ng), first)
    assert_same(contents(ng), before)


def test_missing_rows_are_written_again_and_changed_rows_stay(ng):
    neurons = load_celegans(ng)
    tokens, edges = contents(ng)
    changed_id, deleted = neurons.token_id[0], neurons.token_id[1:20]
    ng.tokens.update(changed_id, token_type="mine", coords={0: (1, 2, 3)})
    mine = ng.graph.create_connection(changed_id, changed_id, "mine")
    assert ng.tokens.delete(deleted) == 19
    assert len(contents(ng)[1]) < len(edges)

    load_celegans(ng)
    after, connected = contents(ng)
    changed = after[after.token_id == changed_id]
    assert changed[["x", "y", "z", "token_type"]].values.tolist() == [[1, 2, 3, "mine"]]
    written = ["token_id", "x", "y", "z", "token_type"]
    pd.testing.assert_frame_equal(
        after.loc[after.token_id != changed_id, written],
        tokens.loc[tokens.token_id != changed_id, written],
    )
    connected = connected[connected.connection_id != mine].reset_index(drop=True)
    pd.testing.assert_frame_equal(connected, edges)


def test_concurrent_loads_all_succeed(ng, database_url):
    together = threading.Barrier(3)
    counts = []

    def load() -> None:
        with ngdata.connect(database_url) as client:
            together.wait()
            counts.append(len(load_celegans(client)))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [302] * 3
    tokens, edges = contents(ng)
    assert len(tokens) == 302 + 13_869
    assert len(edges) == 5_806 + 13_567


def test_the_error_for_the_wrong_client_names_the_right_function(ng):
    with pytest.raises(InvalidQueryError, match="await load_celegans_async"):
        load_celegans(ng._wrapped)
    with pytest.raises(InvalidQueryError, match=r"call load_celegans\(ng\)"):
        ng._loop.run(load_celegans_async(ng))


def test_the_wheel_includes_the_files_and_their_licence(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.iterdir()
    included = set(zipfile.ZipFile(wheel).namelist())
    shipped = {f"ngdata/datasets/celegans/{path.name}" for path in FILES.iterdir()}
    assert len(shipped) == 5
    assert shipped <= included
