"""Token records, 64 bytes each: decoded to a frame, encoded from one, and as rows of the store."""

from __future__ import annotations

import contextlib
from operator import attrgetter
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike

from ngdata._store.input_frames import Frame, as_dataframe
from ngdata._store.tokens import check_coords
from ngdata._store.value_types import TokenUuid, first_true
from ngdata.binary import fields
from ngdata.binary import ids as uuids
from ngdata.binary.coordinates import Dialect, decode_coordinates, encode_coordinates
from ngdata.binary.flags import entity_types
from ngdata.binary.record_layout import TOKEN, Records, as_records, check_records
from ngdata.errors import InvalidQueryError

__all__ = ["decode_tokens", "encode_tokens", "has_conflicting_type", "token_rows"]

_LOCAL_BITS: Final = 24
_ENTITY_BITS: Final = 4
_RADIUS_SCALE: Final = 100
_STRENGTH_SCALE: Final = 255
_SECOND: Final = 1_000_000

_ID_PARTS: Final = ("local_id", "entity_type", "domain")
_COLUMNS: Final = (
    "token_id",
    *_ID_PARTS,
    "token_type",
    "weight",
    "flags",
    "timestamp",
    "field_radius",
    "field_strength",
    "coords",
    "binary_data",
)
# If the frame has all of these, nothing of `binary_data` is used.
_ENCODED: Final = ("local_id", "weight", "flags", "timestamp", "field_radius", "field_strength")
_STORE_COLUMNS: Final = ["token_id", "weight", "flags", "timestamp", "binary_data"]


def decode_tokens(data: Records, *, dialect: Dialect = "python") -> pd.DataFrame:
    """Return token records as a frame, a row per record.

    Parameters
    ----------
    data : bytes-like, numpy.ndarray, or iterable of bytes
        Records end to end, an array of `TOKEN`, or a record per item, as in ``binary_data``.
    dialect : {"python", "rust"}
        The writer: ``python`` marks an undefined level by 127 on its axes and has the temporal z in
        thousandths; ``rust`` has no mark, only zeros, and has that z in hundredths.

    Returns
    -------
    pandas.DataFrame
        ``token_id`` (str, the `token_ids` of the record's id), ``local_id``,
        ``entity_type``, ``domain`` (int32: bits 0-23, 24-27 and 28-31 of that id), ``weight``
        (float64), ``flags`` (int32, all 16 bits), ``timestamp`` (datetime64[us, UTC]),
        ``field_radius``, ``field_strength`` (float64), ``coords`` (float64 arrays of shape
        (8, 3), NaN where undefined) and ``binary_data`` (the record itself).

    Raises
    ------
    InvalidQueryError
        An incomplete record at the end, or a weight that is NaN or infinite; the record is named.

    Examples
    --------
    >>> from ngdata.binary import TOKEN, decode_tokens
    >>> records = np.zeros(1, TOKEN)
    >>> records["coordinates"][0, 0] = 150, 200, -50
    >>> records["id"] = 0x21000007
    >>> frame = decode_tokens(records.tobytes())
    >>> frame[["local_id", "entity_type", "domain"]].values.tolist()
    [[7, 1, 2]]
    >>> frame.coords[0][0].tolist()
    [1.5, 2.0, -0.5]
    """
    records = as_records(data, TOKEN)
    check_records(records)
    numbers = records["id"]
    points = decode_coordinates(records["coordinates"], dialect)
    return pd.DataFrame(
        {
            "token_id": uuids.token_ids(numbers),
            "local_id": (numbers & 0xFFFFFF).astype(np.int32),
            "entity_type": (numbers >> _LOCAL_BITS & 0xF).astype(np.int32),
            "domain": (numbers >> _LOCAL_BITS + _ENTITY_BITS).astype(np.int32),
            "weight": records["weight"].astype(np.float64),
            "flags": records["flags"].astype(np.int32),
            "timestamp": fields.as_times(records["timestamp"].astype(np.int64) * _SECOND),
            "field_radius": records["field_radius"] / _RADIUS_SCALE,
            "field_strength": records["field_strength"] / _STRENGTH_SCALE,
            "coords": fields.objects(points, len(records)),
            "binary_data": np.ascontiguousarray(records).view(f"V{TOKEN.itemsize}").astype(object),
        }
    )


def encode_tokens(
    frame: Frame, coords: ArrayLike | None = None, *, dialect: Dialect = "python"
) -> np.ndarray:
    """Return a frame as `decode_tokens` or ``tokens.get`` returns it, as token records.

    A record is less precise than a token: coordinates are rounded to the steps of their level (by at
    most half a step of 0.01, 0.001 or 0.0001), the weight to float32, the time down to the second,
    the field's radius to hundredths and its strength to 255ths.  The frame's columns have
    precedence; the fields of a missing column are copied from ``binary_data``, if the frame has it.

    Parameters
    ----------
    frame : pandas.DataFrame, Arrow or Polars table, or mapping of columns
        ``local_id`` with ``entity_type`` and ``domain``, or a ``token_id`` of `token_ids`; and as
        `decode_tokens` returns them, ``weight`` (1.0), ``flags``, ``timestamp`` (the epoch),
        ``field_radius``, ``field_strength``, ``coords``, ``binary_data``.  A ``token_type`` is not
        part of a record, and is ignored.
    coords : array_like of shape (n, 8, 3), optional
        Instead of the column; faster.
    dialect : {"python", "rust"}
        The reader.  ``rust`` has no mark for undefined levels: zeros are written.

    Returns
    -------
    numpy.ndarray
        Of `TOKEN`; ``tobytes()`` returns the bytes, ``tofile(path)`` writes them.

    Raises
    ------
    InvalidQueryError
        A value that a record cannot hold, with its row: a coordinate beyond 16 bits at its
        level's scale, flags beyond 16 bits, a time before 1970 or after 2106, an id that is not
        the id of a record; or a point that would read back as undefined.

    Examples
    --------
    >>> from ngdata.binary import encode_tokens
    >>> point = np.full((1, 8, 3), np.nan)
    >>> point[0, 0] = 1.5, 2, -0.5
    >>> encode_tokens({"local_id": [7]}, point)["coordinates"][0, :2].tolist()
    [[150, 200, -50], [127, 127, 127]]
    """
    tokens = as_dataframe(frame, (), _COLUMNS)
    records = _base_records(tokens)
    records["coordinates"] = encode_coordinates(_points(tokens, coords), dialect)
    records["id"] = _record_numbers(tokens, records["id"])
    columns = set(tokens.columns) if "binary_data" in tokens else set(_COLUMNS)
    if "weight" in columns:
        records["weight"] = fields.float32(tokens, "weight", 1.0)
    if "flags" in columns:
        records["flags"] = fields.flags(tokens, 16)
    if "timestamp" in columns:
        records["timestamp"] = fields.times(tokens, "timestamp", _SECOND, 2**32 - 1)
    if "field_radius" in columns:
        records["field_radius"] = fields.scaled(tokens, "field_radius", _RADIUS_SCALE)
    if "field_strength" in columns:
        records["field_strength"] = fields.scaled(tokens, "field_strength", _STRENGTH_SCALE)
    return records


def _base_records(tokens: pd.DataFrame) -> np.ndarray:
    """Return the records in `binary_data`, and empty ones where there are none."""
    records = np.zeros(len(tokens), TOKEN)
    records["weight"] = 1.0
    if "binary_data" in tokens and tokens.columns.isin(_ENCODED).sum() != len(_ENCODED):
        present = tokens.binary_data.notna().to_numpy()
        records[present] = as_records(tokens.binary_data[present], TOKEN)
    return records


def _points(tokens: pd.DataFrame, coords: ArrayLike | None) -> np.ndarray:
    if coords is None and "coords" not in tokens:
        raise InvalidQueryError("the frame lacks the column coords, and coords= is not given")
    points = _stack(tokens.coords) if coords is None else coords
    if (
        type(points) is np.ndarray
        and points.dtype == np.float64
        and points.shape == (len(tokens), 8, 3)
    ):
        return points  # checked when it is scaled
    return check_coords(points, len(tokens))


def _stack(coords: pd.Series[Any]) -> Any:
    items = coords.tolist()
    if not items:
        return np.empty((0, 8, 3))
    with contextlib.suppress(AttributeError, TypeError):
        if {*map(attrgetter("shape"), items)} == {(8, 3)}:
            return np.concatenate(items, dtype=np.float64).reshape(-1, 8, 3)
    return [item.tolist() if isinstance(item, np.ndarray) else item for item in items]


def _record_numbers(tokens: pd.DataFrame, base: np.ndarray) -> np.ndarray:
    """Return the 32-bit ids: of their parts, of the token's id, or of the base record."""
    numbers = _numbers_of_parts(tokens) if any(part in tokens for part in _ID_PARTS) else None
    if "token_id" in tokens:
        if numbers is None and "binary_data" not in tokens:
            return uuids.token_numbers(tokens.token_id, "token_id")
        raw = uuids.from_text(tokens.token_id, "token_id", TokenUuid())
        of_record = uuids.is_token_id(raw)
        by_id = uuids.low_32(raw)
        if numbers is None:
            return np.where(of_record, by_id, base)
        row = first_true(of_record & (by_id != numbers))
        if row is not None:
            raise InvalidQueryError(
                f"token_id in row {row} is that of record id {by_id[row]:#x}, but local_id, "
                f"entity_type and domain there make {numbers[row]:#x}; leave out the outdated one"
            )
    if numbers is None and "binary_data" not in tokens:
        raise InvalidQueryError("the frame lacks ids; give the column token_id or local_id")
    return base if numbers is None else numbers


def _numbers_of_parts(tokens: pd.DataFrame) -> np.ndarray:
    if "local_id" not in tokens:
        raise InvalidQueryError("the frame lacks the column local_id")
    entity_type = fields.integers(tokens, "entity_type", 15)
    domain = fields.integers(tokens, "domain", 15)
    local_id = fields.integers(tokens, "local_id", 2**_LOCAL_BITS - 1)
    numbers: np.ndarray = (
        local_id | entity_type << _LOCAL_BITS | domain << _LOCAL_BITS + _ENTITY_BITS
    )
    return numbers


def token_rows(frame: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a frame of `decode_tokens` as the two arguments of ``tokens.bulk_create``.

    The type is ``entity_1`` to ``entity_15``, from the record's id, or from bits 8 to 11 of its
    flags where the id has 0; where both are 0, it is ``default``.  Radius and strength stay in
    ``binary_data``.

    Parameters
    ----------
    frame : pandas.DataFrame

    Returns
    -------
    frame : pandas.DataFrame
        ``token_id, token_type, weight, flags, timestamp, binary_data``.
    coords : numpy.ndarray
        Of shape (n, 8, 3).

    Examples
    --------
    >>> from ngdata.binary import TOKEN, decode_tokens, token_rows
    >>> frame, coords = token_rows(decode_tokens(np.zeros(1, TOKEN)))
    >>> made = ng.tokens.bulk_create(frame, coords=coords)
    >>> made.tolist()
    ['ddd9c407-67f9-8000-8000-000000000000']
    >>> ng.tokens.delete(made)
    1
    """
    fields.require(frame, "frame", [*_STORE_COLUMNS, "entity_type", "coords"])
    by_id = frame.entity_type.to_numpy()
    kinds = np.where(by_id == 0, entity_types(frame["flags"].to_numpy()), by_id)
    names = pa.array(["default", *(f"entity_{kind}" for kind in range(1, 16))], pa.large_string())
    rows = frame[_STORE_COLUMNS].copy()
    rows.insert(1, "token_type", names.take(pa.array(kinds)).to_pandas().to_numpy())
    return rows, _stack(frame.coords)


def has_conflicting_type(records: np.ndarray) -> np.ndarray:
    """Return, for each record, whether its flags have another entity type than its id."""
    by_id, by_flags = records["id"] >> _LOCAL_BITS & 0xF, entity_types(records["flags"])
    conflicting: np.ndarray = (by_id != by_flags) & (by_id != 0) & (by_flags != 0)
    return conflicting
