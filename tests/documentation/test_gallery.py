"""The gallery: its programs show what pandas, networkx and NumPy say, and leave the store as it was."""

import ast
import re
import runpy
import sys
from collections import Counter
from pathlib import Path

import gymnasium
import networkx
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import ngdata
from scripts.draw_gallery import EXPRESSIONS, figures
from tests.conftest import empty

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
PAGE = (ROOT / "docs" / "gallery.md").read_text()
POINTS = 5000
MOST_LINES = 25
ROWS_AND_UNITS = """
    SELECT (SELECT count(*) FROM tokens.tokens)
         + (SELECT count(*) FROM graph.connections)
         + (SELECT count(*) FROM experience.experience_events)
         + (SELECT count(*) FROM experience.experience_trajectories)
         + (SELECT count(*) FROM tokens.levels WHERE unit IS NOT NULL) AS n
"""


@pytest.fixture(scope="module")
def store(server):
    # The programs connect to the embedded database.
    empty(server.database_url)
    with ngdata.connect(server.database_url) as client:
        yield client


def source(name):
    """Return a program without its docstring."""
    return (EXAMPLES / f"{name}.py").read_text().split('"""\n', 2)[-1].strip()


def user_lines(text):
    imported = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for line in range(node.lineno, node.end_lineno + 1)
    }
    lines = enumerate(map(str.strip, text.splitlines()), 1)
    return [line for n, line in lines if line and line[0] != "#" and n not in imported]


@pytest.fixture
def run(store, capsys, monkeypatch):
    """Run a program twice; return its variables and what it printed, which the page shows."""

    def program(name):
        shown = re.search(
            rf"\(examples/{name}\.py\).*?^```py\n(.*?)^```\n\n```text\n(.*?)^```", PAGE, re.M | re.S
        )
        assert shown[1].strip() == source(name)
        assert len(user_lines(source(name))) <= MOST_LINES
        monkeypatch.setattr(sys, "argv", [name, *([str(POINTS)] if name == "point_cloud" else [])])
        for _ in range(2):
            variables = runpy.run_path(str(EXAMPLES / f"{name}.py"))
            printed = capsys.readouterr().out
            assert [line.rstrip() for line in printed.splitlines()] == shown[2].splitlines()
            assert store.sql(ROWS_AND_UNITS).n[0] == 0
        return variables, printed

    return program


def test_neuron(run):
    program, printed = run("neuron")
    nodes, synapses = program["nodes"], program["synapses"]
    links = nodes[nodes.parent > 0]
    tree = networkx.DiGraph(zip(links.parent, links.token_id, strict=True))
    depths = program["tree"].tokens.set_index("token_id").depth
    assert depths.to_dict() == networkx.single_source_shortest_path_length(tree, 1)
    places = nodes.set_index("token_id")[["x", "y", "z"]]
    steps = places.loc[links.token_id].to_numpy() - places.loc[links.parent].to_numpy()
    length = np.sqrt((steps**2).sum(axis=1)).sum() * 8 / 1000
    assert f"with {length:.0f} µm" in printed
    from_point = np.linalg.norm(synapses[["x", "y", "z"]] - [5600, 22200, 15900], axis=1)
    expected = synapses[from_point <= 1000]
    kinds = program["near"][["token_type", "metadata.roi"]].value_counts()
    assert kinds.to_dict() == expected[["token_type", "roi"]].value_counts().to_dict()
    np.testing.assert_array_equal(program["near"].distance, np.sort(from_point)[: len(expected)])
    assert program["place"].token_id[0] == 6


def test_novel(run):
    program, _ = run("novel")
    novel = networkx.les_miserables_graph()
    known = program["known"].set_index("metadata.name").weight
    valjean = novel["Valjean"].items()
    assert known.to_dict() == {name: e["weight"] for name, e in valjean if e["weight"] >= 12}
    assert len(program["way"]) == networkx.shortest_path_length(novel, "Napoleon", "Gavroche")
    first = program["together"].iloc[0]
    novel.edges[first.source, first.target]["weight"] = 2
    novel.remove_edge("Napoleon", "Myriel")
    again = networkx.Graph(program["again"])
    assert {*again} == {*novel}
    for here, there, weight in again.edges(data="weight"):
        assert novel.edges[here, there]["weight"] == weight
    assert again.number_of_edges() == novel.number_of_edges()


def test_flights(run):
    program, printed = run("flights")
    flights = program["flights"]
    fields = ["year", "month", "day", "dep_time"]
    when = pd.Series(
        [
            pd.Timestamp(year, month, day, *divmod(clock, 100), tz="America/New_York")
            for year, month, day, clock in flights[fields].astype(int).values.tolist()
        ],
        flights.index,
    )
    assert Counter(program["events"].timestamp) == Counter(when.dt.tz_convert("UTC"))
    fixed = flights.assign(dep_delay=flights.dep_delay.replace(300, 30), date=when.dt.date)
    # The hours of the schedule, which are in UTC, agree with the local times of the departures.
    scheduled = when.dt.tz_convert("UTC") - pd.to_timedelta(fixed.dep_delay, "min")
    assert (scheduled.dt.floor("h") == pd.to_datetime(fixed.time_hour)).all()
    before = flights.assign(date=fixed.date).groupby("date").dep_delay.agg(["size", "sum"])
    after = fixed.drop_duplicates().groupby("date").dep_delay.agg(["size", "sum"])
    rows = re.findall(r"^\d +(\S+) .*?(\d+) +(\S+) +\S+$", printed, re.M)
    assert [(day, int(n), float(total)) for day, n, total in rows] == [
        (str(day), n, total) for frame in (before, after) for day, n, total in frame.itertuples()
    ]
    by_airport = flights.groupby("origin").dep_delay.agg(["size", "mean"])
    busy = program["busy"].set_index("metadata.faa")[["event_count", "mean_reward"]]
    np.testing.assert_allclose(busy.loc[by_airport.index], by_airport)


def test_point_cloud(run):
    program, printed = run("point_cloud")
    points = program["points"]
    inside = points[(np.abs(points) <= 20_000).all(axis=1)]
    np.testing.assert_array_equal(
        np.sort(program["core"][["x", "y", "z"]], axis=0), np.sort(inside, axis=0)
    )
    counts, _ = np.histogramdd(inside, bins=(2, 2, 1), range=[(-20_000, 20_000)] * 3)
    shown = re.findall(r"^\d +-?10000.0 .* (\d+)$", printed, re.M)
    assert list(map(int, shown)) == counts.ravel().astype(int).tolist()
    near = np.linalg.norm(points / 1000, axis=1)
    np.testing.assert_allclose(program["near"].distance, np.sort(near[near <= program["RADIUS"]]))


def test_cart_pole(run):
    program, _ = run("cart_pole")
    environment = gymnasium.make("CartPole-v1", max_episode_steps=200)
    returns = []
    for number in range(len(program["EPISODES"])):
        state, _ = environment.reset(seed=number)
        total, over = 0.0, False
        while not over:
            state, reward, fallen, late, _ = environment.step(
                int(state[2] + number / 100 * state[3] > 0)
            )
            total, over = total + reward, fallen or late
        returns.append(total)
    assert program["episodes"].total_reward.tolist() == returns
    best = program["best"]
    assert best["state_after.angle"].iloc[-1] == pytest.approx(float(state[2]))
    assert best.cumulative_reward.iloc[-1] == pytest.approx(sum(0.9**n for n in range(len(best))))
    assert program["worst"] == program["EPISODES"][int(np.argmin(returns))]


def test_pictures(run):
    program, _ = run("pictures")
    worm, degrees = program["worm"], program["degrees"]
    points = {name: _points(figure) for name, figure in program["figures"].items()}
    assert sorted(points["worm"]) == sorted(map(tuple, worm[["x", "y", "z"]].to_numpy()))
    counts, _ = np.histogramdd(worm[["x", "y", "z"]].to_numpy(), bins=(8, 40, 8))
    assert len(points["density"]) == (counts > 0).sum()
    assert sorted(points["withdrawal"]) == sorted(map(tuple, degrees[["x", "y", "z"]].to_numpy()))
    # The line, its start and its end.
    assert len(points["way"]) == len(program["way"]) + 2
    pictures = set(re.findall(r"\(pictures/(\w+)\.png\)", PAGE))
    assert pictures == {*program["figures"], *EXPRESSIONS}
    assert pictures == {path.stem for path in (ROOT / "docs" / "pictures").iterdir()}


def _points(figure):
    marked = [trace for trace in figure.data if "markers" in trace.mode]
    return [point for t in marked for point in zip(t.x, t.y, t.z, strict=True)]


def test_cells(run):
    program, _ = run("cells")
    expected = pd.read_csv(EXAMPLES / "data" / "cells.csv").set_index("root_id")
    expected["soma_z"] = expected.soma_z.abs()
    fixed = program["fixed"].set_index("token_id").loc[expected.index]
    assert fixed.token_type.tolist() == expected.cell_type.str.replace("Pn", "PN").tolist()
    np.testing.assert_array_equal(fixed[["x", "y", "z"]], expected[["soma_x", "soma_y", "soma_z"]])
    for metadata, row in zip(fixed.metadata, expected.itertuples(), strict=True):
        rest = {"side": row.side, "nucleus_um3": row.nucleus_um3, "checked": row.checked}
        assert metadata == {key: value for key, value in rest.items() if value == value}


def test_each_data_set_has_its_picture():
    for name, expression in EXPRESSIONS.items():
        shown = re.search(
            rf"\(pictures/{name}\.png\)\n\nThe picture is `(.*)`, after the program\.\n\n"
            rf"\[examples/{name}\.py\]",
            PAGE,
        )
        assert shown[1] == expression
    drawn = {path.stem: path for path in (ROOT / "docs" / "pictures").glob("*.png")}
    assert set(re.findall(r"\(pictures/(\w+)\.png\)", PAGE)) == drawn.keys()
    for path in drawn.values():
        with Image.open(path) as image:
            assert image.width == 760
            # Something is drawn: more than a background and its text.
            assert len(image.convert("RGBA").getcolors(100_000)) > 20


def test_the_expressions_of_the_pictures_draw(store, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["point_cloud", str(POINTS)])
    titles = {name: figure.layout.title.text for name, figure in figures().items()}
    assert titles.keys() >= EXPRESSIONS.keys()
    nodes = pd.read_csv(EXAMPLES / "data" / "722817260.swc.gz", comment="#", header=None)
    synapses = pd.read_csv(EXAMPLES / "data" / "722817260.csv.gz")
    assert titles["neuron"] == f"{len(nodes) + len(synapses):,} tokens"
    assert titles["novel"] == "77 tokens, 254 connections"
    assert all(titles.values())
