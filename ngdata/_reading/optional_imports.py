"""Libraries that only some methods need: imported when one is called, or asked for by name."""

from __future__ import annotations

import importlib
from typing import Any

from ngdata.errors import ConfigError

__all__ = ["optional"]


def optional(name: str, what: str) -> Any:
    """Import a library of the extra ``graph``.

    Parameters
    ----------
    name : str
        The module.
    what : str
        Who needs it, for the error.

    Raises
    ------
    ConfigError
        It is not installed.

    Examples
    --------
    >>> from ngdata._reading.optional_imports import optional
    >>> optional("scipy.sparse", "to_scipy").__name__
    'scipy.sparse'
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        library = name.partition(".")[0]
        if (error.name or "").partition(".")[0] != library:
            raise
        raise ConfigError(
            f"{what} needs {library}, which is not installed: pip install 'ngdata[graph]'"
        ) from None
