"""The entity-level API of the NeuroGraph OS persistence layer.

Programs written against that layer run on this one after changing their imports;
``docs/compatibility.md`` lists the calls and the differences.  The repositories are async, use the
tables of `ngdata._store.models`, and share their queries with the frames of `ngdata.connect_async`.
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
