"""Values in errors: shown safely and briefly; and checks that no object of a caller's can break."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import numpy as np

from ngdata.errors import InvalidQueryError, NGDataError

__all__ = ["MAX_SHOWN", "guarded", "listed", "shown"]

P = ParamSpec("P")
T = TypeVar("T")

MAX_SHOWN: Final = 200
"""The most characters of a value in an error."""

_MAX_LISTED: Final = 30


def shown(value: object) -> str:
    """Return the repr of a value for an error: one line, at most 200 characters, of any object.

    Examples
    --------
    >>> import numpy as np
    >>> from ngdata._arguments.shown import shown
    >>> shown(np.float32(0.1)), len(shown("long " * 1000))
    ('0.10000000149011612', 200)
    """
    if type(value) in (str, bytes):
        value = value[: MAX_SHOWN + 1]  # type: ignore[index]  # the rest would be cut anyway
    try:
        text = repr(value.item() if isinstance(value, np.generic) else value)
        # A repr of several lines is that of a frame or an array.
        text = " ".join(text.split()) if "\n" in text else text
        text = text.encode("utf-8", "backslashreplace").decode()
    except (ValueError, RecursionError, NotImplementedError):  # the last: a Timestamp of year 20000
        return f"a {type(value).__name__[:100]} too large to show"
    except Exception:  # whatever a method of the caller's object raises
        return f"a {type(value).__name__[:100]} that cannot be shown"
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def listed(names: Iterable[object]) -> str:
    """Return names for an error, separated by commas: the first 30, and "..." for the rest.

    Examples
    --------
    >>> from ngdata._arguments.shown import listed
    >>> listed(["x", "y"])
    'x, y'
    """
    some = list(islice(names, _MAX_LISTED + 1))
    texts = [text if len(text) <= 60 else text[:57] + "..." for text in map(str, some)]
    return ", ".join([*texts[:_MAX_LISTED], *(["..."] if len(some) > _MAX_LISTED else [])])


def guarded(check: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """Return a check of one argument that reports what the argument's own methods raise.

    Any object may be an argument, and its methods (``__eq__``, ``__float__``, ``__iter__``) may
    raise anything.  The check's first parameter is the value; another one must be called `name`.

    Examples
    --------
    >>> from ngdata._arguments.shown import guarded
    >>> @guarded
    ... def inverse(value: float, name: str) -> float:
    ...     return 1 / value
    >>> inverse(0, "k")
    Traceback (most recent call last):
    ngdata.errors.InvalidQueryError: k must be a plain value, but 0 raises \
ZeroDivisionError('division by zero')
    """
    signature = inspect.signature(check)

    @functools.wraps(check)
    def guarded_check(value: Any, /, *args: P.args, **options: P.kwargs) -> T:
        try:
            return check(value, *args, **options)
        except NGDataError:
            raise
        except Exception as error:
            passed = signature.bind(value, *args, **options)
            passed.apply_defaults()
            raise InvalidQueryError(
                f"{passed.arguments['name']} must be a plain value, but {shown(value)} raises "
                f"{shown(error)}"
            ) from None

    return guarded_check
