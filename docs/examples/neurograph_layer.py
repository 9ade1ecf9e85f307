"""A program for the NeuroGraph OS persistence layer, on ngdata: only its import line is new.

    cd docs/examples && python neurograph_layer.py

It reads `database.yaml` in its folder, and deletes what it writes.
"""

# ruff: noqa: S105 - the type of a token is not a password

import asyncio
import time
from uuid import uuid4

from sqlalchemy import delete

from ngdata.repositories import ConfigLoader, DatabaseFactory, RepositoryFactory, TokenModel


async def tokens_and_connections() -> None:
    """Create two tokens and a connection, and read what is near them."""
    config = ConfigLoader().load("database.yaml")
    db_manager = await DatabaseFactory.create_database_manager(config["database"])
    redis_manager = DatabaseFactory.create_redis_manager(config["database"])

    pg_health = await db_manager.health_check()
    redis_health = await redis_manager.health_check()
    print(f"PostgreSQL answers: {pg_health}, Redis answers: {redis_health}")
    await db_manager.create_tables()

    async with db_manager.session() as session:
        token_repo = RepositoryFactory.create_token_repository(
            session, redis_manager, config["repositories"]["token"]
        )
        graph_repo = RepositoryFactory.create_graph_repository(
            session, redis_manager, config["repositories"]["graph"]
        )
        first, second = [
            await token_repo.create(
                TokenModel(
                    id=uuid4(),
                    binary_data=b"\x00" * 64,
                    coord_x=[x / 2**level for level in range(8)],
                    coord_y=[0.0] * 8,
                    coord_z=[0.0] * 8,
                    flags=0b1010,
                    timestamp=int(time.time() * 1000),
                    token_type="example",
                    metadata={"x": x},
                )
            )
            for x in (1.0, 2.0)
        ]
        connection = await graph_repo.create_connection(
            source_id=first.id, target_id=second.id, connection_type="spatial", weight=0.8
        )

        again = await token_repo.get_by_id(first.id, use_cache=True)
        print(f"got a token of type {again.token_type} with {again.metadata}")
        for neighbor in await graph_repo.get_neighbors(first.id, direction="outgoing"):
            print(f"neighbor by {neighbor.connection_type}, weight {neighbor.weight}")
        for level in (0, 1):
            region = await token_repo.find_in_region(
                min_coords=(0.9, 0.0, 0.0), max_coords=(1.1, 0.0, 0.0), level=level
            )
            print(f"near x = 1 on level {level}: {[token.metadata for token in region]}")
        degree = await graph_repo.get_degree(first.id)
        print(f"in {degree['in_degree']}, out {degree['out_degree']}, all {degree['total_degree']}")

    # Entities remain usable after the session.
    print(f"connected {connection.source_id == first.id}, seen by the pool:")
    print(db_manager.engine.pool.status())

    key = redis_manager.build_key("token_by_id", token_id=first.id)
    print(f"in Redis under its old key: {redis_manager.get_client().get(key)}")

    async with db_manager.session() as session:
        token_repo = RepositoryFactory.create_token_repository(session)
        for token in (first, second):
            await token_repo.delete(token.id)
    await DatabaseFactory.close_all()


async def many_tokens() -> None:
    """Create a thousand tokens at once."""
    config = ConfigLoader().load("database.yaml")
    db_manager = await DatabaseFactory.create_database_manager(config["database"])
    async with db_manager.session() as session:
        token_repo = RepositoryFactory.create_token_repository(
            session, config=config["repositories"]["token"]
        )
        created = await token_repo.bulk_create(
            [
                TokenModel(
                    coord_x=[float(n)] * 8,
                    coord_y=[0.0] * 8,
                    coord_z=[0.0] * 8,
                    flags=n % 16,
                    token_type="bulk example",
                )
                for n in range(1000)
            ]
        )
        tokens = await token_repo.find_by_type("bulk example")
        print(f"made {len(created)}, found {len(tokens)}")
        # The session is SQLAlchemy's, so it executes its statements too.
        await session.execute(delete(TokenModel).where(TokenModel.token_type == "bulk example"))
    await DatabaseFactory.close_all()


async def events() -> None:
    """Record events, and read the last ones."""
    config = ConfigLoader().load("database.yaml")
    db_manager = await DatabaseFactory.create_database_manager(config["database"])
    async with db_manager.session() as session:
        exp_repo = RepositoryFactory.create_experience_repository(
            session, config=config["repositories"]["experience"]
        )
        events = [
            await exp_repo.create_event(
                event_type="example",
                timestamp=int(time.time() * 1000) + n,
                state_before={"value": n},
                state_after={"value": n + 1},
                action={"type": "increment"},
                reward=float(n),
            )
            for n in range(5)
        ]
        recent = await exp_repo.get_recent_events(count=3)
        print(f"rewards of the last three events: {[event.reward for event in recent]}")
        for event in events:
            await exp_repo.delete(event.id)
    await DatabaseFactory.close_all()


if __name__ == "__main__":
    asyncio.run(tokens_and_connections())
    asyncio.run(many_tokens())
    asyncio.run(events())
