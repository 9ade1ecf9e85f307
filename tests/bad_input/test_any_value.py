"""Any value in any argument of any public method: the right answer, or an error of ngdata.

The methods are found by walking the public classes and modules, so a new method is tested without
being named here; it only needs a valid value of each required argument in `BASE` or `OWN`.
"""

import contextlib
import inspect
import uuid
import zlib

import numpy as np
import pandas as pd
import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

import ngdata
import ngdata.binary
from ngdata import binary, files, ids, repositories
from ngdata.admin import examine
from ngdata.binary import loading
from ngdata.datasets import load_celegans, load_celegans_async
from ngdata.errors import NGDataError
from tests.bad_input.any_values import CANARY, FEW, VALUES, awaited, called, leak, run
from tests.conftest import SCALE, empty

NAMESPACES = {
    "client": ngdata.Client,
    "tokens": ngdata._client.sync.tokens.Tokens,
    "graph": ngdata._client.sync.graph.Graph,
    "experience": ngdata._client.sync.experience.Experience,
    "cache": ngdata._client.sync.cache.Cache,
}
REPOSITORIES = {
    "tokens": repositories.TokenRepository,
    "graph": repositories.GraphRepository,
    "experience": repositories.ExperienceRepository,
}
# The suite takes a sample of the values for each argument; with 10, all of them.
UNKNOWN = str(uuid.UUID(int=1))
NOT_CALLED = {"client.close"}

# A valid value of each argument that some method requires.
BASE = {
    "min_coords": (0, 0, 0),
    "max_coords": (1, 1, 1),
    "point": (0, 0, 0),
    "points": [(0, 0, 0)],
    "radius": 1.0,
    "ids": lambda store: store.ids[:2],
    "coords": {0: (1, 2, 3)},
    "path": lambda store: str(store.directory / "file"),
    "source": lambda store: store.ids[0],
    "target": lambda store: store.ids[1],
    "source_id": lambda store: store.ids[0],
    "target_id": lambda store: store.ids[1],
    "token_id": lambda store: store.ids[0],
    "trajectory_id": lambda store: store.trajectory,
    "event_or_time": 0,
    "freq": "1s",
    "every": "1s",
    "by": "token_type",
    "n": 3,
    "event_type": "seen",
    "token_type": "default",
    "flags": 1,
    "weight": 1.0,
    "tolerance": 0.5,
    "x": [0.0],
    "y": [0.0],
    "z": [0.0],
    "read": lambda store: store.client.tokens.find_nearest,
    "args": lambda store: ((0, 0, 0),),
}

# Where a method needs another one, or further ones.
OWN = {
    "tokens.get": {"columns": ["token_id"]},
    "tokens.find_in_region": {"max_coords": (1, 1, 1)},
    "tokens.iter_region": {"max_coords": (1, 1, 1)},
    "tokens.count_in_region": {"max_coords": (1, 1, 1)},
    "tokens.density": {"max_coords": (1, 1, 1)},
    "tokens.to_dask": {"max_coords": (1, 1, 1), "npartitions": 1},
    "experience.activity_in_region": {"max_coords": (1, 1, 1)},
    "experience.to_dask": {"npartitions": 1},
    "experience.resample_rewards": {"start": 0, "end": 1000},
    "tokens.join": {"frame": lambda store: {"token_id": store.ids}},
    "tokens.update": {"weight": 2.0},
    "tokens.delete": {"ids": UNKNOWN},
    "client.sql": {"statement": "SELECT $1::text AS a", "params": ["b"]},
    "client.as_of": {"pin": lambda store: store.client.pin().id},
    "client.diff": {"before": lambda store: store.client.pin().id},
    "client.unpin": {"label": lambda store: store.client.pin().id},
    "client.set_level": {"level": "abstract", "unit": "mm"},
    "tokens.bulk_create": {"frame": {"x": [1.0], "y": [1.0], "z": [1.0]}},
    "tokens.bulk_load": {"frames": lambda _: [{"x": [1.0], "y": [1.0], "z": [1.0]}]},
    "experience.to_parquet": {"path": "events", "partitions": 1, "overwrite": True},
    "tokens.bulk_update": {"frame": lambda s: {"token_id": s.ids[:1], "weight": [1.0]}},
    "graph.update": {"connection_id": lambda store: store.connection, "weight": 2.0},
    "graph.bulk_update": {
        "frame": lambda s: {"connection_id": [s.connection], "metadata": [{"a": 1}]}
    },
    "graph.subgraph": {"ids": lambda store: store.ids[:2]},
    "graph.delete": {"ids": UNKNOWN},
    "experience.update_event": {"event_id": lambda store: store.event, "reward": 1.0},
    "experience.delete_events": {"ids": UNKNOWN},
    "experience.delete_trajectories": {"ids": UNKNOWN},
    "graph.delete_snapshots": {"ids": UNKNOWN},
    "graph.bulk_create": {"frame": lambda s: {"source_id": s.ids[:1], "target_id": s.ids[1:2]}},
    "experience.bulk_create": {"frame": {"event_type": ["a"], "timestamp": [0]}},
    "experience.get_trajectory": {"id": lambda store: store.trajectory},
    "experience.end_trajectory": {"id": lambda store: store.client.experience.start_trajectory()},
    "graph.load_snapshot": {"id": lambda store: store.snapshot},
    "graph.diff_snapshots": {"a": lambda s: s.snapshot, "b": lambda s: s.snapshot},
}
# Further ones for the values of one argument.
WITH = {("tokens.bulk_create", "coords"): {"frame": {"token_type": ["a"]}}}
WRITES = ("create", "bulk", "update", "delete", "set", "start", "end")


def methods(classes):
    """Return the public methods of classes, as ``tokens.find_nearest``."""
    return [
        f"{place}.{name}"
        for place, type_ in classes.items()
        for name, _ in inspect.getmembers(type_, inspect.isfunction)
        if not name.startswith("_") and f"{place}.{name}" not in NOT_CALLED
    ]


def base_arguments(store, name, method, own=None):
    """Return valid arguments: the required ones, and those of `OWN`."""
    own, signature = OWN.get(name, {}) if own is None else own, inspect.signature(method)
    required = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    missing = [argument for argument in required if argument not in BASE | own]
    assert not missing, f"{name} needs a valid value of {missing} in BASE or OWN in {__file__}"
    own = {name: value for name, value in own.items() if name in signature.parameters}
    values = {argument: BASE[argument] for argument in required if argument not in own} | own
    return {
        argument: value(store) if inspect.isfunction(value) else value
        for argument, value in values.items()
    }


def sample(*place):
    """Return the names of the values for one place: all of them, or some that differ by place."""
    if SCALE >= 10:
        return list(VALUES)
    others = [name for name in VALUES if name not in FEW]
    first = zlib.crc32(" ".join(place).encode()) % len(others)
    return [*FEW, *(others * 2)[first : first + 6 * SCALE]]


def hostile_calls(method, base, names=None):
    """Yield, for each argument and each value, both names and the arguments of the call."""
    for parameter in inspect.signature(method).parameters.values():
        for value in names or sample(method.__qualname__, parameter.name):
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                yield "k", value, base | {"k": VALUES[value]()}
            elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                yield parameter.name, value, base | {parameter.name: (VALUES[value](),)}
            else:
                yield parameter.name, value, base | {parameter.name: VALUES[value]()}


class Store:
    """A client of a small store, and the ids in it."""

    def __init__(self, client, url, directory):
        self.client, self.directory = client, directory
        points = {"x": [0.0, 1.0, 2.0], "y": [0.0, 1.0, 2.0], "z": [0.0, 1.0, 2.0]}
        self.ids = client.tokens.bulk_create(points).tolist()
        self.connection = client.graph.create_connection(*self.ids[:2])
        self.trajectory = client.experience.start_trajectory()
        self.event = client.experience.create_event("seen", 0, trajectory_id=self.trajectory)
        self.snapshot = client.graph.create_snapshot()
        self._connection = psycopg.connect(url, autocommit=True)

    def version(self):
        """Return what each write changes."""
        text = "string_agg(nonce::text, ',' ORDER BY nonce)"
        return self._connection.execute(f"SELECT {text} FROM tokens.versions").fetchone()[0]

    def check(self):
        """Check that the client still works, and that nothing is in use."""
        box = (-1, -1, -1), (3, 3, 3)
        assert set(self.client.tokens.find_in_region(*box).token_id) >= set(self.ids)
        assert {pool["in_use"] for pool in self.client.pool_status().values()} == {0}

    def close(self):
        self._connection.close()


@pytest.fixture(scope="module")
def store(server, tmp_path_factory):
    empty(server.database_url)
    with (
        ngdata.connect(server.database_url, connect_timeout=5) as client,
        contextlib.closing(
            Store(client, server.database_url, tmp_path_factory.mktemp("any value"))
        ) as small,
    ):
        yield small
    empty(server.database_url)


@pytest.fixture(autouse=True)
def _directory(tmp_path, monkeypatch):
    # Any text is a path.
    monkeypatch.chdir(tmp_path)


def report(leaks):
    assert not leaks, f"{len(leaks)} leaks:\n" + "\n".join(leaks)


@pytest.mark.parametrize("name", methods(NAMESPACES))
def test_methods_of_the_client(store, name):
    place, _, method_name = name.partition(".")
    owner = store.client if place == "client" else getattr(store.client, place)
    method = getattr(owner, method_name)
    called(method, base_arguments(store, name, method))
    base = base_arguments(store, name, method)
    leaks, version = [], store.version()
    for argument, value, arguments in hostile_calls(method, base):
        arguments |= WITH.get((name, argument), {})
        refused = []

        def call(arguments=arguments, refused=refused):
            refused.append(True)
            called(method, arguments)
            refused.clear()

        if problem := leak(argument, call):
            leaks.append(f"{name}({argument}={value}): {problem}")
        if method_name.startswith(WRITES):
            now = store.version()
            if refused and now != version:
                leaks.append(f"{name}({argument}={value}): refused, but something was written")
            version = now
    report(leaks)
    store.check()


@pytest.mark.parametrize("name", methods(NAMESPACES))
def test_methods_of_the_async_client(store, name):
    """The sync methods call these, so a few values are enough."""
    place, _, method_name = name.partition(".")

    async def walk():
        leaks = []
        url = store.client._wrapped._settings.database_url.get_secret_value()
        async with await ngdata.connect_async(url) as client:
            owner = client if place == "client" else getattr(client, place)
            method = getattr(owner, method_name)
            base = base_arguments(store, name, method)
            for argument, value, arguments in hostile_calls(method, base, FEW[-2:]):
                if argument in ("args", "k"):
                    continue
                try:
                    await awaited(method, arguments | WITH.get((name, argument), {}))
                except NGDataError:
                    pass
                except Exception as error:
                    leaks.append(f"{name}({argument}={value}): {error!r:.300}")
            assert await client.tokens.count_in_region((0, 0, 0), (2, 2, 2)) >= 3
        return leaks

    report(run(walk()))


@pytest.mark.parametrize("argument", inspect.signature(ngdata.connect).parameters)
def test_settings(server, argument):
    leaks = []
    for value in sample("connect", argument):
        settings = {"database_url": server.database_url} | {argument: VALUES[value]()}

        def call(settings=settings):
            ngdata.connect(**settings).close()

        if problem := leak(argument, call):
            leaks.append(f"connect({argument}={value}): {problem}")
    report(leaks)


BAD_URLS = {
    "database_url": [
        f"postgresql://me:{CANARY}\ud800@127.0.0.1:1/d",
        f"postgresql://me:{CANARY}%ff@127.0.0.1:1/d",
        f"postgresql://me:{CANARY}\0@127.0.0.1:1/d",
        f"postgresql://me:{CANARY}@127.0.0.1:1/d",
        f"postgresql://me:{CANARY}@127.0.0.1:99999/d",
        f"postgresql://me@127.0.0.1:1/d?password={CANARY}\udcff",
        f"postgresql://me:{CANARY}@[::1/d",
        f"postgresql://me:{CANARY}@127.0.0.1:1/{'d' * 5000}",
        f"mysql://me:{CANARY}@127.0.0.1:1/d",
    ],
    "redis_url": [
        f"redis://:{CANARY}\ud800@127.0.0.1:1/0",
        f"redis://:{CANARY}@127.0.0.1:1/zero",
        f"redis://:{CANARY}@127.0.0.1:1/0?socket_timeout=soon",
        f"redis://:{CANARY}@127.0.0.1:1/0?no_such_option=1",
        f"redis://:{CANARY}@127.0.0.1:1/0?protocol=four",
        f"redis://127.0.0.1:1/0?password={CANARY}&db=x",
        f"rediss://:{CANARY}@127.0.0.1:1/0?ssl_cert_reqs=sometimes",
        f"http://:{CANARY}@127.0.0.1:1/0",
    ],
}


@pytest.mark.parametrize(
    ("argument", "url"), [(argument, url) for argument in BAD_URLS for url in BAD_URLS[argument]]
)
def test_no_password_is_shown(server, argument, url):
    settings = {"database_url": server.database_url, argument: url}
    with pytest.raises(NGDataError):
        ngdata.connect(**settings)
    assert leak("", lambda: ngdata.connect(**settings)) is None


FUNCTIONS = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (binary, files, ids, loading)
    for name in module.__all__
    if inspect.isfunction(getattr(module, name))
} | {"examine": examine, "load_celegans": load_celegans, "load_celegans_async": load_celegans_async}

RECORDS = {
    "tokens": binary.encode_tokens({"local_id": [7]}, np.zeros((1, 8, 3))),
    "connections": np.zeros(1, binary.CONNECTION),
    "events": np.zeros(1, binary.EVENT),
}
FRAMES = {kind: getattr(binary, f"decode_{kind}")(records) for kind, records in RECORDS.items()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(store, name, tmp_path):
    function = FUNCTIONS[name]
    rows = tmp_path / "rows.csv"
    rows.write_text("x,y,z\n")
    kind = next((kind for kind in FRAMES if kind[:-1] in name), None)
    own = {
        "data": bytes(64) if kind is None else RECORDS[kind].tobytes(),
        "frame": pd.DataFrame({"x": [1.0]}) if kind is None else FRAMES[kind],
        "layout": binary.TOKEN,
        "numbers": [1],
        "values": [1],
        "ids": binary.token_ids([1]),
        "flags": 1,
        "path": str(rows) if name.startswith("ngdata.files.load") else "no such file",
        "ng": store.client,
        "ang": store.client._wrapped,
    }
    base = base_arguments(store, name, function, own)
    leaks, version = [], store.version()
    for argument, value, arguments in hostile_calls(function, base):
        if argument == "settings" and arguments[argument] is None:
            continue
        if argument == "on_check" and callable(arguments[argument]):
            continue  # what it raises is the caller's own

        def call(arguments=arguments):
            if inspect.iscoroutinefunction(function):
                run(awaited(function, arguments))
            else:
                called(function, arguments)

        if problem := leak(argument, call):
            leaks.append(f"{name}({argument}={value}): {problem}")
    report(leaks)
    assert store.version() == version


@pytest.mark.parametrize("name", methods(REPOSITORIES))
def test_methods_of_the_repositories(store, name):
    place, _, method_name = name.partition(".")
    own = {"id": UNKNOWN, "entity": None, "entities": []}

    async def walk():
        leaks = []
        manager = await repositories.DatabaseFactory.create_database_manager()
        async with manager.session() as session:
            repository = REPOSITORIES[place](session)
            method = getattr(repository, method_name)
            base = base_arguments(store, name, method, own)
            for argument, value, arguments in hostile_calls(method, base):
                try:
                    await awaited(method, arguments)
                except NGDataError as error:
                    problem = leak(argument, lambda error=error: (_ for _ in ()).throw(error))
                except Exception as error:
                    problem = f"{error!r:.300}"
                else:
                    problem = None
                if problem:
                    leaks.append(f"{name}({argument}={value}): {problem}")
            # The session stays usable.
            assert await repositories.TokenRepository(session).count() >= 3
        await repositories.DatabaseFactory.close_all()
        return leaks

    report(run(walk()))


@pytest.mark.parametrize("name", REPOSITORIES)
def test_attributes_of_entities(name):
    model = REPOSITORIES[name].model
    leaks = []
    for attribute in sorted({field.name for field in model.__fields__.fields} | {"id"}):
        for value in sample(name, attribute):

            def call(attribute=attribute, value=value):
                setattr(model(), attribute, VALUES[value]())

            if problem := leak(attribute, call):
                leaks.append(f"{model.__name__}.{attribute} = {value}: {problem}")
    report(leaks)


MANAGERS = {
    "create_database_manager": repositories.DatabaseFactory.create_database_manager,
    "create_redis_manager": repositories.DatabaseFactory.create_redis_manager,
    **{
        f"{name} {argument}": lambda value, name=name, argument=argument: getattr(
            repositories.RepositoryFactory, name
        )(**{"session": AsyncSession(info={})} | {argument: value})
        for name in dir(repositories.RepositoryFactory)
        if name.startswith("create_")
        for argument in ("session", "redis", "config")
    },
    "path": lambda value: repositories.ConfigLoader().load(value),
    "base_path": lambda value: repositories.ConfigLoader(value).load("no such file"),
    "pattern": lambda value: _redis().build_key(value),
    "token_id": lambda value: _redis().build_key("token_by_id", token_id=value),
    "category": lambda value: _redis().get_ttl(value),
}


def _redis():
    return repositories.DatabaseFactory.create_redis_manager()


@pytest.mark.parametrize("name", MANAGERS)
def test_managers(server, name):
    async def walk():
        leaks = []
        for value in sample(name):
            problem = None
            try:
                result = MANAGERS[name](VALUES[value]())
                if inspect.isawaitable(result):
                    await result
            except NGDataError as error:
                problem = leak("", lambda error=error: (_ for _ in ()).throw(error))
            except Exception as error:
                problem = f"{error!r:.300}"
            if problem:
                leaks.append(f"{name}({value}): {problem}")
        await repositories.DatabaseFactory.close_all()
        return leaks

    report(run(walk()))
