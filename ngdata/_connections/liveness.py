"""A bound on the wait for a server that has stopped responding.

A caller cannot distinguish a long query from a frozen server.  So if a wait takes long, a new
connection probes whether the server still responds; only if it does not is the wait aborted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from ngdata._connections.driver_errors import shortage
from ngdata._connections.telemetry import LOGGER
from ngdata.errors import DatabaseUnavailable

__all__ = ["while_alive"]

# Seconds for the body to end by itself after its connection was aborted.
_ABORT_TIMEOUT: Final = 1.0


@asynccontextmanager
async def while_alive(
    probe: Callable[[], Awaitable[None]], interval: float, where: str, abort: Callable[[], None]
) -> AsyncIterator[None]:
    """Abort the body with DatabaseUnavailable if the server stops responding.

    Parameters
    ----------
    probe : function without arguments
        Awaited; raises if the server does not respond.
    interval : float
        Seconds before the first probe and between probes; a faster body costs one timer.
    where : str
        The server's address, for the error.
    abort : function without arguments
        Makes the body's wait fail; cancelling it is not enough where the driver waits for the
        server to confirm a cancellation.

    Raises
    ------
    DatabaseUnavailable
        If a probe failed.
    """
    loop = asyncio.get_running_loop()
    body = asyncio.current_task()
    assert body is not None
    failures: list[Exception] = []
    tasks: list[asyncio.Task[None]] = []

    async def watch() -> None:
        while True:
            try:
                await probe()
            except Exception as error:
                if shortage(error, where) is not None:
                    # The probe failed here, which says nothing about the server.
                    await asyncio.sleep(interval)
                    continue
                failures.append(error)
                abort()
                # asyncpg's COPY, waiting to write, does not notice the abort (asyncpg 0.32).
                await asyncio.sleep(_ABORT_TIMEOUT)
                body.cancel()
                return
            await asyncio.sleep(interval)

    timer = loop.call_later(interval, lambda: tasks.append(loop.create_task(watch())))
    try:
        yield
    except BaseException as error:
        is_ours = isinstance(error, Exception) or (
            # As in asyncio.timeout: our own cancellation is undone, any other is passed on.
            isinstance(error, asyncio.CancelledError) and bool(failures) and body.uncancel() == 0
        )
        if failures and is_ours:
            LOGGER.warning("%s has stopped answering (%s)", where, type(failures[0]).__name__)
            reason = str(failures[0]) or type(failures[0]).__name__
            raise DatabaseUnavailable(
                f"{where} has stopped answering ({reason}); check the server: this client works again "
                "as soon as it answers"
            ) from None
        raise
    finally:
        timer.cancel()
        for task in tasks:
            task.cancel()
