"""The tier in this process: the answers used last, within a bound of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from ngdata._query.model import Query
from ngdata._reading.answer import Answer

__all__ = ["Memory"]

# How many of a level's regions are looked at for one that contains another.
_MOST_CANDIDATES: Final = 32


class Memory:
    """Answers by their question; the one used longest ago goes first.

    Parameters
    ----------
    most_bytes : int
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.nbytes = 0
        self._kept: OrderedDict[str, tuple[Query, Answer]] = OrderedDict()
        self._regions: dict[int, OrderedDict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str) -> Answer | None:
        """Give an answer, true or not."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._use(key, found[0])
        return found[1]

    def put(self, key: str, query: Query, answer: Answer, is_part: bool = False) -> None:
        """Keep an answer, unless it alone would fill a large part of the room.

        One that is part of another region's answer is not looked into for others: that one is.
        """
        self.drop(key)
        if answer.nbytes > self.most_bytes // 2:
            return
        self._kept[key] = query, answer
        self.nbytes += answer.nbytes
        if query.region is not None and not is_part:
            candidates = self._regions.setdefault(query.region.box.level, OrderedDict())
            candidates[key] = None
            if len(candidates) > _MOST_CANDIDATES:
                candidates.popitem(last=False)
        while self.nbytes > self.most_bytes:
            self.drop(next(iter(self._kept)))

    def drop(self, key: str) -> None:
        """Forget an answer."""
        found = self._kept.pop(key, None)
        if found is not None:
            self.nbytes -= found[1].nbytes
            self._candidates(found[0]).pop(key, None)

    def regions(self, level: int) -> Iterator[tuple[str, Query, Answer]]:
        """Give the regions of a level that were used last, the latest first."""
        for key in reversed(list(self._regions.get(level, ()))):
            if key in self._kept:
                yield key, *self._kept[key]

    def _use(self, key: str, query: Query) -> None:
        self._kept.move_to_end(key)
        candidates = self._candidates(query)
        if key in candidates:
            candidates.move_to_end(key)

    def _candidates(self, query: Query) -> OrderedDict[str, None]:
        if query.region is None:
            return OrderedDict()
        return self._regions.get(query.region.box.level, OrderedDict())

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self._regions.clear()
        self.nbytes = 0
