"""The example of the earlier layer as a program: with the embedded servers, and with named ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"

EXPECTED = [
    "PostgreSQL answers: True, Redis answers: True",
    "got a token of type example with {'x': 1.0}",
    "neighbor by spatial, weight 0.8",
    "near x = 1 on level 0: [{'x': 1.0}]",
    "near x = 1 on level 1: [{'x': 2.0}]",
    "in 0, out 1, all 1",
    "connected True, seen by the pool:",
    "in Redis under its old key: None",
    "made 1000, found 1000",
    "rewards of the last three events: [2.0, 3.0, 4.0]",
]


@pytest.mark.parametrize("named", [False, True])
def test_the_example_runs(config, outside, named):
    environment = dict(os.environ)
    if named:
        postgres = config["postgres"]
        environment |= {
            "POSTGRES_HOST": postgres["host"],
            "POSTGRES_DB": postgres["database"],
            "POSTGRES_USER": postgres["user"],
            "REDIS_HOST": config["redis"]["host"],
        }
    done = subprocess.run(
        # A coroutine that is not awaited, or a connection left open, is a warning, and so an error.
        [sys.executable, "-W", "error", "neurograph_layer.py"],
        cwd=EXAMPLES,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("Pool size")] == EXPECTED
    assert any(line.startswith("Pool size: 5 ") for line in lines)
    for table in ("tokens.tokens", "graph.connections", "experience.experience_events"):
        assert outside.one(f"SELECT count(*) FROM {table}") == 0
