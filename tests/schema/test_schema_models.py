"""The models on a real server: written values are read back, with those that the server sets."""

import asyncio
import uuid

import asyncpg
import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from ngdata._store.models import (
    ConnectionModel,
    EventModel,
    GraphSnapshotModel,
    SpatialIndexModel,
    TokenModel,
    TrajectoryModel,
)

HALF = [0.5, None, None, None, None, None, None, -2.5]


def in_session(url, body):
    async def go():
        engine = create_async_engine(
            "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url), poolclass=NullPool
        )
        try:
            async with AsyncSession(engine, expire_on_commit=False) as session:
                return await body(session)
        finally:
            await engine.dispose()

    return asyncio.run(go())


def test_a_token_and_its_rows_in_the_index(database_url):
    async def body(session):
        token = TokenModel(coord_x=HALF, coord_y=HALF, coord_z=HALF, metadata_={"a": [1]})
        session.add(token)
        await session.commit()
        assert (token.flags, token.weight, token.token_type) == (0, 1.0, "default")
        assert token.updated_at == token.created_at
        assert token.timestamp.utcoffset() is not None

        token.weight = 2.0
        await session.commit()
        assert token.updated_at > token.created_at

        rows = await session.execute(
            select(
                SpatialIndexModel.level, func.ST_X(SpatialIndexModel.geom), SpatialIndexModel.weight
            )
            .where(SpatialIndexModel.token_id == token.id)
            .order_by(SpatialIndexModel.level)
        )
        assert [tuple(row) for row in rows] == [(0, 0.5, 2.0), (7, -2.5, 2.0)]

        await session.refresh(token)
        assert (token.coord_y, token.metadata_, token.binary_data) == (HALF, {"a": [1]}, None)

    in_session(database_url, body)


def test_the_other_models(database_url):
    async def body(session):
        token = TokenModel(coord_x=HALF, coord_y=HALF, coord_z=HALF)
        session.add(token)
        await session.flush()
        # A trajectory that only its events name, as bulk writes do.
        trajectory = uuid.uuid4()
        snapshot = GraphSnapshotModel(node_count=1, edge_count=1, data=b"\0\xff")
        edge = ConnectionModel(source_id=token.id, target_id=token.id)
        event = EventModel(
            event_type="step", token_id=token.id, trajectory_id=trajectory, reward=1.5
        )
        session.add_all([snapshot, edge, event])
        await session.commit()
        assert (edge.connection_type, edge.weight, edge.bidirectional) == ("generic", 1.0, False)
        assert event.state_before is None
        assert event.sequence_number is None

        stored = await session.get_one(TrajectoryModel, trajectory)
        assert (stored.event_count, stored.total_reward) == (1, 1.5)
        assert stored.start_time == stored.end_time == event.timestamp
        await session.refresh(snapshot)
        assert snapshot.data == b"\0\xff"

        # None is SQL's NULL, not JSON's.
        nothing = await session.scalar(
            select(func.count()).select_from(EventModel).where(EventModel.action.is_(None))
        )
        assert nothing == 1

    in_session(database_url, body)


@pytest.mark.parametrize("model", [TokenModel, ConnectionModel, EventModel, TrajectoryModel])
def test_an_id_is_generated_before_the_flush_or_by_the_server(model):
    assert model.__table__.c.id.default is not None
    assert model.__table__.c.id.server_default is not None
