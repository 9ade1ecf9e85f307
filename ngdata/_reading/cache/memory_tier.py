"""The tier in this process: the answers used last, within a limit of bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ngdata._query.model import Query
from ngdata._reading.answer import Answer
from ngdata._reading.cache.containment import contains

__all__ = ["MemoryTier"]

# The number of regions of a level that are searched for one that contains another.
_MAX_CANDIDATES: Final = 32


class MemoryTier:
    """Answers by the key of their question; the least recently used is evicted first.

    Parameters
    ----------
    max_bytes : int
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._entries: OrderedDict[str, tuple[Query, Answer]] = OrderedDict()
        self._region_keys: dict[int, OrderedDict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def may_answer(self, key: str, query: Query) -> bool:
        """Return whether there is an answer that is or contains that to the query, up to date or not."""
        return key in self._entries or bool(self.containing(query))

    def get(self, key: str) -> Answer | None:
        """Return an answer, up to date or not."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        query, answer = entry
        self._entries.move_to_end(key)
        candidates = self._candidates(query)
        if key in candidates:
            candidates.move_to_end(key)
        return answer

    def put(self, key: str, query: Query, answer: Answer, is_part: bool = False) -> None:
        """Keep an answer, unless it alone takes more than half of the limit.

        An answer that is part of a larger region's is not a candidate for further regions: the
        larger one is.
        """
        self.drop(key)
        if answer.nbytes > self.max_bytes // 2:
            return
        self._entries[key] = query, answer
        self.nbytes += answer.nbytes
        if query.region is not None and not is_part:
            candidates = self._region_keys.setdefault(query.region.place.level, OrderedDict())
            candidates[key] = None
            if len(candidates) > _MAX_CANDIDATES:
                candidates.popitem(last=False)
        while self.nbytes > self.max_bytes:
            self.drop(next(iter(self._entries)))

    def drop(self, key: str) -> None:
        """Remove an answer, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            query, answer = entry
            self.nbytes -= answer.nbytes
            self._candidates(query).pop(key, None)

    def containing(self, query: Query) -> list[tuple[str, Query, Answer]]:
        """Return the regions used last that contain a region, the most recent first."""
        return [
            (key, *self._entries[key])
            for key in reversed(self._candidates(query))
            if contains(self._entries[key][0], query)
        ]

    def _candidates(self, query: Query) -> OrderedDict[str, None]:
        if query.region is None:
            return OrderedDict()
        return self._region_keys.get(query.region.place.level, OrderedDict())

    def clear(self) -> None:
        """Remove all answers."""
        self._entries.clear()
        self._region_keys.clear()
        self.nbytes = 0
