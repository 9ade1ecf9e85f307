"""Real workers: several processes, each with its own connections, none with more than it may."""

from __future__ import annotations

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
def _workers_stay_open_no_longer(request):
    yield
    if "cluster" in request.fixturenames:
        request.getfixturevalue("cluster").run(close)


def close():
    from ngdata._reading.dask_frames.connections import close_idle

    close_idle()


def whose(part):
    import pandas as pd

    return pd.DataFrame({"process": [os.getpid()], "rows": [len(part)]})


def test_the_workers_read_and_not_the_client(filled, cluster):
    frame = filled.tokens.to_dask(*LIMITS, npartitions=16)
    found = frame.map_partitions(whose, meta={"process": int, "rows": int}).compute()
    assert found.rows.tolist() == [125] * 16
    assert set(found.process) == set(cluster.run(os.getpid).values())
    assert os.getpid() not in set(found.process)


def test_the_same_answer(filled, cluster):
    wanted = filled.tokens.find_in_region(*LIMITS)
    frame = filled.tokens.to_dask(*LIMITS, rows_per_partition=300)
    found = frame.compute()
    same_set(found, wanted)
    assert found.attrs["ngdata"]["version"] == wanted.attrs["ngdata"]["version"]
    events = filled.experience.to_dask(npartitions=5).compute().reset_index(drop=True)
    expected = filled.experience.get_events()
    pd.testing.assert_frame_equal(events, expected)


def test_computations_that_shuffle(filled, cluster):
    one = filled.tokens.find_in_region(*LIMITS)
    frame = filled.tokens.to_dask(*LIMITS, npartitions=6)
    by_z = frame.groupby("z").weight.sum().compute().sort_index()
    assert by_z.index.tolist() == [0.0, 1.0, 2.0]
    assert by_z.tolist() == pytest.approx(one.groupby("z").weight.sum().tolist())
    merged = frame.merge(frame[["token_id", "weight"]], on="token_id").compute()
    assert len(merged) == 2000


def test_a_worker_keeps_its_connections_and_gives_them_up(filled, cluster, database_url, execute):
    named = ngdata.connect(database_url, application_name="scaling test", cache="off")
    try:
        frame = named.tokens.to_dask(*LIMITS, npartitions=12)
        assert len(frame.compute()) == 2000
        counted = (
            "SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity"
            " WHERE application_name = 'scaling test'"
        )
        named.close()
        ((kept, busy),) = execute(database_url, counted)
        # For each process, one for each of two threads, and one that looked at the schema.
        assert 0 < kept <= 2 * 3
        assert busy == 0
        assert len(frame.compute()) == 2000
        assert execute(database_url, counted)[0][0] <= 2 * 3
        cluster.run(close)
        assert execute(database_url, counted + " AND pg_sleep(0.2) IS NOT NULL")[0][0] == 0
    finally:
        named.close()


def test_a_write_is_told_by_a_worker(filled, cluster, database_url, execute):
    frame = filled.tokens.to_dask(*LIMITS, npartitions=4, consistent=True)
    assert len(frame.compute()) == 2000
    execute(database_url, "UPDATE tokens.tokens SET flags = 1")
    with pytest.raises(ConsistencyError, match="call to_dask again"):
        frame.compute()


def test_what_is_persisted_stays_and_a_new_call_is_new(filled, cluster):
    kept = filled.tokens.to_dask(*LIMITS, npartitions=4).persist()
    assert len(kept) == 2000
    filled.tokens.delete(kept.partitions[0].compute().token_id)
    assert len(kept) == 2000
    assert len(filled.tokens.to_dask(*LIMITS, npartitions=4)) == 1500


def test_workers_that_know_the_address_themselves(filled, cluster, database_url):
    def name(url):
        os.environ.pop("NGDATA_DATABASE_URL", None)
        if url:
            os.environ["NGDATA_DATABASE_URL"] = url

    frame = filled.tokens.to_dask(*LIMITS, npartitions=4, url="environment", consistent=True)
    try:
        cluster.run(name, database_url)
        assert len(frame.compute()) == 2000
        cluster.run(close)
        cluster.run(name, None)
        # A new name, or Dask would know the answer.
        again = filled.tokens.to_dask(*LIMITS, npartitions=4, url="environment")
        with pytest.raises(ConfigError, match="does not; set NGDATA_DATABASE_URL"):
            again.compute()
    finally:
        cluster.run(name, None)
