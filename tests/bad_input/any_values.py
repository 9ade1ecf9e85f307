"""Values that a caller may pass to any argument, and what may come of it."""

import asyncio
import collections
import datetime as dt
import enum
import inspect
import itertools
import numbers
import pathlib
import re
import time
import traceback
import uuid
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa

from ngdata._client.view.view import View
from ngdata.errors import ConfigError, InvalidQueryError, NGDataError

CANARY = "canary-of-a-password"
LONG = "x" * 100_000


class Refusal(RuntimeError):
    """What the methods of the objects below raise: nothing that ngdata knows."""


def _refuse(*_args, **_options):
    raise Refusal("a method of the caller's object")


_METHODS = [
    *(
        "__repr__",
        "__str__",
        "__eq__",
        "__ne__",
        "__lt__",
        "__le__",
        "__gt__",
        "__ge__",
        "__hash__",
    ),
    *("__bool__", "__len__", "__iter__", "__next__", "__contains__", "__getitem__", "__call__"),
    *("__int__", "__float__", "__index__", "__complex__", "__trunc__", "__floor__", "__round__"),
    *(
        "__add__",
        "__radd__",
        "__sub__",
        "__rsub__",
        "__mul__",
        "__mod__",
        "__floordiv__",
        "__neg__",
    ),
    *("__abs__", "__and__", "__or__", "__fspath__", "__array__", "__format__", "__bytes__"),
    *("__arrow_c_stream__", "__getattr__", "keys", "values", "items", "lower", "encode", "tolist"),
    *("utcoffset", "astimezone", "total_seconds", "to_pylist", "__copy__", "__reduce_ex__"),
]


def hostile(*bases, without=(), **members):
    """Return a class of which every method raises."""
    methods = {name: _refuse for name in _METHODS if name not in without}
    return type("Hostile", bases, methods | members)


class LyingText(str):
    """Text that says to equal everything, and to hash like nothing."""

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 1

    def __str__(self):
        return "something else"

    def lower(self):
        return "motor"


class LyingNumber(float):
    def __float__(self):
        return 1e300

    def __eq__(self, other):
        return True

    def __lt__(self, other):
        return False

    __le__ = __gt__ = __ge__ = __lt__
    __hash__ = float.__hash__


class Word(enum.StrEnum):
    motor = "motor"


class Number(enum.IntEnum):
    three = 3


class NoZone(dt.tzinfo):
    utcoffset = dst = tzname = _refuse


class HiddenClass:
    @property
    def __class__(self):
        raise Refusal("the class is hidden")


def _raising_generator():
    yield "a"
    raise Refusal("in the middle of an iteration")


def _nested():
    value = {}
    for _ in range(20_000):
        value = {"a": value}
    return value


def _own_item():
    value = []
    value.append(value)
    return value


_numeric = hostile()
numbers.Integral.register(_numeric)

# Made anew for each call, because some are used up by the first.
VALUES = {
    "None": lambda: None,
    "Ellipsis": lambda: ...,
    "True": lambda: True,
    "False": lambda: False,
    "0": lambda: 0,
    "-1": lambda: -1,
    "2**31": lambda: 2**31,
    "2**63": lambda: 2**63,
    "10**400": lambda: 10**400,
    "1.5": lambda: 1.5,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "1j": lambda: 1j,
    "Decimal": lambda: Decimal("0.1"),
    "Decimal nan": lambda: Decimal("nan"),
    "Decimal snan": lambda: Decimal("snan"),
    "Fraction": lambda: Fraction(1, 3),
    "float32": lambda: np.float32(0.1),
    "float16 nan": lambda: np.float16("nan"),
    "longdouble": lambda: np.longdouble(0.1),
    "int64": lambda: np.int64(3),
    "bool_": lambda: np.bool_(True),
    "str_": lambda: np.str_("motor"),
    "void": lambda: np.void(b"ab"),
    "timedelta64": lambda: np.timedelta64(5, "s"),
    "timedelta64 month": lambda: np.timedelta64(1, "M"),
    "timedelta64 NaT": lambda: np.timedelta64("NaT", "s"),
    "datetime64": lambda: np.datetime64("2024-01-01"),
    "datetime64 NaT": lambda: np.datetime64("NaT", "s"),
    "0-d array": lambda: np.array(5),
    "array": lambda: np.array([1.0, 2.0, 3.0]),
    "empty array": lambda: np.array([]),
    "8x3 array": lambda: np.zeros((8, 3)),
    "object array": lambda: np.array(["a", None, 1.5], object),
    "masked array": lambda: np.ma.array([1, 2, 3], mask=[0, 1, 0]),
    "record array": lambda: np.zeros(2, [("a", "i4"), ("b", "f8")]),
    "''": lambda: "",
    "text": lambda: "motor",
    "NUL": lambda: "a\0b",
    "surrogate": lambda: "\ud800",
    "braces": lambda: "{0.__class__} %s $1 \\ ' \" ; --",
    "long text": lambda: LONG,
    "bytes": lambda: b"motor",
    "64 bytes": lambda: bytes(64),
    "bytearray": lambda: bytearray(3),
    "memoryview": lambda: memoryview(b"abc"),
    "[]": list,
    "[None]": lambda: [None],
    "ragged": lambda: [[1, 2], [3], "a"],
    "tuple": lambda: (0, 0, 0),
    "list in itself": _own_item,
    "{}": dict,
    "dict": lambda: {"a": 1},
    "dict with a set": lambda: {"x": {1, 2}, "y": {3}, "z": {4}},
    "dict of other keys": lambda: {1: 2, "1": 3, None: 4, (1,): 5},
    "deep dict": _nested,
    "set": lambda: {1, 2},
    "frozenset": lambda: frozenset({"a"}),
    "range": lambda: range(10**12),
    "generator": _raising_generator,
    "no end": lambda: itertools.count(),
    "NA": lambda: pd.NA,
    "NaT": lambda: pd.NaT,
    "naive Timestamp": lambda: pd.Timestamp("2024-01-01"),
    "Timestamp": lambda: pd.Timestamp("2024-01-01", tz="UTC"),
    "Timestamp of 20000": lambda: pd.Timestamp(569e9, unit="s", tz="UTC"),
    "Period": lambda: pd.Period("2024-01", "M"),
    "Interval": lambda: pd.Interval(0, 1),
    "offset": lambda: pd.offsets.MonthEnd(),
    "datetime": lambda: dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    "datetime of a bad zone": lambda: dt.datetime(2024, 1, 1, tzinfo=NoZone()),
    "date": lambda: dt.date(2024, 1, 1),
    "time": lambda: dt.time(1),
    "timedelta": lambda: dt.timedelta.max,
    "seconds": lambda: 1_700_000_000,
    "Series": lambda: pd.Series([1.0, 2.0, 3.0]),
    "Series of NA": lambda: pd.Series([pd.NA, "a"], dtype="string"),
    "frame": lambda: pd.DataFrame({"x": [1.0], "motor": ["a"]}),
    "frame without columns": lambda: pd.DataFrame(index=[0]),
    "frame of two equal names": lambda: pd.DataFrame([[1, 2]], columns=["x", "x"]),
    "MultiIndex": lambda: pd.MultiIndex.from_tuples([(1, "a")]),
    "Categorical": lambda: pd.Categorical(["a", "b"]),
    "Arrow array": lambda: pa.array(["a", None]),
    "Arrow table": lambda: pa.table({"x": [1.0]}),
    "Arrow scalar": lambda: pa.scalar(1),
    "UUID": lambda: uuid.UUID(int=7),
    "StrEnum": lambda: Word.motor,
    "IntEnum": lambda: Number.three,
    "lying text": lambda: LyingText("lies"),
    "lying number": lambda: LyingNumber(0.5),
    "path": lambda: pathlib.Path("no/such/directory/file"),
    "object": lambda: object(),
    "class": lambda: int,
    "function": lambda: _refuse,
    "module": lambda: re,
    "error": lambda: ValueError("an error as a value"),
    "namedtuple": lambda: collections.namedtuple("Point", "x y z")(1, 2, 3),
    "hostile": hostile(),
    "hostile text": lambda: hostile(str)("motor"),
    "hostile number": _numeric,
    "hostile int": lambda: hostile(int)(3),
    "hostile float": lambda: hostile(float)(0.5),
    "hostile dict": lambda: hostile(dict)({"x": [1.0]}),
    "hostile list": lambda: hostile(list)([1, 2, 3]),
    "hostile tuple": lambda: hostile(tuple)((1, 2, 3)),
    "hostile mapping": hostile(collections.abc.Mapping),
    "hostile datetime": lambda: hostile(dt.datetime)(2024, 1, 1, tzinfo=dt.UTC),
    "hostile UUID": lambda: hostile(uuid.UUID, without=("__init__",))(int=7),
    "hidden class": HiddenClass,
}

# A few of them, one of each kind.
FEW = ("Decimal snan", "timedelta64", "NA", "frame", "long text", "dict with a set", "hostile")

# Python's own errors for a wrong keyword or a missing argument.
_OF_PYTHON = re.compile(
    r"unexpected keyword argument|missing \d+ required|positional argument|multiple values"
)

# Where an error names a part of the argument, or all of several arguments.
_OTHER_NAMES = {
    "columns": ("column",),
    "coords": ("level", "column"),
    "path": ("cannot be read",),
    **dict.fromkeys(("progress", "initial", "kind", "dialect", "on_bad"), ("cannot be read",)),
    "ng": ("ngdata.connect",),
    "ang": ("ngdata.connect_async",),
    "frame": ("column",),
    "within": ("min_coords", "max_coords", "level"),
    "id": ("trajectory", "snapshot"),
    "numbers": ("row",),
    "database_url": ("database URL",),
    "redis_url": ("Redis URL",),
    "entities": ("entity",),
    "state_before": (),
    "npartitions": ("rows_per_partition",),
    "rows_per_partition": ("npartitions",),
    "args": ("explain", "k ", "level", "point"),
    "data": ("record", "item", "bytes"),
}


def leak(name, call):
    """Return what is wrong about the outcome of a call with a bad `name`; None if nothing is."""
    try:
        call()
    except (NGDataError, TypeError) as error:
        shown = "".join(traceback.format_exception(error))
        if isinstance(error, TypeError) and not _OF_PYTHON.search(str(error)):
            return f"{type(error).__name__}: {str(error)[:200]}"
        if not isinstance(error, NGDataError):
            return None
        message = str(error)
        if len(message) > 2000 or "x" * 201 in message:
            return f"a message of {len(message)} characters: {message[:100]}"
        if CANARY in shown:
            return "the password is shown"
        if not message.replace("\n", " ").isprintable():
            return f"a message that cannot be printed: {message!r}"
        names = (name, *_OTHER_NAMES.get(name, ()))
        if isinstance(error, InvalidQueryError | ConfigError) and not any(
            part.lower() in message.lower() for part in names
        ):
            return f"{name} is not named: {message[:200]}"
    except Exception as error:
        return f"{type(error).__name__}: {traceback.format_exception_only(error)[-1][:200]}"
    return None


def called(method, arguments):
    """Call a method with arguments by name, and start what it returns if that is an iterator."""
    positional, options = [], dict(arguments)
    for parameter in inspect.signature(method).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            positional = [options.pop("read"), *options.pop(parameter.name, ())]
    result = method(*positional, **options)
    if inspect.isgenerator(result):
        next(result, None)
        result.close()
    if isinstance(result, View):
        # Its reads end in the background.
        result.close()
        while result._explorer._tasks:
            time.sleep(0.001)
    return result


async def awaited(method, arguments):
    """Call an async method likewise."""
    result = method(**arguments)
    if inspect.isasyncgen(result):
        await anext(result, None)
        await result.aclose()
    elif inspect.isawaitable(result):
        result = await result
    return result


def run(work):
    return asyncio.run(work)
