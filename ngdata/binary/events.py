"""Event records, 128 bytes each: decoded to a frame, encoded from one, and as rows of the store."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from ngdata._store.input_frames import Frame, as_dataframe
from ngdata._store.value_types import Number, first_true
from ngdata.binary import fields
from ngdata.binary import ids as uuids
from ngdata.binary.record_layout import EVENT, Records, as_records, check_records
from ngdata.errors import InvalidQueryError

__all__ = ["decode_events", "encode_events", "event_rows"]

_REWARDS: Final = ("homeostasis", "curiosity", "efficiency", "goal")
_VECTORS: Final = ("state", "action")
_NUMBERS: Final = ("step", "version_hash", "sequence")
_MAX_UINT32: Final = 2**32 - 1
_LAST_MICROSECOND: Final = 2**63 - 1


# What `event_rows` uses.
_COLUMNS: Final = (
    *("event_id", "timestamp", "trajectory_id", "step", "type", "flags", *_VECTORS, *_REWARDS),
    *("reward", "version_hash", "sequence"),
)


def decode_events(data: Records) -> pd.DataFrame:
    """Return event records as a frame, a row per record.

    Parameters
    ----------
    data : bytes-like, numpy.ndarray, or iterable of bytes
        Records end to end, an array of `EVENT`, or a record per item.

    Returns
    -------
    pandas.DataFrame
        ``event_id`` (str: the record's 128-bit number, stored little-endian, as a UUID),
        ``timestamp`` (datetime64[us, UTC]), ``trajectory_id`` (str, derived from the episode), ``step`` (int64, in the episode), ``type``, ``flags`` (int32), ``state``,
        ``action`` (float64 arrays of 8), ``homeostasis``, ``curiosity``, ``efficiency``, ``goal``
        (float64), ``reward`` (float64, their sum), ``version_hash``, ``sequence`` (int64).

    Raises
    ------
    InvalidQueryError
        An incomplete record at the end, a number that is NaN or infinite, or a time beyond the
        year 9999; the record is named.

    Examples
    --------
    >>> from ngdata.binary import EVENT, decode_events
    >>> frame = decode_events(np.ones(1, EVENT).tobytes())
    >>> frame[["timestamp", "step", "reward"]].values.tolist()
    [[Timestamp('1970-01-01 00:00:00.000001+0000', tz='UTC'), 1, 4.0]]
    """
    records = as_records(data, EVENT)
    check_records(records)
    rewards = {name: records[name].astype(np.float64) for name in _REWARDS}
    return pd.DataFrame(
        {
            "event_id": uuids.as_text(records["id"][:, ::-1]),
            "timestamp": fields.as_times(records["timestamp"]),
            "trajectory_id": uuids.episode_ids(records["episode"]),
            "step": records["step"].astype(np.int64),
            "type": records["type"].astype(np.int32),
            "flags": records["flags"].astype(np.int32),
            **{
                name: fields.objects(records[name].astype(np.float64), len(records))
                for name in _VECTORS
            },
            **rewards,
            "reward": _total(rewards),
            "version_hash": records["version_hash"].astype(np.int64),
            "sequence": records["sequence"].astype(np.int64),
        }
    )


def _total(rewards: dict[str, np.ndarray]) -> np.ndarray:
    first, second, third, fourth = (rewards[name] for name in _REWARDS)
    total: np.ndarray = first + second + third + fourth
    return total


def encode_events(frame: Frame) -> np.ndarray:
    """Return a frame as `decode_events` returns it, as event records.

    Numbers are rounded to float32; a missing column is 0.

    Parameters
    ----------
    frame : pandas.DataFrame, Arrow or Polars table, or mapping of columns
        ``event_id, timestamp``; optional all other columns of `decode_events`, of which
        ``reward`` is not part of a record and must be the sum of the four.

    Returns
    -------
    numpy.ndarray
        Of `EVENT`; ``tobytes()`` returns the bytes, ``tofile(path)`` writes them.

    Raises
    ------
    InvalidQueryError
        A value that a record cannot hold, with its row.

    Examples
    --------
    >>> from ngdata.binary import encode_events
    >>> events = {"event_id": ["00000000-0000-0000-0000-0000000000ff"], "timestamp": [1]}
    >>> encode_events(events)[["id", "timestamp"]].tobytes().hex()[:2]
    'ff'
    """
    optional = ("trajectory_id", *_NUMBERS, "type", "flags", *_VECTORS, *_REWARDS, "reward")
    events = as_dataframe(frame, ("event_id", "timestamp"), optional)
    records = np.zeros(len(events), EVENT)
    records["id"] = uuids.from_text(events.event_id, "event_id")[:, ::-1]
    records["timestamp"] = fields.times(events, "timestamp", 1, _LAST_MICROSECOND)
    if "trajectory_id" in events:
        records["episode"] = uuids.episodes(events.trajectory_id, "trajectory_id")
    for name in _NUMBERS:
        records[name] = fields.integers(events, name, _MAX_UINT32)
    records["type"] = fields.integers(events, "type", 2**16 - 1)
    records["flags"] = fields.flags(events, 16)
    for name in _VECTORS:
        records[name] = fields.float32s(events, name, 8)
    for name in _REWARDS:
        records[name] = fields.float32(events, name)
    if "reward" in events:
        _check_total(events, records)
    return records


def _check_total(events: pd.DataFrame, records: np.ndarray) -> None:
    reward = Number().check_column(events.reward, "reward", 0.0).to_numpy()
    total = _total({name: records[name].astype(np.float64) for name in _REWARDS})
    # To the precision of float32, to which the four may have been rounded here.
    size = sum(np.abs(records[name].astype(np.float64)) for name in _REWARDS)
    row = first_true(np.abs(reward - total) > size * 2.0**-23)
    if row is not None:
        raise InvalidQueryError(
            f"reward in row {row} is {reward[row]:g}, but {', '.join(_REWARDS)} make {total[row]:g};"
            " a record holds these four: change one of them, and leave out reward"
        )


def event_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of `decode_events` as the frame that ``experience.bulk_create`` writes.

    The type is ``type_0`` to ``type_65535``, and the step in the episode is the sequence number.  The
    state is the state before the event, in which the action that earned the reward was chosen.
    States and actions are ``{"values": [...]}``; all other fields are in the metadata.

    Parameters
    ----------
    frame : pandas.DataFrame

    Returns
    -------
    pandas.DataFrame
        ``event_id, event_type, timestamp, trajectory_id, sequence_number, state_before, action,
        reward, metadata``.

    Examples
    --------
    >>> from ngdata.binary import EVENT, decode_events, event_rows
    >>> rows = event_rows(decode_events(np.ones(1, EVENT).tobytes()))
    >>> rows.action[0]
    {'values': [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]}
    """
    fields.require(frame, "frame", _COLUMNS)
    count = len(frame)
    described = frame[["flags", *_REWARDS, "version_hash", "sequence"]].to_dict("records")
    return pd.DataFrame(
        {
            "event_id": frame.event_id.array,
            "event_type": [f"type_{kind}" for kind in frame.type],
            "timestamp": frame.timestamp.array,
            "trajectory_id": frame.trajectory_id.array,
            "sequence_number": frame.step.array,
            "state_before": fields.objects(({"values": v.tolist()} for v in frame.state), count),
            "action": fields.objects(({"values": v.tolist()} for v in frame.action), count),
            "reward": frame.reward.array,
            "metadata": fields.objects(described, count),
        }
    )
