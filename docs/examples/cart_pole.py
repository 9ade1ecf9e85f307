"""Episodes of an environment: recorded step by step, compared by return, a bad episode deleted.

A pole on a cart falls unless the cart is pushed the right way (gymnasium's CartPole-v1).  Each episode is
a trajectory, each push an event with the state before and after, the action and the reward.
"""

import gymnasium
import pandas as pd

import ngdata

EPISODES = [ngdata.ids.from_integers(number, "cart pole") for number in range(6)]
START = pd.Timestamp("2026-01-01", tz="UTC")
MINUTE, STEP = pd.Timedelta("1min"), pd.Timedelta("20ms")
NAMES = ["position", "velocity", "angle", "spin"]
environment = gymnasium.make("CartPole-v1", max_episode_steps=200)

with ngdata.connect() as ng:
    # Load.  The later an episode, the more its policy heeds how fast the pole turns.
    with ng.experience.recorder() as record:
        for number, episode in enumerate(EPISODES):
            state, is_over, now = environment.reset(seed=number)[0], False, START + number * MINUTE
            while not is_over:
                before, push = state, int(state[2] + number / 100 * state[3] > 0)
                state, reward, fallen, late, _ = environment.step(push)
                is_over, now = fallen or late, now + STEP
                states = [dict(zip(NAMES, values, strict=True)) for values in (before, state)]
                record("push", now, *states, {"right": push}, reward, trajectory_id=episode)

    # Explore.
    episodes = ng.experience.list_trajectories(start=START, event_type="push")
    print(episodes[["duration", "event_count", "total_reward"]])
    best = ng.experience.get_trajectory(EPISODES[-1], discount=0.9, flatten=True)
    print(best[["state_after.angle", "action.right", "cumulative_reward"]].tail(2).round(3))

    # Correct.
    worst = episodes.nsmallest(1, "total_reward").trajectory_id.iloc[0]
    print(ng.experience.delete_events(trajectory_id=worst), "events deleted")
    print(ng.experience.resample_rewards("2min", event_type="push"))

    for episode in EPISODES:
        ng.experience.delete_events(trajectory_id=episode)
    ng.experience.delete_trajectories(EPISODES)
