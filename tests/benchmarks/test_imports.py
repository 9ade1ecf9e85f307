"""The benchmark of imports and first calls: each step runs, and its table is complete."""

import re

from benchmarks import imports


def test_each_step_of_a_new_process_runs(database_url, server):
    times = imports.program(database_url, server.redis_url)
    assert list(times) == list(imports._STEPS)
    assert all(milliseconds >= 0 for milliseconds in times.values())
    lines = imports.table(times).splitlines()
    assert len(lines) == 2 + len(times)
    assert all(re.fullmatch(r"\| [\w ,.]+ \| [\d,]+ \|", line) for line in lines[2:])
