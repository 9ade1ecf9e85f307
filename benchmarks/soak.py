"""A soak: many threads and tasks read and write for minutes, and nothing may grow.

    python -m benchmarks soak --minutes 5

Each worker owns a part of space, a trajectory and what it wrote there, so it knows each answer.  While
they work, memory, descriptors, threads, connections and the rows of the version table are sampled; a
line is fitted to the last two thirds of the samples, and what it gains over them must stay within a
bound.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import redis

import ngdata
from benchmarks import store
from ngdata.errors import CacheWarning

__all__ = ["BOUNDS", "CONNECTIONS", "STEPS", "Bound", "Soak", "main", "soak", "table"]

_MODES: Final = ("strict", "strict", "ttl", "off")
# More tokens of one worker would make each of its reads slower than the last.
_MAX_TOKENS: Final = 200
_SIDE: Final = 10.0
_SAMPLES: Final = 60
CONNECTIONS: Final = 8
_CACHE_BYTES: Final = 16 << 20


@dataclass(frozen=True)
class Bound:
    """What a measure may gain over the last two thirds of a soak: a share of its median, and a number."""

    name: str
    unit: str
    share: float
    plus: float

    def allowed(self, values: np.ndarray[Any, Any]) -> float:
        """Return the largest gain that counts as flat."""
        return float(self.share * np.median(values) + self.plus)


BOUNDS: Final = (
    Bound("memory", "MB", 0.05, 8),
    Bound("Arrow memory", "MB", 0.05, 8),
    Bound("descriptors", "", 0.05, 2),
    Bound("threads", "", 0.05, 2),
    Bound("server connections", "", 0.05, 2),
    Bound("Redis clients", "", 0.05, 2),
    # Each write adds one and folds those that no other write holds.
    Bound("version rows", "", 0.25, 64),
)


@dataclass
class Soak:
    """The samples of a soak, and what was done in it.

    Attributes
    ----------
    samples : DataFrame
        A row per sample, by the seconds since the start; a column per measure.
    calls : Counter
        How often each kind of call was made, and its answer checked.
    failures : list of str
        Answers that were wrong, and calls that raised.
    """

    samples: pd.DataFrame
    calls: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, seconds: list[float], samples: dict[str, list[float]]) -> Soak:
        """Return a soak with these samples, each a list by measure."""
        return cls(pd.DataFrame(samples, index=pd.Index(seconds, name="seconds")))

    def gain(self, name: str) -> float:
        """Return what a measure gained over the last two thirds, by the line fitted to them."""
        values = self.last(name)
        return float(np.polyfit(np.linspace(0, 1, len(values)), values, 1)[0])

    def last(self, name: str) -> np.ndarray[Any, Any]:
        """Return a measure's last two thirds."""
        values = self.samples[name].to_numpy(float)
        return values[len(values) // 3 :]

    @property
    def not_flat(self) -> list[str]:
        """The measures that gained more than they may."""
        return [b.name for b in BOUNDS if self.gain(b.name) > b.allowed(self.last(b.name))]


@dataclass
class _Worker:
    """One worker's part of the store, and what it holds."""

    number: int
    random: random.Random
    tokens: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    events: int = 0
    edges: int = 0
    trajectory: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def low(self) -> tuple[float, float, float]:
        return (2 * _SIDE * self.number, 0.0, 0.0)

    @property
    def high(self) -> tuple[float, float, float]:
        return (self.low[0] + _SIDE, _SIDE, _SIDE)

    def places(self, count: int) -> list[tuple[float, float, float]]:
        """Return new places in the worker's part."""
        x, y, z = self.low
        draw = self.random.uniform
        return [(x + draw(0, _SIDE), y + draw(0, _SIDE), z + draw(0, _SIDE)) for _ in range(count)]


# A step is a generator of calls, so that threads and tasks run the same ones: it yields a function of a
# client, and receives what that returned or, for the async client, what was awaited.
_Step = Generator[Callable[[Any], Any], Any, None]


def _bulk_create(me: _Worker) -> _Step:
    # The store is as large in the first minute as in the last.
    places = me.places(me.random.randint(1, 40) if me.tokens else _MAX_TOKENS // 2)
    frame = pd.DataFrame(places, columns=list("xyz"))
    ids = yield lambda ng: ng.tokens.bulk_create(frame, progress=False)
    me.tokens |= dict(zip(ids, places, strict=True))


def _create(me: _Worker) -> _Step:
    (place,) = me.places(1)
    token = yield lambda ng: ng.tokens.create({0: place})
    me.tokens[token] = place


def _connect(me: _Worker) -> _Step:
    if len(me.tokens) < 2:
        return
    source, target = me.random.sample(list(me.tokens), 2)
    yield lambda ng: ng.graph.create_connection(source, target)
    me.edges += 1
    neighbors = yield lambda ng: ng.graph.get_neighbors(source, cache=me.random.choice(_STRICT))
    _expect("neighbors", target in set(neighbors.neighbor_id), True)


def _delete(me: _Worker) -> _Step:
    count = max(len(me.tokens) // 3, len(me.tokens) - _MAX_TOKENS // 2)
    ids = me.random.sample(list(me.tokens), count)
    deleted = yield lambda ng: ng.tokens.delete(ids)
    _expect("deleted", deleted, len(ids))
    for token in ids:
        del me.tokens[token]


def _record(me: _Worker) -> _Step:
    yield lambda ng: ng.experience.create_event("step", trajectory_id=me.trajectory, reward=1.0)
    me.events += 1


def _read_events(me: _Worker) -> _Step:
    mode = me.random.choice(_STRICT)
    events = yield lambda ng: ng.experience.get_events(
        trajectory_id=me.trajectory, limit=10_000, cache=mode
    )
    _expect("events", len(events), me.events)


def _region(me: _Worker) -> _Step:
    mode = me.random.choice(_STRICT)
    frame = yield lambda ng: ng.tokens.find_in_region(me.low, me.high, cache=mode)
    _expect(f"region, {mode}", set(frame.token_id), set(me.tokens))
    rows = zip(frame.token_id, frame.x, frame.y, frame.z, strict=True)
    _expect(
        "coordinates",
        {token: place for token, *place in rows if tuple(place) != me.tokens[token]},
        {},
    )


def _region_of_ttl(me: _Worker) -> _Step:
    # It may be old, but holds nothing that was never there.
    frame = yield lambda ng: ng.tokens.find_in_region(me.low, me.high, cache="ttl")
    inside = frame.x.between(me.low[0], me.high[0])
    _expect("region, ttl", int(inside.sum()), len(frame))


def _nearest(me: _Worker) -> _Step:
    (place,) = me.places(1)
    frame = yield lambda ng: ng.tokens.find_nearest(place, k=5, max_distance=_SIDE / 2)
    own = sorted(np.linalg.norm(np.subtract(p, place)) for p in me.tokens.values())
    expected = [distance for distance in own[:5] if distance <= _SIDE / 2]
    _expect("nearest", np.allclose(frame.distance, expected, rtol=1e-9, atol=1e-9), True)


def _others(me: _Worker) -> _Step:
    # Written by others meanwhile: each worker's part alone must be whole.
    low, high = (-1.0, 0.0, 0.0), (2 * _SIDE * 64, _SIDE, _SIDE)
    frame = yield lambda ng: ng.tokens.find_in_region(low, high, columns=["token_id", "x"])
    own = set(frame.token_id[frame.x.between(me.low[0], me.high[0])])
    _expect("all regions", own, set(me.tokens))


_STRICT: Final = ("strict", "strict", "off")
STEPS: Final[dict[str, tuple[int, Callable[[_Worker], _Step]]]] = {
    "bulk_create": (3, _bulk_create),
    "create": (3, _create),
    "create_connection, get_neighbors": (3, _connect),
    "delete": (1, _delete),
    "create_event": (2, _record),
    "get_events": (4, _read_events),
    "find_in_region": (8, _region),
    "find_in_region, ttl": (4, _region_of_ttl),
    "find_nearest": (4, _nearest),
    "find_in_region of all": (1, _others),
}


class _WrongAnswerError(Exception):
    pass


def _expect(what: str, answer: Any, expected: Any) -> None:
    if answer != expected:
        raise _WrongAnswerError(f"{what}: {str(answer)[:200]} instead of {str(expected)[:200]}")


def _next_step(me: _Worker) -> str:
    if not me.tokens:
        return "bulk_create"
    if len(me.tokens) > _MAX_TOKENS:
        return "delete"
    names = list(STEPS)
    return me.random.choices(names, [weight for weight, _ in STEPS.values()])[0]


class _Run:
    """A soak that runs: its end, its counts and its failures."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.calls: Counter[str] = Counter()
        self.failures: list[str] = []

    def work_in_thread(self, ng: ngdata.Client, me: _Worker) -> None:
        while not self.over.is_set():
            name = _next_step(me)
            try:
                calls = STEPS[name][1](me)
                answer = None
                while True:
                    answer = calls.send(answer)(ng)
            except StopIteration:
                self.calls[name] += 1
            except Exception as error:
                self._failed(name, error)

    async def work_in_task(self, ng: ngdata.AsyncClient, me: _Worker) -> None:
        while not self.over.is_set():
            name = _next_step(me)
            try:
                calls = STEPS[name][1](me)
                answer = None
                while True:
                    answer = await calls.send(answer)(ng)
            except StopIteration:
                self.calls[name] += 1
            except Exception as error:
                self._failed(name, error)

    def _failed(self, name: str, error: Exception) -> None:
        self.failures.append(f"{name}: {type(error).__name__}: {error}")
        if len(self.failures) > 20:
            self.over.set()


async def _sample(observer: asyncpg.Connection[Any], cache: redis.Redis) -> dict[str, float]:
    process = psutil.Process()
    connections = await observer.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND application_name = 'ngdata'"
    )
    return {
        "memory": process.memory_info().rss / 2**20,
        "Arrow memory": pa.total_allocated_bytes() / 2**20,
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
        "server connections": connections,
        "Redis clients": len(cache.client_list()),
        "version rows": await observer.fetchval("SELECT count(*) FROM tokens.versions"),
    }


async def _soak(database_url: str, redis_url: str, seconds: float, workers: int, seed: int) -> Soak:
    # A busy machine answers late, Redis too; those answers come from the database, and are checked.
    warnings.filterwarnings("ignore", category=CacheWarning)
    run = _Run()
    parts = [_Worker(n, random.Random((seed << 8) + n)) for n in range(2 * workers)]
    samples: list[dict[str, float]] = []
    observer = await asyncpg.connect(database_url, server_settings={"application_name": "observer"})
    cache = redis.Redis.from_url(redis_url)
    # Small caches and pools, which are full before the last two thirds begin.
    options: dict[str, Any] = {
        "redis_url": redis_url,
        "pool_timeout": 300,
        "pool_max_size": CONNECTIONS,
        "cache_bytes": _CACHE_BYTES,
    }
    try:
        async with await ngdata.connect_async(database_url, **options) as ang:
            ng = await asyncio.to_thread(lambda: ngdata.connect(database_url, **options))
            threads = [
                threading.Thread(target=run.work_in_thread, args=(ng, part), daemon=True)
                for part in parts[:workers]
            ]
            for thread in threads:
                thread.start()
            tasks = [asyncio.create_task(run.work_in_task(ang, part)) for part in parts[workers:]]
            started = time.monotonic()
            while (elapsed := time.monotonic() - started) < seconds and not run.over.is_set():
                samples.append({"seconds": elapsed, **await _sample(observer, cache)})
                await asyncio.sleep(seconds / _SAMPLES)
            run.over.set()
            await asyncio.gather(*tasks)
            for thread in threads:
                await asyncio.to_thread(thread.join)
            ng.close()
    finally:
        run.over.set()
        await observer.close()
        cache.close()
    return Soak(pd.DataFrame(samples).set_index("seconds"), run.calls, run.failures)


def soak(
    database_url: str, redis_url: str, seconds: float, workers: int = 32, seed: int = 0
) -> Soak:
    """Let `workers` threads and as many tasks work on an empty store, and return the samples."""
    return asyncio.run(_soak(database_url, redis_url, seconds, workers, seed))


def table(result: Soak) -> str:
    """Return the verdict and the samples' table, in Markdown."""
    lines = [
        "| measure | first | median | highest | last | gain | allowed | |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for bound in BOUNDS:
        values = result.samples[bound.name]
        numbers = [values.iloc[0], values.median(), values.max(), values.iloc[-1]]
        gain, allowed = result.gain(bound.name), bound.allowed(result.last(bound.name))
        cells = [f"{number:,.0f}" for number in numbers] + [f"{gain:+,.1f}", f"{allowed:,.1f}"]
        name = f"{bound.name}, {bound.unit}" if bound.unit else bound.name
        lines.append(f"| {name} | {' | '.join(cells)} | {'flat' if gain <= allowed else 'grows'} |")
    calls = sum(result.calls.values())
    seconds = result.samples.index[-1]
    is_flat = not result.not_flat
    verdict = (
        f"{calls:,} steps in {seconds:,.0f} s, {len(result.failures)} of them wrong: "
        f"{'flat' if is_flat else 'not flat: ' + ', '.join(result.not_flat)}."
    )
    return "\n".join([verdict, "", *lines])


def main(minutes: float, home: str | None = None) -> Soak:
    """Run a soak on servers of its own, and print its table."""
    with store.server(home) as addresses:
        result = soak(addresses.database_url, addresses.redis_url, minutes * 60)
    print(table(result))
    for kind, count in sorted(result.calls.items()):
        print(f"{count:9,} {kind}")
    for failure in result.failures:
        print(failure)
    return result
