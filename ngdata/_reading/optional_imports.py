"""Libraries that only some methods need: imported when such a method is called."""

from __future__ import annotations

import importlib
from typing import Any

from ngdata.errors import ConfigError

__all__ = ["import_optional"]


def import_optional(name: str, feature: str, extra: str) -> Any:
    """Return a module of a library that is not one of ngdata's own requirements.

    Parameters
    ----------
    name : str
        The module.
    feature : str
        The method that needs it, for the error.
    extra : str
        The extra of ngdata that installs it, for the error.

    Raises
    ------
    ConfigError
        It cannot be imported: it is not installed, or something that it needs is not.

    Examples
    --------
    >>> from ngdata._reading.optional_imports import import_optional
    >>> import_optional("scipy.sparse", "to_scipy", "graph").__name__
    'scipy.sparse'
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        library = name.partition(".")[0]
        raise ConfigError(
            f"{feature} needs {library}, which cannot be imported ({error}): "
            f"pip install 'ngdata[{extra}]'"
        ) from error
