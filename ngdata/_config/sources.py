"""The four sources of settings, strongest first: arguments, environment, `.env`, `database.yaml`.

Each source is a dict of setting -> (value, label); errors quote the label.  A source without an entry
for a setting leaves it unset, and the next source decides.

This module alone decides what counts as unset.  An argument is unset if it is `UNSET` or None, except
that None is a value of the settings in `NULLABLE`: there it means "no limit".  A variable is unset if
it is empty, and a key of a file if it has no value; both write that None as the word ``none``.
"""

from __future__ import annotations

import difflib
import io
import os
import re
from collections import ChainMap
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from ngdata.errors import ConfigError

__all__ = [
    "NULLABLE",
    "UNSET",
    "Source",
    "SourcedValue",
    "Sources",
    "Variables",
    "from_arguments",
    "from_variables",
    "none_for_word",
    "rank",
    "read_variables",
]

UNSET: Final = ...
"""An argument with this value is unset."""

NULLABLE: Final = frozenset({"max_rows"})
"""The settings of which None is a value; for all others an argument of None is unset."""

_PREFIX: Final = "NGDATA_"

# A line of `.env` that python-dotenv cannot parse is ours if it contains such a name.
_OUR_NAME: Final = re.compile(r"(?:NGDATA|POSTGRES|REDIS)_[A-Z_]+")

# Read elsewhere: the directory of the embedded servers (ngdata._local).
_OTHER_VARIABLES: Final = frozenset({"NGDATA_HOME"})


class SourcedValue(NamedTuple):
    """A value, not yet validated, and the label that names its place in an error."""

    value: Any
    label: str


Source: TypeAlias = dict[str, SourcedValue]
"""The settings that one source has."""

Sources: TypeAlias = ChainMap[str, SourcedValue]
"""All sources, strongest first."""


class Variables(NamedTuple):
    """The variables of the environment and those of the file `.env`."""

    environment: Mapping[str, str]
    dotenv: Mapping[str, str]

    def merged(self) -> Mapping[str, str]:
        """Return both; the environment wins."""
        return ChainMap(dict(self.environment), dict(self.dotenv))


def read_variables() -> Variables:
    """Read the environment and, once, the file `.env` in the current directory.

    Raises
    ------
    ConfigError
        `.env` cannot be read, or one of its lines that sets a variable of ngdata cannot be parsed.
    """
    return Variables(dict(os.environ), _read_dotenv())


def from_arguments(arguments: Mapping[str, Any]) -> Source:
    """Return the arguments that are set, each labelled with its own name.

    Examples
    --------
    >>> from ngdata._config.sources import UNSET, from_arguments
    >>> sorted(from_arguments({"cache": None, "pool_max_size": 4, "max_rows": None}))
    ['max_rows', 'pool_max_size']
    >>> from_arguments({"max_rows": UNSET})
    {}
    """
    return {
        name: SourcedValue(value, name)
        for name, value in arguments.items()
        if value is not UNSET and (value is not None or name in NULLABLE)
    }


def from_variables(
    variables: Mapping[str, str], settings: Collection[str], unprefixed: Collection[str], file: str
) -> Source:
    """Return the settings that variables set, each labelled with its variable.

    Parameters
    ----------
    variables : mapping
        Their case is ignored.
    settings : collection of str
        All settings; each is read from the variable ``NGDATA_`` + its name.
    unprefixed : collection of str
        The settings that are also, and first, read from a variable without the prefix.
    file : str
        The file that holds the variables; empty for the environment.

    Raises
    ------
    ConfigError
        A variable looks like a misspelled one of ngdata: it would have no effect.
    """
    values = {name.upper(): value for name, value in variables.items() if value}
    known = {f"{_PREFIX}{setting.upper()}" for setting in settings} | _OTHER_VARIABLES
    _refuse_misspellings(values, known, file or "the environment")
    source: Source = {}
    for setting in settings:
        plain, prefixed = setting.upper(), f"{_PREFIX}{setting.upper()}"
        for name in (plain, prefixed) if setting in unprefixed else (prefixed,):
            if name in values:
                label = f"{name} in {file}" if file else name
                source[setting] = SourcedValue(none_for_word(setting, values[name]), label)
                break
    return source


def none_for_word(setting: str, value: Any) -> Any:
    """Return None for the word ``none`` if None is a value of the setting, else the value."""
    return None if setting in NULLABLE and value == "none" else value


def rank(sources: Sources, setting: str) -> int:
    """Return the position of the source that sets a setting (0: the strongest); the last + 1 if none.

    Examples
    --------
    >>> from collections import ChainMap
    >>> from ngdata._config.sources import from_arguments, rank
    >>> sources = ChainMap({}, from_arguments({"cache": "ttl"}))
    >>> rank(sources, "cache"), rank(sources, "max_rows")
    (1, 2)
    """
    positions = (n for n, source in enumerate(sources.maps) if setting in source)
    return next(positions, len(sources.maps))


def _read_dotenv() -> dict[str, str]:
    file = Path(".env")
    if not file.is_file():
        return {}
    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(
            "the file .env in the current directory is not UTF-8 text; save it as UTF-8"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"the file .env in the current directory cannot be read: {error.strerror}"
        ) from None
    _refuse_unparsed_lines(text)
    values = dotenv_values(stream=io.StringIO(text))
    return {name: value for name, value in values.items() if value is not None}


def _refuse_unparsed_lines(text: str) -> None:
    """Refuse a line with one of our variables that python-dotenv would skip; ignore other lines."""
    for line in parse_stream(io.StringIO(text)):
        name = _OUR_NAME.search(line.original.string) if line.error else None
        if name:
            raise ConfigError(
                f"line {line.original.line} of the file .env in the current directory, which "
                f"contains {name[0]}, cannot be parsed; write it as NAME=value and close every quote"
            )


def _refuse_misspellings(names: Collection[str], known: Collection[str], place: str) -> None:
    endings = {name.removeprefix(_PREFIX): name for name in known}
    for name in sorted(names):
        if name.startswith(_PREFIX) and name not in known:
            close = difflib.get_close_matches(name.removeprefix(_PREFIX), endings, 1, 0.85)
            if close:
                raise ConfigError(
                    f"unknown variable {name} in {place}; did you mean {endings[close[0]]}?"
                )
