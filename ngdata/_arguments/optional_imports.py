"""Libraries that only some clients or methods need: imported when they are first used."""

from __future__ import annotations

import importlib
import os
import threading
from typing import Any

from ngdata.errors import ConfigError

__all__ = ["import_optional"]

# A fork waits for the import of another thread: the child would find the module half imported, and
# wait forever for that thread, which it does not have.
_importing = threading.RLock()
os.register_at_fork(
    before=_importing.acquire,
    after_in_parent=_importing.release,
    after_in_child=_importing.release,
)


def import_optional(name: str, feature: str, extra: str | None) -> Any:
    """Return a module of a library that not every process needs.

    In a coroutine, run it on a daemon thread, where an interrupt does not end it halfway.

    Parameters
    ----------
    name : str
        The module.
    feature : str
        The method or part that needs it, for the error.
    extra : str or None
        The extra of ngdata that installs it, for the error; None: every installation has it.

    Raises
    ------
    ConfigError
        It cannot be imported: it is not installed, or something that it needs is not.

    Examples
    --------
    >>> from ngdata._arguments.optional_imports import import_optional
    >>> import_optional("scipy.sparse", "to_scipy", "graph").__name__
    'scipy.sparse'
    """
    try:
        with _importing:
            return importlib.import_module(name)
    except ImportError as error:
        library = name.partition(".")[0]
        remedy = "reinstall ngdata" if extra is None else f"pip install 'ngdata[{extra}]'"
        raise ConfigError(
            f"{feature} needs {library}, which cannot be imported ({error}): {remedy}"
        ) from error
