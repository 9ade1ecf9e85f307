"""`ConfigLoader`, and the settings that its mapping `database` sets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ngdata._arguments.shown import guarded, shown
from ngdata._config.settings import Settings, resolve_settings
from ngdata._config.yaml_file import from_mapping, load_config_file
from ngdata.errors import InvalidQueryError
from ngdata.repositories.redis import as_config

__all__ = ["ConfigLoader", "settings_from"]


class ConfigLoader:
    """Reads configuration files.

    Parameters
    ----------
    base_path : path
        The directory to search for files; its subdirectory ``config`` is searched next.

    Examples
    --------
    >>> import pathlib
    >>> from ngdata.repositories import ConfigLoader
    >>> file = pathlib.Path("database.yaml")
    >>> _ = file.write_text("database: {postgres: {host: '${POSTGRES_HOST:db.example}'}}")
    >>> ConfigLoader().load("database.yaml")["database"]["postgres"]["host"]
    'db.example'
    >>> file.unlink()
    """

    def __init__(self, base_path: str | os.PathLike[str] = ".") -> None:
        self._base = _path(base_path, "base_path")

    def load(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Read a YAML file; ``${VAR:default}`` in it is replaced by the variable of the environment.

        Raises
        ------
        ConfigError
            The file cannot be read or parsed; the error names the line or key.
        """
        name = _path(path, "path")
        candidates = (self._base / name, self._base / "config" / name)
        return load_config_file(_existing(candidates, "path"))


@guarded
def _path(value: Any, name: str) -> Path:
    if isinstance(value, bytes) or not isinstance(value, str | os.PathLike):
        raise InvalidQueryError(f"{name} must be the path of a file, not {shown(value)}")
    return Path(value)


@guarded
def _existing(candidates: Any, name: str) -> Path:
    """Return the first path of a file, or the first of all."""
    try:
        existing = [path for path in candidates if path.is_file()]
    except (OSError, ValueError):  # a name that no file can have
        existing = []
    first: Path = (existing or candidates)[0]
    return first


def settings_from(database: Mapping[str, Any] | None) -> Settings:
    """Return the settings of a mapping with ``postgres`` and ``redis``.

    Keys that it lacks are read from the environment and `.env`, as for `ngdata.connect`; if neither
    names a server, the embedded one is used.

    Raises
    ------
    ConfigError
        A key is unknown or its value cannot be used; the error names the key.
    """
    return resolve_settings(from_mapping(as_config(database, "config")))
