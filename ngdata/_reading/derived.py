"""What is made of an answer and kept for as long as the answer is: search trees, graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

import pyarrow as pa

from ngdata._reading.answer import Answer, Content

__all__ = ["Derived"]

T = TypeVar("T")


class Derived(Generic[T]):
    """Values made of the tables of answers, each kept while a cache keeps those rows.

    Parameters
    ----------
    make : function
        Makes a value of a table.
    """

    def __init__(self, make: Callable[[pa.Table], T]) -> None:
        self._make = make
        self._kept: WeakKeyDictionary[Content, T] = WeakKeyDictionary()

    def __contains__(self, answer: Answer) -> bool:
        return answer.content in self._kept

    def of(self, answer: Answer) -> T:
        """Return the value of an answer: made when it is asked for first."""
        value = self._kept.get(answer.content)
        if value is None:
            value = self._kept[answer.content] = self._make(answer.table)
        return value
