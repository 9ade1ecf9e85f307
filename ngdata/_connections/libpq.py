"""Opens connections of libpq, in ADBC, and explains what only libpq refuses."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Final

import adbc_driver_manager as adbc

from ngdata._config.driver_arguments import RECENT_PARAMETERS, SENT_BY_LIBPQ
from ngdata._config.postgres_url import without_password
from ngdata._config.url import URL
from ngdata._connections.adbc_connection import AdbcConnection
from ngdata.errors import ConfigError

__all__ = ["connect_libpq"]

_UNKNOWN: Final = re.compile(r'invalid URI query parameter: "(\w+)"')


def connect_libpq(uri: str) -> AdbcConnection:
    """Open a connection, which commits each statement.

    Parameters
    ----------
    uri : str
        From `ngdata._config.driver_arguments.libpq_url`.

    Raises
    ------
    ConfigError
        The environment has a variable that libpq always uses, with a value that cannot be used.
    """
    while True:
        try:
            return AdbcConnection(uri)
        except adbc.Error as error:
            unknown = _UNKNOWN.search(str(error))
            if unknown is None or unknown[1] not in RECENT_PARAMETERS:
                raise _explained(error, uri) from None
            uri = _without_parameter(uri, unknown[1])


def _without_parameter(uri: str, name: str) -> str:
    parts = URL.parse(uri)
    return str(replace(parts, query={k: v for k, v in parts.query.items() if k != name}))


def _explained(error: Exception, uri: str) -> Exception:
    text = str(error).split("failed: ")[-1].strip()
    for variable, marks in SENT_BY_LIBPQ.items():
        if os.environ.get(variable) and any(mark in text for mark in marks):
            return ConfigError(
                f"{without_password(uri)} cannot be reached, because {variable} in the environment "
                f"cannot be used ({text}); correct it, or unset it: ngdata does not need it"
            )
    return error
