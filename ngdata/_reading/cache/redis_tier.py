"""The tier in Redis, shared by all readers of this database: an optimization, never a requirement.

A read waits for Redis a quarter of a second at most, whatever Redis does; `circuit_breaker` then
decides when it is tried again.  Its values may come from any program, so `codec` checks them.
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

from ngdata._arguments.checked_bytes import FormatError
from ngdata._connections.driver_errors import translated
from ngdata._connections.lifetime import cut_transport
from ngdata._connections.threads import in_daemon_thread, uninterrupted
from ngdata._query.model import Column
from ngdata._reading.answer import Answer
from ngdata._reading.cache.circuit_breaker import CircuitBreaker, Operation
from ngdata._reading.cache.codec import decode, encode
from ngdata._reading.cache.stats import CacheStats
from ngdata.errors import OutOfResources

__all__ = ["RedisTier"]

# Seconds that a read waits for Redis.
_READ_TIMEOUT: Final = 0.25
_FLUSH_TIMEOUT: Final = 5.0
_CLEAR_TIMEOUT: Final = 30.0

# For one value; a larger answer is read again rather than transferred.
_MAX_VALUE_BYTES: Final = 64 << 20
# For all answers that wait to be stored; further ones are not stored.
_MAX_PENDING_BYTES: Final = 128 << 20
# A smaller value is encoded and checked on the event loop: a thread would take longer.
_SMALL_BYTES: Final = 1 << 18

_MAX_POINTER_BYTES: Final = 128
_MAX_CONNECTIONS: Final = 8


class RedisTier:
    """Answers in Redis, under a prefix for this database, role, schema and format.

    An answer is stored under its question and version; under the question alone, a pointer names
    the version that was stored last.

    Parameters
    ----------
    url : str
    prefix : str
    secret : bytes
        Only users who may read the database know it; values made without it are refused.
    ttl : int
        Seconds that an answer is kept.
    stats : CacheStats
    """

    def __init__(self, url: str, prefix: str, secret: bytes, ttl: int, stats: CacheStats) -> None:
        self._prefix = prefix
        self._secret = secret
        self._ttl = ttl
        self._stats = stats
        self._circuit_breaker = CircuitBreaker()
        self._connection_limit = asyncio.Semaphore(_MAX_CONNECTIONS)
        self._pending: dict[asyncio.Task[None], int] = {}
        self._loop = asyncio.get_running_loop()
        # Used directly: a command of the client takes three times as long as one on its connection.
        self._connections: set[Any] = set()
        self._idle: list[Any] = []
        self._client: redis.asyncio.Redis = redis.asyncio.from_url(
            url,
            socket_timeout=_READ_TIMEOUT,
            socket_connect_timeout=_READ_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )

    async def get(self, question: str, version: str, columns: tuple[Column, ...]) -> Answer | None:
        """Return the answer to a question at a version, or else the one that was stored last.

        It is None if neither is there and valid.
        """
        return await self._stored(question, version, columns)

    async def latest(self, question: str, columns: tuple[Column, ...]) -> Answer | None:
        """Return the answer that was stored last, whatever the version is now."""
        return await self._stored(question, None, columns)

    async def _stored(
        self, question: str, version: str | None, columns: tuple[Column, ...]
    ) -> Answer | None:
        """Return the answer at a version, or else the one that the pointer names."""
        key = f"{self._prefix}{question}:{version}"

        async def at_version_or_latest() -> Any:
            nonlocal key
            value = None if version is None else await self._value(key)
            if value is not None:
                return value
            pointer = await self._value(f"{self._prefix}{question}")
            if not _is_version(pointer) or pointer.decode() == version:
                return None
            key = f"{self._prefix}{question}:{pointer.decode()}"
            return await self._value(key)

        value = await self._read(at_version_or_latest)
        return await self._decode(key, value, columns)

    async def _value(self, key: str) -> Any:
        (value,) = await self._replies([("GET", key)])
        return value

    async def _read(self, command: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await self._run("read", command)
        except redis.ResponseError:
            self._stats.refused_values += 1  # a value of another type; the next store replaces it
            return None

    async def _decode(self, key: str, value: Any, columns: tuple[Column, ...]) -> Answer | None:
        if value is None:
            return None

        def decode_value() -> Answer:
            return decode(key, value, columns, self._secret, _MAX_VALUE_BYTES)

        try:
            if not isinstance(value, bytes) or len(value) < _SMALL_BYTES:
                with translated(""):
                    return decode_value()
            return await in_daemon_thread(decode_value)
        except OutOfResources:
            return (
                None  # for a thread or for a second copy of the bytes; the database is read instead
            )
        except FormatError:
            self._stats.refused_values += 1
            # If the value belongs to another command, so do all later ones on its connection.
            while self._idle:
                self._discard(self._idle.pop())
            return None

    def put(self, question: str, answer: Answer) -> None:
        """Store an answer, in the background."""
        size = answer.nbytes
        if size > _MAX_VALUE_BYTES or sum(self._pending.values()) + size > _MAX_PENDING_BYTES:
            return
        if self._circuit_breaker.is_open("read") or self._circuit_breaker.is_open("write"):
            return
        task = asyncio.ensure_future(self._store(question, answer))
        self._pending[task] = size
        task.add_done_callback(lambda t: self._pending.pop(t, None))

    async def _store(self, question: str, answer: Answer) -> None:
        key = f"{self._prefix}{question}:{answer.version}"
        try:
            if answer.nbytes < _SMALL_BYTES:
                with translated(""):
                    value = encode(key, answer, self._secret)
            else:
                value = await in_daemon_thread(lambda: encode(key, answer, self._secret))
        except OutOfResources:
            return  # the caller has its answer; others read it again

        ttl = str(self._ttl)
        await self._run(
            "write",
            lambda: self._replies(
                [
                    ("SET", key, value, "EX", ttl),
                    ("SET", f"{self._prefix}{question}", answer.version, "EX", ttl),
                ]
            ),
        )

    async def clear(self) -> None:
        """Delete all keys under the prefix."""
        await self.flush()

        async def delete() -> None:
            keys = [key async for key in self._client.scan_iter(f"{self._prefix}*", count=1000)]
            for start in range(0, len(keys), 1000):
                await self._client.unlink(*keys[start : start + 1000])

        # A task of its own, which the caller's cancellation does not end halfway.
        await self._run(
            "write",
            lambda: asyncio.shield(asyncio.wait_for(delete(), _CLEAR_TIMEOUT)),
            _CLEAR_TIMEOUT,
        )

    async def _run(
        self,
        operation: Operation,
        command: Callable[[], Awaitable[Any]],
        timeout: float | None = None,
    ) -> Any:
        """Run a command; return None if Redis fails, or must not be tried now.

        `timeout` is `_READ_TIMEOUT` by default.
        """
        if self._circuit_breaker.is_open(operation):
            return None
        started = time.monotonic()
        is_sent = False

        try:
            limit = _READ_TIMEOUT if timeout is None else timeout
            async with asyncio.timeout(limit), self._connection_limit:
                is_sent = True
                result = await command()
        except redis.ResponseError as error:
            if operation == "read" and str(error).startswith("WRONGTYPE"):
                raise
            self._record_failure(operation, error)
            return None
        except MemoryError:
            return None  # nothing is known about Redis
        # A server that is not Redis may cause any error in the client.
        except Exception as error:
            # A timeout while the connections were all in use is not a failure of Redis.
            if is_sent or not isinstance(error, TimeoutError):
                self._record_failure(operation, error)
            return None
        self._circuit_breaker.record_success(operation, started)
        return result

    async def _replies(self, commands: list[tuple[str | bytes, ...]]) -> list[Any]:
        """Send commands at once, and return their replies; raise the first error among them."""
        while True:
            is_idle = bool(self._idle)
            connection = self._idle.pop() if is_idle else await self._connect()
            try:
                await connection.send_packed_command(
                    connection.pack_commands(commands), check_health=False
                )
                replies = [await _reply(connection) for _ in commands]
            except BaseException as error:
                # The next command on it would receive the reply to one of these.
                self._discard(connection)
                # The server may have closed it while it was idle.
                if not is_idle or not isinstance(error, redis.ConnectionError | OSError):
                    raise
            else:
                self._idle.append(connection)
                for reply in replies:
                    if isinstance(reply, Exception):
                        raise reply
                return replies

    async def _connect(self) -> Any:
        pool: Any = self._client.connection_pool
        connection = pool.make_connection()
        self._connections.add(connection)

        async def connect() -> None:
            try:
                async with asyncio.timeout(_READ_TIMEOUT):
                    await connection.connect()
            except BaseException:
                self._discard(connection)
                raise
            # `_run` limits the time of commands, at less cost.
            connection.socket_timeout = None

        # A task of its own: the client does not close a connection that is cancelled halfway.
        task = asyncio.ensure_future(connect())
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda t: t.cancelled() or t.exception())
            task.add_done_callback(lambda _: self._discard(connection))
            raise
        return connection

    def _discard(self, connection: Any) -> None:
        """Close a connection at once; its event loop need not run."""
        self._connections.discard(connection)
        if (writer := connection._writer) is not None:
            connection._writer = connection._reader = None
            cut_transport(writer.transport, self._loop)

    def _record_failure(self, operation: Operation, error: Exception) -> None:
        self._stats.redis_errors += 1
        self._circuit_breaker.record_failure(operation, error)

    async def flush(self, timeout: float = _FLUSH_TIMEOUT) -> None:
        """Wait until the pending answers are stored; cancel those that are not at the timeout."""
        pending = list(self._pending)
        if pending:
            _, late = await asyncio.wait(pending, timeout=timeout)
            for task in late:
                task.cancel()

    async def close(self) -> None:
        """Close the connections."""
        await self.flush(_READ_TIMEOUT)
        with contextlib.suppress(redis.RedisError, OSError):
            await uninterrupted(self._client.aclose())
        self._idle.clear()
        while self._connections:
            with contextlib.suppress(redis.RedisError, OSError):
                await uninterrupted(self._connections.pop().disconnect())

    def cut(self) -> None:
        """Close the connections at once; their event loop need not run."""
        pool: Any = self._client.connection_pool
        self._idle.clear()
        for connection in [
            *self._connections,
            *pool._available_connections,
            *pool._in_use_connections,
        ]:
            self._discard(connection)


def _is_version(pointer: Any) -> bool:
    return isinstance(pointer, bytes) and len(pointer) <= _MAX_POINTER_BYTES and pointer.isalnum()


async def _reply(connection: Any) -> Any:
    """Return the next reply, or the error that it is, whose text holds no value."""
    try:
        return await connection.read_response()
    except redis.ResponseError as error:
        return error
