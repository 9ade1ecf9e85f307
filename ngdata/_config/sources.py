"""Where each setting came from: which of two stands, and what an error calls it.

Also refuses a variable whose name is nearly that of a setting, which would change nothing in silence.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic_settings import BaseSettings

from ngdata.errors import ConfigError

__all__ = ["Origins", "variables"]

_PREFIX: Final = "NGDATA_"

_OURS: Final = re.compile(r"(?:NGDATA|POSTGRES|REDIS)_[A-Z_]+")

# Read elsewhere: the embedded servers' directory (ngdata._local).
_OTHERS: Final = frozenset({"NGDATA_HOME"})


@dataclass(frozen=True)
class Origins:
    """The four places, the strongest first, and the settings that each has.

    Attributes
    ----------
    names : dict
        The variables that a setting may be in.
    """

    names: dict[str, tuple[str, ...]]
    arguments: frozenset[str]
    environment: frozenset[str]
    dotenv: frozenset[str]
    file: str = ""
    paths: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: type[BaseSettings], given: Mapping[str, Any]) -> Self:
        """Look at what there is.

        Raises
        ------
        ConfigError
            If a variable is most likely a slip, or `.env` cannot be read.
        """
        unknown = given.keys() - settings.model_fields.keys()
        if unknown:
            raise ConfigError(f"there is no setting {sorted(unknown)[0]!r}")
        names = {
            name: tuple(filter(None, (_alias(info), f"{_PREFIX}{name.upper()}")))
            for name, info in settings.model_fields.items()
        }
        environment = frozenset(name.upper() for name, value in os.environ.items() if value)
        dotenv = frozenset(name.upper() for name, value in _dotenv().items() if value)
        known = {name for several in names.values() for name in several} | _OTHERS
        for found, where in ((environment, "the environment"), (dotenv, ".env")):
            _refuse_slips(found, known, where)
        return cls(names, frozenset(given), environment, dotenv)

    def with_file(self, file: str, paths: dict[str, str]) -> Self:
        """Add what `database.yaml` has: for each setting, the path of its key."""
        return replace(self, file=file, paths=paths)

    def rank(self, setting: str) -> int:
        """Tell the place of a setting; less is stronger."""
        if setting in self.arguments:
            return 0
        for rank, found in enumerate((self.environment, self.dotenv), 1):
            if not found.isdisjoint(self.names[setting]):
                return rank
        return 3 if setting in self.paths else 4

    def first(self, one: str, other: str) -> bool:
        """Tell whether one setting is at least as strong as another."""
        return self.rank(one) <= self.rank(other)

    def field(self, location: str) -> str:
        """Give the setting that pydantic means, which may name it by its variable."""
        return next((n for n, names in self.names.items() if location in (n, *names)), location)

    def named(self, setting: str) -> str:
        """Call a setting what its place calls it."""
        rank = self.rank(setting)
        if rank in (1, 2):
            found = (self.environment, self.dotenv)[rank - 1]
            name = next(name for name in self.names[setting] if name in found)
            return name if rank == 1 else f"{name} in .env"
        return f"{self.paths[setting]} in {self.file}," if rank == 3 else setting


def variables() -> dict[str, str]:
    """Give the environment's variables, and behind them those of `.env`."""
    return {name: value for name, value in _dotenv().items() if value is not None} | dict(
        os.environ
    )


def _dotenv() -> dict[str, str | None]:
    try:
        _refuse_unreadable_lines()
        return dotenv_values(".env")
    except UnicodeDecodeError:
        raise ConfigError("the file .env here is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"the file .env here cannot be read: {error.strerror}") from None


def _refuse_unreadable_lines() -> None:
    """Refuse a line that is meant for us and would be passed over; others' lines are theirs."""
    if not os.path.isfile(".env"):
        return
    with open(".env", encoding="utf-8") as file:
        for line in parse_stream(file):
            name = _OURS.search(line.original.string) if line.error else None
            if name:
                raise ConfigError(
                    f"line {line.original.line} of the file .env here, with {name[0]}, cannot be "
                    "read; write NAME=value, and close a quote that you open"
                )


def _alias(info: Any) -> str | None:
    alias = info.validation_alias
    return alias if isinstance(alias, str) else None


def _refuse_slips(found: frozenset[str], known: set[str], where: str) -> None:
    ours = {name.removeprefix(_PREFIX): name for name in known if name.startswith(_PREFIX)}
    for name in sorted(found - known):
        if name.startswith(_PREFIX):
            near = difflib.get_close_matches(name.removeprefix(_PREFIX), ours, 1, 0.85)
            if near:
                raise ConfigError(
                    f"{name} in {where} is no setting of ngdata; did you mean {ours[near[0]]}?"
                )
