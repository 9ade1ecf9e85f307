"""The making of a Dask frame: bounds and version are read, the partitions only when it is computed.

Dask is imported when the first frame is made.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ngdata._connections.database import Database
from ngdata._connections.threads import in_daemon_thread, uninterrupted
from ngdata._query.model import Column, Kind, Query
from ngdata._query.partitions import Split, head
from ngdata._reading.dask_frames.access import OWN, Access
from ngdata._reading.dask_frames.connections import opened
from ngdata._reading.dask_frames.tasks import Part, PartitionReader, read_with_version
from ngdata._reading.optional_imports import import_optional
from ngdata._reading.reader import DatabaseReader, Reader
from ngdata.errors import ConfigError

if TYPE_CHECKING:
    import dask.dataframe

__all__ = ["DaskFrame", "dask_frame"]

DaskFrame: TypeAlias = "dask.dataframe.DataFrame"

_MAY_ASK: Final = Query(
    "SELECT has_table_privilege('tokens.versions', 'SELECT') AS may",
    (Column("may", Kind.BOOLEAN),),
    (),
)


async def dask_frame(
    reader: Reader, database: Database, split: Split, name: str, consistent: bool, url: str | None
) -> DaskFrame:
    """Make the frame of a read that is cut into parts.

    Parameters
    ----------
    reader, database
        The client's own.
    split : Split
    name : str
        What Dask's displays call the tasks.
    consistent : bool
        Whether the parts must be of one version.
    url : str or None
        Where the workers read: where the client does (None), there, or where ``"environment"`` of
        each says.
    """
    dask_dataframe = await in_daemon_thread(
        lambda: import_optional("dask.dataframe", "to_dask", "dask")
    )
    dask_config = import_optional("dask.config", "to_dask", "dask")
    # Before all other reads, for `explain` to take.
    empty = await reader.frame(head(split.whole), "off")
    empty.attrs.clear()
    access = Access.of(database.settings, url)
    if url is None or url == OWN:
        bounds, version = await _read_bounds(reader, split.bounds)
    else:
        other = await opened(access)
        try:
            bounds, version = await _read_bounds(DatabaseReader(other), split.bounds)
        finally:
            await uninterrupted(other.close())
    if consistent and version is None:
        raise ConfigError(
            "consistent=True needs the versions of the store, which are not to be had: this user "
            "may not read tokens.versions, sees rows by a policy, or rows arrive by a subscription "
            "that renews no version; leave consistent out, or connect as a user who may"
        )
    read = PartitionReader(access, uuid.uuid4().hex, version, consistent, empty.columns[0])
    cut = split.parts(bounds)
    parts = [Part(rows, number, len(cut)) for number, rows in enumerate(cut)]
    # Dask would make text of all objects, dicts too; ids have pandas' own type of text already.
    with dask_config.set({"dataframe.convert-string": False}):
        frame: DaskFrame = dask_dataframe.from_map(
            read, parts, meta=empty, label=f"ngdata-{name}"
        )
    return frame


async def _read_bounds(reader: Reader, bounds: Query) -> tuple[list[dict[Any, Any]], str | None]:
    answer, _ = await reader.answer(_MAY_ASK, "off")
    frame, version = await read_with_version(reader, bounds, answer.table[0][0].as_py())
    return frame.to_dict("records"), version
