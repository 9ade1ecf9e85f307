"""The benchmark of single operations at a small size: each way runs, and its table is complete."""

import re

import pytest

from benchmarks import single, store

TOKENS = 400


@pytest.fixture(scope="module")
def written_store(server):
    return store.filled(server.database_url, TOKENS)


def test_each_way_of_each_operation_runs(server, written_store):
    operations, recorded = single.run(server, TOKENS, turns=1, calls=2, events=50)
    assert len(operations) == 16
    lines = single.table(operations).splitlines()
    assert len(lines) == 2 + sum(len(operation.ways) for operation in operations)
    for line in lines[2:]:
        assert re.fullmatch(r"(\| [\w, =']+ ){2}\| [\d.]+( \| -?[\d.]*){3} \| [\d.]+ \|", line), (
            line
        )
    lines = single.recorded_table(recorded, 50).splitlines()
    assert [line.split("|")[2].strip() for line in lines[2:]] == ["bulk_create", "recorder"]


def test_triggers_are_on_again_afterwards(written_store):
    driver = single.Driver(written_store)
    modes = driver.rows(
        "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal"
        " AND tgrelid = 'tokens.tokens'::regclass ORDER BY tgname"
    )
    driver.close()
    assert ("touch", b"O") in modes
    assert ("index_insert", b"A") in modes
