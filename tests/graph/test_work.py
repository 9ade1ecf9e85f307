"""The cost of a neighborhood, in rows, grows with its connections, not with its paths."""

import re
from itertools import pairwise

import pandas as pd
import pytest

import ngdata

LAYERS = 8


@pytest.fixture
def ng(migrated_database):
    """A database of its own: statistics of other tests' rows change the plans."""
    with ngdata.connect(migrated_database) as client:
        yield client


def layered(ng, width):
    """One token connected to a layer, each layer fully to the next one: width ** 8 paths."""
    ids = ng.tokens.bulk_create({axis: [0.0] * (1 + LAYERS * width) for axis in "xyz"}).tolist()
    layers = [ids[:1], *(ids[1 + n * width :][:width] for n in range(LAYERS))]
    ends = [
        (source, target)
        for layer, following in pairwise(layers)
        for source in layer
        for target in following
    ]
    ng.graph.bulk_create(pd.DataFrame(ends, columns=["source_id", "target_id"]))
    return ids, len(ends)


def rows_handled(plan):
    """Return the number of rows returned by all nodes of the plan."""
    ran = re.findall(r"rows=([\d.]+) loops=(\d+)\)", plan.text)
    return sum(float(rows) * int(loops) for rows, loops in ran)


@pytest.mark.parametrize("direction", ["outgoing", "both"])
def test_work_grows_with_the_connections(ng, direction):
    works, counts = [], []
    for width in (5, 10):
        ids, count = layered(ng, width)
        result = ng.graph.get_neighbors(ids[0], direction, depth=LAYERS)
        assert sorted(result.neighbor_id) == sorted(ids[1:])
        plan = ng.explain(
            ng.graph.get_neighbors, ids[0], direction, depth=LAYERS, analyze=True, cache="off"
        )
        works.append(rows_handled(plan))
        counts.append(count)
    # Twice the width means 4 times the connections and 256 times the paths.
    assert works[1] / works[0] < 2 * counts[1] / counts[0]
    assert works[1] < 10**LAYERS / 1000


@pytest.mark.parametrize("weighted", [False, True])
def test_a_path_is_found_among_a_hundred_million(ng, weighted):
    ids, _ = layered(ng, 10)
    path = ng.graph.shortest_path(ids[0], ids[-1], weighted=weighted)
    assert path.step.tolist() == list(range(1, LAYERS + 1))
