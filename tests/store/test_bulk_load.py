"""`bulk_load`: frames one after the other, in one transaction, with the memory of one frame."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from typer.testing import CliRunner

import ngdata
from ngdata.admin import cli
from ngdata.errors import IntegrityError, InvalidQueryError
from ngdata.files import load
from tests.schema.test_triggers import derived, indexed

ESTIMATES = (
    "SELECT relname::text, reltuples::int FROM pg_class WHERE relname IN ('tokens', 'spatial_index_0')"
    " AND relnamespace = 'tokens'::regnamespace ORDER BY 1 DESC"
)


@pytest.fixture
def url(migrated_database):
    return migrated_database


def frame(number: int, rows: int = 60) -> pd.DataFrame:
    random = np.random.default_rng(number)
    frame = pd.DataFrame(random.random((rows, 3)), columns=list("xyz"))
    return frame.assign(
        token_id=range(number * rows, (number + 1) * rows), weight=random.random(rows)
    )


def frames(count: int):
    return (frame(number) for number in range(count))


def contents(url) -> pd.DataFrame:
    with ngdata.connect(url, ids="integer") as client:
        columns = ["token_id", "x", "y", "z", "weight"]
        found = client.tokens.find_in_region(ngdata.EVERYWHERE, columns=columns)
    return found.sort_values("token_id", ignore_index=True)


@pytest.mark.parametrize("initial", [False, True])
def test_the_rows_of_all_frames(url, execute, initial):
    with ngdata.connect(url) as client:
        assert client.tokens.bulk_load(frames(5), initial=initial) == 300
        # Its triggers are there again.
        client.tokens.create({"motor": (1.0, 2.0, 3.0)}, token_id=10**6)
        client.tokens.delete(10**6)
    assert indexed(url) == derived(url) != []
    expected = pd.concat(map(frame, range(5)), ignore_index=True).astype({"token_id": "uint64"})
    pd.testing.assert_frame_equal(contents(url), expected[["token_id", "x", "y", "z", "weight"]])
    if initial:
        # The planner knows the sizes without waiting for autovacuum.
        estimates = dict(execute(url, ESTIMATES))
        assert estimates["spatial_index_0"] == 300
        assert estimates["tokens"] >= 300


def test_statistics_of_each_initial_load(url, execute, tmp_path):
    frame(0).to_csv(tmp_path / "tokens.csv", index=False)
    frame(0).to_parquet(tmp_path / "tokens.parquet", index=False)
    empty = "TRUNCATE tokens.tokens CASCADE"
    with ngdata.connect(url) as client:
        for write in (
            lambda: client.tokens.bulk_create(frame(0), initial=True),
            lambda: load(client, tmp_path / "tokens.csv", initial=True),
            lambda: load(client, tmp_path / "tokens.parquet", initial=True),
        ):
            write()
            assert dict(execute(url, ESTIMATES))["spatial_index_0"] == 60
            assert indexed(url) == derived(url) != []
            execute(url, empty)
            execute(url, "ANALYZE tokens.spatial_index")


def test_kinds_of_iterables(url):
    async def in_async_code():
        async def slowly():
            for number in range(2, 4):
                await asyncio.sleep(0)
                yield frame(number)

        async with await ngdata.connect_async(url) as ang:
            one = await ang.tokens.bulk_load(slowly())
            return one + await ang.tokens.bulk_load(frame(number) for number in (4,))

    with ngdata.connect(url) as client:
        tokens = client.tokens
        assert tokens.bulk_load([]) == 0
        assert tokens.bulk_load([frame(0), frame(5).iloc[:0]]) == 60
        assert tokens.bulk_load(iter([pa.Table.from_pandas(frame(1), preserve_index=False)])) == 60
        assert asyncio.run(in_async_code()) == 180
        extra = frame(6).assign(cell_type="AVA")
        assert tokens.bulk_load([extra], extra="metadata", level="motor") == 60
        kept = tokens.find(where={"cell_type": "AVA"}, columns=["token_id", "coords"])
        assert len(kept) == 60
        assert np.isfinite(kept.coords[0][2]).all()
    assert len(contents(url)) == 300


@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize(
    ("last", "error", "text"),
    [
        (
            lambda: frame(2).assign(y=np.inf),
            InvalidQueryError,
            "y in frame 2, row 0 must be finite",
        ),
        (lambda: frame(2).drop(columns="z"), InvalidQueryError, "lacks the column z"),
        (lambda: frame(0), IntegrityError, "token_id .* in frame 2, row 0 already exists"),
        (lambda: 7, InvalidQueryError, "the frame must be a DataFrame"),
        (lambda: 1 / 0, ZeroDivisionError, "division"),
        (lambda: open("/missing"), FileNotFoundError, "/missing"),  # noqa: SIM115 - not opened
        (lambda: (_ for _ in ()).throw(ConnectionError("theirs")), ConnectionError, "theirs"),
        (lambda: next((_ for _ in ()).throw(TimeoutError("t"))), TimeoutError, "t"),
    ],
    ids=["value", "column", "id", "type", "zero", "file", "connection", "timeout"],
)
def test_a_failure_writes_nothing(url, initial, last, error, text):
    def parts():
        yield from frames(2)
        yield last()

    with ngdata.connect(url) as client:
        with pytest.raises(error, match=text):
            client.tokens.bulk_load(parts(), initial=initial)
        assert client.tokens.count_in_region(ngdata.EVERYWHERE) == 0
        assert client.tokens.bulk_load(frames(2), initial=initial) == 120
    assert indexed(url) == derived(url) != []


def test_invalid_arguments(url):
    with ngdata.connect(url) as client:
        for value in (
            frame(0),
            {"x": [1.0]},
            "rows",
            b"rows",
            7,
            None,
            np.zeros(3),
            pa.table({"x": [1]}),
        ):
            with pytest.raises(InvalidQueryError, match="frames must be an iterable of frames"):
                client.tokens.bulk_load(value)
        for options in ({"initial": 1.5}, {"progress": "no"}, {"extra": "drop"}, {"level": 8}):
            with pytest.raises(InvalidQueryError, match=next(iter(options))):
                client.tokens.bulk_load(frames(1), **options)
        client.tokens.bulk_load(frames(1))
        with pytest.raises(InvalidQueryError, match="initial=True is for an empty store"):
            client.tokens.bulk_load([frame(1)], initial=True)
        client.pin("now")
        with pytest.raises(InvalidQueryError):
            client.as_of("now").tokens.bulk_load([frame(1)])
        assert len(contents(url)) == 60


def test_a_file(url, tmp_path):
    path = tmp_path / "tokens.csv"
    pd.concat(map(frame, range(3))).to_csv(path, index=False)
    arguments = ["load", str(path), "--initial", "--quiet"]
    done = CliRunner().invoke(cli.app, arguments, env={"NGDATA_DATABASE_URL": url})
    assert done.exit_code == 0, done.output
    assert "180 tokens created" in done.output
    assert indexed(url) == derived(url) != []
    done = CliRunner().invoke(cli.app, arguments, env={"NGDATA_DATABASE_URL": url})
    assert done.exit_code == 1
    assert "initial=True is for an empty store" in done.stderr
    with ngdata.connect(url) as client:
        with pytest.raises(InvalidQueryError, match="for tokens, not for events"):
            load(client, path, "events", initial=True)
        with pytest.raises(InvalidQueryError, match="on_conflict must be 'error', not 'skip'"):
            load(client, path, on_conflict="skip", initial=True)
        with pytest.raises(InvalidQueryError, match="initial"):
            load(client, path, initial="yes")


# Prints the memory of this process after each frame, in kB.
MEMORY = """
import json, sys
import numpy as np, pandas as pd, ngdata
from ngdata.files import load

rows, count, marks = 10_000, 16, []

def peak():
    # Of this process alone: ru_maxrss of a child begins at its parent's.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

def frames():
    for number in range(count):
        frame = pd.DataFrame(np.random.default_rng(number).random((rows, 3)), columns=list("xyz"))
        marks.append(peak())
        yield frame.assign(token_id=range(number * rows, (number + 1) * rows), token_type="t" * 1000)

with ngdata.connect(sys.argv[1]) as ng:
    assert ng.tokens.bulk_load(frames(), initial=True, progress=False) == rows * count
marks.append(peak())
print(json.dumps(marks))
"""


def test_memory_does_not_grow_with_the_number_of_frames(url):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, url], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    marks = json.loads(done.stdout)
    # A frame of 10,000 rows takes 11 MB as rows of the table, the 12 that follow the first four 130 MB.
    assert marks[-1] - marks[4] < 65_000, marks
