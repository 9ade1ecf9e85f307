"""Trajectories: start, events of concurrent writers, end, and no events after that."""

import asyncio
import uuid

import asyncpg
import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select

import ngdata
from ngdata._arguments.texts import STR
from ngdata.errors import ConfigError, IntegrityError, InvalidQueryError, NotFoundError
from ngdata.repositories import DatabaseFactory, EventModel, RepositoryFactory
from tests.conftest import execute

MISSING = "00000000-0000-4000-8000-00000000dead"
UTC = "datetime64[us, UTC]"


def events(run, times, rewards):
    return {
        "event_type": "step",
        "timestamp": times,
        "trajectory_id": run,
        "reward": rewards,
        "sequence_number": range(len(times)),
    }


def test_a_started_trajectory_is_empty(ng):
    run = ng.experience.start_trajectory(metadata={"policy": "linear", "gain": np.float32(0.5)})
    assert uuid.UUID(run).version == 4
    listed = ng.experience.list_trajectories()
    assert listed.trajectory_id.tolist() == [run]
    assert listed.metadata.tolist() == [{"policy": "linear", "gain": 0.5}]
    assert listed[["start_time", "end_time", "duration", "ended_at"]].isna().all(axis=None)
    assert (listed.event_count[0], listed.total_reward[0]) == (0, 0.0)
    empty = ng.experience.get_trajectory(run)
    assert empty.empty

    ng.experience.bulk_create(events(run, [0, 1000], [1.0, 2.0]))
    full = ng.experience.get_trajectory(run)
    assert empty.dtypes.equals(full.dtypes)
    assert full.sequence_number.tolist() == [0, 1]
    listed = ng.experience.list_trajectories()
    assert listed.duration[0] == pd.Timedelta("1s")
    assert (listed.event_count[0], listed.total_reward[0]) == (2, 3.0)
    assert listed.metadata.tolist() == [{"policy": "linear", "gain": 0.5}]


def test_an_empty_list_has_the_same_columns(ng):
    empty = ng.experience.list_trajectories()
    ng.experience.bulk_create(events(ng.experience.start_trajectory(), [0], [1.0]))
    full = ng.experience.list_trajectories()
    assert empty.empty
    assert empty.dtypes.equals(full.dtypes)
    assert dict(full.dtypes) == {
        "trajectory_id": STR,
        "start_time": UTC,
        "end_time": UTC,
        "event_count": "int64",
        "total_reward": "float64",
        "duration": "timedelta64[us]",
        "ended_at": UTC,
        "metadata": "object",
    }


def test_an_existing_trajectory_is_not_started_again(ng):
    run = ng.experience.start_trajectory(uuid.UUID(int=1))
    assert run == str(uuid.UUID(int=1))
    with pytest.raises(
        IntegrityError, match=f"^trajectory_id {run} already exists; nothing was written"
    ):
        ng.experience.start_trajectory(run)
    implied = str(uuid.UUID(int=2))
    ng.experience.create_event("step", 0, trajectory_id=implied)
    with pytest.raises(IntegrityError, match="already exists"):
        ng.experience.start_trajectory(implied)


def test_an_ended_trajectory_rejects_events_of_all_writers(ng, database_url):
    run = ng.experience.start_trajectory()
    ng.experience.bulk_create(events(run, [0, 5000], [1.0, 2.0]))
    other = ng.experience.create_event("step", 7)
    ended = ng.experience.end_trajectory(run)
    assert (ended.event_count[0], ended.total_reward[0]) == (2, 3.0)
    assert ended.duration[0] == pd.Timedelta("5s")
    assert ended.ended_at[0] > ended.end_time[0]
    pd.testing.assert_frame_equal(ended, ng.experience.list_trajectories(ended=True))
    assert ng.experience.list_trajectories(ended=False).empty

    with pytest.raises(IntegrityError, match=f"{run} has ended already, at 20.*start_trajectory"):
        ng.experience.end_trajectory(run)
    refused = pytest.raises(IntegrityError, match=f"{run} has ended and takes no more events")
    with refused:
        ng.experience.create_event("step", 6, trajectory_id=run)
    with refused:
        ng.experience.bulk_create(
            {"event_type": "step", "timestamp": [1, 2], "trajectory_id": [MISSING, run]}
        )
    assert len(ng.experience.get_events()) == 3, "all rows or none"

    async def by_others():
        db_manager = await DatabaseFactory.create_database_manager()  # the embedded one
        async with db_manager.session() as session:
            repository = RepositoryFactory.create_experience_repository(session)
            with refused:
                await repository.create_event("step", trajectory_id=run)
            assert len(list(await session.execute(select(EventModel)))) == 3
        await DatabaseFactory.close_all()
        connection = await asyncpg.connect(database_url)
        with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="has ended"):
            await connection.execute(
                "UPDATE experience.experience_events SET trajectory_id = $1 WHERE id = $2",
                uuid.UUID(run),
                uuid.UUID(other),
            )
        # Its existing events can be changed and deleted.
        await connection.execute(
            "UPDATE experience.experience_events SET reward = 5 WHERE reward = 1"
        )
        await connection.execute("DELETE FROM experience.experience_events WHERE reward = 2")
        await connection.close()

    asyncio.run(by_others())
    listed = ng.experience.list_trajectories()
    assert (listed.event_count[0], listed.total_reward[0]) == (1, 5.0)


def test_missing_trajectories(ng):
    for call in (
        ng.experience.get_trajectory,
        ng.experience.end_trajectory,
        lambda run: ng.experience.mean_position(run, "1s"),
    ):
        with pytest.raises(
            NotFoundError, match=f"no trajectory in the store has the id {MISSING}"
        ) as caught:
            call(MISSING)
        assert caught.value.missing == (MISSING,)
        with pytest.raises(InvalidQueryError, match="must be a UUID"):
            call("x")
    with pytest.raises(InvalidQueryError, match=r"trajectory_id must be a UUID, .* not 'x'"):
        ng.experience.start_trajectory("x")
    with pytest.raises(InvalidQueryError, match="metadata must be a dict"):
        ng.experience.start_trajectory(metadata=[1])
    assert ng.experience.list_trajectories().empty


def test_a_read_only_client_cannot_start_or_end(ng, database_url):
    run = ng.experience.start_trajectory()
    with ngdata.connect(database_url, read_only=True) as reader:
        with pytest.raises(ConfigError, match="may only read"):
            reader.experience.start_trajectory()
        with pytest.raises(ConfigError, match="may only read"):
            reader.experience.end_trajectory(run)
    assert ng.experience.list_trajectories(ended=False).trajectory_id.tolist() == [run]


def test_reads_are_never_stale(ng):
    run = ng.experience.start_trajectory()
    assert ng.experience.get_trajectory(run).empty
    assert ng.experience.list_trajectories(ended=True).empty
    ng.experience.create_event("step", 0, trajectory_id=run)
    assert len(ng.experience.get_trajectory(run)) == 1
    assert len(ng.experience.get_trajectory(run)) == 1
    assert ng.cache.stats().hits == 1
    ng.experience.end_trajectory(run)
    assert len(ng.experience.list_trajectories(ended=True)) == 1


def test_events_move_with_their_token(ng):
    [token] = ng.tokens.bulk_create({"x": [0.0], "y": [0.0], "z": [0.0]})
    run = ng.experience.start_trajectory()
    ng.experience.create_event("step", 0, token_id=token, trajectory_id=run)
    here, there = ((-1,) * 3, (1,) * 3), ((9,) * 3, (11,) * 3)
    reads = [
        lambda box: len(ng.experience.get_events(within=box)),
        lambda box: len(ng.experience.get_events(0, 10, within=box)),
        lambda box: len(ng.experience.activity_in_region(*box)),
        lambda box: len(ng.experience.list_trajectories(within=box)),
    ]
    assert [(read(here), read(there)) for read in reads] == [(1, 0)] * 4
    assert ng.experience.mean_position(run, "1s").x.tolist() == [0.0]
    ng.tokens.update(token, coords={0: (10, 10, 10)})
    assert [(read(here), read(there)) for read in reads] == [(0, 1)] * 4
    assert ng.experience.mean_position(run, "1s").x.tolist() == [10.0]
    ng.tokens.delete(token)
    assert [(read(here), read(there)) for read in reads] == [(0, 0)] * 4
    assert ng.experience.mean_position(run, "1s").empty


@pytest.mark.parametrize("writers", [6])
def test_an_end_between_concurrent_writes(database_url, writers):
    """Each write is complete, or rejected after the end; nothing is counted twice."""

    async def go():
        async with await ngdata.connect_async(database_url) as ang:
            runs = [await ang.experience.start_trajectory() for _ in range(3)]
            written = dict.fromkeys(runs, 0)
            refused = dict.fromkeys(runs, 0)
            reached = asyncio.Event()

            async def write(client, n):
                for step in range(12):
                    run = runs[(n + step) % 3]
                    try:
                        await client.experience.bulk_create(events(run, [step, step + n], [0.5, 1]))
                        written[run] += 1
                    except IntegrityError:
                        refused[run] += 1
                    if step == 4:
                        reached.set()

            async def end():
                await reached.wait()
                return await asyncio.gather(*map(ang.experience.end_trajectory, runs[:2]))

            clients = [await ngdata.connect_async(database_url) for _ in range(writers)]
            ended, *_ = await asyncio.gather(end(), *map(write, clients, range(writers)))
            for client in clients:
                await client.close()

            listed = (await ang.experience.list_trajectories()).set_index("trajectory_id")
            for run in runs:
                steps = await ang.experience.get_trajectory(run)
                assert len(steps) == listed.event_count[run] == 2 * written[run]
                assert steps.reward.sum() == listed.total_reward[run] == 1.5 * written[run]
                assert steps.timestamp.max() == listed.end_time[run]
                assert written[run] + refused[run] == 12 * writers / 3
            assert refused[runs[2]] == 0
            for frame in ended:
                # The row that end_trajectory returned is final.
                row = frame.set_index("trajectory_id")
                pd.testing.assert_frame_equal(row, listed.loc[row.index])
            return sum(refused.values())

    assert asyncio.run(go()) > 0


def test_one_of_several_concurrent_ends_succeeds(database_url):
    async def go():
        async with await ngdata.connect_async(database_url) as ang:
            run = await ang.experience.start_trajectory()
            done = await asyncio.gather(
                *(ang.experience.end_trajectory(run) for _ in range(8)), return_exceptions=True
            )
            return [type(one) for one in done]

    results = asyncio.run(go())
    assert sorted(kind.__name__ for kind in results) == ["DataFrame"] + 7 * ["IntegrityError"]


def test_an_end_during_the_first_write_is_consistent(database_url):
    async def go():
        async with await ngdata.connect_async(database_url) as ang:

            async def end(run, wait):
                await asyncio.sleep(wait)
                try:
                    await ang.experience.end_trajectory(run)
                except NotFoundError:
                    return  # it came too early

            for number in range(40):
                run = str(uuid.uuid4())
                begin = ang.experience.bulk_create(events(run, [1], [1.0]))
                await asyncio.gather(begin, end(run, 0.0003 * (number % 12)))

    asyncio.run(go())


def test_a_flattened_frame_keeps_its_attrs(ng):
    run = ng.experience.start_trajectory()
    ng.experience.create_event("step", 0, {"x": 1}, trajectory_id=run)
    for frame in (
        ng.experience.get_events(flatten=True),
        ng.experience.get_trajectory(run, flatten=True),
    ):
        assert frame["state_before.x"].tolist() == [1]
        assert frame.attrs["ngdata"]["source"] == "database"


def test_states_other_than_dicts_stay_when_flattened(ng, database_url):
    """Another program may have written them."""
    ng.experience.create_event("step", 0, {"x": 1})
    ng.experience.create_event("step", 1, {"x": 2})
    execute(
        database_url,
        "UPDATE experience.experience_events SET state_before = '[1]'"
        " WHERE state_before ->> 'x' = '2'",
    )
    frame = ng.experience.get_events(flatten=True)
    assert frame["state_before"].tolist() == [None, [1]]
    assert frame["state_before.x"][0] == 1
