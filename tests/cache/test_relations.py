"""A query names every relation that its answer depends on, as the plan of each read shows."""

import asyncio
import json

import asyncpg
import pytest

from tests.cache.test_isolation import BOX, MOMENT, READS, RUN, filled, store  # noqa: F401

# Relations that a plan does not show, because a function reads them.
INSIDE = {"shortest_path": {"graph.connections"}}

FILTERED = {
    **{
        f"{read} with metadata": lambda ng, ids, read=read: READS[read](ng, ids, where={"a": [1]})
        for read in (
            *("tokens.find_in_region", "tokens.find_nearest", "tokens.find_within"),
            *("tokens.count_in_region", "tokens.density", "experience.activity_in_region"),
            *("tokens.aggregate", "tokens.sample"),
        )
    },
    **{
        f"{read} and a column of metadata": lambda ng, ids, read=read: READS[read](
            ng, ids, columns=["x", "metadata.a"]
        )
        for read in (
            *("tokens.find_in_region", "tokens.find_nearest", "tokens.find_within"),
            "tokens.sample",
        )
    },
    "neighbors near their start": lambda ng, ids: ng.graph.get_neighbors(ids, depth=2, within=9.0),
    "degrees of some": lambda ng, ids: ng.graph.get_degree(ids, weighted=True),
    "connections in a region": lambda ng, ids: ng.graph.connections(within=BOX),
    "connections into a region": lambda ng, ids: ng.graph.connections(within=BOX, ends="any"),
    "all columns of neighbors near their start": lambda ng, ids: ng.graph.get_neighbors(
        ids, columns=["metadata", "distance"], within=9.0
    ),
    "all that is reached": lambda ng, ids: ng.graph.subgraph(ids[:1], None),
    "all in a region": lambda ng, ids: ng.graph.subgraph(within=BOX),
    "all that is reached in a region": lambda ng, ids: ng.graph.subgraph(ids, within=BOX),
    "the least sums of weights": lambda ng, ids: ng.graph.shortest_lengths(ids[0], weighted=True),
    "the cheapest path": lambda ng, ids: ng.graph.shortest_path(ids[0], ids[2], weighted=True),
    "events in a region": lambda ng, ids: ng.experience.get_events(within=BOX),
    "events in a region and a window": lambda ng, ids: ng.experience.get_events(
        0, MOMENT, within=BOX
    ),
    "events around, in a region": lambda ng, ids: ng.experience.events_around(MOMENT, within=BOX),
    "rewards in a region": lambda ng, ids: ng.experience.resample_rewards(1, within=BOX),
    "counts in a region": lambda ng, ids: ng.experience.count_events(
        1, ["token_id", "metadata.a"], within=BOX
    ),
    "groups of the index alone": lambda ng, ids: ng.tokens.aggregate("flags", within=BOX),
    "groups by metadata": lambda ng, ids: ng.tokens.aggregate("metadata.a"),
    "a function of metadata": lambda ng, ids: ng.tokens.aggregate(None, n=("metadata.a", "min")),
    "a function of an attribute": lambda ng, ids: ng.tokens.aggregate(
        "flags", within=(*BOX, 1), last=("updated_at", "max")
    ),
    "a sample of metadata": lambda ng, ids: ng.tokens.sample(
        2, within=(*BOX, 1), columns=["metadata"]
    ),
    "trajectories in a region": lambda ng, ids: ng.experience.list_trajectories(within=BOX),
    "trajectories of tokens": lambda ng, ids: ng.experience.list_trajectories(token_ids=ids),
    "activity of a type": lambda ng, ids: ng.experience.activity_in_region(
        *BOX, start=0, end=MOMENT, token_type="default"
    ),
    "positions of a level": lambda ng, ids: ng.experience.mean_position(RUN, 1, "motor"),
}


def relations_of(plan):
    """Return the relations that a plan reads; for a partition, its table."""
    relations = set()
    if "Relation Name" in plan:
        name = f"{plan['Schema']}.{plan['Relation Name']}"
        relations.add("tokens.spatial_index" if name.startswith("tokens.spatial_index") else name)
    relations |= INSIDE.get(plan.get("Function Name"), set())
    for part in plan.get("Plans", ()):
        relations |= relations_of(part)
    return relations


@pytest.fixture
def sent_queries(filled, monkeypatch):  # noqa: F811
    """The queries that the reads of the client send."""
    ng, _ = filled
    queries = []
    reader = ng._wrapped._reader
    answer = reader.answer

    async def recorded(query, mode=None, max_rows=None):
        queries.append(query)
        return await answer(query, mode, max_rows)

    monkeypatch.setattr(reader, "answer", recorded)
    return queries


async def plan_of(url, query):
    connection = await asyncpg.connect(url)
    try:
        text = await connection.fetchval(f"EXPLAIN (VERBOSE, FORMAT JSON) {query.sql}")
    finally:
        await connection.close()
    return json.loads(text)[0]["Plan"]


@pytest.mark.parametrize("read", [*READS, *FILTERED])
def test_every_relation_of_a_read_is_named(filled, sent_queries, store, read):  # noqa: F811
    ng, ids = filled
    sent_queries.clear()
    (READS | FILTERED)[read](ng, ids)
    # One query, so all rows are of one moment; load_snapshot comes after a list of snapshots.
    assert len(sent_queries) == (2 if read == "graph.load_snapshot" else 1)
    for query in sent_queries:
        read_by_plan = relations_of(asyncio.run(plan_of(store[0], query)))
        assert read_by_plan
        assert read_by_plan <= set(query.relations)
