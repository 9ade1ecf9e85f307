"""The distribution's own packages of the servers, for a user who may not install any.

On Debian and Ubuntu, apt downloads packages into any directory without root, and checks their
signatures and hashes.  They are unpacked under ``programs`` in the home, where `binaries` finds them: each
program as a small script that says where its libraries are.  Nothing else of a package is run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ngdata._local import binaries, directories, state
from ngdata._local.account import Account, account_for
from ngdata.errors import ConfigError, DatabaseUnavailable

__all__ = ["Installed", "install", "is_missing"]

# What PATH may lack, for a user.
_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"

_PROGRAMS: Final = ("apt-get", "apt-cache", "dpkg-deb")

# Seconds for one program of the distribution, over a slow line too.
_TIMEOUT: Final = 1800

# Of the C library, one and the same must serve the dynamic loader and all programs.
_OF_THE_SYSTEM: Final = ("libc6_", "libc-bin_")

# `$0` is the script's path: the directory may be moved.  The variables are those of the libraries
# that PostGIS uses, for the files that they read.
_SCRIPT: Final = """#!/bin/sh
root=$(cd -- "$(dirname -- "$0")/.." && pwd)
export LD_LIBRARY_PATH="{libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
export PROJ_DATA="$root/usr/share/proj" PROJ_LIB="$root/usr/share/proj" GDAL_DATA="$root/usr/share/gdal"
exec "$root/{program}" "$@"
"""

_CHECK: Final = "CREATE EXTENSION postgis;\nSELECT postgis_lib_version() AS postgis;\n"
_POSTGIS: Final = re.compile(r'postgis = "([^"]+)"')


@dataclass(frozen=True)
class Installed:
    """What `install` has installed, each as its own program says it."""

    directory: Path
    postgres: str
    postgis: str
    redis: str


def is_missing() -> bool:
    """Return whether this machine lacks any of the servers."""
    try:
        binaries.find_postgres()
        binaries.find_redis()
    except ConfigError:
        return True
    return False


def install(say: Callable[[str], None] = lambda _: None, home: Path | None = None) -> Installed:
    """Download, unpack and check PostgreSQL, PostGIS and Redis; completely or not at all.

    Parameters
    ----------
    say : function of a text, optional
        Told what is done now.
    home : Path, optional
        By default `default_home`.

    Raises
    ------
    ConfigError
        This is not Debian or Ubuntu, packages cannot be downloaded, or the servers do not run.

    Examples
    --------
    >>> from ngdata._local import packages
    >>> packages.install(print)  # doctest: +SKIP
    """
    _check_system()
    home = directories.resolve_home(home)
    if set(str(home)) & set(':;"$`\\\n'):
        raise ConfigError(
            f"{home} cannot hold programs, because of a character in its name that separates paths; "
            "set NGDATA_HOME to another directory"
        )
    account = account_for()
    directories.create_home(home)
    with state.locked(home):
        return _install(home, account, say)


def _install(home: Path, account: Account, say: Callable[[str], None]) -> Installed:
    final = binaries.programs_directory(home)
    for left in home.glob(f"{final.name}.new-*"):
        shutil.rmtree(left, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=f"{final.name}.new-", dir=home))
    try:
        say("reading the lists of packages")
        apt = _Apt.prepared(new / "apt")
        major = apt.newest_postgis()
        say(
            f"downloading PostgreSQL {major}, PostGIS and Redis with the libraries that are missing "
            "(up to 120 MB)"
        )
        archives = apt.download(
            [
                f"postgresql-{major}",
                f"postgresql-client-{major}",
                f"postgresql-{major}-postgis-3",
                f"postgresql-{major}-postgis-3-scripts",
                *("redis-server", "redis-tools"),
            ]
        )
        say(f"unpacking {len(archives)} packages")
        for archive in archives:
            if not archive.name.startswith(_OF_THE_SYSTEM):
                _run(["dpkg-deb", "-x", archive, new], "a package cannot be unpacked")
        shutil.rmtree(new / "apt")
        _link_extensions(new)
        _write_scripts(new)
        if account.uid != os.geteuid():
            _open_to(account, home, new)
        say("checking the servers")
        installed = _checked(new, final, account)
        _replace(new, final)
    except OSError as error:
        raise ConfigError(f"the servers cannot be installed in {home}: {error}") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return installed


def _replace(new: Path, final: Path) -> None:
    """Put the new directory in place of the old one."""
    old = new.with_name(f"{final.name}.new-old-{os.getpid()}")
    if final.exists():
        final.rename(old)
    new.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def _check_system() -> None:
    lacking = [name for name in _PROGRAMS if shutil.which(name, path=_path()) is None]
    if lacking:
        raise ConfigError(
            f"install-servers uses the packages of Debian and Ubuntu, and this machine has no "
            f"{', '.join(lacking)}; install the servers with: {binaries.install_command()}"
        )


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), _PATH])


def _run(command: Sequence[str | Path], what: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the distribution; raise what it says if it fails."""
    try:
        result = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT,
            # Proxies are named in the environment.
            env=os.environ | {"PATH": _path(), "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{what}: {command[0]} did not end within {_TIMEOUT} s") from None
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.startswith("E:")]
        reason = " ".join(lines or result.stderr.split("\n")[-3:]).strip()
        raise ConfigError(f"{what}: {reason or f'{command[0]} failed'}")
    return result


@dataclass(frozen=True)
class _Apt:
    """apt with lists and a cache of its own, and the system's record of what is installed."""

    directory: Path
    warnings: str = ""

    @classmethod
    def prepared(cls, directory: Path) -> _Apt:
        """Download the lists of packages."""
        for name in ("state/lists/partial", "cache/archives/partial"):
            (directory / name).mkdir(parents=True)
        # Sources that do not answer are only warned of: others may have what is needed.
        updated = cls(directory)._get("the lists of packages cannot be downloaded", "update", "-q")
        warnings = [line for line in updated.stderr.splitlines() if line.startswith("W:")]
        return cls(directory, " ".join(warnings[:2]))

    @property
    def _options(self) -> list[str]:
        settings = {
            "Dir::State": self.directory / "state",
            "Dir::State::status": "/var/lib/dpkg/status",
            "Dir::Cache": self.directory / "cache",
            # Those of the system's directories, which are not touched.
            "Debug::NoLocking": "1",
            # No user of its own for downloads: it could not enter the home.
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::http::Timeout": "30",
            "Acquire::https::Timeout": "30",
            "Dpkg::Use-Pty": "0",
        }
        options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
        for hook in ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success"):
            options += ["-o", f"APT::Update::{hook}="]
        return options

    def _get(self, what: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return _run(["apt-get", *self._options, *arguments], what)

    def newest_postgis(self) -> int:
        """Return the newest major version of PostgreSQL that has a package of PostGIS."""
        names = _run(
            ["apt-cache", *self._options, "pkgnames", "postgresql-"],
            "the lists of packages cannot be read",
        ).stdout
        majors = [int(m) for m in re.findall(r"^postgresql-(\d+)-postgis-3$", names, re.MULTILINE)]
        suitable = [major for major in majors if major >= binaries.MINIMUM]
        if not suitable:
            raise ConfigError(
                "this machine's package sources (/etc/apt) have no postgresql-N-postgis-3 for "
                f"PostgreSQL {binaries.MINIMUM} or later, or do not answer; ask its administrator for "
                f"such a source{f' (apt: {self.warnings})' if self.warnings else ''}"
            )
        return max(suitable)

    def download(self, names: Sequence[str]) -> list[Path]:
        """Download packages, also installed ones, and what they need that the system does not have."""
        self._get(
            "the packages cannot be downloaded",
            *("install", "-q", "-y", "--download-only", "--reinstall", "--no-install-recommends"),
            *names,
        )
        archives = sorted((self.directory / "cache/archives").glob("*.deb"))
        present = {archive.name.partition("_")[0] for archive in archives}
        # apt is content with installed packages if no source has them.
        if lacking := [name for name in names if name not in present]:
            raise ConfigError(
                f"this machine's package sources (/etc/apt) have no {', '.join(lacking)}, or do not "
                f"answer{f' (apt: {self.warnings})' if self.warnings else ''}; try again later"
            )
        return archives


def _link_extensions(root: Path) -> None:
    """Link PostGIS's control files to the names by which PostgreSQL looks for them.

    The packages leave that to a script of theirs, which links them for the whole machine.
    """
    for control in root.glob("usr/share/postgresql/*/extension/*-3.control"):
        link = control.with_name(control.name.replace("-3.control", ".control"))
        if not os.path.lexists(link):
            link.symlink_to(control.name)


def _write_scripts(root: Path) -> None:
    """Write a script per program, which runs it with its own libraries."""
    libraries = ":".join(f"$root/{path.relative_to(root)}" for path in _library_directories(root))
    servers = sorted(root.glob("usr/lib/postgresql/*/bin"))
    if not servers:
        raise ConfigError("the packages have no PostgreSQL; run install-servers again")
    redis = [root / "usr/bin" / name for name in ("redis-server", "redis-cli")]
    scripts = root / binaries.SCRIPTS
    scripts.mkdir()
    for program in [*sorted(servers[-1].iterdir()), *redis]:
        script = scripts / program.name
        script.write_text(
            _SCRIPT.format(libraries=libraries, program=program.relative_to(root)), "utf-8"
        )
        script.chmod(0o755)


def _library_directories(root: Path) -> list[Path]:
    """Return the directories of shared libraries; BLAS and LAPACK have their own."""
    tops = [path for place in ("usr/lib", "lib") for path in root.glob(f"{place}/*-linux-*")]
    found = [path for top in tops for path in (top, *sorted(top.iterdir()))]
    return [path for path in found if path.is_dir() and any(path.glob("lib*.so.*"))]


def _open_to(account: Account, home: Path, root: Path) -> None:
    """Let the servers' user, who is not the caller, run the programs."""
    if not account.can_enter(home):
        os.chown(home, -1, account.gid)
        home.chmod(home.stat().st_mode | 0o010)
    root.chmod(0o755)
    if not account.can_enter(root):
        raise ConfigError(
            f"user {account.name!r}, as whom the servers run, cannot enter {home}; install them for the "
            f"whole machine instead: {binaries.install_command()}"
        )


def _checked(root: Path, final: Path, account: Account) -> Installed:
    """Run each server once, and create PostGIS in a database that is then removed."""
    scripts = root / binaries.SCRIPTS
    redis = account.run([scripts / "redis-server", "--version"])
    version = re.search(r"v=([\d.]+)", redis.stdout)
    if redis.returncode or version is None:
        raise ConfigError(f"Redis does not run: {redis.stderr.strip()}")
    directory = Path(tempfile.mkdtemp(prefix="ngdata-check-"))
    try:
        os.chown(directory, account.uid, account.gid)
        data = directory / "data"
        options = ["--auth=reject", "--encoding=UTF8", "--locale=C", "--no-sync", "-U", "ngdata"]
        made = account.run([scripts / "initdb", "-D", data, *options])
        if made.returncode:
            raise ConfigError(f"PostgreSQL does not run: {made.stderr.strip()}")
        # Without sockets or connections: its statements come from its standard input.
        single: list[str | Path] = ["--single", "-F", "-c", "jit=off", "-D", data, "postgres"]
        answer = account.run([scripts / "postgres", *single], _CHECK)
        postgis = _POSTGIS.search(answer.stdout)
        if postgis is None:
            lines = [line for line in answer.stderr.splitlines() if "ERROR" in line]
            raise ConfigError(
                f"PostGIS cannot be created: {' '.join(lines) or answer.stderr.strip()}"
            )
    finally:
        account.remove(directory / "data")
        shutil.rmtree(directory, ignore_errors=True)
    output = account.run([scripts / "postgres", "--version"]).stdout
    postgres = re.search(r"\(PostgreSQL\) ([\d.]+)", output)
    if postgres is None:
        raise DatabaseUnavailable(f"PostgreSQL does not say its version: {output.strip()}")
    return Installed(final, postgres[1], postgis[1], version[1])
