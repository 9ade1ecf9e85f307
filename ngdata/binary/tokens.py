"""Token records, 64 bytes each: to a frame, from a frame, and on to the store."""

from __future__ import annotations

import contextlib
from operator import attrgetter
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike

from ngdata._store.input_frames import Frame, incoming
from ngdata._store.tokens import as_coords
from ngdata.binary import fields
from ngdata.binary import ids as uuids
from ngdata.binary.coordinates import Dialect, to_points, to_raw
from ngdata.binary.flags import entity_types
from ngdata.binary.layout import TOKEN, Records, as_records, check
from ngdata.errors import InvalidQueryError

__all__ = ["contradicted", "decode_tokens", "encode_tokens", "token_rows"]

_LOCAL_BITS: Final = 24
_ENTITY_BITS: Final = 4
_RADIUS_SCALE: Final = 100
_STRENGTH_SCALE: Final = 255
_SECOND: Final = 1_000_000

_PARTS: Final = ("local_id", "entity_type", "domain")
_KNOWN: Final = (
    "token_id",
    *_PARTS,
    "token_type",
    "weight",
    "flags",
    "timestamp",
    "field_radius",
    "field_strength",
    "coords",
    "binary_data",
)
# With all of these, nothing is left to be taken from a record that is carried along.
_WHOLE: Final = ("local_id", "weight", "flags", "timestamp", "field_radius", "field_strength")
_STORED: Final = ["token_id", "weight", "flags", "timestamp", "binary_data"]


def decode_tokens(data: Records, *, dialect: Dialect = "python") -> pd.DataFrame:
    """Make a frame of token records, a row per record.

    Parameters
    ----------
    data : bytes-like, numpy.ndarray, or iterable of bytes
        Records end to end, an array of `TOKEN`, or a record per item: a column ``binary_data``.
    dialect : {"python", "rust"}
        Who wrote them: ``python`` marks an undefined level by 127 on its axes and has the temporal
        z in thousandths; ``rust`` has no mark, only zeros, and that z in hundredths.

    Returns
    -------
    pandas.DataFrame
        ``token_id`` (str, what `token_ids` makes of the record's id), ``local_id``,
        ``entity_type``, ``domain`` (int32: bits 0-23, 24-27 and 28-31 of that id), ``weight``
        (float64), ``flags`` (int32, all 16 bits), ``timestamp`` (datetime64[us, UTC]),
        ``field_radius``, ``field_strength`` (float64), ``coords`` (float64 arrays of shape
        (8, 3), NaN where undefined) and ``binary_data`` (the record itself).

    Raises
    ------
    InvalidQueryError
        A part of a record at the end, or a weight that is NaN or infinite; the record is named.

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
    check(records)
    return frame_of(records, dialect)


def frame_of(records: np.ndarray, dialect: str) -> pd.DataFrame:
    """Make the frame of records that were checked."""
    numbers = records["id"]
    points = to_points(records["coordinates"], dialect)
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
    """Make token records of a frame, as `decode_tokens` or ``tokens.get`` gives it.

    A record is smaller than a token: coordinates are rounded to the steps of their level (half a
    step of 0.01, 0.001 or 0.0001 is lost at most), the weight to float32, the time to the second
    before it, the field's radius to hundredths and its strength to 255ths.  What the frame holds
    counts; where it lacks a column, that field is taken from ``binary_data``, if it is there.

    Parameters
    ----------
    frame : pandas.DataFrame, Arrow or Polars table, or mapping of columns
        ``local_id`` with ``entity_type`` and ``domain``, or a ``token_id`` that was made of these;
        and as given by `decode_tokens`, ``weight`` (1.0), ``flags``, ``timestamp`` (the epoch),
        ``field_radius``, ``field_strength``, ``coords``, ``binary_data``.  A ``token_type`` has no
        place in a record, and is passed over.
    coords : array_like of shape (n, 8, 3), optional
        In place of the column; quicker.
    dialect : {"python", "rust"}
        Who is to read them.  ``rust`` has no mark for undefined levels: zeros are written.

    Returns
    -------
    numpy.ndarray
        Of `TOKEN`; ``tobytes()`` gives the bytes, ``tofile(path)`` writes them.

    Raises
    ------
    InvalidQueryError
        A value that a record cannot hold, with its row: a coordinate beyond 16 bits at its
        level's scale, flags beyond 16 bits, a time before 1970 or after 2106, an id that is not
        of a record; or a point that would read back as undefined.

    Examples
    --------
    >>> from ngdata.binary import encode_tokens
    >>> point = np.full((1, 8, 3), np.nan)
    >>> point[0, 0] = 1.5, 2, -0.5
    >>> encode_tokens({"local_id": [7]}, point)["coordinates"][0, :2].tolist()
    [[150, 200, -50], [127, 127, 127]]
    """
    taken = incoming(frame, (), _KNOWN)
    records = _carried(taken)
    records["coordinates"] = to_raw(_points(taken, coords), dialect)
    records["id"] = _numbers(taken, records["id"])
    given = set(taken.columns) if "binary_data" in taken else set(_KNOWN)
    if "weight" in given:
        records["weight"] = fields.float32(taken, "weight", 1.0)
    if "flags" in given:
        records["flags"] = fields.flags(taken, 16)
    if "timestamp" in given:
        records["timestamp"] = fields.micros(taken, "timestamp", _SECOND, 2**32 - 1)
    if "field_radius" in given:
        records["field_radius"] = fields.scaled(taken, "field_radius", _RADIUS_SCALE)
    if "field_strength" in given:
        records["field_strength"] = fields.scaled(taken, "field_strength", _STRENGTH_SCALE)
    return records


def _carried(taken: pd.DataFrame) -> np.ndarray:
    records = np.zeros(len(taken), TOKEN)
    records["weight"] = 1.0
    if "binary_data" in taken and taken.columns.isin(_WHOLE).sum() != len(_WHOLE):
        there = taken.binary_data.notna().to_numpy()
        records[there] = as_records(taken.binary_data[there], TOKEN)
    return records


def _points(taken: pd.DataFrame, coords: ArrayLike | None) -> np.ndarray:
    if coords is None and "coords" not in taken:
        raise InvalidQueryError("the frame lacks the column coords, and coords= is not given")
    points = _stacked(taken.coords) if coords is None else coords
    array = points if isinstance(points, np.ndarray) else np.empty(0)
    if array.dtype == np.float64 and array.shape == (len(taken), 8, 3):
        return array  # looked at when it is scaled
    return as_coords(points, len(taken))


def _stacked(coords: pd.Series[Any]) -> Any:
    items = coords.tolist()
    if not items:
        return np.empty((0, 8, 3))
    with contextlib.suppress(AttributeError, TypeError):
        if {*map(attrgetter("shape"), items)} == {(8, 3)}:
            return np.concatenate(items, dtype=np.float64).reshape(-1, 8, 3)
    return [item.tolist() if isinstance(item, np.ndarray) else item for item in items]


def _numbers(taken: pd.DataFrame, carried: np.ndarray) -> np.ndarray:
    """Find the 32-bit ids: by their parts, by the token's id, or in the record that is carried."""
    made = None
    if any(part in taken for part in _PARTS):
        if "local_id" not in taken:
            raise InvalidQueryError("the frame lacks the column local_id")
        entity_type, domain = (
            fields.whole(taken, "entity_type", 15),
            fields.whole(taken, "domain", 15),
        )
        made = fields.whole(taken, "local_id", 2**_LOCAL_BITS - 1)
        made = made | entity_type << _LOCAL_BITS | domain << _LOCAL_BITS + _ENTITY_BITS
    if "token_id" in taken:
        if made is None and "binary_data" not in taken:
            return uuids.token_numbers(taken.token_id, "token_id")
        raw = uuids.from_text(taken.token_id, "token_id")
        ours = uuids.is_token_id(raw)
        named = uuids.low_32(raw)
        if made is None:
            return np.where(ours, named, carried)
        other = ours & (named != made)
        if other.any():
            row = int(other.argmax())
            raise InvalidQueryError(
                f"token_id in row {row} is that of record id {named[row]:#x}, but local_id, "
                f"entity_type and domain there make {made[row]:#x}; leave out the one that is old"
            )
    if made is None and "binary_data" not in taken:
        raise InvalidQueryError("the frame lacks ids; give the column token_id or local_id")
    return carried if made is None else made


def token_rows(frame: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Make of what `decode_tokens` gives the two arguments that ``tokens.bulk_create`` takes.

    The type is ``entity_1`` to ``entity_15``, by the record's id, or by bits 8 to 11 of its flags
    where the id says 0; where both do, ``default``.  Radius and strength stay in ``binary_data``.

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
    ['6e676461-7461-8000-8000-000000000000']
    >>> ng.tokens.delete(made)
    1
    """
    by_id = frame.entity_type.to_numpy()
    kinds = np.where(by_id == 0, entity_types(frame["flags"].to_numpy()), by_id)
    names = pa.array(["default", *(f"entity_{kind}" for kind in range(1, 16))], pa.large_string())
    rows = frame[_STORED].copy()
    rows.insert(1, "token_type", names.take(pa.array(kinds)).to_pandas().to_numpy())
    return rows, _stacked(frame.coords)


def contradicted(records: np.ndarray) -> np.ndarray:
    """Tell which records name one entity type in their id and another in their flags."""
    by_id, by_flags = records["id"] >> _LOCAL_BITS & 0xF, entity_types(records["flags"])
    found: np.ndarray = (by_id != by_flags) & (by_id != 0) & (by_flags != 0)
    return found
