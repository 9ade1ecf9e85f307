"""Recorders whose server is killed, cut off or frozen, and whose process forks or exits.

After each fault, the store has every recorded event, once and in order, except for those in the
error's `unwritten`.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import sys
import threading
import uuid

import pytest

import ngdata
from ngdata._arguments.texts import STR
from ngdata._client import recording
from ngdata.errors import DatabaseUnavailable, IntegrityError
from tests.conftest import SCALE, empty, execute


def written(url):
    """Return the ids of all events, in the order in which the server received them."""
    rows = execute(url, "SELECT id FROM experience.experience_events ORDER BY entry_number")
    return [str(row[0]) for row in rows]


@pytest.fixture
def url(victim):
    victim.up()
    empty(victim.url)
    return victim.url


def test_a_server_that_is_killed_and_started_again_loses_no_event(
    victim, url, monkeypatch, wait_until, caplog
):
    monkeypatch.setattr(recording, "_BATCH_ROWS", 50)
    with ngdata.connect(url) as ng:
        record = ng.experience.recorder(delay=0.001)
        ids = []
        stop = threading.Event()

        def work():
            while not stop.is_set():
                ids.append(record("step", sequence_number=len(ids)))
                stop.wait(0.0002)

        thread = threading.Thread(target=work)
        thread.start()
        wait_until(lambda: len(written(url)) > 100)
        victim.kill()
        count = len(ids)
        wait_until(lambda: len(ids) > count + 100)
        victim.up()
        stop.set()
        thread.join()
        record.close()
        assert written(url) == ids
    assert "recorded events cannot be written now (DatabaseUnavailable)" in caplog.text


def test_a_frozen_server_is_waited_for(victim, url, caplog):
    with ngdata.connect(url, connect_timeout=0.5) as ng:
        with ng.experience.recorder(delay=0.001) as record:
            ids = [record("moved")]
            record.flush()
            with victim.frozen():
                ids += [record("moved") for _ in range(10)]
                thread = threading.Thread(target=record.flush)
                thread.start()
                # The connection is given up meanwhile, and the next ones are not answered.
                thread.join(1.5)
                assert thread.is_alive()
            thread.join(20)
            assert not thread.is_alive()
        assert written(url) == ids
    # Which of them depends on whether the server was frozen while it was asked.
    assert re.search("has stopped answering|closed an idle connection", caplog.text)


class Proxy:
    """An address of the server that can be away, and can cut the connection at the next COMMIT.

    Parameters
    ----------
    url : str
    commit : str
        What becomes of the COMMIT, once `is_armed`: it ``"arrives"``, ``"is lost"``, ``"is late"``
        and arrives after `release`, or ``"is the last"`` and arrives before the server is away.
    """

    def __init__(self, url, commit="arrives"):
        self._server = url.split("host=")[1].split("&")[0] + "/.s.PGSQL.5432"
        self._commit = commit
        self._port = 0
        self._sockets = []
        self.is_armed = False
        self.release = threading.Event()
        self.open()
        self.url = f"postgresql://ngdata@127.0.0.1:{self._port}/ngdata"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def open(self):
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self):
        for end in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                self._sockets += [client, server]
                for work in (self._to_server, self._to_client):
                    threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _to_server(self, client, server):
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self.is_armed and b"COMMIT;" in data:
                    self.is_armed = False
                    client.shutdown(socket.SHUT_RDWR)
                    if self._commit == "is late":
                        self.release.wait(20)
                    if self._commit == "is the last":
                        self._listener.shutdown(socket.SHUT_RDWR)
                        self._listener.close()
                    if self._commit != "is lost":
                        server.sendall(data)
                    break
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _to_client(self, client, server):
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
        client.close()
        server.close()


def test_events_come_back_when_the_server_stays_away(observed):
    with Proxy(observed.url) as proxy, ngdata.connect(proxy.url) as ng:
        with (
            pytest.raises(DatabaseUnavailable, match="were not written") as lost,
            ng.experience.recorder(delay=0.001, wait=0.2) as record,
        ):
            ids = [record("moved")]
            record.flush()
            proxy.close()
            ids += [record("moved", state_after={"n": n}, priority=n) for n in range(5)]
        assert lost.value.unwritten.event_id.tolist() == ids[1:]
        assert lost.value.unwritten.event_type.dtype == STR

        record = ng.experience.recorder(delay=0.001, wait=0.1)
        late = []
        with pytest.raises(DatabaseUnavailable) as told:  # also without a flush
            while True:
                late.append(record("late"))
        *events, last = told.value.unwritten.event_id
        assert events == late

        proxy.open()
        # The recorder begins anew, and what came back is written in one line.
        ids.append(record("again"))
        record.flush()
        for error in (lost.value, told.value):
            ng.experience.bulk_create(error.unwritten)
        assert written(observed.url) == [ids[0], ids[-1], *ids[1:-1], *late, last]
        states = ng.experience.get_events(event_type="moved").state_after.tolist()
        assert states[1:] == [{"n": n} for n in range(5)]


@pytest.mark.parametrize("commit", ["arrives", "is lost", "is late"])
def test_a_connection_that_is_cut_at_the_commit_writes_each_event_once(observed, commit):
    with Proxy(observed.url, commit) as proxy, ngdata.connect(proxy.url) as ng:
        with ng.experience.recorder(delay=600) as record:
            run = ng.experience.start_trajectory()
            ids = [record("moved", trajectory_id=run, reward=2) for _ in range(20)]
            proxy.is_armed = True
            flush = threading.Thread(target=record.flush)
            flush.start()
            if commit == "is late":
                # The events are not in the store yet; a second write of them waits for the first.
                observed.until_locked_out()
                proxy.release.set()
            flush.join(30)
            assert not flush.is_alive()
            assert not proxy.is_armed
            assert written(observed.url) == ids
            ids.append(record("moved"))
        assert written(observed.url) == ids
        assert ng.experience.list_trajectories().total_reward.tolist() == [40]


def test_events_whose_commit_had_no_answer_come_back_and_cannot_be_written_twice(
    observed, wait_until
):
    with Proxy(observed.url, "is the last") as proxy, ngdata.connect(proxy.url) as ng:
        record = ng.experience.recorder(delay=600, wait=0.1)
        ids = [record("moved"), record("moved")]
        proxy.is_armed = True
        with pytest.raises(DatabaseUnavailable, match="at the commit of 2 of them") as lost:
            record.flush()
        wait_until(lambda: written(observed.url) == ids)
        assert lost.value.unwritten.event_id.tolist() == ids
        proxy.open()
        with pytest.raises(IntegrityError, match="already exists"):
            ng.experience.bulk_create(lost.value.unwritten)
        assert written(observed.url) == ids


def test_interrupts_at_any_moment_lose_no_event_and_no_report(ng, database_url, monkeypatch):
    """Of calls and flushes; an interrupted call may have recorded its event."""
    monkeypatch.setattr(recording, "_BATCH_ROWS", 100)
    report = sys.unraisablehook
    # In the callback of a weak reference Python reports an interrupt and goes on.
    monkeypatch.setattr(
        sys, "unraisablehook", lambda u: u.exc_type is KeyboardInterrupt or report(u)
    )
    chance = random.Random(1)
    is_armed = False
    good, bad, unwritten, recorded = [], [], [], []

    def interrupt(*_):
        nonlocal is_armed
        if is_armed:
            is_armed = False
            raise KeyboardInterrupt

    def record_until_interrupted():
        nonlocal is_armed
        is_armed = True
        while True:
            event = str(uuid.UUID(int=chance.getrandbits(128), version=4))
            recorded.append(event)
            if chance.random() < 0.98:
                good.append(record("good", event_id=event))
            else:
                bad.append(record("bad", event_id=event, token_id=event))
            if chance.random() < 0.01:
                record.flush()

    def send():
        while not stop.wait(chance.random() / 100):
            os.kill(os.getpid(), signal.SIGINT)

    stop = threading.Event()
    sender = threading.Thread(target=send)
    record = ng.experience.recorder(delay=0.002, max_waiting=500)
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        sender.start()
        for _ in range(50 * SCALE):
            try:
                record_until_interrupted()
            except KeyboardInterrupt:
                pass
            except IntegrityError as error:
                is_armed = False
                unwritten += error.unwritten.event_id.tolist()
    finally:
        is_armed = False
        stop.set()
        sender.join()
        signal.signal(signal.SIGINT, before)
    try:
        record.close()
    except IntegrityError as error:
        unwritten += error.unwritten.event_id.tolist()
    ids = written(database_url)
    assert len(set(ids + unwritten)) == len(ids) + len(unwritten)
    assert set(good) <= set(ids)
    assert set(bad) <= set(unwritten)
    assert ids == [event for event in recorded if event in set(ids)]


EXITS = {
    # The event loop of `ang` is not closed, so it runs once more.
    "at the end of the script": """
import asyncio
loop = asyncio.new_event_loop()
ang = loop.run_until_complete(ngdata.connect_async(URL))
other = ang.experience.recorder(delay=600)
other("moved")
threading.Thread(target=sys.exit).start()
""",
    "by an error, while a thread records": """
def work():
    while True:
        record("late")
threading.Thread(target=work, daemon=True).start()
record.__enter__()
raise ValueError
""",
}


@pytest.mark.parametrize("way", EXITS)
def test_the_exit_of_the_interpreter_writes_what_waits(observed, script, way):
    code = """
import sys, threading
ng = ngdata.connect(URL)
record = ng.experience.recorder(delay=600)
for _ in range(1000):
    record("moved")
"""
    with script(code + EXITS[way]) as program:
        _, err = program.communicate(timeout=30)
    rows = execute(observed.url, "SELECT event_type FROM experience.experience_events")
    is_error = way.startswith("by an error")
    assert rows.count(("moved",)) == (1000 if is_error else 1001)
    assert program.returncode == is_error
    assert "not written" not in err
    assert ("ValueError" in err) == is_error


def test_threads_that_are_refused_do_not_hold_up_the_exit(observed, script):
    """Each refusal has a frame, which Arrow's own threads must not make while Python ends."""
    code = """
import threading, time
ng = ngdata.connect(URL)
record = ng.experience.recorder()
record.close()
def work():
    while True:
        try:
            record("late")
        except ngdata.errors.NGDataError as error:
            assert len(error.unwritten) == 1
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.5)
"""
    with script(code) as first, script(code) as second:
        for program in (first, second):
            assert program.communicate(timeout=60) == ("", "")
            assert program.returncode == 0


def test_an_exit_says_what_it_could_not_write(observed, script):
    code = """
ng = ngdata.connect(URL)
record, other, late = (ng.experience.recorder(delay=600) for _ in range(3))
record("moved", token_id="00000000-0000-4000-8000-000000000001")
record("moved")
import asyncio
loop = asyncio.new_event_loop()
ang = loop.run_until_complete(ngdata.connect_async(URL))
abandoned = ang.experience.recorder(delay=600)
abandoned("moved"), abandoned("moved")
loop.close()
"""
    with script(code) as program:
        _, err = program.communicate(timeout=30)
    lines = sorted(line for line in err.splitlines() if line.startswith("ngdata:"))
    assert len(lines) == 2
    assert "1 recorded event was not written: token_id" in lines[0]
    assert "2 recorded events were not written: the event loop" in lines[1]
    assert len(written(observed.url)) == 1


FORKED = """
import os, sys, warnings
warnings.simplefilter("ignore")
ng = ngdata.connect(URL)
with ng.experience.recorder(delay=600) as record:
    record("parent")
    child = os.fork()
    if child == 0:
        for call in (lambda: record("child"), record.flush, record.close):
            try:
                call()
            except ngdata.errors.NGDataError as error:
                print(error, flush=True)
        sys.exit(0)
    os.waitpid(child, 0)
"""


def test_a_forked_child_cannot_record_and_does_not_write_the_parents_events(observed, script):
    with script(FORKED) as program:
        out, err = program.communicate(timeout=30)
    assert [("before the process forked" in line) for line in out.splitlines()] == [True] * 3
    assert "not written" not in err
    rows = execute(observed.url, "SELECT event_type FROM experience.experience_events")
    assert rows == [("parent",)]
