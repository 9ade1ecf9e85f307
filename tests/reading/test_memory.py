"""The memory that reads take, in processes of their own; and parts that arrive before the end."""

import ngdata
from benchmarks import memory
from tests.conftest import backends

ROWS = 300_000
WHOLE = ((float("-inf"),) * 3, (float("inf"),) * 3)


def test_an_iteration_holds_one_part_and_a_read_little_more_than_its_frame(server):
    url = memory.crowded(server.database_url, ROWS)
    whole = memory.read_whole(url)
    parts = memory.iterated(url, chunk_rows=5000)
    assert whole.rows == parts.rows == ROWS
    # The memory that a second connection, threads and allocators reserve is constant.
    assert whole.over_idle <= 2.2 * whole.size + 30_000_000
    assert parts.over_idle < whole.size / 2

    with ngdata.connect(url) as ng:
        iteration = ng.tokens.iter_region(*WHOLE, chunk_rows=5000)
        assert len(next(iteration)) == 5000
        assert backends(url, "application_name = 'ngdata' AND state = 'active'") == 1
        iteration.close()
        assert backends(url, "application_name = 'ngdata' AND state = 'active'") == 0
