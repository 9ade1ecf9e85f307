"""Connections and events as entities: the same rows as in frames, in the same order."""

import datetime as dt
import math
import uuid

import numpy as np
import pandas as pd
import pytest

import ngdata
from ngdata.errors import IntegrityError, InvalidQueryError, NotFoundError
from ngdata.repositories import ConnectionModel, EventModel

NOBODY = uuid.UUID("00000000-0000-4000-8000-000000000000")


async def three(layer, token):
    return await layer.tokens.bulk_create([token(float(n)) for n in range(3)])


def test_create_connection(in_session, token):
    async def go(layer):
        a, b, _ = await three(layer, token)
        edge = await layer.graph.create_connection(
            source_id=a.id,
            target_id=b.id,
            connection_type="spatial",
            weight=0.8,
            metadata={"distance": 1.414},
        )
        stored = await layer.graph.get_by_id(edge.id)
        assert (stored.source_id, stored.target_id) == (a.id, b.id)
        assert (stored.connection_type, stored.weight, stored.bidirectional) == (
            "spatial",
            0.8,
            False,
        )
        assert stored.metadata == {"distance": 1.414}
        assert (await layer.graph.update_weight(edge.id, 0.5)).weight == 0.5
        with pytest.raises(NotFoundError, match="no connection in the store has the id"):
            await layer.graph.update_weight(NOBODY, 0.5)
        assert await layer.graph.delete(edge.id)
        assert await layer.graph.get_all() == []

    in_session(go)


def test_dangling_ends_are_refused(in_session, token):
    async def go(layer):
        a, *_ = await three(layer, token)
        for ends in ((a.id, NOBODY), (NOBODY, a.id)):
            with pytest.raises(IntegrityError, match=str(NOBODY)):
                await layer.graph.create_connection(*ends)
        with pytest.raises(InvalidQueryError, match=r"source_id must be a UUID, .* not 'a'"):
            await layer.graph.create_connection("a", a.id)
        with pytest.raises(IntegrityError, match=str(NOBODY)):
            await layer.graph.bulk_create(
                [
                    ConnectionModel(source_id=a.id, target_id=a.id),
                    ConnectionModel(source_id=a.id, target_id=NOBODY),
                ]
            )
        assert await layer.graph.count() == 0

    in_session(go)


@pytest.mark.parametrize("direction", ["outgoing", "incoming", "both"])
def test_neighbors_and_degrees_are_those_of_the_client(
    with_manager, layer, token, database_url, direction
):
    async def go(manager):
        async with manager.session() as session:
            here = layer(manager, session)
            a, b, c = await three(here, token)
            edges = [(a, b), (a, b), (b, c), (c, a), (a, a)]
            await here.graph.bulk_create(
                [ConnectionModel(source_id=s.id, target_id=t.id) for s, t in edges]
            )
            await here.graph.create_connection(c.id, b.id, "loose", 0.1, bidirectional=True)
        async with await ngdata.connect_async(database_url) as ang, manager.session() as session:
            graph = layer(manager, session).graph
            for one in (a, b, c):
                frame = await ang.graph.get_neighbors(one.id, direction)
                connections = await graph.get_neighbors(one.id, direction=direction)
                assert [str(edge.id) for edge in connections] == frame.connection_id.tolist()
                ends = [str(edge.other_end(one.id)) for edge in connections]
                assert ends == frame.neighbor_id.tolist()
                degrees = await ang.graph.get_degree(one.id)
                assert await graph.get_degree(one.id) == degrees.iloc[0, 1:].to_dict()
            typed = await graph.get_neighbors(b.id, "both", connection_type="loose")
            assert [edge.weight for edge in typed] == [0.1]
            assert await graph.get_neighbors(b.id, "both", min_weight=2.0) == []

    with_manager(go)


def test_a_degree_is_a_mapping_and_zero_for_an_unknown_token(in_session, token):
    async def go(layer):
        a, b, _ = await three(layer, token)
        await layer.graph.create_connection(a.id, b.id)
        degree = await layer.graph.get_degree(a.id)
        assert degree == {"in_degree": 0, "out_degree": 1, "total_degree": 1}
        assert set((await layer.graph.get_degree(NOBODY)).values()) == {0}
        assert await layer.graph.get_neighbors(NOBODY) == []
        with pytest.raises(InvalidQueryError, match="direction must be"):
            await layer.graph.get_neighbors(a.id, "outwards")

    in_session(go)


def test_a_read_sees_what_its_session_has_not_committed(in_session, token, outside):
    async def go(layer):
        a, b, _ = await three(layer, token)
        layer.session.add(ConnectionModel(source_id=a.id, target_id=b.id))
        layer.session.add(EventModel(event_type="seen"))
        assert (await layer.graph.get_degree(b.id))["in_degree"] == 1
        assert len(await layer.graph.get_neighbors(a.id)) == 1
        assert [one.event_type for one in await layer.experience.get_recent_events()] == ["seen"]
        assert outside.one("SELECT count(*) FROM graph.connections") == 0

    in_session(go)


def test_create_event(in_session, token):
    async def go(layer):
        a, *_ = await three(layer, token)
        trajectory = uuid.uuid4()
        event = await layer.experience.create_event(
            event_type="action_taken",
            timestamp=1_700_000_000_123,
            state_before={"value": 0},
            state_after={"value": 1},
            action={"type": "increment"},
            reward=1.5,
            token_id=a.id,
            trajectory_id=trajectory,
            sequence_number=3,
            metadata={"step": 0},
        )
        stored = await layer.experience.get_by_id(event.id)
        assert stored.timestamp == dt.datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=dt.UTC)
        assert (stored.state_before, stored.state_after) == ({"value": 0}, {"value": 1})
        assert (stored.action, stored.reward, stored.metadata) == (
            {"type": "increment"},
            1.5,
            {"step": 0},
        )
        assert (stored.token_id, stored.trajectory_id) == (a.id, trajectory)
        assert (stored.sequence_number, stored.priority) == (3, None)

    in_session(go)


def test_events_without_a_time_have_different_times(in_session):
    """The server's now() is the same throughout a session, so their order would be lost."""

    async def go(layer):
        created = [await layer.experience.create_event(str(n)) for n in range(4)]
        recent = await layer.experience.get_recent_events(4)
        assert [event.event_type for event in recent] == ["0", "1", "2", "3"]
        assert created[0].timestamp < created[3].timestamp

    in_session(go)


def test_recent_events_are_those_of_the_client(with_manager, layer, database_url):
    async def go(manager):
        async with manager.session() as session:
            experience = layer(manager, session).experience
            await experience.bulk_create(
                [
                    EventModel(event_type="e", timestamp=t, sequence_number=n)
                    for t, n in ((1, None), (2, 2), (2, 1), (2, None), (3, None), (3, None))
                ]
            )
            recent = await experience.get_recent_events(count=4)
        async with await ngdata.connect_async(database_url) as ang:
            frame = await ang.experience.get_recent_events(4)
        assert [str(event.id) for event in recent] == frame.event_id.tolist()
        assert len(recent) == 4

    with_manager(go)


def test_events_with_equal_times_keep_their_order(in_session):
    """SQLAlchemy sends 1,000 rows per statement; the ids have no order."""
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

    async def body(layer):
        events = [
            EventModel(id=uuid.uuid4(), event_type=f"{n}", timestamp=moment, priority=n % 2 or None)
            for n in range(1200)
        ]
        await layer.experience.bulk_create(events)
        assert [one.entry_number for one in events] == sorted({one.entry_number for one in events})
        last = await layer.experience.create_event("last", moment)
        recent = await layer.experience.get_recent_events(1201)
        assert recent == [*events, last]
        stored = await layer.experience.get_by_id(events[7].id)
        stored.event_type = "changed"
        await layer.experience.update(stored)
        assert (await layer.experience.get_recent_events(1201))[7].event_type == "changed"

    in_session(body)


@pytest.mark.parametrize("value", [math.nan, np.datetime64(1, "ns"), {2: 1}, {"s"}, pd.NA])
def test_a_dict_that_was_changed_in_place_is_checked_when_it_is_written(in_session, value):
    """It was checked when it was set."""

    async def body(layer):
        event = EventModel(event_type="a", metadata={"b": 1})
        event.metadata["b"] = value
        with pytest.raises(InvalidQueryError, match="JSON"):
            await layer.experience.create(event)
        await layer.experience.create_event("b")
        assert await layer.experience.count() == 1

    in_session(body)


def test_bad_events_are_refused_before_anything_is_sent(in_session):
    async def go(layer):
        with pytest.raises(InvalidQueryError, match="must have a time zone"):
            await layer.experience.create_event("x", dt.datetime(2024, 1, 1))
        with pytest.raises(InvalidQueryError, match="event_type must be text"):
            await layer.experience.create_event(5)
        with pytest.raises(InvalidQueryError, match="count must be an integer from 1"):
            await layer.experience.get_recent_events(0)
        assert not layer.session.in_transaction()
        with pytest.raises(IntegrityError, match=str(NOBODY)):
            await layer.experience.create_event("x", token_id=NOBODY)
        assert await layer.experience.count() == 0

    in_session(go)
