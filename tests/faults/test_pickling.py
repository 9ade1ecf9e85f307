"""Clients in other processes: pickling or copying one says to open another; results travel."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import pickle

import cloudpickle
import pandas as pd
import pytest

from ngdata.repositories import DatabaseFactory, RepositoryFactory

IN_THE_WORKER = r"call ngdata\.connect\(\) in the worker instead"

SENT = {
    "pickle": pickle.dumps,
    "cloudpickle": cloudpickle.dumps,
    **{f"protocol {n}": lambda value, n=n: pickle.dumps(value, n) for n in range(6)},
}
COPIED = {"copy": copy.copy, "deepcopy": copy.deepcopy}


def parts(client):
    """Return a client and its parts."""
    return [client, client.tokens, client.graph, client.experience, client.cache]


@pytest.mark.parametrize("way", SENT | COPIED)
def test_a_client_and_its_parts_say_to_connect_in_the_worker(ng, way):
    values = [*parts(ng), *parts(ng._wrapped), ng._wrapped._database]
    if way in SENT:
        values += [ng.tokens.get, [ng], {"graph": ng.graph}]
    if way == "cloudpickle":
        values.append(lambda: ng.tokens.get([]))
    for value in values:
        with pytest.raises(TypeError, match=IN_THE_WORKER):
            (SENT | COPIED)[way](value)
    assert ng.tokens.get([]).empty


def test_results_and_plans_travel(ng):
    ids = ng.tokens.bulk_create({"x": [0, 1], "y": [0, 1], "z": [0, 1]})
    ng.graph.bulk_create({"source_id": [ids[0]], "target_id": [ids[1]]})
    whole = ng.graph.subgraph(ids)
    snapshot = ng.graph.load_snapshot(ng.graph.create_snapshot())
    for result in (whole, snapshot):
        other = pickle.loads(pickle.dumps(result))
        pd.testing.assert_frame_equal(other.tokens, result.tokens)
        pd.testing.assert_frame_equal(other.connections, result.connections)
    plan = ng.explain(ng.tokens.find_nearest, (0, 0, 0), k=1)
    assert str(pickle.loads(pickle.dumps(plan))) == str(plan)
    assert pickle.loads(pickle.dumps(ng.health())) is not None
    assert pickle.loads(pickle.dumps(ng.cache.stats())) == ng.cache.stats()


def test_a_worker_process_is_refused_a_client(ng):
    process = multiprocessing.get_context("spawn").Process(target=print, args=[ng])
    with pytest.raises(TypeError, match=IN_THE_WORKER):
        process.start()


def test_managers_and_repositories_name_what_opens_them():
    async def main():
        database = await DatabaseFactory.create_database_manager()
        redis = DatabaseFactory.create_redis_manager()
        try:
            async with database.session() as session:
                repository = RepositoryFactory.create_token_repository(session, redis)
                for value in (database, redis, repository):
                    with pytest.raises(TypeError, match=r"Factory.* in the worker instead"):
                        pickle.dumps(value)
        finally:
            await DatabaseFactory.close_all()

    asyncio.run(main())
