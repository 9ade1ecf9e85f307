"""Interrupts of every kind of sync call, at random moments: quick, quiet, whole or nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.conftest import SCALE

PROGRAM = Path(__file__).with_name("interrupted_program.py")

# Each seed is 40 interrupts; NGDATA_TEST_SCALE=5 makes them 200.
SEEDS = range(SCALE)
INTERRUPTS = 40

# Measured on a machine with other work: 0.54 s at most, in 600 interrupts.
SECONDS = 5


@pytest.mark.parametrize("seed", SEEDS)
def test_interrupts_at_any_moment(observed, server, execute, tmp_path, seed):
    store = redis.Redis.from_url(server.redis_url)
    newest = int(store.client_id())
    others = observed.count("true")
    arguments = [observed.url, server.redis_url, str(seed), str(INTERRUPTS), str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, PROGRAM, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        report = program.stdout.readline()
        if report:  # it still runs, so its connections can only have been closed
            observed.until(lambda: observed.count("true") == others)
            observed.until(
                lambda: all(int(client["id"]) <= newest for client in store.client_list())
            )
        out, err = program.communicate("\n")
        assert (program.returncode, out, err) == (0, "", "")
    store.close()

    outcome = json.loads(report)
    interrupts = outcome["interrupts"]
    assert len(interrupts) == INTERRUPTS
    assert sum(was_running for _, _, was_running in interrupts) > INTERRUPTS / 3
    assert max(seconds for _, seconds, _ in interrupts) < SECONDS
    assert outcome["in_use"] == {"read": 0, "write": 0}
    assert outcome["after"] == outcome["before"]  # threads and descriptors
    assert outcome["halves"] == []
    for statement, whole in outcome["whole"].items():
        assert {count for (count,) in execute(observed.url, statement)} <= {whole}, statement
