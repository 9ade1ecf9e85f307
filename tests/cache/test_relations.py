"""A query names every relation that its answer depends on: the plan of each read is asked."""

import asyncio
import json

import asyncpg
import pytest

from tests.cache.test_isolation import BOX, MOMENT, READS, RUN, filled, store  # noqa: F401

# What a plan does not show, since a function reads it.
INSIDE = {"shortest_path": {"graph.connections"}}

FILTERED = {
    "neighbors near their start": lambda ng, ids: ng.graph.get_neighbors(ids, depth=2, within=9.0),
    "degrees of some": lambda ng, ids: ng.graph.get_degree(ids, weighted=True),
    "connections in a region": lambda ng, ids: ng.graph.connections(within=BOX),
    "connections into a region": lambda ng, ids: ng.graph.connections(within=BOX, ends="any"),
    "the cheapest path": lambda ng, ids: ng.graph.shortest_path(ids[0], ids[2], weighted=True),
    "events in a region": lambda ng, ids: ng.experience.get_events(within=BOX),
    "events in a region and a window": lambda ng, ids: ng.experience.get_events(
        0, MOMENT, within=BOX
    ),
    "events around, in a region": lambda ng, ids: ng.experience.events_around(MOMENT, within=BOX),
    "rewards in a region": lambda ng, ids: ng.experience.resample_rewards(1, within=BOX),
    "trajectories in a region": lambda ng, ids: ng.experience.list_trajectories(within=BOX),
    "trajectories of tokens": lambda ng, ids: ng.experience.list_trajectories(token_ids=ids),
    "activity of a type": lambda ng, ids: ng.experience.activity_in_region(
        *BOX, start=0, end=MOMENT, token_type="default"
    ),
    "positions of a level": lambda ng, ids: ng.experience.mean_position(RUN, 1, "motor"),
}


def relations_of(plan):
    """Name what a plan reads; a partition by the table that it is a part of."""
    found = set()
    if "Relation Name" in plan:
        name = f"{plan['Schema']}.{plan['Relation Name']}"
        found.add("tokens.spatial_index" if name.startswith("tokens.spatial_index") else name)
    found |= INSIDE.get(plan.get("Function Name"), set())
    for part in plan.get("Plans", ()):
        found |= relations_of(part)
    return found


@pytest.fixture
def asked(filled, monkeypatch):  # noqa: F811
    """Every query that a read sends on."""
    ng, _ = filled
    queries = []
    reader = ng._twin._reader
    answer = reader.answer

    async def watched(query, mode=None):
        queries.append(query)
        return await answer(query, mode)

    monkeypatch.setattr(reader, "answer", watched)
    return queries


async def plan_of(url, query):
    connection = await asyncpg.connect(url)
    try:
        text = await connection.fetchval(f"EXPLAIN (VERBOSE, FORMAT JSON) {query.sql}")
    finally:
        await connection.close()
    return json.loads(text)[0]["Plan"]


@pytest.mark.parametrize("read", [*READS, *FILTERED])
def test_what_a_read_depends_on_is_named(filled, asked, store, read):  # noqa: F811
    ng, ids = filled
    asked.clear()
    (READS | FILTERED)[read](ng, ids)
    # One query, so all of it is of one moment; but to load a snapshot, the test looks for one first.
    assert len(asked) == (2 if read == "graph.load_snapshot" else 1)
    for query in asked:
        read_by_plan = relations_of(asyncio.run(plan_of(store[0], query)))
        assert read_by_plan
        assert read_by_plan <= set(query.relations)
