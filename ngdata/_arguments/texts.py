"""Texts and words as arguments, as `str` itself: a subclass may compare in its own way."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.suggestions import did_you_mean
from ngdata.errors import InvalidQueryError

__all__ = [
    "STR",
    "as_path",
    "as_text",
    "as_texts",
    "checked_word",
    "columns_text",
    "is_text_type",
    "plain_text",
    "text_column",
    "with_text_dtype",
]

WordT = TypeVar("WordT", bound=str)


def _text_dtype() -> pd.StringDtype[Literal["pyarrow"]]:
    try:
        return pd.StringDtype("pyarrow", na_value=np.nan)
    except TypeError:
        # The name that it has in pandas 2.2.
        same: Any = "pyarrow_numpy"
        return pd.StringDtype(same)


STR: Final = _text_dtype()
"""The dtype of text in frames: Arrow's, missing is NaN.  pandas 3 infers it too, and calls it `str`."""


def with_text_dtype(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column of objects that are text or missing as `STR`; any other as it is.

    Text that is not Unicode, such as half of a pair of surrogates, stays an object too.

    Examples
    --------
    >>> from ngdata._arguments.texts import with_text_dtype
    >>> with_text_dtype(pd.Series(["a", None], dtype=object)).isna().tolist()
    [False, True]
    """
    if values.dtype == object and pd.api.types.infer_dtype(values, skipna=True) == "string":
        with contextlib.suppress(UnicodeEncodeError):
            return values.astype(STR)
    return values


def text_column(values: pa.Array | pa.ChunkedArray) -> pd.Series[Any]:
    """Return text of Arrow as a column of `STR`."""
    column: pd.Series[Any] = values.to_pandas(types_mapper=lambda _: STR)
    return column


def is_text_type(kind: pa.DataType) -> bool:
    """Return whether a type of Arrow is text that `STR` can hold as it is."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def columns_text(names: Sequence[str]) -> str:
    """Return how an error names columns.

    Examples
    --------
    >>> from ngdata._arguments.texts import columns_text
    >>> columns_text(["x"]), columns_text(["x", "y"])
    ('column x', 'columns x, y')
    """
    return f"column{'s' if len(names) > 1 else ''} {', '.join(names)}"


def plain_text(value: object) -> str | None:
    """Return text as `str`, also that of a subclass such as `numpy.str_`; None for anything else.

    Examples
    --------
    >>> from ngdata._arguments.texts import plain_text
    >>> plain_text(np.str_("motor")), plain_text(b"motor")
    ('motor', None)
    """
    return str.__str__(value) if isinstance(value, str) else None


@guarded
def as_path(path: Any, name: str) -> str:
    """Check an argument that must be the path of a file, as text.

    Examples
    --------
    >>> from ngdata._arguments.texts import as_path
    >>> as_path(b"cells.csv", "path")
    'cells.csv'
    """
    try:
        return os.fsdecode(path)
    except TypeError:
        raise InvalidQueryError(f"{name} must be the path of a file, not {shown(path)}") from None


@guarded
def as_text(value: Any, name: str) -> str:
    """Check an argument that must be text which PostgreSQL can store: no NUL, no half surrogates."""
    text = plain_text(value)
    if text is None:
        raise InvalidQueryError(f"{name} must be text, not {shown(value)}")
    if "\0" in text:
        raise InvalidQueryError(f"{name} must be text without NUL, not {shown(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidQueryError(f"{name} must be valid Unicode, not {shown(text)}") from None
    return text


@guarded
def as_texts(value: Any, name: str) -> tuple[str, ...]:
    """Check an argument that must be text, or a sequence of texts; return them as a tuple.

    A table or a mapping is refused: iterating over it would yield the names of its columns.

    Parameters
    ----------
    value : str or iterable of str
        A list, set, array, Series, Index, or a column of Arrow or Polars.
    name : str
        The argument's name, for the error.

    Examples
    --------
    >>> from ngdata._arguments.texts import as_texts
    >>> as_texts("neuron", "token_type"), as_texts(np.array(["a", "b"]), "token_type")
    (('neuron',), ('a', 'b'))
    """
    if isinstance(value, str):
        return (as_text(value, name),)
    is_table = isinstance(value, pd.DataFrame | Mapping | pa.Table) or hasattr(value, "columns")
    if is_table or isinstance(value, bytes) or not isinstance(value, Iterable):
        raise InvalidQueryError(f"{name} must be text or a sequence of texts, not {shown(value)}")
    # Iterating over an Arrow array yields scalars, not text.
    items = value.to_pylist() if isinstance(value, pa.Array | pa.ChunkedArray) else value
    texts = []
    for item in items:
        if not isinstance(item, str):
            raise InvalidQueryError(
                f"{name} must be text or a sequence of texts, not {shown(value)}"
            )
        texts.append(as_text(item, name))
    return tuple(texts)


@guarded
def checked_word(value: Any, allowed: Sequence[WordT], name: str) -> WordT:
    """Check an argument that must be one of at least two words.

    Parameters
    ----------
    value : object
    allowed : sequence of str
    name : str
        The argument's name, for the error.

    Examples
    --------
    >>> from ngdata._arguments.texts import checked_word
    >>> checked_word("any", ("both", "any"), "ends")
    'any'
    """
    text = plain_text(value)
    for word in allowed:
        if word == text:
            return word
    words = ", ".join(map(repr, allowed[:-1]))
    raise InvalidQueryError(
        f"{name} must be {words} or {allowed[-1]!r}, not {shown(value)}{did_you_mean(text, allowed)}"
    )
