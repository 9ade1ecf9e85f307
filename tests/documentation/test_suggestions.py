"""A misspelt name is answered by the nearest one, also of another namespace."""

import asyncio
import copy
import inspect
import pickle

import pytest

import ngdata

MISTAKES = [
    ("tokens", "find_in_regoin", "; did you mean 'find_in_region'?"),
    ("tokens", "get_neighbors", "; it is ng.graph.get_neighbors"),
    ("tokens", "get_neigbors", "; did you mean ng.graph.get_neighbors?"),
    ("graph", "find_nearest", "; it is ng.tokens.find_nearest"),
    ("graph", "health", "; it is ng.health"),
    ("experience", "get_event", "; did you mean 'get_events'?"),
    ("cache", "clean", "; did you mean 'clear'?"),
    ("", "find_in_region", "; it is ng.tokens.find_in_region"),
    ("", "token", "; did you mean 'tokens'?"),
    ("", "desribe", "; did you mean 'describe'?"),
    ("tokens", "zzzz", ""),
    ("tokens", "_find_in_regoin", ""),
    ("tokens", "x" * 1000, ""),
]


def part(client, name):
    return getattr(client, name) if name else client


def test_names(ng):
    for owner, name, end in MISTAKES:
        with pytest.raises(AttributeError) as e:
            getattr(part(ng, owner), name)
        kind = type(part(ng, owner)).__name__
        assert str(e.value) == f"{kind!r} object has no attribute {name!r}{end}"
        # Otherwise Python's traceback adds a suggestion of its own.
        assert (e.value.name, e.value.obj) == (name, None)
        assert not hasattr(part(ng, owner), name)
    with pytest.raises(AttributeError, match="did you mean"):
        ng.tokens.find_in_regoin()


def test_names_of_the_async_client(database_url):
    async def messages():
        async with await ngdata.connect_async(database_url) as ang:
            for owner, name, end in MISTAKES:
                with pytest.raises(AttributeError) as e:
                    getattr(part(ang, owner), name)
                assert str(e.value).endswith(end.replace("ng.", "ang.", 1))

    asyncio.run(messages())


def test_what_else_looks_up_attributes(ng):
    for owner in (ng, ng.tokens, ng.graph, ng.experience, ng.cache):
        for action in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot be pickled or copied"):
                action(owner)
        assert "find_in_regoin" not in dir(owner)
        assert not hasattr(owner, "_repr_png_")
    assert "token_type" in inspect.signature(ng.tokens.find_in_region).parameters
    with pytest.raises(TypeError, match="unexpected keyword argument 'tokentype'"):
        ng.tokens.find_in_region((0, 0, 0), (1, 1, 1), tokentype="a")
