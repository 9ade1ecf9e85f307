"""Embedded servers of their own, for tests that stop, kill and freeze them."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from ngdata import _local


class Victim:
    """Embedded servers that tests may damage."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="ngdata victim "))
        self.up()

    def up(self) -> None:
        self.url = _local.up(self.home, durable=False).database_url

    def postmaster(self) -> psutil.Process:
        directory = _local.status(self.home).directory
        return psutil.Process(int((directory / "data" / "postmaster.pid").read_text().split()[0]))

    def processes(self) -> list[psutil.Process]:
        """Return PostgreSQL's processes; the one that started the others is the first."""
        postmaster = self.postmaster()
        return [postmaster, *postmaster.children()]

    def backends(self) -> dict[str, psutil.Process]:
        """Return the backends of clients, by their process titles."""
        backends = {}
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                title = " ".join(process.cmdline())
                if "[local]" in title:
                    backends[title] = process
        return backends

    def kill(self) -> None:
        """Stop PostgreSQL without a checkpoint, as after a crash, and wait for its end."""
        processes = self.processes()
        processes[0].send_signal(signal.SIGQUIT)  # pg_ctl stop -m immediate
        psutil.wait_procs(processes, timeout=30)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop PostgreSQL's processes for the body, without ending them."""
        processes = self.processes()
        try:
            for process in processes:
                # One that has ended meanwhile needs no stop.
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
            yield
        finally:
            for process in reversed(processes):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()
