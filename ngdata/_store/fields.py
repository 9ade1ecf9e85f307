"""The field tables: for each kind of row, its fields, and the type, default and check of each.

A field is a column of the table, a column of the frames that are written to it, an argument of
`create` and `update`, and an attribute of the entity, all under one name.  To add a column, for
instance to events:

1. the model in `ngdata._store.models`, and a migration that adds the column;
2. its `Field` in `EVENTS` below: frames, single rows and entities are then checked by it;
3. the columns of the query, `COLUMNS` in `ngdata._query.events`, if reads return it;
4. the signatures of ``create_event`` (`ngdata._client.experience_writes`, `ngdata.repositories.experience`),
   if single events may be created with it.

``tests/store/test_fields.py`` compares the field tables with the models.
"""

from __future__ import annotations

import datetime as dt
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ngdata._arguments.id_space import UUIDS, IdSpace
from ngdata._arguments.ids import id_text
from ngdata._arguments.shown import guarded
from ngdata._store.row_names import row_names
from ngdata._store.value_types import (
    Boolean,
    Bytes,
    Coordinates,
    Integer,
    JsonObject,
    Number,
    Text,
    Time,
    TokenUuid,
    Uuid,
    ValueType,
    invalid_value,
)
from ngdata.errors import IntegrityError

__all__ = [
    "CONNECTIONS",
    "EVENTS",
    "RECORD_BYTES",
    "SNAPSHOTS",
    "TOKENS",
    "TRAJECTORIES",
    "Field",
    "FieldTable",
    "new_id",
    "new_ids",
    "now",
]

RECORD_BYTES: Final = 64


def now() -> dt.datetime:
    """Return the time: not the server's ``now()``, which is the same throughout a transaction."""
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class Field:
    """One field of a row.

    Attributes
    ----------
    name : str
        The name of the column, in the table and in frames, and of the argument.
    type : ValueType
    default : optional
        What a missing value becomes, or a function that returns it; NULL by default.
    required : bool
        Whether each row must have a value.
    in_frames : bool
        Whether frames and arguments have this field; if not, only entities do.
    """

    name: str
    type: ValueType
    default: Any = None
    required: bool = False
    in_frames: bool = True

    def check(self, value: Any) -> Any:
        """Return a single value in the form that is written, or the default if it is missing."""
        if value is None and not self.required:
            return self.default_value()
        return _checked(value, self.name, self)

    def check_column(self, values: pd.Series[Any]) -> pa.Array:
        """Return a frame's column in the form that is written, with the default for missing values."""
        return self.type.check_column(
            values, self.name, self.default_value(), required=self.required
        )

    def default_value(self) -> Any:
        """Return what a missing value becomes."""
        return self.default() if callable(self.default) else self.default


@dataclass(frozen=True)
class FieldTable:
    """The fields of one kind of row.

    Attributes
    ----------
    relation : str
        The table, as ``schema.table``.
    key : str
        The name, in frames and arguments, of the column ``id``, which is generated if not given.
    fields : tuple of Field
    key_type : ValueType
        The type of the column ``id``.
    """

    relation: str
    key: str
    fields: tuple[Field, ...]
    key_type: ValueType = field(default_factory=Uuid)
    _by_space: dict[IdSpace, FieldTable] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def within(self, ids: IdSpace) -> FieldTable:
        """Return the table with its token ids in a space."""
        if ids not in self._by_space:
            self._by_space[ids] = replace(
                self,
                fields=tuple(replace(f, type=_within(f.type, ids)) for f in self.fields),
                key_type=_within(self.key_type, ids),
            )
        return self._by_space[ids]

    def __getitem__(self, name: str) -> Field:
        return self._by_name[name]

    @property
    def noun(self) -> str:
        """What a row is, for errors."""
        return self.key.removesuffix("_id")

    @cached_property
    def _by_name(self) -> dict[str, Field]:
        return {field.name: field for field in self.fields}

    @cached_property
    def types(self) -> dict[str, ValueType]:
        """The types of all columns that are written, the id's too, by the table's names."""
        return {"id": self.key_type} | {field.name: field.type for field in self.fields}

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The names of the columns that a frame must have."""
        return tuple(field.name for field in self.fields if field.required and field.in_frames)

    @cached_property
    def optional(self) -> tuple[str, ...]:
        """The names of the columns that a frame may have."""
        optional = (field.name for field in self.fields if not field.required and field.in_frames)
        return (self.key, *optional)

    def check_frame(self, frame: pd.DataFrame, ids: IdSpace = UUIDS) -> dict[str, pa.Array]:
        """Check the columns of a frame that are fields, and return them by the table's names.

        Integers among its token ids are of the space `ids`.

        Raises
        ------
        InvalidQueryError
            The first bad value of the first bad column, with its row.
        IntegrityError
            An id that appears twice; both rows are named.
        """
        table = self.within(ids)
        key = _key_column(frame, table.key, table.key_type)
        return {"id": key, **table._check_columns(frame)}

    def check_changes(self, frame: pd.DataFrame, ids: IdSpace = UUIDS) -> dict[str, pa.Array]:
        """Check the columns of a frame that changes existing rows, as `check_frame` does.

        The key column must name a row in each row; a missing value in another column is its default.
        """
        table = self.within(ids)
        key = _ids_of_rows(frame[table.key], table.key, table.key_type, required=True)
        return {"id": key, **table._check_columns(frame)}

    def _check_columns(self, frame: pd.DataFrame) -> dict[str, pa.Array]:
        return {
            name: self[name].check_column(frame[name])
            for name in frame.columns
            if name in self._by_name
        }

    def check_row(self, values: Mapping[str, Any], ids: IdSpace = UUIDS) -> dict[str, Any]:
        """Check the values of a single row, and return all of its columns by the table's names.

        None stands for a missing value, and in the row for NULL.  Integers among its token ids are
        of the space `ids`.

        Raises
        ------
        InvalidQueryError
            The first bad value.
        """
        get = values.get
        arguments = self.within(ids)._arguments
        return {column: field.check(get(field.name)) for column, field in arguments}

    @cached_property
    def _arguments(self) -> tuple[tuple[str, Field], ...]:
        """The columns that `check_row` returns, and what it checks each by."""
        key = Field(self.key, self.key_type, default=partial(_new_id, self.key_type))
        return (("id", key), *((f.name, f) for f in self.fields if f.in_frames))

    def table(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        """Return checked rows, which all have the columns of the first, as one Arrow table."""
        names = rows[0] if rows else self.types
        return pa.table(
            {name: pa.array([row[name] for row in rows], self.types[name].arrow) for name in names}
        )

    def check_attribute(self, name: str, value: Any) -> Any:
        """Check the value of an entity's attribute, and return it as the entity holds it."""
        return _checked_attribute(value, name, self.types[name])


@guarded
def _checked(value: Any, name: str, field: Field) -> Any:
    if not field.type.is_missing(value):
        return field.type.check(value, name)
    if field.required:
        raise invalid_value(name, None, value, "given")
    return field.default_value()


@guarded
def _checked_attribute(value: Any, name: str, value_type: ValueType) -> Any:
    return value_type.to_attribute(value_type.check(value, name))


def _within(value_type: ValueType, ids: IdSpace) -> ValueType:
    return replace(value_type, space=ids) if isinstance(value_type, TokenUuid) else value_type


def _key_column(frame: pd.DataFrame, name: str, value_type: ValueType) -> pa.Array:
    """Return the ids of new rows: those in the frame, and generated ones where it has none."""
    if name not in frame:
        return _new_ids(value_type, len(frame))
    ids = _ids_of_rows(frame[name], name, value_type)
    return pc.coalesce(ids.cast(pa.large_string()), _new_ids(value_type, len(frame)))


def _ids_of_rows(
    values: pd.Series[Any], name: str, value_type: ValueType, *, required: bool = False
) -> pa.Array:
    """Check a column in which each id may appear once."""
    ids = value_type.check_column(values, name, required=required)
    if pc.count_distinct(ids).as_py() < len(ids) - ids.null_count:
        text = ids.to_pandas()
        repeated = int((text.duplicated() & text.notna()).to_numpy().argmax())
        first = int((text == text[repeated]).to_numpy().argmax())
        raise IntegrityError(
            f"{name} {text[repeated]} appears in {row_names(first, repeated)}; nothing was written"
        )
    return ids


def _new_ids(value_type: ValueType, count: int) -> pa.Array:
    if isinstance(value_type, TokenUuid) and value_type.space.as_integers:
        return value_type.space.new_ids(count)
    return new_ids(count)


def _new_id(value_type: ValueType) -> str:
    if isinstance(value_type, TokenUuid) and value_type.space.as_integers:
        token_id: str = value_type.space.new_ids(1)[0].as_py()
        return token_id
    return new_id()


def new_id() -> str:
    """Return one random id, as `new_ids` does."""
    return str(uuid.uuid4())


def new_ids(count: int) -> pa.Array:
    """Return random ids (UUID version 4, RFC 9562 section 5.4), generated at once."""
    raw = np.frombuffer(os.urandom(16 * count), np.uint8).reshape(count, 16).copy()
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    return id_text(raw)


_METADATA: Final = Field("metadata", JsonObject())

TOKENS: Final = FieldTable(
    "tokens.tokens",
    "token_id",
    (
        Field("token_type", Text(), "default"),
        Field("weight", Number(), 1.0),
        Field("flags", Integer(0, 2**31 - 1, "int4"), 0),
        Field("timestamp", Time(), now),
        _METADATA,
        Field("binary_data", Bytes(RECORD_BYTES)),
        Field("coord_x", Coordinates(), required=True, in_frames=False),
        Field("coord_y", Coordinates(), required=True, in_frames=False),
        Field("coord_z", Coordinates(), required=True, in_frames=False),
    ),
    TokenUuid(is_new=True),
)
"""Frames and arguments have points on levels instead of coordinates: see `ngdata._store.tokens`."""

CONNECTIONS: Final = FieldTable(
    "graph.connections",
    "connection_id",
    (
        Field("source_id", TokenUuid(), required=True),
        Field("target_id", TokenUuid(), required=True),
        Field("connection_type", Text(), "generic"),
        Field("weight", Number(), 1.0),
        Field("decay_rate", Number()),
        Field("bidirectional", Boolean(), False),
        _METADATA,
    ),
)

SNAPSHOTS: Final = FieldTable("graph.graph_snapshots", "snapshot_id", (_METADATA,))
"""The fields that an entity checks; the others are computed, and written by `ngdata._store.snapshots`."""

EVENTS: Final = FieldTable(
    "experience.experience_events",
    "event_id",
    (
        Field("event_type", Text(), required=True),
        Field("timestamp", Time(), required=True),
        Field("token_id", TokenUuid()),
        Field("state_before", JsonObject()),
        Field("state_after", JsonObject()),
        Field("action", JsonObject()),
        Field("reward", Number(), 0.0),
        Field("priority", Number()),
        Field("trajectory_id", Uuid()),
        Field("sequence_number", Integer()),
        _METADATA,
    ),
)

TRAJECTORIES: Final = FieldTable(
    "experience.experience_trajectories", "trajectory_id", (_METADATA,)
)
"""The fields of a trajectory that callers write; triggers derive the others from its events."""
