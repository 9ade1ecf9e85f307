"""What the tests of the repositories share: a configuration as programs write it, and sessions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import psycopg
import pytest

from ngdata import _local
from ngdata.repositories import (
    DatabaseFactory,
    DatabaseManager,
    ExperienceRepository,
    GraphRepository,
    RepositoryFactory,
    TokenModel,
    TokenRepository,
)
from tests.conftest import execute

ZEROS = [0.0] * 8


@pytest.fixture
def config(server: _local.Addresses, database_url: str) -> dict[str, Any]:
    """The mapping `database` of an empty store, as it stands in `database.yaml`."""
    parts = urlsplit(database_url)
    query = dict(parse_qsl(parts.query))
    return {
        "postgres": {
            "host": query["host"],
            "port": int(query.get("port", 5432)),
            "database": parts.path.lstrip("/"),
            "user": parts.username,
            "pool": {"min_size": 1, "max_size": 3},
        },
        "redis": {"host": urlsplit(server.redis_url).path, "cache": {"default_ttl": 60}},
    }


@dataclass
class Layer:
    """A manager, an open session, and its repositories."""

    manager: DatabaseManager
    session: Any
    tokens: TokenRepository
    graph: GraphRepository
    experience: ExperienceRepository


@pytest.fixture
def with_manager(config: dict[str, Any]) -> Callable[..., Any]:
    """Run async code on a manager, in an event loop of its own."""

    def run(body: Callable[[DatabaseManager], Awaitable[Any]]) -> Any:
        async def go() -> Any:
            try:
                return await body(await DatabaseFactory.create_database_manager(config))
            finally:
                await DatabaseFactory.close_all()

        return asyncio.run(go())

    return run


@pytest.fixture
def in_session(with_manager: Callable[..., Any]) -> Callable[..., Any]:
    """Run async code in a session."""

    def run(body: Callable[[Layer], Awaitable[Any]]) -> Any:
        async def go(manager: DatabaseManager) -> Any:
            async with manager.session() as session:
                return await body(layer_of(manager, session))

        return with_manager(go)

    return run


def layer_of(manager: DatabaseManager, session: Any) -> Layer:
    return Layer(
        manager,
        session,
        RepositoryFactory.create_token_repository(session),
        RepositoryFactory.create_graph_repository(session),
        RepositoryFactory.create_experience_repository(session),
    )


@pytest.fixture
def layer() -> Callable[[DatabaseManager, Any], Layer]:
    """The function, for tests that open several sessions."""
    return layer_of


@pytest.fixture
def token() -> Callable[..., TokenModel]:
    """Make a token at (x, 0, 0) on every level."""

    def make(x: float = 0.0, **values: Any) -> TokenModel:
        return TokenModel(**{"coord_x": [x] * 8, "coord_y": ZEROS, "coord_z": ZEROS} | values)

    return make


class Outside:
    """The server as an outsider sees it."""

    def __init__(self, url: str) -> None:
        self._url = url

    def rows(self, statement: str) -> list[Any]:
        return execute(self._url, statement)

    def one(self, statement: str) -> Any:
        return self.rows(statement)[0][0]

    def busy(self) -> int:
        """Count our connections that run something or have a transaction open."""
        return int(
            self.one(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ngdata'"
                " AND (state <> 'idle' OR xact_start IS NOT NULL)"
            )
        )

    async def until(self, busy: int) -> None:
        """Wait for a state that must come; how long it takes is not what is tested."""
        deadline = time.monotonic() + 20
        while self.busy() != busy:
            assert time.monotonic() < deadline, "the state did not come"
            await asyncio.sleep(0.02)

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Hold a lock, so that whoever needs the table hangs."""
        with psycopg.connect(self._url) as holder:
            holder.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
            holder.rollback()


@pytest.fixture
def outside(database_url: str) -> Outside:
    """The server of an empty store, seen from outside."""
    return Outside(database_url)


__all__ = ["Layer", "Outside"]
