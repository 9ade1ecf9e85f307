"""What the entities have in common: each value is checked when it is set, before anything is sent.

The tables themselves are in `ngdata._store.models`, the checks in `ngdata._store.fields`.  What only
the database can check, such as whether an id names a token, is left to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from sqlalchemy.orm import validates

from ngdata._store.fields import CONNECTIONS, EVENTS, SNAPSHOTS, TOKENS, TRAJECTORIES, FieldTable

__all__ = ["Entity"]

# `metadata` is SQLAlchemy's own name on a model.
_ATTRIBUTES: Final = {"id": "id"} | {
    "metadata_" if field.name == "metadata" else field.name: field.name
    for table in (TOKENS, CONNECTIONS, SNAPSHOTS, EVENTS, TRAJECTORIES)
    for field in table.fields
}


class _Metadata:
    """`metadata`: the row's own on an entity, and SQLAlchemy's on the class, which needs it."""

    def __get__(self, entity: Any, owner: Any) -> Any:
        return owner.registry.metadata if entity is None else entity.metadata_

    def __set__(self, entity: Any, value: Mapping[str, Any] | None) -> None:
        entity.metadata_ = value


class Entity:
    """A row as an object, whose attributes accept what ngdata accepts elsewhere.

    Ids are text or `uuid.UUID`; times have a zone, or are integer milliseconds since the epoch;
    None means "not given".
    """

    __fields__: ClassVar[FieldTable]

    metadata: Any = _Metadata()

    @validates(*_ATTRIBUTES)
    def _check(self, name: str, value: Any) -> Any:
        if value is None:
            return None
        return self.__fields__.check_attribute(_ATTRIBUTES[name], value)

    def __repr__(self) -> str:
        # Loading an attribute would need the database.
        return f"<{type(self).__name__} {self.__dict__.get('id', 'without id')}>"
