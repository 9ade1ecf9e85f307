"""Tokens as entities: the same rows as in frames, and their changes."""

import asyncio
import uuid

import pytest
from sqlalchemy import event

import ngdata
from ngdata.errors import IntegrityError, InvalidQueryError, NotFoundError
from ngdata.repositories import ConnectionModel, TokenModel

NOBODY = uuid.UUID("00000000-0000-4000-8000-000000000000")


def xs(tokens):
    return sorted(one.coord_x[0] for one in tokens)


def levels(values):
    return {"coord_x": values, "coord_y": values, "coord_z": values}


def test_the_example_of_the_earlier_layer(in_session):
    async def go(layer):
        created = await layer.tokens.create(
            TokenModel(
                id=uuid.uuid4(),
                binary_data=b"\x00" * 64,
                coord_x=[1.0] * 8,
                coord_y=[0.0] * 8,
                coord_z=[0.0] * 8,
                token_type="test",
            )
        )
        stored = await layer.tokens.get_by_id(created.id, use_cache=True)
        assert stored is created
        region = await layer.tokens.find_in_region(
            min_coords=(0.0, 0.0, 0.0), max_coords=(10.0, 10.0, 10.0), level=0
        )
        assert region == [created]

    in_session(go)


@pytest.mark.parametrize("use_cache", [True, False])
def test_get_by_id(in_session, token, use_cache):
    async def go(layer):
        created = await layer.tokens.create(token(1.0))
        assert await layer.tokens.get_by_id(created.id, use_cache=use_cache) is created
        assert await layer.tokens.get_by_id(str(created.id).upper(), use_cache) is created
        assert await layer.tokens.get_by_id(NOBODY, use_cache) is None
        with pytest.raises(InvalidQueryError, match=r"token id must be a UUID, .* not 'x'"):
            await layer.tokens.get_by_id("x", use_cache)

    in_session(go)


def test_a_read_is_never_stale(with_manager, layer, token, outside):
    """Neither through a cache nor through the session's own entities."""

    async def go(manager):
        async with manager.session() as session:
            created = await layer(manager, session).tokens.create(token(weight=1.0))
        async with manager.session() as session:
            tokens = layer(manager, session).tokens
            assert (await tokens.get_by_id(created.id)).weight == 1.0
            outside.rows("UPDATE tokens.tokens SET weight = 2")
            assert (await tokens.get_by_id(created.id)).weight == 2.0
            outside.rows("UPDATE tokens.tokens SET weight = 3")
            assert [one.weight for one in await tokens.find_by_type("default")] == [3.0]
            outside.rows("DELETE FROM tokens.tokens")
            assert await tokens.get_by_id(created.id) is None

    with_manager(go)


def test_a_region_returns_the_rows_of_the_client(with_manager, layer, token, database_url):
    async def go(manager):
        async with manager.session() as session:
            await layer(manager, session).tokens.bulk_create([token(x / 4) for x in range(40)])
        async with await ngdata.connect_async(database_url) as ang:
            frame = await ang.tokens.find_in_region((1.0, 0, 0), (2.0, 0, float("inf")), "motor")
        async with manager.session() as session:
            tokens = layer(manager, session).tokens
            matches = await tokens.find_in_region((1.0, 0, 0), (2.0, 0, float("inf")), "motor")
        assert {str(one.id) for one in matches} == set(frame.token_id)
        assert xs(matches) == [1.0, 1.25, 1.5, 1.75, 2.0]

    with_manager(go)


def test_each_level_returns_its_own_tokens(in_session):
    """A level used as a zero-based index into one-based arrays would return its neighbor."""

    async def go(layer):
        created = await layer.tokens.create(TokenModel(**levels([float(10 * n) for n in range(8)])))
        for _ in range(2):
            for level in range(8):
                box = [(10 * level,) * 3] * 2
                for asked in range(8):
                    matches = await layer.tokens.find_in_region(*box, level=asked)
                    assert matches == ([created] if asked == level else [])

    in_session(go)


def test_an_undefined_level_is_in_no_region(in_session):
    async def go(layer):
        await layer.tokens.create(TokenModel(**levels([0.0, *[None] * 7])))
        everywhere = ((-1e37,) * 3, (1e37,) * 3)
        assert len(await layer.tokens.find_in_region(*everywhere, 0)) == 1
        assert await layer.tokens.find_in_region(*everywhere, 7) == []

    in_session(go)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (((1, 0, 0), (0, 0, 0)), "min_coords must not exceed max_coords"),
        (((0, 0, 0), (1, 1, float("nan"))), "must not contain NaN"),
        (((0, 0), (1, 1)), "must be three numbers"),
        (((0, 0, 0), (1, 1, 1), 8), "level must be an integer from 0 to 7"),
        (((0, 0, 0), (1, 1, 1), "motors"), "did you mean 'motor'"),
    ],
)
def test_a_bad_region_is_refused_before_anything_is_sent(in_session, region, message):
    async def go(layer):
        with pytest.raises(InvalidQueryError, match=message):
            await layer.tokens.find_in_region(*region)
        assert not layer.session.in_transaction()

    in_session(go)


def test_find_by_coordinates(in_session):
    async def go(layer):
        here = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
        created = await layer.tokens.create(TokenModel(**levels(here)))
        other = await layer.tokens.create(TokenModel(**levels([1.0, *[0.0] * 7])))
        find = layer.tokens.find_by_coordinates
        assert await find(here, here, here) == [created]
        near = [c + 0.009 for c in here]
        assert await find(near, near, near) == [created]
        assert await find(near, near, near, tolerance=0.001) == []
        both = sorted((created, other), key=lambda one: one.id)
        assert await find([1.0], [1.0], [1.0]) == both
        # A level of None is ignored.
        assert await find([None, 2.0], [None, 2.0], [None, 2.0]) == [created]
        assert await find([1.0], [1.0], [1.0 + 2**-30], tolerance=0) == []

    in_session(go)


@pytest.mark.parametrize(
    "arguments",
    [
        ([1.0], [1.0], [1.0, 2.0]),
        ([], [], []),
        ([None], [None], [None]),
        (1.0, 1.0, 1.0),
        ([0.0] * 9, [0.0] * 9, [0.0] * 9),
        ([1.0], [None], [1.0]),
        ([1.0], [1.0], [1.0], -1),
    ],
)
def test_find_by_invalid_coordinates(in_session, arguments):
    async def go(layer):
        with pytest.raises(InvalidQueryError):
            await layer.tokens.find_by_coordinates(*arguments)

    in_session(go)


def test_find_by_type(in_session, token):
    async def go(layer):
        odd = "it's :a 100% \\ $1"
        await layer.tokens.bulk_create(
            [token(1.0, token_type="a"), token(2.0, token_type="b"), token(3.0, token_type=odd)]
        )
        assert xs(await layer.tokens.find_by_type("a")) == [1.0]
        assert xs(await layer.tokens.find_by_type(["a", "b"])) == [1.0, 2.0]
        assert xs(await layer.tokens.find_by_type(odd)) == [3.0]
        assert await layer.tokens.find_by_type("c") == []
        with pytest.raises(InvalidQueryError, match="token_type must be text"):
            await layer.tokens.find_by_type(5)

    in_session(go)


def test_find_by_flags(in_session, token):
    async def go(layer):
        await layer.tokens.bulk_create([token(float(n), flags=n) for n in range(8)])
        assert xs(await layer.tokens.find_by_flags(0b010, 0b010)) == [2.0, 3.0, 6.0, 7.0]
        assert xs(await layer.tokens.find_by_flags(0b010, 0b011)) == [2.0, 6.0]
        assert xs(await layer.tokens.find_by_flags(0, 0b110)) == [0.0, 1.0]
        # Only the bits of the mask are compared; without a mask, all are.
        assert xs(await layer.tokens.find_by_flags(0b111, mask=0b100)) == [4.0, 5.0, 6.0, 7.0]
        assert xs(await layer.tokens.find_by_flags(0b011)) == [3.0]
        for bad in ((-1,), (2**31,), (1, -1), (True,), (1.0,)):
            with pytest.raises(InvalidQueryError, match=r"must be an integer from 0 to 2\*\*31"):
                await layer.tokens.find_by_flags(*bad)

    in_session(go)


def test_get_all_is_all_and_can_be_paged(in_session, token):
    async def go(layer):
        created = await layer.tokens.bulk_create([token(float(n)) for n in range(150)])
        ordered = sorted(created, key=lambda one: one.id)
        assert await layer.tokens.get_all() == ordered
        assert await layer.tokens.get_all(limit=100) == ordered[:100]
        assert await layer.tokens.get_all(limit=100, offset=100) == ordered[100:]
        assert await layer.tokens.get_all(offset=149) == ordered[149:]
        assert await layer.tokens.count() == 150
        for bad in ({"limit": -1}, {"limit": True}, {"offset": -1}, {"offset": 1.5}):
            with pytest.raises(InvalidQueryError, match="must be"):
                await layer.tokens.get_all(**bad)

    in_session(go)


def test_update_of_this_session_and_of_an_earlier_one(with_manager, layer, token, outside):
    async def go(manager):
        async with manager.session() as session:
            created = await layer(manager, session).tokens.create(token(metadata={"a": 1}))
        first = created.updated_at
        created.weight = 2.0
        async with manager.session() as session:
            tokens = layer(manager, session).tokens
            held = await tokens.update(created)
            assert (held.weight, held.metadata) == (2.0, {"a": 1})
            assert held.updated_at > first
            # In place, too, which SQLAlchemy does not notice by itself.
            held.metadata["b"] = 2
            held.coord_x[0] = 5.0
            assert await tokens.update(held) is held
            assert xs(await tokens.find_in_region((5, 0, 0), (5, 0, 0))) == [5.0]

    with_manager(go)
    stored = outside.rows("SELECT weight, metadata::text, coord_x[1] FROM tokens.tokens")
    assert stored == [(2.0, '{"a": 1, "b": 2}', 5.0)]


def test_a_refused_update_leaves_the_session_and_the_entity(in_session, token):
    async def go(layer):
        created = await layer.tokens.create(token(metadata={}))
        created.weight = 2.0
        created.coord_x = [None] * 8
        with pytest.raises(InvalidQueryError, match="coords_whole_levels"):
            await layer.tokens.update(created)
        assert (created.weight, created.coord_x) == (1.0, [0.0] * 8)
        created.metadata["a"] = float("nan")
        with pytest.raises(InvalidQueryError, match="metadata cannot be written as JSON"):
            await layer.tokens.update(created)
        created.weight = 3.0
        assert (await layer.tokens.update(created)).weight == 3.0
        assert (await layer.tokens.get_by_id(created.id)).metadata == {}

    in_session(go)


def test_update_creates_nothing(in_session, token):
    async def go(layer):
        with pytest.raises(NotFoundError, match=str(NOBODY)):
            await layer.tokens.update(token(id=NOBODY))
        assert await layer.tokens.count() == 0

    in_session(go)


def test_delete(in_session, token):
    async def go(layer):
        a, b = await layer.tokens.bulk_create([token(1.0), token(2.0)])
        edge = await layer.graph.create_connection(a.id, b.id)
        happened = await layer.experience.create_event("x", token_id=a.id)
        assert await layer.tokens.delete(a.id) is True
        assert await layer.tokens.delete(a.id) is False
        assert await layer.tokens.get_by_id(a.id) is None
        assert await layer.graph.get_by_id(edge.id) is None
        assert (await layer.experience.get_by_id(happened.id)).token_id is None
        with pytest.raises(InvalidQueryError, match="must be a UUID"):
            await layer.tokens.delete("a")

    in_session(go)


def test_bulk_create_is_all_or_none(in_session, token):
    async def go(layer):
        created = await layer.tokens.bulk_create([token(float(n)) for n in range(1000)])
        assert [one.coord_x[0] for one in created] == [float(n) for n in range(1000)]
        assert len({one.id for one in created}) == 1000
        assert all(one.created_at is not None and one.flags == 0 for one in created)
        again = [token(), token(id=created[5].id)]
        with pytest.raises(IntegrityError, match=str(created[5].id)):
            await layer.tokens.bulk_create(again)
        twice = [token(id=NOBODY), token(id=NOBODY)]
        with pytest.raises(IntegrityError, match=str(NOBODY)):
            await layer.tokens.bulk_create(twice)
        halves = [token(), token(coord_x=[None] * 8)]
        with pytest.raises(InvalidQueryError, match="coords_whole_levels"):
            await layer.tokens.bulk_create(halves)
        assert await layer.tokens.bulk_create([]) == []
        assert await layer.tokens.count() == 1000

    in_session(go)


def test_bulk_create_is_a_few_statements(in_session, token):
    async def go(layer):
        sent = []
        event.listen(
            layer.manager.engine.sync_engine,
            "before_cursor_execute",
            lambda *arguments: sent.append(arguments[2]),
        )
        await layer.tokens.bulk_create([token(float(n)) for n in range(1000)])
        assert [one[:20] for one in sent if "INSERT" in one] == ["INSERT INTO tokens.t"]

    in_session(go)


def test_another_repositorys_entity_is_refused(in_session):
    async def go(layer):
        for call in (layer.tokens.create, layer.tokens.update):
            with pytest.raises(InvalidQueryError, match="entity must be of type TokenModel"):
                await call(ConnectionModel())

    in_session(go)


def test_concurrent_calls_on_one_session(in_session, token):
    async def go(layer):
        created = await asyncio.gather(*(layer.tokens.create(token(float(n))) for n in range(10)))
        assert xs(created) == [float(n) for n in range(10)]
        stored = await asyncio.gather(*(layer.tokens.get_by_id(one.id) for one in created))
        assert stored == created
        assert await asyncio.gather(layer.tokens.count(), layer.graph.count()) == [10, 0]

    in_session(go)


def test_many_sessions_at_once(with_manager, layer, token):
    async def go(manager):
        async def one(n):
            async with manager.session() as session:
                return await layer(manager, session).tokens.create(token(float(n)))

        created = await asyncio.gather(*(one(n) for n in range(10)))
        async with manager.session() as session:
            assert await layer(manager, session).tokens.count() == len(created)

    with_manager(go)
