"""The accessor frame.ng: it picks the picture, says what each needs, and loads nothing before."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from ngdata import plot
from ngdata.errors import ConfigError, InvalidQueryError
from tests.plot.conftest import all_points

POINT = {"x": [0.0], "y": [1.0], "z": [2.0]}
TIME = {"timestamp": [1.0]}


@pytest.mark.parametrize(
    ("columns", "picture"),
    [
        (POINT, "points"),
        (POINT | {"token_id": ["a"]} | TIME, "points"),
        (POINT | {"count": [3]}, "density"),
        (POINT | {"token_id": ["a"], "count": [3]}, "points"),
        (POINT | TIME, "path"),
        (POINT | {"step": [1]}, "path"),
        (POINT | {"token_id": ["a"], "event_id": ["e"], "reward": [1.0]} | TIME, "path"),
        ({"token_id": ["a"], "coords": [np.zeros((8, 3))]}, "points"),
        (TIME | {"reward": [1.0]}, "rewards"),
        (TIME | {"total_reward": [1.0], "count": [1]}, "rewards"),
        ({"start_time": [0.0], "total_reward": [1.0], "trajectory_id": ["a"]}, "rewards"),
    ],
)
def test_the_picture_that_fits_is_drawn(columns, picture):
    frame = pd.DataFrame(columns)
    drawn = getattr(plot, picture)(frame)
    assert frame.ng.plot().to_json() == drawn.to_json()
    assert getattr(frame.ng.plot, picture)().to_json() == drawn.to_json()


def test_arguments_are_passed_on(worm):
    figure = worm.ng.plot(color="token_type", sample=10)
    assert figure.to_json() == plot.points(worm, color="token_type", sample=10).to_json()
    with pytest.raises(
        InvalidQueryError,
        match=r"ngdata\.plot\.points fits this frame, but .* keyword argument 'colour'",
    ):
        worm.ng.plot(colour="token_type")


def test_a_frame_that_nothing_fits_hears_what_each_needs():
    with pytest.raises(InvalidQueryError) as refused:
        pd.DataFrame({"a": [1], "b": [2]}).ng.plot()
    assert str(refused.value) == (
        "no picture of ngdata.plot fits this frame: it has a, b; points needs x, y, z, or coords; "
        "density needs x, y, z, count; path needs x, y, z, and timestamp, step or sequence_number; "
        "rewards needs timestamp and reward, or timestamp and total_reward, or start_time and "
        "total_reward"
    )


def test_the_accessor_shows_the_frame_as_it_is_now():
    frame = pd.DataFrame(POINT)
    accessor = frame.ng
    frame.loc[1] = [5.0, 6.0, 7.0]
    assert all_points(accessor.plot()).tolist() == [[0, 1, 2], [5, 6, 7]]
    assert "ng" in dir(frame)
    assert "ng" in dir(pd.DataFrame())
    assert {"points", "graph", "density", "path", "rewards"} <= set(dir(frame.ng.plot))


PROGRAM = """
import sys
{first}
{second}
assert not {{"plotly", "ngdata.plot"}} & sys.modules.keys()
frame = pandas.DataFrame({{"x": [0.0], "y": 0.0, "z": 0.0}})
assert "ng" in dir(frame)
assert "plotly" not in sys.modules
assert frame.ng.plot().layout.title.text == "1 point"
assert type(pandas.__spec__.loader) is type(pandas.core.__spec__.loader)
assert pandas.__loader__ is pandas.__spec__.loader
assert not [finder for finder in sys.meta_path if type(finder).__module__.startswith("ngdata")]
"""


@pytest.mark.parametrize(
    "order", [("import ngdata", "import pandas"), ("import pandas", "import ngdata")]
)
def test_it_is_there_whichever_is_imported_first(order):
    program = PROGRAM.format(first=order[0], second=order[1])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_without_plotly_the_error_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "plotly"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(
        ConfigError, match=r"ngdata\.plot\.points needs plotly.*'ngdata\[notebook\]'"
    ):
        pd.DataFrame(POINT).ng.plot()
