"""Contestants side by side: each once in every turn, and the middle of what they took."""

from __future__ import annotations

import gc
import inspect
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Taken", "Way", "alternate", "turns_for"]

Way = Callable[[], Any] | Callable[[], Awaitable[Any]]


@dataclass
class Taken:
    """The seconds that each way took, by its name."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, way: str) -> float:
        """Give the middle one, in milliseconds."""
        return statistics.median(self.seconds[way]) * 1000

    def ratio(self, way: str, floor: str) -> float:
        """Give how many times as long as the floor a way took."""
        return self.median(way) / self.median(floor)


async def alternate(ways: Mapping[str, Way], turns: int) -> Taken:
    """Take each way once in every turn, so that what disturbs the machine disturbs all."""
    taken = Taken({name: [] for name in ways})
    # What is there already is not looked through again at each collection.
    gc.collect()
    gc.freeze()
    for _ in range(turns):
        for name, way in ways.items():
            began = time.perf_counter()
            answer = way()
            if inspect.isawaitable(answer):
                answer = await answer
            taken.seconds[name].append(time.perf_counter() - began)
            del answer
    return taken


def turns_for(rows: int, most: int = 30) -> int:
    """Give how many turns are worth their time."""
    return max(5, min(most, 500_000 // max(rows, 1)))
