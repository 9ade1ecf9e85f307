"""An async generator that runs in one task, whichever tasks its items are awaited in.

Its context managers are then entered and left in one task, which an event loop that ends cancels
before it closes async generators: closed all at once, they would be left in any order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final, Generic, TypeVar

from ngdata._connections.threads import uninterrupted

__all__ = ["in_own_task"]

T = TypeVar("T")

# asyncio itself keeps a task only while something else does.
_running: Final[set[asyncio.Task[Any]]] = set()


async def in_own_task(items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Yield the items, each produced when it is awaited; ending early closes the generator."""
    producer = _Producer(items)
    try:
        while item := await producer.next_item():
            yield item.pop()
    finally:
        await producer.close()


class _Producer(Generic[T]):
    def __init__(self, items: AsyncGenerator[T, None]) -> None:
        self._is_requested = asyncio.Event()
        self._answer: asyncio.Future[T] | None = None
        self._task = asyncio.create_task(self._produce(items))
        _running.add(self._task)
        self._task.add_done_callback(_running.discard)

    async def _produce(self, items: AsyncGenerator[T, None]) -> None:
        async with aclosing(items):
            await self._is_requested.wait()
            async for item in items:
                assert self._answer is not None
                self._answer.set_result(item)
                # Let go of the item, or it would stay in memory after the caller has.
                self._answer = None
                del item
                self._is_requested.clear()
                await self._is_requested.wait()

    async def next_item(self) -> list[T]:
        """Return the next item in a list, which is empty after the last; raise the generator's error."""
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._is_requested.set()
        await asyncio.wait([answer, self._task], return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return [answer.result()]
        self._task.result()
        return []

    async def close(self) -> None:
        """End the generator, and wait until it has ended."""
        self._task.cancel()
        await uninterrupted(asyncio.wait([self._task]))
        if not self._task.cancelled():
            self._task.exception()  # retrieved, so that asyncio does not report it
