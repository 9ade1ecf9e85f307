"""Points: which are drawn, where, in which colours, and what the figure says of it."""

import hashlib
import math
import uuid

import numpy as np
import pandas as pd
import pytest

from ngdata import Sphere, plot
from ngdata._arguments.palette import GREY, PALETTE
from ngdata._arguments.texts import STR
from ngdata.errors import InvalidQueryError
from tests.plot.conftest import all_points, as_json, as_set, hovers, points_of, traces

XYZ = ["x", "y", "z"]


def test_all_points_are_drawn_where_they_are(worm):
    figure = plot.points(worm)
    (trace,) = traces(figure)
    np.testing.assert_array_equal(points_of(trace), worm[XYZ])
    layout = as_json(figure)["layout"]
    assert layout["title"] == {"text": "14,171 tokens, physical level"}
    assert [layout["scene"][f"{axis}axis"]["title"]["text"] for axis in XYZ] == [
        "x (µm)",
        "y (µm)",
        "z (µm)",
    ]


def test_axes_hold_all_data_at_one_scale(worm):
    scene = as_json(plot.points(worm))["layout"]["scene"]
    ranges = np.array([scene[f"{axis}axis"]["range"] for axis in XYZ])
    assert (ranges[:, 0] < worm[XYZ].min()).all()
    assert (ranges[:, 1] > worm[XYZ].max()).all()
    assert scene["aspectmode"] == "manual"
    ratio = np.array([scene["aspectratio"][axis] for axis in XYZ])
    np.testing.assert_allclose(ratio / np.ptp(ranges, axis=1), ratio[0] / np.ptp(ranges[0]))


@pytest.mark.parametrize(
    "sides", [(1, 1, 1), (1, 9, 2), (1, 1, 40), (40, 1, 1), (5, 5, 0), (0, 0, 0)]
)
def test_the_camera_sees_every_corner(sides):
    low, high = np.zeros(3), np.array(sides, float)
    layout = as_json(plot.points(pd.DataFrame([low, high], columns=XYZ)))["layout"]
    scene = layout["scene"]
    eye = np.array([scene["camera"]["eye"][axis] for axis in XYZ])
    ratio = np.array([scene["aspectratio"][axis] for axis in XYZ])
    corners = (np.array(list(np.ndindex(2, 2, 2))) - 0.5) * ratio
    towards = eye / np.linalg.norm(eye)
    right = np.cross(-towards, (0, 0, 1))
    right /= np.linalg.norm(right)
    up = np.cross(right, -towards)
    depth = np.linalg.norm(eye) - corners @ towards
    # A field of view of 45 degrees in height, and at least as much in width.
    assert (depth > 0).all()
    assert (np.abs(corners @ up) < depth * math.tan(math.pi / 8)).all()
    width = 1.1 if layout["height"] == 600 else 1.7
    assert (np.abs(corners @ right) < depth * math.tan(math.pi / 8) * width).all()


def test_a_category_has_a_colour_and_an_entry(worm):
    figure = plot.points(worm, color="token_type")
    assert [trace["name"] for trace in traces(figure)] == ["segment", "neuron"]
    assert len({trace["marker"]["color"] for trace in traces(figure)}) == 2
    for trace in traces(figure):
        own = worm[worm.token_type == trace["name"]]
        np.testing.assert_array_equal(points_of(trace), own[XYZ])
        assert trace["showlegend"]
        assert trace["legendgrouptitle"]["text"] == "token_type"


def test_categories_without_a_colour_are_grey_and_counted(neurons):
    figure = plot.points(neurons, color="neuron")
    others, *named = traces(figure)
    assert (others["name"], others["marker"]["color"]) == ("283 others", GREY)
    assert len({(t["marker"]["color"], t["marker"]["symbol"]) for t in named}) == 19
    assert as_set(all_points(figure)) == as_set(neurons[XYZ])
    assert sorted(row["neuron"] for t in traces(figure) for row in hovers(t)) == sorted(
        neurons.neuron
    )


def test_a_categorical_keeps_its_order_and_missing_values_are_named():
    kinds = pd.Categorical(["b", "a", None, "a"], categories=["b", "a", "c"])
    frame = pd.DataFrame({"x": [0.0, 1, 2, 3], "y": 0.0, "z": 0.0, "kind": kinds})
    missing, b, a = traces(plot.points(frame, color="kind"))
    assert [t["name"] for t in (missing, b, a)] == ["kind: missing", "b", "a"]
    assert [t["x"].tolist() for t in (missing, b, a)] == [[2], [0], [1, 3]]


def test_bools_are_categories():
    frame = pd.DataFrame({"x": [0.0, 1, 2], "y": 0.0, "z": 0.0, "is_hub": [True, False, True]})
    drawn = {t["name"]: t["x"].tolist() for t in traces(plot.points(frame, color="is_hub"))}
    assert drawn == {"True": [0, 2], "False": [1]}


def test_numbers_have_a_bar(neurons):
    (trace,) = traces(plot.points(neurons, color="diameter"))
    np.testing.assert_array_equal(trace["marker"]["color"], neurons.diameter)
    assert trace["marker"]["colorbar"]["title"]["text"] == "diameter"
    assert (trace["marker"]["cmin"], trace["marker"]["cmax"]) == (
        neurons.diameter.min(),
        neurons.diameter.max(),
    )


def test_a_legend_is_below_where_there_is_a_bar():
    frame = pd.DataFrame({"x": [0.0, 1, 2], "y": 0.0, "z": 0.0, "w": [1.0, np.nan, np.inf]})
    figure = plot.points(frame, color="w")
    grey, colored = traces(figure)
    assert (grey["name"], grey["x"].tolist()) == ("w: missing or infinite", [1, 2])
    assert colored["x"].tolist() == [0]
    assert as_json(figure)["layout"]["legend"]["orientation"] == "h"
    assert "orientation" not in as_json(plot.points(frame))["layout"]["legend"]


def test_times_have_a_bar_with_dates():
    times = pd.to_datetime(["2026-01-01", "2026-01-05", None], utc=True)
    frame = pd.DataFrame({"x": [0.0, 1, 2], "y": 0.0, "z": 0.0, "seen": times})
    grey, trace = traces(plot.points(frame, color="seen"))
    assert grey["name"] == "seen: missing"
    assert trace["marker"]["color"].tolist() == [0, 4 * 86400]
    bar = trace["marker"]["colorbar"]
    assert list(zip(bar["tickvals"], bar["ticktext"], strict=True))[::2] == [
        (0, "2026-01-01"),
        (2 * 86400, "2026-01-03"),
        (4 * 86400, "2026-01-05"),
    ]


@pytest.mark.parametrize(
    ("color", "ticks"),
    [
        (pd.to_timedelta([1, 61], unit="s"), [1, 61]),
        (pd.PeriodIndex(["2026-01", "2026-02"], freq="M"), [0, 31 * 86400]),
        (pd.array([7, 8], "Int64"), [7, 8]),
        (np.array([7, 2**63], np.uint64), [7, 2**63]),
    ],
    ids=["durations", "periods", "nullable", "large"],
)
def test_other_numbers_have_a_bar(color, ticks):
    frame = pd.DataFrame({"x": [0.0, 1], "y": 0.0, "z": 0.0, "c": color})
    (trace,) = traces(plot.points(frame, color="c"))
    assert trace["marker"]["color"].tolist() == ticks
    assert trace["marker"]["colorbar"]["title"]["text"] == "c"


def test_areas_are_proportional_to_a_column():
    frame = pd.DataFrame({"x": [0.0, 1, 2], "y": 0.0, "z": 0.0, "w": [0.25, 1.0, np.nan]})
    figure = plot.points(frame, size="w")
    (trace,) = traces(figure)
    small, large, least = trace["marker"]["size"]
    assert (large / small) ** 2 == pytest.approx(4)
    assert least < small
    note = as_json(figure)["layout"]["title"]["subtitle"]["text"]
    assert note == "size: w, 0.25 to 1; the least size where it has no number"
    assert traces(plot.points(frame, size=7))[0]["marker"]["size"] == 7


def hashed(token_id):
    return hashlib.sha256((0).to_bytes(8, "big", signed=True) + uuid.UUID(token_id).bytes).digest()


@pytest.mark.parametrize("dtype", [STR, object], ids=str)
def test_a_sample_is_that_of_tokens_sample(worm, dtype):
    figure = plot.points(worm.astype({"token_id": dtype}), sample=100)
    expected = worm.loc[worm.token_id.map(hashed).sort_values().index[:100]].sort_index()
    (trace,) = traces(figure)
    np.testing.assert_array_equal(points_of(trace), expected[XYZ])
    assert [row["token_id"] for row in hovers(trace)] == expected.token_id.tolist()
    assert as_json(figure)["layout"]["title"]["text"] == "100 of 14,171 tokens, physical level"


def test_a_sample_of_integers_is_that_of_their_uuids(worm):
    from ngdata import ids

    frame = worm.head(500).assign(token_id=np.arange(500, dtype=np.uint64))
    texts = ids.from_integers(np.arange(500))
    expected = sorted(range(500), key=lambda n: hashed(texts[n]))[:20]
    (trace,) = traces(plot.points(frame, sample=20))
    assert [int(row["token_id"]) for row in hovers(trace)] == sorted(expected)


def test_a_sample_without_ids_is_by_position():
    rows = np.arange(300_000)
    frame = pd.DataFrame({"x": rows % 97, "y": rows, "z": 0.0})
    few, more = (all_points(plot.points(frame, sample=n))[:, 1] for n in (1000, 2000))
    assert (len(few), len(more)) == (1000, 2000)
    assert np.isin(few, more).all()
    # Of all parts of the frame.
    assert np.histogram(few, 10, (0, 300_000))[0].min() > 60
    assert plot.points(frame).layout.title.text == "50,000 of 300,000 points"
    assert len(all_points(plot.points(frame.head(60_000), sample=None))) == 60_000


def test_ids_and_large_integers_are_texts():
    large = 2**63 + 1
    frame = pd.DataFrame(
        {
            "token_id": np.array([large], np.uint64),
            "x": [0.0],
            "y": [0.0],
            "z": [0.0],
            "n": [2**53 + 1],
        }
    )
    (trace,) = traces(plot.points(frame, hover=["n"]))
    (row,) = hovers(trace)
    assert (row["token_id"], row["n"]) == (str(large), str(2**53 + 1))
    figure = plot.points(pd.concat([frame, frame.assign(n=5)]), hover=["n"])
    assert [row["n"] for row in hovers(traces(figure)[0])] == [str(2**53 + 1), "5"]


def test_markup_in_data_is_shown_and_not_read():
    evil = "<a href='javascript:x'>%{x}</a>"
    frame = pd.DataFrame({"x": [0.0], "y": [0.0], "z": [0.0], evil: [evil]})
    (trace,) = traces(plot.points(frame, color=evil, hover=evil))
    written = str(trace) + str(plot.points(frame.assign(**{evil: 1.0}), size=evil).layout.title)
    assert "<a" not in written
    assert "%{x}<" not in written


@pytest.mark.parametrize("offset", [(1e9, -2e9, 0.0), (0.0, 0.0, 1e15), (-1e12, 1e3, 1e7)])
def test_far_points_are_drawn_near_the_origin_and_shown_where_they_are(worm, offset):
    frame = worm.assign(
        **{axis: worm[axis] + shift for axis, shift in zip(XYZ, offset, strict=True)}
    )
    figure = plot.points(frame)
    (trace,) = traces(figure)
    drawn, true = points_of(trace), frame[XYZ].to_numpy()
    # What a browser keeps of them.
    kept = drawn.astype(np.float32).astype(float)
    assert np.abs(kept - drawn).max() < 1e-4
    np.testing.assert_allclose(np.diff(drawn, axis=0), np.diff(true, axis=0), atol=1e-6 * 700)
    shown = [[float(row[axis].removesuffix(" µm")) for axis in XYZ] for row in hovers(trace)]
    np.testing.assert_allclose(shown, true, rtol=1e-14)
    scene = as_json(figure)["layout"]["scene"]
    for n, axis in enumerate(XYZ):
        ticks = scene[f"{axis}axis"]
        labels = np.array([float(text) for text in ticks["ticktext"]])
        shift = (true - drawn)[0, n]
        np.testing.assert_allclose(labels - np.array(ticks["tickvals"]), shift, atol=1e-3)
        assert len(set(ticks["ticktext"])) == len(ticks["ticktext"]) >= 1


@pytest.mark.parametrize("size", [1e30, 1e-30, 1e307, 1e-300])
def test_huge_and_tiny_points_keep_their_shape(worm, size):
    frame = worm[XYZ] / 1000 * size
    figure = plot.points(frame)
    drawn = all_points(figure)
    assert np.isfinite(drawn.astype(np.float32)).all()
    assert 1e-3 < np.ptp(drawn, axis=0).max() < 1e3
    unit = np.ptp(drawn, axis=0)
    np.testing.assert_allclose(
        unit / unit.max(), np.ptp(worm[XYZ], axis=0) / np.ptp(worm[XYZ], axis=0).max()
    )
    assert all(trace["hovertemplate"] for trace in traces(figure))


@pytest.mark.parametrize("value", [0.0, 5.0, -1e30, 1e15, 1e-300, 1e308])
@pytest.mark.parametrize("count", [1, 3])
def test_points_in_one_place(value, count):
    figure = plot.points(pd.DataFrame({axis: [value] * count for axis in XYZ}))
    scene = as_json(figure)["layout"]["scene"]
    drawn = all_points(figure)
    assert len(drawn) == count
    for n, axis in enumerate(XYZ):
        low, high = scene[f"{axis}axis"]["range"]
        assert low < drawn[0, n] < high


def test_rows_without_a_place_are_counted():
    frame = pd.DataFrame(
        {"token_id": ["a", "b", "c"], "x": [0.0, np.nan, 1], "y": 0.0, "z": [0, 1, np.inf]}
    )
    figure = plot.points(frame)
    assert as_json(figure)["layout"]["title"] == {
        "text": "1 token",
        "subtitle": {"text": "2 without finite x, y, z are not drawn"},
    }


def test_an_empty_frame_says_so(worm):
    figure = plot.points(worm.head(0), color="token_type", size="y")
    assert figure.layout.title.text == "0 tokens, physical level"
    assert "nothing to draw" in figure.layout.annotations[0].text


def test_an_empty_frame_with_a_region_shows_the_region(worm):
    figure = plot.points(worm.head(0), regions=Sphere((0, 0, 0), 5))
    assert len(all_points(figure)) == 0
    assert len(traces(figure, mode="lines")) == 1


def test_coords_are_drawn_on_their_level():
    coords = np.full((3, 8, 3), np.nan)
    coords[:, 0], coords[:2, 2] = [[0, 1, 2]] * 3, [[3, 4, 5], [6, 7, 8]]
    frame = pd.DataFrame({"token_id": list("abc"), "coords": list(coords)})
    assert all_points(plot.points(frame)).tolist() == [[0, 1, 2]] * 3
    figure = plot.points(frame, level="motor")
    assert all_points(figure).tolist() == [[3, 4, 5], [6, 7, 8]]
    assert figure.layout.title.text == "2 tokens, motor level"
    with pytest.raises(
        InvalidQueryError, match="level is 1, but x, y, z of this frame are of level 0"
    ):
        plot.points(pd.DataFrame({"x": [0.0], "y": 0.0, "z": 0.0, "level": [0]}), level=1)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"color": "wieght"}, "color must be a column.*did you mean 'weight'"),
        ({"color": ["x"]}, "color must be a column"),
        ({"size": -1}, "size must be a positive number"),
        ({"size": "kind"}, "must hold numbers, not string, such as 'a'"),
        ({"hover": ["nothing"]}, "hover must be a column"),
        ({"sample": 0}, "sample must be an integer from 1"),
        ({"sample": 1.5}, "sample must be an integer from 1"),
        ({"regions": 5}, "regions must be a region"),
        ({"regions": [5]}, "regions must be a region"),
        ({"level": 9}, "level"),
    ],
)
def test_a_wrong_argument_is_named(options, error):
    frame = pd.DataFrame({"x": [0.0, 1], "y": 0.0, "z": 0.0, "kind": "a", "weight": 1.0})
    with pytest.raises(InvalidQueryError, match=error):
        plot.points(frame, **options)


def test_a_frame_without_points_names_what_is_missing_and_what_fits():
    rewards = pd.DataFrame({"timestamp": [1.0], "reward": [2.0], "x": [1.0]})
    with pytest.raises(InvalidQueryError, match=r"lacks y, z: .*ngdata\.plot\.rewards fits"):
        plot.points(rewards)
    with pytest.raises(InvalidQueryError, match="density needs x, y, z, count; path needs"):
        plot.points(pd.DataFrame({"a": [1]}))
    for nothing in (None, 5, "frame"):
        with pytest.raises(InvalidQueryError, match="must be a DataFrame"):
            plot.points(nothing)


def test_odd_columns_and_indexes():
    frame = pd.DataFrame({"x": [0.0, 1], "y": 0.0, "z": 0.0, "kind": ["a", "b"]})
    twice = pd.concat([frame, frame[["kind"]]], axis=1)
    assert len(all_points(plot.points(twice))) == 2
    with pytest.raises(InvalidQueryError, match="2 columns of the name 'kind'"):
        plot.points(twice, color="kind")
    with pytest.raises(InvalidQueryError, match="2 columns of the name 'x'"):
        plot.points(pd.concat([frame, frame[["x"]]], axis=1))
    indexed = frame.assign(token_id=["i", "j"]).set_index(["token_id", "kind"])
    before = indexed.copy()
    figure = plot.points(indexed, color="kind")
    assert [t["name"] for t in traces(figure)] == ["a", "b"]
    assert figure.layout.title.text == "2 tokens"
    pd.testing.assert_frame_equal(indexed, before)
    twice_indexed = pd.concat([indexed, indexed[["x"]].rename(columns={"x": "w"})], axis=1)
    assert len(all_points(plot.points(twice_indexed, color="kind"))) == 2
    columns = pd.MultiIndex.from_tuples([("x", ""), ("y", ""), ("z", "")])
    with pytest.raises(InvalidQueryError, match="one name for each column"):
        plot.points(pd.DataFrame(np.zeros((2, 3)), columns=columns))


def test_other_libraries_frames(worm):
    polars = pytest.importorskip("polars")
    points = worm[["token_id", *XYZ]].head(50)
    figure = plot.points(polars.DataFrame(points.to_dict("list")))
    np.testing.assert_array_equal(all_points(figure), points[XYZ])


def test_the_palette_is_seen_on_white_and_on_black():
    def luminance(color):
        channels = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    from ngdata._arguments.palette import SCALE, TEXT

    for color in (*PALETTE, *SCALE, GREY):
        # 3 to 1, as WCAG asks of graphics, on black; 2 to 1 on white for the light end.
        assert 1.05 / (luminance(color) + 0.05) > 2, color
        assert (luminance(color) + 0.05) / (luminance("#111111") + 0.05) > 2.9, color
    assert 1.05 / (luminance(TEXT) + 0.05) > 4
    assert (luminance(TEXT) + 0.05) / (luminance("#111111") + 0.05) > 4
