"""Compare methods: each runs once in every turn, and the median time counts."""

from __future__ import annotations

import gc
import inspect
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Timings", "Way", "alternate", "processor_seconds", "turns_for"]

Way = Callable[[], Any] | Callable[[], Awaitable[Any]]


@dataclass
class Timings:
    """The seconds of each method, by its name."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, way: str) -> float:
        """Return the median time, in milliseconds."""
        return statistics.median(self.seconds[way]) * 1000

    def ratio(self, way: str, floor: str) -> float:
        """Return the time of a method as a multiple of the floor."""
        return self.median(way) / self.median(floor)


async def alternate(ways: Mapping[str, Way], turns: int) -> Timings:
    """Run each method once in every turn, so that other load affects all of them alike."""
    timings = Timings({name: [] for name in ways})
    # Existing objects are not scanned again at each collection.
    gc.collect()
    gc.freeze()
    for _ in range(turns):
        for name, way in ways.items():
            began = time.perf_counter()
            answer = way()
            if inspect.isawaitable(answer):
                answer = await answer
            timings.seconds[name].append(time.perf_counter() - began)
            del answer
    return timings


def processor_seconds(processes: Iterable[int]) -> float:
    """Return the processor time of other processes, each of one thread, as PostgreSQL's are.

    In nanoseconds, where the times of psutil are in hundredths of a second.
    """
    texts = [Path(f"/proc/{process}/schedstat").read_text() for process in processes]
    return sum(int(text.split()[0]) for text in texts) / 1e9


def turns_for(rows: int, limit: int = 30) -> int:
    """Return the number of turns that is worth its time."""
    return max(5, min(limit, 500_000 // max(rows, 1)))
