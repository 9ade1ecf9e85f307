"""The servers' processes, found by where they work.

A process id in a file proves nothing: after a crash it may be anybody's. The working directory
does: PostgreSQL's is its data directory, and Redis is started in the servers' directory.
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
    """Tell whether that process is that program and works in that directory."""
    try:
        try:
            # The kernel's own link: right even where a container shows the same path.
            there = os.stat(f"/proc/{pid}/cwd")
        except FileNotFoundError:
            there = os.stat(psutil.Process(pid).cwd())
        same = os.path.samestat(there, directory.stat())
        return same and program in psutil.Process(pid).name()
    except (OSError, psutil.Error):
        return False


def working_in(directory: Path, *programs: str) -> list[psutil.Process]:
    """Find the processes of those programs that work in a directory."""
    found = []
    for pid in psutil.pids():
        if any(works_in(directory, pid, program) for program in programs):
            with contextlib.suppress(psutil.Error):
                found.append(psutil.Process(pid))
    return found


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and is not yet collected does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end(found: Sequence[psutil.Process], *steps: tuple[signal.Signals, float]) -> None:
    """Ask processes to end, each signal more firmly, and wait that many seconds after each."""
    alive = list(found)
    for number, patience in steps:
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        deadline = time.monotonic() + patience
        # Not psutil's wait: a process that nobody has collected yet would count as running.
        while alive := [p for p in alive if p.is_running() and is_alive(p.pid)]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
