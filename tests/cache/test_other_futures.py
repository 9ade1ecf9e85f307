"""The log of changes where transactions end late, or are lost and their ids come again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pandas as pd
import pytest

import ngdata
from ngdata._reading.cache import outliving
from tests import nodes
from tests.cache.conftest import RedisServer, points
from tests.nodes import Node

BOX = ((0, 0, 0), (5, 5, 5))
MOVE = "UPDATE tokens.tokens SET coord_x[1] = coord_x[1] + 1 WHERE weight = {weight}"
FAR = "UPDATE tokens.tokens SET coord_x[1] = coord_x[1] + 1 WHERE weight = 9"


@pytest.fixture(autouse=True)
def small_answers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring answers up to date that the database would return as quickly."""
    monkeypatch.setattr(outliving, "is_read_quickly", lambda query, answer: False)


@pytest.fixture
def node() -> Iterator[Node]:
    with nodes.directory() as top:
        node = nodes.started(top, "node", is_archived=True)
        try:
            yield node
        finally:
            node.stop()


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.close()


def fill(ng: ngdata.Client) -> None:
    ng.tokens.bulk_create(
        points((1, 1, 1), (2, 2, 2), (3, 3, 3), (9, 9, 9), weight=[1.0, 2.0, 3.0, 9.0])
    )


def check(ng: ngdata.Client) -> str:
    """Compare a region with an uncached read; return where it came from."""
    cached = ng.tokens.find_in_region(*BOX)
    fresh = ng.tokens.find_in_region(*BOX, cache="off")
    pd.testing.assert_frame_equal(
        cached.sort_values("token_id", ignore_index=True),
        fresh.sort_values("token_id", ignore_index=True),
    )
    source: str = cached.attrs["ngdata"]["source"]
    return source


def test_a_prepared_transaction_is_seen_when_it_is_committed(node):
    with ngdata.connect(node.url) as ng:
        fill(ng)
        check(ng)
        prepare = "BEGIN; {}; PREPARE TRANSACTION '{}'"
        node.execute(prepare.format(MOVE.format(weight=1), "kept"))
        node.execute(prepare.format(MOVE.format(weight=2), "dropped"))
        assert check(ng) == "memory"
        # Answers of other transactions' snapshots, which the prepared ones began before.
        node.execute(MOVE.format(weight=3))
        assert check(ng) == "mended"
        node.execute(FAR)
        assert check(ng) == "memory"
        node.execute("ROLLBACK PREPARED 'dropped'")
        assert check(ng) == "memory"
        node.execute("COMMIT PREPARED 'kept'")
        assert check(ng) == "mended"
        assert ng.cache.stats().misses == 1


def test_a_prepared_transaction_outlives_a_restart(node):
    with ngdata.connect(node.url) as ng:
        fill(ng)
        check(ng)
        node.execute(f"BEGIN; {MOVE.format(weight=1)}; PREPARE TRANSACTION 'kept'")
        node.control("restart", "-m", "fast", "-l", node.log)
        assert check(ng) == "database"
        node.execute("COMMIT PREPARED 'kept'")
        assert check(ng) == "mended"


def test_a_store_restored_to_a_point_in_time(node, redis_server):
    """Later transactions get the ids of those that were lost, and Redis has their answers."""
    copy = node.data.with_name("copy")
    with ngdata.connect(node.url, redis_url=redis_server.url) as ng:
        fill(ng)
        node.copy(copy)
        node.execute(MOVE.format(weight=1))
        node.fetch("SELECT pg_create_restore_point('here')::text")
        kept = ng.tokens.find_in_region(*BOX, cache="off").sort_values("token_id")
        for weight in (1, 2, 3) * 4:
            node.execute(MOVE.format(weight=weight))
            check(ng)
        lost = node.fetch("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        last = node.fetch("SELECT pg_walfile_name(pg_switch_wal())")
        nodes.until(
            lambda: node.fetch(f"SELECT last_archived_wal >= '{last}' FROM pg_stat_archiver")
        )
        node.stop()
        shutil.rmtree(node.data)
        copy.rename(node.data)
        node.account.write(node.data / "recovery.signal", "")
        node.start(
            f"restore_command = 'cp {node.archive}/%f %p'\nrecovery_target_name = 'here'\n"
            "recovery_target_action = 'promote'\n"
        )
        nodes.until(lambda: not node.fetch("SELECT pg_is_in_recovery()"))
        assert check(ng) == "database"
        restored = ng.tokens.find_in_region(*BOX, cache="off").sort_values("token_id")
        pd.testing.assert_frame_equal(kept, restored)
        now = node.fetch("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        assert now < lost, "it tests nothing"
        while now <= lost + 3:
            node.execute(MOVE.format(weight=1 + now % 3))
            with ngdata.connect(node.url, redis_url=redis_server.url) as other:
                check(other)
            assert check(ng) in ("mended", "memory")
            now = node.fetch("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")


def test_a_crash_that_loses_transactions(node, redis_server):
    """The postmaster goes on, and the ids of commits that were not flushed come again."""
    with ngdata.connect(node.url, redis_url=redis_server.url) as ng:
        fill(ng)
        check(ng)
        before = node.fetch("SELECT tokens.reader_identity()")
        started = node.fetch("SELECT pg_postmaster_start_time()::text")
        pid = node.fetch("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'")
        killed = node.account.run(["kill", "-KILL", str(pid)])
        assert killed.returncode == 0, killed.stderr
        nodes.until(lambda: _answers(node))
        assert node.fetch("SELECT pg_postmaster_start_time()::text") == started
        assert node.fetch("SELECT tokens.reader_identity()") != before
        assert check(ng) == "database"


def _answers(node: Node) -> bool:
    try:
        return bool(node.fetch("SELECT true"))
    except Exception:
        return False
