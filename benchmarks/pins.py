"""Reads as of a pin beside the same reads of now, what a pin costs writers, and what it takes.

python -m benchmarks.pins --tokens 1000000

A hundredth of all rows is changed after the pin.  Each read runs in turns, as of the pin and now,
at the same places; as of the pin it must return what it returned before the changes.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, get_args

import asyncpg
import numpy as np
import pandas as pd

import ngdata
from benchmarks import pin_writes, store
from benchmarks.measure import Timings, alternate, turns_for
from ngdata._query.differences import Compared

__all__ = ["Read", "Result", "change", "main", "measured", "reads", "tables"]

PAST: Final = "as of the pin"
LIVE: Final = "now"

_PLACES: Final = 20
_START: Final = pd.Timestamp(1_700_000_000_000, unit="ms", tz="UTC")
"""The first event; they are a second apart."""

_CHANGES: Final = {
    # Of a hundred changed tokens.
    50: "UPDATE tokens.tokens SET coord_x[1] = coord_y[1], coord_y[1] = coord_x[1] WHERE id = ANY($1)",
    70: "UPDATE tokens.tokens SET weight = weight / 2 WHERE id = ANY($1)",
    85: "DELETE FROM tokens.tokens WHERE id = ANY($1)",
    100: """
        INSERT INTO tokens.tokens (id, coord_x, coord_y, coord_z, weight, token_type)
        SELECT overlay(o.id::text PLACING 'f' FROM 15)::uuid, coord_x, coord_y, coord_z, weight,
            token_type
        FROM tokens.tokens AS o WHERE id = ANY($1)
    """,
}
_OTHER_CHANGES: Final = (
    "UPDATE graph.connections SET weight = weight / 2 WHERE id = ANY($1)",
    "UPDATE experience.experience_events SET reward = reward / 2 WHERE id = ANY($1)",
)

# What each kind of row takes, with its indexes.
_SIZES: Final = {
    "token": ("tokens.tokens_history", "tokens.spatial_history"),
    "connection": ("graph.connections_history",),
    "event": ("experience.experience_events_history",),
}

Call = Callable[[ngdata.AsyncClient, int], Awaitable[pd.DataFrame | int]]


@dataclass
class Read:
    """A read at one of several places."""

    name: str
    call: Call
    rows: int


@dataclass
class Result:
    """What was measured: reads, those from the cache, single figures, and writes."""

    reads: dict[str, tuple[int, Timings]]
    cached: Timings
    milliseconds: dict[str, float]
    bytes_per_row: dict[str, float]
    writes: list[pin_writes.Row]


def reads(tokens: int) -> list[Read]:
    """Return the reads, with about how many rows each has."""
    random = np.random.default_rng(11)
    ids = random.permutation(sorted(_kept_ids(tokens)))[: 100 * _PLACES].tolist()
    side = store.side(tokens)
    points = random.uniform(0.1 * side, 0.9 * side, (_PLACES, 3))
    starts = random.integers(0, max(1, tokens - 2_000), _PLACES).tolist()
    lows = random.random((_PLACES, 3))

    def corners(place: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        edge = store.side(rows)
        low = lows[place] * (side - edge)
        return low, low + edge

    def some(place: int, count: int) -> list[str]:
        return ids[place * count : (place + 1) * count]

    def window(client: ngdata.AsyncClient, place: int) -> Awaitable[pd.DataFrame]:
        start = _START + pd.Timedelta(starts[place], "s")
        return client.experience.get_events(start, start + pd.Timedelta(999, "s"))

    def region(rows: int) -> Read:
        def call(client: ngdata.AsyncClient, place: int) -> Awaitable[pd.DataFrame]:
            return client.tokens.find_in_region(*corners(place, rows))

        return Read(f"`find_in_region`, {rows:,} rows", call, rows)

    return [
        *(region(rows) for rows in (1_000, 30_000, 100_000) if rows < tokens),
        Read(
            "`count_in_region` of 30,000",
            lambda client, place: client.tokens.count_in_region(
                *corners(place, min(30_000, tokens // 2))
            ),
            30_000,
        ),
        Read(
            "`find_nearest`, k=10",
            lambda client, place: client.tokens.find_nearest(points[place], k=10),
            10,
        ),
        Read("`get` of one", lambda client, place: client.tokens.get(some(place, 1)), 1),
        Read("`get` of 100", lambda client, place: client.tokens.get(some(place, 100)), 100),
        Read(
            "`get_neighbors` of one",
            lambda client, place: client.graph.get_neighbors(some(place, 1), "both"),
            2,
        ),
        Read(
            "`get_neighbors` of 100",
            lambda client, place: client.graph.get_neighbors(some(place, 100), "both"),
            200,
        ),
        Read("`get_events`, 1,000 of a window", window, 1_000),
    ]


def _changed_ids(tokens: int, kind: int = 0) -> list[str]:
    """Return the ids of a hundredth of the rows of a kind."""
    order = np.random.default_rng(17 + kind).permutation(store.token_ids(0, tokens, kind))
    return [str(each) for each in order[: tokens // 100]]


def _kept_ids(tokens: int) -> set[str]:
    """Return the tokens that are not deleted."""
    count = tokens // 100
    return {*store.token_ids(0, tokens)} - {
        *_changed_ids(tokens)[count * 70 // 100 : count * 85 // 100]
    }


async def change(url: str, tokens: int) -> dict[str, int]:
    """Change a hundredth of all rows, as other programs would, and return how many of each."""
    count = tokens // 100
    connection = await asyncpg.connect(url)
    try:
        first = 0
        for until, statement in _CHANGES.items():
            last = count * until // 100
            await connection.execute(statement, _changed_ids(tokens)[first:last])
            first = last
        for kind, statement in enumerate(_OTHER_CHANGES, 1):
            await connection.execute(statement, _changed_ids(tokens, kind))
        # As the server does by itself within minutes.
        await connection.execute("VACUUM ANALYZE")
        return {
            kind: await connection.fetchval(f"SELECT count(*) FROM {histories[0]}")
            for kind, histories in _SIZES.items()
        }
    finally:
        await connection.close()


def _sorted(answer: pd.DataFrame | int) -> Any:
    if isinstance(answer, int):
        return answer
    plain = answer.drop(columns=answer.columns[answer.map(_is_unhashable).any()])
    return plain.sort_values(plain.columns.tolist(), ignore_index=True)


def _is_unhashable(value: Any) -> bool:
    return isinstance(value, dict | list | np.ndarray)


def _check_same(read: Read, before: pd.DataFrame | int, after: pd.DataFrame | int) -> None:
    if isinstance(before, int):
        assert before == after, read.name
    else:
        pd.testing.assert_frame_equal(_sorted(before), _sorted(after), check_exact=True)


async def _timed(work: Awaitable[Any]) -> float:
    started = time.perf_counter()
    await work
    return (time.perf_counter() - started) * 1000


async def _pinning(live: ngdata.AsyncClient, turns: int) -> dict[str, float]:
    taken, removed = [], []
    for _ in range(turns):
        taken.append(await _timed(live.pin("while measured")))
        removed.append(await _timed(live.unpin("while measured")))
    return {
        "`pin`": statistics.median(taken),
        "`unpin`, nothing kept": statistics.median(removed),
    }


async def measured(
    url: str, tokens: int, turns: int = 40, calls: int = 40, bulk: int = 1_000
) -> Result:
    """Measure on a copy of a store that may be changed."""
    async with (
        await ngdata.connect_async(url, cache="off", max_rows=None) as live,
        await ngdata.connect_async(url) as caching,
    ):
        milliseconds = await _pinning(live, turns)
        before = {
            read.name: [await read.call(live, place) for place in (0, _PLACES - 1)]
            for read in reads(tokens)
        }
        pin = await live.pin("benchmark")
        changed = await change(url, tokens)
        past = await live.as_of(pin)
        results = {}
        for read in reads(tokens):
            for place, expected in zip((0, _PLACES - 1), before[read.name], strict=True):
                _check_same(read, expected, await read.call(past, place))
            ways = {
                name: _at_each_place(read.call, client)
                for name, client in ((PAST, past), (LIVE, live))
            }
            # Both have their connections, and the size of the history is known.
            await alternate(ways, 2)
            results[read.name] = (read.rows, await alternate(ways, turns_for(read.rows * 5, turns)))
        again = reads(tokens)[0].call
        ways = {
            PAST: partial(again, await caching.as_of(pin), 0),
            LIVE: partial(again, caching, 0),
        }
        await alternate(ways, 2)
        cached = await alternate(ways, turns * 5)
        for of in get_args(Compared):
            frame = await live.diff(pin, of=of)
            name = f"`diff` of {frame.iloc[:, 0].nunique():,} {of}"
            times = [await _timed(live.diff(pin, of=of)) for _ in range(5)]
            milliseconds[name] = statistics.median(times)
        sizes = await _sizes(url, changed)
        milliseconds[f"`unpin`, {sum(changed.values()):,} rows kept"] = await _timed(
            live.unpin(pin)
        )
        writes = await pin_writes.measure(url, live, tokens, max(1, turns // 10), calls, bulk)
    return Result(results, cached, milliseconds, sizes, writes)


def _at_each_place(call: Call, client: ngdata.AsyncClient) -> Callable[[], Awaitable[Any]]:
    places = itertools.cycle(range(_PLACES))
    return lambda: call(client, next(places))


async def _sizes(url: str, changed: dict[str, int]) -> dict[str, float]:
    connection = await asyncpg.connect(url)
    try:
        return {
            kind: float(
                await connection.fetchval(
                    "SELECT sum(pg_total_relation_size(t::regclass)) FROM unnest($1::text[]) AS t",
                    list(histories),
                )
            )
            / changed[kind]
            for kind, histories in _SIZES.items()
        }
    finally:
        await connection.close()


def tables(result: Result) -> str:
    """Return the results as Markdown."""
    lines = [
        "| read | as of the pin, ms | now, ms | ratio |",
        "|---|---:|---:|---:|",
    ]
    for name, (_, timings) in result.reads.items():
        lines.append(_line(name, timings))
    lines.append(_line("`find_in_region`, from the cache", result.cached))
    lines += ["", "| | ms |", "|---|---:|"]
    lines += [f"| {name} | {value:,.1f} |" for name, value in result.milliseconds.items()]
    lines += ["", "| changed row | bytes kept, with indexes |", "|---|---:|"]
    lines += [f"| {kind} | {size:,.0f} |" for kind, size in result.bytes_per_row.items()]
    lines += ["", pin_writes.table(result.writes)]
    return "\n".join(lines)


def _line(name: str, timings: Timings) -> str:
    return (
        f"| {name} | {timings.median(PAST):.2f} | {timings.median(LIVE):.2f}"
        f" | {timings.ratio(PAST, LIVE):.2f} |"
    )


def main(tokens: int = 1_000_000, home: str | None = None) -> str:
    """Measure on separate servers, print the tables, and return them."""
    with (
        store.server(home) as addresses,
        store.copied(store.filled(addresses.database_url, tokens)) as url,
    ):
        text = tables(asyncio.run(measured(url, tokens)))
    print(text)
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--home", help="keep the filled store here between runs")
    arguments = parser.parse_args()
    main(arguments.tokens, arguments.home)
