"""The benchmark of single operations at a small size: each way runs, and its table is complete."""

import re

from benchmarks import single

TOKENS = 400


def test_each_way_of_each_operation_runs(server):
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


def test_triggers_are_on_again_afterwards(small_store):
    driver = single.Driver(small_store)

    def modes():
        return dict(
            driver.rows(
                "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal"
                " AND tgrelid = 'tokens.tokens'::regclass"
            )
        )

    before = modes()
    with single.Benchmark(None, driver, 1).triggers_off():
        assert set(modes().values()) == {b"D"}
    assert modes() == before
    assert {before["touch"], before["index_insert"]} == {b"O", b"A"}
    driver.close()
