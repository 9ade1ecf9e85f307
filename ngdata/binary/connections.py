"""Connection records, 32 bytes each: decoded to a frame, encoded from one, and as rows of the store."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from ngdata._arguments.points import unmasked
from ngdata._arguments.shown import guarded, shown
from ngdata._store.input_frames import Frame, as_dataframe
from ngdata.binary import fields
from ngdata.binary import ids as uuids
from ngdata.binary.flags import CONNECTION_FLAGS
from ngdata.binary.record_layout import CONNECTION, Records, as_records, check_records
from ngdata.errors import InvalidQueryError

__all__ = ["connection_rows", "decode_connections", "encode_connections"]

_SECOND: Final = 1_000_000
_MAX_UINT32: Final = 2**32 - 1

_BYTES: Final = ("type", "rigidity", "active_levels")
_FLOATS: Final = ("pull_strength", "preferred_distance")
_TIMES: Final = ("created", "last_activation")
_ENDS: Final = ("source_id", "target_id")
_IN_METADATA: Final = (
    "rigidity",
    "active_levels",
    "flags",
    "activation_count",
    "preferred_distance",
)


def decode_connections(data: Records) -> pd.DataFrame:
    """Return connection records as a frame, a row per record.

    Parameters
    ----------
    data : bytes-like, numpy.ndarray, or iterable of bytes
        Records end to end, an array of `CONNECTION`, or a record per item.

    Returns
    -------
    pandas.DataFrame
        ``source_id``, ``target_id`` (str, the `token_ids` of the record's ends), ``type``, ``rigidity``, ``active_levels`` (a bit per level), ``flags`` (int32),
        ``activation_count`` (int64), ``pull_strength``, ``preferred_distance`` (float64),
        ``created``, ``last_activation`` (datetime64[us, UTC]).

    Raises
    ------
    InvalidQueryError
        An incomplete record at the end, or a number that is NaN or infinite; the record is named.

    Examples
    --------
    >>> from ngdata.binary import CONNECTION, decode_connections
    >>> frame = decode_connections(np.ones(1, CONNECTION).tobytes())
    >>> frame[["source_id", "type", "pull_strength"]].values.tolist()
    [['ddd9c407-67f9-8000-8000-000000000001', 1, 1.0]]
    """
    records = as_records(data, CONNECTION)
    check_records(records)
    columns = {
        "source_id": uuids.token_ids(records["source"]),
        "target_id": uuids.token_ids(records["target"]),
        **{name: records[name].astype(np.int32) for name in (*_BYTES, "flags")},
        "activation_count": records["activation_count"].astype(np.int64),
        **{name: records[name].astype(np.float64) for name in _FLOATS},
        **{name: fields.as_times(records[name].astype(np.int64) * _SECOND) for name in _TIMES},
    }
    return pd.DataFrame(columns)


def encode_connections(frame: Frame) -> np.ndarray:
    """Return a frame as `decode_connections` returns it, as connection records.

    Numbers are rounded to float32, times down to the second; a missing column is 0, and a missing
    time is the epoch.

    Parameters
    ----------
    frame : pandas.DataFrame, Arrow or Polars table, or mapping of columns
        ``source_id, target_id``, of `token_ids`; optional all other columns of
        `decode_connections`.

    Returns
    -------
    numpy.ndarray
        Of `CONNECTION`; ``tobytes()`` returns the bytes, ``tofile(path)`` writes them.

    Raises
    ------
    InvalidQueryError
        A value that a record cannot hold, with its row.

    Examples
    --------
    >>> from ngdata.binary import encode_connections, token_ids
    >>> ends = token_ids([1, 2])
    >>> encode_connections({"source_id": ends[:1], "target_id": ends[1:].array})["target"].tolist()
    [2]
    """
    optional = (*_BYTES, "flags", "activation_count", *_FLOATS, *_TIMES)
    connections = as_dataframe(frame, _ENDS, optional)
    records = np.zeros(len(connections), CONNECTION)
    for name in ("source", "target"):
        records[name] = uuids.token_numbers(connections[f"{name}_id"], f"{name}_id")
    for name in _BYTES:
        records[name] = fields.integers(connections, name, 255)
    records["flags"] = fields.flags(connections, 8)
    records["activation_count"] = fields.integers(connections, "activation_count", _MAX_UINT32)
    for name in _FLOATS:
        records[name] = fields.float32(connections, name)
    for name in _TIMES:
        records[name] = fields.times(connections, name, _SECOND, _MAX_UINT32)
    return records


@guarded
def _positions(numbers: Any, name: str, frame: pd.DataFrame) -> np.ndarray:
    positions = np.asarray(unmasked(numbers))
    if positions.dtype.kind not in "iu" or positions.shape != (len(frame),):
        raise InvalidQueryError(
            f"{name} must be an array of {len(frame)} integers, not {shown(numbers)}"
        )
    if (positions < 0).any():
        raise InvalidQueryError(f"{name} must be at least 0, not {shown(numbers)}")
    return positions


def connection_rows(frame: pd.DataFrame, numbers: np.ndarray | None = None) -> pd.DataFrame:
    """Return a frame of `decode_connections` as the frame that ``graph.bulk_create`` writes.

    The type is ``type_0`` to ``type_255``, the weight is the pull, and a connection with the flag
    ``bidirectional`` is bidirectional in the store; all other fields are in the metadata, times in
    seconds.  The id is derived from ends, type, time of creation and position in the file: the same
    file has the same ids.

    Parameters
    ----------
    frame : pandas.DataFrame
    numbers : numpy.ndarray, optional
        The positions in the file; by default from 0.

    Returns
    -------
    pandas.DataFrame
        ``connection_id, source_id, target_id, connection_type, weight, bidirectional, metadata``.

    Examples
    --------
    >>> from ngdata.binary import CONNECTION, connection_rows, decode_connections
    >>> rows = connection_rows(decode_connections(np.ones(1, CONNECTION).tobytes()))
    >>> rows[["connection_type", "weight", "bidirectional"]].values.tolist()
    [['type_1', 1.0, False]]
    """
    fields.require(frame, "frame", [*_ENDS, *_BYTES, "flags", "activation_count", *_FLOATS])
    records = encode_connections(frame)
    positions = np.arange(len(frame)) if numbers is None else _positions(numbers, "numbers", frame)
    metadata = frame[list(_IN_METADATA)].assign(
        created=records["created"].astype(np.int64),
        last_activation=records["last_activation"].astype(np.int64),
    )
    return pd.DataFrame(
        {
            "connection_id": uuids.connection_ids(records, positions).array,
            "source_id": frame.source_id.array,
            "target_id": frame.target_id.array,
            "connection_type": [f"type_{kind}" for kind in frame.type],
            "weight": frame.pull_strength.array,
            "bidirectional": frame["flags"].to_numpy() & CONNECTION_FLAGS["bidirectional"] != 0,
            "metadata": fields.objects(metadata.to_dict("records"), len(frame)),
        }
    )
