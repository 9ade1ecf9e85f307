"""Helpers for the tests of the cache: foreign writers, and Redis servers to break."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pandas as pd
import pytest
import redis

from ngdata._local.binaries import find_redis

WHOLE = ((-np.inf,) * 3, (np.inf,) * 3)


class RedisServer:
    """A Redis server of one test, on a unix socket in a temporary directory with a short path."""

    def __init__(self, *options: str) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="ngr-"))
        self.socket = self._directory / "s"
        self.url = f"unix://{self.socket}"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        """Start it, empty, and wait until it answers."""
        self._process = subprocess.Popen(
            [
                *(find_redis(), "--port", "0", "--unixsocket", self.socket, "--save", ""),
                *(*self._options, *more),
            ],
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while True:
            assert time.monotonic() < deadline, "Redis did not start"
            with suppress(redis.AuthenticationError), suppress(redis.ConnectionError, OSError):
                redis.Redis.from_url(self.url).ping()
                return
            if self._answers():
                return
            time.sleep(0.02)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.connect(str(self.socket))
            probe.sendall(b"PING\r\n")
            return bool(probe.recv(16))
        return False

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis.from_url(self.url, **options)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A running Redis server that only this test uses."""
    server = RedisServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
def redis_server() -> Iterator[Callable[..., RedisServer]]:
    """Make Redis servers with options; they stop when the test ends."""
    servers: list[RedisServer] = []

    def make(*options: str) -> RedisServer:
        servers.append(RedisServer(*options))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def points(*places: tuple[float, float, float], **columns: Any) -> pd.DataFrame:
    """Return a frame of tokens at these places."""
    return pd.DataFrame(places, columns=list("xyz")).assign(**columns)


def row_set(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a region's answer, which has no order, sorted by all columns."""
    return frame.sort_values(list(frame.columns), ignore_index=True)


def same(frame: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Compare two answers as sets of rows, with their columns and dtypes."""
    pd.testing.assert_frame_equal(row_set(frame), row_set(expected), check_exact=True)


@asynccontextmanager
async def outsider(url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A connection that is opened without ngdata."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


def run(work: Any) -> Any:
    return asyncio.run(work)


def insert(count: int, **values: object) -> str:
    """Return a statement that inserts tokens at (0, 0, 0) of level 0."""
    columns = "".join(f", {name}" for name in values)
    literals = "".join(f", {value!r}" for value in values.values())
    zeros = "ARRAY[0,NULL,NULL,NULL,NULL,NULL,NULL,NULL]::float8[]"
    return (
        f"INSERT INTO tokens.tokens (coord_x, coord_y, coord_z{columns})"
        f" SELECT {zeros}, {zeros}, {zeros}{literals} FROM generate_series(1, {count})"
    )


async def eventually(condition: Callable[[], Any], seconds: float = 20) -> None:
    """Wait until a condition holds; the time that this takes is not tested."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return
        assert time.monotonic() < deadline, "the condition never held"
        await asyncio.sleep(0.02)


__all__ = [
    "WHOLE",
    "RedisServer",
    "eventually",
    "insert",
    "outsider",
    "points",
    "row_set",
    "run",
    "same",
]
