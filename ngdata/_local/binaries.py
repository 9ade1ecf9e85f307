"""The servers' programs on this machine, and what to install if they are missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ngdata._connections.driver_errors import shortage
from ngdata._local.directories import default_home
from ngdata.errors import ConfigError

__all__ = [
    "MINIMUM",
    "SCRIPTS",
    "Installation",
    "find_postgres",
    "find_psql",
    "find_redis",
    "install_command",
    "programs_directory",
]

MINIMUM: Final = 14
"""The oldest major version of PostgreSQL that ngdata runs on."""

SCRIPTS: Final = "scripts"
"""Where `ngdata install-servers` puts a script for each program, in `programs_directory`."""

#: Where packages install PostgreSQL: Debian, Red Hat, from source, Homebrew, Postgres.app.
PLACES: list[str] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
]

#: Where Redis or Valkey may be if not on PATH.
REDIS_PLACES: list[str] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin"]

_DOCKER: Final = (
    "or use servers elsewhere: `docker compose up -d`, and set NGDATA_DATABASE_URL to "
    "postgresql://user:password@host:5432/database"
)


@dataclass(frozen=True)
class Installation:
    """One PostgreSQL installation on this machine."""

    bin: Path
    major: int
    has_postgis: bool


def find_postgres(major: int | None = None) -> Installation:
    """Return the newest PostgreSQL with PostGIS, or the one of a major version.

    Parameters
    ----------
    major : int, optional
        The major version that existing data need.

    Raises
    ------
    ConfigError
        If one is missing; the message names everything that is, Redis too, and how to install it.
    """
    installations = sorted(_installations(), key=lambda i: (i.has_postgis, i.major), reverse=True)
    suitable = [i for i in installations if i.major >= MINIMUM and major in (None, i.major)]
    if suitable and suitable[0].has_postgis:
        return suitable[0]
    required = major or (suitable[0].major if suitable else None)
    if major is not None and installations and not suitable:
        present = ", ".join(sorted({str(i.major) for i in installations}))
        raise ConfigError(
            f"the data here are of PostgreSQL {major}, and this machine has PostgreSQL {present}; "
            f"install PostgreSQL {major} ({_command(major)}), or move the data with pg_upgrade, or "
            "start with an empty home by setting NGDATA_HOME to another directory"
        )
    missing = [] if suitable else [f"PostgreSQL {required or f'{MINIMUM} or later'}"]
    missing.append(f"PostGIS for PostgreSQL {required}" if required else "PostGIS")
    raise _missing(missing if _redis() else [*missing, "Redis"], required)


def find_redis() -> Path:
    """Return the path of redis-server, or of valkey-server, which is the same to a client."""
    program = _redis()
    if program is None:
        raise _missing(["Redis"], None)
    return program


def find_psql() -> Path:
    """Return the path of psql, which needs no server on this machine."""
    for installation in sorted(_installations(), key=lambda i: i.major, reverse=True):
        if (installation.bin / "psql").exists():
            return installation.bin / "psql"
    on_path = shutil.which("psql")
    if on_path is None:
        raise ConfigError(f"this machine has no psql; install it with: {_command(None)}")
    return Path(on_path)


def programs_directory(home: Path) -> Path:
    """Return where `ngdata install-servers` puts the servers of a home."""
    return home / "programs"


def install_command() -> str:
    """Return the command that installs all servers on this machine."""
    return _command(None)


def _own_scripts() -> Path:
    return programs_directory(default_home()) / SCRIPTS


def _redis() -> Path | None:
    path = os.pathsep.join([os.environ.get("PATH", ""), *REDIS_PLACES, str(_own_scripts())])
    for name in ("redis-server", "valkey-server"):
        if program := shutil.which(name, path=path):
            return Path(program)
    return None


def _installations() -> Iterator[Installation]:
    visited: set[Path] = set()
    for directory in _directories():
        resolved = directory.resolve()
        if resolved in visited or not all((directory / n).exists() for n in ("initdb", "postgres")):
            continue
        visited.add(resolved)
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
    yield _own_scripts()


def _has_postgis(directory: Path, major: int) -> bool:
    shares = [
        Path(_output(directory / "pg_config", "--sharedir").strip() or "/nonexistent"),
        Path(f"/usr/share/postgresql/{major}"),
        directory.parent / f"usr/share/postgresql/{major}",
        directory.parent / "share",
        directory.parent / "share/postgresql",
    ]
    return any((share / "extension/postgis.control").exists() for share in shares)


def _output(program: str | Path, option: str) -> str:
    try:
        result = subprocess.run(
            [program, option],
            check=False,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        if shortage(error, "") is not None:
            raise
        return ""
    return result.stdout


def _missing(programs: list[str], major: int | None) -> ConfigError:
    *others, last = programs
    names = f"{', '.join(others)} and {last}" if others else last
    without_root = ""
    if os.geteuid() != 0 and shutil.which("apt-get"):
        without_root = "or, without root, with `ngdata install-servers`; "
    return ConfigError(
        f"this machine lacks {names}, which ngdata's own servers need; install all of it with: "
        f"{_command(major)} - {without_root}{_DOCKER}"
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
