"""The entity-level API of the NeuroGraph OS persistence layer, importable from this one place.

Programs that were written against that layer run on it with their import lines changed;
``docs/compatibility.md`` lists its calls and what differs.  Everything here is async, works on the
tables of `ngdata._store.models`, and shares its queries with the frames of `ngdata.connect_async`.
"""

from ngdata._store.models import (
    Base,
    ConnectionModel,
    EventModel,
    GraphSnapshotModel,
    SpatialIndexModel,
    TokenModel,
    TrajectoryModel,
)
from ngdata.repositories.configuration import ConfigLoader
from ngdata.repositories.database import DatabaseManager
from ngdata.repositories.experience import ExperienceRepository
from ngdata.repositories.factories import DatabaseFactory, RepositoryFactory
from ngdata.repositories.graph import GraphRepository
from ngdata.repositories.redis import RedisManager
from ngdata.repositories.tokens import TokenRepository

ExperienceEventModel = EventModel
ExperienceTrajectoryModel = TrajectoryModel

__all__ = [
    "Base",
    "ConfigLoader",
    "ConnectionModel",
    "DatabaseFactory",
    "DatabaseManager",
    "EventModel",
    "ExperienceEventModel",
    "ExperienceRepository",
    "ExperienceTrajectoryModel",
    "GraphRepository",
    "GraphSnapshotModel",
    "RedisManager",
    "RepositoryFactory",
    "SpatialIndexModel",
    "TokenModel",
    "TokenRepository",
    "TrajectoryModel",
]
