"""Connection records, 32 bytes each: to a frame, from a frame, and on to the store."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from ngdata._store.input_frames import Frame, incoming
from ngdata.binary import fields
from ngdata.binary import ids as uuids
from ngdata.binary.flags import CONNECTION_FLAGS
from ngdata.binary.layout import CONNECTION, Records, as_records, check

__all__ = ["connection_rows", "decode_connections", "encode_connections"]

_SECOND: Final = 1_000_000
_MOST: Final = 2**32 - 1

_BYTES: Final = ("type", "rigidity", "active_levels")
_FLOATS: Final = ("pull_strength", "preferred_distance")
_TIMES: Final = ("created", "last_activation")
_ENDS: Final = ("source_id", "target_id")
_DESCRIBED: Final = ("rigidity", "active_levels", "flags", "activation_count", "preferred_distance")


def decode_connections(data: Records) -> pd.DataFrame:
    """Make a frame of connection records, a row per record.

    Parameters
    ----------
    data : bytes-like, numpy.ndarray, or iterable of bytes
        Records end to end, an array of `CONNECTION`, or a record per item.

    Returns
    -------
    pandas.DataFrame
        ``source_id``, ``target_id`` (str, the token ids that `token_ids` makes of the record's
        ends), ``type``, ``rigidity``, ``active_levels`` (a bit per level), ``flags`` (int32),
        ``activation_count`` (int64), ``pull_strength``, ``preferred_distance`` (float64),
        ``created``, ``last_activation`` (datetime64[us, UTC]).

    Raises
    ------
    InvalidQueryError
        A part of a record at the end, or a number that is NaN or infinite; the record is named.

    Examples
    --------
    >>> from ngdata.binary import CONNECTION, decode_connections
    >>> frame = decode_connections(np.ones(1, CONNECTION).tobytes())
    >>> frame[["source_id", "type", "pull_strength"]].values.tolist()
    [['6e676461-7461-8000-8000-000000000001', 1, 1.0]]
    """
    records = as_records(data, CONNECTION)
    check(records)
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
    """Make connection records of a frame, as `decode_connections` gives it.

    Numbers are rounded to float32, times to the second before them; a column that is not there is
    0, a time that is not there the epoch.

    Parameters
    ----------
    frame : pandas.DataFrame, Arrow or Polars table, or mapping of columns
        ``source_id, target_id``, which `token_ids` made; optional all other columns that
        `decode_connections` gives.

    Returns
    -------
    numpy.ndarray
        Of `CONNECTION`; ``tobytes()`` gives the bytes, ``tofile(path)`` writes them.

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
    taken = incoming(frame, _ENDS, optional)
    records = np.zeros(len(taken), CONNECTION)
    for name in ("source", "target"):
        records[name] = uuids.token_numbers(taken[f"{name}_id"], f"{name}_id")
    for name in _BYTES:
        records[name] = fields.whole(taken, name, 255)
    records["flags"] = fields.flags(taken, 8)
    records["activation_count"] = fields.whole(taken, "activation_count", _MOST)
    for name in _FLOATS:
        records[name] = fields.float32(taken, name)
    for name in _TIMES:
        records[name] = fields.micros(taken, name, _SECOND, _MOST)
    return records


def connection_rows(frame: pd.DataFrame, numbers: np.ndarray | None = None) -> pd.DataFrame:
    """Make of what `decode_connections` gives the frame that ``graph.bulk_create`` takes.

    The type is ``type_0`` to ``type_255``, the weight the pull, and a connection with the flag
    ``bidirectional`` is so in the store; all else is in the metadata, times in seconds.  The id
    follows from ends, type, time of creation and place: the same file has the same ids.

    Parameters
    ----------
    frame : pandas.DataFrame
    numbers : numpy.ndarray, optional
        The places in the file; by default from 0.

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
    records = encode_connections(frame)
    places = np.arange(len(frame)) if numbers is None else numbers
    described = frame[list(_DESCRIBED)].assign(
        created=records["created"].astype(np.int64),
        last_activation=records["last_activation"].astype(np.int64),
    )
    return pd.DataFrame(
        {
            "connection_id": uuids.connection_ids(records, places).array,
            "source_id": frame.source_id.array,
            "target_id": frame.target_id.array,
            "connection_type": [f"type_{kind}" for kind in frame.type],
            "weight": frame.pull_strength.array,
            "bidirectional": frame["flags"].to_numpy() & CONNECTION_FLAGS["bidirectional"] != 0,
            "metadata": fields.objects(described.to_dict("records"), len(frame)),
        }
    )
