"""A real standby: its versions are those of the rows it shows, however far it lags."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import ngdata
from ngdata._store import owner_locks
from ngdata.errors import ConfigError, ConsistencyError, NGDataError, NotFoundError
from tests import nodes
from tests.nodes import Node
from tests.scaling.conftest import LIMITS, random_tokens, whole


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Node, Node]]:
    """A primary and a standby that streams from it."""
    with nodes.directory() as top:
        primary = nodes.started(top, "primary")
        try:
            standby = nodes.new(top, "standby")
            primary.copy(standby.data, "-R")
            standby.start()
            try:
                yield primary, standby
            finally:
                standby.stop()
        finally:
            primary.stop()


def replayed(primary: Node, standby: Node) -> None:
    """Wait until the standby has replayed all that the primary has written so far."""
    written = primary.fetch("SELECT pg_current_wal_lsn()::text")
    nodes.until(
        lambda: standby.fetch(f"SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn") is True
    )


def version(client: ngdata.Client) -> str:
    return client.tokens.find_in_region(*LIMITS).attrs["ngdata"]["version"]


def test_partitions_from_a_replica(pair):
    primary, standby = pair
    with ngdata.connect(primary.url) as ng, ngdata.connect(standby.url) as replica:
        ng.tokens.delete(ng.tokens.find_in_region(*LIMITS).token_id)
        ng.tokens.bulk_create(random_tokens(1, 100))
        replayed(primary, standby)
        assert version(ng) == version(replica)
        frame = ng.tokens.to_dask(*LIMITS, npartitions=4, url=standby.url, consistent=True)
        assert len(whole(frame)) == 100
        assert replica.health()["ok"]
        standby.fetch("SELECT pg_wal_replay_pause()")
        try:
            ids = ng.tokens.bulk_create(random_tokens(2, 11))
            # The rows that the standby shows have not changed, so the frame is consistent.
            assert len(whole(frame)) == 100
            assert len(replica.tokens.find_in_region(*LIMITS)) == 100
            # The primary's version is not yet the standby's.
            assert version(ng) != version(replica)
            assert ng.tokens.count_in_region(*LIMITS) == 111
        finally:
            standby.fetch("SELECT pg_wal_replay_resume()")
        replayed(primary, standby)
        with pytest.raises(ConsistencyError):
            whole(frame)
        # A cached answer of the standby is valid by the standby's own version.
        frame = replica.tokens.find_in_region(*LIMITS)
        assert set(ids) <= set(frame.token_id)
        assert version(ng) == version(replica)


def test_workers_on_a_standby_that_lags_behind_the_planned_version(pair, monkeypatch):
    """The frame is planned on the primary; the workers read a standby that lags."""
    primary, standby = pair
    monkeypatch.setenv("NGDATA_DATABASE_URL", standby.url)
    with ngdata.connect(primary.url) as ng:
        ng.tokens.bulk_create(random_tokens(3, 5))
        replayed(primary, standby)
        standby.fetch("SELECT pg_wal_replay_pause()")
        try:
            ng.tokens.bulk_create(random_tokens(4, 5))
            frame = ng.tokens.to_dask(*LIMITS, npartitions=2, url="environment", consistent=True)
            with pytest.raises(ConsistencyError):
                whole(frame)
        finally:
            standby.fetch("SELECT pg_wal_replay_resume()")
        replayed(primary, standby)
        assert len(whole(frame)) == ng.tokens.count_in_region(*LIMITS)


def test_a_replica_refuses_writes(pair):
    primary, standby = pair
    with ngdata.connect(primary.url) as ng:
        ng.tokens.bulk_create(random_tokens(6, 3))
    replayed(primary, standby)
    with ngdata.connect(standby.url) as replica:
        with pytest.raises(ConfigError, match="may only read"):
            replica.tokens.bulk_create(random_tokens(5, 5))
        assert len(replica.tokens.find_nearest((0, 0, 0), k=3)) == 3


def test_a_standby_reads_as_of_a_pin(pair):
    primary, standby = pair
    with ngdata.connect(primary.url) as ng:
        ng.tokens.delete(ng.tokens.find_in_region(*LIMITS).token_id)
        ids = ng.tokens.bulk_create(random_tokens(7, 50))
        pin = ng.pin("on both")
        ng.tokens.delete(ids[:20])
        replayed(primary, standby)
        with ngdata.connect(standby.url) as replica:
            past = replica.as_of("on both")
            assert past.pin == pin
            assert set(past.tokens.find_in_region(*LIMITS).token_id) == set(ids)
            assert past.tokens.get(ids[:5]).token_id.tolist() == ids[:5].tolist()
            assert len(replica.diff("on both")) == 20
            with pytest.raises(ConfigError, match="may only read"):
                replica.pin()
        ng.unpin(pin)


def test_a_pin_waits_for_a_prepared_transaction(pair, monkeypatch):
    primary, _ = pair
    with ngdata.connect(primary.url) as ng:
        ids = ng.tokens.bulk_create(random_tokens(8, 5))
        primary.execute(
            f"BEGIN; DELETE FROM tokens.tokens WHERE id = '{ids[0]}'; PREPARE TRANSACTION 'half'"
        )
        monkeypatch.setattr(owner_locks, "LOCK_TIMEOUT_SECONDS", 0.3)
        with pytest.raises(NGDataError, match="a prepared transaction"):
            ng.pin("half done")
        primary.fetch("COMMIT PREPARED 'half'")
        with pytest.raises(NotFoundError):
            ng.as_of(ng.pin("done")).tokens.get(ids[:1])
        ng.unpin("done")
