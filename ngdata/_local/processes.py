"""The servers' processes, found by their working directory.

A process id in a file proves nothing: after a crash it may belong to any process. The working
directory does: PostgreSQL's is its data directory, and Redis is started in the servers' directory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

__all__ = ["end", "is_alive", "working_in", "works_in"]


def works_in(directory: Path, pid: int, program: str) -> bool:
    """Return whether a process runs this program in this directory."""
    try:
        try:
            # The kernel's own link: correct even if a container shows the same path.
            working = os.stat(f"/proc/{pid}/cwd")
        except FileNotFoundError:
            working = os.stat(psutil.Process(pid).cwd())
        same = os.path.samestat(working, directory.stat())
        return same and program in psutil.Process(pid).name()
    except (OSError, psutil.Error):
        return False


def working_in(directory: Path, *programs: str) -> list[psutil.Process]:
    """Return the processes that run one of these programs in this directory."""
    processes = []
    for pid in psutil.pids():
        if any(works_in(directory, pid, program) for program in programs):
            with contextlib.suppress(psutil.Error):
                processes.append(psutil.Process(pid))
    return processes


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end(processes: Sequence[psutil.Process], *steps: tuple[signal.Signals, float]) -> None:
    """End processes by ever stronger signals; each step is a signal and the seconds to wait."""
    alive = list(processes)
    for number, timeout in steps:
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        deadline = time.monotonic() + timeout
        # Not psutil's wait, for which a zombie counts as running.
        while alive := [p for p in alive if p.is_running() and is_alive(p.pid)]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
