"""The file `database.yaml`: its keys, and what they are in the settings.

Its shape is that of NeuroGraph OS, whose file is taken as it is: keys that mean something only there
are known and have no effect here.  An unknown key is refused, for it is most likely a slip.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from ngdata._config.interpolation import ReferenceProblem, interpolate, is_reference
from ngdata._config.sources import variables
from ngdata.errors import ConfigError

__all__ = ["load_config_file", "settings_of"]

# Without effect here, whatever stands under it.
_THEIRS: Final = None

_POOL: Final[dict[str, Any]] = {
    "min_size": "pool_min_size",
    "max_size": "pool_max_size",
    "timeout": "pool_timeout",
    "pool_timeout": "pool_timeout",
    **dict.fromkeys(("max_overflow", "pool_recycle", "echo", "echo_pool"), _THEIRS),
}

_POSTGRES: Final[dict[str, Any]] = {
    "enabled": "enabled",
    "host": "postgres_host",
    "port": "postgres_port",
    "database": "postgres_db",
    "db": "postgres_db",
    "user": "postgres_user",
    "username": "postgres_user",
    "password": "postgres_password",
    "ssl_mode": "ssl_mode",
    "ssl_cert": "ssl_cert",
    "ssl_key": "ssl_key",
    "ssl_root_cert": "ssl_root_cert",
    "application_name": "application_name",
    "connect_timeout": "connect_timeout",
    "statement_timeout": "statement_timeout",
    "read_only": "read_only",
    "max_rows": "max_rows",
    "pool": _POOL,
    "schema": _THEIRS,
    "alembic": _THEIRS,
}

_REDIS: Final[dict[str, Any]] = {
    "enabled": "enabled",
    "host": "redis_host",
    "port": "redis_port",
    "db": "redis_db",
    "user": "redis_user",
    "username": "redis_user",
    "password": "redis_password",
    "ssl": "redis_ssl",
    "cache": {
        "default_ttl": "default_ttl",
        **dict.fromkeys(("max_memory", "eviction_policy", "prefixes"), _THEIRS),
    },
    "connection": _THEIRS,
    "keys": _THEIRS,
}

_KEYS: Final[dict[str, Any]] = {
    "database": {"postgres": _POSTGRES, "redis": _REDIS},
    **dict.fromkeys(("repositories", "performance", "backup"), _THEIRS),
}

# Whoever gives one of these means a server; a host that is not named is then this machine.
_NAMING: Final = ("port", "db", "user", "password")

_SCHEMAS: Final = ("tokens", "graph", "experience")

_SECRETS: Final = ("password", "secret", "encryption_key")

# YAML's number of this text, written out, is this text again: 007 and 1e3 are not, and stay text.
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9]|\.0)?")


class _Hidden(str):
    """A password: a text like any other, but not shown by `repr`, which is what notebooks show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'**********'"


class _Loader(yaml.SafeLoader):
    """YAML in which a key may stand only once; without it the last would win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem="a key stands twice", problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def load_config_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read `database.yaml`: its references resolved, its keys checked.

    Parameters
    ----------
    path : path
        A YAML file whose key `database` holds `postgres` and `redis`.  In any value, also as a part
        of it, ``${VAR:default}`` stands for a variable of the environment, or else of `.env`.

    Returns
    -------
    dict
        As in the file, with the key ``database``.  A value that is one reference has YAML's type:
        ``${PORT:5432}`` is a number.  Passwords stay text, and `repr` does not show them.

    Raises
    ------
    ConfigError
        Naming file, line or key, and what is wrong there.

    Examples
    --------
    >>> import pathlib
    >>> from ngdata._config.file import load_config_file
    >>> file = pathlib.Path("database.yaml")
    >>> _ = file.write_text("database: {postgres: {host: 'db.${ZONE:eu}.example'}}")
    >>> load_config_file(file)["database"]["postgres"]["host"]
    'db.eu.example'
    >>> file.unlink()
    """
    file = Path(path).expanduser()
    loaded = _parsed(file)
    if not isinstance(loaded, dict) or not isinstance(loaded.get("database"), dict):
        _checked_keys(loaded, _KEYS, "", str(file))
        raise ConfigError(
            f"{file} must hold a mapping `database`, with `postgres` and `redis` under it"
        )
    _checked_keys(loaded, _KEYS, "", str(file))
    found: dict[str, Any] = _resolved(loaded, "", str(file), variables())
    return found


def settings_of(
    database: Mapping[str, Any], source: str = "the configuration"
) -> dict[str, tuple[str, Any]]:
    """Give the settings that the mapping `database` of such a file holds.

    Parameters
    ----------
    database : mapping
        What `load_config_file` gives under ``database``.
    source : str
        Where it is from, for errors.

    Returns
    -------
    dict
        For each field of `ngdata._config.settings.Settings` that it sets: the key's path, and the value.
        A key without a value sets nothing.

    Raises
    ------
    ConfigError
        For a key that is unknown, or stands there under two names.

    Examples
    --------
    >>> from ngdata._config.file import settings_of
    >>> settings_of({"postgres": {"pool": {"max_size": 8}}})
    {'pool_max_size': ('database.postgres.pool.max_size', 8)}
    """
    _checked_keys(database, _KEYS["database"], "database", source)
    found: dict[str, tuple[str, Any]] = {}
    for section, keys in _KEYS["database"].items():
        fields: dict[str, tuple[str, Any]] = {}
        _collect(database.get(section), keys, f"database.{section}", source, fields)
        path, enabled = fields.pop("enabled", ("", True))
        if enabled is not True and enabled is not False:
            raise ConfigError(f"{path} in {source} must be true or false")
        if not enabled and section == "postgres":
            raise ConfigError(f"{path} in {source} is false, and without it ngdata has no store")
        if not fields.keys().isdisjoint(f"{section}_{name}" for name in _NAMING):
            fields.setdefault(f"{section}_host", (f"database.{section}.host", "localhost"))
        found |= fields if enabled else {}
    for name, given in ((database.get("postgres") or {}).get("schema") or {}).items():
        if name in _SCHEMAS and given != name:
            raise ConfigError(
                f"database.postgres.schema.{name} in {source} is {given!r}, and ngdata's schema "
                f"is always `{name}`; leave it out"
            )
    return found


def _parsed(file: Path) -> Any:
    try:
        with file.open(encoding="utf-8") as stream:
            return yaml.load(stream, _Loader)  # noqa: S506 - a SafeLoader
    except UnicodeDecodeError:
        raise ConfigError(f"the configuration file {file.absolute()} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(
            f"the configuration file {file.absolute()} cannot be read: {error.strerror}"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        # A quoted part may be a part of a password.
        problem = re.sub(r"'[^']{2,}'", "...", error.problem or "it cannot be read")
        raise ConfigError(f"{file}{where} is not YAML: {problem}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{file} is not YAML: it holds characters that no text has") from None


def _resolved(value: Any, path: str, source: str, variables: Mapping[str, str]) -> Any:
    """Resolve the references in all texts at and under a place."""
    if isinstance(value, dict):
        return {
            key: _resolved(v, f"{path}.{key}" if path else str(key), source, variables)
            for key, v in value.items()
        }
    if isinstance(value, list):
        return [_resolved(v, path, source, variables) for v in value]
    is_password = path.endswith(_SECRETS)
    if not isinstance(value, str):
        if is_password and value is not None:
            raise ConfigError(f"{path} in {source} must be a text; write it in quotes")
        return value
    try:
        text = interpolate(value, variables)
        whole = is_reference(value)
    except ReferenceProblem as error:
        raise ConfigError(f"{path} in {source}: {error}") from None
    if is_password:
        return _Hidden(text) if text else None
    return _typed(text) if whole else text


def _typed(text: str) -> Any:
    """Give YAML's reading of a text, where no information is lost by it."""
    if text in ("", "~", "null", "true", "false") or _NUMBER.fullmatch(text):
        return yaml.safe_load(text)
    return text


def _collect(
    section: Any, keys: dict[str, Any], path: str, source: str, found: dict[str, tuple[str, Any]]
) -> None:
    for key, value in (section or {}).items():
        here, meaning = f"{path}.{key}", keys[key]
        if isinstance(meaning, dict):
            _collect(value, meaning, here, source, found)
        elif meaning is not None and value is not None:
            if meaning in found:
                raise ConfigError(
                    f"{found[meaning][0]} and {here} in {source} mean the same; give one"
                )
            # Text that looks like a number stays what it was (see _NUMBER).
            is_text = meaning in ("postgres_db", "postgres_user", "redis_user", "application_name")
            scalar = isinstance(value, int | float) and not isinstance(value, bool)
            found[meaning] = (here, str(value) if is_text and scalar else value)


def _checked_keys(section: Any, keys: dict[str, Any], path: str, source: str) -> None:
    """Refuse a key that is unknown, at and under a place."""
    if section is None:
        return
    if not isinstance(section, Mapping):
        raise ConfigError(f"{path or 'all'} in {source} must be a mapping of keys to values")
    for key, value in section.items():
        here = f"{path}.{key}" if path else str(key)
        if key not in keys:
            raise ConfigError(f"{here} in {source} is no known key; {_nearest(str(key), keys)}")
        if isinstance(keys[key], dict):
            _checked_keys(value, keys[key], here, source)
        elif keys[key] is not None and isinstance(value, dict | list):
            raise ConfigError(f"{here} in {source} must be one value")


def _nearest(key: str, keys: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key.lower(), keys, 1, 0.4)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"known here are {', '.join(sorted(keys))}"
