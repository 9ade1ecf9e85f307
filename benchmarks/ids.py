"""Token ids as integers beside text: reads of a region, the memory of its frame, and conversions.

python -m benchmarks.ids --tokens 300000

Both clients read the same store, whose ids are integers of one space.  The ways run in turns.  The
figures are medians over the turns, of processor time: that of this process with all its threads, and
that of the server's processes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import pandas as pd

import ngdata
from benchmarks import store
from benchmarks.measure import processor_seconds
from ngdata.ids import from_integers, to_integers

__all__ = ["Result", "conversions", "filled", "main", "measured", "tables"]

SPACE: Final = "benchmark"
TEXT: Final = "text"
INTEGER: Final = "integer"

_ALL: Final = "all columns"
_COLUMNS: Final = {_ALL: None, "`token_id, x, y, z`": ["token_id", "x", "y", "z"]}
_FROM_REDIS: Final = "all columns, from Redis"
_CONNECTIONS: Final = "connections, all"
_DATABASE: Final = "integer_ids"
_PART: Final = 100_000


@dataclass
class Result:
    """A read in both forms.

    Attributes
    ----------
    rows : int
    seconds : dict of str to list of (float, float)
        By form: processor time of the client and of the server, in each turn.
    bytes : dict of str to int
        By form: the memory of the frame.
    """

    rows: int = 0
    seconds: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)

    def milliseconds(self, form: str) -> tuple[float, float]:
        """Return the median milliseconds of client and server."""
        client, server = zip(*self.seconds[form], strict=True)
        return statistics.median(client) * 1000, statistics.median(server) * 1000

    def ratio(self) -> float:
        """Return the time of integers as a multiple of that of text: the median over the turns."""
        turns = zip(self.seconds[INTEGER], self.seconds[TEXT], strict=True)
        return statistics.median(sum(integer) / sum(text) for integer, text in turns)


def filled(url: str, tokens: int) -> str:
    """Create a database with tokens of integer ids and a third as many connections; return its URL."""
    store_url = store.new_database(url, f"{_DATABASE}_{tokens}")
    random = np.random.default_rng(0)
    with ngdata.connect(store_url, ids="integer", id_space=SPACE) as ng:
        for first in range(0, tokens, _PART):
            count = min(_PART, tokens - first)
            points = random.random((count, 3)) * store.side(tokens)
            frame = pd.DataFrame(points, columns=["x", "y", "z"])
            # Mixed, as segment ids are.
            frame["token_id"] = random.integers(2**59, 2**60, count, dtype=np.uint64)
            frame["token_type"] = random.choice(["neuron", "muscle", "sensor"], count)
            ng.tokens.bulk_create(frame, progress=False)
            ends = random.choice(frame.token_id.to_numpy(), (2, count // 3))
            ng.graph.bulk_create({"source_id": ends[0], "target_id": ends[1]}, progress=False)
    return store_url


def measured(url: str, redis_url: str, rows: int, tokens: int, turns: int) -> dict[str, Result]:
    """Read a region in both forms, without the cache and from Redis; the answers must be the same."""
    corners = store.box(rows, tokens)
    results = {name: Result() for name in (*_COLUMNS, _FROM_REDIS, _CONNECTIONS)}
    with ExitStack() as stack:
        settings = {TEXT: {}, INTEGER: {"ids": "integer", "id_space": SPACE}}
        clients = {
            form: stack.enter_context(ngdata.connect(url, redis_url=redis_url, **options))
            for form, options in settings.items()
        }
        backends = _Backends(stack.enter_context(adbc.connect(url)))

        def read(form: str, name: str) -> pd.DataFrame:
            reader = clients[form]._wrapped._reader
            reader.memory.clear()
            if name == _CONNECTIONS:
                return clients[form].graph.connections(cache="off")
            return clients[form].tokens.find_in_region(
                *corners,
                columns=_COLUMNS.get(name),
                cache="strict" if name == _FROM_REDIS else "off",
            )

        for client in clients.values():
            client.tokens.find_in_region(*corners)
            client._loop.run(client._wrapped._reader.flush())
        for name in results:
            frames = {form: read(form, name) for form in clients}
            if name == _FROM_REDIS:
                sources = {frame.attrs["ngdata"]["source"] for frame in frames.values()}
                assert sources == {"redis"}
            _check_equal(frames[TEXT], frames[INTEGER])
            result = results[name]
            result.rows = len(frames[TEXT])
            for form, frame in frames.items():
                result.bytes[form] = int(frame.memory_usage(index=False, deep=True).sum())
                result.seconds[form] = []
            del frames
            for turn in range(turns):
                # Each form goes first in half of the turns.
                for form in (TEXT, INTEGER)[:: 1 if turn % 2 else -1]:
                    began, server = time.process_time(), backends.seconds()
                    frame = read(form, name)
                    result.seconds[form].append(
                        (time.process_time() - began, backends.seconds() - server)
                    )
                    del frame
    return results


class _Backends:
    """The server's processes for this database."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def seconds(self) -> float:
        with self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            pids = [row[0] for row in cursor.fetchall()]
        self._connection.rollback()
        return processor_seconds(pids)


def _check_equal(texts: pd.DataFrame, integers: pd.DataFrame) -> None:
    names = [name for name in integers if integers[name].dtype == np.uint64]
    integers = integers.assign(**{name: from_integers(integers[name], SPACE) for name in names})
    key = texts.columns[0]
    pd.testing.assert_frame_equal(
        texts.sort_values(key, ignore_index=True), integers.sort_values(key, ignore_index=True)
    )


def conversions(count: int, turns: int) -> dict[str, float]:
    """Return the median milliseconds that converting many integers takes, either way."""
    numbers = np.random.default_rng(0).integers(0, 2**64, count, dtype=np.uint64)
    listed, ids = numbers.tolist(), from_integers(numbers)
    ways: dict[str, Callable[[], pd.Series[Any]]] = {
        "`from_integers`, NumPy": lambda: from_integers(numbers),
        "`from_integers`, a list": lambda: from_integers(listed),
        "`to_integers`": lambda: to_integers(ids),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            began = time.process_time()
            result = way()
            times[name].append(time.process_time() - began)
            del result
    return {name: statistics.median(values) * 1000 for name, values in times.items()}


def tables(results: dict[str, Result], converted: dict[str, float], count: int) -> str:
    """Return the results as Markdown."""
    lines = [
        "| read | rows | ids | client ms | server ms | times text | bytes a row | times text |",
        "|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    for name, result in results.items():
        for form in (TEXT, INTEGER):
            client, server = result.milliseconds(form)
            time_ratio = 1.0 if form == TEXT else result.ratio()
            memory_ratio = result.bytes[form] / result.bytes[TEXT]
            lines.append(
                f"| {name} | {result.rows:,} | {form} | {client:.1f} | {server:.1f}"
                f" | {time_ratio:.2f} | {result.bytes[form] / max(result.rows, 1):.0f}"
                f" | {memory_ratio:.2f} |"
            )
    lines += ["", f"| {count:,} integers | ms |", "|---|---:|"]
    lines += [f"| {name} | {milliseconds:.0f} |" for name, milliseconds in converted.items()]
    return "\n".join(lines)


def main(tokens: int = 300_000, home: str | None = None) -> str:
    """Fill a store, measure, print the tables and return them."""
    rows = min(100_000, tokens)
    with store.server(home) as addresses:
        url = filled(addresses.database_url, tokens)
        results = measured(url, addresses.redis_url, rows, tokens, turns=21)
    text = tables(results, conversions(1_000_000, turns=9), 1_000_000)
    print(text)
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=300_000)
    main(parser.parse_args().tokens)
