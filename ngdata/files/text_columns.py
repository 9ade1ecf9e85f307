"""Columns of text, as CSV has them, as columns of the types that a table needs.

The type of a known column decides what its text means.  A column without a type, which becomes
metadata, has the type that all of its values in the file have.  Text that cannot be read as its type
stays text, so that the check of the column refuses it and names its row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ngdata._store.row_names import row_name
from ngdata._store.value_types import (
    Boolean,
    Bytes,
    Integer,
    JsonObject,
    Number,
    Text,
    Time,
    TokenUuid,
    ValueType,
)
from ngdata.errors import InvalidQueryError

__all__ = ["TextTypes", "json_column", "typed_column"]

# How programs write a missing number or time.  In a column of text they are text: NA is a name too.
_MISSING: Final = pa.array(["", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "<NA>", "NaT"])

# Not 007, which is a name, and at most 18 digits, which int64 holds.
_INTEGER: Final = r"^-?(?:0|[1-9][0-9]{0,17})$"
# At most 15 digits before the point, so that a large id is never rounded.
_NUMBER: Final = r"^-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]*)?(?:[eE][-+]?[0-9]{1,2})?$"
_BOOLEAN: Final = r"^(?:true|false|True|False|TRUE|FALSE)$"

_ID: Final = r"^[0-9]{1,20}$"

# What the values of a column without a type may be, the narrowest first.
_GUESSES: Final[tuple[tuple[str, pa.DataType], ...]] = (
    (_INTEGER, pa.int64()),
    (_NUMBER, pa.float64()),
    (_BOOLEAN, pa.bool_()),
)


def typed_column(text: pa.Array, value_type: ValueType, name: str) -> pa.Array | list[Any]:
    """Return the values of a column of text, null where one is missing.

    Parameters
    ----------
    text : pyarrow.Array
        Of strings.
    value_type : ValueType
    name : str
        The column's name, for errors.

    Raises
    ------
    InvalidQueryError
        A dict that is not JSON, or bytes that are not hexadecimal; the error names the row.
    """
    if isinstance(value_type, Text):
        return text
    values = _without_missing(pc.utf8_trim_whitespace(text))
    match value_type:
        case TokenUuid():
            return _integers(values)
        case Number():
            return _cast(values, pa.float64())
        case Integer():
            return _cast(values, pa.int64(), pa.float64())
        case Boolean():
            return _cast(values, pa.bool_())
        case Time():
            return _cast(values, pa.int64(), pa.timestamp("us", tz="UTC"))
        case JsonObject():
            return json_column(values, name)
        case Bytes():
            return _each(values, name, _from_hex, "hexadecimal digits")
    return values


def json_column(text: pa.Array, name: str) -> list[Any]:
    """Return the objects of a column of JSON text; a number that JSON does not have is refused."""
    return _each(text, name, json.loads, 'a JSON object such as {"name": "AVA"}')


class TextTypes:
    """The types of columns of text, each the narrowest that all of its values have.

    Parameters
    ----------
    names : iterable of str
        The columns.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._guesses = dict.fromkeys(names, _GUESSES)

    def see(self, columns: Mapping[str, pa.Array]) -> None:
        """Leave out the types that these values do not have."""
        for name, guesses in self._guesses.items():
            values = _without_missing(columns[name])
            self._guesses[name] = tuple(guess for guess in guesses if _all_match(values, guess[0]))

    def typed(self, text: pa.Array, name: str) -> pa.Array:
        """Return a column as the type that the values of the whole file have."""
        guesses = self._guesses[name]
        return _without_missing(text).cast(guesses[0][1]) if guesses else text


def _without_missing(text: pa.Array) -> pa.Array:
    return pc.if_else(pc.is_in(text, value_set=_MISSING), None, text)


def _all_match(text: pa.Array, pattern: str) -> bool:
    # None if all are missing.
    return pc.all(pc.match_substring_regex(text, pattern)).as_py() is not False


def _cast(text: pa.Array, *types: pa.DataType) -> pa.Array | list[Any]:
    """Return the values as the first type that fits all of them, or else each as what fits it."""
    for value_type in types:
        try:
            return text.cast(value_type)
        except pa.ArrowInvalid:
            continue
    return [_cast_one(value, types) for value in text]


def _cast_one(text: pa.Scalar, types: tuple[pa.DataType, ...]) -> Any:
    for value_type in types:
        try:
            return text.cast(value_type).as_py()
        except pa.ArrowInvalid:
            continue
    return text.as_py()


def _integers(text: pa.Array) -> pa.Array | list[Any]:
    """Return ids as integers where they are; 32 digits are those of a UUID."""
    if _all_match(text, _ID):
        return _cast(text, pa.uint64())
    values: list[str | None] = text.to_pylist()
    return [int(value) if value and re.match(_ID, value) else value for value in values]


def _each(text: pa.Array, name: str, convert: Callable[[str], Any], requirement: str) -> list[Any]:
    values: list[Any] = []
    for row, value in enumerate(text.to_pylist()):
        try:
            values.append(None if value is None else convert(value))
        except (ValueError, RecursionError):
            raise InvalidQueryError(
                f"{name} in {row_name(row)} must be {requirement}, not {value[:100]!r}"
            ) from None
    return values


def _from_hex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("\\x"))
