"""The programs of the servers on this machine, and the room for the embedded servers' data."""

from __future__ import annotations

from pathlib import Path

import psutil

from ngdata._local.binaries import find_postgres, find_psql, find_redis
from ngdata.admin.doctor.finding import Finding, note, ok, wrong
from ngdata.errors import ConfigError

__all__ = ["disk", "programs"]

_LEAST_FREE = 1 << 30


def programs(needed: bool) -> Finding:
    """Look for the servers' programs, which only the embedded servers need."""
    try:
        postgres, redis, psql = find_postgres(), find_redis(), find_psql()
    except ConfigError as error:
        if needed:
            return wrong("programs", str(error))
        return note("programs", f"{error}; nothing here needs them")
    return ok("programs", f"PostgreSQL {postgres.major} in {postgres.bin}, {redis}, {psql}")


def disk(directory: Path) -> Finding:
    """Look at the room that the embedded servers have left."""
    free = psutil.disk_usage(str(directory)).free
    found = f"{free / 1e9:.1f} GB free for {directory}"
    if free < _LEAST_FREE:
        return wrong(
            "disk", found, "make room: PostgreSQL stops when it cannot write; NGDATA_HOME moves it"
        )
    return ok("disk", found)
