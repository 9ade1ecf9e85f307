"""Planning a Dask frame: bounds and version are read now, the partitions when it is computed.

Dask is imported when the first frame is planned.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ngdata._arguments.numbers import as_flag
from ngdata._arguments.optional_imports import import_optional
from ngdata._connections.database import Database
from ngdata._connections.opening import open_database
from ngdata._connections.threads import in_daemon_thread
from ngdata._query import untracked
from ngdata._query.model import Column, Kind, Query
from ngdata._query.partitions import Split, head, with_json_as_text
from ngdata._reading.dask_frames.access import Access
from ngdata._reading.dask_frames.tasks import Partition, PartitionReader, read_with_version
from ngdata._reading.reader import DatabaseReader, Reader
from ngdata.errors import ConfigError

if TYPE_CHECKING:
    import dask.dataframe

__all__ = ["DaskFrame", "dask_frame"]

DaskFrame: TypeAlias = "dask.dataframe.DataFrame"

_MAY_READ_VERSIONS: Final = Query(
    "SELECT has_table_privilege('tokens.versions', 'SELECT') AS may_read",
    (Column("may_read", Kind.BOOLEAN),),
    (),
)


async def dask_frame(
    reader: Reader, database: Database, split: Split, name: str, consistent: bool, url: str | None
) -> DaskFrame:
    """Return the Dask frame of a read that is split into partitions.

    Parameters
    ----------
    reader, database
        The client's own.
    split : Split
    name : str
        The name of the tasks in Dask's displays.
    consistent : bool
        Whether all partitions must be of one version.
    url : str or None
        The database that the workers read: the client's (None), this one, or the one that each
        worker's environment names (``"environment"``).
    """
    is_consistent = bool(as_flag(consistent, "consistent"))
    dask_dataframe = await in_daemon_thread(
        lambda: import_optional("dask.dataframe", "to_dask", "dask")
    )
    dask_config = import_optional("dask.config", "to_dask", "dask")
    # The first read, because `explain` shows the first read.
    empty = await reader.frame(with_json_as_text(head(split.whole)), "off")
    empty.attrs.clear()
    access = Access.of(database.settings, url)
    if url is None or access.settings is None:
        bounds, version = await _read_bounds(reader, split.bounds, is_consistent)
    else:
        async with open_database(access.resolved()) as other:
            bounds, version = await _read_bounds(
                DatabaseReader(other, pin=reader.pin), split.bounds, is_consistent
            )
    read = PartitionReader(
        access,
        uuid.uuid4().hex,
        version,
        is_consistent and reader.pin is None,
        empty.columns[0],
        reader.ids,
        reader.pin,
    )
    parts = split.parts(bounds)
    partitions = [Partition(rows, number, len(parts)) for number, rows in enumerate(parts)]
    # Dask would convert all objects, bytes too, to text; ids and JSON have pandas' own text dtype already.
    with dask_config.set({"dataframe.convert-string": False}):
        frame: DaskFrame = dask_dataframe.from_map(
            read, partitions, meta=empty, label=f"ngdata-{name}"
        )
    return frame


async def _read_bounds(
    reader: Reader, bounds: Query, is_consistent: bool
) -> tuple[list[dict[Any, Any]], str | None]:
    if reader.pin is not None:
        frame, _ = await read_with_version(reader, bounds, with_version=False)
        return frame.to_dict("records"), None
    answer, _ = await reader.answer(_MAY_READ_VERSIONS, "off")
    frame, version = await read_with_version(reader, bounds, answer.table[0][0].as_py())
    if is_consistent and version is None:
        raise await _without_version(reader, bounds.relations)
    return frame.to_dict("records"), version


async def _without_version(reader: Reader, relations: Sequence[str]) -> ConfigError:
    answer, _ = await reader.answer(untracked.causes(relations), "off")
    causes = answer.table[0].to_pylist() or ["tokens.versions lacks a row of one of them"]
    return ConfigError(
        f"consistent=True needs the versions of the store, and {', '.join(relations)} have none here: "
        f"{'; '.join(causes)}; or leave consistent out"
    )
