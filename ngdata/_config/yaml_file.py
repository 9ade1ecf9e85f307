"""The file `database.yaml`: its keys, and the settings that they set.

The file has the shape of NeuroGraph OS's own, so that the same file serves both: keys that only
NeuroGraph OS uses are known here and ignored.  An unknown key is refused, since it is most likely a
misspelled one.
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
from ngdata._config.sources import Source, SourcedValue, none_for_word, read_variables
from ngdata.errors import ConfigError

__all__ = ["from_mapping", "load_config_file"]

# Marks a key that ngdata ignores, with everything below it.
_IGNORED: Final = None

_POOL: Final[dict[str, Any]] = {
    "min_size": "pool_min_size",
    "max_size": "pool_max_size",
    "timeout": "pool_timeout",
    "pool_timeout": "pool_timeout",
    **dict.fromkeys(("max_overflow", "pool_recycle", "echo", "echo_pool"), _IGNORED),
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
    "ids": "ids",
    "id_space": "id_space",
    "pool": _POOL,
    "schema": _IGNORED,
    "alembic": _IGNORED,
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
        **dict.fromkeys(("max_memory", "eviction_policy", "prefixes"), _IGNORED),
    },
    "connection": _IGNORED,
    "keys": _IGNORED,
}

_KEYS: Final[dict[str, Any]] = {
    "database": {"postgres": _POSTGRES, "redis": _REDIS},
    **dict.fromkeys(("repositories", "performance", "backup"), _IGNORED),
}

# A file with one of these keys names a server; without a host, that is the local machine.
_NAMING_KEYS: Final = ("port", "db", "user", "password")

_SCHEMAS: Final = ("tokens", "graph", "experience")

_SECRETS: Final = ("password", "secret", "encryption_key")

# A number that YAML reads and writes back as the same text; 007 and 1e3 differ, and stay text.
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9]|\.0)?")


# Text even if it looks like a number.
_TEXT_SETTINGS: Final = ("postgres_db", "postgres_user", "redis_user", "application_name")


class _Secret(str):
    """A password: text whose `repr`, which notebooks display, does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'**********'"


class _Loader(yaml.SafeLoader):
    """A YAML loader that refuses duplicate keys, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and key.value in keys:
                raise yaml.MarkedYAMLError(problem="duplicate key", problem_mark=key.start_mark)
            keys.add(str(key.value))
        return super().construct_mapping(node, deep)


def load_config_file(
    path: str | os.PathLike[str], variables: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Read `database.yaml`, resolve its references and check its keys.

    Parameters
    ----------
    path : path
        A YAML file whose key `database` holds `postgres` and `redis`.  Any value may contain
        ``${VAR:default}``, which is replaced by a variable.
    variables : mapping, optional
        By default those of the environment and, where it has none, of `.env`.

    Returns
    -------
    dict
        The file's content, with the key ``database``.  A value that is exactly one reference gets
        YAML's type: ``${PORT:5432}`` is a number.  Passwords stay text, which `repr` does not show.

    Raises
    ------
    ConfigError
        The file cannot be read or parsed, or a key is unknown; the error names the line or key.

    Examples
    --------
    >>> import pathlib
    >>> from ngdata._config.yaml_file import load_config_file
    >>> file = pathlib.Path("database.yaml")
    >>> _ = file.write_text("database: {postgres: {host: 'db.${ZONE:eu}.example'}}")
    >>> load_config_file(file)["database"]["postgres"]["host"]
    'db.eu.example'
    >>> file.unlink()
    """
    file = Path(path).expanduser()
    content = _parse(file)
    _check_keys(content, _KEYS, "", str(file))
    if not isinstance(content, dict) or not isinstance(content.get("database"), dict):
        raise ConfigError(
            f"{file} must hold a mapping `database`, with `postgres` and `redis` under it"
        )
    if variables is None:
        variables = read_variables().merged()
    resolved: dict[str, Any] = _resolve(content, "", str(file), variables)
    return resolved


def from_mapping(database: Mapping[str, Any], name: str = "the configuration") -> Source:
    """Return the settings that the mapping `database` of such a file sets.

    Parameters
    ----------
    database : mapping
        The value of the key ``database`` in the result of `load_config_file`.
    name : str
        The file's name in errors.

    Returns
    -------
    dict
        For each setting: its value, labelled with the key's path.  A key without a value sets nothing.

    Raises
    ------
    ConfigError
        A key is unknown, or two keys set the same setting.

    Examples
    --------
    >>> from ngdata._config.yaml_file import from_mapping
    >>> from_mapping({"postgres": {"pool": {"max_size": 8}}})["pool_max_size"].label
    'database.postgres.pool.max_size in the configuration'
    """
    _check_keys(database, _KEYS["database"], "database", name)
    source: Source = {}
    for section, keys in _KEYS["database"].items():
        path = f"database.{section}"
        settings: Source = {}
        _collect(database.get(section), keys, path, name, settings)
        switch: SourcedValue = settings.pop("enabled", SourcedValue(True, ""))
        enabled, label = switch.value, switch.label
        if enabled is not True and enabled is not False:
            raise ConfigError(f"{label} must be true or false, not {enabled!r}")
        if not enabled and section == "postgres":
            raise ConfigError(f"{label} is false, but ngdata needs PostgreSQL; remove the key")
        if not settings.keys().isdisjoint(f"{section}_{key}" for key in _NAMING_KEYS):
            local = SourcedValue("localhost", f"{path}.host in {name}")
            settings.setdefault(f"{section}_host", local)
        source |= settings if enabled else {}
    _check_schema_names((database.get("postgres") or {}).get("schema") or {}, name)
    return source


def _check_schema_names(schemas: Mapping[str, Any], file: str) -> None:
    for schema, value in schemas.items():
        if schema in _SCHEMAS and value != schema:
            raise ConfigError(
                f"database.postgres.schema.{schema} in {file} must be `{schema}`, not {value!r}: "
                "ngdata's schemas have fixed names; remove the key"
            )


def _parse(file: Path) -> Any:
    try:
        with file.open(encoding="utf-8") as stream:
            return yaml.load(stream, _Loader)  # noqa: S506 - a SafeLoader
    except UnicodeDecodeError:
        raise ConfigError(
            f"the configuration file {file.absolute()} is not UTF-8 text; save it as UTF-8"
        ) from None
    except (OSError, ValueError) as error:  # the latter for a name that no file can have
        reason = getattr(error, "strerror", None) or "its name must be valid text"
        raise ConfigError(
            f"the configuration file {str(file.absolute())[:200]} cannot be read: {reason}"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        # A quotation from the file may be a part of a password.
        problem = re.sub(r"'[^']{2,}'", "...", error.problem or "it cannot be parsed")
        raise ConfigError(f"{file}{where} is not valid YAML: {problem}") from None
    except yaml.YAMLError:
        raise ConfigError(
            f"{file} is not valid YAML: it contains characters that YAML forbids; remove them"
        ) from None


def _resolve(value: Any, path: str, file: str, variables: Mapping[str, str]) -> Any:
    """Return a value with the references in it, and in everything below it, resolved."""
    if isinstance(value, dict):
        return {
            key: _resolve(inner, f"{path}.{key}" if path else str(key), file, variables)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_resolve(inner, path, file, variables) for inner in value]
    is_password = path.endswith(_SECRETS)
    if not isinstance(value, str):
        if is_password and value is not None:
            raise ConfigError(f"{path} in {file} must be text; put it in quotes")
        return value
    try:
        text = interpolate(value, variables)
        is_whole = is_reference(value)
    except ReferenceProblem as error:
        raise ConfigError(f"{path} in {file}: {error}") from None
    if is_password:
        return _Secret(text) if text else None
    return _typed(text) if is_whole else text


def _typed(text: str) -> Any:
    """Return YAML's reading of a text, unless it loses information."""
    if text in ("", "~", "null", "true", "false") or _NUMBER.fullmatch(text):
        return yaml.safe_load(text)
    return text


def _collect(section: Any, keys: dict[str, Any], path: str, file: str, settings: Source) -> None:
    """Add the settings at and below a section."""
    for key, value in (section or {}).items():
        setting, label = keys[key], f"{path}.{key} in {file}"
        if isinstance(setting, dict):
            _collect(value, setting, f"{path}.{key}", file, settings)
        elif setting is not None and value is not None:
            if setting in settings:
                raise ConfigError(
                    f"{settings[setting].label} and {label} mean the same; remove one of them"
                )
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            converted = str(value) if setting in _TEXT_SETTINGS and is_number else value
            settings[setting] = SourcedValue(none_for_word(setting, converted), label)


def _check_keys(section: Any, keys: dict[str, Any], path: str, file: str) -> None:
    """Refuse an unknown key at or below a section, and a section that is not a mapping."""
    if section is None:
        return
    if not isinstance(section, Mapping):
        raise ConfigError(f"{path or 'the content'} in {file} must be a mapping of keys to values")
    for key, value in section.items():
        key_path = f"{path}.{key}" if path else str(key)
        if key not in keys:
            raise ConfigError(f"unknown key {key_path} in {file}; {_suggest(str(key), keys)}")
        if isinstance(keys[key], dict):
            _check_keys(value, keys[key], key_path, file)
        elif keys[key] is not None and isinstance(value, dict | list):
            raise ConfigError(f"{key_path} in {file} must be a single value")


def _suggest(key: str, keys: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key.lower(), keys, 1, 0.4)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"the known keys are {', '.join(sorted(keys))}"
