"""A recorder: every recorded event is written once, in order, or is in the error's `unwritten`."""

from __future__ import annotations

import asyncio
import inspect
import random
import signal
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain

import gymnasium
import numpy as np
import pandas as pd
import psycopg
import pytest

import ngdata
from ngdata._client import recording
from ngdata._store import event_writer
from ngdata.errors import (
    ConfigError,
    IntegrityError,
    InvalidQueryError,
    NGDataError,
    OutOfResources,
)
from tests.conftest import execute

NO_TOKEN = str(uuid.UUID(int=7))


def written(url):
    """Return the ids of all events, in the order in which the server received them."""
    rows = execute(url, "SELECT id FROM experience.experience_events ORDER BY entry_number")
    return [str(row[0]) for row in rows]


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the state was not reached"
        time.sleep(0.01)


@contextmanager
def locked_events(url):
    """Hold a lock on the events during the body, so that no write of one ends."""
    with psycopg.connect(url) as holder:
        holder.execute("LOCK TABLE experience.experience_events IN SHARE MODE")
        yield
        holder.rollback()


def test_a_recorded_event_is_what_create_event_writes(ng):
    token = ng.tokens.create({0: (0, 0, 0)})
    run = str(uuid.uuid4())
    values = {
        "event_type": "it's",
        "timestamp": datetime(2026, 1, 2, tzinfo=UTC),
        "state_before": {"at": np.arange(3, dtype=np.float32), "big": 1e23, "n": np.int64(2)},
        "state_after": {},
        "action": {"move": np.bool_(True)},
        "reward": np.float32(0.1),
        "token_id": uuid.UUID(token),
        "priority": 2,
        "trajectory_id": run,
        "sequence_number": np.int8(3),
        "metadata": {"text": 'a"b,\n\\'},
    }
    created = ng.experience.create_event(**values)
    with ng.experience.recorder() as record:
        recorded = record(*list(values.values())[:6], **dict(list(values.items())[6:]))
        record("bare")
    events = ng.experience.get_events().set_index("event_id")
    pd.testing.assert_series_equal(events.loc[recorded], events.loc[created], check_names=False)
    bare = events[events.event_type == "bare"].iloc[0]
    assert bare.reward == 0
    assert bare.isna().sum() == len(events.columns) - 3
    assert abs(bare.timestamp - datetime.now(UTC)) < pd.Timedelta("1h")


def test_a_call_has_the_arguments_of_create_event():
    of_call = inspect.signature(ngdata._client.recorder.Recorded.__call__)
    of_method = inspect.signature(ngdata._client.experience.AsyncExperience.create_event)
    assert of_call == of_method


def test_a_state_may_be_changed_after_the_call(ng):
    state, inner = np.zeros(2), {"n": 0}
    with ng.experience.recorder() as record:
        for step in range(5):
            state[:] = step
            inner["n"] = step
            record("step", state_after={"at": state, "in": inner}, sequence_number=step)
    states = ng.experience.get_events().state_after.tolist()
    assert states == [{"at": [n, n], "in": {"n": n}} for n in range(5)]


def test_a_bad_value_raises_what_create_event_raises_and_nothing_is_taken(ng, database_url):
    bad = [
        {"event_type": None},
        {"event_type": "a\0"},
        {"timestamp": datetime(2026, 1, 1)},
        {"timestamp": 1_700_000_000},
        {"state_after": {"x": float("nan")}},
        {"action": [1]},
        {"reward": "1"},
        {"token_id": "x"},
        {"sequence_number": 1.5},
        {"metadata": {1: 2}},
        {"event_id": 7},
    ]
    with ng.experience.recorder() as record:
        for values in bad:
            arguments = {"event_type": "seen"} | values
            with pytest.raises(InvalidQueryError) as of_method:
                ng.experience.create_event(**arguments)
            with pytest.raises(InvalidQueryError) as of_call:
                record(**arguments)
            assert str(of_call.value) == str(of_method.value)
            assert of_call.value.unwritten is None
    assert written(database_url) == []


@pytest.mark.parametrize(
    "options",
    [
        {"delay": 0},
        {"delay": -1},
        {"delay": float("inf")},
        {"delay": "soon"},
        {"wait": -1},
        {"wait": None},
        {"max_waiting": 0},
        {"max_waiting": 1.5},
    ],
    ids=str,
)
def test_bad_options_are_refused(ng, options):
    [name] = options
    with pytest.raises(InvalidQueryError, match=name):
        ng.experience.recorder(**options)


def test_events_are_written_in_the_background(ng, database_url):
    record = ng.experience.recorder(delay=0.01)
    ids = [record("moved")]
    until(lambda: written(database_url) == ids)
    ids += [record("moved"), record("moved")]
    until(lambda: written(database_url) == ids)
    assert repr(record).startswith("<Recorder of ")
    assert repr(record).endswith("open: 3 events recorded, 3 written, 0 waiting>")
    record.close()
    record.close()
    assert "closed: 3 events" in repr(record)
    with pytest.raises(NGDataError, match="is closed") as closed:
        record("late")
    assert closed.value.unwritten.event_type.tolist() == ["late"]
    with pytest.raises(NGDataError, match="is closed"):
        record.__enter__()
    assert written(database_url) == ids


def test_threads_share_recorders_and_each_trajectory_keeps_its_order(ng, database_url, monkeypatch):
    monkeypatch.setattr(recording, "_BATCH_ROWS", 100)
    runs = [str(uuid.uuid4()) for _ in range(8)]
    with (
        ng.experience.recorder(delay=0.01) as one,
        ng.experience.recorder(delay=0.01, max_waiting=50) as other,
        ThreadPoolExecutor(8) as pool,
    ):

        def work(number):
            record = (one, other)[number % 2]
            return [record("step", 0, trajectory_id=runs[number]) for _ in range(500)]

        recorded = list(pool.map(work, range(8)))
    assert sorted(written(database_url)) == sorted(chain(*recorded))
    for run, ids in zip(runs, recorded, strict=True):
        assert ng.experience.get_trajectory(run).event_id.tolist() == ids


def test_refused_events_come_back_and_all_others_are_written(ng, database_url):
    token = ng.tokens.create({0: (0, 0, 0)})
    ended, existing, twice = ng.experience.start_trajectory(), str(uuid.uuid4()), str(uuid.uuid4())
    ng.experience.end_trajectory(ended)
    ng.experience.create_event("seen", event_id=existing)
    good, bad = [], []
    with ng.experience.recorder() as record:
        for step in range(30):
            good.append(record("good", token_id=token, sequence_number=step))
            if step % 3 == 0:
                bad.append(record("bad", 0, token_id=NO_TOKEN, state_after={"n": step}))
        good.append(record("good", event_id=twice))
        bad.append(record("bad", trajectory_id=ended, priority=1.5))
        bad.append(record("bad", event_id=twice, action={"a": None}))
        bad.append(record("bad", event_id=existing, metadata={"x": [1]}))
        with pytest.raises(
            IntegrityError, match=r"13 recorded events .* names no token"
        ) as refused:
            record.flush()
        message = str(refused.value)
        assert "has ended" in message
        assert "already exists" in message
        assert "nothing was written" not in message
        unwritten = refused.value.unwritten
        assert unwritten.event_id.tolist() == bad
        assert written(database_url) == [existing, *good]
        good.append(record("good"))
        record.flush()
    assert written(database_url) == [existing, *good]
    # What comes back can be corrected, and written again as it was recorded.
    corrected = unwritten.assign(token_id=None, trajectory_id=None)
    corrected = corrected[~corrected.event_id.isin([existing, twice])]
    again = ng.experience.bulk_create(corrected)
    events = ng.experience.get_events(event_type="bad").set_index("event_id")
    assert sorted(again) == sorted(events.index) == sorted(bad[:-2])
    assert [events.state_after[event]["n"] for event in bad[:10]] == list(range(0, 30, 3))
    assert events.priority[bad[10]] == 1.5


def test_an_event_that_the_server_refuses_by_another_rule_is_set_aside(ng, database_url, execute):
    execute(
        database_url,
        "ALTER TABLE experience.experience_events ADD CONSTRAINT short CHECK (length(event_type) < 5)",
    )
    try:
        with pytest.raises(InvalidQueryError) as refused, ng.experience.recorder() as record:
            ids = [record("large" if step == 11 else "ok") for step in range(20)]
    finally:
        execute(database_url, "ALTER TABLE experience.experience_events DROP CONSTRAINT short")
    assert refused.value.unwritten.event_id.tolist() == [ids.pop(11)]
    assert written(database_url) == ids


def test_the_loop_is_called_once_for_each_batch(ng, database_url, monkeypatch):
    calls = []
    call_loop = recording.Recording._call_loop
    monkeypatch.setattr(recording, "_BATCH_ROWS", 400)
    monkeypatch.setattr(
        recording.Recording, "_call_loop", lambda own: (calls.append(own), call_loop(own))
    )
    with ng.experience.recorder(delay=600) as record:
        ids = [record("moved") for _ in range(399)]
        assert len(calls) == 1
        assert written(database_url) == []
        ids.append(record("moved"))
        assert len(calls) == 2
        # A whole batch does not wait for the delay.
        until(lambda: written(database_url) == ids)


@pytest.mark.parametrize("seed", range(3))
def test_random_recordings(ng, database_url, monkeypatch, seed):
    """Three threads record and flush at random; each event is written once or comes back once."""
    monkeypatch.setattr(recording, "_BATCH_ROWS", 5)
    token = ng.tokens.create({0: (0, 0, 0)})
    recorded, unwritten = [[], [], []], []
    record = ng.experience.recorder(delay=0.002, max_waiting=20)

    def flush(call):
        try:
            call()
        except IntegrityError as error:
            unwritten.extend(error.unwritten.event_id)

    def work(number):
        chance = random.Random(f"{seed} {number}")
        for _ in range(80):
            bad = chance.random() < 0.1
            options = {"token_id": NO_TOKEN if bad else token, "event_type": f"of {number}"}
            try:
                recorded[number].append(record(**options))
            except IntegrityError as error:
                unwritten.extend(error.unwritten.event_id)
                # The last is that of the call.
                recorded[number].append(error.unwritten.event_id.iloc[-1])
            if chance.random() < 0.1:
                flush(record.flush)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    flush(record.close)
    ids = written(database_url)
    assert len(set(unwritten)) == len(unwritten)
    assert sorted(ids + unwritten) == sorted(chain(*recorded))
    for own in recorded:
        assert [event for event in ids if event in set(own)] == [
            event for event in own if event in set(ids)
        ]


def test_an_error_in_the_body_is_raised_and_its_events_are_written(ng, database_url):
    with pytest.raises(ZeroDivisionError) as raised, ng.experience.recorder() as record:
        ids = [record("moved"), record("moved")]
        1 / 0  # noqa: B018
    assert written(database_url) == ids
    assert not hasattr(raised.value, "unwritten")

    for kind in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(kind) as raised, ng.experience.recorder() as record:
            ids.append(record("moved"))
            bad = record("moved", token_id=NO_TOKEN)
            raise kind
        assert raised.value.unwritten.event_id.tolist() == [bad]
        assert "names no token" in raised.value.__notes__[0]
        assert written(database_url) == ids


def test_closing_the_client_writes_first(database_url):
    client = ngdata.connect(database_url)
    record, other = client.experience.recorder(delay=600), client.experience.recorder(delay=600)
    ids = [record("moved"), other("moved"), record("moved")]
    client.close()
    assert sorted(written(database_url)) == sorted(ids)
    with pytest.raises(NGDataError, match="closed"):
        record("moved")

    client = ngdata.connect(database_url)
    recorders = [client.experience.recorder(delay=600) for _ in range(2)]
    bad = [record("moved", token_id=NO_TOKEN) for record in recorders]
    with pytest.raises(IntegrityError) as refused:
        client.close()
    assert sorted(refused.value.unwritten.event_id) == sorted(bad)


def test_the_async_recorder(database_url):
    async def main():
        ang = await ngdata.connect_async(database_url)
        async with ang.experience.recorder(delay=0.01) as record:
            ids = [record("moved")]
            ids.append(await asyncio.to_thread(record, "moved"))
            await record.flush()
            assert written(database_url) == ids
            record("moved", token_id=NO_TOKEN)
            with pytest.raises(IntegrityError):
                await record.flush()
            ids.append(record("moved"))
            while written(database_url) != ids:
                await asyncio.sleep(0.01)
        with pytest.raises(NGDataError, match="belongs to the event loop"):
            await asyncio.to_thread(lambda: asyncio.run(record.flush()))
        # The end of the loop closes the client, and with it a recorder that nobody closed.
        forgotten = ang.experience.recorder(delay=600)
        return [*ids, forgotten("moved")]

    ids = asyncio.run(main())
    assert written(database_url) == ids


def test_cancelling_the_body_or_the_flush_loses_nothing(database_url):
    ids = []

    async def work(ang, ready):
        async with ang.experience.recorder() as record:
            ids.extend(record("moved") for _ in range(10))
            ready.set()
            await asyncio.sleep(60)

    async def main():
        async with await ngdata.connect_async(database_url) as ang:
            ready = asyncio.Event()
            task = asyncio.create_task(work(ang, ready))
            await ready.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert written(database_url) == ids
            with locked_events(database_url):
                record = ang.experience.recorder(delay=600)
                for _ in range(3):
                    ids.append(record("moved"))
                    flush = asyncio.create_task(record.flush())
                    await asyncio.sleep(0.05)
                    flush.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await flush
            # Nobody flushes: what was cancelled goes on in the background.
            while written(database_url) != ids:
                await asyncio.sleep(0.01)

    asyncio.run(main())


def test_an_interrupted_flush_goes_on_in_the_background(ng, database_url):
    record = ng.experience.recorder(delay=600)
    with locked_events(database_url):
        ids = [record("moved") for _ in range(3)]
        threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            record.close()
        assert written(database_url) == []
    until(lambda: written(database_url) == ids)


def test_a_full_queue_is_an_error_after_the_wait(ng, database_url):
    record = ng.experience.recorder(delay=0.001, wait=0.2, max_waiting=10)
    ids = []
    with (
        locked_events(database_url),
        pytest.raises(OutOfResources, match=r"max_waiting allows, 10, .* does not keep up") as full,
    ):
        while True:
            ids.append(record("moved"))
    assert 10 <= len(ids) <= 20
    assert full.value.unwritten.event_type.tolist() == ["moved"]
    again = ng.experience.bulk_create(full.value.unwritten)
    record.close()
    assert sorted(written(database_url)) == sorted([*ids, *again])


def test_a_full_queue_is_an_error_at_once_in_the_loop_that_writes_it(database_url):
    async def main():
        async with (
            await ngdata.connect_async(database_url) as ang,
            ang.experience.recorder(wait=600, max_waiting=10) as record,
        ):
            ids = [record("moved") for _ in range(10)]
            with pytest.raises(OutOfResources, match=r"Await record.flush\(\)") as full:
                record("late")
            assert full.value.unwritten.event_type.tolist() == ["late"]
            await record.flush()
            return [*ids, record("moved")]

    ids = asyncio.run(main())
    assert written(database_url) == ids


def test_a_reader_is_refused_before_it_records(ng, database_url):
    with ngdata.connect(database_url, read_only=True) as reader:
        with pytest.raises(ConfigError) as of_method:
            reader.experience.create_event("seen")
        with pytest.raises(ConfigError) as of_recorder, reader.experience.recorder():
            pytest.fail("the body ran")
        assert of_recorder.value.sqlstate == of_method.value.sqlstate == "25006"
        record = reader.experience.recorder()
        event_id = record("seen")
        with pytest.raises(ConfigError) as unwritten:
            record.close()
        assert unwritten.value.unwritten.event_id.tolist() == [event_id]
    with pytest.raises(InvalidQueryError, match="explain takes a method that reads"):
        ng.explain(ng.experience.recorder)


def test_the_step_loop_of_an_environment(ng):
    """Every transition of random episodes of CartPole, compared with a copy kept in Python."""
    environment = gymnasium.make("CartPole-v1")
    environment.action_space.seed(1)
    episodes, rows = [str(uuid.uuid4()) for _ in range(12)], []
    with ng.experience.recorder() as record:
        for seed, run in enumerate(episodes):
            before, _ = environment.reset(seed=seed)
            done, step = False, 0
            while not done:
                action = environment.action_space.sample()
                after, reward, terminated, truncated, info = environment.step(action)
                record(
                    "step",
                    state_before={"observation": before},
                    state_after={"observation": after, "terminated": terminated},
                    action={"push": action},
                    reward=reward,
                    trajectory_id=run,
                    sequence_number=step,
                    metadata=info,
                )
                row = {"before": before.tolist(), "after": after.tolist(), "push": int(action)}
                rows.append({"run": run, "step": step, "reward": reward, "end": terminated} | row)
                before, done, step = after, terminated or truncated, step + 1
    environment.close()
    copy = pd.DataFrame(rows)
    assert len(copy) > 150
    listed = ng.experience.list_trajectories().set_index("trajectory_id")
    for run, steps in copy.groupby("run"):
        events = ng.experience.get_trajectory(run)
        assert events.sequence_number.tolist() == steps.step.tolist()
        assert events.reward.tolist() == steps.reward.tolist()
        assert events.cumulative_reward.tolist() == np.cumsum(steps.reward).tolist()
        assert [s["observation"] for s in events.state_before] == steps.before.tolist()
        assert [s["observation"] for s in events.state_after] == steps.after.tolist()
        assert [s["terminated"] for s in events.state_after] == steps.end.tolist()
        assert [a["push"] for a in events.action] == steps.push.tolist()
        assert events.timestamp.is_monotonic_increasing
        assert listed.event_count[run] == len(steps)
        assert listed.total_reward[run] == steps.reward.sum()


def test_a_closed_client_opens_no_recorder(database_url):
    client = ngdata.connect(database_url)
    client.close()
    with pytest.raises(NGDataError, match=r"client is closed; open a new one"):
        client.experience.recorder()


def test_an_error_in_the_clients_body_is_raised_with_what_was_not_written(database_url):
    for kind in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(kind) as raised, ngdata.connect(database_url) as client:
            bad = client.experience.recorder(delay=600)("moved", token_id=NO_TOKEN)
            raise kind
        assert raised.value.unwritten.event_id.tolist() == [bad]
        assert "names no token" in raised.value.__notes__[0]

    async def main():
        async with asyncio.timeout(0.1), await ngdata.connect_async(database_url) as client:
            client.experience.recorder(delay=600)("moved", token_id=NO_TOKEN)
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        asyncio.run(main())


def test_an_interrupted_close_of_the_client_loses_no_report(database_url):
    client = ngdata.connect(database_url)
    record = client.experience.recorder(delay=600)
    with locked_events(database_url):
        bad = record("moved", token_id=NO_TOKEN)
        threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            client.close()
    until(lambda: "0 waiting" in repr(record))
    with pytest.raises(IntegrityError, match="names no token") as refused:
        client.close()
    assert refused.value.unwritten.event_id.tolist() == [bad]
    client.close()


def test_an_interrupt_at_any_line_of_a_call_does_not_hold_up_later_events(ng, database_url):
    def interrupt_at(number):
        """Raise at this line of `recording`, counted from 1; return whether the call came there."""
        line = 0

        def trace(frame, event, _):
            nonlocal line
            if frame.f_code.co_filename != recording.__file__:
                return None
            line += event == "line"
            if line == number:
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            record("interrupted")
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    number = 1
    is_interrupted = True
    while is_interrupted:
        record = ng.experience.recorder(delay=0.02)
        is_interrupted = interrupt_at(number)
        event = record("moved")
        until(lambda event=event: event in written(database_url))
        number += 1
    assert number > 10


def test_many_refused_ids_are_found_at_once(ng, database_url, monkeypatch):
    copied = []
    copy_batch = event_writer.copy_batch

    def copy(connection, relation, table, **options):
        copied.append(table.num_rows)
        return copy_batch(connection, relation, table, **options)

    monkeypatch.setattr(event_writer, "copy_batch", copy)
    tokens = ng.tokens.bulk_create({"x": [0.0] * 20, "y": 0.0, "z": 0.0})
    record = ng.experience.recorder(delay=600)
    good, bad = [], []
    for token in tokens:
        bad += [record("moved", token_id=uuid.uuid4()) for _ in range(20)]
        good.append(record("moved", token_id=token))
    good.append(record("moved"))
    with pytest.raises(IntegrityError, match=r"400 .* names no token; .* other reasons") as refused:
        record.flush()
    assert refused.value.sqlstate == "23503"
    assert refused.value.unwritten.event_id.tolist() == bad
    assert written(database_url) == good
    assert copied == [421, 21]

    again = [record("moved", event_id=event) for event in good]
    last = [record("moved")]
    with pytest.raises(IntegrityError, match=r"event_id \S+ already exists") as refused:
        record.flush()
    assert refused.value.unwritten.event_id.tolist() == again
    assert written(database_url) == good + last
    assert copied[2:] == [22, 1]
