"""The binary records of NeuroGraph OS as frames: tokens of 64 bytes, connections of 32, events of 128.

Records are little-endian and packed; `TOKEN`, `CONNECTION` and `EVENT` are their NumPy dtypes, and
`as_records` returns bytes as arrays of them without a copy or a check.  ``decode_*`` returns records
as a frame, with a column per field in its own unit, and ``encode_*`` returns such a frame as records.
``*_rows`` converts that frame for a bulk write; `ngdata.binary.loading` does all of it for a file.

Examples
--------
>>> from ngdata.binary import decode_tokens, encode_tokens
>>> records = encode_tokens({"local_id": [7], "coords": [[(1.5, 2, 3)] + [(np.nan,) * 3] * 7]})
>>> len(records.tobytes())
64
>>> decode_tokens(records.tobytes()).coords[0][0].tolist()
[1.5, 2.0, 3.0]
"""

from ngdata.binary.connections import connection_rows, decode_connections, encode_connections
from ngdata.binary.coordinates import Dialect
from ngdata.binary.events import decode_events, encode_events, event_rows
from ngdata.binary.flags import CONNECTION_FLAGS, EVENT_FLAGS, TOKEN_FLAGS, flag_names
from ngdata.binary.ids import record_ids, token_ids
from ngdata.binary.record_layout import CONNECTION, EVENT, TOKEN, as_records
from ngdata.binary.tokens import decode_tokens, encode_tokens, token_rows

__all__ = [
    "CONNECTION",
    "CONNECTION_FLAGS",
    "EVENT",
    "EVENT_FLAGS",
    "TOKEN",
    "TOKEN_FLAGS",
    "Dialect",
    "as_records",
    "connection_rows",
    "decode_connections",
    "decode_events",
    "decode_tokens",
    "encode_connections",
    "encode_events",
    "encode_tokens",
    "event_rows",
    "flag_names",
    "record_ids",
    "token_ids",
    "token_rows",
]
