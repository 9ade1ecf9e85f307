"""The servers' programs on this machine, and what to install where they are missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ngdata.errors import ConfigError

__all__ = ["Installation", "find_postgres", "find_psql", "find_redis"]

MINIMUM: Final = 14

#: Where packages put PostgreSQL: Debian, Red Hat, from source, Homebrew, Postgres.app.
PLACES: list[str] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
]

#: Where Redis or Valkey may be when PATH does not say.
REDIS_PLACES: list[str] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin"]

_DOCKER: Final = (
    "or use servers elsewhere: `docker compose up -d`, and set NGDATA_DATABASE_URL to "
    "postgresql://user:password@host:5432/database"
)


@dataclass(frozen=True)
class Installation:
    """One PostgreSQL on this machine."""

    bin: Path
    major: int
    has_postgis: bool


def find_postgres(major: int | None = None) -> Installation:
    """Find the newest PostgreSQL with PostGIS, or the one of the major version that data have.

    Raises
    ------
    ConfigError
        Naming all that is missing, Redis too, and how to install it.
    """
    found = sorted(_installations(), key=lambda i: (i.has_postgis, i.major), reverse=True)
    fitting = [i for i in found if i.major >= MINIMUM and major in (None, i.major)]
    if fitting and fitting[0].has_postgis:
        return fitting[0]
    wanted = major or (fitting[0].major if fitting else None)
    if major is not None and found and not fitting:
        have = ", ".join(sorted({str(i.major) for i in found}))
        raise ConfigError(
            f"the data here are of PostgreSQL {major}, and this machine has PostgreSQL {have}; "
            f"install PostgreSQL {major} ({_command(major)}), or move the data with pg_upgrade, or "
            "begin anew with NGDATA_HOME set to another directory"
        )
    missing = [] if fitting else [f"PostgreSQL {wanted or f'{MINIMUM} or later'}"]
    missing.append(f"PostGIS for PostgreSQL {wanted}" if wanted else "PostGIS")
    raise _missing(missing if _redis() else [*missing, "Redis"], wanted)


def find_redis() -> Path:
    """Find redis-server, or valkey-server, which is the same to a client."""
    found = _redis()
    if found is None:
        raise _missing(["Redis"], None)
    return found


def find_psql() -> Path:
    """Find psql, which asks for no server on this machine."""
    for installation in sorted(_installations(), key=lambda i: i.major, reverse=True):
        if (installation.bin / "psql").exists():
            return installation.bin / "psql"
    on_path = shutil.which("psql")
    if on_path is None:
        raise ConfigError(f"this machine has no psql; install it with: {_command(None)}")
    return Path(on_path)


def _redis() -> Path | None:
    path = os.pathsep.join([os.environ.get("PATH", ""), *REDIS_PLACES])
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name, path=path):
            return Path(found)
    return None


def _installations() -> Iterator[Installation]:
    seen: set[Path] = set()
    for directory in _directories():
        resolved = directory.resolve()
        if resolved in seen or not all((directory / n).exists() for n in ("initdb", "postgres")):
            continue
        seen.add(resolved)
        version = re.search(r"\(PostgreSQL\) (\d+)", _output(directory / "postgres", "--version"))
        if version:
            major = int(version[1])
            yield Installation(directory, major, _has_postgis(directory, major))


def _directories() -> Iterator[Path]:
    if config := shutil.which("pg_config"):
        yield Path(_output(config, "--bindir").strip() or "/nonexistent")
    if server := shutil.which("postgres"):
        yield Path(server).parent
    for place in PLACES:
        yield from Path("/").glob(place.lstrip("/"))


def _has_postgis(directory: Path, major: int) -> bool:
    shares = [
        Path(_output(directory / "pg_config", "--sharedir").strip() or "/nonexistent"),
        Path(f"/usr/share/postgresql/{major}"),
        directory.parent / "share",
        directory.parent / "share/postgresql",
    ]
    return any((share / "extension/postgis.control").exists() for share in shares)


def _output(program: str | Path, option: str) -> str:
    try:
        done = subprocess.run(
            [program, option],
            check=False,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _missing(what: list[str], major: int | None) -> ConfigError:
    names = what[0] if len(what) == 1 else f"{', '.join(what[:-1])} and {what[-1]}"
    return ConfigError(
        f"this machine lacks {names}, which ngdata's own servers need; install all of it with: "
        f"{_command(major)} - {_DOCKER}"
    )


def _command(major: int | None) -> str:
    sudo = "" if os.geteuid() == 0 else "sudo "
    if shutil.which("apt-get"):
        postgis = f"postgresql-{major}-postgis-3" if major else "postgresql-postgis"
        return f"{sudo}apt-get install -y {postgis} redis-server"
    if shutil.which("dnf"):
        return f"{sudo}dnf install -y postgresql-server postgis redis"
    if shutil.which("brew"):
        return f"brew install {f'postgresql@{major} ' if major else ''}postgis redis"
    return "your system's package manager (packages: postgresql, postgis, redis)"
