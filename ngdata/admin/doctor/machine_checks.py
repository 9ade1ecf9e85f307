"""Checks of this machine: the servers' programs, and the disk space of the embedded servers."""

from __future__ import annotations

from pathlib import Path

import psutil

from ngdata._local.binaries import find_postgres, find_psql, find_redis
from ngdata.admin.doctor.finding import Finding, note, ok, wrong
from ngdata.errors import ConfigError

__all__ = ["disk", "programs"]

_MIN_FREE_BYTES = 1 << 30


def programs(needed: bool) -> Finding:
    """Check that the servers' programs are installed, which only the embedded servers need."""
    try:
        postgres, redis, psql = find_postgres(), find_redis(), find_psql()
    except ConfigError as error:
        if needed:
            return wrong("programs", str(error))
        return note("programs", f"{error}; this configuration does not need them")
    return ok("programs", f"PostgreSQL {postgres.major} in {postgres.bin}, {redis}, {psql}")


def disk(directory: Path) -> Finding:
    """Check the free disk space of the embedded servers."""
    free = psutil.disk_usage(str(directory)).free
    observed = f"{free / 1e9:.1f} GB free for {directory}"
    if free < _MIN_FREE_BYTES:
        return wrong(
            "disk",
            observed,
            "free some space, since PostgreSQL stops if it cannot write; NGDATA_HOME moves the data",
        )
    return ok("disk", observed)
