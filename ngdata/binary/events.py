"""Event records, 128 bytes each: to a frame, from a frame, and on to the store."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from ngdata._store import columns as column
from ngdata._store.input_frames import Frame, incoming
from ngdata.binary import fields
from ngdata.binary import ids as uuids
from ngdata.binary.layout import EVENT, Records, as_records, check
from ngdata.errors import InvalidQueryError

__all__ = ["decode_events", "encode_events", "event_rows"]

_REWARDS: Final = ("homeostasis", "curiosity", "efficiency", "goal")
_VECTORS: Final = ("state", "action")
_NUMBERS: Final = ("step", "version_hash", "sequence")
_MOST: Final = 2**32 - 1
_LAST_MICROSECOND: Final = 2**63 - 1


def decode_events(data: Records) -> pd.DataFrame:
    """Make a frame of event records, a row per record.

    Parameters
    ----------
    data : bytes-like, numpy.ndarray, or iterable of bytes
        Records end to end, an array of `EVENT`, or a record per item.

    Returns
    -------
    pandas.DataFrame
        ``event_id`` (str: the UUID whose number is the record's, of which the record has the least
        byte first), ``timestamp`` (datetime64[us, UTC]), ``trajectory_id`` (str, made of the
        episode), ``step`` (int64, in the episode), ``type``, ``flags`` (int32), ``state``,
        ``action`` (float64 arrays of 8), ``homeostasis``, ``curiosity``, ``efficiency``, ``goal``
        (float64), ``reward`` (float64, their sum), ``version_hash``, ``sequence`` (int64).

    Raises
    ------
    InvalidQueryError
        A part of a record at the end, a number that is NaN or infinite, or a time beyond the
        year 9999; the record is named.

    Examples
    --------
    >>> from ngdata.binary import EVENT, decode_events
    >>> frame = decode_events(np.ones(1, EVENT).tobytes())
    >>> frame[["timestamp", "step", "reward"]].values.tolist()
    [[Timestamp('1970-01-01 00:00:00.000001+0000', tz='UTC'), 1, 4.0]]
    """
    records = as_records(data, EVENT)
    check(records)
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
    """Make event records of a frame, as `decode_events` gives it.

    Numbers are rounded to float32; a column that is not there is 0.

    Parameters
    ----------
    frame : pandas.DataFrame, Arrow or Polars table, or mapping of columns
        ``event_id, timestamp``; optional all other columns that `decode_events` gives, of which
        ``reward`` has no place of its own, and must be the sum of the four.

    Returns
    -------
    numpy.ndarray
        Of `EVENT`; ``tobytes()`` gives the bytes, ``tofile(path)`` writes them.

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
    taken = incoming(frame, ("event_id", "timestamp"), optional)
    records = np.zeros(len(taken), EVENT)
    records["id"] = uuids.from_text(taken.event_id, "event_id")[:, ::-1]
    records["timestamp"] = fields.micros(taken, "timestamp", 1, _LAST_MICROSECOND)
    if "trajectory_id" in taken:
        records["episode"] = uuids.episodes(taken.trajectory_id, "trajectory_id")
    for name in _NUMBERS:
        records[name] = fields.whole(taken, name, _MOST)
    records["type"] = fields.whole(taken, "type", 2**16 - 1)
    records["flags"] = fields.flags(taken, 16)
    for name in _VECTORS:
        records[name] = fields.float32s(taken, name, 8)
    for name in _REWARDS:
        records[name] = fields.float32(taken, name)
    if "reward" in taken:
        _check_total(taken, records)
    return records


def _check_total(taken: pd.DataFrame, records: np.ndarray) -> None:
    given = column.floats(taken.reward, "reward", 0.0)
    total = _total({name: records[name].astype(np.float64) for name in _REWARDS})
    # As exact as a float32 is: the four may have been rounded to it here.
    size = sum(np.abs(records[name].astype(np.float64)) for name in _REWARDS)
    other = np.abs(given - total) > size * 2.0**-23
    if other.any():
        row = int(other.argmax())
        raise InvalidQueryError(
            f"reward in row {row} is {given[row]:g}, but {', '.join(_REWARDS)} make {total[row]:g};"
            " a record holds these four: change one of them, and leave out reward"
        )


def event_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Make of what `decode_events` gives the frame that ``experience.bulk_create`` takes.

    The type is ``type_0`` to ``type_65535``, the step in the episode the sequence number, and the
    state is that before the event: the one in which the action was taken, which earned the reward.
    States and actions are ``{"values": [...]}``; all else is in the metadata.

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
