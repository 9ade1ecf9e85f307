"""The types of values that the store writes: what each accepts, as one value or as a whole column.

`ValueType.check` is the rule for one value.  `ValueType.check_column` applies the same rule to a
column of a frame: at once where pandas' dtype allows it, else value by value.  Errors name the
value, and the row in which it stands.  Nothing here depends on a table or a server;
`ngdata._store.fields` assigns the types to the tables' columns.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any, ClassVar, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ngdata._arguments.id_space import UUIDS, IdSpace
from ngdata._arguments.ids import CANONICAL, canonical_id, canonical_ids, id_text
from ngdata._arguments.integer_ids import float_to_name, integer_column, not_a_number, uuid_bytes
from ngdata._arguments.json_text import JsonError, json_text
from ngdata._arguments.numbers import as_float, as_integer, is_number
from ngdata._arguments.points import MAX_COORDINATE
from ngdata._arguments.shown import own_error, shown
from ngdata._arguments.times import as_utc, check_epoch_unit, is_missing
from ngdata._store.row_names import row_name
from ngdata.errors import InvalidQueryError

__all__ = [
    "Boolean",
    "Bytes",
    "Coordinates",
    "Integer",
    "JsonObject",
    "Number",
    "Text",
    "Time",
    "TokenUuid",
    "Uuid",
    "ValueType",
    "first_true",
    "invalid_value",
]


def invalid_value(name: str, row: int | None, value: object, requirement: str) -> InvalidQueryError:
    """Return the error for a value that does not meet a requirement; without a row, for a single one."""
    return InvalidQueryError(f"{name}{_in_row(row)} must be {requirement}, not {shown(value)}")


def _in_row(row: int | None) -> str:
    return "" if row is None else f" in {row_name(row)}"


def first_true(mask: np.ndarray) -> int | None:
    """Return the index of the first True, or None if there is none."""
    return int(mask.argmax()) if mask.any() else None


class ValueType(ABC):
    """A type of values.

    Attributes
    ----------
    sql : str
        The PostgreSQL type as which `bound` values are bound, with a cast where they are text.
    arrow : pyarrow.DataType
        The type of a checked column.
    """

    sql: str
    arrow: ClassVar[pa.DataType]

    def check(self, value: Any, name: str, row: int | None = None) -> Any:
        """Return one value in the form that is written, or raise `InvalidQueryError`.

        Also if a method of the value's own class raises something else.
        """
        try:
            return self._value(value, name, row)
        except Exception as error:
            raise own_error(error) or InvalidQueryError(
                f"{name}{_in_row(row)} must be a plain value, but {shown(value)} raises "
                f"{shown(error)}"
            ) from None

    @abstractmethod
    def _value(self, value: Any, name: str, row: int | None) -> Any:
        """Return one value in the form that is written, or raise `InvalidQueryError`."""

    def to_attribute(self, checked: Any) -> Any:
        """Return a checked value as an entity holds it."""
        return checked

    def bound(self, checked: Any) -> Any:
        """Return a checked value as it is bound to a parameter of type `sql`; None is NULL."""
        return checked

    def is_missing(self, value: Any) -> bool:
        """Return whether a value means "not given": None, NaN or NaT."""
        return _is_na(value)

    def check_column(
        self, values: pd.Series[Any], name: str, default: Any = None, *, required: bool = False
    ) -> pa.Array:
        """Return a column in the form that is written.

        Parameters
        ----------
        values : pandas.Series
        name : str
            The column's name, for errors.
        default : optional
            What a missing value becomes; null by default.
        required : bool
            Whether a missing value is an error.

        Raises
        ------
        InvalidQueryError
            The first bad value, with its row.
        """
        try:
            return self._column(values, name, default, required)
        except Exception as failure:
            if (own := own_error(failure)) is not None:
                raise own from None
            try:
                return ValueType._column(self, values, name, default, required)
            except Exception as error:
                raise own_error(error) or _unreadable(values, name, error) from None

    def _column(self, values: pd.Series[Any], name: str, default: Any, required: bool) -> pa.Array:
        """Return a column in the form that is written, or raise `InvalidQueryError`."""
        return pa.array(self._check_each(values, name, default, required), self.arrow)

    def _check_each(
        self, values: pd.Series[Any], name: str, default: Any, required: bool = False
    ) -> list[Any]:
        missing = _missing(values)
        row = first_true(missing)
        if required and row is not None:
            raise invalid_value(name, row, values.iloc[row], "given")
        return [
            default if missing[row] else self.check(value, name, row)
            for row, value in enumerate(values.tolist())
        ]


def _unreadable(values: pd.Series[Any], name: str, error: Exception) -> InvalidQueryError:
    """Return the error for a column that cannot be read, with the first row that raises."""
    row = None
    for number in range(len(values)):
        try:
            values.iloc[number]
        except Exception as own:
            row, error = number, own
            break
    return InvalidQueryError(
        f"{name}{_in_row(row)} must be a plain value, but one of dtype {str(values.dtype)[:100]} "
        f"raises {shown(error)}"
    )


# The types of most values, which pandas need not be asked about.
_NEVER_MISSING: Final = frozenset({str, int, bool, dict, bytes, uuid.UUID, dt.datetime})


def _is_na(value: Any) -> bool:
    if value is None or type(value) in _NEVER_MISSING:
        return value is None
    try:
        return pd.api.types.is_scalar(value) and bool(pd.isna(value))
    except Exception:  # a signaling NaN of Decimal compares with nothing
        return False


def _missing(values: pd.Series[Any]) -> np.ndarray:
    """Return which values of a column are missing."""
    try:
        missing: np.ndarray = values.isna().to_numpy(np.bool_)
    except Exception:  # one of the values cannot be compared
        missing = np.fromiter(map(_is_na, values.tolist()), np.bool_, len(values))
    return missing


def _arrow_text(values: pd.Series[Any]) -> pa.Array | None:
    """Return the Arrow text that a column consists of, null where missing; None for other columns."""
    if not isinstance(values.dtype, pd.StringDtype) or values.dtype.storage == "python":
        return None
    text = pa.array(values)
    return text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text


class Uuid(ValueType):
    """Ids, as text or `uuid.UUID`; written as canonical text."""

    sql = "text::uuid"
    arrow = pa.string()

    def _value(self, value: Any, name: str, row: int | None) -> str:
        """Return one id as canonical text."""
        return canonical_id(value, f"{name}{_in_row(row)}")

    def to_attribute(self, checked: Any) -> uuid.UUID:
        """Return an id as a `uuid.UUID`."""
        return uuid.UUID(checked)

    def _column(self, values: pd.Series[Any], name: str, default: Any, required: bool) -> pa.Array:
        """Return a column of ids as canonical text."""
        text = _arrow_text(values)
        if (
            text is not None
            and not (required and text.null_count)
            and pc.all(pc.match_substring_regex(text, CANONICAL)).as_py() is not False
        ):
            return text
        if not _missing(values).any():
            try:
                return pa.array(self._canonical_ids(values, name), self.arrow)
            except InvalidQueryError:
                pass  # Raised again below, with the row.
        return super()._column(values, name, default, required)

    def _canonical_ids(self, values: pd.Series[Any], name: str) -> list[str]:
        """Return a column without missing values as canonical text, checked at once."""
        return canonical_ids(values, name)


@dataclass(frozen=True)
class TokenUuid(Uuid):
    """Ids of tokens: also integers, which are the UUIDs of their space.

    Attributes
    ----------
    space : IdSpace
    is_new : bool
        Whether they are ids of tokens to be created, which the client must be able to read.
    """

    space: IdSpace = UUIDS
    is_new: bool = False

    def _value(self, value: Any, name: str, row: int | None) -> str:
        """Return one token id as canonical text."""
        text = self.space.canonical_id(value, name, _in_row(row))
        if self.is_new and not self.space.is_own(text):
            raise InvalidQueryError(
                f"{name}{_in_row(row)} is {not_a_number(text, self.space.name)}; give an integer, or "
                'create the token with a client of ids="uuid"'
            )
        return text

    def _column(self, values: pd.Series[Any], name: str, default: Any, required: bool) -> pa.Array:
        """Return a column of token ids as canonical text."""
        numbers, are_missing = integer_column(values) or (None, None)
        if numbers is not None and not (required and are_missing is not None):
            texts = id_text(uuid_bytes(numbers, self.space.name), self.arrow)
            return texts if are_missing is None else pc.if_else(are_missing, None, texts)
        position = float_to_name(values)
        if position is not None:
            self._value(values.iloc[position], name, position)  # raises
        if self.is_new and self.space.as_integers:
            return ValueType._column(self, values, name, default, required)
        return super()._column(values, name, default, required)

    def _canonical_ids(self, values: pd.Series[Any], name: str) -> list[str]:
        return self.space.canonical_ids(values, name)


class Number(ValueType):
    """Finite numbers, written as float64; decimals and fractions too, but not text or True."""

    sql = "float8"
    arrow = pa.float64()

    def _value(self, value: Any, name: str, row: int | None) -> float:
        """Return one number as a float."""
        if not is_number(value):
            raise invalid_value(name, row, value, "a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        except ValueError:  # a signaling NaN of Decimal
            number = math.nan
        if math.isnan(number):
            raise InvalidQueryError(
                f"{name}{_in_row(row)} must be a number, not nan; leave it out for its default"
            )
        if math.isinf(number):
            raise invalid_value(name, row, value, "finite")
        return number

    def is_missing(self, value: Any) -> bool:
        """Return whether a value means "not given".

        In a column NaN does; a single value that is NaN was computed, and is a mistake.
        """
        if type(value) is float:
            return False
        return super().is_missing(value) and not isinstance(value, float | np.floating | Decimal)

    def _column(self, values: pd.Series[Any], name: str, default: Any, required: bool) -> pa.Array:
        """Return a column of numbers as float64."""
        numbers = self.to_numpy(values, name)
        row = first_true(np.isnan(numbers)) if required or default is not None else None
        if row is None:
            return pa.array(numbers, from_pandas=True)
        if required:
            raise invalid_value(name, row, values.iloc[row], "given")
        return pa.array(np.where(np.isnan(numbers), default, numbers))

    def to_numpy(self, values: pd.Series[Any], name: str) -> np.ndarray:
        """Return a column of numbers as a NumPy array, NaN where one is missing."""
        try:
            return self._numpy(values, name)
        except Exception as error:
            raise own_error(error) or _unreadable(values, name, error) from None

    def _numpy(self, values: pd.Series[Any], name: str) -> np.ndarray:
        if values.dtype.kind not in "iuf":
            return np.array(self._check_each(values, name, math.nan), np.float64)
        with np.errstate(over="ignore"):
            # A copy, since the caller may go on with the frame while its rows are sent.
            numbers: np.ndarray = values.to_numpy(np.float64, copy=True, na_value=np.nan)
        row = first_true(np.isinf(numbers))
        if row is not None:
            raise invalid_value(name, row, values.iloc[row], "finite")
        return numbers


@dataclass(frozen=True)
class Integer(ValueType):
    """Integers from `minimum` to `maximum`; whole floats too, as pandas writes a column with gaps."""

    minimum: int = -(2**63)
    maximum: int = 2**63 - 1
    sql: str = "int8"

    arrow = pa.int64()

    def _value(self, value: Any, name: str, row: int | None) -> int:
        """Return one integer."""
        if (
            isinstance(value, Decimal)
            or not is_number(value)
            or value != value // 1
            or not self.minimum <= value <= self.maximum
        ):
            requirement = f"an integer from {self.minimum} to {self.maximum}"
            raise invalid_value(name, row, value, requirement)
        return int(value)

    def _column(self, values: pd.Series[Any], name: str, default: Any, required: bool) -> pa.Array:
        """Return a column of integers as int64."""
        if values.dtype.kind in "iu" and isinstance(values.dtype, np.dtype):
            integers = values.to_numpy()
            if not ((integers < self.minimum) | (integers > self.maximum)).any():
                return pa.array(integers.astype(np.int64))
        return super()._column(values, name, default, required)


class Text(ValueType):
    """Text that PostgreSQL can store: valid Unicode, and no NUL."""

    sql = "text"
    arrow = pa.string()

    def _value(self, value: Any, name: str, row: int | None) -> str:
        """Return one text."""
        if not isinstance(value, str):
            raise invalid_value(name, row, value, "text")
        if "\0" in value or not _is_encodable(value):
            raise invalid_value(name, row, value, "valid Unicode without NUL")
        return str.__str__(value)

    def _column(self, values: pd.Series[Any], name: str, default: Any, required: bool) -> pa.Array:
        """Return a column of text."""
        text = _arrow_text(values)
        if (
            text is not None
            and not (required and text.null_count)
            and not pc.any(pc.match_substring(text, "\0")).as_py()
        ):
            return text if default is None else text.fill_null(default)
        return super()._column(values, name, default, required)


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class Boolean(ValueType):
    """True and False; not 0 and 1."""

    sql = "bool"
    arrow = pa.bool_()

    def _value(self, value: Any, name: str, row: int | None) -> bool:
        """Return one truth value."""
        if not isinstance(value, bool | np.bool_):
            raise invalid_value(name, row, value, "True or False")
        return bool(value)

    def _column(self, values: pd.Series[Any], name: str, default: Any, required: bool) -> pa.Array:
        """Return a column of truth values."""
        if values.dtype == np.bool_:
            return pa.array(values.to_numpy())
        return super()._column(values, name, default, required)


# The range of Python's datetime; PostgreSQL's and pandas' are wider.
_FIRST_TIME: Final = pd.Timestamp("0001-01-01", tz="UTC")
_LAST_TIME: Final = pd.Timestamp("9999-12-31 23:59:59.999999", tz="UTC")
# In microseconds: in pandas 2 a Timedelta is of nanoseconds, which most of these years are beyond.
_MICROSECOND: Final = pd.Timedelta(1, "us").as_unit("us")


class Time(ValueType):
    """Points in time with a zone, or whole milliseconds since the epoch; rounded down to a microsecond."""

    sql = "text::timestamptz"
    arrow = pa.timestamp("us", tz="UTC")

    def _value(self, value: Any, name: str, row: int | None) -> dt.datetime:
        """Return one time in UTC."""
        # The unit of a column's integers is checked for all of them at once.
        return as_utc(value, f"{name}{_in_row(row)}", check_unit=row is None)

    def bound(self, checked: Any) -> Any:
        """Return a time as text: asyncpg sends the first and the last of Python's as infinite."""
        return None if checked is None else checked.isoformat()

    def _column(self, values: pd.Series[Any], name: str, default: Any, required: bool) -> pa.Array:
        """Return a column of times in UTC."""
        if values.dtype.kind == "f":
            # pandas turns a column of integers with gaps into one of floats.
            floats = values.to_numpy(np.float64, na_value=np.nan).tolist()
            numbers = [int(v) if v == v // 1 else v for v in floats]
            values = pd.Series(numbers, dtype=object)
        if values.dtype.kind in "iuO":
            integers = [n for n in map(as_integer, values.tolist()) if n is not None]
            if integers:
                check_epoch_unit(name, min(integers), max(integers))
        if (
            isinstance(values.dtype, pd.DatetimeTZDtype)
            and values.dropna().between(_FIRST_TIME, _LAST_TIME).all()
            and not (required and values.isna().any())
        ):
            microseconds = values.dt.as_unit("us").dt.tz_convert("UTC")
            # pandas rounds towards zero, which is up before 1970.
            rounded_up = (microseconds > values).to_numpy()
            microseconds = microseconds.where(~rounded_up, microseconds - _MICROSECOND)
            times = microseconds if default is None else microseconds.fillna(default)
            return pa.array(times, self.arrow)
        if values.dtype.kind == "M":
            # Without a zone, the first value is enough for the error; those with one are too early,
            # too late or Arrow's.
            row = first_true(~_missing(values))
            if row is not None and getattr(values.iloc[row], "tzinfo", None) is None:
                raise InvalidQueryError(
                    f"{name} in {row_name(row)} must have a time zone, but is "
                    f"{str(values.iloc[row])[:50]}; if the column is in UTC, pass "
                    "pd.to_datetime(column, utc=True)"
                )
        return super()._column(values, name, default, required)


class JsonObject(ValueType):
    """Dicts, also with NumPy's numbers and arrays inside; written as JSON text."""

    sql = "text::jsonb"
    arrow = pa.string()

    def _value(self, value: Any, name: str, row: int | None) -> str:
        """Return one dict as JSON text."""
        if not isinstance(value, Mapping):
            raise invalid_value(name, row, value, "a dict")
        try:
            return json_text(value)
        except JsonError as error:
            raise InvalidQueryError(
                f"{name}{_in_row(row)} cannot be written as JSON: {name}{error.place} {error.problem}"
            ) from None

    def to_attribute(self, checked: Any) -> Any:
        """Return the dict that a read of the JSON text would return."""
        return json.loads(checked)


@dataclass(frozen=True)
class Bytes(ValueType):
    r"""Byte strings of one size; written as the text ``\x...`` that COPY reads."""

    size: int

    sql = "text::bytea"
    arrow = pa.string()

    def _value(self, value: Any, name: str, row: int | None) -> str:
        r"""Return one byte string as ``\x`` and hexadecimal digits."""
        content = bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""
        if len(content) != self.size:
            raise invalid_value(name, row, value, f"{self.size} bytes")
        return "\\x" + content.hex()

    def to_attribute(self, checked: Any) -> bytes:
        """Return the bytes."""
        return bytes.fromhex(checked[2:])


# They can be iterated, but not as eight numbers in order.
_NO_SEQUENCES: Final = (str, bytes, bytearray, memoryview, Mapping, Set)


class Coordinates(ValueType):
    """One axis of a token on its eight levels; None or NaN where the token is undefined."""

    sql = "text::float8[]"
    arrow = pa.list_(pa.float64(), 8)

    def _value(self, value: Any, name: str, row: int | None) -> list[float | None]:
        """Return eight floats, None where undefined."""
        is_sequence = isinstance(value, Iterable) and not isinstance(value, _NO_SEQUENCES)
        levels = list(islice(value, 9)) if is_sequence else []
        if len(levels) != 8:
            raise invalid_value(
                name, row, value, "eight numbers, one for each level, with None where undefined"
            )
        return [None if is_missing(level) else self._number(level, name, row) for level in levels]

    def bound(self, checked: Any) -> Any:
        """Return an array as text, whose floats read back the same.

        asyncpg would ask the server about arrays, on each new connection, before it can send one.
        """
        return f"{{{','.join('NULL' if level is None else repr(level) for level in checked)}}}"

    def _number(self, value: Any, name: str, row: int | None) -> float:
        number = as_float(value)
        if number is None or abs(number) > MAX_COORDINATE:
            requirement = f"a number of at most {MAX_COORDINATE:g} in size, or None"
            raise invalid_value(f"each of {name}", row, value, requirement)
        return number
