"""Real workers: several processes, each with connections of its own, and not too many."""

from __future__ import annotations

import json
import os

import pandas as pd
import pytest

import ngdata
from ngdata.errors import ConfigError, ConsistencyError
from tests.scaling.conftest import LIMITS, random_events, random_tokens, same_set


@pytest.fixture
def filled(ng):
    ng.tokens.bulk_create(random_tokens(1, 2000))
    ng.experience.bulk_create(random_events(1, 500))
    return ng


@pytest.fixture(autouse=True)
def _workers_close_their_connections(request):
    yield
    if "cluster" in request.fixturenames:
        request.getfixturevalue("cluster").run(close)


def close():
    from ngdata._reading.dask_frames.connections import close_idle

    close_idle()


def process_and_rows(part):
    import pandas as pd

    return pd.DataFrame({"process": [os.getpid()], "rows": [len(part)]})


def test_the_workers_read_instead_of_the_client(filled, cluster):
    frame = filled.tokens.to_dask(*LIMITS, npartitions=16)
    result = frame.map_partitions(process_and_rows, meta={"process": int, "rows": int}).compute()
    assert result.rows.tolist() == [125] * 16
    assert set(result.process) == set(cluster.run(os.getpid).values())
    assert os.getpid() not in set(result.process)


def test_the_answer_is_that_of_one_process(filled, cluster):
    expected = filled.tokens.find_in_region(*LIMITS)
    frame = filled.tokens.to_dask(*LIMITS, rows_per_partition=300)
    tokens = frame.compute()
    same_set(tokens, expected)
    assert tokens.attrs["ngdata"]["version"] == expected.attrs["ngdata"]["version"]
    events = filled.experience.to_dask(npartitions=5).compute().reset_index(drop=True)
    expected_events = filled.experience.get_events()
    for name in ("state_before", "state_after", "action"):  # text over Dask
        events[name] = [
            json.loads(text) if isinstance(text, str) else None for text in events[name]
        ]
    pd.testing.assert_frame_equal(events, expected_events)


def test_computations_that_shuffle(filled, cluster):
    tokens = filled.tokens.find_in_region(*LIMITS)
    frame = filled.tokens.to_dask(*LIMITS, npartitions=6)
    by_z = frame.groupby("z").weight.sum().compute().sort_index()
    assert by_z.index.tolist() == [0.0, 1.0, 2.0]
    assert by_z.tolist() == pytest.approx(tokens.groupby("z").weight.sum().tolist())
    merged = frame.merge(frame[["token_id", "weight"]], on="token_id").compute()
    assert len(merged) == 2000


def test_a_worker_keeps_its_connections_until_they_are_idle_for_long(
    filled, cluster, database_url, execute
):
    client = ngdata.connect(database_url, application_name="scaling test", cache="off")
    try:
        frame = client.tokens.to_dask(*LIMITS, npartitions=12)
        assert len(frame.compute()) == 2000
        counted = (
            "SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity"
            " WHERE application_name = 'scaling test'"
        )
        client.close()
        ((open_count, busy),) = execute(database_url, counted)
        # For each process, one for each of two threads, and one that checked the schema.
        assert 0 < open_count <= 2 * 3
        assert busy == 0
        assert len(frame.compute()) == 2000
        assert execute(database_url, counted)[0][0] <= 2 * 3
        cluster.run(close)
        assert execute(database_url, counted + " AND pg_sleep(0.2) IS NOT NULL")[0][0] == 0
    finally:
        client.close()


def test_a_worker_reports_a_write(filled, cluster, database_url, execute):
    frame = filled.tokens.to_dask(*LIMITS, npartitions=4, consistent=True)
    assert len(frame.compute()) == 2000
    execute(database_url, "UPDATE tokens.tokens SET flags = 1")
    with pytest.raises(ConsistencyError, match="call to_dask again"):
        frame.compute()


def test_a_persisted_frame_stays_and_a_new_call_reads_again(filled, cluster):
    persisted = filled.tokens.to_dask(*LIMITS, npartitions=4).persist()
    assert len(persisted) == 2000
    filled.tokens.delete(persisted.partitions[0].compute().token_id)
    assert len(persisted) == 2000
    assert len(filled.tokens.to_dask(*LIMITS, npartitions=4)) == 1500


def test_workers_whose_environment_names_the_database(filled, cluster, database_url):
    def set_url(url):
        os.environ.pop("NGDATA_DATABASE_URL", None)
        if url:
            os.environ["NGDATA_DATABASE_URL"] = url

    frame = filled.tokens.to_dask(*LIMITS, npartitions=4, url="environment", consistent=True)
    try:
        cluster.run(set_url, database_url)
        assert len(frame.compute()) == 2000
        cluster.run(close)
        cluster.run(set_url, None)
        # A new frame, because Dask would return the kept result of the first.
        again = filled.tokens.to_dask(*LIMITS, npartitions=4, url="environment")
        with pytest.raises(ConfigError, match="does not; set NGDATA_DATABASE_URL"):
            again.compute()
    finally:
        cluster.run(set_url, None)
