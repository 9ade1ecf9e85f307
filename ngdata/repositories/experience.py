"""Events as entities: their creation, and the most recent ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ngdata._arguments.id_space import TokenId
from ngdata._arguments.ids import Id
from ngdata._arguments.times import Time
from ngdata._query import events
from ngdata._store.models import EventModel
from ngdata.repositories.base import Repository

__all__ = ["ExperienceRepository"]


class ExperienceRepository(Repository[EventModel]):
    """The events of a store, in one session; created by `RepositoryFactory`.

    Examples
    --------
    >>> import asyncio
    >>> from ngdata.repositories import DatabaseFactory, RepositoryFactory
    >>> async def recorded():
    ...     db_manager = await DatabaseFactory.create_database_manager()
    ...     async with db_manager.session() as session:
    ...         experience = RepositoryFactory.create_experience_repository(session)
    ...         event = await experience.create_event("seen", timestamp=1000, reward=1.0)
    ...     await DatabaseFactory.close_all()
    ...     return event
    >>> asyncio.run(recorded()).timestamp.isoformat()
    '1970-01-01T00:00:01+00:00'
    """

    model: ClassVar[type[EventModel]] = EventModel
    _noun = "event"

    async def create_event(
        self,
        event_type: str,
        timestamp: Time | None = None,
        state_before: Mapping[str, Any] | None = None,
        state_after: Mapping[str, Any] | None = None,
        action: Mapping[str, Any] | None = None,
        reward: float = 0.0,
        *,
        token_id: TokenId | None = None,
        priority: float | None = None,
        trajectory_id: Id | None = None,
        sequence_number: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        id: Id | None = None,  # noqa: A002 - as the model's own
    ) -> EventModel:
        """Record one event.

        Parameters
        ----------
        event_type : str
        timestamp : datetime or int, optional
            With a time zone, or milliseconds since the epoch; by default now.
        state_before, state_after, action, metadata : mapping, optional
        reward : float
        token_id, priority, sequence_number, id : optional
        trajectory_id : id, optional
            Created if it does not exist yet.

        Raises
        ------
        IntegrityError
            The token does not exist, or the event already does.  The session stays usable.
        InvalidQueryError
            A time without a zone, or another invalid value; nothing was sent.
        """
        return await self.create(
            EventModel(
                id=id,
                event_type=event_type,
                timestamp=timestamp,
                token_id=token_id,
                state_before=state_before,
                state_after=state_after,
                action=action,
                reward=reward,
                priority=priority,
                trajectory_id=trajectory_id,
                sequence_number=sequence_number,
                metadata=metadata,
            )
        )

    async def get_recent_events(self, count: int = 10) -> list[EventModel]:
        """Return the last `count` events, oldest first, as `get_recent_events` of a client does."""
        return await self._select_ids(events.recent(count), "event_id")
