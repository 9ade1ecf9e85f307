"""A bound on how long a server that has stopped answering is waited for.

A long query and a frozen server look the same to who waits.  So a wait that takes long asks, over a
new connection, whether the server still lives; only if it does not is the wait given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from ngdata.errors import DatabaseUnavailable

__all__ = ["while_alive"]

_GRACE: Final = 1.0


@asynccontextmanager
async def while_alive(
    probe: Callable[[], Awaitable[None]], every: float, where: str, cut: Callable[[], None]
) -> AsyncIterator[None]:
    """Cut the body's connection, and raise, if the server dies without a word in the middle.

    Parameters
    ----------
    probe : function without arguments
        Awaited; raises if the server does not answer.
    every : float
        Seconds between probes; a body that is quicker costs one timer.
    where : str
        The server's address, for the error.
    cut : function without arguments
        Makes the body's wait fail; to cancel it is not enough where the driver awaits the
        server's word on a cancellation.

    Raises
    ------
    DatabaseUnavailable
        If a probe failed.
    """
    loop = asyncio.get_running_loop()
    waiting = asyncio.current_task()
    assert waiting is not None
    found: list[BaseException] = []
    tasks: list[asyncio.Task[None]] = []

    async def look() -> None:
        while True:
            try:
                await probe()
            except Exception as error:
                found.append(error)
                cut()
                # asyncpg's COPY, waiting for room to write, does not notice (asyncpg 0.32).
                await asyncio.sleep(_GRACE)
                waiting.cancel()
                return
            await asyncio.sleep(every)

    timer = loop.call_later(every, lambda: tasks.append(loop.create_task(look())))
    try:
        yield
    except BaseException as error:
        ours = isinstance(error, Exception) or (
            # As asyncio.timeout does: our own cancellation is taken back, another's goes on.
            isinstance(error, asyncio.CancelledError) and bool(found) and waiting.uncancel() == 0
        )
        if found and ours:
            raise DatabaseUnavailable(
                f"{where} has stopped answering ({str(found[0]) or type(found[0]).__name__}). See "
                "to the server; this client works again when it does"
            ) from None
        raise
    finally:
        timer.cancel()
        for task in tasks:
            task.cancel()
