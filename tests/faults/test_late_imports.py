"""What a process loads late: nothing before it is needed, and no error is another one for it.

Each process is new, because what one test has loaded would be loaded for the next.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ngdata.errors import ConfigError, DatabaseUnavailable, IntegrityError, InvalidQueryError

LATE = [
    "adbc_driver_manager.dbapi",
    "alembic",
    "dask",
    "ipywidgets",
    "k3d",
    "networkx",
    "plotly",
    "polars",
    "pyarrow.dataset",
    "redis",
    "scipy",
    "sqlalchemy",
    "tqdm",
]


def run(program: str, **values: object) -> dict:
    """Run a program in a new interpreter, with these names, and return what it prints last."""
    names = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    done = subprocess.run(
        [sys.executable, "-c", names + program], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout.splitlines()[-1])


STEPS = """
import importlib.abc, json, sys
loaded = {}
def note(step, names=LATE):
    loaded[step] = [name for name in names if name in sys.modules]
import ngdata
note("import", [*LATE, "numpy", "pandas", "pyarrow", "pydantic", "asyncpg"])
class InterruptOnce(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "ngdata._client.graph":
            sys.meta_path.remove(self)
            raise KeyboardInterrupt
sys.meta_path.insert(0, InterruptOnce())
try:
    ngdata.connect
except KeyboardInterrupt:
    loaded["interrupted"] = True
assert ngdata.connect.__module__ == ngdata.Client.__module__ == "ngdata"
note("clients")
with ngdata.connect(URL) as ng:
    token = ng.tokens.create({0: (1, 2, 3)})
    ng.tokens.update(token, weight=2.0)
    assert len(ng.tokens.find_in_region((0, 0, 0), (9, 9, 9))) == 1
    assert len(ng.tokens.find_nearest((0, 0, 0))) == 1
    assert ng.tokens.delete(token) == 1
    ng.experience.create_event("seen")
    assert len(ng.experience.get_recent_events()) == 1
    assert ng.health()["ok"]
    note("small calls")
    ng.tokens.bulk_create({"x": [1.0], "y": [2.0], "z": [3.0]}, progress=False)
    note("bulk write")
with ngdata.connect(URL, redis_url=REDIS_URL) as ng:
    assert ng.health()["redis"]["ok"]
note("redis")
import ngdata.repositories
note("repositories")
print(json.dumps(loaded))
"""


def test_a_process_loads_what_it_uses(database_url, server):
    loaded = run(STEPS, URL=database_url, REDIS_URL=server.redis_url, LATE=LATE)
    assert loaded == {
        "import": [],
        "interrupted": True,
        "clients": [],
        "small calls": [],
        "bulk write": ["tqdm"],
        "redis": ["redis", "tqdm"],
        "repositories": ["redis", "sqlalchemy", "tqdm"],
    }


COMMANDS = """
import json, sys
from ngdata.admin.cli import app
loaded = {}
for command in ("--help", "status"):
    code = app([command], standalone_mode=False)
    assert code == {"--help": 0, "status": 3}[command], code
    loaded[command] = [name for name in HEAVY if name in sys.modules]
print(json.dumps(loaded))
"""


def test_commands_load_what_they_use(tmp_path, monkeypatch):
    monkeypatch.setenv("NGDATA_HOME", str(tmp_path / "home"))
    heavy = ["asyncpg", "numpy", "pandas", "pyarrow", "redis", "sqlalchemy"]
    loaded = run(COMMANDS, HEAVY=heavy)
    assert loaded == {"--help": [], "status": ["asyncpg", "numpy", "pyarrow"]}


# Each case runs in a fork, in which the clients are loaded, and nothing late is.
FIRST_CALLS = """
import importlib.abc, json, os, signal, sys, threading, warnings
import ngdata
ngdata.connect
warnings.simplefilter("ignore")  # of a fork beside threads, and of a Redis that does not answer

def connect(**options):
    return ngdata.connect(**({"database_url": URL} | options))

def write(row):
    with connect() as ng:
        token = ng.tokens.create({0: (0, 0, 0)})
        if row == "twice":
            ng.tokens.create({0: (0, 0, 0)}, token_id=token)
        else:
            ng.graph.create_connection(token, "00000000-0000-4000-8000-000000000000")

def migrate():
    from ngdata._store.migrate import upgrade
    upgrade("postgresql://user@127.0.0.1:1/none")

def without_redis():
    sys.modules["redis"] = None
    connect(redis_url=REDIS_URL)

def silent_redis():
    with connect(redis_url="redis://127.0.0.1:1") as ng:
        assert ng.tokens.get([]).empty
        assert not ng.health()["redis"]["ok"]

def from_two_threads():
    shapes = []
    def read():
        with connect(redis_url=REDIS_URL) as ng:
            shapes.append(ng.tokens.get([]).shape)
    threads = [threading.Thread(target=read) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(shapes) == 2

class Pause(importlib.abc.MetaPathFinder):
    # Holds the import of Redis' client, in whichever thread, until it may go on.
    def __init__(self):
        self.reached, self.may_go_on = threading.Event(), threading.Event()
        sys.meta_path.insert(0, self)
    def find_spec(self, name, path=None, target=None):
        if name == "redis":
            self.reached.set()
            self.may_go_on.wait(60)
    def interrupt(self):
        # An interrupt while Redis' client is being imported.
        def send():
            self.reached.wait(60)
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=send).start()
        try:
            connect(redis_url=REDIS_URL)
        except KeyboardInterrupt:
            return
        raise AssertionError("not interrupted")

def interrupted():
    pause = Pause()
    pause.interrupt()
    pause.may_go_on.set()
    with connect(redis_url=REDIS_URL) as ng:
        assert ng.tokens.get([]).empty

def forked():
    pause = Pause()
    threading.Thread(target=lambda: connect(redis_url=REDIS_URL), daemon=True).start()
    pause.reached.wait(60)
    # The fork comes first unless it waits.
    threading.Timer(0.2, pause.may_go_on.set).start()
    child = os.fork()
    if child == 0:
        pause.may_go_on.set()
        with connect(redis_url=REDIS_URL) as ng:
            os._exit(len(ng.tokens.get([])))
    assert os.waitpid(child, 0)[1] == 0

CASES = {
    "a wrong scheme": lambda: connect(database_url="mysql://localhost/x"),
    "no server": lambda: connect(database_url="postgresql://user@127.0.0.1:1/none"),
    "no database": lambda: connect(database_url=URL.replace("/ngdata?", "/none?")),
    "a bad mode": lambda: connect(cache="sometimes"),
    "a wrong scheme of Redis": lambda: connect(redis_url="http://localhost"),
    "no client of Redis": without_redis,
    "an id twice": lambda: write("twice"),
    "a dangling end": lambda: write("dangling"),
    "a migration without a server": migrate,
    "a Redis that does not answer": silent_redis,
    "two threads": from_two_threads,
    "an interrupt": interrupted,
    "a fork": forked,
}

def outcome(case):
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            CASES[case]()
            result = ["no error", "", False]
        except BaseException as error:
            result = [type(error).__name__, str(error), "sqlalchemy" in sys.modules]
        os.write(send, json.dumps(result).encode())
        os._exit(0)
    os.close(send)
    os.waitpid(child, 0)
    with open(receive) as answer:
        return json.loads(answer.read())

outcomes = {case: outcome(case) for case in CASES}
assert not set(LATE) & sys.modules.keys()
print(json.dumps(outcomes), flush=True)
# The interpreter ends although a thread is in the middle of an import.
Pause().interrupt()
"""


@pytest.fixture(scope="module")
def first_calls(server):
    """Return the error of each first call: its type, its text, and whether SQLAlchemy was loaded."""
    return run(FIRST_CALLS, URL=server.database_url, REDIS_URL=server.redis_url, LATE=LATE)


@pytest.mark.parametrize(
    ("case", "error", "text"),
    [
        ("a wrong scheme", ConfigError, "mysql"),
        ("no server", DatabaseUnavailable, "127.0.0.1:1"),
        ("no database", ConfigError, "3D000"),
        ("a bad mode", InvalidQueryError, "sometimes"),
        ("a wrong scheme of Redis", ConfigError, "http"),
        ("no client of Redis", ConfigError, "redis, which cannot be imported"),
        ("an id twice", IntegrityError, "already exists"),
        ("a dangling end", IntegrityError, "names no token"),
    ],
)
def test_a_first_call_that_fails_raises_the_same_error(first_calls, case, error, text):
    kind, message, has_sqlalchemy = first_calls[case]
    assert kind == error.__name__, message
    assert text in message
    assert not has_sqlalchemy


def test_a_first_migration_that_fails_raises_the_same_error(first_calls):
    assert first_calls["a migration without a server"][0] == "DatabaseUnavailable"


@pytest.mark.parametrize(
    "case", ["a Redis that does not answer", "two threads", "an interrupt", "a fork"]
)
def test_first_calls_succeed(first_calls, case):
    assert first_calls[case] == ["no error", "", False]
