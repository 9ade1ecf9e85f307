"""Files of records are loaded whole or not at all, from Python and by the command."""

import asyncio
import os
import re
import subprocess
import sys
import threading

import asyncpg
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import ngdata
from ngdata.admin import cli
from ngdata.binary import CONNECTION, EVENT, TOKEN, decode_tokens, loading, token_ids
from ngdata.binary.loading import load_records, load_records_async
from ngdata.errors import IntegrityError, InvalidQueryError

EVERYWHERE = ([-np.inf] * 3, [np.inf] * 3)


def tokens(count: int, first: int = 0) -> np.ndarray:
    random = np.random.default_rng(first)
    records = np.zeros(count, TOKEN)
    records["coordinates"] = 127
    records["coordinates"][:, 0] = random.integers(-32768, 32767, (count, 3))
    records["coordinates"][::2, 6] = random.integers(-32768, 32767, (len(records[::2]), 3))
    records["id"] = np.arange(first, first + count)
    records["weight"] = random.random(count)
    records["flags"] = random.integers(0, 256, count)
    records["timestamp"] = random.integers(0, 2**32, count)
    return records


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(loading, "_PART_RECORDS", 100)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "records.bin"


def stored(ng):
    return ng.tokens.count_in_region(*EVERYWHERE)


def test_a_file_of_tokens_is_stored_as_it_is_decoded(ng, file, small_parts):
    tokens(1050).tofile(file)
    report = load_records(ng, file, progress=False)
    assert (report.written, report.skipped, report.contradicted) == (1050, 0, 0)
    assert str(report) == f"{file}: 1,050 tokens written"

    expected = decode_tokens(file.read_bytes())
    columns = ["token_id", "weight", "flags", "timestamp", "binary_data", "coords"]
    stored_tokens = ng.tokens.get(expected.token_id, columns=columns)
    assert np.array_equal(np.stack(stored_tokens.coords), np.stack(expected.coords), equal_nan=True)
    pd.testing.assert_frame_equal(stored_tokens[columns[:5]], expected[columns[:5]])
    assert ng.tokens.count_in_region(*EVERYWHERE, level="temporal") == 525


def test_the_dialect_of_a_file(ng, file):
    records = tokens(1)
    records["coordinates"][0, 6] = 100, 100, 100
    records.tofile(file)
    load_records(ng, file, dialect="rust")
    assert ng.tokens.get(token_ids(0)).coords[0][6].tolist() == [1, 1, 1]
    assert ng.tokens.get(token_ids(0)).coords[0][1].tolist() == [0.0127] * 3


def test_connections_and_events_are_loaded_too(ng, file, small_parts):
    tokens(50).tofile(file)
    load_records(ng, file)
    random = np.random.default_rng(1)
    edges = np.zeros(250, CONNECTION)
    edges["source"], edges["target"] = random.integers(0, 50, (2, 250))
    edges["pull_strength"] = random.random(250)
    edges.tofile(file)
    assert load_records(ng, file, "connections").written == 250
    connections = ng.graph.connections()
    counts = pd.Series(token_ids(edges["source"])).value_counts().sort_index()
    assert connections.source_id.value_counts().sort_index().to_dict() == counts.to_dict()
    assert sorted(connections.weight) == sorted(edges["pull_strength"].astype(float))

    events = np.zeros(250, EVENT)
    events["id"][:, 0] = range(250)
    events["timestamp"], events["goal"] = range(250), 0.5
    events["episode"] = 7
    events.tofile(file)
    assert load_records(ng, file, "events").written == 250
    assert ng.experience.get_events().reward.sum() == 125


def test_an_async_client_loads_as_well(database_url, file):
    tokens(5).tofile(file)

    async def load():
        async with await ngdata.connect_async(database_url) as ang:
            return await load_records_async(ang, file)

    assert asyncio.run(load()).written == 5


def test_a_bad_record_undoes_its_whole_file(ng, file, small_parts):
    records = tokens(1000)
    records["weight"][777] = np.nan
    records.tofile(file)
    with pytest.raises(InvalidQueryError, match=r"token record 777 .* weight is nan"):
        load_records(ng, file)
    assert stored(ng) == 0


def test_bad_records_are_skipped_on_request(ng, file, small_parts):
    records = tokens(1000)
    records["weight"][[5, 777, 999]] = np.nan, np.inf, -np.inf
    records["weight"][200:300] = np.nan
    records.tofile(file)
    report = load_records(ng, file, on_bad="skip")
    assert (report.written, report.skipped, report.first_skipped) == (897, 103, 5)
    assert "103 skipped" in str(report)
    assert stored(ng) == 897
    assert ng.tokens.get(token_ids([5, 6]), missing="skip").token_id.tolist() == [token_ids(6)[0]]


def test_contradictory_types_are_reported(ng, file, small_parts):
    records = tokens(300)
    records["id"] += 0x0200_0000
    records["flags"][[150, 250]] = 0x0300, 0x0200
    records["flags"][[151, 252]] = 0x0400
    records.tofile(file)
    report = load_records(ng, file)
    assert (report.written, report.contradicted, report.first_contradicted) == (300, 3, 150)
    assert "the first is record 150" in str(report)
    token = ng.tokens.get(token_ids(records["id"][[150]]))
    assert (token.token_type[0], token["flags"][0]) == ("entity_2", 0x0300)


def test_a_truncated_file_is_refused_before_anything_is_sent(ng, file):
    file.write_bytes(tokens(10).tobytes()[:-1])
    with pytest.raises(InvalidQueryError, match=f"{file}: 639 bytes are 9 complete token records"):
        load_records(ng, file)
    assert stored(ng) == 0


def test_a_pipe_is_read_to_its_end_and_refused_if_truncated(ng, tmp_path, small_parts):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = tokens(250).tobytes()
    for sent in (data, data + b"more"):
        writer = threading.Thread(target=pipe.write_bytes, args=(sent,))
        writer.start()
        if sent == data:
            assert load_records(ng, pipe).written == 250
            ng.tokens.delete(token_ids(range(250)))
        else:
            with pytest.raises(
                InvalidQueryError, match=r"16,004 bytes are 250 complete .* 4 bytes"
            ):
                load_records(ng, pipe)
        writer.join()
    assert stored(ng) == 0


def test_a_cancelled_load_writes_nothing(ng, database_url, tmp_path, small_parts):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    copied = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
        " AND query LIKE 'COPY%'"
    )

    async def cancelled():
        watcher = await asyncpg.connect(database_url)
        async with await ngdata.connect_async(database_url) as ang:
            load = asyncio.create_task(load_records_async(ang, pipe))
            # Two parts; the third never comes, because the writer keeps the pipe open.
            end = await asyncio.to_thread(open, pipe, "wb", 0)
            await asyncio.to_thread(end.write, tokens(250).tobytes())
            while not await watcher.fetchval(copied):
                assert not load.done()
                await asyncio.sleep(0.01)
            load.cancel()
            with pytest.raises(asyncio.CancelledError):
                await load
            assert (await ang.pool_status())["write"]["in_use"] == 0
            assert await ang.tokens.count_in_region(*EVERYWHERE) == 0
            end.close()
        await watcher.close()

    asyncio.run(cancelled())


def test_an_empty_file_is_no_error(ng, file):
    file.touch()
    assert load_records(ng, file).written == 0


@pytest.mark.parametrize("kind", ["tokens", "connections", "events"])
def test_a_file_loaded_twice_is_refused_with_its_record(ng, file, kind, small_parts):
    tokens(150).tofile(file)
    load_records(ng, file)
    layout = {"tokens": TOKEN, "connections": CONNECTION, "events": EVENT}[kind]
    records = tokens(150) if kind == "tokens" else np.zeros(150, layout)
    if kind == "events":
        records["id"][:, 1] = range(150)
    if kind != "tokens":
        records.tofile(file)
        load_records(ng, file, kind)
    with pytest.raises(IntegrityError, match=r"^id .* in record 0 already exists; nothing was"):
        load_records(ng, file, kind)


def test_an_existing_id_is_named_with_its_record_in_the_file(ng, file, small_parts):
    tokens(1, first=310).tofile(file)
    load_records(ng, file)
    records = tokens(400)
    records["weight"][:5] = np.nan
    records.tofile(file)
    with pytest.raises(
        IntegrityError, match=f"id {token_ids(310)[0]} in record 310 already exists"
    ):
        load_records(ng, file, on_bad="skip")
    assert stored(ng) == 1


def test_a_repeated_id_is_named_with_both_records(ng, file, small_parts):
    records = tokens(300)
    records["id"][[250, 280]] = 5000
    records.tofile(file)
    with pytest.raises(IntegrityError, match="id 5000 appears in records 250 and 280"):
        load_records(ng, file)
    records["id"][280] = 7
    records.tofile(file)
    with pytest.raises(IntegrityError, match=f"id {token_ids(7)[0]} in record 280 already exists"):
        load_records(ng, file)
    assert stored(ng) == 0


def test_a_dangling_end_is_named_with_its_record(ng, file, small_parts):
    tokens(10).tofile(file)
    load_records(ng, file)
    edges = np.zeros(250, CONNECTION)
    edges["target"][222] = 99
    edges.tofile(file)
    message = f"target_id {token_ids(99)[0]} in record 222 names no token; nothing was written"
    with pytest.raises(IntegrityError, match=message):
        load_records(ng, file, "connections")
    assert ng.graph.connections().empty


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "dreams"}, "kind must be 'tokens', 'connections' or 'events', not 'dreams'"),
        ({"dialect": "go"}, "dialect must be 'python' or 'rust', not 'go'"),
        ({"on_bad": "ask"}, "on_bad must be 'raise' or 'skip', not 'ask'"),
        ({"path": "/nowhere/at/all"}, "/nowhere/at/all cannot be read: No such file"),
        ({"path": "/"}, "/ cannot be read: Is a directory"),
    ],
)
def test_arguments_are_checked_first(ng, file, arguments, message):
    file.touch()
    with pytest.raises(InvalidQueryError, match=message):
        load_records(ng, **{"path": file} | arguments)


def test_the_error_for_the_wrong_client_names_the_right_function(ng, file):
    with pytest.raises(InvalidQueryError, match="await load_records_async"):
        load_records(ng._wrapped, file)
    with pytest.raises(InvalidQueryError, match=r"call load_records\(ng"):
        ng._loop.run(load_records_async(ng, file))


def command(url, *arguments):
    return CliRunner().invoke(cli.app, list(map(str, arguments)), env={"NGDATA_DATABASE_URL": url})


def test_the_commands_load_and_report(ng, database_url, file):
    tokens(50).tofile(file)
    done = command(database_url, "load-tokens", file)
    assert (done.exit_code, done.stdout) == (0, f"{file}: 50 tokens written\n")
    assert "50.0/50.0" in done.stderr
    np.zeros(3, CONNECTION).tofile(file)
    done = command(database_url, "load-connections", file, "--quiet")
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{file}: 3 connections written\n", "")
    np.zeros(1, EVENT).tofile(file)
    done = command(database_url, "load-events", file, "--quiet")
    assert (done.exit_code, done.stdout) == (0, f"{file}: 1 events written\n")
    assert (stored(ng), len(ng.graph.connections())) == (50, 3)


def test_the_command_accepts_dialect_and_skip_bad(ng, database_url, file):
    records = tokens(3)
    records["weight"][1] = np.nan
    records.tofile(file)
    done = command(database_url, "load-tokens", file, "--dialect", "rust")
    assert (done.exit_code, stored(ng)) == (1, 0)
    assert "ngdata: token record 1 " in done.stderr
    done = command(database_url, "load-tokens", file, "--dialect", "rust", "--skip-bad")
    assert (done.exit_code, stored(ng)) == (0, 2)
    assert "1 skipped" in done.stdout
    assert ng.tokens.count_in_region(*EVERYWHERE, level=1) == 2


def test_a_missing_file_is_a_wrong_argument(tmp_path):
    done = command("postgresql://h/d", "load-tokens", tmp_path / "nothing")
    assert done.exit_code == 2
    assert "does not exist" in re.sub(r"[│\s]+", " ", done.stderr)


LOAD_AND_MEASURE = """
import resource, sys
import ngdata
from ngdata.binary.loading import load_records
with ngdata.connect(sys.argv[1]) as ng:
    load_records(ng, sys.argv[2], progress=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    load_records(ng, sys.argv[3], progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_is_bounded_however_large_the_file(database_url, tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    tokens(2 * loading._PART_RECORDS).tofile(small)
    records = tokens(12 * loading._PART_RECORDS, first=10**6)
    records["coordinates"] = 127  # undefined everywhere: no time is spent on the index
    records.tofile(large)
    growth = subprocess.run(
        [sys.executable, "-c", LOAD_AND_MEASURE, database_url, small, large],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # As a whole, the file, its frame and its coordinates would take three times that.
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(growth) * unit < 60e6
