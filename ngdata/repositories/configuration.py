"""`ConfigLoader`, and what its mapping `database` says as ngdata's settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ngdata._config.file import load_config_file, settings_of
from ngdata._config.settings import Settings, load_settings

__all__ = ["ConfigLoader", "settings_from"]


class ConfigLoader:
    """Reads configuration files.

    Parameters
    ----------
    base_path : path
        Where files are looked for, and in its folder ``config``.

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
        self._base = Path(base_path)

    def load(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Read a YAML file; ``${VAR:default}`` in it stands for the environment's variable.

        Raises
        ------
        ConfigError
            Naming the file and the line or key that cannot be used.
        """
        places = (self._base / path, self._base / "config" / path)
        there = next((place for place in places if place.is_file()), places[0])
        return load_config_file(there)


def settings_from(database: Mapping[str, Any] | None) -> Settings:
    """Give the settings of a mapping with ``postgres`` and ``redis``.

    What it does not name is looked for in the environment and `.env`, as for `ngdata.connect`; if
    no server is named anywhere, the embedded one is meant.

    Raises
    ------
    ConfigError
        Naming the key that cannot be used.
    """
    given = settings_of(database or {})
    return load_settings(**{name: value for name, (_, value) in given.items()})
