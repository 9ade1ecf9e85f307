"""Graphs, densities, paths and rewards against their frames."""

import numpy as np
import pandas as pd
import pytest

from ngdata import plot
from ngdata._client.subgraph import Subgraph
from ngdata.errors import InvalidQueryError
from tests.plot.conftest import all_points, as_json, as_set, hovers, points_of, traces

XYZ = ["x", "y", "z"]


def lines_of(trace):
    """Return the lines of a trace, between its gaps; not its circles, which have more points."""
    points = points_of(trace)
    ends = np.flatnonzero(np.isnan(points).any(axis=1))
    return [line for line in np.split(points, ends) if np.isfinite(line).all(axis=1).sum() == 2]


def loops_of(trace):
    """Return the circles of a trace, between its gaps."""
    points = points_of(trace)
    lines = np.split(points, np.flatnonzero(np.isnan(points).any(axis=1)))
    finite = [line[np.isfinite(line).all(axis=1)] for line in lines]
    return [line for line in finite if len(line) > 2]


def ends_of(figure, kind):
    """Return the first and last point of each thin line."""
    thin = [t for t in traces(figure, mode="lines") if kind in t["name"] and t["showlegend"]]
    lines = [line[np.isfinite(line).all(axis=1)] for t in thin for line in lines_of(t)]
    return as_set([np.concatenate([line[0], line[-1]]) for line in lines])


def expected_ends(subgraph, is_both):
    places = subgraph.tokens.set_index("token_id")[XYZ]
    links = subgraph.connections[subgraph.connections.bidirectional == is_both]
    links = links[links.source_id != links.target_id]
    return as_set(
        np.concatenate([places.loc[links.source_id], places.loc[links.target_id]], axis=1)
    )


def test_a_graph_draws_every_token_and_connection(circuit):
    figure = plot.graph(circuit, color="classification")
    assert as_set(all_points(figure)) == as_set(circuit.tokens[XYZ])
    links = circuit.connections
    loops = links[links.source_id == links.target_id]
    drawn = [loop[0] for trace in traces(figure, mode="lines") for loop in loops_of(trace)]
    places = circuit.tokens.set_index("token_id")[XYZ]
    assert len(drawn) > 0
    assert as_set(drawn) == as_set(places.loc[loops.source_id])
    for kind, is_both in (("directed", False), ("bidirectional", True)):
        drawn = ends_of(figure, kind) if is_both else ends_of(figure, "directed (")
        assert drawn == expected_ends(circuit, is_both)
    tokens, links = len(circuit.tokens), len(circuit.connections)
    assert figure.layout.title.text == f"{tokens} tokens, {links} connections, physical level"


def test_directions_are_told_apart(circuit):
    figure = plot.graph(circuit)
    names = {t["name"] for t in traces(figure, mode="lines")}
    assert names == {"directed (thick at its target)", "bidirectional"}
    colors = {t["name"]: t["line"]["color"] for t in traces(figure, mode="lines")}
    assert len(set(colors.values())) == 2
    thin, thick = (
        t for t in traces(figure, mode="lines") if t["name"] == "directed (thick at its target)"
    )
    assert thick["line"]["width"] > thin["line"]["width"]
    assert not thick["showlegend"]
    for line, head in zip(lines_of(thin), lines_of(thick), strict=True):
        line, head = (p[np.isfinite(p).all(axis=1)] for p in (line, head))
        np.testing.assert_array_equal(head[-1], line[-1])
        share = np.linalg.norm(head[-1] - head[0]) / np.linalg.norm(line[-1] - line[0])
        assert share < 0.25


def test_connections_have_colours_of_a_column(circuit):
    figure = plot.graph(circuit, line_color="connection_type")
    kinds = circuit.connections.groupby("connection_type").size()
    drawn = {}
    for trace in traces(figure, mode="lines"):
        if trace["showlegend"]:
            kind = trace["name"].partition(",")[0]
            count = len(lines_of(trace)) + len(loops_of(trace))
            drawn[kind] = drawn.get(kind, 0) + count
    assert drawn == kinds.to_dict()


def test_a_loop_is_a_circle():
    tokens = pd.DataFrame({"token_id": ["a", "b"], "x": [0.0, 10], "y": 0.0, "z": 0.0})
    links = pd.DataFrame({"source_id": ["a", "a"], "target_id": ["a", "b"]})
    figure = plot.graph(tokens, links)
    trace = traces(figure, mode="lines")[0]
    (line,), (loop,) = lines_of(trace), loops_of(trace)
    assert line[:2].tolist() == [[0, 0, 0], [10, 0, 0]]
    np.testing.assert_allclose(loop[[0, -1]], [[0, 0, 0], [0, 0, 0]], atol=1e-12)
    assert np.ptp(loop, axis=0).max() > 0.1
    assert tokens.ng.plot.graph(links).to_json() == figure.to_json()


def test_a_graph_of_coords_is_drawn_on_a_level(circuit):
    coords = np.full((40, 8, 3), np.nan)
    coords[:, 3] = circuit.tokens[XYZ]
    subgraph = Subgraph(
        circuit.tokens[["token_id"]].assign(coords=list(coords)), circuit.connections
    )
    figure = plot.graph(subgraph, level="emotional")
    assert as_set(all_points(figure)) == as_set(circuit.tokens[XYZ])
    empty = plot.graph(subgraph)
    assert empty.layout.title.text.startswith("0 tokens, ")
    assert "40 without finite x, y, z are not drawn" in empty.layout.annotations[0].text


def test_a_sample_of_a_graph_is_told(circuit):
    figure = plot.graph(circuit, sample=10)
    tokens = [row["token_id"] for row in hovers(traces(figure, mode="markers")[0])]
    links = circuit.connections
    between = links.source_id.isin(tokens) & links.target_id.isin(tokens)
    assert len(tokens) == 10 < between.sum()
    assert figure.layout.title.text == "10 of 40 tokens, 10 of 154 connections, physical level"
    left = f"{(~between).sum()} connections to tokens that are not drawn left out"
    assert figure.layout.title.subtitle.text == left
    drawn = [t for t in traces(figure, mode="lines") if t["showlegend"]]
    assert sum(len(lines_of(t)) + len(loops_of(t)) for t in drawn) == 10


def test_a_wrong_graph_is_named(circuit):
    with pytest.raises(InvalidQueryError, match="needs a Subgraph"):
        plot.graph(circuit.tokens)
    with pytest.raises(InvalidQueryError, match="needs connections with source_id and target_id"):
        plot.graph(circuit.tokens, circuit.tokens)
    with pytest.raises(InvalidQueryError, match="needs tokens with token_id"):
        plot.graph(circuit.tokens[XYZ], circuit.connections)
    with pytest.raises(InvalidQueryError, match="appears twice"):
        plot.graph(pd.concat([circuit.tokens, circuit.tokens.head(1)]), circuit.connections)
    with pytest.raises(InvalidQueryError, match="line_color must be a column"):
        plot.graph(circuit, line_color="kind")


def cells(worm):
    counts, edges = np.histogramdd(worm[XYZ].to_numpy(), bins=(4, 20, 4))
    centres = [(e[1:] + e[:-1]) / 2 for e in edges]
    grid = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1)
    frame = pd.DataFrame(grid[counts > 0], columns=XYZ)
    return frame.assign(count=counts[counts > 0].astype(int))


def test_a_density_draws_every_cell(worm):
    frame = cells(worm)
    figure = plot.density(frame)
    (trace,) = traces(figure)
    np.testing.assert_array_equal(points_of(trace), frame[XYZ])
    marker = trace["marker"]
    assert marker["colorbar"]["title"]["text"] == "tokens"
    np.testing.assert_allclose(10 ** marker["color"], frame["count"])
    assert (np.diff(marker["size"][np.argsort(frame["count"])]) >= 0).all()
    assert [int(row["tokens"]) for row in hovers(trace)] == frame["count"].tolist()
    assert figure.layout.title.text == f"14,171 tokens in {len(frame)} cells"
    ticks = dict(zip(marker["colorbar"]["ticktext"], marker["colorbar"]["tickvals"], strict=True))
    assert [float(text.replace(",", "")) for text in ticks] == pytest.approx(
        [10**v for v in ticks.values()]
    )


def test_counts_that_differ_little_are_on_a_scale_from_zero():
    frame = pd.DataFrame({"x": [0.0, 1], "y": 0.0, "z": 0.0, "count": [2, 4]})
    (trace,) = traces(plot.density(frame))
    marker = trace["marker"]
    assert (marker["color"].tolist(), marker["cmin"], marker["cmax"]) == ([2, 4], 0, 4)


def test_a_wrong_density_is_named():
    frame = pd.DataFrame({"x": [0.0, 1], "y": 0.0, "z": 0.0})
    with pytest.raises(InvalidQueryError, match=r"lacks count: .*ngdata\.plot\.points fits"):
        plot.density(frame)
    with pytest.raises(InvalidQueryError, match=r"count must be at least 0, but is -1\.0 in row 1"):
        plot.density(frame.assign(count=[1, -1]))
    figure = plot.density(frame.assign(count=[3.0, np.nan]))
    assert figure.layout.title.subtitle.text == "1 row without a count not drawn"
    assert plot.density(frame.assign(count=0)).layout.title.text == "0 tokens in 2 cells"


def test_a_path_is_in_the_order_of_time(trajectory):
    figure = plot.path(trajectory)
    ordered = trajectory.sort_values("timestamp")
    line, start, end = traces(figure)
    assert line["mode"] == "lines+markers"
    np.testing.assert_array_equal(points_of(line), ordered[XYZ])
    assert points_of(start).tolist() == ordered[XYZ].head(1).to_numpy().tolist()
    assert points_of(end).tolist() == ordered[XYZ].tail(1).to_numpy().tolist()
    assert (start["name"], end["name"]) == ("start", "end")
    assert line["line"]["color"].tolist() == [float(n) for n in range(len(ordered))]
    assert line["line"]["colorbar"]["title"]["text"] == "timestamp"
    assert line["line"]["colorbar"]["ticktext"][0] == "2026-01-01 00:00:00"
    assert figure.layout.title.text == "302 points, physical level"


def test_rows_of_one_time_are_in_the_order_of_their_numbers():
    frame = pd.DataFrame(
        {"step": [1, 1, 0], "sequence_number": pd.array([5, 4, None], "Int64"), "x": [2.0, 1, 0]}
    ).assign(y=0.0, z=0.0)
    assert traces(plot.path(frame))[0]["x"].tolist() == [0, 1, 2]
    assert traces(plot.path(frame, time="sequence_number"))[0]["x"].tolist() == [1, 2]
    same = pd.DataFrame({"step": [1, 1, 1], "x": [2.0, 1, 0], "y": 0.0, "z": 0.0})
    assert traces(plot.path(same))[0]["x"].tolist() == [2, 1, 0]


def test_each_trajectory_is_a_line(trajectory):
    other = trajectory.assign(trajectory_id="b", x=trajectory.x + 100)
    both = pd.concat([trajectory, other], ignore_index=True)
    figure = plot.path(both)
    lines = {t["name"]: points_of(t) for t in traces(figure, mode="lines+markers")}
    assert set(lines) == {"00000000…0001", "b"}
    np.testing.assert_array_equal(lines["b"], other.sort_values("timestamp")[XYZ])
    starts = traces(figure, name="start")[0]
    assert len(starts["x"]) == 2
    assert figure.layout.title.text == "604 points of 2 trajectories, physical level"


def test_what_a_path_leaves_out_is_said():
    frame = pd.DataFrame({"step": [0, 1, None, 3], "x": [0.0, np.nan, 2, 3], "y": 0.0, "z": 0.0})
    figure = plot.path(frame)
    assert traces(figure)[0]["x"].tolist() == [0, 3]
    assert figure.layout.title.subtitle.text == (
        "1 row without a step not drawn; 1 without finite x, y, z is not drawn"
    )
    assert "nothing to draw" in plot.path(frame.head(0)).layout.annotations[0].text


def test_a_wrong_path_is_named():
    frame = pd.DataFrame({"x": [0.0], "y": 0.0, "z": 0.0, "when": "now"})
    with pytest.raises(InvalidQueryError, match=r"timestamp, step or sequence_number, or time="):
        plot.path(frame)
    with pytest.raises(InvalidQueryError, match="time must be a column of times or numbers"):
        plot.path(frame, time="when")
    with pytest.raises(InvalidQueryError, match="time must be a column of the frame"):
        plot.path(frame, time="never")


def test_rewards_are_drawn_with_their_sum(trajectory):
    figure = plot.rewards(trajectory)
    ordered = trajectory.sort_values("timestamp")
    each, total = traces(figure)
    np.testing.assert_array_equal(each["y"], ordered.reward)
    np.testing.assert_allclose(total["y"], ordered.reward.cumsum())
    assert (each["yaxis"], total["yaxis"]) == ("y", "y2")
    assert (
        pd.to_datetime(list(each["x"])).tolist() == ordered.timestamp.dt.tz_localize(None).tolist()
    )
    layout = as_json(figure)["layout"]
    assert layout["xaxis"]["title"]["text"] == "timestamp (UTC)"
    assert [layout[axis]["title"]["text"] for axis in ("yaxis", "yaxis2")] == [
        "reward",
        "cumulative reward",
    ]
    assert layout["title"]["text"] == "302 events"


def test_the_own_sum_of_a_trajectory_is_drawn(trajectory):
    discounted = trajectory.assign(cumulative_reward=np.arange(302) / 2)
    _, total = traces(plot.rewards(discounted))
    assert total["y"].tolist() == discounted.sort_values("timestamp").cumulative_reward.tolist()


def test_rewards_of_other_frames():
    times = pd.date_range("2026-03-28", periods=3, freq="1D", tz="Europe/Berlin")
    steps = pd.DataFrame(
        {
            "timestamp": times,
            "count": [1, 0, 2],
            "total_reward": [1.0, 0, 4],
            "mean_reward": [1, None, 2],
        }
    )
    figure = plot.rewards(steps)
    each, total = traces(figure)
    assert (each["y"].tolist(), total["y"].tolist()) == ([1, 0, 4], [1, 1, 5])
    assert [row[0] for row in each["customdata"]] == [str(t) for t in times]
    assert figure.layout.xaxis.title.text == "timestamp (Europe/Berlin)"
    assert figure.layout.title.text == "3 steps"
    listed = pd.DataFrame({"trajectory_id": ["a"], "start_time": times[:1], "total_reward": [2.0]})
    assert plot.rewards(listed).layout.title.text == "1 trajectory"


def test_rewards_of_each_trajectory_are_summed_alone():
    frame = pd.DataFrame(
        {"timestamp": [0, 1, 2, 3], "reward": [1.0, 10, 2, 20], "trajectory_id": list("abab")}
    )
    drawn = traces(plot.rewards(frame))
    assert [(t["name"], t["y"].tolist()) for t in drawn if t["yaxis"] == "y2"] == [
        ("a", [1, 3]),
        ("b", [10, 30]),
    ]


def test_what_rewards_leave_out_is_said():
    frame = pd.DataFrame({"timestamp": [0, None, 2], "reward": [1.0, 2, None]})
    figure = plot.rewards(frame)
    assert figure.layout.title.subtitle.text == "2 rows without a time or a reward not drawn"
    assert "nothing to draw" in plot.rewards(frame.head(0)).layout.annotations[0].text
    with pytest.raises(InvalidQueryError, match="needs the columns timestamp and reward"):
        plot.rewards(frame[["reward"]])
    with pytest.raises(InvalidQueryError, match="timestamp must hold times or numbers"):
        plot.rewards(frame.assign(timestamp="now"))
