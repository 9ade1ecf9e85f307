"""A disk that is full under the servers and under the files that ngdata writes.

The program `full_disk` runs once, on a small file system of its own, and reports what each step
raised or returned; each test here is a claim about that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

_MOUNT = 'mount -t tmpfs -o size=260m,mode=711 tmpfs "$0" && exec "$@"'


def _in_namespace(directory: Path) -> list[str]:
    """Return the start of a command that mounts a small file system for itself alone.

    Without root's rights, that takes a user namespace, and inside it another one in which the user is
    again itself: PostgreSQL refuses to run as root.
    """
    if os.geteuid() == 0:
        return ["unshare", "--mount", "/bin/sh", "-c", _MOUNT, str(directory)]
    again = ["unshare", "--user", f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}"]
    outer = ["unshare", "--map-root-user", "--mount", "/bin/sh", "-c", _MOUNT, str(directory)]
    return [*outer, *again]


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="ngdata disk ") as name:
        Path(name).chmod(0o711)
        prefix = _in_namespace(Path(name))
        try:
            possible = subprocess.run(
                [*prefix, "true"], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            pytest.skip(
                "this machine has no `unshare`, which mounts a small file system for a test"
            )
        if possible.returncode:
            reason = possible.stderr.strip()
            pytest.skip(f"this machine does not let a test mount a file system: {reason}")
        program = [sys.executable, "-m", "tests.faults.full_disk", name]
        ended = subprocess.run(
            [*prefix, *program], capture_output=True, text=True, check=False, cwd=ROOT
        )
    assert ended.returncode == 0, ended.stderr
    steps: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return steps


def test_a_demo_on_a_full_disk_says_what_is_full(report):
    assert report["demo"]["code"] == 1
    assert report["demo"]["text"].startswith("ngdata: PostgreSQL could not create its data in ")
    assert "No space left on device" in report["demo"]["text"]


def test_a_bulk_write_that_fills_the_disk_says_so_and_writes_nothing(report):
    result = report["bulk_create"]
    assert result["error"] == "OutOfResources"
    assert "SQLSTATE 53100): the disk of the server is full; nothing was written" in result["text"]
    assert "postgresql://ngdata@/ngdata in " in result["text"]
    assert report["count while full"] == {"error": None, "result": 1_000}


def test_the_same_client_writes_again_once_there_is_room(report):
    assert report["bulk_create with room"] == {"error": None, "result": 2_000}
    assert report["count with room"] == {"error": None, "result": 3_000}


@pytest.mark.parametrize("step", ["to_geoparquet", "to_geoparquet, no byte left"])
def test_a_file_on_a_full_disk_is_as_it_was_before(report, step):
    assert report[step]["error"] == "OutOfResources"
    assert report[step]["text"].endswith(
        "region.parquet' could not be written, and is as it was before: the disk is full; free space "
        "there, and try again"
    )
    assert report["file"] == "as before"
    assert report["files"] == ["demo", "filler", "filler 2", "home", "region.parquet"]


def test_a_server_that_stops_because_its_log_is_full(report):
    """PostgreSQL must stop then; the errors say why, and what starts it again."""
    assert report["log full"]["error"] in ("OutOfResources", "DatabaseUnavailable")
    for step in ("read while stopped", "write while stopped"):
        assert report[step]["error"] == "DatabaseUnavailable"
        assert "`ngdata up` starts the embedded one" in report[step]["text"]
    assert report["up while full"]["error"] == "DatabaseUnavailable"
    assert "No space left on device" in report["up while full"]["text"]


def test_a_server_that_stopped_loses_nothing_and_the_same_client_goes_on(report):
    committed = 3_000 + report["log full"]["written"]
    assert report["same address"]
    assert report["count after restart"] == {"error": None, "result": committed}
    assert report["write after restart"] == {"error": None, "result": 500}
    assert report["count at the end"] == {"error": None, "result": committed + 500}
