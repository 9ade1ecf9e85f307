"""A program that fills the disk under its own servers; test_scarcity_disk.py runs it and reads its report.

    python full_disk.py DIRECTORY

DIRECTORY is a file system of its own, of some 250 MB.  The report, on the last line, is JSON: what each
step raised or returned.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg

import ngdata
from ngdata import _local

EVERYWHERE = ((-1.0,) * 3, (2.0,) * 3)
# Free bytes on a full disk: for the log's lines, and no segment of 16 MB.
LITTLE = 1 << 20
ROWS = 40_000


def outcome(call: Callable[[], Any]) -> dict[str, Any]:
    """Return what a call raised, or what it returned."""
    try:
        result = call()
    except Exception as error:
        return {"error": type(error).__name__, "text": str(error)}
    return {"error": None, "result": result}


@contextmanager
def filled(directory: Path) -> Iterator[None]:
    """Fill the file system but for a little, and free it again."""
    filler = directory / "filler"
    info = os.statvfs(directory)
    with filler.open("xb") as file:
        os.posix_fallocate(file.fileno(), 0, info.f_bavail * info.f_frsize - LITTLE)
    try:
        yield
    finally:
        filler.unlink()


def frame(rows: int = ROWS) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(rows).random((rows, 3)), columns=list("xyz"))


def count(ng: ngdata.Client) -> int:
    """Return the number of tokens, read in two ways that must agree."""
    counted = ng.tokens.count_in_region(*EVERYWHERE, cache="off")
    rows = ng.tokens.find_in_region(*EVERYWHERE, columns=["x"], cache="off")
    assert counted == len(rows)
    return counted


def recycle_segments(url: str) -> None:
    """Leave segments of the server's log for reuse, so that rows find the disk full, not the log."""
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(5):
            connection.execute("CREATE TABLE public.step (); DROP TABLE public.step")
            connection.execute("SELECT pg_switch_wal()")
        connection.execute("CHECKPOINT")


def write_until_the_log_is_full(ng: ngdata.Client, url: str) -> dict[str, Any]:
    """Write until the server has no place for its log, which stops it."""
    for written in range(40):
        result = outcome(lambda: ng.tokens.create({0: (0.5, 0.5, 0.5)}))
        if result["error"] is not None:
            return result | {"written": written}
        with contextlib.suppress(psycopg.Error), psycopg.connect(url, autocommit=True) as other:
            other.execute("SELECT pg_switch_wal()")
    return {"error": None}


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the state was not reached"
        time.sleep(0.05)


def run(directory: Path) -> dict[str, Any]:
    """Run the steps, and return the report."""
    report: dict[str, Any] = {}
    home = directory / "home"
    command = [sys.executable, "-c", "from ngdata.admin.cli import app; app()"]

    with filled(directory):
        # Nothing is there yet: initdb finds the disk full.
        ended = subprocess.run(
            [*command, "demo"],
            env=os.environ | {"NGDATA_HOME": str(directory / "demo")},
            capture_output=True,
            text=True,
            check=False,
        )
        report["demo"] = {"code": ended.returncode, "text": ended.stderr}
    addresses = _local.up(home, durable=False)
    ng = ngdata.connect(addresses.database_url, redis_url=addresses.redis_url)
    ng.tokens.bulk_create(frame(1_000), progress=False)
    recycle_segments(addresses.database_url)
    file = directory / "region.parquet"
    file.write_bytes(b"as before")

    with filled(directory):
        report["bulk_create"] = outcome(lambda: len(ng.tokens.bulk_create(frame(), progress=False)))
        report["count while full"] = outcome(lambda: count(ng))
        report["to_geoparquet"] = outcome(lambda: ng.tokens.to_geoparquet(file))
        # A file that fits in what is left must not stay in part, either.
        filler = directory / "filler 2"
        left = os.statvfs(directory).f_bavail * os.statvfs(directory).f_frsize
        filler.write_bytes(bytes(left))
        report["to_geoparquet, no byte left"] = outcome(lambda: ng.tokens.to_geoparquet(file))
        report["file"] = file.read_bytes().decode()
        report["files"] = sorted(path.name for path in directory.iterdir())
        filler.unlink()
    report["bulk_create with room"] = outcome(
        lambda: len(ng.tokens.bulk_create(frame(2_000), progress=False))
    )
    report["count with room"] = outcome(lambda: count(ng))

    with filled(directory):
        report["log full"] = write_until_the_log_is_full(ng, addresses.database_url)
        until(lambda: not _local.status(home).running)
        until(lambda: outcome(lambda: _local.up(home, durable=False))["error"] is not None)
        report["read while stopped"] = outcome(lambda: count(ng))
        report["write while stopped"] = outcome(lambda: len(ng.tokens.bulk_create(frame(10))))
        report["up while full"] = outcome(lambda: str(_local.up(home, durable=False)))
    report["same address"] = _local.up(home, durable=False) == addresses
    report["count after restart"] = outcome(lambda: count(ng))
    report["write after restart"] = outcome(
        lambda: len(ng.tokens.bulk_create(frame(500), progress=False))
    )
    report["count at the end"] = outcome(lambda: count(ng))
    ng.close()
    return report


if __name__ == "__main__":
    place = Path(sys.argv[1])
    try:
        print(json.dumps(run(place)))
    finally:
        for name in ("home", "demo"):
            _local.down(place / name)
