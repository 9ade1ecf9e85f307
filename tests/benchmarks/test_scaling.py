"""The benchmark of partitions and files at a small size: its methods agree, and its table is complete."""

from __future__ import annotations

import re

import pytest

from benchmarks import scaling
from benchmarks.store import filled
from ngdata._reading.dask_frames.connections import close_idle


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_all_methods_return_the_same_answer(server):
    url = filled(server.database_url, 2000, 0, 0)
    lines = scaling.table(scaling.run(url, 2000, partitions=5, turns=1)).splitlines()
    close_idle()
    assert len(lines) == 2 + 7
    for line in lines[2:]:
        assert re.fullmatch(r"\| 2,000 \| [\w., ]+ \| [\d.]+ \| [\d.]+ \|", line), line
