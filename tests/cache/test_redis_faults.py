"""Redis may fail: every answer stays correct and fast, with one warning, until Redis is back.

Each test has a real server of its own, which is killed, stopped, full, a replica, flushed, or needs
a password; a proxy in between delays and swaps its replies.
"""

import asyncio
import contextlib
import random
import signal
import time
import warnings

import pytest
import redis

import ngdata
from ngdata._reading.cache import circuit_breaker
from ngdata.errors import CacheWarning
from tests.cache.conftest import eventually, outsider, points, run, same

BOX = ((0, 0, 0), (9, 9, 9))

# Far more than Redis may delay a read, and far less than a wait for it without a timeout.
TIME_LIMIT = 5.0


@contextlib.asynccontextmanager
async def two_clients(database_url, redis_url, **options):
    """Yield two clients that share only Redis."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                await ngdata.connect_async(database_url, redis_url=redis_url, **options)
            )
            for _ in range(2)
        ]
        await clients[0].tokens.bulk_create(points(*((n, n, n) for n in range(10))))
        yield clients


async def check(client, columns=None):
    """Read within the time limit, compare with an uncached read, and return the source."""
    async with asyncio.timeout(TIME_LIMIT):
        frame = await client.tokens.find_in_region(*BOX, columns=columns)
    same(frame, await client.tokens.find_in_region(*BOX, columns=columns, cache="off"))
    return frame.attrs["ngdata"]["source"]


async def works(one, two):
    """Return whether one client reads from Redis what the other stored."""
    one._reader.memory.clear()
    two._reader.memory.clear()
    await check(one)
    await asyncio.sleep(0.05)
    return await check(two) == "redis"


@contextlib.contextmanager
def one_warning(about=""):
    """Expect exactly one CacheWarning, and no other warning, however many reads there are."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
    texts = [str(each.message) for each in caught if issubclass(each.category, CacheWarning)]
    assert len(texts) == 1, texts
    assert about in texts[0]
    assert all(issubclass(each.category, CacheWarning) for each in caught)


async def during_an_outage(client, attempts=2):
    """Read, with memory cleared so that Redis is needed, until it failed; return the sources."""
    sources = set()
    while (await client.cache.stats()).redis_errors < attempts:
        client._reader.memory.clear()
        sources.add(await check(client))
        await asyncio.sleep(0.05)
    return sources


def test_redis_that_starts_after_the_client(database_url, redis_server):
    server = redis_server()

    async def main():
        async with two_clients(database_url, server.url) as (one, two):
            with one_warning("Redis is unavailable") as caught:
                assert await during_an_outage(one) == {"database"}
            # The line that reads, not one of ngdata.
            assert caught[0].filename == check.__code__.co_filename
            assert (await one.cache.stats()).redis_errors >= 2
            server.start()
            await eventually(lambda: works(one, two))

    run(main())


def test_redis_that_is_killed_during_reads(database_url, redis_server):
    server = redis_server()
    server.start()

    async def main():
        async with two_clients(database_url, server.url) as (one, two):
            await eventually(lambda: works(one, two))
            with one_warning():

                async def read_on():
                    for _ in range(60):
                        one._reader.memory.clear()
                        await check(one)

                readers = [asyncio.create_task(read_on()) for _ in range(4)]
                await asyncio.sleep(0.05)
                server.kill()
                await asyncio.gather(*readers)
            server.start()
            await eventually(lambda: works(one, two))

    run(main())


def test_redis_that_is_stopped_and_continued(database_url, own_redis):
    """One read in a second waits a quarter of a second for it; the others do not wait."""

    async def main():
        async with two_clients(database_url, own_redis.url) as (one, two):
            await eventually(lambda: works(one, two))
            own_redis.send(signal.SIGSTOP)
            with one_warning():
                begun = time.monotonic()
                assert await during_an_outage(one, attempts=3) == {"database"}
                tries = (await one.cache.stats()).redis_errors
                seconds = (time.monotonic() - begun) / circuit_breaker._RETRY_DELAY
                # Storing an answer, which no read waits for, is tried as often as reading one.
                assert 2 <= tries <= 2 * (seconds + 1)
            own_redis.send(signal.SIGCONT)
            await eventually(lambda: works(one, two))

    run(main())


def test_many_reads_at_once_while_redis_is_stopped(database_url, own_redis):
    async def main():
        async with two_clients(database_url, own_redis.url) as (one, two):
            await eventually(lambda: works(one, two))
            own_redis.send(signal.SIGSTOP)
            one._reader.memory.clear()
            columns = ["token_id", "x", "y", "z", "weight", "flags", "level"]
            with one_warning():
                async with asyncio.timeout(TIME_LIMIT * 2):
                    for _ in range(3):
                        await asyncio.gather(*(check(one, [name]) for name in columns * 5))
            own_redis.send(signal.SIGCONT)

    run(main())


@pytest.mark.usefixtures("patient_redis")
def test_more_reads_at_once_than_connections_are_not_a_failure(database_url, own_redis):
    async def main():
        async with two_clients(database_url, own_redis.url) as (one, two):
            boxes = [((0, 0, 0), (n / 10, 9, 9)) for n in range(60)]
            for client in (one, two):
                await asyncio.gather(*(client.tokens.find_within((0,) * 3, b[1][0]) for b in boxes))
                await asyncio.gather(*one._reader._shared._pending)
            stats = await two.cache.stats()
            assert stats.redis_errors == 0 < stats.redis_hits
            with own_redis.client() as client:
                assert len(client.client_list()) <= 2 * 8 + 1

    run(main())


@pytest.mark.usefixtures("patient_redis")
def test_redis_that_is_out_of_memory(database_url, redis_server):
    """Stored answers are still used, writes pause for a while, and there is one warning."""
    server = redis_server("--maxmemory-policy", "noeviction")
    server.start()

    async def main():
        async with two_clients(database_url, server.url) as (one, two):
            await eventually(lambda: works(one, two))
            with server.client() as client:
                client.config_set("maxmemory", "1")
            with one_warning("maxmemory"):
                for _ in range(3):
                    for columns in (["x"], ["y"]):
                        one._reader.memory.clear()
                        assert await check(one, columns) == "database"
                        two._reader.memory.clear()
                        assert await check(two) == "redis"
                    await asyncio.sleep(0.6)
            assert (await one.cache.stats()).redis_errors >= 1
            assert (await two.cache.stats()).redis_errors == 0
            with server.client() as client:
                client.config_set("maxmemory", "0")
            await one.tokens.create({0: (0.5, 0.5, 0.5)})
            await eventually(lambda: works(one, two))

    run(main())


def test_a_redis_replica_that_refuses_writes(database_url, redis_server):
    primary, replica = redis_server(), redis_server()
    primary.start()
    replica.start()

    async def main():
        async with two_clients(database_url, replica.url) as (one, two):
            with replica.client() as client:
                client.replicaof("127.0.0.1", "1")
            with one_warning("read only"):
                assert await during_an_outage(one) == {"database"}
            with replica.client() as client:
                client.replicaof("NO", "ONE")
            await eventually(lambda: works(one, two))

    run(main())


@pytest.mark.usefixtures("patient_redis")
def test_redis_that_is_flushed(database_url, own_redis):
    async def main():
        async with two_clients(database_url, own_redis.url) as (one, two):
            for _ in range(3):
                await eventually(lambda: works(one, two))
                with own_redis.client() as client:
                    client.flushall()
                two._reader.memory.clear()
                assert await check(two) == "database"
            assert (await two.cache.stats()).redis_errors == 0

    run(main())


def test_a_wrong_password_is_not_shown(database_url, redis_server):
    server = redis_server("--requirepass", "right-one")
    server.start()
    url = f"unix://:wrong-one@{server.socket}"

    async def main():
        async with two_clients(database_url, url) as (one, _):
            with one_warning() as caught:
                assert await during_an_outage(one) == {"database"}
            text = "".join(str(each.message) for each in caught)
            assert "wrong-one" not in text
            assert "right-one" not in text

    run(main())


def test_the_warning_fails_no_read_if_warnings_are_errors(database_url, redis_server):
    server = redis_server()

    async def main():
        async with two_clients(database_url, server.url) as (one, _):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert await check(one) == "database"

    run(main())


# ----------------------------------------------------------------------------------- invalid values


def _set(value):
    return lambda client, key: client.set(key, value)


def _truncate(client, key):
    value = client.get(key)
    client.set(key, value[: len(value) // 2])


def _alter(client, key):
    value = bytearray(client.get(key))
    value[len(value) // 2] ^= 1
    client.set(key, bytes(value))


def _replace_by(kind):
    def change(client, key):
        client.delete(key)
        {
            "list": lambda: client.rpush(key, "a", "b"),
            "hash": lambda: client.hset(key, "a", "b"),
            "set": lambda: client.sadd(key, "a"),
            "stream": lambda: client.xadd(key, {"a": "b"}),
        }[kind]()

    return change


DAMAGES = [
    _set(b""),
    _set(b"ngdata1"),
    _set(b"\x80\x04\x95"),
    _set("5"),
    _set(b"x" * (1 << 20)),
    _truncate,
    _alter,
    *map(_replace_by, ["list", "hash", "set", "stream"]),
]


@pytest.mark.usefixtures("patient_redis")
@pytest.mark.parametrize(
    ("damage", "mode"),
    [
        *((damage, "strict") for damage in DAMAGES),
        # Both modes decode values alike: an empty one, a damaged one, one of another type.
        *((damage, "ttl") for damage in (DAMAGES[0], _alter, DAMAGES[-1])),
    ],
)
@pytest.mark.parametrize("which", ["value", "pointer"])
def test_a_value_that_ngdata_did_not_write_is_a_miss_and_is_replaced(
    database_url, own_redis, damage, mode, which
):
    async def main():
        async with two_clients(database_url, own_redis.url, cache=mode) as (one, two):
            await check(one)
            with own_redis.client() as client:
                await eventually(lambda: len(client.keys("*")) == 2)
                pointer, key = sorted(client.keys("*"))
                if which == "value":
                    damage(client, key)
                elif damage not in (_truncate, _alter):
                    damage(client, pointer)
                else:
                    client.set(pointer, client.get(pointer)[:20])
                expected = "redis" if which == "pointer" and mode == "strict" else "database"
                assert await check(two) == expected
                two._reader.memory.clear()
                if expected == "database":
                    await asyncio.gather(*two._reader._shared._pending)
                    assert await check(two) == "redis"
                stats = await two.cache.stats()
                assert stats.redis_errors == 0
                assert stats.refused_values == (1 if which == "value" else stats.refused_values)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(main())


@pytest.mark.usefixtures("patient_redis")
def test_answers_under_each_others_keys(database_url, own_redis):
    async def main():
        async with two_clients(database_url, own_redis.url) as (one, two):
            await check(one, ["x", "y"])
            await check(one, ["x", "z"])
            with own_redis.client() as client:
                await eventually(lambda: len(client.keys("*")) == 4)
                first, second = [key for key in client.keys("*") if key.count(b":") == 5]
                a, b = client.get(first), client.get(second)
                client.set(first, b)
                client.set(second, a)
            assert await check(two, ["x", "y"]) == "database"
            assert await check(two, ["x", "z"]) == "database"
            assert (await two.cache.stats()).refused_values == 2

    run(main())


# -------------------------------------------------------------------------------------- the proxy


class Proxy:
    """A proxy between client and Redis that delays some replies, and swaps some.

    A swap sends the reply for one connection to another.
    """

    def __init__(self, target, path, seed):
        self.target, self.path = target, path
        self.chance = random.Random(seed)
        self.delay = self.swap = 0.0
        self.swapped = 0
        self._held = None
        self._tasks = set()

    async def __aenter__(self):
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        replies, commands = await asyncio.open_unix_connection(self.target)
        both = [
            asyncio.create_task(self._forward(reader, commands)),
            asyncio.create_task(self._forward_replies(replies, writer)),
        ]
        self._tasks.update(both)
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for stream in (writer, commands):
                stream.close()
            for task in both:
                task.cancel()

    async def _forward(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()

    async def _forward_replies(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 20):
                if self.chance.random() < self.delay:
                    await asyncio.sleep(self.chance.random() * 0.4)
                if data.startswith(b"$") and self.chance.random() < self.swap:
                    data, self._held = self._held or data, data
                    self.swapped += data is not self._held
                writer.write(data)
                await writer.drain()


@pytest.mark.parametrize("seed", range(3))
def test_late_and_swapped_replies_while_reads_are_cancelled(
    database_url, own_redis, tmp_path, seed
):
    """redis-py#2624, #2665: after a cancelled command the next reader received its reply."""
    path = own_redis.socket.with_name("p")

    async def main():
        chance = random.Random(seed)
        async with (
            Proxy(own_redis.socket, path, seed) as proxy,
            two_clients(database_url, f"unix://{path}") as clients,
            outsider(database_url) as writer,
        ):
            proxy.delay, proxy.swap = 0.05, 0.3
            names = ["token_id", "x", "y", "z", "weight", "flags"]

            async def read(number):
                client = chance.choice(clients)
                client._reader.memory.clear()
                columns = ["level", names[number % len(names)]]
                return await client.tokens.find_in_region(*BOX, columns=columns), columns

            for turn in range(25):
                tasks = [asyncio.create_task(read(n)) for n in range(8)]
                await asyncio.sleep(chance.random() * 0.02)
                for task in chance.sample(tasks, 3):
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
                for result in ended:
                    if isinstance(result, asyncio.CancelledError):
                        continue
                    frame, columns = result
                    plain = await clients[0].tokens.find_in_region(
                        *BOX, columns=columns, cache="off"
                    )
                    same(frame, plain)
                if turn % 5 == 4:
                    await writer.execute("UPDATE tokens.tokens SET weight = weight + 1")
                # An open circuit breaker would leave the rest of the test without Redis.
                for client in clients:
                    client._reader._shared._circuit_breaker._failure_times.clear()
            stats = [await client.cache.stats() for client in clients]
            assert proxy.swapped > 5
            assert sum(each.refused_values for each in stats) > 0
            assert sum(each.redis_hits for each in stats) > 10
            proxy.delay = proxy.swap = 0.0
            await eventually(lambda: works(*clients))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        run(main())


def test_a_server_that_is_not_redis(database_url, tmp_path, own_redis):
    """It replies to every command with bytes that Redis would not send."""
    path = own_redis.socket.with_name("n")
    nonsense = [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$99999999999\r\n", b"$-7\r\n", b"*-1\r\n",
                b":x\r\n", b"%1\r\n", b"\0" * 99, b"-\r\n", b"+OK\r\n" * 20, b"_\r\n", b""]  # fmt: skip

    async def main():
        chance = random.Random(1)

        async def serve(reader, writer):
            with contextlib.suppress(OSError):
                while await reader.read(1 << 16):
                    writer.write(chance.choice(nonsense))
                    await writer.drain()
            writer.close()

        listening = await asyncio.start_unix_server(serve, path)
        async with two_clients(database_url, f"unix://{path}") as (one, _):
            for _ in range(25):
                one._reader.memory.clear()
                one._reader._shared._circuit_breaker._failure_times.clear()
                assert await check(one) == "database"
        listening.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        run(main())


@pytest.mark.usefixtures("patient_redis")
def test_no_connection_stays_open(database_url, own_redis):
    """Although reads were cancelled while they ran."""

    async def main():
        async with two_clients(database_url, own_redis.url) as clients:
            await eventually(lambda: works(*clients))
            for turns in range(12):
                clients[0]._reader.memory.clear()
                task = asyncio.create_task(check(clients[0]))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert await works(*clients)

    run(main())

    async def gone():
        with redis.Redis.from_url(own_redis.url) as client:
            return len(client.client_list()) == 1

    run(eventually(gone))
