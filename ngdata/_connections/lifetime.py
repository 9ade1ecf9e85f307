"""The life of connections that belong to an event loop, whichever ends first: they or the loop.

What a caller forgets to close is closed when asyncio shuts its event loop down, as `asyncio.run` does,
or when it is garbage.  `close` may be called in any event loop; where that of the connections does not
run any more, so that nothing can be awaited there, the connections are cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, Final

from ngdata._connections.threads import uninterrupted

__all__ = ["Lifetime", "cut_transport", "running_loop"]

# Seconds that another thread's event loop may take to close its connections before they are cut.
_OTHER_LOOP_TIMEOUT: Final = 5.0

# All that exist; and those that a forked child has inherited, which it never collects: the drivers
# would end the parent's connections.
_all: Final[weakref.WeakSet[Lifetime]] = weakref.WeakSet()
_inherited: Final[list[Lifetime]] = []

# Seconds between checks whether another thread's event loop still runs.
_CHECK_INTERVAL: Final = 0.05


class Lifetime:
    """Closes what is opened in the running event loop, the last part first.

    In a forked child it closes nothing: the connections are the parent's.

    Attributes
    ----------
    loop : AbstractEventLoop
    process : int
        The id of the process that opened the connections.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.process = os.getpid()
        self._parts: list[tuple[Callable[[], Awaitable[None]], Callable[[], None]]] = []
        self._closing: asyncio.Future[None] | None = None
        _all.add(self)
        # Runs to its yield without waiting.  asyncio closes a started generator with its loop, and in
        # its loop when it is garbage.
        self._end = self._end_with_loop()
        with contextlib.suppress(StopIteration):
            self._end.__anext__().__await__().__next__()

    def add(self, close: Callable[[], Awaitable[None]], cut: Callable[[], None]) -> None:
        """Add a part of what is to be closed.

        Parameters
        ----------
        close : async function
            Awaited in the event loop; may be called again.
        cut : function
            Closes at once what is still open, in any thread; may be called again.
        """
        self._parts.append((close, cut))

    async def close(self) -> None:
        """Close everything; closing again does nothing."""
        if self.process != os.getpid():
            return
        if asyncio.get_running_loop() is self.loop:
            await uninterrupted(self._close_parts_once())
        elif not await self._close_in_other_thread():
            self._cut_parts()

    def _close_parts_once(self) -> asyncio.Future[None]:
        """Return the close that is running; start one if there is none."""
        if self._closing is None or self._closing.done():
            self._closing = asyncio.ensure_future(self._close_parts())
        return self._closing

    async def _close_in_other_thread(self) -> bool:
        """Close in the event loop if it runs in another thread; return whether that succeeded."""
        if not self.loop.is_running():
            return False
        closing = asyncio.run_coroutine_threadsafe(self.close(), self.loop)
        deadline = asyncio.get_running_loop().time() + _OTHER_LOOP_TIMEOUT
        while not closing.done():
            if not self.loop.is_running() or asyncio.get_running_loop().time() > deadline:
                closing.cancel()
                return False
            await asyncio.sleep(_CHECK_INTERVAL)
        return not closing.cancelled() and closing.exception() is None

    async def _end_with_loop(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if self.process == os.getpid():
                with _untracked_generators():
                    await uninterrupted(self._close_parts_once())
                self._cut_parts()
                # Transports close their sockets in the next turn of the loop.
                await asyncio.sleep(0)

    async def _close_parts(self) -> None:
        errors = []
        for close, _ in reversed(self._parts):
            try:
                await close()
            except Exception as error:  # the other parts are closed too
                errors.append(error)
        if errors:
            self._cut_parts()
            raise errors[0]

    def _cut_parts(self) -> None:
        for _, cut in reversed(self._parts):
            cut()


os.register_at_fork(after_in_child=lambda: _inherited.extend(_all))


@contextlib.contextmanager
def _untracked_generators() -> Iterator[None]:
    """Start async generators in the body without asyncio, which warns of each at the end of its loop."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=None)
    try:
        yield
    finally:
        sys.set_asyncgen_hooks(*hooks)


def cut_transport(transport: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Close the connection of an event loop that may have ended, from any thread.

    Parameters
    ----------
    transport : asyncio.Transport or None
    loop : AbstractEventLoop
        The loop that the transport belongs to.
    """
    if transport is None:
        return
    # The server sees the end at once, whatever the loop does.
    if (sock := transport.get_extra_info("socket")) is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    if loop.is_running() and loop is not running_loop():
        return  # it sees the end itself
    # A loop that is closed refuses: then the last step is called here, which frees the descriptor.
    with contextlib.suppress(Exception):
        transport.abort()
    if loop.is_closed():
        lowest = getattr(getattr(transport, "_ssl_protocol", None), "_transport", transport)
        with contextlib.suppress(Exception):
            lowest._call_connection_lost(None)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
