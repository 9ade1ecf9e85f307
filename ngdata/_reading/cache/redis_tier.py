"""The tier in Redis, shared by all who read this database: a help, never a condition.

Whatever Redis does, a read waits for it a quarter of a second at most (`outage` has what follows).
Its values are bytes from anywhere (`entry` checks them).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ngdata._connections.threads import in_daemon_thread, uninterrupted
from ngdata._query.envelope import FormatError
from ngdata._query.model import Column
from ngdata._reading.answer import Answer
from ngdata._reading.cache.circuit_breaker import Outage
from ngdata._reading.cache.codec import decode, encode
from ngdata._reading.cache.stats import CacheStats

__all__ = ["Shared"]

PATIENCE: Final = 0.25

# One value; larger answers are read again rather than carried over.
MOST_BYTES: Final = 64 << 20
# What may wait to be stored; beyond, answers are not stored.
_MOST_PENDING: Final = 128 << 20
# Below, the loop may wait for the check of a value.
_SMALL_BYTES: Final = 1 << 20

_MOST_CONNECTIONS: Final = 8


class Shared:
    """Answers in Redis, under a prefix that tells this database, role, schema and format.

    Parameters
    ----------
    url : str
    prefix : str
    secret : bytes
        Known to who may read the database: a value that was made without it is none of ours.
    ttl : int
        Seconds that an answer is kept.
    stats : CacheStats
    """

    def __init__(self, url: str, prefix: str, secret: bytes, ttl: int, stats: CacheStats) -> None:
        self._prefix = prefix
        self._secret = secret
        self._ttl = ttl
        self._stats = stats
        self._outage = Outage()
        self._turns = asyncio.Semaphore(_MOST_CONNECTIONS)
        self._pending: dict[asyncio.Task[None], int] = {}
        self._client: redis.asyncio.Redis = redis.asyncio.from_url(
            url,
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )

    async def get(self, question: str, version: str, columns: tuple[Column, ...]) -> Answer | None:
        """Give the answer to a question at a version, if it is there and sound."""
        key = f"{self._prefix}{question}:{version}"
        return await self._sound(key, await self._read(lambda: self._client.get(key)), columns)

    async def latest(self, question: str, columns: tuple[Column, ...]) -> Answer | None:
        """Give the answer that was kept last, whatever the version is now."""
        keys: list[str] = []

        async def both() -> Any:
            pointer = await self._client.get(f"{self._prefix}{question}")
            if not isinstance(pointer, bytes) or len(pointer) > 128 or not pointer.isalnum():
                return None
            keys.append(f"{self._prefix}{question}:{pointer.decode()}")
            return await self._client.get(keys[0])

        value = await self._read(both)
        return await self._sound(keys[0], value, columns) if keys else None

    async def _read(self, command: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await self._try("read", command)
        except redis.ResponseError:
            self._stats.refused_values += 1  # of another type; storing the answer replaces it
            return None

    async def _sound(self, key: str, value: Any, columns: tuple[Column, ...]) -> Answer | None:
        if value is None:
            return None

        def checked() -> Answer:
            return decode(key, value, columns, self._secret, MOST_BYTES)

        try:
            if not isinstance(value, bytes) or len(value) < _SMALL_BYTES:
                return checked()
            return await in_daemon_thread(checked)
        except FormatError:
            self._stats.refused_values += 1
            # If it was another's answer, so would be all that follow on that connection.
            with contextlib.suppress(redis.RedisError, OSError):
                await self._client.connection_pool.disconnect(inuse_connections=False)
            return None

    def put(self, question: str, answer: Answer) -> None:
        """Store an answer, in the background."""
        size = answer.nbytes
        if size > MOST_BYTES or sum(self._pending.values()) + size > _MOST_PENDING:
            return
        if self._outage.rests("read") or self._outage.rests("write"):
            return
        task = asyncio.ensure_future(self._store(question, answer))
        self._pending[task] = size
        task.add_done_callback(lambda t: self._pending.pop(t, None))

    async def _store(self, question: str, answer: Answer) -> None:
        key = f"{self._prefix}{question}:{answer.version}"
        value = await in_daemon_thread(lambda: encode(key, answer, self._secret))

        async def store() -> None:
            async with self._client.pipeline(transaction=False) as commands:
                commands.set(key, value, ex=self._ttl)
                commands.set(f"{self._prefix}{question}", answer.version, ex=self._ttl)
                # Raised there, an error would have the whole value in its text.
                for found in await commands.execute(raise_on_error=False):
                    if isinstance(found, Exception):
                        raise found

        await self._try("write", store)

    async def clear(self) -> None:
        """Delete what is stored under the prefix."""
        await self.stored(patience=5.0)

        async def clear() -> None:
            found = [key async for key in self._client.scan_iter(f"{self._prefix}*", count=1000)]
            for start in range(0, len(found), 1000):
                await self._client.unlink(*found[start : start + 1000])

        await self._try("write", clear, patience=30.0)

    async def _try(
        self, kind: str, command: Callable[[], Awaitable[Any]], patience: float = PATIENCE
    ) -> Any:
        """Run a command; None if Redis is not to be had, or rests.

        In a task of its own, which nobody's cancellation ends in the middle: the connection would
        be left with an answer that the next command takes for its own.
        """
        if self._outage.rests(kind):
            return None
        begun = time.monotonic()
        asked = False

        async def run() -> Any:
            nonlocal asked
            async with asyncio.timeout(patience), self._turns:
                asked = True
                return await command()

        task = asyncio.ensure_future(run())
        task.add_done_callback(lambda t: t.cancelled() or t.exception())
        try:
            found = await asyncio.shield(task)
        except redis.ResponseError as error:
            if kind == "read" and str(error).startswith("WRONGTYPE"):
                raise
            self._failed(kind, error)
            return None
        # Whatever a server that is none of ours makes of the client.
        except Exception as error:
            if asked or not isinstance(error, TimeoutError):
                self._failed(kind, error)
            return None
        self._outage.succeeded(kind, begun)
        return found

    def _failed(self, kind: str, error: Exception) -> None:
        self._stats.redis_errors += 1
        self._outage.failed(kind, error)

    async def stored(self, patience: float) -> None:
        """Give what waits to be stored a moment, and then give it up."""
        waiting = list(self._pending)
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=patience)
            for task in late:
                task.cancel()

    async def close(self) -> None:
        """Close the connections."""
        await self.stored(patience=PATIENCE)
        with contextlib.suppress(redis.RedisError, OSError):
            await uninterrupted(self._client.aclose())
