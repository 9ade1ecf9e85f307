"""Checks of arguments that no object of a caller can break; `shown` is that of the errors."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from ngdata.errors import MAX_SHOWN, InvalidQueryError, NGDataError, OutOfResources, shown

__all__ = ["MAX_SHOWN", "guarded", "is_instance", "own_error", "shown"]

P = ParamSpec("P")
T = TypeVar("T")


def own_error(error: Exception) -> NGDataError | None:
    """Return the error of ngdata that an exception is, or stands for; None for all others.

    Examples
    --------
    >>> from ngdata._arguments.shown import own_error
    >>> type(own_error(MemoryError())).__name__, own_error(KeyError("x"))
    ('OutOfResources', None)
    """
    if isinstance(error, MemoryError):
        return OutOfResources.of_memory(error)
    return error if isinstance(error, NGDataError) else None


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
        except Exception as error:
            if (own := own_error(error)) is not None:
                raise own from None
            passed = signature.bind(value, *args, **options)
            passed.apply_defaults()
            raise InvalidQueryError(
                f"{passed.arguments['name']} must be a plain value, but {shown(value)} raises "
                f"{shown(error)}"
            ) from None

    return guarded_check


@guarded
def is_instance(value: Any, kind: type, name: str) -> bool:
    """Return whether an argument is of a type, whatever its attribute ``__class__`` does.

    Examples
    --------
    >>> from ngdata._arguments.shown import is_instance
    >>> is_instance(1, int, "k")
    True
    """
    return isinstance(value, kind)
