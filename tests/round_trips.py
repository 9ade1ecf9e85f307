"""A proxy in front of PostgreSQL that counts round trips."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit


class RoundTrips:
    """Passes connections on to a server on a socket, and counts how often a client waited for it.

    Attributes
    ----------
    url : str
        The database, through the proxy.
    count : int
        How often a client sent something after the server had answered what it sent before.
    """

    def __init__(self, database_url: str, directory: str) -> None:
        parts = urlsplit(database_url)
        query = dict(parse_qsl(parts.query))
        name = f".s.PGSQL.{query.get('port', 5432)}"
        self.url = urlunsplit(parts._replace(query=urlencode(query | {"host": directory})))
        self.count = 0
        self._target = str(Path(query["host"], name))
        self._path = str(Path(directory, name))

    async def serve(self, is_ready: threading.Event) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        self.stop = lambda: loop.call_soon_threadsafe(stop.set)
        async with await asyncio.start_unix_server(self._pass_on, self._path):
            is_ready.set()
            await stop.wait()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_unix_connection(self._target)
        was_answered = True

        async def answer() -> None:
            nonlocal was_answered
            while data := await answers.read(1 << 16):
                was_answered = True
                writer.write(data)
            writer.close()

        answering = asyncio.ensure_future(answer())
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                # The last message says that the client leaves.
                self.count += was_answered and data[:1] != b"X"
                was_answered = False
                requests.write(data)
        requests.close()
        with contextlib.suppress(OSError):
            await answering


@contextmanager
def counted(database_url: str) -> Iterator[RoundTrips]:
    """Count the round trips of clients of ``url`` during the body."""
    with tempfile.TemporaryDirectory() as directory:
        proxy = RoundTrips(database_url, directory)
        is_ready = threading.Event()
        thread = threading.Thread(target=asyncio.run, args=[proxy.serve(is_ready)])
        thread.start()
        assert is_ready.wait(20)
        try:
            yield proxy
        finally:
            proxy.stop()
            thread.join()
