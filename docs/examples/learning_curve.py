"""A learning curve: episodes of a real environment, recorded as trajectories and read back.

A car stands in a valley and is too weak to drive straight out of it (gymnasium's
MountainCarContinuous-v0).  Its policy has three numbers; the cross-entropy method draws ten of them,
drives an episode with each, keeps the best three, and draws again around those.  Each episode is a
trajectory, each decision an event with the state before and after, the action and the reward.

Needs gymnasium.  Writes to the store that is configured, or else the embedded one::

    python learning_curve.py
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pandas as pd

import ngdata

GENERATIONS, EPISODES, KEPT = 6, 10, 3
STEPS_PER_DECISION = 4
START = pd.Timestamp("2026-01-01", tz="UTC")

# How far the first draws reach: the weight of the position, of the velocity, and a constant push.
REACH = np.array([1.0, 50.0, 0.3])


def drive(environment: gymnasium.Env, policy: np.ndarray, seed: int) -> Iterator[dict[str, Any]]:
    """Drive one episode, and yield an event per decision."""
    state, _ = environment.reset(seed=seed)
    over = False
    while not over:
        before, reward, steps = state, 0.0, 0
        force = float(np.tanh(policy[:2] @ (before - [-0.5, 0.0]) + policy[2]))
        while steps < STEPS_PER_DECISION and not over:
            state, gained, there, late, _ = environment.step(np.array([force], np.float32))
            reward, steps, over = reward + float(gained), steps + 1, there or late
        yield {
            "state_before": {"position": before[0], "velocity": before[1]},
            "state_after": {"position": state[0], "velocity": state[1]},
            "action": {"force": force},
            "reward": reward,
        }


def learn(ng: ngdata.Client, seed: int = 2) -> None:
    """Learn, and record each episode; events are a second apart, episodes follow each other."""
    rng = np.random.default_rng(seed)
    environment = gymnasium.make("MountainCarContinuous-v0")
    mean, spread, now = np.zeros(3), REACH, START
    for generation in range(GENERATIONS):
        policies = mean + spread * rng.standard_normal((EPISODES, 3))
        episodes = []
        for number, policy in enumerate(policies):
            episode = pd.DataFrame(drive(environment, policy, 100 * generation + number))
            episode["trajectory_id"] = ng.experience.start_trajectory(
                metadata={"generation": generation, "policy": policy}
            )
            episode["sequence_number"] = range(len(episode))
            episode["timestamp"] = now + pd.Timedelta("1s") * episode.sequence_number
            now = episode.timestamp.iloc[-1] + pd.Timedelta("1s")
            episodes.append(episode)
        ng.experience.bulk_create(pd.concat(episodes).assign(event_type="decision"))
        for episode in episodes:
            ng.experience.end_trajectory(episode.trajectory_id.iloc[0])
        returns = np.array([episode.reward.sum() for episode in episodes])
        best = policies[np.argsort(-returns)[:KEPT]]
        # Some spread is added, less each time: the best three may be alike too soon.
        mean, spread = best.mean(axis=0), best.std(axis=0) + REACH / 10 / (generation + 1)
    environment.close()


def learning_curve(ng: ngdata.Client) -> pd.DataFrame:
    """Read the curve back: by generation, the length and the return of the episodes."""
    episodes = ng.experience.list_trajectories(start=START, event_type="decision", ended=True)
    episodes["generation"] = episodes.metadata.str["generation"].astype(int)
    return episodes.groupby("generation").agg(
        episodes=("trajectory_id", "count"),
        decisions=("event_count", "mean"),
        mean_return=("total_reward", "mean"),
        best_return=("total_reward", "max"),
    )


def main() -> None:
    """Learn, and print the curve and the trajectory of the last car."""
    with ngdata.connect() as ng:
        learn(ng)
        print(learning_curve(ng).round(1))
        last = ng.experience.list_trajectories(event_type="decision").trajectory_id.iloc[-1]
        way = ng.experience.get_trajectory(last, flatten=True)
        columns = ["state_before.position", "state_before.velocity", "action.force"]
        print(way[[*columns, "reward", "cumulative_reward"]].tail(3).round(3))


if __name__ == "__main__":
    main()
