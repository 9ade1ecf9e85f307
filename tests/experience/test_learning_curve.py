"""The learning example: its program runs and records the right events."""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "learning_curve.py"


def test_the_example_learns_and_reads_its_events(ng, capsys):
    # ng empties the embedded database, to which the program's connect() connects.
    program = runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert "mean_return" in printed
    assert "state_before.position" in printed

    curve = program["learning_curve"](ng)
    assert curve.episodes.tolist() == [program["EPISODES"]] * program["GENERATIONS"]
    assert curve.mean_return.iloc[-1] > 90 > curve.mean_return.iloc[0]
    assert curve.decisions.iloc[-1] < curve.decisions.iloc[0]

    episodes = ng.experience.list_trajectories()
    events = ng.experience.get_events(flatten=True)
    assert len(events) == episodes.event_count.sum()
    assert episodes.ended_at.notna().all()
    by_episode = events.groupby("trajectory_id").reward.sum()
    np.testing.assert_allclose(
        by_episode[episodes.trajectory_id], episodes.total_reward, rtol=1e-12, atol=1e-9
    )
    # Each state follows from the one before; the last is the flag on the hill.
    for run, steps in events.groupby("trajectory_id"):
        steps = steps.sort_values("sequence_number", ignore_index=True)
        for name in ("position", "velocity"):
            after = steps[f"state_after.{name}"][:-1].tolist()
            assert after == steps[f"state_before.{name}"][1:].tolist(), run
    solved = episodes[episodes.total_reward > 50].trajectory_id
    last = events[events.trajectory_id.isin(solved)].groupby("trajectory_id").last()
    assert (last["state_after.position"] >= 0.45).all()

    minutes = ng.experience.resample_rewards("1min")
    assert minutes["count"].sum() == len(events)
    assert np.isclose(minutes.total_reward.sum(), episodes.total_reward.sum())
    assert minutes.timestamp.diff().dropna().eq(pd.Timedelta("1min")).all()
